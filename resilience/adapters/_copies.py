"""
Copies of httpx's requests, and a look at their headers, for as little as they can be had.

An adapter copies each request twice, looks for two headers, and sets one.  Done as the client would have it done that is half of all that
the adapter takes: the constructor of a request normalises once more what is in order already, and headers that are asked for one decode
all of them first, to find out their encoding.  Where it is seen at import that the client keeps requests and
headers as both libraries did when this was written, they are taken as they are kept; else it is done by the constructor and by what is
public.

Read in httpx 0.28 and httpx2 2.16: ``_models.py``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

__all__ = ["copier", "finder", "setter"]

_OF_A_REQUEST: Final = {"method", "url", "headers", "extensions", "stream", "_content"}


def copier(http: Any) -> Callable[[Any, dict[str, Any]], Any]:
    """What copies a request of the library *http*: with headers of its own, with the extensions given, and with its body if it is there."""
    request = http.Request("GET", "http://a", content=b"")
    return _attribute_by_attribute(http) if getattr(request, "__dict__", {}).keys() == _OF_A_REQUEST else _made_anew(http)


def _made_anew(http: Any) -> Callable[[Any, dict[str, Any]], Any]:
    def copied(request: Any, extensions: dict[str, Any]) -> Any:
        copy = http.Request(request.method, request.url, headers=request.headers, stream=request.stream, extensions=extensions)
        if isinstance(request.stream, http.ByteStream):
            copy.read()  # it is in memory: hooks and stand-in transports look at request.content
        return copy

    return copied


def _attribute_by_attribute(http: Any) -> Callable[[Any, dict[str, Any]], Any]:
    """
    One by one they cost a third of what the constructor does.

    All of ``__dict__`` at once would cost twice as much again: CPython then makes a real dict of the attributes, of both requests, and is
    slower from there on wherever the client looks at one.
    """
    new, kind, headers, byte_stream = object.__new__, http.Request, http.Headers, http.ByteStream

    def copied(request: Any, extensions: dict[str, Any]) -> Any:
        copy = new(kind)
        copy.method = request.method
        copy.url = request.url
        copy.headers = headers(request.headers)
        copy.extensions = extensions
        copy.stream = stream = request.stream
        if isinstance(stream, byte_stream):
            try:
                copy._content = request._content  # noqa: SLF001 - where `read` keeps it
            except AttributeError:
                copy.read()
        return copy

    return copied


def finder(http: Any) -> Callable[[Any, bytes], bool]:
    """What tells whether headers of the library *http* have one of a name, which is given in lower case."""
    return _has_row if _keeps_rows(http) else _has_name


def _has_name(headers: Any, wanted: bytes) -> bool:
    return wanted in {name.lower() for name, _ in headers.raw}


def _has_row(headers: Any, wanted: bytes) -> bool:
    return wanted in map(_lower, headers._list)  # noqa: SLF001


def setter(http: Any) -> Callable[[Any, str, bytes, str], None]:
    """What sets one of the headers of a request of the library *http*, by its name, the same in lower case, and a value, both ASCII."""
    return _set_row if _keeps_rows(http) else _set_item


def _set_item(headers: Any, name: str, lower: bytes, value: str) -> None:  # noqa: ARG001 - the shape of the other
    headers[name] = value


def _set_row(headers: Any, name: str, lower: bytes, value: str) -> None:
    if _has_row(headers, lower):
        headers[name] = value
    else:
        headers._list.append((name.encode(), lower, value.encode()))  # noqa: SLF001


def _keeps_rows(http: Any) -> bool:
    """Whether headers are a list of how each is written, its name in lower case, and its value."""
    return bool(getattr(http.Headers({"A": "b"}), "_list", None) == [(b"A", b"a", b"b")])


_lower = operator.itemgetter(1)
