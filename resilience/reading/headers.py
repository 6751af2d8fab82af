"""
Fields out of whatever a client calls headers.

Seven clients, seven kinds of headers: mappings that ignore case and plain dicts that do not, multi-dicts that keep repeats and others that
join them, the standard library's message that is no mapping, lists of pairs of bytes.  All of them can be walked as pairs, so that is what
happens, once for all fields that are wanted: a tenth of a microsecond or two for each header, on failures only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice
from typing import Any

from resilience.reading.peek import is_bytes, is_list, is_mapping, is_text, names

__all__ = ["header", "header_fields", "header_values", "is_headers", "picked"]

_MOST = 256  # fields that are looked at; servers allow about a hundred
_ALL = 1 << 20  # more values than are ever there
_LISTS = frozenset({list, tuple})  # asked before their subclasses, since asking takes time


def is_headers(value: object) -> bool:
    """Whether *value* is something that headers come as: a mapping, an `http.client.HTTPMessage`, or a list or tuple of pairs."""
    if is_list(value):
        return all(is_list(pair) and len(pair) == 2 for pair in islice(value, _MOST))  # noqa: PLR2004
    return _has_items(value)


def header_fields(headers: object, wanted: Collection[str], *, most: int) -> dict[str, list[str]]:
    """
    The *wanted* fields, whatever their case, each with its values in the order sent.

    Args:
        headers: A client's headers, or anything else: what are no headers have no fields.
        wanted: Names in lower case; a set is quickest.
        most: Values that are taken, all fields together, where a comma and a space begin another; a field that holds more than are left
            is passed over.

    Returns:
        By name in lower case, those that are there.  Bytes are read as Latin-1, numbers (a test's ``{"Retry-After": 5}``) as written.
    """
    found: dict[str, list[str]] = {}
    for pair in _walked(headers, wanted):
        if pair is None:
            return {}
        name, text = pair
        size = text.count(", ") + 1
        if size <= most:
            found.setdefault(name, []).append(text)
            most -= size
            if not most:
                break
    return found


def picked(headers: object, wanted: Collection[str]) -> list[tuple[str, str] | None]:
    """
    The *wanted* fields as a list of pairs, of which `header_fields` makes the same as of all *headers*.

    Some headers make their pairs anew each time that they are walked, in several microseconds.  Whoever looks for different things picks
    them all first.

    Args:
        headers: As for `header_fields`.
        wanted: Names in lower case; a set is quickest.
    """
    return list(_walked(headers, wanted))


def _walked(headers: object, wanted: Collection[str]) -> Iterator[tuple[str, str] | None]:
    """The *wanted* fields as names in lower case and values; None, and no more, where a list has something else among its pairs."""
    try:
        holder: Any = headers
        listed = is_list(headers)
        if not listed and not _has_items(headers):
            return
        for pair in islice(holder if listed else holder.items(), _MOST):
            if listed and not ((type(pair) in _LISTS or is_list(pair)) and len(pair) == 2):  # noqa: PLR2004
                yield None
                return
            key, value = pair
            name = key.lower() if type(key) is str else (_text(key) or "").lower()
            if name in wanted:
                text = value if type(value) is str else _text(value)
                if text is not None:
                    yield name, text
    except Exception:  # noqa: BLE001 - a mapping of somebody else's may raise anything; what came before stands
        return


def header_values(headers: object, name: str) -> list[str]:
    """Every value of the field *name*, as `header_fields` reads them."""
    return header_fields(headers, (name.lower(),), most=_ALL).get(name.lower(), [])


def header(headers: object, name: str) -> str | None:
    """The first value of the field *name*; None where there is none."""
    return next(iter(header_values(headers, name)), None)


def _has_items(value: object) -> bool:
    return is_mapping(value) or "email.Message" in names(type(value))


def _text(value: object) -> str | None:
    if is_text(value):
        return str.__str__(value)  # a plain str, whatever subclass *value* is of
    if is_bytes(value):
        return bytes(value).decode("latin-1")
    return str(value) if type(value) in {int, float} else None
