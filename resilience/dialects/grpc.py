"""
gRPC: what each status calls for, whoever the server is.

Sources, as of 2026: gRPC, ``doc/statuscodes.md`` and the status codes guide (grpc.io); googleapis, ``google/rpc/code.proto``, whose notes
those repeat; gRPC, ``doc/http-grpc-status-mapping.md`` and ``doc/PROTOCOL-HTTP2.md`` for what stands for a broken connection; gRFC A6
(client retries).

A failure's kind is its status, and its code is what the server's details name, which says more (`resilience.reading.grpc_status`).  The
statuses stand among the kinds, so that an entry for a code, or for words of the message, comes before them.  First of all comes pushback,
by which a server says whether it wants a repeat, and when (A6).

Whether an RPC may be repeated after ``UNAVAILABLE``, say, is another question, and that of its phase.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.dialects import http
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry

__all__ = ["RULES"]

_ASKED = fail_fast()
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_THEIRS = fail_fast(blames=Blame.PEER)
_LIMITED = retry(throttled=True, blames=Blame.CALLER)  # as of a 429, the caller's own rate: there is no status to say so
_CONTENDED = retry(blames=Blame.CALLER)
_ONCE_MORE = retry(attempts=2)

_KINDS: Final[Mapping[str, Verdict]] = {
    # "Most likely a transient condition", and what a broken connection, a shutdown, and HTTP's 429, 502, 503 and 504 are turned into.
    "UNAVAILABLE": retry(),
    # The server's own deadline, or that of somebody behind it: the one that the call carries ends the call.
    "DEADLINE_EXCEEDED": retry(),
    "RESOURCE_EXHAUSTED": _LIMITED,  # "perhaps a per-user quota"
    # "Retry at a higher level": for an engine around the whole transaction, which is where it helps.  Contention is nobody's illness.
    "ABORTED": _CONTENDED,
    # "Something is very broken", or a handler raised: a bug, as a rule.  But a stream that was reset in mid-flight is INTERNAL, too, and a
    # proxy's 500 UNKNOWN.  Another try tells.
    "INTERNAL": _ONCE_MORE,
    "UNKNOWN": _ONCE_MORE,
    "DATA_LOSS": _THEIRS,  # "unrecoverable"
    "UNAUTHENTICATED": refresh_token(),  # with no source of tokens configured nobody acts on it, and it fails fast
    "PERMISSION_DENIED": _KEY,
    "CANCELLED": _ASKED,  # "typically by the caller"
    "INVALID_ARGUMENT": _ASKED,
    "NOT_FOUND": _ASKED,
    "ALREADY_EXISTS": _ASKED,
    "FAILED_PRECONDITION": _ASKED,  # "should not retry until the system state has been explicitly fixed"
    "OUT_OF_RANGE": _ASKED,
    "UNIMPLEMENTED": _ASKED,  # a method that the server has not, or has not enabled; it is well
}

RULES: Final = http.RULES.extend(
    "grpc",
    by_message={
        # RESOURCE_EXHAUSTED, but neither a quota nor a load: what is too large stays so.  The words are those of grpc's own libraries.
        "message larger than max": _ASKED,  # C++ and all that is built on it, Go, JavaScript; of requests and of responses
        "message exceeds maximum size": _ASKED,  # Java
        "message exceeds the maximum": _ASKED,  # .NET
        "metadata size exceeds": _ASKED,  # C++
    },
    by_kind=_KINDS,
    word_first=True,
)
"""gRPC: every status; the server's pushback before all of them."""
