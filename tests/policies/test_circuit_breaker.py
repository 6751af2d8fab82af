"""The breaker inside an engine: whom it judges, whom it lets through, what it says, and that nothing wedges it."""

from __future__ import annotations

import contextlib
import contextvars
import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import attrs
import pytest

from resilience import (
    AttemptTimeout,
    Blame,
    CircuitBreaker,
    CircuitOpen,
    Constant,
    Deadline,
    DeadlineExceeded,
    Engine,
    Env,
    Failure,
    Phase,
    Retry,
    Rules,
    Signal,
    Verdict,
    fail_fast,
    retry,
)
from resilience.call import Call, Plan, begin, forget_running
from resilience.dialects import callmissed, http
from resilience.errors import Rejected
from resilience.events import BreakerClosed, BreakerHalfOpened, BreakerOpened, BreakerRejected
from resilience.policies.guard import health
from resilience.policy import Handler
from resilience.testing import World, script

pytestmark = pytest.mark.anyio


class Answer(Exception):
    """The peer's answer, as a client raises it."""

    def __init__(self, status: int, code: str | None = None) -> None:
        super().__init__(status)
        self.status_code = status
        self.body = None if code is None else {"error": {"code": code, "message": "no", "type": "error"}}


async def outcome(engine: Engine, operation: Callable[..., Any]) -> object:
    """What one call comes to: its value, the status of the answer, or the error's class."""
    try:
        return await engine.call(operation)
    except Answer as answer:
        return answer.status_code
    except Exception as error:
        return type(error)


async def outcomes(engine: Engine, operation: Callable[..., Any], times: int) -> list[object]:
    return [await outcome(engine, operation) for _ in range(times)]


def breaking(
    world: World, *, rules: Rules = http.RULES, emit: Callable[[Any], None] | None = None, **more: Any
) -> tuple[Engine, CircuitBreaker]:
    """An engine with a breaker that one failure opens, and the breaker."""
    breaker = CircuitBreaker(**{"minimum": 1, **more})
    env = world.env if emit is None else attrs.evolve(world.env, emit=emit)
    return Engine([breaker], rules=rules, env=env), breaker


async def opened(engine: Engine) -> None:
    assert 503 == await outcome(engine, script(Answer(503)))


class Hanging:
    """An operation that starts and does not end until it is told how."""

    def __init__(self) -> None:
        self.started = 0
        self.answers: list[Exception | None] = []
        self._go = anyio.Event()

    async def __call__(self) -> str:
        number = self.started
        self.started += 1
        await self._go.wait()
        answer = self.answers[number] if number < len(self.answers) else None
        if answer is not None:
            raise answer
        return "late"

    def end(self, *answers: Exception | None) -> None:
        self.answers = list(answers)
        self._go.set()


class TestWhatCounts:
    async def test_the_failures_of_a_coroutine_function_are_seen(self, world: World) -> None:
        """B14."""
        engine, breaker = breaking(world, minimum=5)

        @engine
        async def fetch() -> None:
            raise ConnectionError

        for _ in range(5):
            with pytest.raises(ConnectionError):
                await fetch()

        assert "open" == breaker.era()

    async def test_what_is_the_callers_own_fault_never_opens_it(self, world: World) -> None:
        """D18, B13: a thousand mixed answers and cancellations."""
        engine, breaker = breaking(world, minimum=10)
        for status in (400, 401, 403, 404, 409, 422) * 120:
            assert status == await outcome(engine, script(Answer(status)))
        for _ in range(280):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await engine.call(anyio.sleep_forever)

        assert "closed" == breaker.era()

    async def test_the_services_own_faults_open_it(self, world: World) -> None:
        """D18."""
        engine, _ = breaking(world, minimum=10)

        assert [503] * 10 + [CircuitOpen] == await outcomes(engine, script(*[Answer(503)] * 10), 11)

    async def test_a_quota_or_an_empty_credit_speaks_against_nobody_else(self, world: World) -> None:
        engine, breaker = breaking(world, rules=callmissed.RULES)
        await outcome(engine, script(Answer(402, "insufficient_credits")))
        await outcome(engine, script(Answer(402, "budget_exceeded")))
        await outcome(engine, script(Answer(429, "rate_limit_exceeded")))

        assert "closed" == breaker.era()

    async def test_whether_rate_limits_count_is_a_setting(self, world: World) -> None:
        """D18."""
        engine, breaker = breaking(world, throttling=True)
        await outcome(engine, script(Answer(429)))

        assert "open" == breaker.era()

    async def test_a_peer_that_says_it_is_overloaded_counts_whatever_the_setting(self, world: World) -> None:
        """529 asks for less as a 429 does, but because of its own load."""
        engine, breaker = breaking(world)
        await outcome(engine, script(Answer(529)))

        assert "open" == breaker.era()

    async def test_a_cancelled_attempt_is_no_vote(self, world: World) -> None:
        """B13: a hundred of them, and nothing was counted."""
        engine, breaker = breaking(world)
        for _ in range(100):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await engine.call(anyio.sleep_forever)
        closed = breaker._circuits.kept[None].closed

        assert closed is not None
        assert (0, 0) == closed.window.counts()

    async def test_an_attempt_that_times_out_counts(self, world: World) -> None:
        breaker = CircuitBreaker(minimum=1)
        engine = Engine([breaker, AttemptTimeout(1)], env=world.env)
        await outcome(engine, script(world.takes(5, "late")))

        assert "open" == breaker.era()

    async def test_the_callers_deadline_is_no_vote(self, world: World) -> None:
        breaker = CircuitBreaker(minimum=1)
        engine = Engine([Deadline(1), breaker], env=world.env)

        assert DeadlineExceeded is await outcome(engine, script(world.takes(5, "late")))
        assert "closed" == breaker.era()

    async def test_what_is_refused_further_in_is_no_vote(self, world: World) -> None:
        """By another breaker of the same engine, or by one in an engine that the operation uses."""
        inner = CircuitBreaker()
        inner.isolate()
        outer = CircuitBreaker(minimum=1)
        await outcome(Engine([outer, inner], env=world.env), script())
        nested = Engine([inner], env=world.env)

        async def calls() -> object:
            return await nested.call(script())

        await outcome(Engine([outer], env=world.env), calls)

        assert "closed" == outer.era()

    async def test_a_success_that_completes_the_volume_opens_it(self, world: World) -> None:
        """B12."""
        engine, _ = breaking(world, minimum=3)

        assert [503, 503, "ok", CircuitOpen] == await outcomes(engine, script(Answer(503), Answer(503), "ok"), 4)

    async def test_answers_about_the_caller_count_among_the_attempts(self, world: World) -> None:
        engine, breaker = breaking(world, minimum=3)
        await outcomes(engine, script(Answer(404), Answer(404), Answer(503)), 3)

        assert "closed" == breaker.era()

    async def test_a_success_begins_a_row_of_failures_anew(self, world: World) -> None:
        engine, breaker = breaking(world, minimum=100, consecutive=2)
        await outcomes(engine, script(Answer(503), "ok", Answer(503), Answer(404), Answer(503)), 5)
        assert "closed" == breaker.era()
        await outcome(engine, script(Answer(503)))

        assert "open" == breaker.era()

    async def test_failures_are_forgotten_when_the_window_has_passed(self, world: World) -> None:
        engine, breaker = breaking(world, minimum=2, window=30.0)
        await outcome(engine, script(Answer(503)))
        await world.sleep(30)
        await outcome(engine, script(Answer(503)))

        assert "closed" == breaker.era()

    async def test_the_window_moves_for_repeats_of_an_old_call_too(self, world: World) -> None:
        """A first attempt is dated by the start of its call; a repeat must not be."""
        breaker = CircuitBreaker(minimum=3, failure_ratio=0.5, window=30.0)
        engine = Engine([Retry(attempts=2, backoff=Constant(40.0)), breaker], env=world.env)
        await outcomes(engine, script("ok", "ok", "ok"), 3)

        assert "late" == await outcome(engine, script(ConnectionError(), "late"))
        closed = breaker._circuits.kept[None].closed
        assert closed is not None
        assert (0, 1) == closed.window.counts()

    async def test_jumps_of_the_wall_clock_have_no_effect(self, world: World) -> None:
        """B19."""
        engine, breaker = breaking(world, cooldown=5.0)
        await opened(engine)
        world.epoch += 86_400
        assert CircuitOpen is await outcome(engine, script())
        world.epoch -= 2 * 86_400
        await world.sleep(5)

        assert "ok" == await outcome(engine, script("ok"))
        assert "closed" == breaker.era()

    @pytest.mark.parametrize(
        ("healthy", "verdict", "signal"),
        [
            (False, retry(), Signal(status=503)),
            (False, retry(), Signal()),
            (False, fail_fast(blames=Blame.PEER), Signal(status=501)),
            (False, retry(throttled=True), Signal(status=529)),
            (False, retry(throttled=True), Signal(status=200, code="overloaded_error")),
            (False, retry(throttled=True), Signal()),
            (True, retry(throttled=True), Signal(status=429)),
            (True, retry(throttled=True, blames=Blame.CALLER), Signal(status=503)),
            (True, fail_fast(), Signal(status=404)),
            (True, fail_fast(), Signal(phase=Phase.REFUSED)),
            (True, fail_fast(blames=Blame.CREDENTIAL), Signal(status=401)),
            (None, fail_fast(), Signal()),
            (None, fail_fast(), Signal(phase=Phase.NOT_SENT)),
        ],
    )
    def test_how_each_failure_votes(self, healthy: bool | None, verdict: Verdict, signal: Signal) -> None:
        """What says nothing of the peer, such as a bug in the caller's own code, is no vote."""
        assert healthy is health(Failure(verdict, signal, OSError()))

    @pytest.mark.parametrize("blames", [Blame.PEER, Blame.CALLER])
    def test_where_throttling_counts_every_wish_for_less_does(self, blames: Blame) -> None:
        failure = Failure(retry(throttled=True, blames=blames), Signal(status=429), OSError())

        assert False is health(failure, throttling=True)

    @pytest.mark.parametrize("error", [CircuitOpen(), Rejected(), DeadlineExceeded()])
    def test_our_own_rejections_are_no_vote_whatever_a_dialect_says_of_them(self, error: Exception) -> None:
        assert None is health(Failure(retry(), Signal(status=503), error))


class TestRejection:
    async def test_a_rejected_attempt_does_not_start(self, world: World) -> None:
        engine, _ = breaking(world)
        await opened(engine)
        fetch = script()

        assert CircuitOpen is await outcome(engine, fetch)
        assert 0 == fetch.calls

    async def test_it_says_when_to_come_again_which_counts_down(self, world: World) -> None:
        """D20."""
        engine, _ = breaking(world, cooldown=5.0)
        await opened(engine)
        waits = []
        for _ in range(3):
            with pytest.raises(CircuitOpen) as caught:
                await engine.call(script())
            waits.append(caught.value.retry_after)
            await world.sleep(2)

        assert [5.0, 3.0, 1.0] == waits

    async def test_it_says_what_tripped_it_and_which_circuit_it_was(self, world: World) -> None:
        """D20."""
        engine, _ = breaking(world, rules=callmissed.RULES, key=lambda call: "api.callmissed.com")
        await outcome(engine, script(Answer(503, "provider_error")))
        with pytest.raises(CircuitOpen) as caught:
            await engine.call(script())
        error = caught.value

        assert ("api.callmissed.com", "open", 503, "provider_error") == (error.key, error.era, error.status, error.code)
        assert "callmissed: code provider_error, status 503" == error.tripped_by
        assert (
            "script: circuit open for api.callmissed.com, tripped by callmissed: code provider_error, status 503; try again in 5 s"
            == str(error)
        )

    async def test_while_the_probes_are_out_it_says_when_the_oldest_must_make_room(self, world: World) -> None:
        """D20: the lease, counting down."""
        engine, _ = breaking(world, cooldown=5.0, lease=30.0)
        await opened(engine)
        await world.sleep(5)
        probe = Hanging()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.call, probe)
            await world.sleep(10)
            with pytest.raises(CircuitOpen) as caught:
                await engine.call(script())
            probe.end()

        assert ("half_open", 20.0) == (caught.value.era, caught.value.retry_after)
        assert "http: status 5xx, status 503" == caught.value.tripped_by

    async def test_an_isolated_circuit_does_not_say_when_to_come_again(self, world: World) -> None:
        engine, breaker = breaking(world)
        breaker.isolate()
        with pytest.raises(CircuitOpen) as caught:
            await engine.call(script())

        assert ("isolated", None, None) == (caught.value.era, caught.value.retry_after, caught.value.tripped_by)

    async def test_each_rejection_is_a_fresh_error(self, world: World) -> None:
        engine, breaker = breaking(world)
        breaker.isolate()
        errors = []
        for _ in range(2):
            with pytest.raises(CircuitOpen) as caught:
                await engine.call(script())
            errors.append(caught.value)

        assert errors[0] is not errors[1]

    async def test_it_counts_no_attempt_costs_no_sleep_and_never_hides_the_failure_that_led_there(self, world: World) -> None:
        engine = Engine([Retry(attempts=5, backoff=Constant(1.0)), CircuitBreaker(minimum=2)], env=world.env)
        fetch = script(ConnectionError("first"), ConnectionError("second"))
        with pytest.raises(ConnectionError, match="second"):
            await engine.call(fetch)

        assert 2 == fetch.calls

    async def test_what_tripped_it_is_not_kept_alive(self, world: World) -> None:
        """D34."""
        engine, breaker = breaking(world)
        error = Answer(503)
        seen = weakref.ref(error)
        await outcome(engine, script(error))
        del error
        gc.collect()

        assert "open" == breaker.era()
        assert None is seen()

    async def test_a_thousand_rejections_leave_nothing_for_the_collector(self, world: World) -> None:
        """D34."""
        engine, breaker = breaking(world, emit=lambda event: None)
        breaker.isolate()
        await outcomes(engine, script(), 3)
        gc.collect()
        gc.disable()
        try:
            await outcomes(engine, script(), 1000)
            assert 0 == gc.collect()
        finally:
            gc.enable()


class TestProbes:
    @pytest.mark.parametrize("probes", [1, 2, 5])
    async def test_of_a_thousand_that_wait_for_the_cooldown_exactly_so_many_pass(self, world: World, probes: int) -> None:
        """D7, B7, B8, B9: through retry and breaker together."""
        breaker = CircuitBreaker(minimum=1, probes=probes)
        engine = Engine([Retry(), breaker], env=world.env)
        await outcome(engine, script(Answer(500), Answer(500)))
        await world.sleep(5)
        probe = Hanging()
        seen: list[object] = []

        async def one() -> None:
            seen.append(await outcome(engine, probe))

        async with anyio.create_task_group() as tasks:
            for _ in range(1000):
                tasks.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            assert probes == probe.started
            probe.end()

        assert [CircuitOpen] * (1000 - probes) + ["late"] * probes == seen
        assert "closed" == breaker.era()

    @pytest.mark.parametrize(
        "entered",
        [
            pytest.param(lambda engine, probe: engine.call(probe), id="call"),
            pytest.param(lambda engine, probe: engine(probe)(), id="decorator"),
            pytest.param(lambda engine, probe: engine.using(operation="probe").call(probe), id="view"),
        ],
    )
    @pytest.mark.parametrize("slow_after", [None, 20.0])
    async def test_a_cancelled_probe_decides_nothing_and_the_next_call_probes(
        self, world: World, entered: Callable[[Engine, Hanging], Any], slow_after: float | None
    ) -> None:
        """D8, B3."""
        engine, breaker = breaking(world, slow_after=slow_after)
        await opened(engine)
        await world.sleep(5)
        probe = Hanging()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(entered, engine, probe)
            await anyio.wait_all_tasks_blocked()
            assert "half_open" == breaker.era()
            tasks.cancel_scope.cancel()

        assert "half_open" == breaker.era()
        assert "ok" == await outcome(engine, script("ok"))
        assert "closed" == breaker.era()

    async def test_a_probe_that_never_ends_gives_way_after_its_lease(self, world: World) -> None:
        """D8, B4: and its late answer changes nothing."""
        engine, breaker = breaking(world, lease=30.0)
        await opened(engine)
        await world.sleep(5)
        lost, second = Hanging(), Hanging()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outcome, engine, lost)
            await world.sleep(29.9)
            assert CircuitOpen is await outcome(engine, script())
            await world.sleep(0.1)
            tasks.start_soon(outcome, engine, second)
            await anyio.wait_all_tasks_blocked()
            lost.end(Answer(503))
            await anyio.wait_all_tasks_blocked()
            assert (1, "half_open") == (second.started, breaker.era())
            second.end()

        assert "closed" == breaker.era()

    @pytest.mark.parametrize("error", [Answer(400), Answer(404), Answer(429)])
    async def test_a_probe_that_is_told_off_has_found_the_peer_well(self, world: World, error: Exception) -> None:
        engine, breaker = breaking(world)
        await opened(engine)
        await world.sleep(5)
        await outcome(engine, script(error))

        assert "closed" == breaker.era()

    async def test_a_probe_that_ends_in_a_bug_of_the_callers_gives_its_place_back(self, world: World) -> None:
        """D8, B5."""
        engine, breaker = breaking(world)
        await opened(engine)
        await world.sleep(5)

        assert [KeyError] * 5 == await outcomes(engine, script(*[KeyError("bug")] * 5), 5)
        assert "half_open" == breaker.era()
        assert "ok" == await outcome(engine, script("ok"))
        assert "closed" == breaker.era()

    async def test_a_probe_that_is_refused_further_in_gives_its_place_back(self, world: World) -> None:
        """D8."""
        inner = CircuitBreaker()
        outer = CircuitBreaker(minimum=1)
        engine = Engine([outer, inner], env=world.env)
        await opened(engine)
        await world.sleep(5)
        inner.isolate()
        await outcomes(engine, script(), 5)
        assert "half_open" == outer.era()
        inner.reset()

        assert "ok" == await outcome(engine, script("ok"))
        assert "closed" == outer.era()

    async def test_a_probe_in_which_a_policy_or_a_classifier_raises_gives_its_place_back(self, world: World) -> None:
        """D8, B6."""

        class Broken:
            raises = False

            def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
                async def handler(call: Call[Any]) -> Any:
                    if self.raises:
                        raise ZeroDivisionError
                    return await inner(call)

                return handler

        broken, breaker = Broken(), CircuitBreaker(minimum=1, probes=2)
        engine = Engine([breaker, broken], env=world.env)
        await opened(engine)
        await world.sleep(5)
        broken.raises = True
        assert [ZeroDivisionError] * 5 == await outcomes(engine, script(), 5)
        broken.raises = False

        assert ["ok", "ok"] == await outcomes(engine, script("ok", "ok"), 2)
        assert "closed" == breaker.era()

    @pytest.mark.parametrize("name", ["breaker.half_opened", "breaker.opened", "breaker.closed", "attempt.failed"])
    async def test_a_listener_that_raises_holds_no_permit(self, world: World, name: str) -> None:
        """D8."""
        sick = True

        def emit(event: Any) -> None:
            if sick and event.name == name:
                raise ZeroDivisionError

        engine, breaker = breaking(world, emit=emit)
        await outcome(engine, script(Answer(503)))
        await world.sleep(5)
        await outcome(engine, script(Answer(503)))
        await world.sleep(10)
        await outcome(engine, script("ok"))
        sick = False
        await world.sleep(100)

        assert "ok" == await outcome(engine, script("ok"))
        assert "closed" == breaker.era()

    @pytest.mark.parametrize("slow_after", [None, 20.0])
    async def test_a_listener_that_raises_as_the_probes_begin_costs_no_probe(self, world: World, slow_after: float | None) -> None:
        """D8, D22."""

        def emit(event: Any) -> None:
            if isinstance(event, BreakerHalfOpened):
                raise ZeroDivisionError

        engine, breaker = breaking(world, emit=emit, slow_after=slow_after)
        await opened(engine)
        await world.sleep(5)

        assert "ok" == await outcome(engine, script("ok"))
        assert "closed" == breaker.era()

    async def test_a_probe_whose_coroutine_is_thrown_away_gives_its_place_back(self, world: World) -> None:
        """D8: as the collector does with the tasks of a loop that was abandoned."""
        engine, breaker = breaking(world)
        await opened(engine)
        await world.sleep(5)

        class Never:
            def __await__(self) -> Any:
                yield

        async def hang() -> None:
            await Never()

        probe = engine.call(hang)
        contextvars.copy_context().run(probe.send, None)  # as a task of its own
        assert "half_open" == breaker.era()
        assert CircuitOpen is await outcome(engine, script())
        probe.close()

        assert "ok" == await outcome(engine, script("ok"))
        assert "closed" == breaker.era()

    async def test_one_failed_probe_opens_it_again_for_twice_as_long(self, world: World) -> None:
        """B11."""
        engine, _ = breaking(world, cooldown=5.0, minimum=10)
        await outcomes(engine, script(*[Answer(503)] * 10), 10)
        await world.sleep(5)
        await opened(engine)
        with pytest.raises(CircuitOpen) as caught:
            await engine.call(script())

        assert 10.0 == caught.value.retry_after

    @pytest.mark.parametrize("answer", [None, Answer(503)])
    async def test_late_news_from_before_the_trip_changes_nothing(self, world: World, answer: Exception | None) -> None:
        """B10: neither an open circuit nor the probe that is out."""
        engine, breaker = breaking(world)
        stale, staler, probe = Hanging(), Hanging(), Hanging()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outcome, engine, staler)
            tasks.start_soon(outcome, engine, stale)
            await anyio.wait_all_tasks_blocked()
            await opened(engine)
            staler.end(answer)
            await anyio.wait_all_tasks_blocked()
            assert "open" == breaker.era()
            await world.sleep(5)
            tasks.start_soon(outcome, engine, probe)
            await anyio.wait_all_tasks_blocked()
            stale.end(answer)
            await anyio.wait_all_tasks_blocked()
            assert "half_open" == breaker.era()
            assert CircuitOpen is await outcome(engine, script())
            probe.end()

        assert "closed" == breaker.era()


class TestSlow:
    async def test_two_hundred_hung_calls_open_it_before_any_of_them_ends(self, world: World) -> None:
        engine, breaker = breaking(world, minimum=10, slow_after=2.0)
        hung = Hanging()
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(outcome, engine, hung)
            await world.sleep(2)
            assert (200, "closed") == (hung.started, breaker.era())
            assert CircuitOpen is await outcome(engine, script())
            assert "open" == breaker.era()
            hung.end()
            await anyio.wait_all_tasks_blocked()
            assert "open" == breaker.era()

        assert ["resilience: slower than 2 s"] == [event.tripped_by for event in world.told(BreakerOpened)]

    async def test_slow_successes_open_it(self, world: World) -> None:
        engine, breaker = breaking(world, minimum=3, slow_after=2.0)
        await outcomes(engine, script(*[world.takes(2, "ok")] * 3), 3)

        assert "open" == breaker.era()

    async def test_quick_successes_keep_it_closed_and_leave_nothing_behind(self, world: World) -> None:
        engine, breaker = breaking(world, minimum=3, slow_after=2.0)
        await outcomes(engine, script(*[world.takes(1.9, "ok")] * 100), 100)
        closed = breaker._circuits.kept[None].closed

        assert closed is not None
        assert {} == closed.flight
        assert 0 == closed.window.counts()[0]

    async def test_a_quick_success_that_completes_the_volume_opens_it(self, world: World) -> None:
        """B12."""
        engine, _ = breaking(world, minimum=3, slow_after=2.0)

        assert [503, 503, "ok", CircuitOpen] == await outcomes(engine, script(Answer(503), Answer(503), "ok"), 4)

    async def test_cancelled_and_quick_is_still_no_vote(self, world: World) -> None:
        """B13."""
        engine, breaker = breaking(world, slow_after=2.0)
        for _ in range(100):
            with anyio.CancelScope() as scope:
                scope.cancel()
                await engine.call(anyio.sleep_forever)
        closed = breaker._circuits.kept[None].closed

        assert closed is not None
        assert {} == closed.flight
        assert (0, 0) == closed.window.counts()


class TestByHand:
    async def test_isolated_it_refuses_until_it_is_reset(self, world: World) -> None:
        engine, breaker = breaking(world)
        breaker.isolate()
        await world.sleep(1e6)

        assert [CircuitOpen] * 3 == await outcomes(engine, script(), 3)
        breaker.reset()
        assert "ok" == await outcome(engine, script("ok"))

    async def test_one_key_is_isolated_and_the_others_are_not(self, world: World) -> None:
        engine, breaker = breaking(world, key=lambda call: call.args[0])
        breaker.isolate("a")

        with pytest.raises(CircuitOpen):
            await engine.call(script(), "a")
        assert "ok" == await engine.call(script("ok"), "b")
        assert ["isolated", "closed"] == [breaker.era("a"), breaker.era("b")]

    async def test_without_a_key_those_who_have_not_come_yet_are_isolated_too(self, world: World) -> None:
        engine, breaker = breaking(world, key=lambda call: call.args[0])
        breaker.isolate()

        with pytest.raises(CircuitOpen):
            await engine.call(script(), "never seen")


class TestKeys:
    """D37."""

    async def test_a_peer_that_is_down_does_not_take_the_others_with_it(self, world: World) -> None:
        engine, breaker = breaking(world, key=lambda call: call.args[0])
        with pytest.raises(Answer):
            await engine.call(script(Answer(503)), "down")

        assert "ok" == await engine.call(script("ok"), "up")
        with pytest.raises(CircuitOpen):
            await engine.call(script(), "down")
        assert ["open", "closed"] == [breaker.era("down"), breaker.era("up")]

    async def test_two_functions_under_one_key_share_the_circuit_and_each_runs_its_own(self, world: World) -> None:
        """B16."""
        engine, _ = breaking(world, key=lambda call: "one")

        assert ["a", "b", "a"] == [await engine.call(script(result)) for result in "aba"]
        await outcomes(engine, script(*[Answer(503)] * 3), 3)
        assert CircuitOpen is await outcome(engine, script())

    async def test_the_key_is_the_calls_peer_if_nothing_is_said(self, world: World) -> None:
        class Peered:
            """What an adapter does."""

            def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
                async def handler(call: Call[Any]) -> Any:
                    call.peer = call.args[0]
                    return await inner(call)

                return handler

        breaker = CircuitBreaker(minimum=1)
        engine = Engine([Peered(), breaker], env=world.env)
        with pytest.raises(Answer):
            await engine.call(script(Answer(503)), "https://a")

        assert ["open", "closed", "closed"] == [breaker.era("https://a"), breaker.era("https://b"), breaker.era()]

    @pytest.mark.parametrize("slow_after", [None, 5.0])
    async def test_a_call_that_was_out_while_its_circuit_was_thrown_out_still_counts(self, world: World, slow_after: float | None) -> None:
        engine, breaker = breaking(world, key=lambda call: call.args[0], max_keys=2, slow_after=slow_after)
        hung = Hanging()

        async def hang(key: str) -> str:
            return await hung()

        async with anyio.create_task_group() as tasks:

            async def one() -> None:
                with pytest.raises(Answer):
                    await engine.call(hang, "a")

            tasks.start_soon(one)
            await anyio.wait_all_tasks_blocked()
            for key in "bcdef":
                await engine.call(script("ok"), key)
            assert "a" not in breaker._circuits.kept
            hung.end(Answer(503))

        assert "open" == breaker.era("a")
        assert 2 == len(breaker._circuits.kept)

    @pytest.mark.parametrize("slow_after", [None, 5.0])
    async def test_of_many_keys_the_one_in_use_stays(self, world: World, slow_after: float | None) -> None:
        engine, breaker = breaking(world, key=lambda call: call.args[0], max_keys=2, slow_after=slow_after)
        for number in range(20):
            await engine.call(script("ok"), "mine")
            await engine.call(script("ok"), number)

            assert "mine" in breaker._circuits.kept

    async def test_where_there_is_no_room_a_newcomer_passes(self, world: World) -> None:
        engine, breaker = breaking(world, key=lambda call: call.args[0], max_keys=1)
        with pytest.raises(Answer):
            await engine.call(script(Answer(503)), "down")

        assert ["ok"] * 3 == [await engine.call(script("ok"), key) for key in "abc"]
        assert ["down"] == list(breaker._circuits.kept)

    async def test_ten_thousand_keys_start_no_task_and_keep_the_registry_at_its_bound(self, world: World) -> None:
        engine, breaker = breaking(world, key=lambda call: call.args[0], max_keys=100)

        async def fine(key: int) -> int:
            return key

        tasks, threads = len(anyio.get_running_tasks()), threading.active_count()
        for number in range(10_000):
            await engine.call(fine, number)

        assert 100 == len(breaker._circuits.kept)
        assert tasks == len(anyio.get_running_tasks())
        assert threads >= threading.active_count()  # an idle worker of a test before may have ended meanwhile
        assert [] == world._alarms

    def test_a_million_keys_keep_the_registry_at_its_bound_and_the_open_circuit_in_it(self) -> None:
        breaker = CircuitBreaker(minimum=1, key=lambda call: call.args[1])
        run = handler_of(breaker, Env(now=lambda: 0.0, emit=lambda event: None))
        run(TestThreads.FAILED, "down")
        find = breaker._circuits.find  # what a call with a new key does beyond one with an old one
        for number in range(1_000_000):
            find(number, 0.0)

        assert 1024 == len(breaker._circuits.kept)
        assert 0 == len(breaker._circuits._out)
        assert "open" == breaker.era("down")
        assert isinstance(run("never", "down"), Failure)

    async def test_a_key_that_is_no_key_is_an_error_of_whoever_wrote_the_function(self, world: World) -> None:
        engine, _ = breaking(world, key=lambda call: [])

        with pytest.raises(TypeError, match="unhashable"):
            await engine.call(script())


class TestSharing:
    async def test_one_breaker_in_two_engines_has_one_state(self, world: World) -> None:
        breaker = CircuitBreaker(minimum=1)
        one, two = Engine([breaker], env=world.env), Engine([breaker], env=world.env)
        await opened(one)

        assert CircuitOpen is await outcome(two, script())

    def test_two_breakers_that_look_alike_share_nothing(self) -> None:
        one, two = CircuitBreaker(), CircuitBreaker()
        one.isolate()

        assert ["isolated", "closed"] == [one.era(), two.era()]
        assert one != two
        assert 2 == len({one, two})

    @pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, attrs.evolve, lambda breaker: pickle.loads(pickle.dumps(breaker))])
    def test_a_copy_has_the_settings_and_a_state_of_its_own(self, copied: Callable[[CircuitBreaker], CircuitBreaker]) -> None:
        """B57."""
        breaker = CircuitBreaker(
            minimum=7, failure_ratio=0.25, consecutive=9, slow_after=2.0, cooldown=3.0, max_cooldown=4.0, probes=6, max_keys=8
        )
        breaker.isolate()
        other = copied(breaker)

        assert repr(breaker) == repr(other)
        assert ["isolated", "closed"] == [breaker.era(), other.era()]

    def test_its_repr_shows_the_settings_and_no_state(self) -> None:
        shown = repr(CircuitBreaker())

        assert shown.startswith("CircuitBreaker(failure_ratio=0.5, minimum=10, window=30.0,")
        assert "Circuits" not in shown
        assert "lock" not in shown


class TestEvents:
    async def test_each_era_is_told_once_and_each_rejection(self, world: World) -> None:
        engine, _ = breaking(world, cooldown=5.0, rules=callmissed.RULES, key=lambda call: ("api", 1))
        await outcome(engine, script(Answer(503, "provider_error")))
        await outcomes(engine, script(), 2)
        await world.sleep(5)
        await outcome(engine, script("ok"))

        assert [
            "breaker.opened",
            "breaker.rejected",
            "breaker.rejected",
            "breaker.half_opened",
            "breaker.closed",
        ] == world.names("breaker.")
        (up,) = world.told(BreakerOpened)
        assert ("('api', 1)", "callmissed: code provider_error, status 503", 5.0) == (up.key, up.tripped_by, up.cooldown)
        rejected = world.told(BreakerRejected)[0]
        assert ("('api', 1)", "open", 5.0, up.tripped_by) == (rejected.key, rejected.era, rejected.retry_after, rejected.tripped_by)
        assert ["('api', 1)"] == [event.key for event in world.told(BreakerHalfOpened)]
        assert ["('api', 1)"] == [event.key for event in world.told(BreakerClosed)]

    async def test_the_rejection_that_finds_hung_attempts_tells_first_that_it_opened(self, world: World) -> None:
        engine, _ = breaking(world, slow_after=2.0)
        hung = Hanging()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outcome, engine, hung)
            await world.sleep(2)
            await outcome(engine, script())
            hung.end()

        assert ["breaker.opened", "breaker.rejected"] == world.names("breaker.")


def handler_of(breaker: CircuitBreaker, env: Env) -> Callable[..., Any]:
    """The breaker's handler around an operation that ends as its first argument says, and a way to call it."""

    async def inner(call: Call[Any]) -> Any:
        return call.args[0]

    handler = breaker.bind(inner, env)
    plan = Plan(engine="test", env=env, rules=http.RULES)

    def run(*args: object) -> Any:
        try:
            handler(begin(plan, inner, args, {}, 0.0)).send(None)  # type: ignore[attr-defined]  # a coroutine that never suspends
        except StopIteration as stop:
            return stop.value
        raise AssertionError("it suspended")

    return run


class TestThreads:
    """D26."""

    FAILED = Failure(retry(), Signal(status=503), OSError())

    def in_eight(self, work: Callable[[], object]) -> None:
        barrier = threading.Barrier(8)
        raised: list[BaseException] = []

        def run() -> None:
            barrier.wait()
            try:
                work()
            except BaseException as error:
                raised.append(error)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [] == raised

    @pytest.mark.parametrize("slow_after", [None, 3600.0])
    def test_eight_threads_count_exactly(self, slow_after: float | None) -> None:
        breaker = CircuitBreaker(minimum=10**9, window=1e9, slow_after=slow_after, lease=3600.0)
        run = handler_of(breaker, Env(emit=lambda event: None))

        def work() -> None:
            for turn in range(2000):
                run(self.FAILED if turn % 4 == 0 else "ok")

        self.in_eight(work)
        closed = breaker._circuits.kept[None].closed

        assert closed is not None
        assert (4000, 16_000) == closed.window.counts()
        assert {} == closed.flight

    def test_as_the_cooldown_ends_eight_threads_start_one_probe(self) -> None:
        """D7."""
        now = 0.0
        breaker = CircuitBreaker(minimum=1, cooldown=5.0, lease=1000.0)
        env = Env(now=lambda: now, emit=lambda event: None)
        run = handler_of(breaker, env)
        run(self.FAILED)
        assert "open" == breaker.era()
        now = 5.0
        started = []

        class Never:
            def __await__(self) -> Any:
                yield

        async def inner(call: Call[Any]) -> None:
            started.append(call)
            await Never()

        handler = breaker.bind(inner, env)
        plan = Plan(engine="test", env=env, rules=http.RULES)
        running = []

        def work() -> None:
            for _ in range(100):
                one = handler(begin(plan, inner, (), {}, 0.0))
                running.append(one)
                with contextlib.suppress(StopIteration):  # a rejection does not suspend
                    one.send(None)  # type: ignore[attr-defined]  # a coroutine

        self.in_eight(work)
        for one in running:
            one.close()  # type: ignore[attr-defined]  # a coroutine

        assert 1 == len(started)

    def test_eight_threads_that_trip_it_tell_so_once(self) -> None:
        told: list[str] = []
        breaker = CircuitBreaker(minimum=1000)
        run = handler_of(breaker, Env(emit=lambda event: told.append(event.name)))

        def work() -> None:
            for _ in range(500):
                run(self.FAILED)

        self.in_eight(work)

        assert 1 == told.count("breaker.opened")
        # Each of the other seven may have had an attempt out when it opened.
        assert 3000 - 7 <= told.count("breaker.rejected") <= 3000

    def test_keys_come_and_go_in_eight_threads_without_error(self) -> None:
        breaker = CircuitBreaker(minimum=2, max_keys=16, key=lambda call: call.args[1])
        run = handler_of(breaker, Env(emit=lambda event: None))

        def work() -> None:
            for turn in range(2000):
                run(self.FAILED if turn % 5 == 0 else "ok", turn % 100)
                if turn % 500 == 0:
                    breaker.isolate(turn % 7)
                    breaker.reset(turn % 7)

        self.in_eight(work)

        assert set(breaker._circuits.kept.values()) == set(breaker._circuits._ring)


def test_one_breaker_serves_two_loops_one_after_the_other_with_contention_in_each() -> None:
    """D26."""
    breaker = CircuitBreaker(minimum=10**6, probes=1)
    engine = Engine([breaker], env=Env(emit=lambda event: None))

    async def fine() -> str:
        await anyio.sleep(0)
        return "ok"

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(engine.call, fine)

    anyio.run(run, backend="asyncio")
    anyio.run(run, backend="trio")
    closed = breaker._circuits.kept[None].closed

    assert closed is not None
    assert (0, 200) == closed.window.counts()


class TestSettings:
    @pytest.mark.parametrize("field", ["failure_ratio", "window", "slow_after", "cooldown", "max_cooldown", "lease"])
    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 0, True, "5", [], 1j])
    def test_what_is_no_number_above_zero_is_refused_with_the_field_and_the_value(self, field: str, value: object) -> None:
        with pytest.raises(ValueError, match=rf"CircuitBreaker\.{field}: expected .*, got ") as caught:
            CircuitBreaker(**{field: value})  # type: ignore[arg-type]

        assert repr(value) in str(caught.value)

    @pytest.mark.parametrize("field", ["minimum", "consecutive", "probes", "max_keys"])
    @pytest.mark.parametrize("value", [float("nan"), -1, 0, True, 1.5, 2.0, "5"])
    def test_what_is_no_whole_number_above_zero_is_refused_with_the_field_and_the_value(self, field: str, value: object) -> None:
        with pytest.raises(ValueError, match=rf"CircuitBreaker\.{field}: expected .*, got ") as caught:
            CircuitBreaker(**{field: value})  # type: ignore[arg-type]

        assert repr(value) in str(caught.value)

    @pytest.mark.parametrize(
        "field", ["failure_ratio", "minimum", "window", "cooldown", "max_cooldown", "probes", "lease", "max_keys", "throttling"]
    )
    def test_none_means_not_set_only_where_that_means_something(self, field: str) -> None:
        with pytest.raises(ValueError, match=field):
            CircuitBreaker(**{field: None})  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("message", "settings"),
        [
            (r"failure_ratio: expected a ratio in \(0, 1\], got 1.01", {"failure_ratio": 1.01}),
            (r"max_cooldown: expected >= cooldown \(120\), got 60\.0", {"cooldown": 120, "max_cooldown": 60.0}),
            (r"lease: expected >= slow_after \(31.0\), got 30.0", {"slow_after": 31.0}),
            (
                r"consecutive: expected more, or failure_ratio=1: failure_ratio=0.5 and minimum=10 can never matter beside it, got 1",
                {"consecutive": 1},
            ),
            (r"consecutive: .*failure_ratio=0.9 and minimum=20", {"consecutive": 3, "failure_ratio": 0.9, "minimum": 20}),
            (r"throttling: expected True or False, got 1", {"throttling": 1}),
            (r"key: expected a function from the Call to something hashable, or None, got 'host'", {"key": "host"}),
        ],
    )
    def test_what_contradicts_itself_is_refused_with_the_numbers(self, message: str, settings: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"CircuitBreaker\." + message):
            CircuitBreaker(**settings)

    @pytest.mark.parametrize(
        "settings",
        [
            {"consecutive": 1, "failure_ratio": 1},
            {"consecutive": 5},
            {"consecutive": 50, "minimum": 10},
            {"cooldown": 60},
            {"cooldown": 5, "max_cooldown": 5},
            {"slow_after": 30},
            {"failure_ratio": 1, "minimum": 1},
        ],
    )
    def test_what_can_work_is_taken(self, settings: dict[str, Any]) -> None:
        breaker = CircuitBreaker(**settings)

        assert settings == {name: getattr(breaker, name) for name in settings}

    def test_settings_are_fixed_once_made(self) -> None:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            CircuitBreaker().minimum = 5  # type: ignore[misc]

    def test_settings_have_names(self) -> None:
        with pytest.raises(TypeError):
            CircuitBreaker(0.5)  # type: ignore[call-arg]


def test_a_long_cooldown_alone_is_its_own_longest() -> None:
    assert 120 == CircuitBreaker(cooldown=120).max_cooldown
    assert 60 == CircuitBreaker(cooldown=7).max_cooldown


async def outcome_of(running: Awaitable[Any]) -> object:
    try:
        return await running
    except Exception as error:
        return error


class TestNested:
    """D8, D9: one breaker in an engine around a client and in the one under it."""

    @pytest.mark.parametrize("succeeds", [True, False])
    async def test_a_probe_is_not_refused_by_its_own_circuit(self, world: World, succeeds: bool) -> None:
        breaker = CircuitBreaker(consecutive=1, failure_ratio=1, cooldown=5, key=lambda call: "the peer")
        outer, inner = Engine([breaker], env=world.env, name="outer"), Engine([breaker], env=world.env, name="inner")
        await outcome_of(inner.call(script(ConnectionError)))
        await world.sleep(6)

        outcome = await outcome_of(outer.call(inner.call, script("ok" if succeeds else ConnectionError())))

        assert succeeds == (outcome == "ok")
        assert ("closed" if succeeds else "open") == breaker.era("the peer")

    async def test_a_call_beside_the_probe_is_refused_all_the_same(self, world: World) -> None:
        breaker = CircuitBreaker(consecutive=1, failure_ratio=1, cooldown=5)
        engine = Engine([breaker], env=world.env)
        await outcome_of(engine.call(script(ConnectionError)))
        await world.sleep(6)
        refused: list[object] = []

        async def probe() -> str:
            async with anyio.create_task_group() as group:
                group.start_soon(beside)
            return "ok"

        async def beside() -> None:
            forget_running()  # nobody's call
            refused.append(await outcome_of(engine.call(script("never"))))

        assert "ok" == await engine.call(probe)
        assert [CircuitOpen] == [type(one) for one in refused]
        assert "closed" == breaker.era()
