"""
One field out of whatever a client calls headers.

Seven clients, seven kinds of headers: mappings that ignore case and plain dicts that do not, multi-dicts that keep repeats and others that
join them, the standard library's message that is no mapping, lists of pairs of bytes.  All of them can be walked as pairs, so that is what
happens; it costs a few microseconds, on failures only.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from resilience.reading.peek import is_bytes, is_list, is_mapping, is_text, names

__all__ = ["header", "header_values", "is_headers"]

_MOST = 512  # fields that are looked at; servers allow about a hundred


def is_headers(value: object) -> bool:
    """Whether *value* is something that headers come as: a mapping, an `http.client.HTTPMessage`, or a list or tuple of pairs."""
    if is_list(value):
        return all(is_list(pair) and len(pair) == 2 for pair in islice(value, _MOST))  # noqa: PLR2004
    return is_mapping(value) or "email.Message" in names(type(value))


def header_values(headers: object, name: str) -> list[str]:
    """
    Every value of the field *name*, whatever its case, in the order sent.

    Args:
        headers: A client's headers, or anything else: what are no headers have no values.
        name: The field's name.

    Returns:
        The values as text; bytes are read as Latin-1, numbers (a test's ``{"Retry-After": 5}``) as written.
    """
    found: list[str] = []
    if not is_headers(headers):
        return found
    wanted = name.lower()
    try:
        holder: Any = headers
        pairs: Any = holder if is_list(headers) else holder.items()
        for key, value in islice(pairs, _MOST):
            if (_text(key) or "").lower() == wanted:
                text = _text(value)
                if text is not None:
                    found.append(text)
    except Exception:  # noqa: BLE001 - a mapping of somebody else's may raise anything; what came before stands
        return found
    return found


def header(headers: object, name: str) -> str | None:
    """The first value of the field *name*; None where there is none."""
    return next(iter(header_values(headers, name)), None)


def _text(value: object) -> str | None:
    if is_text(value):
        return value
    if is_bytes(value):
        return bytes(value).decode("latin-1")
    return str(value) if type(value) in {int, float} else None
