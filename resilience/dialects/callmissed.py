"""
The CallMissed API, both its families of endpoints.

Source: the provider's public documentation (pages: errors, idempotency, rate limits, authentication).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.classify import CodeKey
from resilience.dialects import http
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry

__all__ = ["RULES"]

_KEY = fail_fast(blames=Blame.CREDENTIAL)

_CODES: Final[Mapping[CodeKey, Verdict]] = {
    "invalid_api_key": _KEY,  # unknown or revoked; a key never expires, so there is nothing to refresh
    "token_expired": refresh_token(),
    "insufficient_credits": fail_fast(),
    "budget_exceeded": fail_fast(),
    "permission_denied": _KEY,
    "search_provider_not_allowed": _KEY,
    "domain_not_allowed": _KEY,
    "not_found": fail_fast(),
    "rate_limit_exceeded": retry(throttled=True),
    "provider_error": retry(attempts=3),
}

RULES: Final = http.RULES.extend(
    "callmissed",
    by_code=_CODES,
    # Where the compatible endpoints leave the code null, or their envelope has none, the type has to serve.
    by_kind={"billing_error": fail_fast(), **{str(code): entry for code, entry in _CODES.items()}},
    by_status={
        400: fail_fast(),
        401: refresh_token(),
        402: fail_fast(),
        403: _KEY,
        404: fail_fast(),
        409: fail_fast(),  # a duplicate, or a key replayed with another body: never mended by repeating
        422: fail_fast(),
        429: retry(throttled=True),
        500: retry(attempts=2),
        501: fail_fast(),  # exists, but is not live yet: no fault of the service's health
        503: retry(attempts=3),
    },
)
"""CallMissed: every documented status and code."""
