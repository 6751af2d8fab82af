"""The breaker's machine: what trips it, who may probe, and that nothing can wedge it."""

from __future__ import annotations

import gc
import math
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, precondition, rule

from resilience.decide.breaker import LOOKS, Cause, Circuit, Circuits, Closed, Era, HalfOpen, Isolated, Leave, Limits, Open, Permit
from resilience.decide.window import SLICES
from resilience.outcome import Action, Failure, Signal, Verdict

SLICE = Limits().window / SLICES
TRIPPING = Limits(minimum=1, cooldown=5.0)


def vote(circuit: Circuit, healthy: bool | None, now: float = 0.0) -> Era:
    """One attempt that starts and ends at *now*; the era it leaves behind."""
    permit = circuit.admit(now)
    assert permit is not None
    circuit.settle(permit, healthy, now)
    return circuit.era


def votes(circuit: Circuit, pattern: str, now: float = 0.0) -> Era:
    """Attempts one after the other: F failed, S succeeded, a dot did neither."""
    for letter in pattern:
        vote(circuit, {"F": False, "S": True, ".": None}[letter], now)
    return circuit.era


def opened(limits: Limits = TRIPPING, now: float = 0.0) -> Circuit:
    circuit = Circuit(limits)
    assert isinstance(votes(circuit, "F" * limits.minimum, now), Open)
    return circuit


def half_open(probes: int, **more: Any) -> tuple[Circuit, list[Leave]]:
    """A circuit at 5 s, all of whose probes are out."""
    circuit = opened(Limits(minimum=1, probes=probes, **more))
    permits = [circuit.admit(5.0) for _ in range(probes)]
    assert all(permits)
    return circuit, [permit for permit in permits if permit is not None]


def failure(rule: str = "http: status 5xx", status: int | None = 502, code: str | None = None) -> Failure:
    return Failure(Verdict(Action.RETRY, rule), Signal(status=status, code=code), error=OSError("gone"))


class TestTripping:
    def test_below_the_minimum_nothing_trips(self) -> None:
        assert "closed" == votes(Circuit(Limits(minimum=10)), "F" * 9).name

    def test_the_ratio_trips_once_the_minimum_is_reached(self) -> None:
        assert "open" == votes(Circuit(Limits(minimum=10)), "SSSSSFFFFF").name

    def test_just_below_the_ratio_nothing_trips(self) -> None:
        assert "closed" == votes(Circuit(Limits(minimum=10)), "SSSSSSFFFF").name

    def test_a_success_that_completes_the_minimum_trips_it(self) -> None:
        """B12."""
        assert "open" == votes(Circuit(Limits(minimum=3)), "FFS").name

    def test_a_success_that_tallied_itself_and_completes_the_minimum_trips_it(self) -> None:
        """B12: and it knows that it has to ask."""
        circuit = Circuit(Limits(minimum=3))
        era = votes(circuit, "FF")
        assert isinstance(era, Closed)

        assert era.suspect
        next(era.window.successes)
        circuit.succeeded(era, 0.0)
        assert "open" == circuit.era.name

    def test_a_success_that_tallied_itself_in_an_earlier_era_changes_nothing(self) -> None:
        """B10."""
        circuit = Circuit(Limits(minimum=3))
        era = votes(circuit, "FF")
        assert isinstance(era, Closed)
        circuit.reset()
        after = circuit.era
        next(era.window.successes)
        circuit.succeeded(era, 0.0)

        assert after is circuit.era

    def test_a_ratio_that_no_float_can_hold_is_met_exactly(self) -> None:
        """0.1 x 30 is more than 3 in floats; 3 of 30 are a tenth all the same."""
        assert "open" == votes(Circuit(Limits(minimum=30, failure_ratio=0.1)), "S" * 27 + "FFF").name

    def test_failures_that_have_left_the_window_are_forgotten(self) -> None:
        circuit = Circuit(Limits(minimum=10, window=30.0))
        votes(circuit, "F" * 9)

        assert "closed" == vote(circuit, False, 30.0).name

    def test_a_success_trips_it_when_those_before_have_left_the_window(self) -> None:
        """The ratio rises without a failure: 100 successes leave, 10 failures stay."""
        circuit = Circuit(Limits(minimum=10, window=30.0))
        votes(circuit, "S" * 100, 0.0)
        era = votes(circuit, "F" * 10, 20.0)
        assert isinstance(era, Closed)
        assert not era.suspect

        assert "open" == vote(circuit, True, 31.0).name

    def test_when_the_window_moves_on_a_success_knows_that_it_has_to_ask(self) -> None:
        circuit = Circuit(Limits(minimum=10, window=30.0))
        votes(circuit, "S" * 100, 0.0)
        votes(circuit, "F" * 10, 20.0)
        era = circuit.closed
        assert era is not None
        era.roll(31.0)

        assert era.suspect
        next(era.window.successes)
        circuit.succeeded(era, 31.0)
        assert "open" == circuit.era.name

    def test_a_success_that_asks_late_is_not_held_against_failures_that_have_left_the_window(self) -> None:
        circuit = Circuit(Limits(minimum=3, window=30.0))
        votes(circuit, "FF", 0.0)
        era = circuit.closed
        assert era is not None
        next(era.window.successes)
        circuit.succeeded(era, 100.0)

        assert "closed" == circuit.era.name

    def test_cancelled_attempts_are_no_votes(self) -> None:
        """B13."""
        circuit = Circuit(TRIPPING)
        before = circuit.era

        assert before is votes(circuit, "." * 100)
        assert isinstance(before, Closed)
        assert (0, 0) == before.window.counts()

    def test_so_many_failures_in_a_row_trip_it_whatever_the_ratio(self) -> None:
        circuit = Circuit(Limits(consecutive=3, minimum=100))
        votes(circuit, "S" * 50 + "FF")

        assert "open" == vote(circuit, False).name

    def test_a_success_begins_the_row_anew(self) -> None:
        circuit = Circuit(Limits(consecutive=3, minimum=100))

        assert "closed" == votes(circuit, "FFSFFSFF").name

    def test_a_success_that_tallied_itself_begins_the_row_anew_because_it_knows_that_it_has_to_ask(self) -> None:
        circuit = Circuit(Limits(consecutive=3, minimum=100))
        era = votes(circuit, "FF")
        assert isinstance(era, Closed)

        assert era.suspect
        next(era.window.successes)
        circuit.succeeded(era, 0.0)
        assert not era.suspect
        assert "closed" == votes(circuit, "FF").name

    def test_a_row_has_no_time_limit(self) -> None:
        circuit = Circuit(Limits(consecutive=3, minimum=100, window=30.0))
        vote(circuit, False, 0.0)
        vote(circuit, False, 1000.0)

        assert "open" == vote(circuit, False, 2000.0).name

    @settings(max_examples=500)
    @given(
        st.text("SF", max_size=40),
        st.integers(1, 8),
        st.sampled_from([0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9, 1.0]),
        st.none() | st.integers(1, 5),
    )
    def test_successes_that_ask_only_when_suspected_trip_at_the_same_vote_as_those_that_always_ask(
        self, pattern: str, minimum: int, ratio: float, consecutive: int | None
    ) -> None:
        """The formula for `suspect`: where it lets a success pass unseen, settling it would have changed nothing."""
        limits = Limits(minimum=minimum, failure_ratio=ratio, consecutive=consecutive)
        seen, unseen = Circuit(limits), Circuit(limits)
        for moment, letter in enumerate(pattern):
            if not isinstance(seen.era, Closed):
                break
            now = float(moment)
            vote(seen, letter == "S", now)
            era = unseen.era
            assert isinstance(era, Closed)
            if now >= era.window.ends:
                era.roll(now)
            if letter == "F":
                unseen.settle(era, False, now)
            else:
                next(era.window.successes)
                if era.suspect:
                    unseen.succeeded(era, now)

            assert seen.era.name == unseen.era.name

    @given(st.integers(1, 12), st.integers(1, 30), st.floats(0.01, 1.0))
    def test_the_ratio_is_known_to_be_out_of_reach_exactly_where_no_pattern_reaches_it(self, run: int, minimum: int, ratio: float) -> None:
        """By brute force: the most failures that n attempts can hold without *run* of them in a row."""
        reachable = any((n - n // run) / n >= ratio for n in range(minimum, minimum + 20 * run))

        assert reachable == Limits(consecutive=run, minimum=minimum, failure_ratio=ratio).ratio_can_trip

    def test_without_a_limit_on_rows_the_ratio_can_always_be_reached(self) -> None:
        assert Limits(failure_ratio=1.0).ratio_can_trip


class TestOpen:
    def test_nothing_passes_while_it_is_open(self) -> None:
        circuit = opened()

        assert [None, None, None] == [circuit.admit(now) for now in (0.0, 2.0, 4.999)]

    def test_it_says_how_long_it_stays_open_and_never_less_than_nothing(self) -> None:
        """D20."""
        era = opened().era

        assert [5.0, 3.0, 0.0, 0.0] == [era.wait(now) for now in (0.0, 2.0, 5.0, 1e9)]

    def test_it_remembers_what_tripped_it_in_words_and_keeps_the_failure_itself_alive_no_longer(self) -> None:
        """D20, D34."""
        circuit = Circuit(TRIPPING)
        permit = circuit.admit(0.0)
        assert permit is not None
        failed = failure()
        assert failed.error is not None
        seen = weakref.ref(failed)
        circuit.settle(permit, False, 0.0, failed)
        del failed
        gc.collect()

        assert None is seen()
        assert Cause("http: status 5xx", 502, None) == circuit.era.cause

    @pytest.mark.parametrize(
        ("text", "failed"),
        [
            ("http: status 5xx, status 502", failure()),
            ("http: status 503", failure("http: status 503", 503)),
            ("callmissed: code provider_error, status 503", failure("callmissed: code provider_error", 503, "provider_error")),
            ("http: error builtins.OSError, code EHOSTDOWN", failure("http: error builtins.OSError", None, "EHOSTDOWN")),
            ("default", failure("default", None)),
        ],
    )
    def test_the_cause_in_words_says_nothing_twice(self, text: str, failed: Failure) -> None:
        assert text == Cause.of(failed).text

    def test_a_success_that_trips_it_names_the_failure_before_it(self) -> None:
        """B12, D20."""
        circuit = Circuit(Limits(minimum=2))
        permit = circuit.admit(0.0)
        assert permit is not None
        circuit.settle(permit, False, 0.0, failure())
        vote(circuit, True)

        assert circuit.era.cause == Cause("http: status 5xx", 502)

    def test_each_failed_round_doubles_the_cooldown_up_to_its_limit(self) -> None:
        circuit, now = opened(Limits(minimum=1, cooldown=5.0, max_cooldown=60.0)), 0.0
        cooldowns = []
        for _ in range(6):
            assert isinstance(circuit.era, Open)
            cooldowns.append(circuit.era.cooldown)
            now = circuit.era.until
            vote(circuit, False, now)

        assert [5.0, 10.0, 20.0, 40.0, 60.0, 60.0] == cooldowns

    def test_a_round_that_failed_ten_thousand_times_overflows_nothing(self) -> None:
        circuit, now = opened(Limits(minimum=1, cooldown=1e-3, max_cooldown=60.0)), 0.0
        for _ in range(10_000):
            assert isinstance(circuit.era, Open)
            now = circuit.era.until
            vote(circuit, False, now)

        assert isinstance(circuit.era, Open)
        assert 60.0 == circuit.era.cooldown

    def test_falling_over_again_within_a_window_of_closing_goes_on_where_it_stopped(self) -> None:
        circuit = opened(Limits(minimum=1, cooldown=5.0, window=30.0))
        assert "closed" == vote(circuit, True, 5.0).name
        era = vote(circuit, False, 34.0)

        assert isinstance(era, Open)
        assert 10.0 == era.cooldown

    def test_a_whole_window_of_being_closed_takes_the_cooldown_back_to_its_base(self) -> None:
        circuit = opened(Limits(minimum=1, cooldown=5.0, window=30.0))
        assert "closed" == vote(circuit, True, 5.0).name
        era = vote(circuit, False, 35.0)

        assert isinstance(era, Open)
        assert 5.0 == era.cooldown


class TestHalfOpen:
    @pytest.mark.parametrize("probes", [1, 2, 5])
    def test_exactly_so_many_probes_pass(self, probes: int) -> None:
        """B8: the one that opens the round is the first of them."""
        circuit = opened(Limits(minimum=1, probes=probes))

        assert probes == sum(circuit.admit(5.0) is not None for _ in range(1000))

    @pytest.mark.parametrize("probes", [1, 2, 5])
    def test_all_probes_must_succeed(self, probes: int) -> None:
        circuit, permits = half_open(probes)
        names = []
        for permit in permits:
            circuit.settle(permit, True, 6.0)
            names.append(circuit.era.name)

        assert ["half_open"] * (probes - 1) + ["closed"] == names

    def test_probes_that_have_passed_are_not_given_out_again(self) -> None:
        circuit, permits = half_open(2)
        circuit.settle(permits[0], True, 5.0)

        assert None is circuit.admit(5.0)

    def test_the_first_probe_that_fails_opens_it_at_once(self) -> None:
        """B11: a sample of one is enough here."""
        circuit, permits = half_open(5)
        circuit.settle(permits[0], True, 6.0)
        circuit.settle(permits[1], False, 6.0)

        assert isinstance(circuit.era, Open)
        assert 16.0 == circuit.era.until
        assert None is circuit.admit(6.0)

    def test_a_cancelled_probe_decides_nothing_and_the_next_call_probes(self) -> None:
        """B3, B5, B6: whatever ended it, it was no vote."""
        circuit, permits = half_open(1)
        assert None is circuit.admit(5.0)
        circuit.settle(permits[0], None, 5.0)

        assert "half_open" == circuit.era.name
        assert "closed" == vote(circuit, True, 5.0).name

    def test_a_probe_that_never_ends_is_given_up_after_its_lease(self) -> None:
        """B4."""
        circuit, _ = half_open(1, lease=30.0)

        assert None is circuit.admit(34.9)
        assert "closed" == vote(circuit, True, 35.0).name

    @pytest.mark.parametrize("late", [True, False, None])
    def test_the_late_answer_of_a_probe_that_was_given_up_changes_nothing(self, late: bool | None) -> None:
        """B4, B10."""
        circuit, (lost,) = half_open(1, lease=30.0)
        second = circuit.admit(35.0)
        before = circuit.era
        circuit.settle(lost, late, 36.0)

        assert before is circuit.era
        assert None is circuit.admit(36.0)
        assert second is not None
        circuit.settle(second, True, 36.0)
        assert "closed" == circuit.era.name

    def test_a_probe_past_its_lease_whose_place_nobody_took_still_counts(self) -> None:
        circuit, (slow,) = half_open(1, lease=30.0)
        circuit.settle(slow, True, 1000.0)

        assert "closed" == circuit.era.name

    def test_it_says_when_the_oldest_probe_must_make_room(self) -> None:
        """D20."""
        circuit, _ = half_open(2, lease=30.0)

        assert [30.0, 10.0, 0.0, 0.0] == [circuit.era.wait(now) for now in (5.0, 25.0, 35.0, 1e9)]

    def test_it_asks_nobody_to_wait_while_there_are_probes_left(self) -> None:
        circuit = opened(Limits(minimum=1, probes=2))
        circuit.admit(5.0)

        assert 0.0 == circuit.era.wait(5.0)

    def test_a_permit_settled_twice_counts_once(self) -> None:
        circuit, permits = half_open(2)
        circuit.settle(permits[0], True, 5.0)
        circuit.settle(permits[0], True, 5.0)

        assert "half_open" == circuit.era.name

    def test_it_remembers_what_tripped_the_circuit(self) -> None:
        circuit = Circuit(TRIPPING)
        permit = circuit.admit(0.0)
        assert permit is not None
        circuit.settle(permit, False, 0.0, failure())
        circuit.admit(5.0)

        assert "half_open" == circuit.era.name
        assert circuit.era.cause == Cause("http: status 5xx", 502)


class TestLateNews:
    """B10: what was admitted in one era is nothing to any other."""

    @pytest.mark.parametrize("healthy", [True, False, None])
    @pytest.mark.parametrize("later", ["open", "half_open", "closed again", "isolated", "reset"])
    @pytest.mark.parametrize("slow_after", [None, 1000.0])
    def test_an_attempt_from_before_the_trip_changes_no_later_era(self, healthy: bool | None, later: str, slow_after: float | None) -> None:
        circuit = Circuit(Limits(minimum=1, slow_after=slow_after, lease=2000.0))
        late = circuit.admit(0.0)
        assert late is not None
        vote(circuit, False)
        if later == "half_open":
            circuit.admit(5.0)
        elif later == "closed again":
            vote(circuit, True, 5.0)
        elif later == "isolated":
            circuit.isolate()
        elif later == "reset":
            circuit.reset()
        before = circuit.era
        counted = before.window.counts() if isinstance(before, Closed) else None
        circuit.settle(late, healthy, 6.0)

        assert before is circuit.era
        assert counted == (before.window.counts() if isinstance(before, Closed) else None)
        if isinstance(before, HalfOpen):
            assert (0, 1, 0) == (before.left, len(before.flight), before.passed)

    @pytest.mark.parametrize("healthy", [True, False, None])
    def test_a_probe_of_an_earlier_round_changes_nothing_in_the_next(self, healthy: bool | None) -> None:
        circuit, (early, failed) = half_open(2)
        circuit.settle(failed, False, 5.0)
        circuit.admit(15.0)
        before = circuit.era
        circuit.settle(early, healthy, 16.0)

        assert before is circuit.era
        assert isinstance(before, HalfOpen)
        assert (1, 1, 0) == (before.left, len(before.flight), before.passed)

    def test_five_stale_failures_do_not_open_a_circuit_that_has_recovered(self) -> None:
        circuit = Circuit(TRIPPING)
        stale = [circuit.admit(0.0) for _ in range(5)]
        vote(circuit, False)
        vote(circuit, True, 5.0)
        for permit in stale:
            assert permit is not None
            circuit.settle(permit, False, 6.0)

        assert "closed" == circuit.era.name


class TestSlow:
    LIMITS = Limits(slow_after=2.0)

    def test_an_attempt_that_took_too_long_votes_against_although_it_succeeded(self) -> None:
        circuit = Circuit(self.LIMITS)
        permits = [circuit.admit(0.0) for _ in range(10)]
        for permit in permits:
            assert permit is not None
            circuit.settle(permit, True, 2.0)

        assert "open" == circuit.era.name
        assert circuit.era.cause == Cause("resilience: slower than 2 s")

    def test_an_attempt_just_quick_enough_votes_as_it_ended(self) -> None:
        circuit = Circuit(self.LIMITS)
        permits = [circuit.admit(0.0) for _ in range(10)]
        for permit in permits:
            assert permit is not None
            circuit.settle(permit, True, 1.99)

        assert "closed" == circuit.era.name

    def test_hung_attempts_open_it_before_any_of_them_ends(self) -> None:
        """The next to come finds them overdue, and is refused."""
        circuit = Circuit(self.LIMITS)
        for _ in range(200):
            circuit.admit(0.0)

        assert circuit.admit(1.9) is not None
        assert None is circuit.admit(2.0)
        assert "open" == circuit.era.name

    def test_attempts_are_aged_from_the_oldest_and_only_those_that_are_due(self) -> None:
        circuit = Circuit(attrs.evolve(self.LIMITS, minimum=100))
        first, second = circuit.admit(0.0), circuit.admit(1.0)
        circuit.admit(2.5)
        era = circuit.era

        assert isinstance(era, Closed)
        assert (1, 1) == era.window.counts()
        assert first not in era.flight
        assert second in era.flight

    @pytest.mark.parametrize("healthy", [True, False, None])
    def test_an_attempt_counted_as_slow_votes_no_more(self, healthy: bool | None) -> None:
        circuit = Circuit(attrs.evolve(self.LIMITS, minimum=100))
        slow = circuit.admit(0.0)
        assert slow is not None
        circuit.admit(2.0)
        circuit.settle(slow, healthy, 3.0)
        era = circuit.era

        assert isinstance(era, Closed)
        assert (1, 1) == era.window.counts()

    def test_a_slow_attempt_that_is_cancelled_counts_as_if_a_newcomer_had_seen_it_hanging(self) -> None:
        circuit = Circuit(attrs.evolve(self.LIMITS, minimum=1))
        slow = circuit.admit(0.0)
        assert slow is not None
        circuit.settle(slow, None, 2.0)

        assert "open" == circuit.era.name

    def test_a_slow_failure_is_remembered_for_what_it_said(self) -> None:
        circuit = Circuit(attrs.evolve(self.LIMITS, minimum=1))
        slow = circuit.admit(0.0)
        assert slow is not None
        circuit.settle(slow, False, 2.0, failure())

        assert circuit.era.cause == Cause("http: status 5xx", 502)

    def test_a_slow_answer_about_the_caller_is_remembered_for_its_slowness(self) -> None:
        circuit = Circuit(attrs.evolve(self.LIMITS, minimum=1))
        slow = circuit.admit(0.0)
        assert slow is not None
        circuit.settle(slow, True, 2.0, failure("http: status 404", 404))

        assert circuit.era.cause == Cause("resilience: slower than 2 s")

    def test_a_slow_probe_opens_it_again(self) -> None:
        circuit, (probe,) = half_open(1, slow_after=2.0)
        circuit.settle(probe, True, 7.0)

        assert "open" == circuit.era.name

    def test_a_hung_probe_opens_it_again_as_soon_as_somebody_comes_and_sees(self) -> None:
        circuit, _ = half_open(1, slow_after=2.0)

        assert 2.0 == circuit.era.wait(5.0)
        assert None is circuit.admit(6.9)
        assert "half_open" == circuit.era.name
        assert None is circuit.admit(7.0)
        assert "open" == circuit.era.name

    def test_until_somebody_has_to_look_attempts_may_come_and_go_without_a_lock(self) -> None:
        circuit = Circuit(self.LIMITS)
        era = circuit.closed
        assert era is not None
        assert 0.0 >= era.due
        circuit.admit(0.0)

        assert SLICE == era.due
        permit = era.depart(1.0)
        assert era.arrive(permit, 1.1)
        assert (0, 1) == era.window.counts()

    def test_the_next_look_is_when_the_oldest_that_is_out_becomes_overdue(self) -> None:
        circuit = Circuit(attrs.evolve(self.LIMITS, slow_after=1.0))
        era = circuit.closed
        assert era is not None
        first = circuit.admit(0.0)
        assert 1.0 == era.due
        era.depart(0.4)
        assert isinstance(first, Permit)
        era.arrive(first, 0.5)
        circuit.admit(1.0)

        assert 1.4 == era.due

    @pytest.mark.parametrize("now", [2.0, 3.0])
    def test_a_slow_success_cannot_leave_unseen(self, now: float) -> None:
        circuit = Circuit(self.LIMITS)
        permit, era = circuit.admit(0.0), circuit.closed
        assert isinstance(permit, Permit)
        assert era is not None

        assert not era.arrive(permit, now)
        assert permit in era.flight

    def test_an_attempt_leaves_only_once(self) -> None:
        circuit = Circuit(self.LIMITS)
        permit, era = circuit.admit(0.0), circuit.closed
        assert isinstance(permit, Permit)
        assert era is not None

        assert [True, False] == [era.arrive(permit, 1.0), era.arrive(permit, 1.0)]
        assert (0, 1) == era.window.counts()

    def test_a_circuit_that_watches_nobody_has_nobody_leave(self) -> None:
        era = Circuit(Limits()).closed
        assert era is not None

        assert not era.arrive(era.depart(0.0), 0.0)

    def test_an_attempt_that_leaves_while_somebody_looks_for_the_oldest_disturbs_nobody(self) -> None:
        """D26: as another thread can at any moment."""

        class Busy(dict[Permit, bool]):
            changes = 3

            def __iter__(self) -> Iterator[Permit]:
                oldest = super().__iter__()
                if self.changes:
                    self.changes -= 1
                    self.pop(next(super().__iter__()))
                return oldest

        circuit = Circuit(attrs.evolve(self.LIMITS, minimum=100))
        era = circuit.closed
        assert era is not None
        era.flight = Busy()
        for _ in range(5):
            era.depart(0.0)
        circuit.admit(2.0)

        assert (2, 2) == era.window.counts()

    def test_eight_threads_and_a_hung_attempt_lose_no_vote_and_count_none_twice(self) -> None:
        """D26: permits come and go without a lock, while each look of those who hold it finds some overdue."""
        circuit, lock = Circuit(Limits(slow_after=1e-9, lease=1.0, minimum=10**9, window=1e9)), threading.Lock()
        era = circuit.closed
        assert era is not None
        with lock:
            circuit.admit(0.0)

        def work() -> None:
            for turn in range(2000):
                permit = era.depart(0.0)
                if turn % 10 == 0:
                    with lock:
                        circuit.admit(1.0)
                if not era.arrive(permit, 0.0):
                    with lock:
                        circuit.settle(permit, True, 0.0)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with lock:
            circuit.admit(2.0)

        assert 1 == len(era.flight)
        assert 1 + 8 * 2000 + 8 * 200 == era.window.counts()[1]


class TestStreams:
    """B15: a stream is slow or not by its first item, and votes at its end."""

    def test_in_a_closed_era_nothing_has_to_be_known_of_one_that_has_begun(self) -> None:
        circuit = Circuit(Limits(slow_after=2.0))
        permit = circuit.admit(0.0)
        assert permit is not None
        held = circuit.opened(permit, 1.0)
        era = circuit.closed
        assert era is not None

        assert held is era
        assert {} == era.flight
        assert (0, 0) == era.window.counts()

    @pytest.mark.parametrize(("healthy", "name", "counts"), [(True, "closed", (0, 1)), (False, "open", None), (None, "closed", (0, 0))])
    def test_it_votes_at_its_end_however_late_that_is(self, healthy: bool | None, name: str, counts: tuple[int, int] | None) -> None:
        circuit = Circuit(Limits(minimum=1, slow_after=2.0))
        permit = circuit.admit(0.0)
        assert permit is not None
        circuit.settle(circuit.opened(permit, 1.0), healthy, 25.0)
        era = circuit.closed

        assert name == circuit.era.name
        assert counts == (None if era is None else era.window.counts())

    def test_many_that_have_begun_are_not_slow_however_long_they_last(self) -> None:
        circuit = Circuit(Limits(minimum=1, slow_after=2.0))
        for _ in range(100):
            permit = circuit.admit(0.0)
            assert permit is not None
            circuit.opened(permit, 1.9)

        assert circuit.admit(1000.0) is not None
        assert "closed" == circuit.era.name

    def test_without_a_limit_for_slowness_the_era_stays_its_permit(self) -> None:
        circuit = Circuit(Limits())
        permit = circuit.admit(0.0)
        assert permit is not None

        assert permit is circuit.opened(permit, 1000.0)

    @pytest.mark.parametrize("later", [True, False, None])
    def test_one_that_is_slow_to_its_first_item_votes_then_and_never_again(self, later: bool | None) -> None:
        circuit = Circuit(Limits(minimum=3, slow_after=2.0))
        permit = circuit.admit(0.0)
        assert permit is not None
        held = circuit.opened(permit, 2.0)
        circuit.settle(held, later, 3.0)
        era = circuit.closed
        assert era is not None

        assert (1, 1) == era.window.counts()

    def test_one_that_a_newcomer_has_found_overdue_votes_no_more_when_its_first_item_comes(self) -> None:
        circuit = Circuit(Limits(minimum=3, slow_after=2.0))
        permit = circuit.admit(0.0)
        assert permit is not None
        circuit.admit(2.0)
        circuit.settle(circuit.opened(permit, 3.0), False, 4.0)
        era = circuit.closed
        assert era is not None

        assert (1, 1) == era.window.counts()

    def test_a_probe_keeps_its_place_from_item_to_item(self) -> None:
        circuit, (probe,) = half_open(1, lease=30.0)
        held = circuit.opened(probe, 10.0)
        assert held is probe
        assert isinstance(held, Permit)
        assert None is circuit.admit(39.0)
        held.renew(39.0)

        assert 30.0 == circuit.era.wait(39.0)
        assert None is circuit.admit(68.0)
        circuit.settle(held, True, 1000.0)
        assert "closed" == circuit.era.name

    def test_a_probe_that_has_begun_is_not_slow_when_it_ends(self) -> None:
        circuit, (probe,) = half_open(1, slow_after=2.0)
        held = circuit.opened(probe, 6.0)

        assert None is circuit.admit(9.0)
        circuit.settle(held, True, 20.0)
        assert "closed" == circuit.era.name

    def test_a_probe_that_is_slow_to_its_first_item_opens_it_again(self) -> None:
        circuit, (probe,) = half_open(1, slow_after=2.0)
        circuit.opened(probe, 7.0)

        assert "open" == circuit.era.name
        assert circuit.era.cause == Cause("resilience: slower than 2 s")

    def test_of_two_probes_the_one_that_waits_for_its_first_item_is_aged_the_other_is_not(self) -> None:
        circuit, (first, second) = half_open(2, slow_after=2.0)
        circuit.opened(first, 6.0)
        assert isinstance(second, Permit)

        assert 2.0 == circuit.era.wait(5.0)
        assert None is circuit.admit(7.0)
        assert "open" == circuit.era.name

    def test_one_that_stays_silent_loses_its_place_when_its_lease_runs_out(self) -> None:
        """D8."""
        circuit, (probe,) = half_open(1, lease=30.0)
        circuit.opened(probe, 10.0)

        assert 1.0 == circuit.era.wait(39.0)
        assert "closed" == vote(circuit, True, 40.0).name

    @pytest.mark.parametrize("later", ["open", "half_open", "closed again", "isolated", "reset"])
    def test_one_that_begins_after_its_era_changes_no_later_one(self, later: str) -> None:
        """B10."""
        circuit = Circuit(Limits(minimum=1, slow_after=1000.0, lease=2000.0))
        late = circuit.admit(0.0)
        assert late is not None
        vote(circuit, False)
        if later == "half_open":
            circuit.admit(5.0)
        elif later == "closed again":
            vote(circuit, True, 5.0)
        elif later == "isolated":
            circuit.isolate()
        elif later == "reset":
            circuit.reset()
        before, tally = circuit.era, _tally(circuit.era)
        circuit.settle(circuit.opened(late, 6.0), False, 7.0)

        assert before is circuit.era
        assert tally == _tally(before)


class TestByHand:
    @pytest.mark.parametrize("era", ["closed", "open", "half_open", "isolated"])
    def test_from_any_era_isolation_lets_nothing_pass_until_it_is_reset(self, era: str) -> None:
        circuit = Circuit(TRIPPING)
        if era in {"open", "half_open"}:
            vote(circuit, False)
        if era == "half_open":
            circuit.admit(5.0)
        if era == "isolated":
            circuit.isolate()
        assert era == circuit.era.name
        circuit.isolate()

        assert None is circuit.admit(1e9)
        assert isinstance(circuit.era, Isolated)
        assert None is circuit.era.wait(1e9)
        circuit.reset()
        assert circuit.admit(1e9) is not None
        assert "closed" == circuit.era.name

    def test_a_reset_forgets_what_was_counted_and_how_often_it_opened(self) -> None:
        circuit, (probe,) = half_open(1)
        circuit.settle(probe, False, 5.0)
        circuit.reset()
        era = vote(circuit, False, 5.0)

        assert isinstance(era, Open)
        assert 5.0 == era.cooldown


class Interleavings(RuleBasedStateMachine):
    """
    Anything may happen in any order: attempts start, end, are cancelled or never heard of again, time passes, people interfere.

    Beside the machine stands what can be said of it without knowing how it works.
    """

    permits: Bundle[tuple[Leave, Era]] = Bundle("permits")

    @initialize(
        probes=st.integers(1, 5),
        minimum=st.integers(1, 6),
        ratio=st.sampled_from([0.01, 0.3, 0.5, 1.0]),
        consecutive=st.none() | st.integers(1, 4),
        slow_after=st.none() | st.sampled_from([1.0, 20.0]),
    )
    def begin(self, probes: int, minimum: int, ratio: float, consecutive: int | None, slow_after: float | None) -> None:
        self.limits = Limits(
            probes=probes,
            minimum=minimum,
            failure_ratio=ratio,
            consecutive=consecutive,
            slow_after=slow_after,
            lease=20.0,
            max_cooldown=40.0,
        )
        self.circuit = Circuit(self.limits)
        self.now = 0.0

    @rule(target=permits)
    @precondition(lambda self: self.circuit.closed is not None and self.now < self.circuit.closed.due)
    def depart(self) -> Any:
        """What the shell does instead of asking while nobody has to look."""
        era = self.circuit.closed
        assert era is not None
        return era.depart(self.now), era

    @rule(permit=consumes(permits))
    def arrive(self, permit: tuple[Leave, Era]) -> None:
        """What it does instead of settling a success, where that will do."""
        leave, era = permit
        closed = self.circuit.closed
        if isinstance(leave, Permit) and closed is not None and closed.arrive(leave, self.now):
            assert closed is era, "late news was counted"
            if closed.suspect:
                self.circuit.succeeded(closed, self.now)
        else:
            self._settle(permit, True)

    @rule(target=permits)
    def admit(self) -> Any:
        before = self.circuit.era
        permit = self.circuit.admit(self.now)
        after = self.circuit.era
        if permit is None:
            assert not isinstance(after, Closed)
            return multiple()
        assert after is before or (isinstance(before, Open) and isinstance(after, HalfOpen) and self.now >= before.until)
        return permit, after

    @rule(permit=consumes(permits), healthy=st.booleans())
    def settle(self, permit: tuple[Leave, Era], healthy: bool) -> None:
        self._settle(permit, healthy)

    @rule(permit=consumes(permits))
    def cancel(self, permit: tuple[Leave, Era]) -> None:
        self._settle(permit, None)

    @rule(permit=permits, healthy=st.none() | st.booleans())
    def settle_twice(self, permit: tuple[Leave, Era], healthy: bool | None) -> None:
        """Not something the shell does; but of a permit that stands for one attempt the machine must not take it."""
        assume(isinstance(permit[0], Permit))
        self._settle(permit, True)
        before = self.circuit.era
        self.circuit.settle(permit[0], healthy, self.now)

        assert before is self.circuit.era

    @rule(target=permits, permit=consumes(permits))
    def open_stream(self, permit: tuple[Leave, Era]) -> Any:
        """Its first item has come; what is settled at its end is what this gives."""
        leave, era = permit
        assume(not (isinstance(leave, Permit) and leave.flows))  # it comes once
        before = self.circuit.era
        tally = _tally(before)
        out = era is before and isinstance(before, Closed | HalfOpen) and isinstance(leave, Permit) and leave in before.flight
        slow = self.limits.slow_after is not None and isinstance(leave, Permit) and self.now - leave.since >= self.limits.slow_after
        held = self.circuit.opened(leave, self.now)
        after = self.circuit.era
        if not out:
            assert held is leave
            assert before is after, "late news changed the era"
            assert tally == _tally(after), "late news was counted"
        elif slow:
            assert isinstance(after, Open) or (isinstance(before, Closed) and after is before)
            self.circuit.settle(held, False, self.now)
            assert after is self.circuit.era, "it voted twice"
        elif isinstance(before, Closed):
            assert held is after is before
            assert tally == _tally(after), "what has only begun was counted"
            assert leave not in before.flight, "nobody is to find it overdue"
        else:
            assert (held, after) == (leave, before)
            assert tally == _tally(after)
        return held, era

    @rule(permit=permits)
    def another_item(self, permit: tuple[Leave, Era]) -> None:
        """The shell tells only probes of it, and takes no lock for that."""
        leave, _ = permit
        assume(isinstance(leave, Permit) and leave.flows)
        assert isinstance(leave, Permit)
        leave.renew(self.now)

    @rule(permit=consumes(permits))
    def lose(self, permit: tuple[Leave, Era]) -> None:
        """It hangs for ever."""

    @rule(seconds=st.sampled_from([0.001, 0.5, 1.0, 5.0, 19.0, 40.0, 1e6]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    @precondition(lambda self: isinstance(self.circuit.era, Open))
    def pass_the_cooldown(self) -> None:
        era = self.circuit.era
        assert isinstance(era, Open)
        self.now = max(self.now, era.until)

    @rule()
    def isolate(self) -> None:
        self.circuit.isolate()

    @rule()
    def reset(self) -> None:
        self.circuit.reset()

    def _settle(self, permit: tuple[Leave, Era], healthy: bool | None) -> None:
        leave, era = permit
        before = self.circuit.era
        tally = _tally(before)
        known = era is before and isinstance(before, Closed | HalfOpen) and (leave is era or leave in before.flight)
        slow_after = self.limits.slow_after
        slow = slow_after is not None and isinstance(leave, Permit) and not leave.flows and self.now - leave.since >= slow_after
        against = healthy is False or slow
        self.circuit.settle(leave, healthy, self.now)
        after = self.circuit.era
        if not known:
            assert before is after, "late news changed the era"
            assert tally == _tally(after), "late news was counted"
        elif isinstance(before, HalfOpen):
            if against:
                assert isinstance(after, Open)
            elif healthy is None:
                assert after is before
                assert before.left > 0
            else:
                assert isinstance(after, Closed) if before.passed == self.limits.probes else after is before
        elif healthy is None and not slow:
            assert after is before
            assert tally == _tally(after), "no vote was counted"

    @invariant()
    def the_probes_add_up(self) -> None:
        era = self.circuit.era
        if isinstance(era, HalfOpen):
            assert self.limits.probes == era.left + len(era.flight) + era.passed
            assert 0 <= era.left
            assert era.passed < self.limits.probes

    @invariant()
    def a_wait_is_never_negative(self) -> None:
        wait = self.circuit.era.wait(self.now)
        assert wait is None or wait >= 0

    @invariant()
    def an_open_circuit_never_stays_so_for_longer_than_it_may(self) -> None:
        era = self.circuit.era
        if isinstance(era, Open):
            assert self.limits.cooldown <= era.cooldown <= self.limits.max_cooldown

    def teardown(self) -> None:
        """Whatever happened, it recovers: nobody has to restart anything (D8)."""
        if not hasattr(self, "circuit"):
            return
        circuit, now = self.circuit, self.now
        if isinstance(circuit.era, Isolated):
            circuit.reset()
        for _ in range(3 * (self.limits.probes + self.limits.minimum) + 3):  # the first successes may complete the volume and trip it
            permit = circuit.admit(now)
            if permit is None:
                wait = circuit.era.wait(now)
                assert wait is not None
                now += wait + 1e-6
            else:
                circuit.settle(permit, True, now)
        # What was hung and has been aged may have opened it once more; by now every probe is quick.
        assert "closed" == circuit.era.name

    @invariant()
    def an_attempt_passes_unseen_in_a_closed_era_that_nothing_is_suspected_of_until_its_slice_is_over(self) -> None:
        if hasattr(self, "circuit"):
            era = self.circuit.era
            unseen = isinstance(era, Closed) and not era.suspect
            assert era.clear_until == (era.window.ends if unseen and isinstance(era, Closed) else -math.inf)


def _tally(era: Era) -> tuple[int, int, int]:
    """What an era has counted."""
    if isinstance(era, Closed):
        return (*era.window.counts(), era.run)
    if isinstance(era, HalfOpen):
        return era.left, len(era.flight), era.passed
    return 0, 0, 0


TestInterleavings = Interleavings.TestCase
TestInterleavings.settings = settings(max_examples=100, stateful_step_count=60, suppress_health_check=[HealthCheck.filter_too_much])


class TestCircuits:
    """D37."""

    LIMITS = Limits(minimum=2, window=30.0)

    def test_one_key_has_one_circuit(self) -> None:
        circuits = Circuits(self.LIMITS, 10)

        assert circuits.find("a", 0.0) is circuits.find("a", 1.0)
        assert circuits.find("a", 0.0) is not circuits.find("b", 0.0)

    def test_a_new_circuit_is_ready_for_the_attempt_that_it_was_made_for(self) -> None:
        circuits = Circuits(self.LIMITS, 10)

        assert 100.0 < circuits.find("a", 100.0).era.clear_until

    def test_while_all_are_isolated_so_is_a_new_one(self) -> None:
        circuits = Circuits(self.LIMITS, 10)
        circuits.isolate()

        assert -math.inf == circuits.find("a", 100.0).era.clear_until

    def test_many_keys_keep_the_registry_at_its_bound_and_the_open_circuit_in_it(self) -> None:
        circuits = Circuits(self.LIMITS, 1024)
        votes(circuits.find("down", 0.0), "FF")
        find = circuits.find
        for number in range(10_000):
            find(number, 0.0)

        assert 1024 == len(circuits.kept)
        assert "open" == circuits.era("down")
        assert "open" == circuits.find("down", 1.0).era.name

    def test_what_was_used_since_the_last_look_gets_a_second_chance(self) -> None:
        circuits = Circuits(self.LIMITS, 3)
        for key in "abc":
            circuits.find(key, 0.0)
        circuits.kept["a"].used = True
        circuits.find("d", 0.0)
        circuits.find("e", 0.0)

        assert {"a", "d", "e"} == set(circuits.kept)

    def test_a_chance_is_second_not_third(self) -> None:
        circuits = Circuits(self.LIMITS, 2)
        for key in "ab":
            circuits.find(key, 0.0).used = True
        circuits.find("c", 0.0)

        assert {"b", "c"} == set(circuits.kept)

    @pytest.mark.parametrize("pattern", ["F", "FF"])
    def test_what_has_anything_counted_against_it_stays(self, pattern: str) -> None:
        circuits = Circuits(self.LIMITS, 1)
        bad = circuits.find("bad", 0.0)
        votes(bad, pattern)
        circuits.find("new", 1.0)

        assert {"bad": bad} == circuits.kept

    def test_what_is_in_the_middle_of_a_row_of_failures_stays_however_old_they_are(self) -> None:
        circuits = Circuits(Limits(consecutive=3, window=30.0), 1)
        votes(circuits.find("bad", 0.0), "FF")
        circuits.find("new", 1000.0)

        assert ["bad"] == list(circuits.kept)

    def test_what_closed_less_than_a_window_ago_stays(self) -> None:
        circuits = Circuits(self.LIMITS, 1)
        votes(circuits.find("bad", 0.0), "FF")
        votes(circuits.find("bad", 5.0), "S", 5.0)
        assert "closed" == circuits.era("bad")
        circuits.find("new", 34.0)
        assert ["bad"] == list(circuits.kept)

        circuits.find("new", 36.0)
        assert ["new"] == list(circuits.kept)

    def test_failures_that_have_left_the_window_hold_no_place(self) -> None:
        circuits = Circuits(self.LIMITS, 1)
        vote(circuits.find("bad", 0.0), False)
        circuits.find("new", 30.0)

        assert ["new"] == list(circuits.kept)

    def test_a_newcomer_for_whom_there_is_no_room_lives_as_long_as_its_calls(self) -> None:
        circuits = Circuits(self.LIMITS, 1)
        votes(circuits.find("bad", 0.0), "FF")
        newcomer = circuits.find("new", 0.0)

        assert ["bad"] == list(circuits.kept)
        assert newcomer is circuits.find("new", 0.0)
        assert newcomer.admit(0.0) is not None
        vote(newcomer, False)
        del newcomer
        assert "closed" == circuits.era("new")
        assert "closed" == votes(circuits.find("new", 0.0), "F").name

    def test_looking_for_room_in_vain_is_not_tried_again_for_a_slice_of_the_window(self) -> None:
        circuits = Circuits(self.LIMITS, 1)
        bad = circuits.find("bad", 0.0)
        votes(bad, "FF")
        circuits.find("new", 0.0)
        bad.reset()

        circuits.find("new", 1.4)
        assert ["bad"] == list(circuits.kept)
        circuits.find("new", 1.5)
        assert ["new"] == list(circuits.kept)

    def test_however_many_are_kept_a_newcomer_has_only_so_many_looked_at(self) -> None:
        """D37: with a hundred thousand that must stay, looking at all of them would hold up every call for a tenth of a second."""
        circuits = Circuits(self.LIMITS, 10 * LOOKS)
        for number in range(10 * LOOKS):
            circuits.find(number, 0.0).used = True
        circuits.find("new", 0.0)

        assert LOOKS == sum(not circuit.used for circuit in circuits.kept.values())
        assert "new" not in circuits.kept

    def test_those_that_come_later_look_on_where_the_last_one_stopped(self) -> None:
        circuits = Circuits(self.LIMITS, 3 * LOOKS)
        for number in range(3 * LOOKS):
            circuits.find(number, 0.0).used = True
        newcomers = [circuits.find(key, 0.0) for key in "abcd"]

        assert ["d"] == [circuit.key for circuit in newcomers if circuit.key in circuits.kept]

    def test_only_when_all_were_looked_at_twice_is_it_in_vain(self) -> None:
        circuits = Circuits(self.LIMITS, 2 * LOOKS)
        kept = [circuits.find(number, 0.0) for number in range(2 * LOOKS)]
        for circuit in kept:
            vote(circuit, False)
        for key in "abc":
            circuits.find(key, 0.0)
        kept[0].reset()
        circuits.find("d", 0.0)
        assert "d" not in circuits.kept
        assert 0 in circuits.kept

        for key in "ef":
            circuits.find(key, 1.4)
        assert 0 in circuits.kept
        for key in "gh":
            circuits.find(key, 1.5)
        assert 0 not in circuits.kept

    def test_a_circuit_thrown_out_while_a_call_of_it_is_out_is_found_again(self) -> None:
        circuits = Circuits(self.LIMITS, 1)
        mine = circuits.find("a", 0.0)
        circuits.find("b", 0.0)
        assert ["b"] == list(circuits.kept)

        assert mine is circuits.find("a", 0.0)
        assert ["a"] == list(circuits.kept)

    def test_a_circuit_thrown_out_is_kept_again_when_its_call_fails(self) -> None:
        circuits = Circuits(self.LIMITS, 1)
        mine = circuits.find("a", 0.0)
        circuits.find("b", 0.0)
        vote(mine, False)
        circuits.remember(mine, 0.0)

        assert {"a": mine} == circuits.kept

    def test_a_circuit_thrown_out_is_not_kept_again_for_a_call_that_succeeds(self) -> None:
        circuits = Circuits(self.LIMITS, 1)
        mine = circuits.find("a", 0.0)
        circuits.find("b", 0.0)
        vote(mine, True)
        circuits.remember(mine, 0.0)

        assert ["b"] == list(circuits.kept)

    def test_what_was_thrown_out_and_is_not_used_leaves_nothing_behind(self) -> None:
        circuits = Circuits(self.LIMITS, 1)
        gone = weakref.ref(circuits.find("a", 0.0))
        circuits.find("b", 0.0)

        assert None is gone()
        assert 0 == len(circuits._out)

    def test_one_key_is_isolated_and_reset_by_hand(self) -> None:
        circuits = Circuits(self.LIMITS, 10)
        circuits.isolate("a")

        assert ["isolated", "closed"] == [circuits.era("a"), circuits.era("b")]
        circuits.reset("a")
        assert "closed" == circuits.era("a")

    def test_without_a_key_all_are_isolated_those_to_come_included(self) -> None:
        circuits = Circuits(self.LIMITS, 1)
        out = circuits.find("a", 0.0)
        circuits.find("b", 0.0)
        circuits.isolate()

        assert ["isolated"] * 4 == [circuits.era(), circuits.era("a"), circuits.era("b"), circuits.era("c")]
        assert "isolated" == out.era.name
        assert "isolated" == circuits.find("c", 0.0).era.name
        circuits.reset()
        assert ["closed"] * 4 == [circuits.era(), circuits.era("a"), circuits.era("b"), circuits.era("c")]

    def test_what_was_isolated_by_hand_lasts_whatever_the_bound(self) -> None:
        circuits = Circuits(self.LIMITS, 1)
        votes(circuits.find("bad", 0.0), "FF")
        circuits.isolate("a")
        for number in range(100):
            circuits.find(number, 1000.0)

        assert "isolated" == circuits.era("a")
        circuits.reset("a")
        for number in range(100):
            circuits.find(number, 2000.0)
        assert 1 == len(circuits.kept)

    def test_one_key_may_be_reset_while_all_others_stay_isolated(self) -> None:
        circuits = Circuits(self.LIMITS, 1)
        circuits.find("a", 0.0)
        circuits.isolate()
        circuits.reset("b")
        for number in range(100):
            circuits.find(number, 1000.0)

        assert ["isolated", "closed", "isolated"] == [circuits.era("a"), circuits.era("b"), circuits.era("c")]

    def test_resetting_a_key_that_nobody_used_makes_no_circuit(self) -> None:
        circuits = Circuits(self.LIMITS, 1)
        circuits.reset("a")

        assert {} == circuits.kept

    @given(
        st.lists(
            st.tuples(st.integers(0, 8), st.sampled_from(["find", "use", "fail", "succeed", "out", "done"]), st.floats(0, 20)), max_size=80
        )
    )
    def test_whatever_happens_the_bound_holds_and_no_failure_of_a_call_that_is_out_is_lost(
        self, steps: list[tuple[int, str, float]]
    ) -> None:
        circuits, now = Circuits(self.LIMITS, 3), 0.0
        out: dict[int, Circuit] = {}
        for key, step, gap in steps:
            now += gap
            circuit = circuits.find(key, now)
            if key in out:
                assert out[key] is circuit
            match step:
                case "use":
                    circuit.used = True
                case "fail" | "succeed" if (permit := circuit.admit(now)) is not None:
                    circuit.settle(permit, step == "succeed", now)
                    circuits.remember(circuit, now)
                case "out":
                    out[key] = circuit
                case "done":
                    out.pop(key, None)
            assert 3 >= len(circuits.kept)
            assert set(circuits.kept.values()) == set(circuits._ring)
            assert all(kept.key == key for key, kept in circuits.kept.items())
            assert not set(circuits.kept) & set(circuits._out)
            del circuit
