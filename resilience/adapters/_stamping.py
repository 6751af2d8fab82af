"""What goes onto a request besides what the caller wrote: the call's key and the attempt's token, each where it belongs."""

from __future__ import annotations

from typing import Any, Final

from resilience.call import Call

__all__ = ["stamp"]

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1


def stamp(headers: Any, call: Call[Any], *, method: str, origin: str, home: str, audience: frozenset[str]) -> None:
    """
    Put key and token of *call* on a request that is about to go out.

    Args:
        headers: The request's, to be changed: they ignore case, and take items as a dict does.
        call: The call.
        method: The request's method, in capitals.
        origin: Where it goes.
        home: The origin of the call's first request.  Anywhere else it carries no key, not even the caller's own.
        audience: The origins that the token is for.
    """
    name = call.key_header or "Idempotency-Key"
    key = headers.get(name)
    if origin != home:
        if key is not None:
            del headers[name]  # the caller's own, which clients would hand on
        if method not in _SAFE:
            call.key_taken = False  # what is done there is done without a key
    elif key:  # an empty one protects nobody
        call.adopt_key(key)
    elif method in call.key_methods:
        headers[name] = call.take_key()
    token = call.token
    if token is not None:
        call.withheld = origin not in audience
        if not call.withheld:
            headers["Authorization"] = f"Bearer {token}"
