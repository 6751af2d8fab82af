"""Who renews a credential, who waits, who goes on with what there is: by literal times, without a loop or a clock."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from resilience.decide.credentials import Crash, Credential, Flight, Held, Join, Lead, Refuse, Use


def credential(
    token: str | None = "old",
    *,
    worked: bool = False,
    lease: float = 30.0,
    early: float = 60.0,
    cooldown: float = 15.0,
    per_minute: int = 4,
) -> Credential:
    made = Credential(lease, early, cooldown, per_minute)
    if token is not None:
        made.held = Held(token, 0, owner=made, worked=worked)
    return made


def led(made: Credential, now: float, stale: int | None = 0) -> Flight:
    """The flight that somebody with a stale token starts at *now*."""
    decision = made.ask(now, stale)
    assert isinstance(decision, Lead)
    return decision.flight


def landed(made: Credential, now: float, value: str = "new", expires_in: float | None = None) -> Held:
    held = made.land(led(made, now), value, expires_in, now)
    assert held is not None
    return held


def test_whoever_has_no_stale_token_uses_the_one_there_is() -> None:
    made = credential()

    assert Use(made.held) == made.ask(0.0)  # type: ignore[arg-type]


def test_the_first_with_a_stale_token_leads_and_the_others_join() -> None:
    """D5."""
    made = credential()
    flight = led(made, 0.0)

    assert Join(flight) == made.ask(0.0, 0)
    assert Join(flight) == made.ask(29.9, 0)


def test_while_a_stale_token_is_renewed_newcomers_wait_rather_than_use_it() -> None:
    made = credential()
    flight = led(made, 0.0)

    assert Join(flight) == made.ask(1.0)


def test_whoever_comes_late_with_the_old_token_uses_the_new_one() -> None:
    """D5."""
    made = credential()
    held = landed(made, 0.0)

    assert (1, "new") == (held.generation, held.value)
    assert Use(held) == made.ask(0.0, 0)


def test_without_a_token_the_first_leads() -> None:
    made = credential(None)
    flight = led(made, 0.0, None)

    assert 1 == flight.generation
    assert made.land(flight, "first", None, 1.0) is made.held


def test_a_flight_is_a_lease_after_which_another_may_start() -> None:
    made = credential(lease=30.0)
    first = led(made, 0.0)
    second = led(made, 30.0)

    assert first is not second


def test_of_two_flights_the_first_to_land_wins_and_late_news_replaces_nothing() -> None:
    """B42."""
    made = credential(lease=30.0)
    first, second = led(made, 0.0), led(made, 30.0)
    held = made.land(second, "second", None, 31.0)

    assert made.land(first, "first", None, 40.0) is None
    assert held is made.held


def test_a_flight_that_lands_after_its_lease_is_welcome_if_no_other_has() -> None:
    made = credential(lease=30.0)
    first, second = led(made, 0.0), led(made, 30.0)

    assert made.land(first, "first", None, 31.0) is made.held
    assert second is made.flight
    assert made.land(second, "second", None, 32.0) is None


def test_a_failed_flight_cools_down_for_everyone_and_says_for_how_long() -> None:
    made = credential(cooldown=15.0)
    error = ConnectionError()
    told = made.crashed(led(made, 0.0), Crash("failed", "ConnectionError", error=error), 1.0)

    assert (15.0, error) == (told.retry_after, told.error)
    refused = made.ask(6.0, 0)
    assert isinstance(refused, Refuse)
    assert refused.crash is not None
    assert (10.0, None) == (refused.retry_after, refused.crash.error)  # the error would keep its frames alive
    assert isinstance(made.ask(16.0, 0), Lead)


def test_a_hint_of_the_source_prolongs_the_rest() -> None:
    made = credential(cooldown=15.0)
    made.crashed(led(made, 0.0), Crash("failed", retry_after=40.0), 0.0)

    assert isinstance(made.ask(39.9, 0), Refuse)
    assert isinstance(made.ask(40.0, 0), Lead)


def test_a_hint_of_the_source_is_obeyed_for_an_hour_at_most() -> None:
    """D3: a year would be an outage of our own making."""
    made = credential()
    told = made.crashed(led(made, 0.0), Crash("failed", retry_after=31_536_000.0), 0.0)

    assert 3600.0 == told.retry_after
    assert isinstance(made.ask(3600.0, 0), Lead)


def test_tokens_that_live_briefly_may_be_given_more_flights_a_minute() -> None:
    made = credential(per_minute=6)
    for generation in range(6):
        held = made.land(led(made, generation * 1.0, generation), "t", None, generation * 1.0)
        assert held is not None
        held.worked = True

    assert isinstance(made.ask(6.0, 6), Refuse)


def test_a_flight_that_crashes_after_its_lease_does_not_trouble_the_next() -> None:
    made = credential(lease=30.0)
    first, second = led(made, 0.0), led(made, 30.0)
    made.crashed(first, Crash("timeout"), 31.0)

    assert first.done
    assert Join(second) == made.ask(31.0, 0)


def test_success_ends_the_rest() -> None:
    made = credential(lease=30.0)
    first, second = led(made, 0.0), led(made, 30.0)
    made.crashed(second, Crash("failed"), 31.0)
    held = made.land(first, "first", None, 32.0)

    assert Use(held) == made.ask(32.0, 0)  # type: ignore[arg-type]


def test_a_renewed_token_that_never_worked_is_not_renewed_at_once() -> None:
    """D6."""
    made = credential(cooldown=15.0)
    held = landed(made, 0.0)

    assert Refuse(None, 15.0) == made.ask(0.0, 1)
    held.worked = True
    assert isinstance(made.ask(0.0, 1), Lead)


def test_a_first_token_may_be_a_stale_one_out_of_a_cache() -> None:
    made = credential(None)
    made.land(led(made, 0.0, None), "cached", None, 0.0)

    assert isinstance(made.ask(0.0, 1), Lead)


def test_a_minute_sees_only_four_flights() -> None:
    made = credential()
    for generation in range(4):
        held = made.land(led(made, generation * 10.0, generation), "t", None, generation * 10.0)
        assert held is not None
        held.worked = True

    assert Refuse(None, 20.0) == made.ask(40.0, 4)
    assert isinstance(made.ask(60.0, 4), Lead)


@pytest.mark.parametrize(("expires_in", "early", "renewed_at"), [(3600.0, 60.0, 3540.0), (100.0, 60.0, 50.0), (3600.0, 0.0, 3600.0)])
def test_a_token_is_renewed_ahead_of_its_expiry_but_not_in_the_first_half_of_its_life(
    expires_in: float, early: float, renewed_at: float
) -> None:
    made = credential(early=early)
    held = landed(made, 0.0, expires_in=expires_in)

    assert (renewed_at, expires_in) == (held.renew_at, held.expires_at)
    assert Use(held) == made.ask(renewed_at - 0.1)


def test_a_renewal_ahead_of_time_keeps_nobody_waiting() -> None:
    made = credential(early=60.0)
    held = landed(made, 0.0, expires_in=3600.0)
    held.worked = True
    decision = made.ask(3550.0)

    assert isinstance(decision, Use)
    assert decision.renew is made.flight
    assert Use(held) == made.ask(3551.0)
    assert isinstance(made.ask(3551.0, 1), Join)  # whom the peer has refused waits all the same


def test_a_renewal_ahead_of_time_that_failed_leaves_the_old_token_in_use() -> None:
    made = credential(early=60.0)
    held = landed(made, 0.0, expires_in=3600.0)
    held.worked = True
    renewing = made.ask(3550.0)
    assert isinstance(renewing, Use)
    assert renewing.renew is not None
    made.crashed(renewing.renew, Crash("failed"), 3551.0)

    assert Use(held) == made.ask(3552.0)
    assert isinstance(made.ask(3600.0), Lead)  # but not once it has expired


def test_a_token_whose_life_is_unknown_lasts_until_it_is_refused() -> None:
    held = landed(credential(), 0.0)

    assert (math.inf, math.inf) == (held.renew_at, held.expires_at)


class Tasks(RuleBasedStateMachine):
    """Tasks that ask, fly, land and crash in any order while time passes."""

    def __init__(self) -> None:
        super().__init__()
        self.made = credential(lease=30.0, cooldown=15.0)
        self.now = 0.0
        self.flying: list[Flight] = []
        self.started: list[float] = []
        self.newest = 0

    @rule(seconds=st.floats(0.0, 40.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(back=st.integers(0, 2), fresh=st.booleans())
    def ask(self, back: int, fresh: bool) -> None:
        stale = None if fresh else max(0, self.newest - back)
        decision: Any = self.made.ask(self.now, stale)
        flight = decision.flight if isinstance(decision, Lead) else decision.renew if isinstance(decision, Use) else None
        if flight is not None:
            self.flying.append(flight)
            self.started.append(self.now)
        if isinstance(decision, Use):
            assert stale is None or decision.held.generation > stale
            assert self.now < decision.held.expires_at
        if isinstance(decision, Join):
            assert not decision.flight.done
        if isinstance(decision, Refuse):
            assert decision.retry_after > 0

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 9), expires_in=st.none() | st.floats(1.0, 200.0), worked=st.booleans())
    def land(self, which: int, expires_in: float | None, worked: bool) -> None:
        held = self.made.land(self.flying.pop(which % len(self.flying)), "token", expires_in, self.now)
        if held is not None:
            held.worked = worked
            assert held.generation > self.newest
            self.newest = held.generation

    @precondition(lambda self: self.flying)
    @rule(which=st.integers(0, 9), hint=st.floats(0.0, 100.0))
    def crash(self, which: int, hint: float) -> None:
        told = self.made.crashed(self.flying.pop(which % len(self.flying)), Crash("failed", retry_after=hint), self.now)
        assert told.retry_after >= max(15.0, hint)

    @invariant()
    def no_generation_is_ever_taken_back(self) -> None:
        assert self.made.held is not None
        assert self.newest == self.made.held.generation

    @invariant()
    def no_minute_sees_more_than_four_flights(self) -> None:
        assert all(later - earlier >= 60.0 for earlier, later in zip(self.started, self.started[4:], strict=False))

    @invariant()
    def what_is_under_way_is_not_done(self) -> None:
        assert self.made.flight is None or not self.made.flight.done


TestTasks = Tasks.TestCase
TestTasks.settings = settings(max_examples=60, stateful_step_count=30)
