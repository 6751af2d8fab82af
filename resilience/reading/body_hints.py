"""
How long an error body asks us to wait.

A number is a hint only where its unit is certain: the field's name says it, or the body is that of an API which documents it.  A bare
``retry_after`` is seconds with Discord, Telegram and Cloudflare, and milliseconds with PluralKit, which answers in Discord's own manner; so
it counts in the bodies of the first three only, known by what they hold beside it.

    Google      {"error": {"details": [{"@type": ".../google.rpc.RetryInfo", "retryDelay": "36.5s"}]}}
    Shopify     {"errors": [{"extensions": {"code": "THROTTLED"}}], "extensions": {"cost": {"requestedQueryCost": 252,
                 "throttleStatus": {"currentlyAvailable": 2, "restoreRate": 50}}}}
    Discord     {"message": "You are being rate limited.", "retry_after": 64.57, "global": false}
    Telegram    {"ok": false, "error_code": 429, "parameters": {"retry_after": 35}}
    Cloudflare  {"type": "...", "status": 429, "cloudflare_error": true, "retryable": true, "retry_after": 30}

Sources: googleapis ``google/rpc/error_details.proto`` and the JSON form of ``google.protobuf.Duration``; shopify.dev, "API limits";
docs.discord.com, "Rate Limits"; core.telegram.org/bots/api, ResponseParameters; Cloudflare's changelog of 2026-03-12; PluralKit's API
documentation, "Rate Limiting".
"""

from __future__ import annotations

import math
import re
from itertools import islice
from typing import Any, Final

from resilience.reading.hints import sane_seconds
from resilience.reading.peek import is_list, is_mapping, item, lacks, plain_int, word

__all__ = ["body_hint", "cost_hint", "deep_item", "details", "members"]

_MEMBERS = 32  # of a list that are looked at
# google.protobuf.Duration: 315,576,000,000 s at most, to the nanosecond.
_DURATION = r"[0-9]{1,12}(?:\.[0-9]{1,9})?s"
_DIGITS = r"[0-9]{1,12}"
_SECOND = 1_000_000_000  # nanoseconds
# Names that say their unit, and what makes seconds of it.
_UNITS: Final = {"retry_after_ms": 1000.0, "retryAfterMs": 1000.0, "retry_after_seconds": 1.0, "retryAfterSeconds": 1.0}
_ERRORS: Final = frozenset({"errors"})
_HINTING: Final = frozenset({"details", "ok", "global", "cloudflare_error", *_UNITS})


def body_hint(fields: Any) -> float | None:
    """Seconds that one mapping of a body asks us to wait, finite and >= 0; None if it does not, or in no known unit."""
    if lacks(fields, _HINTING):
        return None
    asked = [_duration(item(found, name)) for found in details(fields, "RetryInfo") for name in ("retryDelay", "retry_delay")]
    for name, in_a_second in _UNITS.items():
        units = sane_seconds(item(fields, name))
        asked.append(None if units is None else units / in_a_second)
    if item(fields, "ok") is False:
        asked.append(sane_seconds(deep_item(fields, "parameters", "retry_after")))
    if type(item(fields, "global")) is bool or item(fields, "cloudflare_error") is True:
        asked.append(sane_seconds(item(fields, "retry_after")))
    return next((seconds for seconds in asked if seconds is not None), None)


def cost_hint(top: Any) -> float | None:
    """
    Seconds until a throttled GraphQL query can be paid for: what it lacks over what comes back each second; None where that is not told.

    A floor, as others draw on the same bucket.
    """
    if lacks(top, _ERRORS) or not any(
        word(deep_item(error, "extensions", "code")) == "THROTTLED" for error in members(item(top, "errors"))
    ):
        return None
    cost = deep_item(top, "extensions", "cost")
    requested, available, restored = (
        _number(deep_item(cost, *names))
        for names in (("requestedQueryCost",), ("throttleStatus", "currentlyAvailable"), ("throttleStatus", "restoreRate"))
    )
    if requested is None or available is None or restored is None or restored <= 0:
        return None
    return sane_seconds(max(0.0, requested - available) / restored)


def details(fields: Any, name: str) -> list[Any]:
    """The messages ``google.rpc.<name>`` among an error's details."""
    known = f"google.rpc.{name}"
    return [one for one in members(item(fields, "details")) if (word(item(one, "@type")) or "").rpartition("/")[2] == known]


def members(value: object) -> list[Any]:
    """The mappings among the first members of *value*, if it is a list; of anything else, none."""
    try:
        return list(filter(is_mapping, islice(value, _MEMBERS))) if is_list(value) else []
    except Exception:  # noqa: BLE001 - a list of somebody else's may load on the way
        return []


def deep_item(fields: object, *names: str) -> Any:
    """The item that *names* lead to, through mappings all the way; None where they do not."""
    for name in names:
        fields = item(fields, name) if is_mapping(fields) else None
    return fields


def _duration(value: object) -> float | None:
    """Seconds of a protobuf duration, in either of its forms: ``"1.5s"``, ``{"seconds": "1", "nanos": 500000000}``."""
    text = word(value)
    if text is not None:
        return float(text[:-1]) if re.fullmatch(_DURATION, text) else None
    parts = [deep_item(value, "seconds"), deep_item(value, "nanos")]
    if all(part is None for part in parts):
        return None
    # What is zero may be left out, and what may need 64 bits is text in JSON.
    whole, nanos = (0.0 if part is None else sane_seconds(_whole(part)) for part in parts)
    return None if whole is None or nanos is None or nanos >= _SECOND else whole + nanos / _SECOND


def _whole(value: object) -> int | None:
    text = word(value)
    return plain_int(value) if text is None else int(text) if re.fullmatch(_DIGITS, text) else None


def _number(value: object) -> float | None:
    if type(value) is float:
        return value if math.isfinite(value) else None
    whole = plain_int(value)
    return float(whole) if whole is not None and whole.bit_length() < 64 else None  # noqa: PLR2004 - larger ones may be too large for a float
