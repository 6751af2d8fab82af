"""
Failures inside a 200: readers for the ``by_result`` of dialects whose API answers every request that reached it with success.

    graphql_errors   {"data": null, "errors": [{"message", "extensions": {"code"}}]}
    slack_error      {"ok": false, "error": "token_expired"}

What is read is a client's response whose body is in memory, that body itself as text or bytes (ShopifyAPI returns it so), or the mapping
that was parsed from it, as GraphQL clients and SDKs return it.  A response that failed by its status is left to `resilience.reading.shape`,
and any other value is a success.

They run on every success, so nothing is parsed until a search of the raw bytes has found the name of what is looked for.  Inside a JSON
string its quotes would be escaped, so that only names match: in data that merely speaks of errors there is nothing to find.  A body above
64 KiB is a success unread, as one without data is short.  Measured on CPython 3.11, for successes: 4 to 6 µs for a response of 1 KB, 30 to
45 µs for one of 60 KB, whose parsing would take 260, 8 µs for one of 600 KB, about 1 µs for a mapping of any size.

Partial data is a success: the GraphQL specification (7.1.2 and "GraphQL over HTTP", 6.4) has it that execution succeeded, and what is there
is what the caller came for.  It is a failure only if a code among the errors asks to slow down, as the next call would run into the same
limit.  Data of which every root field is null holds nothing, and is no data.

The phase tells whether the peer did work.  Without an entry ``data`` GraphQL raised a "request error", before execution began; yet some
servers answer so to an accident in mid-flight.  So only refusals are believed to be such: too many requests, and a credential that is not
accepted.
"""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import Any, Final

from resilience.outcome import Phase, Signal
from resilience.reading.body_hints import deep_item, members
from resilience.reading.envelope import LARGEST, parsed, read_envelope
from resilience.reading.hints import retry_after
from resilience.reading.peek import attribute, is_bytes, is_mapping, is_text, item, word
from resilience.reading.responses import loaded_body, reader_of
from resilience.reading.shape import REFUSALS, after_redirects

__all__ = ["graphql_errors", "slack_error"]

_FIELDS = 64  # root fields of an operation that are looked at
_ERRORS: Final = ('"errors"',)
_NOT_OK: Final = ('"ok":false', '"ok": false')
# THROTTLED, RATE_LIMITED, RATELIMITED, REQUEST_RATE_LIMITED, TOO_MANY_REQUESTS ...
_SLOWER = r"(?i:.*(?:throttl|rate[ _-]?limit|too[ _-]?many[ _-]?requests).*)"
_REFUSED = REFUSALS | {"UNAUTHENTICATED"}


def graphql_errors(value: object) -> Signal | None:
    """The failure that a GraphQL answer holds; None for a success, partial data included.  Never raises."""
    top = _opened(value, _ERRORS)
    errors = members(item(top, "errors")) if is_mapping(top) else []
    slower = [error for error in errors if _asks_for_less(word(deep_item(error, "extensions", "code")), word(item(error, "type")))]
    if not errors or (not slower and _holds_anything(item(top, "data"))):
        return None
    return _signal(value, {"errors": slower or errors, "extensions": item(top, "extensions")}, began=_has(top, "data"))


def slack_error(value: object) -> Signal | None:
    """The failure that an answer of Slack's holds; None for a success.  Never raises."""
    top = _opened(value, _NOT_OK)
    return _signal(value, top, began=False) if is_mapping(top) and item(top, "ok") is False else None


def _opened(value: object, marks: tuple[str, ...]) -> object:
    """What an answer holds, parsed if it has to be; None if there is nothing in it to be found."""
    if is_mapping(value):
        return value
    if not is_bytes(value) and not is_text(value):
        reader = reader_of(type(value))
        status = None if reader is None else reader(value)
        if status is None or status >= 400:  # noqa: PLR2004 - those are no successes
            return None
        value = loaded_body(value)
    if is_bytes(value):
        return parsed(value) if _short(value) and any(mark.encode() in bytes(value) for mark in marks) else None
    return (parsed(value) if len(value) <= LARGEST and any(mark in value for mark in marks) else None) if is_text(value) else value


def _short(body: bytes | bytearray | memoryview) -> bool:
    try:
        return memoryview(body).nbytes <= LARGEST
    except ValueError:  # a view that was released
        return False


def _asks_for_less(*words: str | None) -> bool:
    return any(found is not None and re.fullmatch(_SLOWER, found) for found in words)


def _holds_anything(data: object) -> bool:
    if not is_mapping(data):
        return data is not None
    try:
        return any(field is not None for field in islice(data.values(), _FIELDS))
    except Exception:  # noqa: BLE001 - a mapping that loads; then it is the caller's success to find out
        return True


def _has(top: Any, name: str) -> bool:
    try:
        return name in top
    except Exception:  # noqa: BLE001 - likewise
        return True


def _signal(value: object, answer: object, *, began: bool) -> Signal:
    """
    What *answer* says.

    Args:
        value: The response it came in, if it did, for the status and the headers.
        answer: The envelope.
        began: Whether some of the work may have been done in any case.
    """
    said = read_envelope(answer)
    slower = _asks_for_less(said.code, said.kind)
    reader = reader_of(type(value))
    status = None if reader is None else reader(value)
    # In a header's terms this is a 429, whatever its status says.
    hint = retry_after(attribute(value, "headers"), wall=math.nan, status=429 if slower else status)
    return Signal(
        status=status,
        code=said.code,
        kind=said.kind,
        message=said.message,
        retry_after=said.retry_after if hint is None else hint,
        phase=after_redirects(Phase.REFUSED if not began and (slower or said.code in _REFUSED) else Phase.UNKNOWN, value),
    )
