"""Which request a failure is about: its method tells whether a repeat is safe."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

import attrs

from resilience.reading.headers import header, is_headers
from resilience.reading.kinds import asked_of, kind_of, stands_alone
from resilience.reading.peek import attribute, is_error, is_group, is_list, is_text
from resilience.reading.phase import STEPS, leaves_of
from resilience.reading.responses import reader_of
from resilience.settings import Value

__all__ = ["RequestFacts", "request_meant", "request_of"]

# Compiled when first needed, which is after a failure.
_METHOD = r"[A-Za-z]+(?:[-_][A-Za-z]+)*"
_PATH = r"(?:[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*)?(/[^?#]*)?"
_HOLDERS = frozenset({"response", "history", "request", "request_info"})
_LONGEST = 8192  # characters of a URL
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
_VERBS = _HARMLESS | {"POST", "PUT", "PATCH", "DELETE"}


@attrs.frozen(eq=False, repr=False)
class RequestFacts(Value):
    """
    What a failure knows of its request.

    Args:
        method: In capitals.
        path: The path of its URL, as it was encoded; neither origin nor query.
        headers: As the client has them.
    """

    method: str | None = None
    path: str | None = None
    headers: object = attrs.field(default=None, repr=False, eq=False)

    def header(self, name: str) -> str | None:
        """The first value of the header *name*, whatever its case."""
        return header(self.headers, name)


def request_of(outcome: object) -> RequestFacts | None:
    """
    The request behind an exception or a failed response; None where neither it nor what caused it tells.

    After redirects it is the first request, since that is the one a repeat would send.  Of several (an exception group) it is one that may
    have had effects, if there is any.
    """
    if stands_alone(outcome):
        return None
    if not is_error(outcome):
        return None if reader_of(type(outcome)) is None else _facts(outcome)
    error: BaseException | None = outcome
    for _ in range(STEPS):
        if error is None:
            break
        if is_group(error):
            found = [facts for leaf in leaves_of(error) if (facts := _facts_of(leaf)) is not None]
            facts = next((facts for facts in found if facts.method not in _HARMLESS), found[0] if found else None)
        else:
            facts = _facts_of(error)
        if facts is not None:
            return facts
        error = error.__cause__
    return None


def request_meant(fn: Any, args: tuple[object, ...], kwargs: Mapping[str, Any]) -> RequestFacts | None:
    """
    The request that a client's method is asked for by name: ``post(url)``, ``request("POST", url)`` or ``send(request)``.

    An attempt that was cut, and the errors of some clients, cannot tell.

    Args:
        fn: What is called; partials are looked through.
        args: With what.
        kwargs: Likewise.
    """
    while isinstance(fn, functools.partial):
        fn, args, kwargs = fn.func, (*fn.args, *args), {**fn.keywords, **kwargs}
    named = attribute(fn, "__name__")
    if named == "send":
        return _read(kwargs.get("request", args[0] if args else None))
    if named == "request":
        named, args = (kwargs["method"], args) if "method" in kwargs else (args[0] if args else None, args[1:])
    if not is_text(named) or named.upper() not in _VERBS:
        return None
    url, headers = kwargs.get("url", args[0] if args else None), kwargs.get("headers")
    return RequestFacts(named.upper(), _path(url) if is_text(url) else None, headers if is_headers(headers) else None)


def _facts_of(error: BaseException) -> RequestFacts | None:
    return None if asked_of(error, kind_of(type(error))).isdisjoint(_HOLDERS) else _facts(error)


def _facts(holder: object) -> RequestFacts | None:
    """From the response first: only it knows whether there were redirects."""
    response = attribute(holder, "response")
    for one in (response, holder):
        for met in (_first_hop(one), one):
            for name in () if met is None else ("request", "request_info"):
                facts = _read(attribute(met, name))
                if facts is not None:
                    return facts
    return None


def _first_hop(response: object) -> object:
    """What the first request was answered with, where redirects were followed."""
    history = attribute(response, "history")
    return history[0] if is_list(history) and history else None


def _read(request: object) -> RequestFacts | None:
    method = attribute(request, "method")
    if not (type(method) is str and method in _VERBS) and not (is_text(method) and re.fullmatch(_METHOD, method)):
        return None
    headers = attribute(request, "headers")
    return RequestFacts(method.upper(), _path(attribute(request, "url")), headers if is_headers(headers) else None)


def _path(url: object) -> str | None:
    try:
        text = str(url)
    except Exception:  # noqa: BLE001 - a URL object of any make
        return None
    found = re.match(_PATH, text) if len(text) <= _LONGEST else None
    if found is None or not found[0]:
        return None
    return found[1] or "/"
