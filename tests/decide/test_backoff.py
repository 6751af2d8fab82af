"""Every delay is finite, never negative, never above its cap, and spread over its range, whatever the number of the retry."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.decide.backoff import Backoff, Exponential, jittered
from resilience.decide.schedules import Constant, Fibonacci, Linear, Listed

LAST = math.nextafter(1.0, 0.0)

draws = st.floats(0.0, LAST)
retries = st.integers(1, 1_000_000)
bases = st.one_of(st.just(0.0), st.floats(1e-9, 1e9), st.floats(0.0, 1e300), st.integers(0, 10**6))
drawn_below: st.SearchStrategy[Any] = st.sampled_from(["full", "equal", "none"])


@st.composite
def schedules(draw: st.DrawFn) -> tuple[Backoff, float]:
    """A schedule, and the cap that none of its delays may exceed."""
    base = draw(bases)
    cap = draw(st.one_of(st.just(base), st.floats(base, 1e308), st.integers(10**6, 10**12).filter(lambda whole: whole >= base)))
    kind = draw(st.sampled_from(["constant", "exponential", "linear", "fibonacci", "listed"]))
    match kind:
        case "constant":
            return Constant(base, jitter=draw(drawn_below)), base
        case "exponential":
            factor = draw(st.one_of(st.floats(1.0, 1e6), st.integers(1, 10)))
            jitter: Any = draw(st.sampled_from(["full", "equal", "decorrelated", "none"]))
            return Exponential(base, cap=cap, factor=factor, jitter=jitter), cap
        case "linear":
            return Linear(base, cap=cap, jitter=draw(drawn_below)), cap
        case "fibonacci":
            return Fibonacci(base, cap=cap, jitter=draw(drawn_below)), cap
        case _:
            delays = draw(st.lists(bases, min_size=1, max_size=5))
            return Listed(delays, jitter=draw(drawn_below)), max(delays)


@st.composite
def schedules_and_delays_before(draw: st.DrawFn) -> tuple[Backoff, float, float | None]:
    schedule, cap = draw(schedules())
    return schedule, cap, draw(st.one_of(st.none(), st.floats(0.0, cap)))


class TestEveryDelay:
    @given(schedules_and_delays_before(), retries, draws)
    def test_is_finite_and_lies_between_zero_and_the_cap(
        self, given_: tuple[Backoff, float, float | None], retry: int, draw: float
    ) -> None:
        """B28, B30."""
        schedule, cap, before = given_

        delay = schedule.delay(retry, draw, before)

        assert math.isfinite(delay)
        assert 0 <= delay <= cap

    @given(schedules_and_delays_before(), retries, draws, draws)
    def test_never_falls_as_the_draw_rises(self, given_: tuple[Backoff, float, float | None], retry: int, one: float, other: float) -> None:
        schedule, _, before = given_

        assert schedule.delay(retry, min(one, other), before) <= schedule.delay(retry, max(one, other), before)

    @given(schedules(), draws)
    def test_follows_from_the_one_before_as_from_any_other(self, given_: tuple[Backoff, float], draw: float) -> None:
        """A chain of delays, each drawn with the one before at hand, stays in bounds too: decorrelated jitter must not run away."""
        schedule, cap = given_
        before: float | None = None
        for retry in range(1, 40):
            before = schedule.delay(retry, draw, before)

            assert 0 <= before <= cap


@pytest.mark.parametrize(
    "schedule",
    [
        Exponential(0.05, cap=20),
        Exponential(1, cap=20, factor=3),
        Exponential(1, cap=20, factor=1.0000001),
        Exponential(1, cap=20, jitter="decorrelated"),
        Linear(1, cap=20),
        Fibonacci(1e-300, cap=20),
        Constant(20),
        Listed([1, 20]),
    ],
    ids=repr,
)
def test_a_million_retries_cost_no_more_than_one(schedule: Backoff) -> None:
    """B28: powers of whole numbers grow into megabytes, and floats overflow at attempt 1,025."""
    began = time.process_time()
    for retry in (1, 2, 53, 1023, 1024, 1025, 1026, 10**5, 10**6, 10**9):
        assert math.isfinite(schedule.delay(retry, 0.5, 20.0))
    assert time.process_time() - began < 0.05


class TestExponential:
    def test_ceilings_are_base_times_factor_to_the_power_of_the_retries_before(self) -> None:
        schedule = Exponential(0.5, cap=100, factor=3, jitter="none")

        assert [0.5, 1.5, 4.5, 13.5, 40.5, 100.0, 100.0] == [schedule.delay(retry, 0.7) for retry in range(1, 8)]

    def test_full_jitter_takes_the_draw_as_a_share_of_the_ceiling(self) -> None:
        schedule = Exponential(1.0, cap=8)

        assert [0.25, 0.5, 1.0, 2.0, 2.0] == [schedule.delay(retry, 0.25) for retry in range(1, 6)]

    def test_equal_jitter_keeps_half_of_the_ceiling(self) -> None:
        """B32: a minimum is kept."""
        schedule = Exponential(1.0, cap=8, jitter="equal")

        assert [0.5, 1.0, 2.0, 4.0, 4.0] == [schedule.delay(retry, 0.0) for retry in range(1, 6)]
        assert 7.0 == schedule.delay(9, 0.75)

    def test_decorrelated_jitter_draws_between_base_and_three_times_the_delay_before(self) -> None:
        schedule = Exponential(1.0, cap=20, jitter="decorrelated")

        assert (1.0, 2.0) == (schedule.delay(1, 0.0), schedule.delay(1, 0.5))
        assert (1.0, 6.5) == (schedule.delay(2, 0.0, 4.0), schedule.delay(2, 0.5, 4.0))

    @given(st.floats(0.001, 10), st.floats(0, 10), draws)
    def test_decorrelated_jitter_never_goes_below_its_base(self, base: float, more: float, draw: float) -> None:
        """B32."""
        assert base <= Exponential(base, cap=20, jitter="decorrelated").delay(3, draw, base + more)

    def test_a_factor_of_one_does_not_grow(self) -> None:
        schedule = Exponential(2.0, cap=20, factor=1, jitter="none")

        assert [2.0, 2.0, 2.0] == [schedule.delay(retry, 0.0) for retry in (1, 2, 10**6)]

    @pytest.mark.parametrize("jitter", ["full", "equal", "decorrelated", "none"])
    def test_a_base_of_zero_stays_zero(self, jitter: Any) -> None:
        """B29, B54: at attempt 2,000, where the power overflows, zero times it must not turn into the cap."""
        schedule = Exponential(0, cap=20, jitter=jitter)

        assert [0, 0, 0] == [schedule.delay(retry, 0.9, 0.0 if retry > 1 else None) for retry in (1, 2000, 10**6)]


class TestTheOthers:
    def test_constant_waits_the_same_each_time(self) -> None:
        assert [2.5, 2.5, 2.5] == [Constant(2.5).delay(retry, 0.3) for retry in (1, 2, 10**6)]

    def test_constant_with_jitter_takes_its_base_for_the_ceiling(self) -> None:
        assert (1.0, 2.5) == (Constant(4, jitter="full").delay(1, 0.25), Constant(4, jitter="equal").delay(1, 0.25))

    def test_linear_grows_by_its_base(self) -> None:
        schedule = Linear(1.5, cap=5, jitter="none")

        assert [1.5, 3.0, 4.5, 5.0, 5.0] == [schedule.delay(retry, 0.0) for retry in range(1, 6)]

    def test_fibonacci_adds_the_two_before(self) -> None:
        schedule = Fibonacci(0.1, cap=2, jitter="none")

        expected = [0.1, 0.1, 0.2, 0.3, 0.5, 0.8, 1.3, 2.0, 2.0]
        assert expected == pytest.approx([schedule.delay(retry, 0.0) for retry in range(1, 10)])

    def test_zero_is_a_base_like_any_other(self) -> None:
        """B54."""
        zeros: list[Backoff] = [Constant(0), Linear(0, cap=5), Fibonacci(0, cap=5), Listed([0])]

        assert [0, 0, 0, 0] == [schedule.delay(7, 0.9) for schedule in zeros]

    def test_listed_delays_come_in_turn_and_the_last_repeats(self) -> None:
        schedule = Listed([1, 5, 2])

        assert [1, 5, 2, 2, 2] == [schedule.delay(retry, 0.0) for retry in (1, 2, 3, 4, 10**6)]

    def test_a_single_delay_needs_no_list(self) -> None:
        assert Listed([3.0]) == Listed(3.0)


class TestSpread:
    """B31: clients that fail together must not come back together, at the cap least of all."""

    @pytest.mark.parametrize(
        ("schedule", "spread"),
        [
            (Exponential(1, cap=20), 1.0),
            (Exponential(1, cap=20, jitter="equal"), 0.5),
            (Exponential(1, cap=20, jitter="decorrelated"), 0.9),
            (Linear(1, cap=20), 1.0),
            (Fibonacci(1, cap=20), 1.0),
        ],
        ids=repr,
    )
    def test_at_the_cap_delays_still_fill_their_range_evenly(self, schedule: Backoff, spread: float) -> None:
        delays = sorted(schedule.delay(50, number / 1000, 20.0) for number in range(1000))

        assert 20 * spread == pytest.approx(delays[-1] - delays[0], rel=0.06)
        assert 1000 == len(set(delays))
        # No lump anywhere: each tenth of the draws covers a tenth of the range.
        steps = [after - before for before, after in zip(delays[::100], delays[100::100], strict=False)]
        assert max(steps) == pytest.approx(min(steps))

    @given(st.floats(0, 1e6), draws)
    def test_jitter_lies_below_its_ceiling(self, ceiling: float, draw: float) -> None:
        assert 0 <= jittered(ceiling, draw, "full") <= jittered(ceiling, draw, "equal") <= jittered(ceiling, draw, "none") == ceiling


def test_a_schedule_of_ones_own_needs_only_a_delay() -> None:
    class Mine:
        def delay(self, retry: int, draw: float, previous: float | None = None, /) -> float:
            return 1.0

    assert isinstance(Mine(), Backoff)
    assert not isinstance(5.0, Backoff)


class TestRefused:
    """D36, B58: a schedule that could not work is refused when it is written, by field and value."""

    @pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf, -math.inf, True, "1", None])
    @pytest.mark.parametrize("kind", [Constant, Exponential, Linear, Fibonacci])
    def test_a_base_that_is_no_finite_number_of_seconds(self, kind: Any, value: Any) -> None:
        with pytest.raises(ValueError, match=rf"^{kind.__name__}\.base: .*got {value!r}$"):
            kind(value)

    @pytest.mark.parametrize("value", [0.999, -1, math.nan, math.inf, True, "20", None])
    @pytest.mark.parametrize("kind", [Exponential, Linear, Fibonacci])
    def test_a_cap_that_is_no_finite_number_of_seconds_or_below_the_base(self, kind: Any, value: Any) -> None:
        """B25: with an infinite cap, jitter would be 0 times infinity once the power overflows."""
        with pytest.raises(ValueError, match=rf"^{kind.__name__}\.cap: .*got {value!r}$"):
            kind(1.0, cap=value)

    @pytest.mark.parametrize("value", [0.5, 0, -2, math.nan, math.inf, True, "2", None])
    def test_a_factor_that_does_not_grow(self, value: Any) -> None:
        with pytest.raises(ValueError, match=rf"^Exponential\.factor: .*got {value!r}$"):
            Exponential(factor=value)

    @pytest.mark.parametrize(
        ("kind", "jitter"),
        [
            (Exponential, "half"),
            (Exponential, True),
            (Constant, "decorrelated"),
            (Linear, "decorrelated"),
            (Fibonacci, []),
            (Constant, None),
        ],
    )
    def test_a_jitter_that_the_schedule_does_not_have(self, kind: Any, jitter: Any) -> None:
        with pytest.raises(ValueError, match=rf"^{kind.__name__}\.jitter: .*'full'.*got "):
            kind(1.0, jitter=jitter)

    @pytest.mark.parametrize("value", [[], (), [1, -1], [1, math.nan], [math.inf], [True], ["1"], "123", b"", None])
    def test_a_list_without_delays_or_with_something_else_in_it(self, value: Any) -> None:
        with pytest.raises(ValueError, match=r"^Listed\.delays: "):
            Listed(value)
