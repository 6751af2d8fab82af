"""
The Stripe API, v1 and v2.

Sources, as of 2026: docs.stripe.com, "Errors", "Error codes", "Advanced error handling", "Rate limits", "Idempotent requests", "API v2
overview", "Declines"; stripe-python ``_api_requestor.py`` (how v1 and v2 errors are told apart) and ``_http_client.py`` (what it repeats:
409, 5xx and connection errors, unless told otherwise).

Keys.  A 5xx, a broken connection and a timeout leave it open whether money moved, so that Stripe's advice is to repeat a POST only with the
idempotency key that the first request had.  The engine does no other: such a failure of a POST is repeated once its key was taken.  With v1
the key brings back the answer that was saved under it, a 500 and a declined card included, so that repeating those seldom helps; limits
(429), conflicts (409) and bad API keys (401) are found before anything is saved.

Set-up.  Stripe's Python SDK repeats on its own (``max_network_retries=0`` turns that off), and makes up a key for each call of a method, so
an engine's repeats would each bring another, which protects nothing: hand in ``idempotency_key=current().take_key()``, under an
`IdempotencyKey`.  Most of its errors do not tell the request; say ``using(method="POST")`` for what must not happen twice.

Whose word counts.  ``stripe-should-retry: false`` ends it, whatever the table would do; ``true`` counts where neither code nor type is in
the table, as what it has to say there is certain.  The type ``invalid_request_error`` is not in it, for lock timeouts (429) have it too,
and ``api_error`` says no more than the status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.classify import CodeKey
from resilience.dialects import http
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry

__all__ = ["RULES"]

_ASKED = fail_fast()
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_THEIRS = fail_fast(blames=Blame.PEER)
_BUSY = retry(throttled=True)
_CONTENDED = retry(blames=Blame.CALLER)  # another request of the caller's own is in the way

_CODES: Final[Mapping[CodeKey, Verdict]] = {
    # "Error codes": "make your requests serially or at a lower rate".
    "lock_timeout": retry(throttled=True, blames=Blame.CALLER),
    "rate_limit": _BUSY,  # 429, and 400 in old versions of the API
    "idempotency_key_in_use": _CONTENDED,
    # Limits of a day ("you can try to charge this card again after 24 hours") and of an hour, which no schedule of seconds waits for.
    "card_decline_rate_limit_exceeded": _ASKED,
    "payment_intent_rate_limit_exceeded": _ASKED,
    # The customer is to authenticate, not we.
    "authentication_required": _ASKED,
    "card_declined": _ASKED,
    # Keys are rolled; whoever keeps them has the new one.
    "api_key_expired": refresh_token(),
    "platform_api_key_expired": refresh_token(),
    # The key, its mode or its account is the wrong one.
    "secret_key_required": _KEY,
    "livemode_mismatch": _KEY,
    "testmode_charges_only": _KEY,
    "account_invalid": _KEY,
    "platform_account_required": _KEY,
    # Connect's OAuth (RFC 6749): a code that was used or is too old, a key of somebody else's.
    "invalid_grant": _KEY,
    "invalid_client": _KEY,
}

_KINDS: Final[Mapping[str, Verdict]] = {
    "card_error": _ASKED,  # every decline, by whatever code: the card or its holder has to change
    "idempotency_error": _ASKED,  # the key belongs to another request; a new key would be another payment
    "rate_limit_error": _BUSY,
    # v2, which keeps what v1 has for a code in the type.
    "rate_limit": _BUSY,
    "quota_exceeded": _ASKED,
    "temporary_session_expired": _KEY,
}

RULES: Final = http.RULES.extend(
    "stripe",
    by_code=_CODES,
    by_message={
        # The same as idempotency_key_in_use, where it comes with a type only.
        (409, "another in-progress request using this stripe idempotent key"): _CONTENDED,
        # The SDK has one class for every trouble with the connection.
        "could not verify stripe's ssl certificate": _THEIRS,
    },
    by_kind=_KINDS,
    by_status={
        402: _ASKED,
        409: retry(attempts=3, blames=Blame.CALLER),  # "conflicts with another request"; the SDK's number of tries
        424: _THEIRS,  # something outside of Stripe failed, and may have had effects
        500: retry(attempts=2),  # most likely saved, and the same next time
    },
    by_error={"stripe.APIConnectionError": retry()},
)
"""Stripe: types, and the codes that decide more than their type or status does."""
