"""
Looking at foreign objects without trusting them.

A stand-in has every attribute, a lazy one does I/O when touched, a proxy lies about its class.  So types are asked by ``type(x)``, never by
``isinstance``, and whatever raises while it is looked at is absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard, cast

__all__ = [
    "attribute",
    "is_bytes",
    "is_error",
    "is_group",
    "is_list",
    "is_mapping",
    "is_text",
    "item",
    "lacks",
    "names",
    "plain_int",
    "status_of",
    "word",
]

_NO_MAPPINGS = frozenset({type(None), str, bytes, int, list, tuple})  # asked first, since asking an abstract class takes time
_LONGEST = 128  # characters of a code; peers' codes are names, and names are short


def attribute(holder: object, name: str) -> Any:
    """The attribute *name*; None where there is none, or where reading it raises."""
    try:
        return getattr(holder, name, None)
    except Exception:  # noqa: BLE001 - a property may raise anything, and means "absent" by it
        return None


def is_mapping(value: object) -> TypeGuard[Mapping[Any, Any]]:
    """Whether *value* really is a mapping, and does not only say so."""
    kind = type(value)
    if kind is dict:
        return True
    try:
        return kind not in _NO_MAPPINGS and issubclass(kind, Mapping)
    except TypeError:  # a class without a hash, which abstract classes cannot look up
        return False


def is_list(value: object) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    """Whether *value* really is a list or a tuple."""
    return issubclass(type(value), list | tuple)


def is_error(value: object) -> TypeGuard[BaseException]:
    """Whether *value* really is an exception."""
    return issubclass(type(value), BaseException)


def is_group(value: object) -> TypeGuard[BaseExceptionGroup[BaseException]]:
    """Whether *value* really is an exception group."""
    return issubclass(type(value), BaseExceptionGroup)


def is_text(value: object) -> TypeGuard[str]:
    """Whether *value* really is a str."""
    return issubclass(type(value), str)


def is_bytes(value: object) -> TypeGuard[bytes | bytearray | memoryview]:
    """Whether *value* really is bytes, a bytearray or a memoryview."""
    return issubclass(type(value), bytes | bytearray | memoryview)


def item(mapping: Any, key: str) -> Any:
    """The item under *key* of a mapping; None where there is none, or where reading it raises."""
    try:
        return mapping.get(key)
    except Exception:  # noqa: BLE001 - some mappings load, check or convert on the way
        return None


def lacks(fields: object, keys: frozenset[str]) -> bool:
    """Whether *fields* is a plain dict that has none of the *keys*, as can be found out in one step."""
    try:
        return type(fields) is dict and keys.isdisjoint(cast("dict[object, object]", fields))
    except Exception:  # noqa: BLE001 - its keys may be anything
        return False


def names(kind: type) -> list[str]:
    """*kind* and its bases as ``"package.ClassName"``, nearest first: how a class is known without being imported."""
    try:
        return [f"{base.__module__.partition('.')[0]}.{base.__qualname__}" for base in kind.__mro__]
    except Exception:  # noqa: BLE001 - a class body may bind __module__, and a metaclass answers as it likes
        return []


def plain_int(value: object) -> int | None:
    """*value* if it is an int, an `enum.IntEnum` included and a bool excluded."""
    return int(value) if _is_int(value) else None


def _is_int(value: object) -> TypeGuard[int]:
    kind = type(value)
    return issubclass(kind, int) and kind is not bool


def status_of(value: object) -> int | None:
    """*value* if it is an int that can be a status: 100 to 599."""
    status = plain_int(value)
    return status if status is not None and 100 <= status <= 599 else None  # noqa: PLR2004 - the range of HTTP statuses


def word(value: object) -> str | None:
    """*value*, less the space around it, if it can serve as a code or kind: 1 to 128 characters of printable ASCII."""
    if not is_text(value) or len(value) > 2 * _LONGEST:
        return None
    text = str.strip(value)  # a plain str, whatever subclass *value* is of
    return text if 0 < len(text) <= _LONGEST and text.isascii() and text.isprintable() else None
