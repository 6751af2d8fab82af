"""
What settings, and values like them, have in common: how they are checked, and by what they are shown and compared.

Checks are attrs validators whose errors name the class, the field and the value.  Zero is a setting like any other, NaN and booleans are
none, and None alone stands for "not set".

attrs makes the fields, checks them and writes an ``__init__``.  Left to itself it writes ``__repr__``, ``__eq__`` and ``__hash__`` as well,
and compiles them anew for each class whenever a program starts: of the 0.40 ms that a class with four fields then takes (CPython 3.11),
these three take 0.22.  Everyone who imports `resilience` loads some twenty such classes, so the three stand here, once.

A record that no user makes or sees needs no settings checked and no converters.  As a plain class with slots it takes 0.01 ms.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs

__all__ = [
    "Record",
    "Shown",
    "Value",
    "count",
    "fail",
    "flag",
    "positive",
    "positive_or_forever",
    "ratio",
    "seconds",
    "seconds_or_forever",
]


class Shown:
    """Base of ``@attrs.frozen(eq=False, repr=False)``, shown as attrs would: by its fields, but for those with ``repr=False``."""

    __slots__ = ("__weakref__",)  # which attrs would otherwise give to each
    __attrs_attrs__: ClassVar[tuple[Any, ...]]  # of `attrs.Attribute`, which cannot be subscripted where hints are resolved

    def __repr__(self) -> str:
        said = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in self.__attrs_attrs__ if field.repr)
        return f"{type(self).__name__}({said})"


class Value(Shown):
    """The same, compared and hashed by its fields too, but for those with ``eq=False``; equal only to what is of the same class."""

    __slots__ = ()

    def _compared(self) -> tuple[object, ...]:
        return tuple(getattr(self, field.name) for field in self.__attrs_attrs__ if field.eq)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Value) or type(other) is not type(self):
            return NotImplemented
        return self._compared() == other._compared()

    def __hash__(self) -> int:
        return hash((type(self), self._compared()))


class Record:  # noqa: PLW1641 - it can be changed, so it has no hash
    """Base of plain classes with slots, shown and compared by these.  It hides nothing: what holds a secret is none."""

    __slots__: tuple[str, ...] = ()

    def _said(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._said().items())})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record) or type(other) is not type(self):
            return NotImplemented
        return self._said() == other._said()


def fail(instance: object, attribute: attrs.Attribute[Any], value: object, expected: str) -> ValueError:
    """The error for a wrong setting: ``Retry.attempts: expected an int >= 1, got 0``."""
    where = getattr(instance, "said_as", type(instance).__name__)
    return ValueError(f"{where}.{attribute.name}: expected {expected}, got {value!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def seconds(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """A finite number >= 0."""
    if not _is_number(value) or not 0 <= value < math.inf:  # type: ignore[operator]  # a number, by the test before
        raise fail(instance, attribute, value, "a finite number >= 0")


def seconds_or_forever(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """A number >= 0, infinity included."""
    if not _is_number(value) or value < 0:  # type: ignore[operator]  # a number, by the test before
        raise fail(instance, attribute, value, "a number >= 0")


def positive(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """A finite number > 0."""
    if not _is_number(value) or not 0 < value < math.inf:  # type: ignore[operator]  # a number, by the test before
        raise fail(instance, attribute, value, "a finite number > 0")


def positive_or_forever(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """A number > 0, infinity included."""
    if not _is_number(value) or value <= 0:  # type: ignore[operator]  # a number, by the test before
        raise fail(instance, attribute, value, "a number > 0")


def ratio(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """A number in (0, 1]."""
    if not _is_number(value) or not 0 < value <= 1:  # type: ignore[operator]  # a number, by the test before
        raise fail(instance, attribute, value, "a ratio in (0, 1]")


def count(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """An int >= 1."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise fail(instance, attribute, value, "an int >= 1")


def flag(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise fail(instance, attribute, value, "True or False")
