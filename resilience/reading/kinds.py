"""
What a class of exceptions says about all of its instances, found out once a class.

Reading an exception means asking it for some twenty attributes, and nearly all of them are missing: a `ConnectionError` has none.  An
attribute can only be where its class declares it (a property, a slot, a value), or in the ``__dict__`` of the instance.  So the names that
a class declares are kept, and an instance is asked for those and for what its ``__dict__`` holds.  Asking a plain exception for all of
them, and its class for its names again and again, took 50 µs.

What is kept of a class is found again once that changes: a class that can be changed is watched by its bases and by the number of names in
its own namespace and in theirs, so that ``MyError.status = 503`` counts from the next failure on.  Not seen are a name that takes the place
of another one between two failures, and a class that gives itself another name after its first.  Where a class answers for attributes in
its own way (``__getattr__``), or for its ``__class__``, everything is asked each time.  The number of classes kept is bounded, as some
programs make them as they go.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Mapping
from typing import Any, Final, cast

from resilience.outcome import Phase, Signal
from resilience.reading.peek import names

__all__ = ["ASKED", "Kind", "asked_of", "kind_of", "stands_alone"]

ASKED: Final = frozenset(
    {
        *("response", "status_code", "status", "http_status", "code", "type", "message", "errors", "extensions", "details", "headers"),
        *("body", "json_body", "retry_after", "reason", "history", "request", "request_info", "raw", "retries"),
    }
)
"""Every attribute that is asked of an exception whose class is not known by name."""

_NONE: Final[frozenset[str]] = frozenset()
_MOST = 1024  # classes kept
_OWN_WAY: Final = frozenset({"__getattr__", "__getattribute__", "__class__"})
_IMMUTABLE = 1 << 8  # Py_TPFLAGS_IMMUTABLETYPE, since CPython 3.10

_GENUINE = (types.GetSetDescriptorType, type(None))  # of a ``__dict__``

# As the interpreter sees them: a metaclass may say otherwise.
_bases_of: Any = type.__dict__["__mro__"].__get__
_flags_of: Any = type.__dict__["__flags__"].__get__
_namespace_of: Any = type.__dict__["__dict__"].__get__


class Kind:
    """
    What a class says about its instances.

    Attributes:
        watched: The namespaces, live ones, of it and of those of its bases that can be changed, and how many names each of them had.
        names: Itself and its bases as ``"package.ClassName"``, nearest first.
        opaque: Whether instances may have any attribute, whatever class and ``__dict__`` hold.
        declared: The names of `ASKED` that they may have otherwise than in their ``__dict__``.
        phase: How far an attempt got that ended in one, as far as the names tell; kept here by `resilience.reading.phase`.
        bare: What one says that has none of these attributes, nor a message; kept here by `resilience.reading.shape`.  None where more is
            known of the class by its names.
    """

    __slots__ = ("_bases", "bare", "declared", "names", "opaque", "phase", "watched")

    phase: Phase | None
    bare: Signal | None

    def __init__(self, kind: type) -> None:
        self.names = tuple(names(kind))
        self._bases: tuple[type, ...] = _bases_of(kind)
        spaces = [_namespace_of(base) for base in self._bases if not _flags_of(base) & _IMMUTABLE]
        self.watched: list[tuple[Mapping[str, Any], int]] = [(space, len(space)) for space in spaces]
        self.opaque = any(map(_answers_in_its_own_way, self._bases))
        self.declared = ASKED if self.opaque else _NONE.union(*(ASKED.intersection(_namespace_of(base)) for base in self._bases))

    def holds(self, kind: type) -> bool:
        """Whether this still is what *kind* says."""
        for namespace, size in self.watched:
            if len(namespace) != size:
                return False
        return _bases_of(kind) is self._bases


_KINDS: dict[type, Kind] = {}


def kind_of(kind: type) -> Kind:
    """What the class *kind* says about its instances."""
    try:
        known = _KINDS[kind]
    except Exception:  # noqa: BLE001 - not met before; or a metaclass that hashes and compares its classes as it likes
        return _meet(kind)
    return known if not known.watched or known.holds(kind) else _meet(kind)


def asked_of(error: BaseException, known: Kind) -> frozenset[str]:
    """The names of `ASKED` that *error*, whose class is *known*, may have; no other of them is there."""
    if known.opaque:
        return ASKED
    held = error.__dict__
    if type(held) is not dict:  # one of a subclass, which may hide what it holds
        return ASKED
    if not held:
        return known.declared
    try:
        return known.declared | ASKED.intersection(held)
    except Exception:  # noqa: BLE001 - whoever writes to a namespace directly may put anything there
        return ASKED


def stands_alone(outcome: object) -> bool:
    """Whether *outcome* is an exception with no cause and none of `ASKED`, as most are: there is nothing behind it."""
    kind: Any = type(outcome)
    try:
        known = _KINDS[kind]
    except Exception:  # noqa: BLE001 - as above, or no exception at all: only their classes are kept
        return False
    if known.declared or (known.watched and not known.holds(kind)):
        return False
    error = cast("BaseException", outcome)
    return type(error.__dict__) is dict and not error.__dict__ and error.__cause__ is None


def _meet(kind: type) -> Kind:
    known = Kind(kind)
    if len(_KINDS) >= _MOST:
        _KINDS.clear()
    with contextlib.suppress(Exception):  # as above
        _KINDS[kind] = known
    return known


def _answers_in_its_own_way(base: type) -> bool:
    """Whether *base* may know of attributes that neither its namespace nor an instance's ``__dict__`` holds."""
    if base is object or base is BaseException:
        return False
    namespace = _namespace_of(base)
    return not _OWN_WAY.isdisjoint(namespace) or not isinstance(namespace.get("__dict__"), _GENUINE)
