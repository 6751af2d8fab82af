"""
One key per call, so that the peer can tell a repeat from a new wish.

A key is the same on every attempt, after a refresh and under a hedge.  It comes from the caller, from business data, from the key of the
call around it, or from chance; in that order.
"""

from __future__ import annotations

import datetime
import decimal
import uuid
from collections.abc import Awaitable, Iterable
from typing import Any, TypeVar, cast

import attrs

from resilience import settings
from resilience.call import Call, Keys
from resilience.env import Env
from resilience.events import KeyReused
from resilience.outcome import Failure
from resilience.policy import FastPath, Handler

__all__ = ["IdempotencyKey", "checked_key", "derived_key"]

T = TypeVar("T")

_LONGEST = 255  # characters; what the common APIs accept
# Left to the present context, normalising would round to its precision, and two amounts could have one key.
_EXACT = decimal.Context(prec=decimal.MAX_PREC, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN, traps=[])


def checked_key(key: object, field: str = "key") -> str:
    """
    *key* if it can go into a header.

    Raises:
        ValueError: No str, empty, over 255 characters, or anything but printable ASCII.
    """
    if not isinstance(key, str):
        msg = f"{field}: expected a str, got {type(key).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - one kind of error for one kind of mistake
    if not 0 < len(key) <= _LONGEST:
        msg = f"{field}: expected 1 to {_LONGEST} characters, got {len(key)}"
        raise ValueError(msg)
    if not (key.isascii() and key.isprintable()) or key != key.strip():
        msg = f"{field}: expected printable ASCII without spaces around it, got {key!r}"
        raise ValueError(msg)
    return key


def derived_key(scope: str, parts: Iterable[object]) -> str:
    """
    A key from business data: the same in every process, and another for every other scope or tuple of parts.

    Args:
        scope: What is done to the data, such as ``"charge"``; charge and refund of one order must differ.
        parts: str, int, bool, bytes, UUID, Decimal, date or datetime, each encoded with its type and length.

    Returns:
        64 hex digits: SHA-256 of the encoding.

    Raises:
        TypeError: A part of another type; float is none of them, for 0.1 + 0.2 is another float in the next process.
    """
    import hashlib  # noqa: PLC0415 - used here only, and slow to load

    digest = hashlib.sha256()
    for kind, data in (_encoded(scope), *(_encoded(part) for part in parts)):
        digest.update(b"%s:%d:" % (kind, len(data)))
        digest.update(data)
    return digest.hexdigest()


def _encoded(part: object) -> tuple[bytes, bytes]:
    match part:
        case bool():
            return b"bool", b"1" if part else b"0"
        case int():
            return b"int", str(part).encode()
        case str():
            return b"str", part.encode("utf-8", "surrogatepass")
        case bytes():
            return b"bytes", part
        case uuid.UUID():
            return b"uuid", part.bytes
        case decimal.Decimal():
            # 1.0 and 1.00 are the same amount.
            return b"decimal", str(part.normalize(_EXACT)).encode()
        case datetime.datetime():
            return b"datetime", part.isoformat().encode()
        case datetime.date():
            return b"date", part.isoformat().encode()
        case _:
            raise TypeError(f"key_from: expected str, int, bool, bytes, UUID, Decimal or date, got {type(part).__name__}")


def _header(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, str) or not value or not value.replace("-", "").replace("_", "").isalnum() or not value.isascii():
        raise settings.fail(instance, attribute, value, "the name of a header")


def _methods(value: Iterable[str]) -> frozenset[str]:
    if isinstance(value, str) or not isinstance(value, Iterable):
        return cast("frozenset[str]", value)  # for the validator to refuse by name
    return frozenset(str(one).upper() for one in value)


def _tokens(instance: object, attribute: attrs.Attribute[Any], value: frozenset[str]) -> None:
    if not isinstance(value, frozenset) or not all(one.isalpha() for one in value):
        raise settings.fail(instance, attribute, value, "a set of HTTP methods")


@attrs.frozen(eq=False, repr=False)
class IdempotencyKey(settings.Value):
    """
    Give each call one idempotency key, the same for all its attempts.

    An adapter stamps it on requests of the methods named here; a plain function sends ``current().take_key()`` itself.  A call counts as
    keyed only once its key was taken: a key that nobody sends protects nobody.

    Args:
        header: The header it goes into.
        methods: The methods of requests that an adapter stamps.

    Raises:
        ValueError: What cannot be a header or a method.
    """

    header: str = attrs.field(default="Idempotency-Key", kw_only=True, validator=_header)
    methods: frozenset[str] = attrs.field(default=frozenset({"POST", "PUT", "PATCH"}), kw_only=True, converter=_methods, validator=_tokens)

    def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:  # noqa: ARG002 - the shape of Policy
        """Let the calls of *inner* take a key."""
        keys = cast("Keys", self)  # which it plainly is, but for checkers that know fields by what converts them

        def keyed(call: Call[T]) -> Awaitable[T | Failure]:
            if call.keys is not keys:
                call.given_keys = keys
            return inner(call)

        return keyed

    def bind_fast(self, path: FastPath, inner: Handler[Any], env: Env) -> FastPath:  # noqa: ARG002 - the shape of Policy
        """Let calls take a key from their beginning."""
        return path.but(keys=cast("Keys", self))

    def mint(self, call: Call[Any]) -> tuple[str, str]:
        """The key of *call*, and where it is from."""
        plan = call.plan
        if call.parent is not None or plan.key is not None or plan.key_from is not None:
            found = _key(call)
            if found is not None:
                return found
        return plan.env.unique(16), "minted"


def _key(call: Call[Any]) -> tuple[str, str] | None:
    """The call's key and where it is from; None where only chance is left."""
    plan = call.plan
    if plan.key is not None:
        plan.uses += 1
        if plan.uses > 1 and (call.parent is None or call.parent.attempt == 1):
            call.say(KeyReused)  # and not because the call around it is being repeated
        return plan.key, "given"
    label = plan.operation or (f"{call.method} {call.path}" if call.method and call.path else None)
    if plan.key_from is not None:
        if label is None:
            msg = f"{call.operation}: key_from needs operation=, or an adapter that knows method and path"
            raise ValueError(msg)
        return derived_key(label, plan.key_from), "derived"
    outer = call.parent
    if outer is not None and not outer.ended and outer.keys is not None:
        # The outer call may be repeated, and must then send the same keys again, in the order in which it began its calls.
        label = label or call.operation
        return derived_key(label, (outer.peek_key(), outer.next_ordinal(label))), "nested"
    return None
