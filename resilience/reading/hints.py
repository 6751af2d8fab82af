"""
How long the peer asks us to wait.

A hint is a floor, so a wrong one is worse than none: what is not plainly a number of the unit its header promises, or one of the three
dates that HTTP knows, is no hint at all, and the caller backs off as usual.  A date is compared with the response's own ``Date``, so that
neither a wrong clock here nor one there shortens or stretches the wait.  Nothing here reads a clock, a locale or a time zone.

A header that is repeated says two things.  Whoever waits for the longer obeys both, so the longest of the values that can be read counts.

Reference:
    RFC 9110, 5.6.7 (dates), 6.6.1 (``Date``), 10.2.3 (``Retry-After``).
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable
from typing import Final

import attrs

from resilience.reading.headers import header_values
from resilience.reading.peek import plain_int

__all__ = ["HINTS", "Hint", "http_date", "retry_after", "sane_seconds", "should_retry"]

_SPACE = " \t"
_LONGEST = 512  # characters of one field; several dates fit
# A float holds 15 digits exactly; as seconds, they are thirty million years.
_DECIMAL = r"[0-9]{1,15}(?:\.[0-9]{1,30})?"

_DAYS = "Mon Tue Wed Thu Fri Sat Sun".split()
_MONTHS = {name: number for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)}
_DAY_NAME = "(?:mon(?:day)?|tue(?:sday)?|wed(?:nesday)?|thu(?:rsday)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)"
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_ZONE = r"(?:gmt|utc|ut|z|[+-]0000)"  # all of them mean UTC; any other zone is no HTTP-date
# Compiled when first needed, which is after a failure.
_DATES = (
    f"{_DAY_NAME}, (?P<day>[0-9]{{1,2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} {_ZONE}",  # IMF-fixdate
    f"{_DAY_NAME}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} {_ZONE}",  # RFC 850
    f"{_DAY_NAME} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})",  # asctime: the only one that names no zone
)
# Where repeats were joined: at a comma and a space, save those inside a date.  A comma alone may be a decimal or a thousands mark.
_JOINED = "".join(f"(?<!{day})" for day in [*_DAYS, "day"]) + ", "

_EPOCH = datetime.date(1970, 1, 1).toordinal()
_YEAR = 365.2425 * 86_400


@attrs.frozen
class Hint:
    """
    One family of headers that ask for a wait.

    Args:
        header: The header's name.
        unit: What its number means, in words.
        parse: One value and the peer's present time (unix seconds) to seconds from now, finite and >= 0; None if it cannot be read.
    """

    header: str
    unit: str
    parse: Callable[[str, float], float | None]


def retry_after(headers: object, *, wall: float) -> float | None:
    """
    Seconds from now that the peer asks us to wait.

    Args:
        headers: The response's headers, as the client has them.
        wall: The present time in unix seconds, for dates in a response that has no valid ``Date``.

    Returns:
        Finite seconds >= 0, as the peer has them: 0 for a date that is past, and no matter how many for one that is far ahead, since what
        to do about it is a policy's decision.  None where there is no hint, or none that can be read.
    """
    for hint in HINTS:
        values = _values(headers, hint.header)
        if values:
            now = _now_there(headers, wall)
            waits = [seconds for value in values if (seconds := hint.parse(value, now)) is not None]
            if waits:
                return max(waits)
    return None


def should_retry(headers: object) -> bool | None:
    """The peer's own word on repeating, from ``x-should-retry: true`` or ``false``; None where it gave none, or two."""
    said = {value.lower() for value in _values(headers, "x-should-retry")}
    return {"true": True, "false": False}.get(said.pop()) if len(said) == 1 else None


def http_date(value: str, now: float) -> float | None:
    """
    Unix seconds of an HTTP-date in any of its three forms, always in UTC.

    The name of the day is not checked against the date.

    Args:
        value: ``Sun, 06 Nov 1994 08:49:37 GMT``, ``Sunday, 06-Nov-94 08:49:37 GMT`` or ``Sun Nov  6 08:49:37 1994``.
        now: The present time in unix seconds; decides on the century of a year in two digits.

    Returns:
        None for any other shape, other zones than UTC among them, and for dates that do not exist.
    """
    found = next((match for form in _DATES if (match := re.fullmatch(form, value, re.ASCII | re.IGNORECASE))), None)
    if found is None:
        return None
    year, month, day = int(found["year"]), _MONTHS[found["month"].lower()], int(found["day"])
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"])
    if hour > 23 or minute > 59 or second > 60:  # noqa: PLR2004 - 60 is a leap second
        return None
    seconds = float(hour * 3600 + minute * 60 + second)
    try:
        if len(found["year"]) == 2:  # noqa: PLR2004 - a year in two digits
            # RFC 9110: what seems more than 50 years ahead is the latest year in the past that ends like this.
            latest = 1970 + int(now // _YEAR) + 50
            year = latest - (latest - year) % 100
            if _midnight(year, month, day) + seconds > now + 50 * _YEAR:
                year -= 100
        return _midnight(year, month, day) + seconds
    except (ValueError, OverflowError):  # the 31st of June; a century counted from a clock that shows nonsense
        return None


def sane_seconds(value: object) -> float | None:
    """*value* in seconds if it is a finite number >= 0 or such a `datetime.timedelta`; for errors that carry their hint as an attribute."""
    if issubclass(type(value), datetime.timedelta):
        value = datetime.timedelta.total_seconds(value)  # type: ignore[arg-type]  # a timedelta, by its type
    if type(value) is not float:
        whole = plain_int(value)
        # Whole numbers may be too large for a float.
        value = float(whole) if whole is not None and whole.bit_length() < 64 else math.nan  # noqa: PLR2004
    return value if 0 <= value < math.inf else None


def _values(headers: object, name: str) -> list[str]:
    """The field's values, those that somebody joined taken apart again."""
    fields = (field for field in header_values(headers, name) if len(field) <= _LONGEST)
    return [value.strip(_SPACE) for field in fields for value in re.split(_JOINED, field, flags=re.IGNORECASE)]


def _now_there(headers: object, wall: float) -> float:
    """The time by the peer's clock, if it says so once and clearly, else by ours."""
    dates = {http_date(value, wall) for value in _values(headers, "date")}
    there = dates.pop() if len(dates) == 1 else None
    return wall if there is None else there


def _midnight(year: int, month: int, day: int) -> float:
    return (datetime.date(year, month, day).toordinal() - _EPOCH) * 86_400.0


def _decimal(value: str) -> float | None:
    return float(value) if re.fullmatch(_DECIMAL, value) else None


def _seconds_or_date(value: str, now: float) -> float | None:
    date = http_date(value, now)
    if date is None:
        return _decimal(value)
    ahead = date - now
    return max(0.0, ahead) if math.isfinite(ahead) else None


def _milliseconds(value: str, now: float) -> float | None:  # noqa: ARG001 - every parser is given the time
    milliseconds = _decimal(value)
    return None if milliseconds is None else milliseconds / 1000


HINTS: Final = (
    Hint("retry-after-ms", "milliseconds from now", _milliseconds),
    Hint("retry-after", "seconds from now, or an HTTP-date", _seconds_or_date),
)
"""What is looked for, the most exact first; the first header with a value that can be read decides."""
