"""
How long the peer asks us to wait.

A hint is a floor, so a wrong one is worse than none: what is not plainly a delay in the unit of its header is no hint at all, and the
caller backs off as usual.  Dates and unix times are compared with the response's own ``Date``, so that neither a wrong clock here nor one
there shortens or stretches the wait.  Nothing here reads a clock, a locale or a time zone.

What asks for a wait in so many words comes first, in the finest unit first; then the resets of rate limits, as far as
`resilience.reading.limits` lets them count.  A header that is repeated says two things.  Whoever waits for the longer obeys both, so the
longest of the values that can be read counts; and as much as is left by the most generous of those that say what is left.

All headers are walked once, and the work on what is found is bounded: 14 values in fields of 256 characters.

Reference:
    RFC 9110, 5.6.7 (dates), 6.6.1 (``Date``), 10.2.3 (``Retry-After``); draft-ietf-httpapi-ratelimit-headers-11, 7: "Retry-After MUST take
    precedence".  And as each entry of `HINTS` says.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple, TypeAlias

from resilience.reading.dates import http_date
from resilience.reading.delays import milliseconds, moment, reset, seconds, seconds_or_date
from resilience.reading.headers import header_fields
from resilience.reading.limits import Window, policies, until_unspent
from resilience.reading.peek import plain_int

__all__ = ["HINTS", "TELLING", "Hint", "retry_after", "sane_seconds", "should_retry"]

_SPACE = " \t"
_LONGEST = 256  # characters of one field; several dates fit
_MOST = 14  # values in all, where a date counts twice for its comma; Anthropic sends eleven

_NO_MOMENT = 6  # characters: neither a date, nor a number of seconds that could be one, so that nobody needs to know the time

_DAYS = frozenset("mon tue wed thu fri sat sun day".split())  # how what stands before the comma inside a date ends

Parse: TypeAlias = Callable[[str, float], float | None]


class Hint(NamedTuple):  # a class of attrs would be compiled on import
    """
    One header that tells when to come again.

    Args:
        header: The header's name.
        unit: What its value means, in words.
        parse: One value and the peer's present time (unix seconds) to seconds from now, finite and >= 0; None if it cannot be read.
        remaining: The header that tells what is left of the quota whose reset this is; empty for a plain request to wait.
    """

    header: str
    unit: str
    parse: Parse
    remaining: str = ""


_RESET = "at most 31 days of seconds from now, a duration such as 6m0s, a date, or unix seconds or milliseconds within 31 days"
_MOMENT = "a date, or unix seconds or milliseconds within 31 days"

_ASKED: Final = (
    Hint("retry-after-ms", "milliseconds from now", milliseconds),  # OpenAI, Anthropic and Azure, in their SDKs
    Hint("x-ms-retry-after-ms", "milliseconds from now", milliseconds),  # Azure Cosmos DB
    Hint("x-amz-retry-after", "milliseconds from now", milliseconds),  # botocore's standard mode since 2026, and the other AWS SDKs'
    # Unix seconds are against the RFC, and are sent: openclaw/clawhub issue 407, Moneybird.
    Hint("retry-after", "seconds from now, or an HTTP-date; unix seconds or milliseconds within 31 days", seconds_or_date),
)
# Of two resets beside one remaining the first that can be read counts.
_RESETS: Final = (
    Hint("ratelimit", "whole seconds from now, in t or reset of each policy", seconds, "ratelimit"),  # tells itself what is left
    Hint("ratelimit-reset", _RESET, reset, "ratelimit-remaining"),  # the IETF's draft until 2023 (seconds); GitLab (unix seconds)
    Hint("x-ratelimit-reset-after", "seconds from now", seconds, "x-ratelimit-remaining"),  # Discord
    Hint("x-ratelimit-reset", _RESET, reset, "x-ratelimit-remaining"),  # GitHub, OpenRouter, Reddit and everybody else
    # With a second dash only moments: X and Okta send unix seconds, but Alegra seconds from now, Tiendanube and Prisjakt milliseconds.
    Hint("x-rate-limit-reset", _MOMENT, moment, "x-rate-limit-remaining"),
    *(  # OpenAI and those who speak like it (Groq: durations; Azure, Cerebras: seconds, the latter by the minute, the hour and the day)
        Hint(f"x-ratelimit-reset-{of}", _RESET, reset, f"x-ratelimit-remaining-{of}")
        for of in (
            "requests",
            "requests-minute",
            "requests-hour",
            "requests-day",
            "tokens",
            "tokens-minute",
            "tokens-hour",
            "tokens-day",
            "project-tokens",
        )
    ),
    *(  # Without its priority tier: once that is spent, requests go on in the standard one
        Hint(f"anthropic-ratelimit-{of}-reset", _MOMENT, moment, f"anthropic-ratelimit-{of}-remaining")
        for of in ("requests", "tokens", "input-tokens", "output-tokens")
    ),
)
HINTS: Final = (*_ASKED, *_RESETS)
"""What is looked for.  The first plain request to wait that can be read decides; without one, the quotas that are spent."""

_DATE = "date"
_PACING: Final = frozenset([_DATE, *(hint.header for hint in HINTS), *(hint.remaining for hint in _RESETS)])
_SAYING_SO: Final = frozenset({"x-should-retry", "stripe-should-retry"})
TELLING: Final = _PACING | _SAYING_SO
"""The headers that `retry_after` and `should_retry` look for."""


def retry_after(headers: object, *, wall: float, status: int | None = None) -> float | None:
    """
    Seconds from now that the peer asks us to wait.

    Args:
        headers: The response's headers, as the client has them.
        wall: The present time in unix seconds, for dates in a response that has no valid ``Date``.
        status: The response's status, where there is one: under a 429 a reset counts even if nobody says that the quota is spent.

    Returns:
        Finite seconds >= 0, as the peer has them: 0 for a date that is past, and no matter how many for one that is far ahead, since what
        to do about it is a policy's decision.  None where there is no hint, or none that can be read.
    """
    found = header_fields(headers, _PACING, most=_MOST)
    dates = found.pop(_DATE, [])
    if not found:
        return None
    now = None
    for hint in _ASKED:
        if hint.header in found:
            fields = found[hint.header]
            if now is None and max(map(len, fields)) > _NO_MOMENT:
                now = _now_there(dates, wall)
            wait = _most(hint.parse, fields, wall if now is None else now)
            if wait is not None:
                return wait
    return until_unspent(_windows(found, _now_there(dates, wall) if now is None else now), status)


def should_retry(headers: object) -> bool | None:
    """The peer's own word on repeating, ``x-should-retry`` or Stripe's, ``true`` or ``false``; None where it gave none, or two."""
    found = header_fields(headers, _SAYING_SO, most=_MOST)
    if not found:
        return None
    said = {value.lower() for fields in found.values() for value in _values(fields)}
    return {"true": True, "false": False}.get(said.pop()) if len(said) == 1 else None


def sane_seconds(value: object) -> float | None:
    """*value* in seconds if it is a finite number >= 0 or such a `datetime.timedelta`; for errors that carry their hint as an attribute."""
    if issubclass(type(value), datetime.timedelta):
        value = datetime.timedelta.total_seconds(value)  # type: ignore[arg-type]  # a timedelta, by its type
    if type(value) is not float:
        whole = plain_int(value)
        # Whole numbers may be too large for a float.
        value = float(whole) if whole is not None and whole.bit_length() < 64 else math.nan  # noqa: PLR2004
    return value if 0 <= value < math.inf else None


def _windows(found: Mapping[str, list[str]], now: float) -> Iterator[Window]:
    """The quotas that may be spent, each with a reset that can be read."""
    told: set[str] = set()
    for hint in _RESETS:
        if hint.header not in found or hint.remaining in told:
            continue
        fields = found[hint.header]
        rows = _rows(fields) if hint.remaining == hint.header else [(found.get(hint.remaining, []), fields)]
        for remaining, until in rows:
            left = _most(seconds, remaining, now) if remaining else None  # a count is written as seconds are
            if not left:
                wait = _most(hint.parse, until, now)
                if wait is not None:
                    told.add(hint.remaining)
                    yield left, wait


def _rows(fields: list[str]) -> list[tuple[list[str], list[str]]]:
    """What a structured field says, as if in two fields for each policy."""
    return [([] if left is None else [left], [until]) for left, until in policies(", ".join(fields))]


def _most(parse: Parse, fields: list[str], now: float) -> float | None:
    """The largest of the values that can be read."""
    most = None
    for value in _values(fields):
        found = parse(value, now)
        if found is not None and (most is None or found > most):
            most = found
    return most


def _values(fields: list[str]) -> list[str]:
    """The fields' values, those that somebody joined taken apart: at a comma and a space, since a comma alone may be a decimal mark."""
    values: list[str] = []
    for field in fields:
        if len(field) > _LONGEST:
            continue
        if ", " not in field:
            values.append(field.strip(_SPACE))
            continue
        joined = len(values)
        for piece in field.split(", "):
            if len(values) > joined and values[-1][-3:].lower() in _DAYS:
                values[-1] += f", {piece}".rstrip(_SPACE)
            else:
                values.append(piece.strip(_SPACE))
    return values


def _now_there(dates: list[str], wall: float) -> float:
    """The time by the peer's clock, if it says so once and clearly, else by ours."""
    said = {http_date(value, wall) for value in _values(dates)}
    there = said.pop() if len(said) == 1 else None
    return wall if there is None else there
