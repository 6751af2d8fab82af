"""
The CallMissed API, both its families of endpoints.

Source, as of 2026: the provider's public documentation (pages: errors, idempotency, rate limits, authentication).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.classify import CodeKey
from resilience.dialects import http
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry

__all__ = ["RULES"]

_ASKED = fail_fast()
_MONEY = fail_fast()  # spent, or not to be spent: not to be waited for, and nobody else's trouble
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_BUSY = retry(throttled=True)

_CODES: Final[Mapping[CodeKey, Verdict]] = {
    "invalid_api_key": _KEY,  # unknown or revoked; a key never expires, so there is nothing to refresh
    "token_expired": refresh_token(),
    "insufficient_credits": _MONEY,
    "budget_exceeded": _MONEY,
    "permission_denied": _KEY,
    "search_provider_not_allowed": _KEY,
    "domain_not_allowed": _KEY,
    "not_found": _ASKED,
    "rate_limit_exceeded": _BUSY,
    "provider_error": retry(attempts=3),
}

RULES: Final = http.RULES.extend(
    "callmissed",
    by_code=_CODES,
    # Where the compatible endpoints leave the code null, or their envelope has none, the type has to serve.
    by_kind={"billing_error": _MONEY, **{str(code): entry for code, entry in _CODES.items()}},
    by_status={
        400: _ASKED,
        401: refresh_token(),
        402: _MONEY,
        403: _KEY,
        404: _ASKED,
        409: _ASKED,  # a duplicate, or a key replayed with another body: never mended by repeating
        422: _ASKED,
        429: _BUSY,
        500: retry(attempts=2),
        501: _ASKED,  # exists, but is not live yet: no fault of the service's health
        503: retry(attempts=3),
    },
)
"""CallMissed: every documented status and code."""
