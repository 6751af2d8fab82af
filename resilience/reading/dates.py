"""
Dates of headers to unix seconds.

HTTP knows three forms, all of them in UTC; JSON APIs that put a date into a header of their own use RFC 3339.  What is in none of these
forms is no date: one whose zone has to be guessed is hours off more often than not.  Nothing here reads a clock, a locale or a time zone.

Reference:
    RFC 9110, 5.6.7; RFC 3339, 5.6.
"""

from __future__ import annotations

import datetime
import re

__all__ = ["http_date", "internet_date"]

_SHORTEST, _LONGEST = 20, 40  # characters; what is shorter or longer needs no closer look

_DAY_NAME = "(?:mon(?:day)?|tue(?:sday)?|wed(?:nesday)?|thu(?:rsday)?|fri(?:day)?|sat(?:urday)?|sun(?:day)?)"
_MONTHS = {name: number for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), start=1)}
_MONTH = f"(?P<month>{'|'.join(_MONTHS)})"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_UTC = r"(?:gmt|utc|ut|z|[+-]0000)"  # all of them mean UTC; any other zone is no HTTP-date
# Compiled when first needed, which is after a failure.  Flags stand inside, since those of the module `re` take longer than the match.
_FLAGS = "(?ai)"
_FIXDATE = f"{_FLAGS}{_DAY_NAME}, (?P<day>[0-9]{{1,2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} {_UTC}"
_RFC_850 = f"{_FLAGS}{_DAY_NAME}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} {_UTC}"
_ASCTIME = f"{_FLAGS}{_DAY_NAME} {_MONTH} (?P<day>[ 0-9][0-9]) {_TIME} (?P<year>[0-9]{{4}})"  # the only one that names no zone

_EPOCH = datetime.date(1970, 1, 1).toordinal()
_YEAR = 365.2425 * 86_400


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
    if not _SHORTEST <= len(value) <= _LONGEST:
        return None
    form = _ASCTIME if "," not in value else _RFC_850 if "-" in value[:16] else _FIXDATE  # "-0000" may stand at the end
    found = re.fullmatch(form, value)
    if found is None:
        return None
    digits, name, day, hour, minute, second = found.group("year", "month", "day", "hour", "minute", "second")
    if hour > "23" or minute > "59" or second > "60":  # a leap second
        return None
    year, month = int(digits), _MONTHS[name.lower()]
    seconds = int(hour) * 3600.0 + int(minute) * 60 + int(second)
    try:
        if len(digits) == 2:  # noqa: PLR2004 - a year in two digits
            # RFC 9110: what seems more than 50 years ahead is the latest year in the past that ends like this.
            latest = 1970 + int(now // _YEAR) + 50
            year = latest - (latest - year) % 100
            if _midnight(year, month, int(day)) + seconds > now + 50 * _YEAR:
                year -= 100
        return _midnight(year, month, int(day)) + seconds
    except (ValueError, OverflowError):  # the 31st of June; a century counted from a clock that shows nonsense
        return None


def internet_date(value: str) -> float | None:
    """
    Unix seconds of a date in the form of RFC 3339, with whatever offset it names.

    Args:
        value: ``1994-11-06T08:49:37Z``, ``1994-11-06T10:49:37.25+02:00``; a space may stand for the ``T``, as the RFC allows.

    Returns:
        None for any other shape, dates without an offset among them, for dates that do not exist, and for leap seconds.
    """
    if not (_SHORTEST <= len(value) <= _LONGEST and value[4:8:3] == "--" and value[10] in "T " and value[13:17:3] == "::"):
        return None
    try:
        date = datetime.datetime.fromisoformat(value)
        return None if date.tzinfo is None else date.timestamp()
    except (ValueError, OverflowError):
        return None


def _midnight(year: int, month: int, day: int) -> float:
    return (datetime.date(year, month, day).toordinal() - _EPOCH) * 86_400.0
