"""What goes onto a request besides what the caller wrote: the call's key and the attempt's token, each where it belongs."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, Final

from resilience.call import Call

__all__ = ["DEFAULT_HEADER", "stamp_key", "token_for"]

DEFAULT_HEADER: Final = "Idempotency-Key"
"""Where the caller's own key would be where no policy says otherwise."""

_SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})  # RFC 9110, 9.2.1


def stamp_key(headers: Any, call: Call[Any], own: str | None, *, method: str, away: bool) -> None:
    """
    Put the key of *call* on a request that is about to go out.

    Args:
        headers: The request's, to be changed: they ignore case, and take items as a dict does.
        call: The call.
        own: What they have already where its key goes, if anything.
        method: The request's method, in capitals.
        away: Whether it goes to another origin than the call's first request did.  There it carries no key, not even the caller's own.
    """
    keys = call.keys
    if away:
        if own is not None:
            del headers[DEFAULT_HEADER if keys is None else keys.header]  # the caller's own, which clients would hand on
        if method not in _SAFE:
            call.key_taken = False  # what is done there is done without a key
    elif own:  # an empty one protects nobody
        call.adopt_key(own)
    elif keys is not None and method in keys.methods:
        headers[keys.header] = call.take_key()


def token_for(call: Call[Any], origin: str, audience: Container[str]) -> str | None:
    """
    What a request to *origin* is to have in ``Authorization``, if anything.

    Args:
        call: The call.
        origin: Where the request goes.
        audience: The origins that the token is for.
    """
    token = call.token
    if token is None:
        return None
    if origin not in audience:
        call.withheld = True
        return None
    if call.withheld:  # elsewhere, by an earlier hop
        call.withheld = False
    return f"Bearer {token}"
