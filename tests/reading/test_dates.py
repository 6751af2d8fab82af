"""Dates of headers to unix seconds: B20, B21; how a whole response is read is told in test_hints.py."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.reading.dates import http_date, internet_date

NOW = 784_111_777.0  # 1994-11-06T08:49:37Z
ZONES = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes)))


def test_a_leap_second_is_a_second() -> None:
    assert http_date("Sun, 01 Jan 2017 00:00:00 GMT", NOW) == http_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW)


@pytest.mark.parametrize("wall", [1e300, -1e300, 1e14, -1e14])
def test_a_century_cannot_be_counted_from_the_end_of_time(wall: float) -> None:
    assert http_date("Sunday, 06-Nov-94 08:51:37 GMT", wall) is None


@pytest.mark.parametrize(
    ("today", "date", "year"),
    [
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", 1994),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Sunday, 06-Nov-15 08:49:37 GMT", 2015),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Sunday, 06-Nov-64 08:49:37 GMT", 2064),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Sunday, 06-Oct-65 08:49:37 GMT", 2065),
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Sunday, 06-Nov-65 08:49:37 GMT", 1965),  # more than 50 years ahead: the century before
        ("Wed, 21 Oct 2015 07:28:00 GMT", "Sunday, 06-Nov-66 08:49:37 GMT", 1966),
        ("Thu, 31 Dec 2099 23:59:59 GMT", "Friday, 01-Jan-00 00:00:01 GMT", 2100),
    ],
)
def test_two_digits_of_a_year_mean_the_nearest_that_is_not_far_ahead(today: str, date: str, year: int) -> None:
    """RFC 9110, 5.6.7: more than 50 years ahead is the most recent past year with the same digits."""
    now = http_date(today, 0.0)

    assert now is not None
    stamp = http_date(date, now)
    assert stamp is not None
    assert year == datetime.datetime.fromtimestamp(stamp, tz=datetime.UTC).year


@given(st.integers(0, 4_000_000_000))
def test_the_three_forms_of_one_date_agree(stamp: int) -> None:
    date = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=stamp)  # noqa: DTZ001

    read = {
        http_date(date.strftime(form), stamp) for form in ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
    }

    assert {float(stamp)} == read


@pytest.mark.parametrize(
    ("value", "stamp"),
    [
        ("1994-11-06T08:49:37Z", NOW),
        ("1994-11-06T08:49:37+00:00", NOW),
        ("1994-11-06T08:49:37-00:00", NOW),
        ("1994-11-06 08:49:37Z", NOW),
        ("1994-11-06T10:49:37+02:00", NOW),
        ("1994-11-06T03:19:37-05:30", NOW),
        ("1994-11-06T08:49:37.25Z", NOW + 0.25),
        ("1994-11-06T08:49:37.250000000Z", NOW + 0.25),
        ("1970-01-01T00:00:00Z", 0.0),
        ("0001-01-01T00:00:00+23:59", -62_135_683_140.0),
        ("9999-12-31T23:59:59-23:59", 253_402_387_139.0),
    ],
)
def test_an_internet_date_counts_from_its_own_offset(value: str, stamp: float) -> None:
    assert stamp == internet_date(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "1994-11-06",
        "1994-11-06T08:49:37",  # whose time?
        "1994-11-06T08:49:37 UTC",
        "1994-11-06T08:49Z",
        "19941106T084937Z",
        "1994-W44-7T08:49:37Z",
        "1994-11-31T08:49:37Z",
        "1994-11-06T25:49:37Z",
        "1994-11-06T08:49:61Z",
        "1994-11-06T08:49:37+24:00",
        "1994-11-06x08:49:37Z",
        "0000-11-06T08:49:37Z",
        "\u0661994-11-06T08:49:37Z",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "2025-07-08 15:35:40 PDT (summer)",
        "1994-11-06T08:49:37." + "0" * 30 + "Z",
    ],
)
def test_other_shapes_are_no_internet_date(value: str) -> None:
    assert internet_date(value) is None


@given(st.datetimes(timezones=ZONES), st.sampled_from("T "))
def test_an_internet_date_is_the_moment_that_was_written(date: datetime.datetime, separator: str) -> None:
    assert date.timestamp() == internet_date(date.isoformat(separator))


@given(
    st.text(max_size=60) | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?[-+Zz:0-9]{0,6}"), st.floats()
)
def test_whatever_stands_there_a_date_is_a_number_or_none(value: str, now: float) -> None:
    for stamp in (http_date(value, now), internet_date(value)):
        assert stamp is None or abs(stamp) < 1e12
