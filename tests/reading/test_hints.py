"""How long the peer asks us to wait: D3, B20 to B27, and the eighth line of the rivals' list."""

from __future__ import annotations

import datetime
import email.message
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.reading.hints import HINTS, http_date, retry_after, sane_seconds, should_retry

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date in all of RFC 9110's examples


def hint(value: str, **others: str) -> float | None:
    return retry_after({"Retry-After": value, **{name.replace("_", "-"): text for name, text in others.items()}}, wall=NOW)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("120", 120.0),
        ("1.5", 1.5),
        ("0.25", 0.25),
        ("0.6299999952316284", 0.6299999952316284),
        ("007", 7.0),
        (" \t43 ", 43.0),
    ],
)
def test_a_number_is_that_many_seconds(value: str, seconds: float) -> None:
    assert seconds == hint(value)


@pytest.mark.parametrize(("value", "seconds"), [("3600", 3600.0), ("86400", 86_400.0), ("9999999999", 9_999_999_999.0)])
def test_a_long_wait_is_reported_as_it_is(value: str, seconds: float) -> None:
    """B24: what to do about it is a policy's decision, so it is neither cut short nor dropped here."""
    assert seconds == hint(value)


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "-1",
        "-0",
        "-0.5",
        "+5",
        "nan",
        "NaN",
        "inf",
        "-inf",
        "Infinity",
        "1e9",
        "1e400",
        "0x10",
        "1_000",
        "9" * 16,
        "9" * 400,
        "0" * 400,
        "1." + "0" * 400,
        "1.",
        ".5",
        "1.2.3",
        "1,5",
        "1,500",
        "5 s",
        "5s",
        "2 minutes",
        "soon",
        "null",
        "true",
        "[5]",
        "\u0665",  # Arabic five: str.isdigit() and float() both take it
        "\uff15",  # full-width five
        "\u00b2",
        "5\u00a0",
        "5\x00",
        "5\n5",
    ],
)
def test_nonsense_is_no_hint(value: str) -> None:
    """B22, B25: falling back to our own backoff is right; NaN, an overflow or a hot loop is not."""
    assert hint(value) is None


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:51:37 GMT",
        "Sun, 6 Nov 1994 08:51:37 GMT",
        "sun, 06 nov 1994 08:51:37 gmt",
        "Sun, 06 Nov 1994 08:51:37 UTC",
        "Sun, 06 Nov 1994 08:51:37 -0000",
        "Sun, 06 Nov 1994 08:51:37 +0000",
        "Sun, 06 Nov 1994 08:51:37 Z",
        "Sunday, 06-Nov-94 08:51:37 GMT",
        "Sun, 06-Nov-94 08:51:37 GMT",
        "Sun Nov  6 08:51:37 1994",
        "Sun Nov 06 08:51:37 1994",
        "Mon, 06 Nov 1994 08:51:37 GMT",  # it was a Sunday; the date is clear all the same
    ],
)
def test_each_form_of_date_is_read_as_utc(value: str) -> None:
    """B21: `-0000` and asctime name no zone, and HTTP knows but one."""
    assert 120.0 == hint(value)


@pytest.mark.parametrize(
    "value",
    [
        "Sun, 06 Nov 1994 08:51:37",
        "Sun, 06 Nov 1994 08:51:37 +0200",
        "Sun, 06 Nov 1994 08:51:37 EST",
        "Sun, 06 Nov 1994 08:51:37 CET",
        "06 Nov 1994 08:51:37 GMT",
        "Sun, 06-Nov-94 08:51:37",
        "Sun Nov 06 08:51:37 1994 EST",
        "1994-11-06T08:51:37Z",
        "1994-11-06 08:51:37",
        "Sun, 31 Jun 1994 08:51:37 GMT",
        "Sun, 00 Nov 1994 08:51:37 GMT",
        "Sun, 06 Nov 0000 08:51:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:51:61 GMT",
        "Sun, 06 Nom 1994 08:51:37 GMT",
        "So, 06 Nov 1994 08:51:37 GMT",
        "Sun, 06 Nov 1994 08:51:37 GMT+1",
        "Sun, 06 Nov \u0661\u0669\u0669\u0664 08:51:37 GMT",
        "\u017fun, 06 Nov 1994 08:51:37 GMT",  # a long s, which ignoring case would take for one
    ],
)
def test_other_shapes_of_date_are_no_hint(value: str) -> None:
    """B21: a date whose zone has to be guessed is hours off more often than not."""
    assert hint(value) is None


def test_a_leap_second_is_a_second() -> None:
    assert http_date("Sun, 01 Jan 2017 00:00:00 GMT", NOW) == http_date("Sat, 31 Dec 2016 23:59:60 GMT", NOW)


def test_a_past_date_means_no_wait() -> None:
    """B23: zero; that this is no hot loop is the backoff's business, which a hint only ever lengthens."""
    assert 0.0 == hint("Sun, 06 Nov 1994 08:49:36 GMT")
    assert 0.0 == hint("Thu, 01 Jan 1970 00:00:00 GMT")


def test_a_date_in_2099_is_reported_as_it_is() -> None:
    """B24."""
    assert 4_102_444_799.0 - NOW == hint("Thu, 31 Dec 2099 23:59:59 GMT")


def test_the_peers_own_clock_corrects_a_date() -> None:
    """D3: two minutes are two minutes, however far apart the clocks are."""
    assert 120.0 == hint("Wed, 21 Oct 2015 07:30:00 GMT", Date="Wed, 21 Oct 2015 07:28:00 GMT")
    assert 120.0 == hint("Thu, 01 Jan 1970 00:02:00 GMT", Date="Thu, 01 Jan 1970 00:00:00 GMT")
    assert 120.0 == hint("Wednesday, 21-Oct-15 07:30:00 GMT", date="Wed Oct 21 07:28:00 2015")


@pytest.mark.parametrize(
    "date", ["", "today", "Wed, 21 Oct 2015 07:28:00 EST", "Wed, 21 Oct 2015 07:28:00 GMT, Wed, 21 Oct 2015 07:29:00 GMT"]
)
def test_our_clock_serves_where_the_peers_is_not_clear(date: str) -> None:
    assert 120.0 == hint("Sun, 06 Nov 1994 08:51:37 GMT", Date=date)


def test_a_date_that_is_repeated_word_for_word_is_clear() -> None:
    assert 120.0 == hint("Wed, 21 Oct 2015 07:30:00 GMT", Date="Wed, 21 Oct 2015 07:28:00 GMT, Wed, 21 Oct 2015 07:28:00 GMT")


def test_seconds_do_not_depend_on_any_clock() -> None:
    """B19."""
    headers = {"Retry-After": "7", "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}

    assert {7.0} == {retry_after(headers, wall=wall) for wall in (0.0, -1e18, 1e300, math.nan, math.inf, NOW)}


@pytest.mark.parametrize("wall", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("value", ["Sun, 06 Nov 1994 08:51:37 GMT", "Sunday, 06-Nov-94 08:51:37 GMT"])
def test_a_date_against_a_clock_that_shows_nonsense_is_no_hint(wall: float, value: str) -> None:
    assert retry_after({"retry-after": value}, wall=wall) is None


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


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata", "Pacific/Kiritimati", "Nowhere/AtAll-13:37"])
def test_dates_do_not_depend_on_the_time_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """B20: urllib3 once read 14,564 seconds where 120 were meant."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        seen = {hint(value) for value in ("Sun, 06 Nov 1994 08:51:37 GMT", "Sunday, 06-Nov-94 08:51:37 GMT", "Sun Nov  6 08:51:37 1994")}
    finally:
        monkeypatch.undo()
        time.tzset()

    assert {120.0} == seen


def test_dates_do_not_depend_on_the_locale() -> None:
    """B20: month names are English on the wire, whatever they are here."""
    code = (
        "import locale, sys; sys.path.insert(0, sys.argv[1])\n"
        "for name in ('de_DE.UTF-8', 'tr_TR.UTF-8', 'C'):\n"
        "    try: locale.setlocale(locale.LC_ALL, name)\n"
        "    except locale.Error: continue\n"
        "    from resilience.reading.hints import retry_after\n"
        f"    assert 120 == retry_after({{'retry-after': 'Sun, 06 Nov 1994 08:51:37 GMT'}}, wall={NOW})\n"
    )
    root = Path(__file__).parents[2]
    run = subprocess.run([sys.executable, "-c", code, str(root)], env={**os.environ, "TZ": "Asia/Tokyo"}, check=False)

    assert run.returncode == 0


def test_milliseconds_win_over_seconds() -> None:
    assert 1.5 == retry_after({"retry-after": "5", "retry-after-ms": "1500"}, wall=NOW)
    assert 0.0005 == retry_after({"Retry-After-Ms": "0.5"}, wall=NOW)


@pytest.mark.parametrize("value", ["", "-1", "nan", "soon", "9" * 400, "Sun, 06 Nov 1994 08:51:37 GMT"])
def test_milliseconds_that_cannot_be_read_leave_the_seconds(value: str) -> None:
    assert 5.0 == retry_after({"retry-after": "5", "retry-after-ms": value}, wall=NOW)


def test_every_parser_names_its_unit() -> None:
    """B27: a reset header was read in the wrong unit because nothing said which it was."""
    assert {"retry-after": "seconds from now, or an HTTP-date", "retry-after-ms": "milliseconds from now"} == {
        hint.header: hint.unit for hint in HINTS
    }


def twice(first: str, second: str) -> dict[str, object]:
    message = email.message.Message()
    message["Retry-After"] = first
    message["retry-after"] = second
    pairs = [("Retry-After", first), ("retry-after", second)]
    return {
        "httpx": httpx.Headers(pairs),
        "httpx2": httpx2.Headers(pairs),
        "joined": {"retry-after": f"{first}, {second}"},
        "message": message,
        "pairs": pairs,
        "raw": [(name.lower().encode(), value.encode()) for name, value in pairs],
    }


CLIENTS = ["httpx", "httpx2", "joined", "message", "pairs", "raw"]
LATER = "Sun, 06 Nov 1994 08:51:37 GMT"


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    ("first", "second", "seconds"),
    [
        ("5", "5", 5.0),
        ("5", "7", 7.0),
        ("7", "5", 7.0),
        ("0", "30", 30.0),
        ("-1", "5", 5.0),
        ("5", "soon", 5.0),
        ("nan", "soon", None),
        (LATER, LATER, 120.0),
        (LATER, "5", 120.0),
        ("600", LATER, 600.0),
        ("Sunday, 06-Nov-94 08:50:37 GMT", LATER, 120.0),
        ("Sun Nov  6 08:50:37 1994", LATER, 120.0),
    ],
)
def test_of_two_values_the_longer_counts(client: str, first: str, second: str, seconds: float | None) -> None:
    """B25: two peers in a row each said their word, and whoever waits for the longer obeys both."""
    assert seconds == retry_after(twice(first, second)[client], wall=NOW)


def test_a_field_of_endless_length_is_no_hint() -> None:
    assert hint(", ".join(["5"] * 1000)) is None


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("true", True),
        ("false", False),
        (" TRUE\t", True),
        ("False", False),
        ("", None),
        ("1", None),
        ("yes", None),
        ("true, true", True),
        ("true, false", None),
    ],
)
def test_the_peers_own_word_is_yes_or_no_or_nothing(value: str, word: bool | None) -> None:
    assert word is should_retry({"X-Should-Retry": value})


def test_a_peer_that_says_nothing_has_said_nothing() -> None:
    assert should_retry({}) is None
    assert should_retry(None) is None
    assert retry_after({}, wall=NOW) is None
    assert retry_after(None, wall=NOW) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (0, 0.0),
        (3, 3.0),
        (1.5, 1.5),
        (datetime.timedelta(minutes=2), 120.0),
        (-1, None),
        (-0.1, None),
        (datetime.timedelta(seconds=-1), None),
        (math.nan, None),
        (math.inf, None),
        (10**400, None),
        (True, None),
        ("3", None),
        (None, None),
    ],
)
def test_an_attribute_is_a_hint_if_it_is_a_sane_number(value: object, seconds: float | None) -> None:
    assert seconds == sane_seconds(value)


TEXTS = st.one_of(
    st.text(max_size=80),
    st.from_regex(r"[-+0-9.,eE_ ]{0,30}", fullmatch=True),
    st.datetimes().map(lambda date: date.strftime("%a, %d %b %Y %H:%M:%S GMT")),
    st.datetimes().map(lambda date: date.strftime("%A, %d-%b-%y %H:%M:%S GMT")),
    st.datetimes().map(lambda date: date.strftime("%a %b %d %H:%M:%S %Y")),
    st.lists(st.floats() | st.integers(), min_size=1, max_size=4).map(lambda numbers: ", ".join(map(str, numbers))),
)
NAMES = st.sampled_from(["retry-after", "Retry-After", "retry-after-ms", "date", "Date", "x-should-retry"])


@given(st.lists(st.tuples(NAMES, TEXTS), max_size=6), st.floats())
def test_whatever_the_headers_a_hint_is_finite_and_not_negative(pairs: list[tuple[str, str]], wall: float) -> None:
    for headers in (pairs, dict(pairs)):
        seconds = retry_after(headers, wall=wall)

        assert seconds is None or 0 <= seconds < math.inf
        assert should_retry(headers) in {None, True, False}


@given(st.integers(0, 4_000_000_000), st.integers(-100_000, 100_000), st.integers(-(10**9), 10**9))
def test_a_date_means_the_same_wait_whatever_the_clocks_show(there: int, ahead: int, skew: int) -> None:
    """D3, B20: only the difference of the peer's two dates counts."""

    def imf(stamp: int) -> str:
        return (datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=stamp)).strftime("%a, %d %b %Y %H:%M:%S GMT")  # noqa: DTZ001

    there += 100_000
    seconds = retry_after({"Retry-After": imf(there + ahead), "Date": imf(there)}, wall=float(there + skew))

    assert max(0, ahead) == seconds


@given(st.integers(0, 4_000_000_000))
def test_the_three_forms_of_one_date_agree(stamp: int) -> None:
    date = datetime.datetime(1970, 1, 1) + datetime.timedelta(seconds=stamp)  # noqa: DTZ001

    read = {
        http_date(date.strftime(form), stamp) for form in ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y")
    }

    assert {float(stamp)} == read


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.binary(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
    )
)
def test_anything_may_stand_where_headers_should(headers: Any) -> None:
    json.dumps([retry_after(headers, wall=NOW), should_retry(headers)])
