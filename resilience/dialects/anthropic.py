"""
The Anthropic API, by HTTP and in the error events of its streams.

Sources, as of 2026: the pages "Errors", "Rate limits" and "Streaming messages" at platform.claude.com/docs; the error types (``ErrorType``)
and the error codes (``details.error_code``, one class each) that the Python SDK generates from the API's specification.

The type decides, and the code, where there is one, before it.  There are a hundred codes; the SDK says to treat an unrecognized one as the
bare type, so only those are here of which the type tells too little: the rest have the meaning of their type or status.

Two types are in no table: ``invalid_request_error``, which may come with any 4xx, and ``conflict_error``, some of which are a lock that
will be free and most are not.  The peer's own word (``x-should-retry``) or the status decides; in a stream, which has neither, what no
table knows fails fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.classify import CodeKey, MessageKey
from resilience.dialects import http
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry
from resilience.reading.sse import error_event

__all__ = ["RULES"]

_ASKED = fail_fast()
_MONEY = fail_fast()  # spent, or not to be spent: not to be waited for, and nobody else's trouble
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_BUSY = retry(throttled=True)
_LIMITED = retry(throttled=True, blames=Blame.CALLER)  # the caller's own rate: an error event has no 429 to say so
_ONCE_MORE = retry(attempts=2)  # ran into a limit of ten minutes: what takes that long may well do so again

_CODES: Final[Mapping[CodeKey, Verdict]] = {
    # "Rate limits", "Reaching your spend limit": a ``rate_limit_error`` without ``retry-after``; "retrying fails" until next month.
    "enforced_spend_limit_reached": _MONEY,
    "contract_spend_limit_reached": _MONEY,
    "ramp_limit_exceeded": _LIMITED,  # "retry after the time in the `retry-after` header"
    # 503 and 529.  "Retry the request", in the words of each.
    "compaction_unavailable": _BUSY,
    "cmek_context_unavailable": retry(),
    "cmek_key_unreachable": retry(),
    # 503, but what was sent is stored, and a repeat would store it once more.
    "registration_pending": _ASKED,
    # 409.  Over as soon as something else is; "retry", "send the request again".
    "concurrent_membership_change": retry(),
    "external_key_changed": retry(),
    "scan_pending": retry(),
    "external_key_validation_timed_out": retry(),  # 400: "wait a moment, then send the request again"
    # 400, but it is not the request: the key's owner has gone, or the organization was disabled.
    "claude_code_key_creator_not_member": _KEY,
    "organization_on_hold": _KEY,
}

_MESSAGES: Final[Mapping[MessageKey, Verdict]] = {
    # With 400 ``invalid_request_error``: no type and no code of its own.
    "credit balance is too low": _MONEY,
    # "Rate limits": "You have reached your specified API usage limits", "... your specified workspace API usage limits" (400, on the Claude
    # Code workspace 429), "... your API usage limits: your organization has crossed its monthly API usage threshold" (429).
    "api usage limits": _MONEY,
    # 429, of subscriptions; reported by users.
    "extra usage is required": _MONEY,
    # "Errors", 401: sent from a browser, which no key mends.
    (401, "cors requests are not allowed"): _ASKED,
}

# "Errors", and "Streaming messages", "Error events": ``{"type": "error", "error": {"type": "overloaded_error"}}`` after a 200.
_KINDS: Final[Mapping[str, Verdict]] = {
    "authentication_error": refresh_token(),  # OAuth tokens expire, and keys may; with no source of tokens it fails fast
    "billing_error": _MONEY,
    "permission_error": _KEY,
    "not_found_error": _ASKED,
    "request_too_large": _ASKED,
    "rate_limit_error": _LIMITED,
    "api_error": retry(),
    "timeout_error": _ONCE_MORE,
    "overloaded_error": _BUSY,
    # `ErrorType`: a memory that is not in the state which the request expects.
    "memory_precondition_failed_error": _ASKED,
    "memory_path_conflict_error": _ASKED,
}

# The model runs again, and is paid for again, but nothing is there twice afterwards; a message that continues a thread is refused when sent
# again.  What an MCP connector's tools do elsewhere cannot be told from the path: who hands such servers in says ``repeatable=False``.
# Batches, files, skills, sessions and everything of an organization are created.
_CREATE_NOTHING = ("/v1/messages", "/v1/messages/count_tokens", "/v1/complete")


def _creates_nothing(method: str, path: str) -> bool:
    """Messages, counting their tokens, and text completions."""
    return method == "POST" and f"/{path}".endswith(_CREATE_NOTHING)


RULES: Final = http.RULES.extend(
    "anthropic",
    by_code=_CODES,
    by_message=_MESSAGES,
    by_kind=_KINDS,
    by_status={
        # "Errors": "Resolve the conflict, then retry".  The SDK repeats every 409 as it is, as a lock that timed out.
        409: _ASKED,
        504: _ONCE_MORE,
    },
    by_error={
        "anthropic.APIConnectionError": retry(),
        "anthropic.APITimeoutError": retry(),
        "anthropic.RetryableError": retry(),  # what middleware raises to have the attempt repeated
        "anthropic.APIResponseValidationError": fail_fast(blames=Blame.PEER),
        "anthropic.CredentialsError": _KEY,  # none, or none that can be read, on this machine
        "anthropic.WorkloadIdentityError": _KEY,
    },
    by_item=error_event,
    creates_nothing=_creates_nothing,
)
"""Anthropic: every documented type, and the codes that say more."""
