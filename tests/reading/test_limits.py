"""Which rate limit's reset is worth waiting for, and what a `RateLimit` field says."""

from __future__ import annotations

from typing import Any

import http_sf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilience.reading.limits import LONGEST, MOST_STARTS, policies, until_unspent


@pytest.mark.parametrize("status", [None, 200, 403, 429, 500, 503, 529])
def test_a_quota_that_is_spent_is_waited_for_whatever_the_status(status: int | None) -> None:
    assert 30.0 == until_unspent([(0.0, 30.0)], status)


@pytest.mark.parametrize("status", [None, 429])
def test_a_quota_that_is_not_spent_is_no_reason_to_wait(status: int | None) -> None:
    """GitHub's secondary limit answers 429 with thousands left, and a reset that is an hour away."""
    assert until_unspent([(4999.0, 3600.0)], status) is None
    assert until_unspent([], status) is None


@pytest.mark.parametrize(("status", "wait"), [(429, 30.0), (None, None), (200, None), (403, None), (500, None), (503, None), (529, None)])
def test_a_quota_of_which_nobody_says_what_is_left_counts_under_429_only(status: int | None, wait: float | None) -> None:
    assert wait == until_unspent([(None, 30.0)], status)


def test_of_several_spent_quotas_the_longest_counts() -> None:
    """Each of them refuses."""
    assert 60.0 == until_unspent([(0.0, 30.0), (0.0, 60.0), (5.0, 3600.0), (None, 86_400.0)], 429)


def test_of_several_quotas_of_which_nobody_says_what_is_left_the_shortest_is_a_floor() -> None:
    assert 1.0 == until_unspent([(None, 360.0), (None, 1.0), (5.0, 0.5)], 429)


@pytest.mark.parametrize(
    ("field", "rows"),
    [
        # The present form, with the draft's own examples.
        ('"default";r=0;t=30', [("0", "30")]),
        ('"default";r=50;t=0', [("50", "0")]),
        ('"day";r=100;t=36000, "hour";r=0;t=50', [("100", "36000"), ("0", "50")]),
        ('"default";r=0;t=60;pk=:QXBwLTk5OQ==:', [("0", "60")]),
        ('"default";r=0;pk=:dHJpYWwxMjEzMjM=:', []),
        ('  "default"; r=0; t=30', [("0", "30")]),
        ('"default";r=0;t=30;acme-burst=?1;comment="a, b; c"', [("0", "30")]),
        ('"two";r=0;t=1;pk=:cHsdsRa894==:, "that-fit";r=9;t=86400;pk=:cHsdsRa894==:', [("0", "1"), ("9", "86400")]),
        ('"three";r=0;t=1, "that";r=9;t=60, "fit";r=0;t=86400', [("0", "1"), ("9", "60"), ("0", "86400")]),
        # With tokens for names, as in drafts between the two forms.
        ("default;r=0;t=30, burst;r=3;t=0", [("0", "30"), ("3", "0")]),
        # The older form.
        ("limit=100, remaining=0, reset=30", [("0", "30")]),
        ("limit=100, remaining=50, reset=30", [("50", "30")]),
        ("limit=10, reset=1", [(None, "1")]),
        ("limit=100;w=60, remaining=0;comment=1, reset=30;x", [("0", "30")]),
        # Required, and not there, or not what it should be.
        ('"default";t=30;x=0', []),
        ('"default";r=0', []),
        ('"default";r=-1;t=30;x=0', []),
        ('"default";r=0;t=-30', []),
        ('"default";r=0;t=30.5', []),
        ('"default";r=?0;t=30;x=0', []),
        ('"default";r="0";t=30;x=0', []),
        ('"default";r=0;t', []),
        ("limit=100, remaining=0", []),
        ("limit=100, remaining=none, reset=30", [(None, "30")]),
        ("remaining=0, reset=soon", []),
        ("remaining=0, reset=(30)", []),
        ("remaining=0, reset", []),
        ('("default";r=0;t=30)', []),
        # Malformed.
        ("", []),
        ("0", []),
        ("100;w=60", []),
        ('"default";r=0;t=30,', []),
        ('"default;r=0;t=30', []),
        ('"default";r=0;t=30 "b"', []),
        ("limit=100; remaining=0; reset=30", []),
        ("Default;r=0;t=30", []),
        ("r=0;t=@999999999999999", []),
        ('"default";r=0;t=12345678901234.5', []),
        ('"d\u00e9fault";r=0;t=30', []),
        ('"default";r=0;t=\u0663\u0660', []),
    ],
)
def test_a_field_says_what_is_left_of_each_policy(field: str, rows: list[tuple[str | None, str]]) -> None:
    """draft-ietf-httpapi-ratelimit-headers-11, 4 and 7: "Malformed RateLimit header fields MUST be ignored"."""
    assert rows == policies(field)


COUNTS = st.integers(0, 999_999_999_999_999)
NAMES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=12)
EXTRAS = st.dictionaries(
    st.sampled_from(["pk", "x", "acme-burst"]), st.binary(max_size=6) | st.integers(-9, 9) | NAMES | st.booleans(), max_size=1
)


def fits(field: str) -> bool:
    return len(field) <= LONGEST and sum(field.count(start) for start in ",;( %@") <= MOST_STARTS


@given(st.lists(st.tuples(NAMES, st.just(0) | COUNTS, COUNTS, EXTRAS), min_size=1, max_size=3))
def test_a_list_of_policies_is_read_as_it_was_written(written: list[tuple[str, int, int, dict[str, Any]]]) -> None:
    field = http_sf.ser([(name, {"r": left, "t": window, **extras}) for name, left, window, extras in written])

    expected = [(str(left), str(window)) for _, left, window, _ in written]
    assert (expected if fits(field) and "=0" in field else []) == policies(field)


@given(COUNTS, st.none() | COUNTS, COUNTS, st.permutations(["limit", "remaining", "reset"]))
def test_a_dictionary_of_one_policy_is_read_as_it_was_written(limit: int, left: int | None, window: int, order: list[str]) -> None:
    values = {"limit": limit, "remaining": left, "reset": window}
    field = http_sf.ser({key: value for key in order if (value := values[key]) is not None})

    assert [(None if left is None else str(left), str(window))] == policies(field)


PIECES = st.sampled_from(
    [
        *'"a" "b";r=0;t=1 a; ;a =0 =-0 a=0 remaining=0 reset=1 reset=(1 reset;r=0;t=1 (1 ) ()'.split(),
        *'::, :aa== : %"%41" %"%ff" @1 @9999999999999'.split(),
        *'?1 ?0 ?2 1. 1.1 1.2345 123456789012345 1234567890123456 -1 - " \\\\ \\" * A , ; \x00 \x7f \u00e9'.split(),
        *(" ", "\t", ", ", ",\t", "; "),
    ]
)
FIELDS = st.one_of(
    st.lists(PIECES, max_size=40).map("".join),
    st.lists(PIECES, max_size=40).map(lambda pieces: '"a";r=0;t=1' + "".join(pieces)),
    st.tuples(PIECES, st.integers(0, 300)).map(lambda repeated: "reset=1," + repeated[0] * repeated[1]),
    st.text(max_size=200),
)


@given(FIELDS)
def test_whatever_a_field_holds_reading_it_never_raises(field: str) -> None:
    for left, until in policies(field):
        assert left is None or left.isdigit()
        assert until.isdigit()


def test_the_parser_is_never_given_more_than_it_can_read_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes its time by the character, and most where something new begins; benchmarks/hints.py measures how much."""
    given_to_it: list[bytes] = []
    parse = http_sf.parse

    def noting(value: bytes, **options: Any) -> Any:
        given_to_it.append(value)
        return parse(value, **options)

    monkeypatch.setattr(http_sf, "parse", noting)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(FIELDS)
    def try_out(field: str) -> None:
        policies(field)

    try_out()
    policies('"default";r=0;t=1' + ";a" * (MOST_STARTS - 2))  # with as many parameters as may be
    policies('"default";r=0;t=1;a="' + "b" * (LONGEST - 22) + '"')  # and with as many characters

    assert LONGEST >= max(map(len, given_to_it))
    assert MOST_STARTS >= max(sum(field.count(start) for start in b",;( %@") for field in given_to_it)
    assert b'"default";r=0;t=1;a="' + b"b" * (LONGEST - 22) + b'"' == given_to_it[-1]


@pytest.mark.parametrize("field", ['"default";r=0;t=1' + ";a" * 12, '"default";r=0;t=1;a="' + "b" * LONGEST + '"'])
def test_a_field_beyond_the_bounds_says_nothing(field: str) -> None:
    assert [] == policies(field)


@pytest.mark.parametrize("field", ['"default";r=50;t=30', '"hour";r=10;t=60, "day";r=900;t=36000', "garbage"])
def test_a_field_in_which_nothing_is_spent_is_not_parsed(field: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Peers send it with every response."""
    monkeypatch.delattr(http_sf, "parse")

    assert [] == policies(field)


@pytest.mark.parametrize("error", [ValueError, OSError, OverflowError, IndexError])
def test_an_older_parser_may_raise_what_it_likes(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    """http_sf 1.2 lets through what `datetime.fromtimestamp` raises."""

    def failing(value: bytes, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(http_sf, "parse", failing)

    assert [] == policies('"default";r=0;t=1')
