"""One value of a header to seconds from now: B22 to B27."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.reading.delays import milliseconds, moment, reset, seconds, seconds_or_date

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
MONTH = 31 * 86_400
ALL: list[Callable[[str, float], float | None]] = [milliseconds, moment, reset, seconds, seconds_or_date]


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        # Seconds from now: Azure, Cerebras, Reddit.
        ("0", 0.0),
        ("64", 64.0),
        ("26.5", 26.5),
        ("86400", 86_400.0),
        (str(MONTH), float(MONTH)),
        # Unix seconds: GitHub, Discord.
        ("784111897", 120.0),
        ("784111897.25", 120.25),
        # Unix milliseconds: OpenRouter.
        ("784111897000", 120.0),
        ("784111777001", 0.0010000467300415039),  # what a float of that size can hold
        # Durations as Go prints them: OpenAI, Groq.
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("547ms", 0.547),
        ("1h2m", 3720.0),
        ("2m52.8s", 172.8),
        ("12h30m0s", 45_000.0),
        ("1h2m3.5s", 3723.5),
        ("0s", 0.0),
        # Dates.
        ("1994-11-06T08:51:37Z", 120.0),
        ("1994-11-06T10:51:37+02:00", 120.0),
        ("Sun, 06 Nov 1994 08:51:37 GMT", 120.0),
    ],
)
def test_a_reset_says_by_its_shape_and_size_which_unit_it_has(value: str, wait: float) -> None:
    assert wait == reset(value, NOW)


@pytest.mark.parametrize("value", ["784111776", "782000000", "784111776000", "1994-11-06T08:49:36Z", "Sun, 06 Nov 1994 08:49:36 GMT"])
def test_a_reset_that_is_past_means_no_wait(value: str) -> None:
    """B27: one peer's client slept for as many seconds as have passed since 1970."""
    assert 0.0 == reset(value, NOW) == moment(value, NOW)


@pytest.mark.parametrize(
    "value",
    [
        str(MONTH + 1),  # longer than quotas last, and no moment
        "781000000",  # over a month ago
        "787000000",  # over a month ahead
        "1784111897",  # 2026, were it unix seconds
        "784111897000000",  # microseconds
        "9" * 15,
        "9" * 16,
        "-1",
        "+1",
        "1e3",
        "nan",
        "inf",
        "",
        "soon",
        "s",
        "ms",
        "m5s",
        "1d",
        "1m2h",
        "5 s",
        "1h 2m",
        "6M0S",
        "1.s",
        ".5s",
        "-1s",
        "1e3s",
        "9999999999s",
        "880\u00b5s",
        "5us",
        "\u0661s",
        "\u0661",
        "1s\n",
        "1994-11-06T08:51:37",
        "1994-11-06 08:51:37 UTC",
        "Sun Nov 06 1994 09:51:37 GMT+0100 (Central European Standard Time)",
    ],
)
def test_what_is_plainly_in_none_of_these_units_is_no_reset(value: str) -> None:
    """B27: twenty million days, by a unit that was taken for another."""
    assert reset(value, NOW) is None


@pytest.mark.parametrize("value", ["0", "64", "2000", "600000", "6m0s", "20ms"])
def test_a_moment_is_never_a_stretch_of_time(value: str) -> None:
    """Alegra's `X-Rate-Limit-Reset: 2` means seconds, Tiendanube's 2000 and Prisjakt's 600000 milliseconds."""
    assert moment(value, NOW) is None


@pytest.mark.parametrize("now", [math.nan, math.inf, -math.inf, 1e300, -1e300])
@pytest.mark.parametrize("value", ["784111897", "784111897000", "1994-11-06T08:51:37Z", "Sun, 06 Nov 1994 08:51:37 GMT"])
def test_a_moment_needs_a_clock_that_shows_sense(value: str, now: float) -> None:
    assert moment(value, now) in {None, 0.0, 784_111_897.0 - now}
    assert moment(value, math.nan) is None
    assert 64.0 == reset("64", now)


@pytest.mark.parametrize("now", [0.0, 86_400.0, 20 * 86_400.0])
def test_todays_unix_seconds_are_no_milliseconds_of_a_clock_that_was_never_set(now: float) -> None:
    assert reset("1784111897", now) is None
    assert moment("1784111897", now) is None


def test_milliseconds_are_thousandths() -> None:
    assert 1.5 == milliseconds("1500", NOW)
    assert 0.0005 == milliseconds("0.5", NOW)
    assert milliseconds("Sun, 06 Nov 1994 08:51:37 GMT", NOW) is None


def test_seconds_are_seconds_whatever_their_number() -> None:
    assert 784_111_897.0 == seconds("784111897", NOW)
    assert seconds("6m0s", NOW) is None
    assert seconds_or_date("6m0s", NOW) is None


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("784111897", 120.0),
        ("784111897000", 120.0),
        ("784111776", 0.0),
        (str(MONTH), float(MONTH)),
        (str(MONTH + 1), MONTH + 1.0),
        ("31557600", 31_557_600.0),
        ("1784111897", 1_784_111_897.0),
    ],
)
def test_a_delay_that_ends_about_now_since_1970_is_a_moment(value: str, wait: float) -> None:
    """B27: openclaw/clawhub issue 407 and Moneybird send Retry-After in unix seconds, which as a delay are 56 years."""
    assert wait == seconds_or_date(value, NOW)


@pytest.mark.parametrize("now", [math.nan, 0.0])
def test_without_a_clock_a_delay_is_what_it_says(now: float) -> None:
    assert 784_111_897.0 == seconds_or_date("784111897", now)


PARTS = st.none() | st.integers(0, 999)


@given(PARTS, PARTS, PARTS, PARTS)
def test_a_duration_is_the_sum_of_its_parts(hours: int | None, minutes: int | None, whole: int | None, thousandths: int | None) -> None:
    parts = zip((hours, minutes, whole, thousandths), ("h", "m", "s", "ms"), strict=True)
    value = "".join(f"{number}{unit}" for number, unit in parts if number is not None)

    expected = (hours or 0) * 3600 + (minutes or 0) * 60 + (whole or 0) + (thousandths or 0) / 1000
    assert (expected if value else None) == reset(value, NOW)


@given(st.integers(2 * MONTH + 1, 4_000_000_000), st.integers(-MONTH, MONTH))
def test_a_moment_within_a_month_is_told_from_seconds_at_any_time_since_march_1970(now: int, ahead: int) -> None:
    """B27: in unix seconds, as a date and, since March 1973, in milliseconds."""
    date = datetime.datetime.fromtimestamp(now + ahead, tz=datetime.UTC).isoformat()
    values = [str(now + ahead), date, *([str((now + ahead) * 1000)] if now + ahead >= 10**8 else [])]

    assert {float(max(0, ahead))} == {reset(value, float(now)) for value in values}


@given(st.integers(0, MONTH), st.floats(2 * MONTH + 1, 4e9))
def test_seconds_up_to_a_month_are_told_from_moments_at_any_time_since_march_1970(wait: int, now: float) -> None:
    assert float(wait) == reset(str(wait), now)


VALUES = st.one_of(
    st.text(max_size=60),
    st.from_regex(r"[-+0-9.eE ]{0,30}", fullmatch=True),
    st.from_regex(r"([0-9.]{0,12}(h|m|s|ms|us))*", fullmatch=True),
    st.integers(0).map(str),
    st.floats().map(str),
    st.datetimes().map(lambda date: date.isoformat() + "Z"),
    st.datetimes().map(lambda date: date.strftime("%a, %d %b %Y %H:%M:%S GMT")),
)


@given(VALUES, st.floats() | st.floats(0, 4e9))
def test_whatever_stands_there_a_delay_is_finite_and_not_negative(value: str, now: float) -> None:
    for parse in ALL:
        wait = parse(value, now)

        assert wait is None or 0 <= wait < math.inf
