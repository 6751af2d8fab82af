"""
Which returned values are responses, and what such a response holds.

Most operations return what they were written for: a list of bots, an ``Order(status=503)``, a lazy row of a database.  Only a response that
says no is a failure, so a value is looked at only if its *type* is known to be a response, and that is found out once per type:

1. by name, for the clients in `_KNOWN`.  httpx, urllib3 and others set ``status_code`` and ``headers`` in ``__init__`` and say nothing
   about them in the class, so that nothing else could tell;
2. else by what the class declares: ``status_code`` or ``status`` as an int *and* ``headers`` as a mapping.  A declaration is an annotation
   (dataclass and attrs fields are such), a class attribute's value, a property's return annotation, or a slot or the
   member of an extension type or a named tuple, which cannot be lazy.  Any other descriptor (a column of an ORM, a field of a form) may do
   I/O when read: such a type is left alone.

What a class declares is the class's word for it; so under 2 the headers of a failing value are checked as well.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from resilience.reading.headers import is_headers
from resilience.reading.peek import attribute, is_bytes, is_mapping, is_text, item, names, status_of

__all__ = ["READERS", "Reader", "first_sight", "loaded_body", "reader_of", "response_status"]

Reader: TypeAlias = Callable[[object], int | None]
"""From a value to its status, 100 to 599; None if it has none after all."""

READERS: Final[dict[type, Reader | None]] = {}
"""What is known so far: the reader of each type met, None for types that are no responses.  For look-ups; `reader_of` fills it."""

_MOST = 1024  # types remembered; some programs make classes as they go

# package.ClassName, as `names` has it, to the attribute that holds the status.
_KNOWN: Final = {
    "httpx.Response": "status_code",
    "httpx2.Response": "status_code",
    "requests.Response": "status_code",
    "starlette.Response": "status_code",
    "curl_cffi.Response": "status_code",
    "aiohttp.ClientResponse": "status",
    "urllib3.BaseHTTPResponse": "status",
    "urllib3.HTTPResponse": "status",  # without its base, up to urllib3 1
    "http.HTTPResponse": "status",
    "httpcore.Response": "status",
    "httpcore2.Response": "status",
    "tornado.HTTPResponse": "code",
}


# What looks a value up where it lies: in a slot, in an extension type, in a named tuple.
_IN_A_TUPLE: object = vars(inspect.FullArgSpec)["args"]  # one of our own would take 0.1 ms to make
_MEMBERS = (types.MemberDescriptorType, types.GetSetDescriptorType, type(_IN_A_TUPLE))
_ABSENT: Final = object()
_UNTYPED: Final = object()
# Compiled when first needed.
_INT = r"(?:typing\.)?(?:Optional\[)?(?:builtins\.|http\.)?(?:int|HTTPStatus)\]?(?: *\| *None)?"
_LAST_NAME = r"(?:(?:typing\.)?Optional\[)?(?:\w+\.)*(\w+)"
_HEADERS = ("dict", "Dict", "Mapping", "MultiMapping", "MultiDict", "MultiDictProxy", "HeaderDict", "Headers", "HTTPMessage")


def response_status(value: object) -> int | None:
    """
    The status of a returned value, if its type is known to be a response; below 400 it is a success like any other value.

    Never raises, and touches no attribute of any other type.  Where even this call is too much, look the type up in `READERS`:
    ``reader = READERS.get(type(value), first_sight)``, then call the reader unless it is None.
    """
    try:
        reader = READERS.get(type(value), first_sight)
    except TypeError:  # a metaclass may compare its classes in its own way, and leave them without a hash
        return None
    return None if reader is None else reader(value)


def first_sight(value: object) -> int | None:
    """The reader for values whose type was not met before: judges it, then reads the value."""
    reader = reader_of(type(value))
    return None if reader is None else reader(value)


def reader_of(kind: type) -> Reader | None:
    """How to read the status of values of this type; None if they are no responses."""
    try:
        known = READERS.get(kind, first_sight)
    except TypeError:  # no hash, as above
        return None
    if known is not first_sight:
        return known
    try:
        reader = _judge(kind)
    except Exception:  # noqa: BLE001 - a metaclass, or an annotation that cannot be evaluated: whatever it is, it is no response
        reader = None
    if len(READERS) >= _MOST:
        READERS.clear()
    READERS[kind] = reader
    return reader


def loaded_body(response: object) -> object:
    """
    The body of a response as far as it is in memory already: bytes, text or a mapping; None otherwise.

    Nothing is read from the network.  requests and urllib3 do that when ``content`` or ``data`` is touched, so what they keep underneath is
    looked at first, and where there is such a place, its word is final.
    """
    if is_mapping(response):
        return _in_memory(item(response, "body"))
    held = attribute(response, "__dict__")
    if is_mapping(held):
        for name in ("_content", "_body", "content", "body"):
            if name in held:
                return _in_memory(held[name])
        # slack_sdk parses it into ``data``, which on other responses may be a property that reads.
        body = _in_memory(item(held, "data"))
        if body is not None:
            return body
    for name in ("content", "body"):
        body = _in_memory(attribute(response, name))
        if body is not None:
            return body
    return None


def _in_memory(body: object) -> object:
    return body if is_bytes(body) or is_text(body) or is_mapping(body) else None


def _judge(kind: type) -> Reader | None:
    for name in names(kind):
        if name in _KNOWN:
            return _reader(_KNOWN[name])
    if _says(_declared(kind, "headers"), _is_headers):
        for attr in ("status_code", "status"):
            if _says(_declared(kind, attr), _is_int):
                return _wary_reader(attr)
    return None


@functools.cache
def _reader(name: str) -> Reader:
    def read(value: object) -> int | None:
        try:
            status = getattr(value, name)
        except Exception:  # noqa: BLE001 - a lazy response may fail here; then it is not known to have failed
            return None
        return status if type(status) is int and 100 <= status <= 599 else status_of(status)  # noqa: PLR2004 - the range of HTTP statuses

    return read


@functools.cache
def _wary_reader(name: str) -> Reader:
    plainly = _reader(name)

    def read(value: object) -> int | None:
        status = plainly(value)
        if status is None or status < 400:  # noqa: PLR2004 - a success, whatever its headers
            return status
        return status if is_headers(attribute(value, "headers")) else None

    return read


def _declared(kind: type, name: str) -> object:
    """What the class nearest in the hierarchy says about *name*: an annotation, a type, `_UNTYPED` or `_ABSENT`."""
    for base in kind.__mro__:
        held: object = base.__dict__.get(name, _ABSENT)
        of = type(held)
        said = _annotations(base).get(name, _ABSENT)
        if said is _ABSENT:
            said = _attrs_type(base, name)
        if isinstance(held, property | functools.cached_property):
            getter = held.fget if isinstance(held, property) else held.func
            return _annotations(getter).get("return", _ABSENT)
        if isinstance(held, _MEMBERS):
            return _UNTYPED if said is _ABSENT else said
        if held is not _ABSENT and hasattr(of, "__get__"):
            return _ABSENT  # a descriptor of another kind: what it would do is not known
        if said is not _ABSENT:
            return said
        if held is not _ABSENT:
            return of
    return _ABSENT


def _says(declared: object, fits: Callable[[object], bool]) -> bool:
    return declared is _UNTYPED or (declared is not _ABSENT and fits(declared))


def _is_int(declared: object) -> bool:
    if isinstance(declared, type):
        return issubclass(declared, int) and declared is not bool
    return re.fullmatch(_INT, _spelt(declared)) is not None


def _is_headers(declared: object) -> bool:
    origin = typing.get_origin(declared) or declared
    if isinstance(origin, type):
        return issubclass(origin, Mapping) or origin.__name__.endswith(_HEADERS)
    last = re.match(_LAST_NAME, _spelt(declared))
    return last is not None and last[1].endswith(_HEADERS)


def _spelt(declared: object) -> str:
    declared = getattr(declared, "__forward_arg__", declared)
    # With annotations postponed, a quoted one keeps its quotes.
    return (declared if isinstance(declared, str) else repr(declared)).strip("'\"")


def _attrs_type(base: type, name: str) -> object:
    """The type of an attrs field that was given as ``attr.ib(type=...)``, which is no annotation."""
    for field in base.__dict__.get("__attrs_attrs__", ()):
        if field.name == name and field.type is not None:
            return field.type
    return _ABSENT


if sys.version_info >= (3, 14):  # pragma: no cover - one of the two on any one version
    import annotationlib

    def _annotations(holder: Any) -> dict[str, Any]:
        """Annotations as written, none of them evaluated."""
        return annotationlib.get_annotations(holder, format=annotationlib.Format.STRING)

else:  # pragma: no cover

    def _annotations(holder: Any) -> dict[str, Any]:
        """A class's or function's own annotations, as they stand."""
        return inspect.get_annotations(holder)
