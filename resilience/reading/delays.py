"""
One value of a header to seconds from now.

Each function here takes one value and the peer's present time, and knows one unit.  What is not plainly a number of that unit, or a date
in one of the forms of `resilience.reading.dates`, is no delay: ``None``.  What is past is a delay of 0 seconds.

Resets of rate limits come without a unit.  The same ``X-RateLimit-Reset`` holds seconds from now (Azure, Cerebras, Reddit), unix seconds
(GitHub), unix milliseconds (OpenRouter) or a duration as Go prints it (OpenAI, Groq), and the IETF's ``RateLimit-Reset`` of seconds was
sent as unix seconds by GitLab.  Quotas are hardly ever counted over more than a month.  So a bare number of at most 31 days of seconds is
from now, one that lies within 31 days of the peer's present time is a moment, and any other is nothing.  The two ranges have been apart
since March 1970.  A moment below 10**11 counts seconds (until the year 5138), another milliseconds (since March 1973): where a clock that
was never set shows 1970, today's unix seconds would otherwise pass for milliseconds.  Milliseconds from now cannot be told from seconds,
and are not looked for.
"""

from __future__ import annotations

import math
import re

from resilience.reading.dates import http_date, internet_date

__all__ = ["milliseconds", "moment", "reset", "seconds", "seconds_or_date"]

_MONTH = 31 * 86_400.0  # seconds
_MILLISECONDS = 1e11  # from here on
_WHOLE, _FRACTION = 15, 30  # digits; a float holds 15 exactly, and as seconds they are thirty million years
_PART = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
# The longest unit first.  "6m0s", "1h2m", "20ms"; Go's micro- and nanoseconds are not worth waiting for.
_DURATION = rf"(?=.)(?:{_PART}h)?(?:{_PART}m)?(?:{_PART}s)?(?:{_PART}ms)?"


def seconds(value: str, now: float) -> float | None:  # noqa: ARG001 - every function here is given the time
    """A number of seconds from now."""
    return _number(value)


def milliseconds(value: str, now: float) -> float | None:  # noqa: ARG001 - likewise
    """A number of milliseconds from now."""
    found = _number(value)
    return None if found is None else found / 1000


def seconds_or_date(value: str, now: float) -> float | None:
    """A number of seconds from now, or an HTTP-date; or, as some have it, unix seconds or milliseconds within 31 days of *now*."""
    found = _number(value)
    if found is None:
        return _until(http_date(value, now), now)
    # 56 years, or the moment itself?  Nobody means the former.
    ahead = _near(found, now) if found > _MONTH else None
    return found if ahead is None else ahead


def moment(value: str, now: float) -> float | None:
    """A date of RFC 3339, an HTTP-date, or unix seconds or milliseconds within 31 days of *now*."""
    found = _number(value)
    return _date(value, now) if found is None else _near(found, now)


def reset(value: str, now: float) -> float | None:
    """At most 31 days of seconds from now, a duration, or a `moment`."""
    found = _number(value)
    if found is not None:
        return found if found <= _MONTH else _near(found, now)
    return _duration(value) if value[-1:] in {"h", "m", "s"} else _date(value, now)


def _number(value: str) -> float | None:
    """A number in decimal notation, without a sign or an exponent: finite and >= 0."""
    if not value[:1].isdigit() or not value.isascii():
        return None
    whole, dot, fraction = (value, "", "") if value.isdigit() else value.partition(".")
    if not whole.isdigit() or len(whole) > _WHOLE or (dot and not (fraction.isdigit() and len(fraction) <= _FRACTION)):
        return None
    return float(value)


def _duration(value: str) -> float | None:
    found = re.fullmatch(_DURATION, value)
    if found is None:
        return None
    hours, minutes, whole, thousandths = map(float, found.groups("0"))
    return hours * 3600 + minutes * 60 + whole + thousandths / 1000


def _near(stamp: float, now: float) -> float | None:
    ahead = (stamp if stamp < _MILLISECONDS else stamp / 1000) - now
    return max(0.0, ahead) if abs(ahead) <= _MONTH else None


def _date(value: str, now: float) -> float | None:
    return _until(internet_date(value) if value[:1].isdigit() else http_date(value, now), now)


def _until(stamp: float | None, now: float) -> float | None:
    if stamp is None:
        return None
    ahead = stamp - now
    return max(0.0, ahead) if math.isfinite(ahead) else None
