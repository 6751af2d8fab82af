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

from resilience.reading.hints import HINTS, Hint, retry_after, sane_seconds, should_retry

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the date in all of RFC 9110's examples
LATER = "Sun, 06 Nov 1994 08:51:37 GMT"


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


@pytest.mark.parametrize("name", ["retry-after-ms", "x-ms-retry-after-ms", "x-amz-retry-after"])
def test_whoever_counts_in_milliseconds_is_read_in_milliseconds(name: str) -> None:
    """B27; the last as botocore's standard mode reads it since 2026."""
    assert 0.12 == retry_after({name: "120"}, wall=NOW) == retry_after({name.upper(): "120", "Retry-After": "1"}, wall=NOW)


RESET = {"64": 64.0, "784111897": 120.0, "784111897000": 120.0, "6m0s": 360.0, "1994-11-06T08:51:37Z": 120.0, "-1": None}
UNITS: dict[str, dict[str, float | None]] = {
    "milliseconds from now": {"1500": 1.5, "0.5": 0.0005, "784111897": 784_111.897, "6m0s": None, "-1": None},
    "seconds from now": {"64": 64.0, "0.65": 0.65, "784111897": 784_111_897.0, "6m0s": None, "-1": None},
    "seconds from now, or an HTTP-date; unix seconds or milliseconds within 31 days": {
        "64": 64.0,
        LATER: 120.0,
        "1994-11-06T08:51:37Z": None,
        "6m0s": None,
        "31557600": 31_557_600.0,
        "784111897": 120.0,
        "784111897000": 120.0,
    },
    "whole seconds from now, in t or reset of each policy": {
        '"default";r=0;t=64': 64.0,
        "limit=9, remaining=0, reset=64": 64.0,
        "64": None,
    },
    "at most 31 days of seconds from now, a duration such as 6m0s, a date, or unix seconds or milliseconds within 31 days": RESET,
    "a date, or unix seconds or milliseconds within 31 days": {**RESET, "64": None, "6m0s": None},
}


@pytest.mark.parametrize("entry", HINTS, ids=lambda entry: entry.header)
def test_every_header_is_read_in_the_unit_that_its_entry_names(entry: Hint) -> None:
    """B27: a reset header was read in the wrong unit because nothing said which it was."""
    beside = {entry.remaining: "0"} if entry.remaining not in {"", entry.header} else {}
    read = {value: retry_after({entry.header: value, **beside}, wall=NOW) for value in UNITS[entry.unit]}

    assert UNITS[entry.unit] == read


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


GITHUB = {"x-ratelimit-limit": "60", "x-ratelimit-used": "60", "x-ratelimit-resource": "core", "x-ratelimit-reset": "784112000"}
OPENAI = {
    "x-ratelimit-limit-requests": "60",
    "x-ratelimit-limit-tokens": "150000",
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-remaining-tokens": "0",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-reset-tokens": "6m0s",
}
ANTHROPIC = {
    "anthropic-ratelimit-requests-remaining": "0",
    "anthropic-ratelimit-requests-reset": "1994-11-06T08:49:40Z",
    "anthropic-ratelimit-tokens-remaining": "12000",
    "anthropic-ratelimit-tokens-reset": "1994-11-06T09:49:37Z",
    "anthropic-ratelimit-input-tokens-remaining": "0",
    "anthropic-ratelimit-input-tokens-reset": "1994-11-06T08:50:07Z",
    "anthropic-ratelimit-output-tokens-remaining": "8000",
    "anthropic-ratelimit-output-tokens-reset": "1994-11-06T08:59:37Z",
    "anthropic-priority-input-tokens-remaining": "0",
    "anthropic-priority-input-tokens-reset": "1994-11-06T12:49:37Z",
}
GITLAB = {"ratelimit-limit": "600", "ratelimit-observed": "601", "ratelimit-remaining": "0", "ratelimit-reset": "784111837"}
CEREBRAS = {
    "x-ratelimit-remaining-requests-day": "14000",
    "x-ratelimit-reset-requests-day": "33011.38",
    "x-ratelimit-remaining-tokens-minute": "0",
    "x-ratelimit-reset-tokens-minute": "11.38",
}
DISCORD = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "784111778.5", "x-ratelimit-reset-after": "1.25"}
DRAFT = {"ratelimit-policy": '"dynamic";q=15;w=60', "ratelimit": '"dynamic";r=0;t=20'}


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({**GITHUB, "x-ratelimit-remaining": "0"}, 223.0, id="GitHub's primary limit"),
        pytest.param({**GITHUB, "x-ratelimit-remaining": "17"}, None, id="GitHub's secondary limit"),
        pytest.param({**GITHUB, "x-ratelimit-remaining": "17", "retry-after": "60"}, 60.0, id="GitHub's secondary limit, in words"),
        pytest.param({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "784111897000"}, 120.0, id="OpenRouter"),
        pytest.param({"x-ratelimit-remaining": "0.0", "x-ratelimit-reset": "58"}, 58.0, id="Reddit"),
        pytest.param(OPENAI, 360.0, id="OpenAI"),
        pytest.param({**OPENAI, "x-ratelimit-remaining-requests": "0", "x-ratelimit-remaining-tokens": "9"}, 1.0, id="OpenAI, requests"),
        pytest.param({**OPENAI, "retry-after-ms": "6250", "retry-after": "7"}, 6.25, id="OpenAI, in words"),
        pytest.param({"x-ratelimit-remaining-project-tokens": "0", "x-ratelimit-reset-project-tokens": "3s"}, 3.0, id="OpenAI, a project"),
        pytest.param({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "2m52.8s"}, 172.8, id="Groq"),
        pytest.param({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "64"}, 64.0, id="Azure OpenAI"),
        pytest.param({"x-ms-retry-after-ms": "100"}, 0.1, id="Azure Cosmos DB"),
        pytest.param(CEREBRAS, 11.38, id="Cerebras"),
        pytest.param(ANTHROPIC, 30.0, id="Anthropic"),
        pytest.param({**ANTHROPIC, "retry-after": "3"}, 3.0, id="Anthropic, in words"),
        pytest.param(GITLAB, 60.0, id="GitLab"),
        pytest.param({**GITLAB, "ratelimit-remaining": "595"}, None, id="GitLab, another limit"),
        pytest.param(
            {"ratelimit-limit": "100", "ratelimit-remaining": "0", "ratelimit-reset": "50"}, 50.0, id="the IETF's draft until 2023"
        ),
        pytest.param({"ratelimit": "limit=100, remaining=0, reset=50"}, 50.0, id="the IETF's draft until 2024"),
        pytest.param(DRAFT, 20.0, id="the IETF's draft"),
        pytest.param({**DRAFT, "ratelimit": '"dynamic";r=15;t=40'}, None, id="the IETF's draft, something left"),
        pytest.param({**DRAFT, "ratelimit": '"dynamic";r=15;t=40', "retry-after": "20"}, 20.0, id="the IETF's draft, in words"),
        pytest.param({"ratelimit-policy": '"dynamic";q=15;w=60'}, None, id="the IETF's draft, policies only"),
        pytest.param(DISCORD, 1.25, id="Discord"),
        pytest.param({"x-rate-limit-remaining": "0", "x-rate-limit-reset": "784112677"}, 900.0, id="X, Okta"),
        pytest.param({"x-rate-limit-remaining": "0", "x-rate-limit-reset": "600000"}, None, id="Prisjakt: milliseconds, or what"),
        pytest.param({"x-amz-retry-after": "500"}, 0.5, id="AWS"),
    ],
)
@pytest.mark.parametrize("status", [None, 403, 429, 500])
def test_the_peers_own_headers_say_when_to_come_again(headers: dict[str, str], status: int | None, seconds: float | None) -> None:
    """D3: by the numbers in their documentation or their answers."""
    skewed = {name: value for name, value in headers.items() if "T" in value or value.startswith("784")}

    assert seconds == retry_after(headers, wall=NOW, status=status)
    assert seconds == retry_after({**headers, "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}, wall=NOW if not skewed else 0.0, status=status)


@pytest.mark.parametrize(("status", "seconds"), [(429, 3.0), (None, None), (403, None), (500, None), (503, None), (529, None)])
@pytest.mark.parametrize("remaining", [{}, {"x-ratelimit-remaining-tokens": "-27689"}, {"x-ratelimit-remaining-tokens": "few"}])
def test_a_reset_beside_nothing_counts_under_429_only(remaining: dict[str, str], status: int, seconds: float | None) -> None:
    """Azure says -27689 of a quota that is overspent, and others -1 of one that does not exist."""
    assert seconds == retry_after({"x-ratelimit-reset-tokens": "3s", **remaining}, wall=NOW, status=status)


def test_a_request_to_wait_that_cannot_be_read_leaves_the_limits() -> None:
    assert 360.0 == retry_after({**OPENAI, "retry-after": "soon"}, wall=NOW)


def test_of_two_resets_beside_one_remaining_the_more_exact_counts() -> None:
    """Discord's clock and ours may be apart; its seconds from now are the same on both."""
    assert 1.25 == retry_after({**DISCORD, "x-ratelimit-reset": "784112000"}, wall=NOW)
    assert 1.5 == retry_after({**DISCORD, "x-ratelimit-reset-after": "soon"}, wall=NOW)


@pytest.mark.parametrize(
    ("remaining", "reset", "seconds"),
    [("0, 0", "30, 60", 60.0), ("0, 5", "30, 60", None), ("0, few", "30, soon", 30.0), ("0", "1994-11-06T08:49:47Z, 5", 10.0)],
)
def test_of_what_two_peers_in_a_row_say_is_left_the_more_counts(remaining: str, reset: str, seconds: float | None) -> None:
    assert seconds == retry_after({"x-ratelimit-remaining": remaining, "x-ratelimit-reset": reset}, wall=NOW)


def test_policies_may_stand_in_several_fields() -> None:
    """RFC 9651, 3.1: the members of a list may be split over as many."""
    headers = [("RateLimit", '"hour";r=0;t=50'), ("ratelimit", '"day";r=0;t=36000')]

    assert 36_000.0 == retry_after(headers, wall=NOW)


def test_the_peers_own_clock_corrects_a_moment() -> None:
    """D3: GitHub's unix seconds, and everybody's dates."""
    headers = {**GITHUB, "x-ratelimit-remaining": "0", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}

    assert {223.0} == {retry_after(headers, wall=wall) for wall in (NOW, NOW + 3600, NOW - 86_400 * 365, 0.0, math.nan)}
    assert retry_after({name: headers[name] for name in headers if name != "Date"}, wall=0.0) is None


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


@pytest.mark.parametrize(
    ("headers", "word"),
    [
        ({"Stripe-Should-Retry": "true"}, True),
        ({"stripe-should-retry": "false"}, False),
        ({"stripe-should-retry": "true", "x-should-retry": "true"}, True),
        ({"stripe-should-retry": "true", "x-should-retry": "false"}, None),
        ({"stripe-should-retry": "false", "x-should-retry": "perhaps"}, None),
    ],
)
def test_stripe_says_it_under_its_own_name(headers: dict[str, str], word: bool | None) -> None:
    assert word is should_retry(headers)


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
STRUCTURED = st.lists(st.sampled_from(['"a"', ";r=0", ";t=1", ";r=", "remaining=0", "reset=1", ", ", "(", ":AA==:", "@1", '"']), max_size=9)
RESETS = st.from_regex(r"([0-9.]{0,4}(h|m|s|ms))*", fullmatch=True) | st.integers(0, 2**42).map(str) | STRUCTURED.map("".join)
NAMES = st.sampled_from(
    ["Date", "x-should-retry", "stripe-should-retry", *(name for hint in HINTS for name in (hint.header, hint.remaining) if name)]
)


@given(
    st.lists(st.tuples(NAMES, st.just("0") | TEXTS | RESETS), max_size=20),
    st.floats() | st.floats(0, 4e9),
    st.sampled_from([None, 429, 503]),
)
def test_whatever_the_headers_a_hint_is_finite_and_not_negative(pairs: list[tuple[str, str]], wall: float, status: int | None) -> None:
    for headers in (pairs, dict(pairs)):
        seconds = retry_after(headers, wall=wall, status=status)

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


class Treacherous(str):
    """Text of a class that has its own idea of everything."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    def lower(self, *_: Any) -> Any:
        raise RuntimeError

    strip = count = isascii = __str__ = lower


def test_text_is_taken_for_what_it_is() -> None:
    headers = [(Treacherous("Retry-After"), Treacherous(" 5 ")), (Treacherous("x-should-retry"), Treacherous("true"))]

    assert 5.0 == retry_after(headers, wall=NOW)
    assert should_retry(headers) is True


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text() | st.binary(), lambda each: st.lists(each) | st.dictionaries(st.text(), each)
    )
)
def test_anything_may_stand_where_headers_should(headers: Any) -> None:
    json.dumps([retry_after(headers, wall=NOW), should_retry(headers)])
