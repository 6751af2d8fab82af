"""
What a gRPC error says: its status, its details, and the word of its server on repeating.

The status's name is the kind.  The code is the reason or the quota that the details name, and without them the status's name as well: the
same that `resilience.reading.envelope` finds in the JSON of the same error, since the details are put into that form and read there.
What carries all this has methods in place of attributes; they are called, as the class is known by its name.

How far an RPC got.  Nine statuses say that the server refused it before any work; but a response that is refused for its size is the
answer to work that was done.  ``UNAVAILABLE`` says nothing: grpc's own words for a connection that was refused are no proof, as servers
pass on, word for word, what a call of their own failed with, and grpcio (1.70 to 1.85) marks nowhere whose words they are.  So it is the
adapter, which sees the channel's state, that knows when nothing was sent.  ``ABORTED`` says nothing either: a transaction that was rolled
back has had no effects, but it is only "typically" one.

Sources: gRPC, ``doc/statuscodes.md``; gRFC A6, "Pushback"; googleapis, ``google/rpc/code.proto``, ``status.proto`` and
``error_details.proto``; grpcio 1.70 and 1.85; google-api-core, ``exceptions.py``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, Final

from resilience.outcome import Phase, Signal
from resilience.reading.envelope import read_envelope
from resilience.reading.headers import header_values
from resilience.reading.hints import retry_after
from resilience.reading.peek import attribute, is_error, names, status_of, word
from resilience.reading.wire import Field, fields, messages, number, text

__all__ = ["NOT_SENT", "read"]

NOT_SENT: Final = "_resilience_not_sent"
"""The attribute by which the adapter says of an error that its RPC never left."""

_REFUSED = frozenset(
    {
        "INVALID_ARGUMENT",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "UNAUTHENTICATED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
    }
)
# As C++ and Go, Java, and .NET have it.  Some say it of requests and of responses in the same words.
_TOO_LARGE = r"message (?:larger than|exceeds|exceeds the) max"
_MOST = 256  # pairs of metadata that are looked at
_DETAILS = "grpc-status-details-bin"
_PUSHBACK = "grpc-retry-pushback-ms"
_MILLISECONDS = r"0|[1-9][0-9]{0,9}"  # gRFC A6: "no unnecessary leading zeros" ...
_INT32 = 2**31  # ... "signed 32-bit integer"


def read(error: BaseException) -> Signal | None:
    """
    What *error* says, if it is a `grpc.RpcError` or was made of one by google-api-core.

    Returns:
        None for what has no status of gRPC's, such as one of google-api-core's that came over HTTP.
    """
    rpc, status = error, None
    if "grpc.RpcError" not in names(type(error)):
        held = attribute(error, "response")
        if not is_error(held) or "grpc.RpcError" not in names(type(held)):
            return None
        rpc, status = held, status_of(attribute(error, "code"))
    name = _name_of(_asked(rpc, "code"))
    if name is None:
        return None
    metadata = _pairs(_asked(rpc, "trailing_metadata"))
    said = read_envelope({"error": {"code": 0, "status": name, "message": _asked(rpc, "details"), "details": _details(metadata)}})
    delay, should_retry = _pushback(metadata)
    asked = [seconds for seconds in (delay, said.retry_after) if seconds is not None]
    return Signal(
        status=status,
        code=said.code or name,
        kind=name,
        message=said.message,
        # Both are the server's own; who waits for the longer obeys both.
        retry_after=max(asked) if asked else retry_after(metadata, wall=math.nan),
        phase=_phase_of(rpc, name, said.message),
        should_retry=should_retry,
    )


def _asked(error: BaseException, method: str) -> Any:
    """What a method of the error's answers; None where there is none, or it raises."""
    try:
        return getattr(error, method)()
    except Exception:  # noqa: BLE001 - a stand-in's method may be anything
        return None


def _name_of(code: object) -> str | None:
    """``UNAVAILABLE`` of ``grpc.StatusCode.UNAVAILABLE``."""
    return word(attribute(code, "name")) if "grpc.StatusCode" in names(type(code)) else None


def _phase_of(error: BaseException, name: str, message: str | None) -> Phase:
    if attribute(error, NOT_SENT) is True:
        return Phase.NOT_SENT
    if name not in _REFUSED or (message is not None and re.search(_TOO_LARGE, message)):
        return Phase.UNKNOWN
    return Phase.REFUSED


def _pairs(metadata: Any) -> list[tuple[Any, Any]]:
    """Metadata as a list of pairs; of anything else, none."""
    try:
        return [(key, value) for key, value in islice(metadata, _MOST)]
    except Exception:  # noqa: BLE001 - none, or no pairs
        return []


def _pushback(metadata: list[tuple[Any, Any]]) -> tuple[float | None, bool | None]:
    """
    For how many seconds the server pushes back, and whether it wants a repeat at all; Nones if it does not push back.

    "If the value for pushback is negative or unparseable, then it will be seen as the server asking the client not to retry at all" (A6).
    """
    said = header_values(metadata, _PUSHBACK)
    if not said:
        return None, None
    if len(said) > 1 or not re.fullmatch(_MILLISECONDS, said[0]) or int(said[0]) >= _INT32:
        return None, False
    return int(said[0]) / 1000, True


# The details


def _details(metadata: list[tuple[Any, Any]]) -> list[Mapping[str, Any]]:
    """The details of a `google.rpc.Status`, in the form that they have in JSON."""
    found: list[Mapping[str, Any]] = []
    for key, value in metadata:
        if key == _DETAILS:
            for detail in messages(fields(value), 3):
                name = text(detail, 1) or ""
                shown = _IN_JSON.get(name.rpartition("/")[2])
                if shown is not None:
                    found += [{"@type": name, **shown(inside)} for inside in messages(detail, 2)]
    return found


def _error_info(found: list[Field]) -> Mapping[str, Any]:
    entries = messages(found, 3)
    return {"reason": text(found, 1), "metadata": {text(entry, 1): text(entry, 2) for entry in entries}}


def _retry_info(found: list[Field]) -> Mapping[str, Any]:
    delays = messages(found, 1)
    return {"retryDelay": {"seconds": number(delays[-1], 1), "nanos": number(delays[-1], 2)}} if delays else {}


def _quota_failure(found: list[Field]) -> Mapping[str, Any]:
    return {"violations": [{"quotaId": text(one, 5)} for one in messages(found, 1)]}


_IN_JSON: Final = {
    "google.rpc.ErrorInfo": _error_info,
    "google.rpc.RetryInfo": _retry_info,
    "google.rpc.QuotaFailure": _quota_failure,
}
