"""
Gemini: the Gemini API and Gemini on Vertex AI, with both of their ways to name an error.

Sources, as of 2026: "Troubleshooting", "GenerateContent API: API errors", "Interactions API: API errors" and "Rate limits" at
ai.google.dev/gemini-api/docs; "API errors" of generative AI on Vertex AI (docs.cloud.google.com), which asks for two repeats at most.

``generateContent`` and its kin answer like all of Google's APIs (`resilience.dialects.google`): a limit by the minute passes, one by the
day does not, though its `google.rpc.RetryInfo` may ask for no more than seconds.  The Interactions API has codes in lower case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.classify import CodeKey
from resilience.dialects import google
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry
from resilience.reading.sse import error_event

__all__ = ["RULES"]

_ASKED = fail_fast()
_MONEY = fail_fast()  # spent: not to be waited for, and nobody else's trouble
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_BUSY = retry(throttled=True)
_TWICE_MORE = retry(attempts=3)

# "Interactions API: API errors".
_INTERACTIONS: Final[Mapping[CodeKey, Verdict]] = {
    "invalid_request": _ASKED,
    "failed_precondition": _ASKED,
    "out_of_range": _ASKED,
    "parameter_unknown": _ASKED,
    "authentication": refresh_token(),  # missing, invalid or expired
    "payment_required": _MONEY,
    "permission_denied": _KEY,
    "not_found": _ASKED,
    "model_not_found": _ASKED,
    "already_exists": _ASKED,
    "aborted": _ASKED,  # "retry at a higher application level"
    "rate_limit_exceeded": _BUSY,  # by the minute or by the second
    "too_many_requests": _BUSY,
    "quota_exceeded": _ASKED,  # by the day
    "cancelled": _ASKED,
    "api_error": _TWICE_MORE,
    "service_unavailable": _BUSY,
    "deadline_exceeded": retry(attempts=2),
}

_CODES: Final[Mapping[CodeKey, Verdict]] = {
    # "Your prepay credit balance is depleted.  Don't retry this request."
    (402, "RESOURCE_EXHAUSTED"): _MONEY,
    "INTERNAL": _TWICE_MORE,
    "UNKNOWN": _TWICE_MORE,
    "UNAVAILABLE": _BUSY,  # "temporarily overloaded or down"
    **_INTERACTIONS,
}

# ``models/gemini-flash:generateContent`` and the like.  The model runs again, and is paid for again, but nothing is there twice afterwards.
# Batches (``batchGenerateContent``), videos (``predictLongRunning``), files, caches and tuned models are created, and so are interactions,
# which are stored unless the request says otherwise.
_CREATE_NOTHING = (
    ":generateContent",
    ":streamGenerateContent",
    ":countTokens",
    ":computeTokens",
    ":embedContent",
    ":batchEmbedContents",
    ":generateAnswer",
    ":predict",
)


def _creates_nothing(method: str, path: str) -> bool:
    """Generating content, streamed or not, answers, counting tokens, embeddings, and predictions."""
    return method == "POST" and path.endswith(_CREATE_NOTHING)


RULES: Final = google.RULES.extend(
    "gemini",
    by_code=_CODES,
    by_message={
        # The same as the 402 above, as 429: reported by users.
        "credits are depleted": _MONEY,
        # "Quota exceeded for metric: ..., limit: 0": this tier has none of it, today or tomorrow; reported by users.
        (429, "limit: 0"): _ASKED,
    },
    by_kind={"INTERNAL": _TWICE_MORE, "UNKNOWN": _TWICE_MORE, "UNAVAILABLE": _BUSY},
    by_status={503: _BUSY},
    by_item=error_event,
    creates_nothing=_creates_nothing,
)
"""Gemini: Google's, and what the models add."""
