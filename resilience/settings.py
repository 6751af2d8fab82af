"""
Checks for settings: attrs validators whose errors name the class, the field and the value.

Zero is a setting like any other, NaN and booleans are none, and None alone stands for "not set".
"""

from __future__ import annotations

import math
from typing import Any

import attrs

__all__ = ["count", "fail", "flag", "positive", "positive_or_forever", "ratio", "seconds", "seconds_or_forever"]


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
