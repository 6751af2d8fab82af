"""
The OpenAI API, by HTTP and in the error events of its streams.

Sources, as of 2026: the guides "Error codes", "Rate limits", "Flex processing", "WebSocket mode", "Migrate to the Responses API" and
"Agents API: errors and recovery" at developers.openai.com; "Troubleshooting API usage and spend limits" at help.openai.com; the
enumerations that the Python SDK generates from the API's specification (``ResponseError``, ``SessionTurnError``, ``OAuthErrorCode``).

A status alone misleads here: money that has run out is a 429, like a rate limit, and the SDK repeats it.  So the code decides, and comes
before the peer's own word (``x-should-retry``) too: what no waiting cures is not repeated even if the peer says so of every 429.

The type ``invalid_request_error`` is in no table.  It comes with 400, 401, 404 and 409 alike, so the status decides; in a stream, which has
none, what no table knows fails fast and blames the caller, which is what it means there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.classify import CodeKey, MessageKey
from resilience.dialects import http
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry
from resilience.reading.sse import error_event

__all__ = ["RULES"]

_ASKED = fail_fast()  # the request is at fault, and stays so
_MONEY = fail_fast()  # there is none left, or no more is allowed to be spent: not to be waited for, and nobody else's trouble
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_BUSY = retry(throttled=True)
_LIMITED = retry(throttled=True, blames=Blame.CALLER)  # the caller's own rate: an error event has no 429 to say so

_CODES: Final[Mapping[CodeKey, Verdict]] = {
    # "Troubleshooting API usage and spend limits": "Retrying these errors won't restore access".
    "insufficient_quota": _MONEY,
    "credit_balance_exhausted": _MONEY,
    "organization_spend_limit_exceeded": _MONEY,
    "organization_usage_limit_exceeded": _MONEY,
    "project_spend_limit_exceeded": _MONEY,
    "billing_hard_limit_reached": _MONEY,  # not in the guides: the images API says so, with a 400
    # "Error codes", "Rate limits" and "Flex processing": wait, and send less.
    "rate_limit_exceeded": _LIMITED,
    "slow_down": _BUSY,
    "server_is_overloaded": _BUSY,
    "resource_unavailable": _BUSY,
    # "Error codes", 401 and 403, in words; these are the codes that come with them.  It is the key, its organization or its project, and
    # a new token mends none of these.
    "invalid_api_key": _KEY,
    "account_deactivated": _KEY,
    "no_organization": _KEY,
    "invalid_organization": _KEY,
    "mismatched_organization": _KEY,
    "mismatched_project": _KEY,
    "ip_not_authorized": _KEY,
    "missing_scope": _KEY,
    "insufficient_permissions": _KEY,
    # `OAuthErrorCode`: the token exchange of workload identities.
    "invalid_grant": _KEY,
    "invalid_subject_token": _KEY,
    # `ResponseError`: what ``response.failed`` and ``error`` events carry.
    "server_error": retry(),
    "vector_store_timeout": retry(),
    "invalid_prompt": _ASKED,
    "data_residency_mismatch": _ASKED,
    "bio_policy": _ASKED,
    "misalignment_policy_violation": _ASKED,
    "image_content_policy_violation": _ASKED,
    "image_too_large": _ASKED,
    "image_too_small": _ASKED,
    "image_parse_error": _ASKED,
    "image_file_too_large": _ASKED,
    "empty_image_file": _ASKED,
    "failed_to_download_image": _ASKED,
    "invalid_image": _ASKED,
    "invalid_image_*": _ASKED,
    "invalid_base64_image": _ASKED,
    # Content filters, of the images API too.
    "content_filter": _ASKED,
    "content_policy_violation": _ASKED,
    "moderation_blocked": _ASKED,
    # Requests that no repeat mends, whatever status a gateway puts them under.
    "context_length_exceeded": _ASKED,
    "string_above_max_length": _ASKED,
    "*_not_found": _ASKED,  # model_not_found, previous_response_not_found, image_file_not_found ...
    "unsupported_*": _ASKED,  # unsupported_parameter, unsupported_value, unsupported_country_region_territory ...
    "invalid_request_error": _ASKED,
    # "WebSocket mode": after 60 minutes; "open a new WebSocket connection and continue".
    "websocket_connection_limit_reached": retry(),
    # "Agents API: errors and recovery", requests.
    "invalid_beta": _ASKED,
    "agent_not_persisted": _ASKED,
    "invalid_otlp_endpoint": _ASKED,
    "invalid_otlp_header": _ASKED,
    "unauthorized": refresh_token(),
    "forbidden": _KEY,
    # `SessionTurnError`: why a turn of an agent failed.
    "billing_not_active": _MONEY,
    "usage_limit_exceeded": _MONEY,
    "session_budget_exceeded": _MONEY,
    "server_overloaded": _BUSY,
    "flex_unavailable": _BUSY,
    "authentication_error": _KEY,
    "connection_failed": retry(),
    "request_timeout": retry(),
    "internal_error": retry(),
    "max_output_tokens": _ASKED,
    "cyber_policy": _ASKED,
    "invalid_request": _ASKED,
    "executor_version_incompatible": _ASKED,
    "active_turn_not_steerable": _ASKED,
    "sandbox_error": fail_fast(blames=Blame.PEER),  # whether another try may help is not said, and it may have had effects
}

_MESSAGES: Final[Mapping[MessageKey, Verdict]] = {
    # "Request too large for gpt-4o ... on tokens per min (TPM): Limit 30000, Requested 36278.  The input or output tokens must be reduced
    # in order to run successfully": with the code and the type of a rate limit, but no minute is long enough.  Reported by users.
    (429, "tokens must be reduced in order to run"): _ASKED,
}

# Where the code is null or new: error objects, and error events inside a stream that began with 200.
_KINDS: Final[Mapping[str, Verdict]] = {
    "insufficient_quota": _MONEY,  # the billing codes share it
    "rate_limit_error": _LIMITED,
    "requests": _LIMITED,  # the limit that was reached, as the type of a ``rate_limit_exceeded``
    "tokens": _LIMITED,
    "service_unavailable_error": _BUSY,
    "server_error": retry(),
    "request_forbidden": _KEY,
    "image_generation_user_error": _ASKED,
}

# What may be sent twice although it is a POST.  The model runs again, and is paid for again, but nothing is there twice afterwards.
#
# A stored chat completion is a record that nothing refers to.  A response is more than that, so ``/responses`` is not here: it is stored
# unless the request says otherwise, is what ``previous_response_id`` continues, adds its items to a ``conversation``, may go on in the
# background, and runs tools of its own.  None of that can be told from the path; who knows that a response does no such thing says
# ``repeatable=True``.  Files, uploads, batches, fine-tuning jobs, threads, assistants, vector stores, videos and conversations are created.
_CREATE_NOTHING = (
    "/completions",  # of chats, and of text
    "/embeddings",
    "/moderations",
    "/audio/speech",
    "/audio/transcriptions",
    "/audio/translations",
    "/images/edits",
    "/images/generations",
    "/images/variations",
    "/responses/input_tokens",
)


def _creates_nothing(method: str, path: str) -> bool:
    """Chat completions, completions, embeddings, moderations, speech, transcriptions, translations, images, and counting tokens."""
    return method == "POST" and f"/{path}".endswith(_CREATE_NOTHING)


RULES: Final = http.RULES.extend(
    "openai",
    by_code=_CODES,
    by_message=_MESSAGES,
    by_kind=_KINDS,
    by_status={
        # "Error codes": "Try to update the resource again".  The SDK repeats it twice, as a lock that timed out.
        409: retry(attempts=3),
        # "Error codes": "Please try the request again", which the SDK does not do.
        422: retry(attempts=2),
        503: _BUSY,  # "The engine is currently overloaded"
    },
    by_error={
        "openai.APIConnectionError": retry(),
        "openai.APITimeoutError": retry(),
        # The SDK could not make of a 200 what was asked for; the model's answer, paid for already, would most likely be cut off again.
        "openai.LengthFinishReasonError": _ASKED,
        "openai.ContentFilterFinishReasonError": _ASKED,
        "openai.APIResponseValidationError": fail_fast(blames=Blame.PEER),
        "openai.SubjectTokenProviderError": _KEY,  # the platform's identity for the token exchange could not be had
    },
    by_item=error_event,
    creates_nothing=_creates_nothing,
)
"""OpenAI: every documented code and type."""
