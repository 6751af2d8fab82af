"""
Any result or exception to a `Signal`, by its shape.

Exceptions are read generously, attribute by attribute: ``status_code``, ``status``, ``code``, ``type``, ``body``, ``errors``, ``headers``,
``retry_after``, and the same on their ``response``, which may be a client's object or a dict.  What is missing, raises, or is of the wrong
type is absent.  Returned values are read only if their type is a response's (`resilience.reading.responses`).  No method is called, so
that nothing is fetched and no stand-in can answer.
"""

from __future__ import annotations

import errno
import math
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeVar

import attrs

from resilience.errors import ResilienceError
from resilience.outcome import Phase, Signal, new_signal
from resilience.reading.envelope import NOTHING, Envelope, clip, parsed, read_envelope
from resilience.reading.headers import header, is_headers, picked
from resilience.reading.hints import TELLING, retry_after, sane_seconds, should_retry
from resilience.reading.kinds import Kind, asked_of, kind_of
from resilience.reading.native import NATIVE, read_native
from resilience.reading.peek import attribute, is_error, is_group, is_list, is_mapping, item, names, plain_int, status_of, word
from resilience.reading.phase import keeps_causes, leaves_of, listed, phase_of, worst
from resilience.reading.request import RequestFacts, request_of
from resilience.reading.responses import READERS, Reader, first_sight, loaded_body, reader_of, response_status

__all__ = [
    "READERS",
    "REFUSALS",
    "Reader",
    "RequestFacts",
    "after_redirects",
    "first_sight",
    "phase_of",
    "read",
    "reader_of",
    "request_of",
    "response_status",
]

T = TypeVar("T")

REFUSALS: Final = frozenset({"not_authed", "invalid_auth", "token_expired", "ratelimited", "rate_limited", "request_timeout"})
"""
Codes of Slack's by which it refuses a request before it does any work, although its status is 200; the last means that the request's body
was "missing or truncated".
"""

_STATUSES = ("status_code", "status", "http_status")
# What SDKs copy from the peer's envelope: `errors` and `extensions` GraphQL clients, `errors` and `details` google-api-core.
_COPIED = ("type", "status", "message", "errors", "extensions", "details", "code")
_ERROR_TYPE: Final = "x-amzn-errortype"
_TELLING = TELLING | {_ERROR_TYPE}
# Their ``reason`` is what went wrong, and no cause of theirs.
_WRAPPERS = frozenset({"urllib.URLError", "urllib3.MaxRetryError"})
# An answer that aiohttp cannot parse is the one, with the status 400, caused by the other, whose code that is.  No peer has said so.
_UNPARSED = ("aiohttp.ClientResponseError", "aiohttp.HttpProcessingError")
_HOPS = 64  # more than any client follows
_REDIRECTED_ELSEWHERE = range(300, 304)  # 300 to 303: the next request may be a GET for what this one did
# Their ``code`` warns that it is deprecated, and says nothing that another attribute does not.
_DEPRECATED_CODE = frozenset({"aiohttp.ClientResponseError", "websockets.ConnectionClosed"})
# All whose names say more than how far an attempt got.
_BY_NAME = frozenset({*NATIVE, *_WRAPPERS, *_UNPARSED, *_DEPRECATED_CODE})
# What reading asks for; `resilience.reading.request` and `resilience.reading.repeats` ask for the rest.
_SAYING = frozenset({"response", "headers", "body", "json_body", "retry_after", "history", *_STATUSES, *_COPIED})
_CODE = frozenset({"code"})


def read(outcome: object, *, wall: float = math.nan, body: object = None) -> Signal:
    """
    What a failed attempt says about itself.

    Args:
        outcome: The exception it raised, or the response it returned.  Of a value that is no response only a mapping is read, as an
            envelope: some APIs answer 200 with an error inside.
        wall: The present time in unix seconds, for wait hints that are dates; without it they can be read only beside the response's own
            ``Date``.
        body: The body, where the caller has read it from the stream and the outcome does not hold it.

    Returns:
        For an exception group whose leaves say one and the same thing, that; where they differ, the worst of their phases, the longest of
        their hints, and each of their signals in ``leaves``.  What urllib and urllib3 wrap without saying more stands there, too, as the
        only one.  An exception that carries neither status nor code nor kind has its class's
        name for a code, or that of its ``errno`` where the class is plain `OSError`.  Never raises.
    """
    if not is_error(outcome):
        return _read_value(outcome, wall, body)
    return _read_group(outcome, wall) if is_group(outcome) else _read_error(outcome, wall, body)


def _read_value(value: object, wall: float, body: object) -> Signal:
    reader = reader_of(type(value))
    if reader is None:
        said = read_envelope(value) if is_mapping(value) else NOTHING
        return Signal(code=said.code, kind=said.kind, message=said.message, retry_after=said.retry_after)
    status = reader(value)
    headers = picked(attribute(value, "headers"), _TELLING)
    said = read_envelope(loaded_body(value) if body is None else body)
    return Signal(
        status=status,
        code=said.code or _code_in(headers),
        kind=said.kind,
        message=said.message,
        retry_after=_first((retry_after(headers, wall=wall, status=status), said.retry_after)),
        phase=after_redirects(phase_of(status), value),
        should_retry=should_retry(headers),
    )


def _read_group(group: BaseExceptionGroup[BaseException], wall: float) -> Signal:
    leaves: list[Signal] = []
    for leaf in leaves_of(group):
        signal = _read_error(leaf, wall, None)
        if signal not in leaves:
            leaves.append(signal)
    if len(leaves) == 1:
        return leaves[0]
    return Signal(
        message=_message(group),
        retry_after=max((leaf.retry_after for leaf in leaves if leaf.retry_after is not None), default=None),
        phase=worst(leaf.phase for leaf in leaves),
        raised=type(group),
        leaves=tuple(leaves),
    )


def _read_error(error: BaseException, wall: float, body: object) -> Signal:
    known = kind_of(type(error))
    bare = _bare(known, error)
    asked = asked_of(error, known)
    if bare is not None and body is None and (not asked or _SAYING.isdisjoint(asked)):
        return _read_bare(error, bare)
    unparsed = False
    if bare is None:
        native = read_native(error)
        if native is not None:
            code = native.code or (_class_name(error) if native.kind is None else None)
            return attrs.evolve(native, code=code, message=native.message or _message(error), raised=type(error))
        unparsed = _is_unparsed(error)
        if unparsed or not _DEPRECATED_CODE.isdisjoint(known.names):
            asked -= _CODE
    held = {name: attribute(error, name) for name in asked if name in _SAYING}
    response, code = held.get("response"), held.get("code")
    status = _first_status(map(held.get, _STATUSES)) or _response_status(response) or status_of(code)
    status = None if unparsed else status
    headers = [
        picked(some, _TELLING) for some in (_response_headers(response), held.get("headers")) if some is not None and is_headers(some)
    ]
    bodies = _bodies(held, response, body)
    copied = {name: held[name] for name in _COPIED if name in held}
    said = _said([*bodies, copied] if copied else bodies)
    said_code = said.code or next(filter(None, map(_code_in, headers)), None)
    wrapped = None
    if status is None and said_code is None and said.kind is None:
        said_code = _class_name(error)
        wrapped = _wrapped(error, wall) if bare is None else None
    phase = phase_of(status, error)
    # Not for errors of ours, whose code is that of an earlier failure; nor for another API's, to which the same word is of another meaning.
    if said_code in REFUSALS and status in {None, 200} and not isinstance(error, ResilienceError) and any(map(_is_not_ok, bodies)):
        phase = Phase.REFUSED
    hints = [retry_after(some, wall=wall, status=status) for some in headers]
    hints += [said.retry_after, sane_seconds(held.get("retry_after"))]
    return new_signal(
        status,
        said_code,
        said.kind,
        said.message or _message(error),
        _first(hints),
        after_redirects(phase, response, error),
        _first(map(should_retry, headers)),
        type(error),
        () if wrapped is None else (wrapped,),
    )


def _bare(known: Kind, error: BaseException) -> Signal | None:
    """What an exception of this class says that has no attributes, nor a message; None where its class is known by name."""
    try:
        return known.bare
    except AttributeError:
        kind = type(error)
        special = issubclass(kind, ResilienceError) or keeps_causes(known) or not _BY_NAME.isdisjoint(known.names)
        known.bare = None if special else Signal(code=_class_name(error), phase=listed(known) or Phase.UNKNOWN, raised=kind)
        return known.bare


def _read_bare(error: BaseException, bare: Signal) -> Signal:
    """What *error* says, which has none of the attributes that are asked for."""
    message = _message(error)
    cause = error.__cause__
    code, phase = bare.code, bare.phase
    if type(error) is OSError:
        code = _class_name(error)
    elif message is None and cause is None:
        return bare
    if cause is not None and phase is Phase.UNKNOWN:
        phase = phase_of(None, error)
    return new_signal(None, code, None, message, None, phase, None, bare.raised, ())


def _wrapped(error: BaseException, wall: float) -> Signal | None:
    """What another exception says that this one only wraps."""
    held = attribute(error, "reason") if _WRAPPERS.intersection(names(type(error))) else error.__cause__ if _is_unparsed(error) else None
    return _read_error(held, wall, None) if is_error(held) and not _WRAPPERS.intersection(names(type(held))) else None


def _is_unparsed(error: BaseException) -> bool:
    raised, cause = _UNPARSED
    return cause in names(type(error)) or (raised in names(type(error)) and cause in names(type(error.__cause__)))


def _bodies(held: Mapping[str, Any], response: object, body: object) -> list[object]:
    """Wherever the peer's envelope is kept."""
    whole = held.get("details")
    places = (
        body,
        held.get("body"),
        held.get("json_body"),  # stripe
        None if response is None else loaded_body(response),
        response if is_mapping(response) else None,
        whole if is_mapping(whole) else None,  # google-genai
    )
    return [place for place in places if place is not None]


def _said(places: Iterable[object]) -> Envelope:
    """What the peer's envelope says, and what it lacks from the places after it; SDKs copy some of it to the exception's own attributes."""
    found = NOTHING
    for place in places:
        said = read_envelope(place)
        if found is NOTHING or said is NOTHING:
            found = said if found is NOTHING else found
            continue
        hint = said.retry_after if found.retry_after is None else found.retry_after
        found = Envelope(found.code or said.code, found.kind or said.kind, found.message or said.message, hint)
    return found


def _code_in(headers: object) -> str | None:
    """AWS's code, which the REST protocols put into a header: ``ThrottlingException:http://...``, ``com.amazon.x#ThrottlingException``."""
    said = header(headers, _ERROR_TYPE)
    return None if said is None else word(said.partition(":")[0].rpartition("#")[2])


def _is_not_ok(body: object) -> bool:
    """Whether *body* is Slack's way to say no: ``{"ok": false}``."""
    top = body if is_mapping(body) else parsed(body)
    return is_mapping(top) and item(top, "ok") is False


def _first(found: Iterable[T | None]) -> T | None:
    """
    The first that there is.  Of hints it is that of a header, then of a body, then of an SDK's attribute.

    A header's unit is the standard's, and the word in it is that of whoever answered last on the way: a gateway in front of the API can say
    nothing elsewhere.  Cloudflare documents the same order for the two of its own.
    """
    for one in found:
        if one is not None:
            return one
    return None


def _first_status(values: Iterable[object]) -> int | None:
    for value in values:
        status = None if value is None else status_of(value)
        if status is not None:
            return status
    return None


def _response_status(response: object) -> int | None:
    """From a client's response, or from a dict: botocore's, or one in the manner of WSGI and ASGI."""
    if response is None:
        return None
    if is_mapping(response):
        metadata = item(response, "ResponseMetadata")
        botocore = item(metadata, "HTTPStatusCode") if is_mapping(metadata) else None
        return _first_status((botocore, *(item(response, name) for name in _STATUSES)))
    return _first_status(attribute(response, name) for name in (*_STATUSES, "code"))


def _response_headers(response: object) -> object:
    if response is None:
        return None
    if is_mapping(response):
        metadata = item(response, "ResponseMetadata")
        return item(metadata, "HTTPHeaders") if is_mapping(metadata) else item(response, "headers")
    return attribute(response, "headers")


def after_redirects(phase: Phase, *holders: object) -> Phase:
    """
    The phase, with the redirects that came before in mind.

    "See other" answers a request that may well have been carried out; the 404 of the GET that followed says nothing about it.
    """
    if phase is not Phase.REFUSED:
        return phase
    for holder in holders:
        history = attribute(holder, "history")
        if is_list(history):
            for hop in history[:_HOPS]:
                if _response_status(hop) in _REDIRECTED_ELSEWHERE:
                    return Phase.UNKNOWN
    return phase


def _class_name(error: BaseException) -> str | None:
    number = plain_int(error.errno) if type(error) is OSError else None
    return word(errno.errorcode.get(number, "OSError") if number is not None else attribute(type(error), "__name__"))


def _message(error: BaseException) -> str | None:
    try:
        text = str(error)
        return clip(text) if text else None
    except Exception:  # noqa: BLE001 - an exception's __str__ may raise anything
        return None
