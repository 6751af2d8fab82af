"""Whether to repeat, and when: one pure function, tried from every side."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.decide.retry import GiveUp, OverLimit, RetryIn, decide, spread_hint
from resilience.outcome import Phase

LAST = math.nextafter(1.0, 0.0)


def decided(**readings: Any) -> RetryIn | GiveUp:
    """The decision after a first, harmless failure with every limit far away, but for what is said."""
    usual: dict[str, Any] = {
        "tries": 1,
        "attempts": 3,
        "repeats_left": math.inf,
        "tries_of_rule": 1,
        "cap_of_rule": None,
        "phase": Phase.UNKNOWN,
        "repeatable": True,
        "backoff": 1.0,
        "hint": None,
        "max_server_delay": 60.0,
        "over_limit": "fail",
        "draw": 0.0,
        "time_left": math.inf,
    }
    return decide(**{**usual, **readings})


class TestTheNumberOfAttempts:
    @pytest.mark.parametrize("attempts", [1, 2, 3, 7])
    def test_counts_the_first_one(self, attempts: int) -> None:
        """D36, B56."""
        decisions = [decided(tries=tries, attempts=attempts) for tries in range(1, attempts + 2)]

        assert [RetryIn(1.0, "backoff")] * (attempts - 1) + [GiveUp("attempts")] * 2 == decisions

    def test_is_bounded_by_what_an_enclosing_call_still_allows(self) -> None:
        """D9."""
        assert RetryIn(1.0, "backoff") == decided(repeats_left=1)
        assert GiveUp("attempts") == decided(repeats_left=0)
        assert GiveUp("attempts") == decided(repeats_left=-1)

    def test_is_bounded_by_the_cap_of_the_rule(self) -> None:
        """D30."""
        assert RetryIn(1.0, "backoff") == decided(tries=2, attempts=9, tries_of_rule=1, cap_of_rule=2)
        assert GiveUp("attempts") == decided(tries=2, attempts=9, tries_of_rule=2, cap_of_rule=2)
        assert GiveUp("attempts") == decided(cap_of_rule=1)


class TestSafety:
    @pytest.mark.parametrize(
        ("phase", "repeatable", "repeats"),
        [
            (Phase.UNKNOWN, False, False),
            (Phase.UNKNOWN, True, True),
            (Phase.REFUSED, False, True),
            (Phase.NOT_SENT, False, True),
        ],
    )
    def test_only_an_unsafe_call_whose_effects_are_unknown_is_not_repeated(self, phase: Phase, repeatable: bool, repeats: bool) -> None:
        """D4."""
        expected = RetryIn(1.0, "backoff") if repeats else GiveUp("unsafe")

        assert expected == decided(phase=phase, repeatable=repeatable)


class TestTheDelay:
    def test_is_the_backoff_where_the_server_says_nothing(self) -> None:
        assert RetryIn(0.7, "backoff") == decided(backoff=0.7)

    def test_is_the_hint_where_that_is_longer(self) -> None:
        """D3: even where the schedule's own cap is shorter."""
        assert RetryIn(43.0, "hint") == decided(backoff=8.0, hint=43.0)

    def test_is_the_backoff_where_the_hint_is_shorter(self) -> None:
        assert RetryIn(8.0, "backoff") == decided(backoff=8.0, hint=2.0)

    def test_is_the_backoff_where_the_server_says_now(self) -> None:
        """B23: zero and past dates are no leave to hammer."""
        assert RetryIn(1.0, "backoff") == decided(hint=0.0)

    def test_spreads_a_hint_upwards_only(self) -> None:
        assert RetryIn(10.5, "hint") == decided(hint=10.0, draw=0.5)

    @pytest.mark.parametrize(
        ("over_limit", "expected"), [("fail", GiveUp("hint")), ("clamp", RetryIn(60.0, "hint")), ("wait", RetryIn(3600.0, "hint"))]
    )
    def test_over_the_limit_is_decided_by_the_user(self, over_limit: OverLimit, expected: object) -> None:
        """D3, B24."""
        assert expected == decided(hint=3600.0, over_limit=over_limit)

    @pytest.mark.parametrize("over_limit", get_args(OverLimit))
    def test_a_hint_of_exactly_the_limit_is_obeyed(self, over_limit: OverLimit) -> None:
        assert RetryIn(60.0, "hint") == decided(hint=60.0, over_limit=over_limit)

    @pytest.mark.parametrize(("over_limit", "hint"), [("fail", 59.0), ("clamp", 59.0), ("clamp", 3600.0), ("wait", 59.0)])
    def test_the_spread_of_a_hint_does_not_pass_the_limit(self, over_limit: OverLimit, hint: float) -> None:
        """Whoever limits a wait to 60 s never waits for 65 of them."""
        assert RetryIn(60.0, "hint") == decided(hint=hint, over_limit=over_limit, backoff=20.0, draw=0.9)

    def test_the_spread_of_a_hint_over_the_limit_is_free(self) -> None:
        assert RetryIn(105.0, "hint") == decided(hint=100.0, over_limit="wait", backoff=20.0, draw=0.5)

    def test_a_limit_of_zero_obeys_no_hint_at_all(self) -> None:
        """B54: zero is a limit, not the absence of one."""
        assert GiveUp("hint") == decided(hint=0.001, max_server_delay=0.0)
        assert RetryIn(1.0, "backoff") == decided(hint=5.0, max_server_delay=0.0, over_limit="clamp")
        assert RetryIn(1.0, "backoff") == decided(hint=0.0, max_server_delay=0.0)

    @pytest.mark.parametrize("hint", [9_999_999_999.0, 1e300])
    def test_an_absurd_hint_fails_at_once(self, hint: float) -> None:
        """B24."""
        assert GiveUp("hint") == decided(hint=hint)


class TestTheTimeLeft:
    def test_a_repeat_that_does_not_fit_is_not_made(self) -> None:
        """D10: a 10 s hint with 5 s left."""
        assert GiveUp("deadline") == decided(hint=10.0, time_left=5.0)
        assert GiveUp("deadline") == decided(backoff=5.0, time_left=5.0)
        assert RetryIn(5.0, "backoff") == decided(backoff=5.0, time_left=5.001)

    @pytest.mark.parametrize("time_left", [0.0, -0.5, -1e9])
    def test_once_it_is_up_nothing_is_repeated(self, time_left: float) -> None:
        """B33, B34: time overdrawn ends the call; it never becomes a delay."""
        assert GiveUp("deadline") == decided(backoff=0.0, time_left=time_left)


seconds = st.floats(0.0, 1e9)
readings = st.fixed_dictionaries(
    {
        "tries": st.integers(1, 10),
        "attempts": st.integers(1, 10),
        "repeats_left": st.one_of(st.just(math.inf), st.integers(0, 10)),
        "cap_of_rule": st.one_of(st.none(), st.integers(1, 5)),
        "phase": st.sampled_from(Phase),
        "repeatable": st.booleans(),
        "backoff": seconds,
        "hint": st.one_of(st.none(), seconds),
        "max_server_delay": st.one_of(seconds, st.just(math.inf)),
        "over_limit": st.sampled_from(get_args(OverLimit)),
        "draw": st.floats(0.0, LAST),
        "time_left": st.one_of(st.just(math.inf), st.floats(-1e9, 1e9)),
    }
)


class TestWhateverTheReadings:
    @given(readings)
    def test_a_delay_is_finite_fits_the_time_and_is_never_below_an_accepted_hint(self, given_: dict[str, Any]) -> None:
        """B25, B26."""
        decision = decided(**given_)
        if isinstance(decision, GiveUp):
            assert decision.reason in {"attempts", "unsafe", "hint", "deadline"}
            return

        hint, limit = given_["hint"], given_["max_server_delay"]
        accepted = 0.0 if hint is None else min(hint, limit) if given_["over_limit"] == "clamp" else hint
        assert math.isfinite(decision.delay)
        assert max(given_["backoff"], accepted) <= decision.delay < given_["time_left"]
        assert given_["tries"] < given_["attempts"]
        if given_["over_limit"] != "wait":
            assert decision.delay <= max(given_["backoff"], limit)
        assert decision.source in {"backoff", "hint"}
        assert (given_["backoff"] == decision.delay) if decision.source == "backoff" else (hint is not None)

    @given(readings)
    def test_the_same_readings_give_the_same_decision(self, given_: dict[str, Any]) -> None:
        assert decided(**given_) == decided(**given_)


@given(seconds, seconds, st.floats(0.0, LAST))
def test_a_spread_hint_lies_between_the_hint_and_a_tenth_more(hint: float, backoff: float, draw: float) -> None:
    assert hint <= spread_hint(hint, backoff, draw) <= 1.1 * hint


def test_a_hint_is_spread_by_its_formula() -> None:
    """hint + draw x min(hint / 10, max(backoff, 0.1))."""
    assert 10.5 == spread_hint(10.0, 5.0, 0.5)
    assert 100.5 == spread_hint(100.0, 1.0, 0.5)
    assert 100.05 == spread_hint(100.0, 0.0, 0.5)
