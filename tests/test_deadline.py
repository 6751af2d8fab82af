"""A deadline is a deadline, an attempt's timeout is another thing, and the caller's own timeout is neither (D10)."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience import (
    AttemptTimedOut,
    AttemptTimeout,
    Call,
    CircuitBreaker,
    Constant,
    Deadline,
    DeadlineExceeded,
    Engine,
    Env,
    Exponential,
    Handler,
    Retry,
    current,
    history,
)
from resilience.backend import cutoff
from resilience.events import DeadlineHit, RetryGaveUp
from resilience.testing import World, script

pytestmark = pytest.mark.anyio


@attrs.define(slots=False)
class Response:
    status_code: int
    headers: dict[str, str] = attrs.field(factory=dict)
    closing: Callable[[], Awaitable[None]] | None = None

    async def aclose(self) -> None:
        if self.closing is not None:
            await self.closing()


class TestTheDeadline:
    async def test_cuts_a_hung_attempt_on_time_and_says_so(self, world: World) -> None:
        """Rivals 6.11: a deadline of 0.3 s over an attempt of 1 s takes 0.3 s."""
        fetch = script(world.takes(1, "ok"))

        with pytest.raises(DeadlineExceeded, match=r"script: exceeded its deadline of 0\.3 s after 1 attempt\(s\)$") as caught:
            await Engine([Deadline(0.3), Retry()], env=world.env).call(fetch)

        assert (1, 0.3) == (fetch.calls, world.now)
        error = caught.value
        assert (0.3, 1, None, None, None) == (error.seconds, error.attempts, error.status, error.code, error.__cause__)
        assert ["attempt"] == [event.where for event in world.told(DeadlineHit)]

    async def test_is_a_timeout_error_for_whoever_catches_those(self, world: World) -> None:
        with pytest.raises(TimeoutError):
            await Engine([Deadline(1)], env=world.env).call(script(world.takes(math.inf)))

    async def test_bounds_all_attempts_and_waits_together(self, world: World) -> None:
        engine = Engine([Deadline(10), Retry(attempts=99, backoff=Constant(1)), AttemptTimeout(2)], env=world.env)
        fetch = script(*[world.takes(math.inf)] * 99)

        with pytest.raises(DeadlineExceeded) as caught:
            await engine.call(fetch)

        # 0-2, 3-5, 6-8, 9-10: the last one is cut by the deadline, a second early.
        assert (4, 10.0) == (fetch.calls, world.now)
        assert isinstance(caught.value.__cause__, AttemptTimedOut)
        assert ["AttemptTimedOut"] * 3 + ["DeadlineExceeded"] == [tried.error for tried in history(caught.value)]
        assert [2.0, 5.0, 8.0, 10.0] == [tried.elapsed for tried in history(caught.value)]

    async def test_names_the_failure_that_came_before_it(self, world: World) -> None:
        error = ConnectionError("the attempt before")
        fetch = script(Response(503), error, world.takes(math.inf))

        with pytest.raises(DeadlineExceeded) as caught:
            await Engine([Deadline(10), Retry(backoff=Constant(1))], env=world.env).call(fetch)

        assert error is caught.value.__cause__
        assert "ConnectionError" == caught.value.code

    async def test_a_repeat_that_does_not_fit_gives_the_last_failure_as_it_came(self, world: World) -> None:
        error = ConnectionError()
        engine = Engine([Deadline(5), Retry(backoff=Constant(5))], env=world.env)

        with pytest.raises(ConnectionError) as caught:
            await engine.call(script(error))

        assert error is caught.value
        assert [] == world.slept
        assert 0.0 == world.now
        assert ["deadline"] == [event.reason for event in world.told(RetryGaveUp)]

    async def test_a_response_that_does_not_fit_a_repeat_is_returned(self, world: World) -> None:
        response = Response(503, {"retry-after": "10"})

        assert response is await Engine([Deadline(5), Retry()], env=world.env).call(script(response))
        assert [] == world.slept

    async def test_a_repeat_that_was_overslept_gives_the_last_failure_as_it_came(self, world: World) -> None:
        """Nothing was cut, so nothing is raised; a busy loop wakes nobody on the dot."""

        async def oversleep(seconds: float) -> None:
            await world.sleep(seconds + 0.01)

        fetch = script(Response(503))
        engine = Engine([Deadline(1), Retry(backoff=Constant(0.995))], env=attrs.evolve(world.env, sleep=oversleep))
        response = await engine.call(fetch)

        assert (503, 1) == (response.status_code, fetch.calls)
        assert ["deadline"] == [event.reason for event in world.told(RetryGaveUp)]

    async def test_a_slow_attempt_past_the_deadline_is_not_followed_by_another(self, world: World) -> None:
        """B34: this one does not take its cancellation, and overruns."""

        async def stubborn() -> None:
            with anyio.CancelScope(shield=True):
                await world.sleep(7)
            raise ConnectionError

        fetch = script(*[attrs.evolve(world.takes(0), run=stubborn)] * 2)
        with pytest.raises(DeadlineExceeded) as caught:
            await Engine([Deadline(5), Retry(backoff=Constant(0))], env=world.env).call(fetch)

        assert (1, []) == (fetch.calls, world.slept)
        assert isinstance(caught.value.__cause__, ConnectionError)

    async def test_a_value_that_comes_late_all_the_same_is_kept(self, world: World) -> None:
        async def stubborn() -> str:
            with anyio.CancelScope(shield=True):
                await world.sleep(7)
            return "late"

        assert "late" == await Engine([Deadline(5)], env=world.env).call(stubborn)

    async def test_letting_a_failed_response_go_takes_no_longer_than_there_is_time(self, world: World) -> None:
        """A connection that hangs while it is closed must neither eat the time of the wait after it, nor more than there is."""
        response = Response(503, closing=lambda: world.sleep(math.inf))
        fetch = script(response)

        assert response is await Engine([Deadline(0.5), Retry(backoff=Constant(0.3))], env=world.env).call(fetch)
        assert (1, 0.5, []) == (fetch.calls, world.now, world.slept)
        assert ["deadline"] == [event.reason for event in world.told(RetryGaveUp)]

    async def test_starts_when_the_call_does(self, world: World) -> None:
        """B64: not when its coroutine is made, and not when the engine is."""
        engine = Engine([Deadline(5), AttemptTimeout(4)], env=world.env)
        call = engine.call(script(world.takes(3, "ok")))
        await world.sleep(100)

        assert "ok" == await call

    async def test_time_that_is_up_before_the_call_starts_costs_no_attempt(self, world: World) -> None:
        fetch = script()
        inner = Engine([Retry()], env=world.env)

        async def late() -> None:
            with anyio.CancelScope(shield=True):
                await world.sleep(6)
                await inner.call(fetch)

        with pytest.raises(DeadlineExceeded) as caught:
            await Engine([Deadline(5)], env=world.env).call(late)

        assert 0 == fetch.calls
        assert ["before", "attempt"] == [event.where for event in world.told(DeadlineHit)]
        inner_error = caught.value.__cause__
        assert isinstance(inner_error, DeadlineExceeded)
        assert 0 == inner_error.attempts

    async def test_nor_does_time_that_a_policy_of_ones_own_has_used_up(self, world: World) -> None:
        class Slow:
            def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
                async def slow(call: Call[Any]) -> Any:
                    await env.sleep(6)
                    return await inner(call)

                return slow

        fetch = script()
        with pytest.raises(DeadlineExceeded, match=r"after 0 attempt\(s\)"):
            await Engine([Deadline(5), Slow()], env=world.env).call(fetch)

        assert ["before"] == [event.where for event in world.told(DeadlineHit)]

    async def test_what_is_left_can_be_read_inside(self, world: World) -> None:
        seen = []

        async def fetch() -> None:
            seen.append(current().remaining)
            await world.sleep(2)
            if len(seen) < 2:
                raise ConnectionError

        await Engine([Deadline(10), Retry(backoff=Constant(3))], env=world.env).call(fetch)

        assert [10.0, 5.0] == seen

    async def test_a_jump_of_the_wall_clock_changes_nothing(self, world: World) -> None:
        """B19."""

        async def fetch() -> str:
            world.epoch += 86_400 if world.now < 2 else -2 * 86_400
            await world.sleep(1)
            if world.now < 4:
                raise ConnectionError
            return "ok"

        assert "ok" == await Engine([Deadline(10), Retry(attempts=9, backoff=Constant(1))], env=world.env).call(fetch)
        assert 5.0 == world.now


class TestAViewsDeadline:
    async def test_holds_without_a_policy(self, world: World) -> None:
        with pytest.raises(DeadlineExceeded, match=r"deadline of 2 s"):
            await Engine(env=world.env).using(deadline=2).call(script(world.takes(math.inf)))
        assert 2.0 == world.now

    @pytest.mark.parametrize(("policy", "view"), [(3, 8), (8, 3)])
    async def test_and_with_one_the_shorter_holds(self, world: World, policy: float, view: float) -> None:
        with pytest.raises(DeadlineExceeded, match=r"deadline of 3 s"):
            await Engine([Deadline(policy)], env=world.env).using(deadline=view).call(script(world.takes(math.inf)))
        assert 3.0 == world.now


class TestAnAttemptsTimeout:
    async def test_cuts_one_attempt_which_may_then_be_repeated(self, world: World) -> None:
        fetch = script(world.takes(5), "ok")

        assert "ok" == await Engine([Retry(backoff=Constant(1)), AttemptTimeout(2)], env=world.env).call(fetch)
        assert 3.0 == world.now

    async def test_names_itself(self, world: World) -> None:
        with pytest.raises(AttemptTimedOut, match=r"script: attempt 2 took longer than 2 s") as caught:
            await Engine([Retry(attempts=2), AttemptTimeout(2)], env=world.env).call(script(*[world.takes(5)] * 2))

        assert (2.0, 2) == (caught.value.seconds, caught.value.attempt)
        assert isinstance(caught.value, TimeoutError)

    async def test_what_the_operation_made_of_being_cut_is_its_cause(self, world: World) -> None:
        class Interrupted(Exception):
            pass

        async def fetch() -> None:
            try:
                await world.sleep(math.inf)
            finally:
                raise Interrupted

        with pytest.raises(AttemptTimedOut) as caught:
            await Engine([AttemptTimeout(2)], env=world.env).call(fetch)

        assert isinstance(caught.value.__cause__, Interrupted)

    async def test_a_task_group_that_falls_apart_when_it_is_cut_is_a_timeout(self, world: World) -> None:
        async def child() -> None:
            try:
                await world.sleep(math.inf)
            finally:
                raise ValueError

        async def fetch() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(child)
                tasks.start_soon(world.sleep, math.inf)

        with pytest.raises(AttemptTimedOut) as caught:
            await Engine([AttemptTimeout(2)], env=world.env).call(fetch)

        assert isinstance(caught.value.__cause__, ExceptionGroup)

    @pytest.mark.parametrize(
        ("deadline", "timeout", "error"), [(2, 3, DeadlineExceeded), (2, 2, DeadlineExceeded), (3, 2, AttemptTimedOut)]
    )
    async def test_of_two_limits_the_nearer_cuts_and_is_named(
        self, world: World, deadline: float, timeout: float, error: type[Exception]
    ) -> None:
        engine = Engine([AttemptTimeout(timeout)], env=world.env).using(deadline=deadline)

        with pytest.raises(error):
            await engine.call(script(world.takes(math.inf)))
        assert 2.0 == world.now

    async def test_a_wait_of_the_operations_own_that_times_out_is_not_taken_for_it(self, world: World) -> None:
        async def fetch() -> None:
            with cutoff(math.inf), world.env.cutoff(1) as scope:
                await world.sleep(math.inf)
            if scope.cancelled_caught:
                raise TimeoutError("mine")

        with pytest.raises(TimeoutError, match="mine") as caught:
            await Engine([AttemptTimeout(2)], env=world.env).call(fetch)
        assert TimeoutError is type(caught.value)

    async def test_counts_against_the_peer(self, world: World) -> None:
        breaker = CircuitBreaker(consecutive=1, failure_ratio=1)
        with pytest.raises(AttemptTimedOut):
            await Engine([breaker, AttemptTimeout(2)], env=world.env).call(script(world.takes(math.inf)))

        assert "open" == breaker.era()

    async def test_but_a_deadline_does_not(self, world: World) -> None:
        breaker = CircuitBreaker(consecutive=1, failure_ratio=1)
        with pytest.raises(DeadlineExceeded):
            await Engine([Deadline(2), breaker], env=world.env).call(script(world.takes(math.inf)))

        assert "closed" == breaker.era()


class TestTheCallersOwnTimeout:
    @pytest.mark.parametrize(
        "policies", [[Retry(attempts=9)], [Deadline(50), Retry(attempts=9), AttemptTimeout(20)]], ids=["plain", "bounded"]
    )
    async def test_around_a_hung_attempt_costs_no_further_one(self, world: World, policies: list[Any]) -> None:
        fetch = script(world.takes(math.inf))

        with world.env.cutoff(3) as scope:
            await Engine(policies, env=world.env).call(fetch)

        assert scope.cancelled_caught
        assert (1, 3.0) == (fetch.calls, world.now)

    async def test_in_the_very_same_tick_as_the_deadline_is_still_the_callers(self, world: World) -> None:
        with world.env.cutoff(3) as scope:
            await Engine([Deadline(3), Retry()], env=world.env).call(script(world.takes(math.inf)))

        assert scope.cancelled_caught


seconds = st.one_of(st.floats(0.0, 3.0), st.sampled_from([0.0, 0.1, 1.0]))
limits = st.floats(0.05, 5.0)


class TestWhateverTheSchedule:
    @settings(max_examples=60)
    @given(
        deadline=limits,
        attempt=limits,
        attempts=st.integers(1, 8),
        durations=st.lists(st.one_of(seconds, st.just(math.inf)), min_size=8, max_size=8),
        hints=st.lists(st.one_of(st.none(), seconds), min_size=8, max_size=8),
        closings=st.lists(st.sampled_from([0.0, 0.3, math.inf]), min_size=8, max_size=8),
        base=st.floats(0.0, 2.0),
        draw=st.floats(0.0, 0.99),
    )
    async def test_the_whole_call_never_takes_longer_than_its_deadline(
        self,
        *,
        deadline: float,
        attempt: float,
        attempts: int,
        durations: list[float],
        hints: list[float | None],
        closings: list[float],
        base: float,
        draw: float,
    ) -> None:
        """D10, B33."""
        world = World(draw=draw)
        started: list[float] = []

        async def fetch() -> Response:
            number = len(started)
            started.append(world.now)
            await world.sleep(durations[number])
            headers = {} if hints[number] is None else {"retry-after": f"{hints[number]:.3f}"}
            return Response(503, headers, lambda: world.sleep(closings[number]))

        policies: list[Any] = [Retry(attempts=attempts, backoff=Exponential(base, cap=5)), AttemptTimeout(attempt)]
        engine = Engine(policies, env=world.env).using(deadline=deadline)
        try:
            await engine.call(fetch)
        except (DeadlineExceeded, AttemptTimedOut):
            pass

        assert world.now <= deadline * (1 + 1e-9)
        assert 1 <= len(started) <= attempts
        assert all(when < deadline for when in started)
        assert all(delay >= 0 for delay in world.slept)
