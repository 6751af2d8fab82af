"""
Shopify's Admin API, GraphQL and REST.

Sources, as of 2026: shopify.dev, "Status and error codes" of the GraphQL Admin API; "API response status and error codes"; "API limits".

A throttled query is answered with 200 and without data, and says what it costs and how fast points come back: the wait is reckoned from
that (`resilience.reading.body_hints`).  A query above the limit for a single one is never affordable, and fails at once.

A shop that is frozen or locked stays so until a person sees to it.  That is the shop's state, and nobody's health: it speaks against no
peer.  Status 783 (the request's JSON is broken) is none that HTTP has, and reads as no status at all.
"""

from __future__ import annotations

from typing import Final

from resilience.dialects import graphql
from resilience.outcome import Blame, fail_fast, retry

__all__ = ["RULES"]

_ASKED = fail_fast()
_SHOP = fail_fast()
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_BUSY = retry(throttled=True)
_LIMITED = retry(throttled=True, blames=Blame.CALLER)  # as of a 429, the caller's own rate: a 200 does not say so
_ONCE_MORE = retry(attempts=2)

RULES: Final = graphql.RULES.extend(
    "shopify",
    by_code={
        # GraphQL, "Status and error codes", 200 OK.
        "THROTTLED": _LIMITED,
        "ACCESS_DENIED": _KEY,  # "similar to 401", but for want of a scope: an expired token is a 401
        "SHOP_INACTIVE": _SHOP,
        "INTERNAL_SERVER_ERROR": _ONCE_MORE,
        "MAX_COST_EXCEEDED": _ASKED,
    },
    by_status={
        # "API response status and error codes".
        402: _SHOP,  # frozen, until the balance is paid
        403: _KEY,
        409: _ASKED,
        422: _ASKED,
        423: _SHOP,  # locked, for too many requests in the past or for fraud: "Contact support"
        429: _BUSY,
        430: _ASKED,  # "might be malicious": repeating it looks the worse
        500: _ONCE_MORE,  # "Simplify or retry your request"
        501: _ASKED,  # not on this shop's plan
        504: _ONCE_MORE,  # cut off after 10 s: "Try breaking it down"
        530: retry(),  # Cloudflare cannot resolve the origin
        540: retry(),  # "temporarily disabled, and will be back online shortly"
    },
)
"""Shopify's Admin API: every documented status and code."""
