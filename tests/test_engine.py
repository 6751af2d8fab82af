"""What an engine makes of a call: how often it runs, what comes out, what is told, and what is left behind."""

from __future__ import annotations

import gc
import itertools
import math
import random
import threading
import time
import traceback
import warnings
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience import (
    Action,
    AttemptTimeout,
    Call,
    CircuitBreaker,
    Constant,
    Deadline,
    Engine,
    Env,
    Exponential,
    Failure,
    Handler,
    IdempotencyKey,
    RefreshToken,
    Retry,
    Rules,
    Signal,
    Verdict,
    current,
    fail_fast,
    history,
    retry,
)
from resilience.call import Plan
from resilience.dialects import http
from resilience.events import CallSucceeded, Event, ResultUnread, RetryGaveUp
from resilience.testing import World, script

pytestmark = pytest.mark.anyio

# What happens while an engine is built is the same in every loop.
one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"], scope="module")


@attrs.define(slots=False)
class Response:
    """What clients return: a status, and headers."""

    status_code: int
    headers: dict[str, str] = attrs.field(factory=dict)
    body: bytes = b""


class ApiError(Exception):
    """What SDKs raise: a status, and the parsed body."""

    def __init__(self, status_code: int, body: object = None) -> None:
        super().__init__(f"{status_code}")
        self.status_code = status_code
        self.body = body


@pytest.fixture
def engine(world: World) -> Engine:
    return Engine([Retry(attempts=3)], env=world.env)


async def caught(awaitable: Awaitable[Any]) -> Exception:
    """The error that comes out."""
    try:
        value = await awaitable
    except Exception as error:
        return error
    pytest.fail(f"came back with {value!r}")


class TestAttempts:
    async def test_a_success_is_one_call_and_no_wait(self, world: World, engine: Engine) -> None:
        fetch = script("ok")

        assert "ok" == await engine.call(fetch)
        assert 1 == fetch.calls
        assert [] == world.slept

    @pytest.mark.parametrize("attempts", [1, 2, 3, 7])
    async def test_attempts_count_the_first_one(self, world: World, attempts: int) -> None:
        """D36, B56."""
        fetch = script(*[ConnectionError] * 9)

        await caught(Engine([Retry(attempts=attempts)], env=world.env).call(fetch))

        assert attempts == fetch.calls

    async def test_there_is_no_sleep_after_the_last_attempt(self, world: World) -> None:
        """D35."""
        await caught(Engine([Retry(attempts=4, backoff=Constant(3))], env=world.env).call(script(*[ConnectionError] * 4)))

        assert [3, 3, 3] == world.slept
        assert 9.0 == world.now

    async def test_every_attempt_gets_the_same_arguments(self, engine: Engine) -> None:
        seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        async def fetch(*args: Any, **kwargs: Any) -> None:
            seen.append((args, kwargs))
            if len(seen) < 3:
                raise ConnectionError

        kept = ["not", "copied"]
        await engine.call(fetch, 1, kept, fn="fn", self="self")

        assert [((1, kept), {"fn": "fn", "self": "self"})] * 3 == seen
        assert all(args[1] is kept for args, _ in seen)

    async def test_without_retry_there_is_one(self, world: World) -> None:
        fetch = script(ConnectionError)

        await caught(Engine(env=world.env).call(fetch))

        assert 1 == fetch.calls

    async def test_are_numbered_for_the_operation_to_see(self, engine: Engine) -> None:
        seen = []

        async def fetch() -> None:
            seen.append((current().attempt, current().remaining, current().engine))
            if len(seen) < 3:
                raise ConnectionError

        await engine.call(fetch)

        assert [(1, math.inf, "http"), (2, math.inf, "http"), (3, math.inf, "http")] == seen


class TestDefaults:
    """D27."""

    @pytest.mark.parametrize(
        "error",
        [
            ValueError,
            TypeError("mine"),
            KeyError("x"),
            AttributeError,
            RuntimeError,
            AssertionError,
            NotImplementedError,
            Exception,
            OSError,
        ],
    )
    async def test_unknown_exceptions_and_programming_errors_fail_fast(self, world: World, engine: Engine, error: Any) -> None:
        fetch = script(error)

        came = await caught(engine.call(fetch))

        assert isinstance(came, error if isinstance(error, type) else type(error))
        assert 1 == fetch.calls
        assert [] == world.slept

    @pytest.mark.parametrize("error", [ConnectionError, ConnectionResetError, TimeoutError, BrokenPipeError, EOFError])
    async def test_what_may_pass_stops_within_three_attempts_and_waits_in_between(self, world: World, error: type[Exception]) -> None:
        fetch = script(*[error] * 9)

        await caught(Engine([Retry()], env=world.env).call(fetch))

        assert 3 == fetch.calls
        assert [0.025, 0.05] == world.slept

    async def test_are_those_of_the_documentation(self) -> None:
        assert Retry(attempts=3, backoff=Exponential(0.05, cap=20.0), throttled=Exponential(1.0, cap=20.0), max_server_delay=60) == Retry()
        assert "fail" == Retry().over_limit
        assert (2.0, "full") == (Exponential().factor, Exponential().jitter)
        assert http.RULES is Engine().rules

    @pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
    async def test_what_ends_the_program_is_no_outcome(self, world: World, stop: type[BaseException]) -> None:
        """D1."""
        fetch = script(stop)
        rules = Rules("all").extend("all", by_error={Exception: retry()}, default=retry())

        with pytest.raises(stop):
            await Engine([Retry(attempts=9)], rules=rules, env=world.env).call(fetch)

        assert 1 == fetch.calls
        assert [] == world.events


class TestStatusAndCode:
    """D2: one status may mean opposite things."""

    RULES = http.RULES.extend(
        "acme",
        by_code={"insufficient_quota": fail_fast(), "rate_limit_exceeded": retry(throttled=True)},
        by_kind={"overloaded_error": retry(throttled=True)},
        by_status={500: retry(attempts=2)},
    )

    @pytest.mark.parametrize(
        ("status", "body", "calls"),
        [
            (429, {"error": {"code": "insufficient_quota", "type": "insufficient_quota"}}, 1),
            (429, {"error": {"code": "rate_limit_exceeded"}}, 3),
            (429, None, 3),
            (400, {"error": {"code": "rate_limit_exceeded"}}, 3),
            # B65: an error met in mid-stream keeps the status that the stream began with.
            (200, {"type": "error", "error": {"type": "overloaded_error", "message": "..."}}, 3),
            (200, None, 1),
            (404, None, 1),
            (500, None, 2),
            (503, None, 3),
        ],
    )
    async def test_a_code_beats_its_status(self, world: World, status: int, body: object, calls: int) -> None:
        fetch = script(*[ApiError(status, body)] * 9)

        await caught(Engine([Retry(attempts=3)], rules=self.RULES, env=world.env).call(fetch))

        assert calls == fetch.calls

    async def test_a_users_rule_turns_a_verdict_round(self, world: World) -> None:
        """A provider that says "insufficient quota" for a limit per minute."""
        rules = self.RULES.extend("mine", by_code={"insufficient_quota": retry(throttled=True)})
        fetch = script(ApiError(429, {"error": {"code": "insufficient_quota"}}), "ok")

        assert "ok" == await Engine([Retry()], rules=rules, env=world.env).call(fetch)

    async def test_a_failing_response_is_repeated_without_being_raised(self, engine: Engine) -> None:
        fetch = script(Response(503), Response(503), Response(200))

        assert Response(200) == await engine.call(fetch)
        assert 3 == fetch.calls

    async def test_a_failing_response_comes_back_as_it_came(self, engine: Engine) -> None:
        """D11."""
        last = Response(503)

        assert last is await engine.call(script(Response(503), Response(503), last))
        assert [503, 503, 503] == [tried.status for tried in history(last)]

    async def test_a_response_that_says_no_for_good_comes_back_at_once(self, world: World, engine: Engine) -> None:
        fetch = script(Response(404))

        assert 404 == (await engine.call(fetch)).status_code
        assert 1 == fetch.calls
        assert ["attempt.failed", "call.failed_fast"] == world.names()

    async def test_a_dialect_may_read_errors_out_of_any_value(self, world: World) -> None:
        def by_result(value: object) -> Signal | None:
            return Signal(code=value["error"]) if isinstance(value, dict) and "error" in value else None

        rules = http.RULES.extend("acme", by_code={"busy": retry()}, by_result=by_result)
        fetch = script({"error": "busy"}, {"error": "gone"}, {"data": 1})
        engine = Engine([Retry()], rules=rules, env=world.env)

        assert {"error": "gone"} == await engine.call(fetch)
        assert {"data": 1} == await engine.call(fetch)

    @pytest.mark.parametrize(
        "value",
        [
            type("Order", (), {"status": 503})(),
            type("Job", (), {"status_code": 500, "code": "failed"})(),
            {"status": 503, "error": "x"},
            503,
            None,
        ],
        ids=lambda value: type(value).__name__,
    )
    async def test_an_ordinary_value_is_a_success_whatever_it_looks_like(self, world: World, engine: Engine, value: object) -> None:
        assert value is await engine.call(script(value))
        assert ["call.succeeded"] == world.names()

    async def test_an_error_that_is_returned_is_a_value(self, engine: Engine) -> None:
        error = ConnectionError("returned, not raised")

        async def fetch() -> Exception:
            return error

        assert error is await engine.call(fetch)

    async def test_a_value_whose_class_has_no_hash_is_a_success(self, engine: Engine) -> None:
        class Meta(type):
            def __eq__(cls, other: object) -> bool:
                return True

        value = Meta("Odd", (), {})()

        assert value is await engine.call(script(value))


class TestExceptionGroups:
    """D39: a group is judged by its leaves, and comes out as it is."""

    async def test_a_group_of_what_may_pass_is_repeated(self, engine: Engine) -> None:
        fetch = script(ExceptionGroup("tasks", [ConnectionError(), ExceptionGroup("more", [TimeoutError()])]), "ok")

        assert "ok" == await engine.call(fetch)

    async def test_one_leaf_that_does_not_pass_is_enough(self, engine: Engine) -> None:
        group = ExceptionGroup("tasks", [ConnectionError(), TypeError()])
        fetch = script(group)

        assert group is await caught(engine.call(fetch))
        assert 1 == fetch.calls

    async def test_fail_fast_beats_refresh_and_refresh_beats_retry(self) -> None:
        rules = http.RULES
        busy, expired, gone = (Signal(status=status) for status in (503, 401, 404))

        assert Action.REFRESH_TOKEN is rules.classify(Signal(leaves=(busy, expired))).action
        assert Action.FAIL_FAST is rules.classify(Signal(leaves=(busy, expired, gone))).action
        assert Action.RETRY is rules.classify(Signal(leaves=(busy, busy))).action

    async def test_a_leaf_that_ends_the_program_lets_the_group_through(self, world: World) -> None:
        fetch = script(BaseExceptionGroup("tasks", [ConnectionError(), KeyboardInterrupt()]))

        with pytest.raises(BaseExceptionGroup):
            await Engine([Retry(attempts=9)], env=world.env).call(fetch)

        assert 1 == fetch.calls


class TestErrors:
    """D11: the caller's own exception, as it was raised."""

    async def test_the_last_error_comes_out_the_same_object(self, engine: Engine) -> None:
        last = ConnectionError("the last")

        assert last is await caught(engine.call(script(ConnectionError("first"), ConnectionError("second"), last)))

    async def test_its_traceback_ends_in_the_callers_code(self, engine: Engine) -> None:
        async def where_it_went_wrong() -> None:
            raise ConnectionError

        error = await caught(engine.call(where_it_went_wrong))

        frames = traceback.extract_tb(error.__traceback__)
        assert "where_it_went_wrong" == frames[-1].name
        assert len(frames) <= 4  # the test's own, this, and no more than two of ours between them

    async def test_it_has_neither_cause_nor_context_of_ours(self, engine: Engine) -> None:
        error = await caught(engine.call(script(ConnectionError(), ConnectionError(), ConnectionError())))

        assert (None, None) == (error.__cause__, error.__context__)

    async def test_its_history_lists_every_attempt(self, world: World) -> None:
        rules = http.RULES.extend("acme", by_code={"busy": retry(throttled=True)})
        engine = Engine([Retry(attempts=4, backoff=Constant(1), throttled=Constant(5))], rules=rules, env=world.env)
        limited = ApiError(429, {"error": {"code": "busy"}})

        error = await caught(engine.call(script(world.takes(2, ConnectionError()), limited, Response(503), KeyError("x"))))

        rows = [(row.attempt, row.action, row.rule, row.error, row.status, row.code, row.phase, row.elapsed) for row in history(error)]
        assert [
            (1, "retry", "http: error ConnectionError", "ConnectionError", None, "ConnectionError", "unknown", 2.0),
            (2, "retry", "acme: code busy", "ApiError", 429, "busy", "refused", 3.0),
            (3, "retry", "http: status 5xx", "Response", 503, None, "unknown", 8.0),
            (4, "fail_fast", "default", "KeyError", None, "KeyError", "unknown", 9.0),
        ] == rows

    async def test_a_chain_that_bites_its_tail_is_judged_at_once(self, engine: Engine) -> None:
        """B53."""
        one, other = ConnectionError("one"), ConnectionError("other")
        one.__cause__, other.__cause__ = other, one
        selfish = ValueError("selfish")
        selfish.__cause__ = selfish.__context__ = selfish

        assert one is await caught(engine.call(script(one, other, one)))
        assert selfish is await caught(engine.call(script(selfish)))
        assert 3 == len(history(one))

    async def test_an_error_of_the_strangest_make_comes_out_unharmed(self, engine: Engine) -> None:
        class Strange(Exception):
            __module__ = None  # type: ignore[assignment]  # nothing stops a class body

            @property
            def response(self) -> object:
                raise RuntimeError("looking is not free")

            def __str__(self) -> str:
                raise RuntimeError("neither is printing")

        strange = Strange()

        assert strange is await caught(engine.call(script(strange)))


@contextmanager
def collector_off() -> Iterator[None]:
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Thing:
    """Something that can be watched while it goes."""


class TestGarbage:
    """D34, B62, rivals 6.13: an engine keeps nothing alive, with the collector off or on."""

    async def test_no_way_to_end_leaves_a_cycle_behind(self, world: World) -> None:
        engine = Engine([Retry(attempts=3, backoff=Constant(1))], env=world.env)
        bounded = Engine([Deadline(5), Retry(attempts=3, backoff=Constant(1)), AttemptTimeout(2)], env=world.env)
        broken = CircuitBreaker()
        broken.isolate()
        closed = Engine([Retry(), broken], env=world.env)
        plain = Engine(env=world.env)
        failing = itertools.cycle([True, True, False])

        async def unreachable() -> None:
            raise ConnectionError

        async def wrong() -> None:
            raise ValueError

        async def flaky() -> None:
            if next(failing):
                raise ConnectionError

        async def busy() -> Response:
            return Response(503)

        async def slow() -> None:
            await world.sleep(3)

        async def chained() -> None:
            try:
                raise KeyError
            except KeyError as error:
                raise ConnectionError from error

        async def nested() -> None:
            await engine.call(unreachable)

        async def nested_and_recovered() -> None:
            await engine.call(flaky)

        async def cancelled() -> None:
            with world.env.cutoff(1):
                await engine.call(slow)

        ways: list[Callable[[], Awaitable[object]]] = [
            lambda: engine.call(unreachable),
            lambda: engine.call(wrong),
            lambda: engine.call(flaky),
            lambda: engine.call(busy),
            lambda: engine.call(chained),
            lambda: closed.call(unreachable),
            lambda: bounded.call(slow),
            lambda: bounded.call(flaky),
            lambda: bounded.using(deadline=1).call(slow),
            lambda: engine.call(nested),
            lambda: engine.call(nested_and_recovered),
            lambda: plain.call(cancelled),
        ]

        async def each_once() -> None:
            for way in ways:
                try:
                    await way()
                except Exception:
                    pass

        await each_once()
        with collector_off():
            gc.collect()
            gc.freeze()  # what is there already is not looked at again
            try:
                for _ in range(1000 // len(ways) + 1):
                    await each_once()

                assert 0 == gc.collect()
            finally:
                gc.unfreeze()

    @pytest.mark.parametrize("times", [1, 3])
    async def test_an_argument_is_gone_as_soon_as_the_error_is_handled(self, engine: Engine, times: int) -> None:
        async def fetch(argument: object) -> None:
            raise (ConnectionError if times == 3 else ValueError)

        thing = Thing()
        watch = weakref.ref(thing)
        with collector_off():
            try:
                await engine.call(fetch, thing)
            except (ConnectionError, ValueError):
                pass
            del thing

            assert watch() is None

    async def test_an_argument_is_gone_after_a_success_on_the_second_try(self, engine: Engine) -> None:
        failing = iter([True, False])

        async def fetch(argument: object) -> None:
            if next(failing):
                raise ConnectionError

        thing = Thing()
        watch = weakref.ref(thing)
        with collector_off():
            await engine.call(fetch, thing)
            del thing

            assert watch() is None

    async def test_a_kept_error_keeps_no_earlier_one(self, engine: Engine) -> None:
        """The history holds summaries: an exception kept would keep its frames."""
        watches = []

        class Failed(ConnectionError):
            pass

        async def fetch() -> None:
            error = Failed()
            watches.append(weakref.ref(error))
            try:
                raise error
            finally:
                del error

        with collector_off():
            error = await caught(engine.call(fetch))

            assert [True, True, False] == [watch() is None for watch in watches]
            assert 3 == len(history(error))


class TestSharing:
    """D21, D26, B36: settings are frozen, each call has its own state."""

    async def test_a_thousand_calls_at_once_make_exactly_their_attempts_each(self, world: World) -> None:
        engine = Engine([Retry(attempts=3)], env=world.env)
        calls = [0] * 1000

        async def fetch(number: int) -> None:
            calls[number] += 1
            await world.sleep(number % 7)
            raise ConnectionError

        async def one(number: int) -> None:
            assert 3 == len(history(await caught(engine.call(fetch, number))))

        async with anyio.create_task_group() as tasks:
            for number in range(1000):
                tasks.start_soon(one, number)

        assert [3] * 1000 == calls

    async def test_two_worlds_side_by_side_do_not_see_each_other(self) -> None:
        """D15."""
        worlds = [World(), World()]

        async def one(world: World, delay: float) -> None:
            engine = Engine([Retry(attempts=4, backoff=Constant(delay))], env=world.env)
            await caught(engine.call(script(*[ConnectionError] * 4)))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one, worlds[0], 1.0)
            tasks.start_soon(one, worlds[1], 100.0)

        assert [[1.0] * 3, [100.0] * 3] == [world.slept for world in worlds]
        assert [3.0, 300.0] == [world.now for world in worlds]

    async def test_an_hour_of_schedule_takes_no_time(self, world: World) -> None:
        """D15."""
        engine = Engine([Retry(attempts=10, backoff=Exponential(10, cap=900, jitter="none"))], env=world.env)
        began = time.process_time()

        await caught(engine.call(script(*[ConnectionError] * 10)))

        assert [10, 20, 40, 80, 160, 320, 640, 900, 900] == world.slept
        assert 3070.0 == world.now
        assert time.process_time() - began < 0.05

    async def test_others_run_while_one_backs_off(self, world: World) -> None:
        """B35."""
        beats = []

        async def heart() -> None:
            while True:
                await world.sleep(1)
                beats.append(world.now)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(heart)
            await caught(Engine([Retry(attempts=2, backoff=Constant(10.5))], env=world.env).call(script(*[ConnectionError] * 2)))
            tasks.cancel_scope.cancel()

        assert list(range(1, 11)) == beats


def now_and_then() -> Callable[[], Awaitable[str]]:
    """Fails twice, then succeeds, over and over; each task has its own."""
    outcomes = itertools.cycle([ConnectionError, ConnectionError, None])

    async def fetch() -> str:
        await anyio.sleep(0)
        error = next(outcomes)
        if error is not None:
            raise error
        return "ok"

    return fetch


class TestLoopsAndThreads:
    """D26, rivals 6.16: one engine at module level, for any number of loops, one after another or at once."""

    async def _use(self, engine: Engine) -> int:
        done = 0

        async def one() -> None:
            nonlocal done
            fetch = now_and_then()
            for _ in range(3):
                assert "ok" == await engine.call(fetch)
                done += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(one)
        return done

    def test_two_loops_in_succession(self, anyio_backend: Any) -> None:
        engine = Engine([Deadline(60), Retry(attempts=3, backoff=Constant(0)), CircuitBreaker(minimum=10_000), AttemptTimeout(30)])
        name, options = anyio_backend

        assert [60, 60] == [anyio.run(self._use, engine, backend=name, backend_options=options) for _ in range(2)]

    def test_eight_threads_at_once(self, anyio_backend: Any) -> None:
        told: list[Event] = []
        env = attrs.evolve(Env(), emit=told.append)
        engine = Engine([Deadline(60), Retry(attempts=3, backoff=Constant(0)), CircuitBreaker(minimum=10_000), AttemptTimeout(30)], env=env)
        name, options = anyio_backend
        done: list[int] = []
        threads = [
            threading.Thread(target=lambda: done.append(anyio.run(self._use, engine, backend=name, backend_options=options)))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [60] * 8 == done
        assert 480 == sum(event.name == "call.recovered" for event in told)
        assert 960 == sum(event.name == "retry.scheduled" for event in told)


async def new_token(stale: str | None) -> str:
    return "new"


OUTCOMES = st.one_of(
    st.sampled_from([ConnectionError, ConnectionRefusedError, ValueError, "ok"]),
    st.builds(
        lambda status, hint: Response(status, {} if hint is None else {"retry-after": str(hint)}),
        st.sampled_from([200, 401, 404, 429, 500, 503]),
        st.one_of(st.none(), st.integers(0, 90)),
    ),
)


class TestDeterminism:
    """The same readings make the same decisions, in every loop."""

    @settings(max_examples=30)
    @given(
        outcomes=st.lists(st.tuples(OUTCOMES, st.sampled_from([0.0, 0.5, 3.0, math.inf])), min_size=1, max_size=6),
        dice=st.integers(0, 2**32),
        method=st.sampled_from([None, "GET", "POST"]),
    )
    def test_asyncio_and_trio_tell_the_same_story(self, outcomes: list[tuple[Any, float]], dice: int, method: str | None) -> None:
        async def story() -> tuple[list[tuple[str, dict[str, Any]]], list[float], str]:
            world = World(draw=iter(random.Random(dice).random, None))
            policies: list[Any] = [
                Deadline(40),
                RefreshToken(new_token, token="old"),
                Retry(attempts=5),
                CircuitBreaker(minimum=3, failure_ratio=0.6),
                AttemptTimeout(2),
            ]
            engine = Engine(policies, env=world.env).using(method=method)
            fetch = script(*[world.takes(seconds, outcome) for outcome, seconds in outcomes])
            ended = []
            for _ in range(3):
                try:
                    ended.append(repr(await engine.call(fetch)))
                except Exception as error:
                    ended.append(f"{type(error).__name__}: {error}")
            return [(event.name, event.asdict()) for event in world.events], world.slept, "; ".join(ended)

        assert anyio.run(story, backend="asyncio") == anyio.run(story, backend="trio")


@attrs.frozen
class Recorder:
    """A policy that notes when a call goes in, and when it comes out."""

    name: str
    notes: list[str]

    def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
        async def recording(call: Call[Any]) -> Any:
            self.notes.append(f"{self.name} in")
            try:
                return await inner(call)
            finally:
                self.notes.append(f"{self.name} out")

        return recording


def built(*policies: Any, **settings: Any) -> Engine:
    """An engine, whatever it has to say about its order."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Engine(policies, **settings)


ONE_BREAKER = CircuitBreaker()


class TestOrder:
    """D19: exactly as written, outermost first."""

    @pytest.mark.parametrize("names", list(itertools.permutations("abc")), ids="".join)
    async def test_calls_go_in_as_written_and_come_out_the_other_way_round(self, world: World, names: tuple[str, ...]) -> None:
        notes: list[str] = []
        engine = Engine([Recorder(name, notes) for name in names], env=world.env)

        await engine.call(script("ok"))
        await caught(engine.call(script(ValueError)))

        once = [f"{name} in" for name in names] + [f"{name} out" for name in reversed(names)]
        assert once * 2 == notes

    @pytest.mark.parametrize("place", [0, 1])
    async def test_what_stands_inside_retry_sees_each_attempt_and_what_stands_outside_the_call(self, world: World, place: int) -> None:
        notes: list[str] = []
        policies: list[Any] = [Retry(attempts=3)]
        policies.insert(place, Recorder("it", notes))

        await Engine(policies, env=world.env).call(script(ConnectionError, ConnectionError, "ok"))

        assert ["it in", "it out"] * (3 if place else 1) == notes

    @one_loop
    async def test_every_order_of_all_policies_is_either_built_as_written_or_refused_with_a_reason(self) -> None:
        kinds = [Deadline(30), IdempotencyKey(), RefreshToken(new_token), Retry(), CircuitBreaker(), AttemptTimeout(10)]
        refused = 0
        for policies in itertools.permutations(kinds):
            order = [type(policy).__name__ for policy in policies]
            if order.index("Retry") < order.index("Deadline"):
                refused += 1
                with pytest.raises(
                    ValueError, match=rf"Deadline \(at {order.index('Deadline')}\) inside Retry \(at {order.index('Retry')}\)"
                ):
                    built(*policies)
                continue
            engine = built(*policies)
            assert [*map(id, policies)] == [*map(id, engine.policies)]
            assert f"<Engine http: {' > '.join(order)}>" == repr(engine)
            lines = engine.describe().splitlines()
            assert [name for line in lines for name in order if line.strip(" └").startswith(f"{name}(")] == order
        assert 360 == refused

    async def test_a_recommended_order_raises_no_doubt(self) -> None:
        engine = Engine([Deadline(30), IdempotencyKey(), RefreshToken(new_token), Retry(), CircuitBreaker(), AttemptTimeout(10)])

        assert "doubtful" not in engine.describe()

    @pytest.mark.parametrize(
        ("policies", "doubt"),
        [
            ([CircuitBreaker(), Retry()], "CircuitBreaker outside Retry sees one outcome a call"),
            ([CircuitBreaker(), RefreshToken(new_token)], "CircuitBreaker outside RefreshToken"),
            ([AttemptTimeout(1), Retry()], "AttemptTimeout bounds each attempt wherever it stands"),
            ([Deadline(5), AttemptTimeout(5)], r"AttemptTimeout\(5\) is no shorter than Deadline\(5\)"),
            ([Deadline(2.5), Retry(), AttemptTimeout(10)], r"AttemptTimeout\(10\) is no shorter than Deadline\(2\.5\)"),
        ],
    )
    async def test_a_doubtful_order_warns_where_it_is_written_and_is_described(self, policies: list[Any], doubt: str) -> None:
        with pytest.warns(UserWarning, match=doubt) as said:
            engine = Engine(policies)

        assert [__file__] == [warning.filename for warning in said]
        assert f"doubtful: {said[0].message}" in engine.describe()

    @pytest.mark.parametrize(
        ("policies", "reason"),
        [
            ([Retry(), Retry(attempts=2)], "Retry stands at 0 and 1: .*multiply their attempts"),
            ([Deadline(5), Retry(), Deadline(3)], "Deadline stands at 0 and 2"),
            ([AttemptTimeout(5), AttemptTimeout(3)], "AttemptTimeout stands at 0 and 1"),
            ([IdempotencyKey(), Retry(), IdempotencyKey()], "IdempotencyKey stands at 0 and 2"),
            ([RefreshToken(new_token), RefreshToken(new_token)], "RefreshToken stands at 0 and 1"),
            ([ONE_BREAKER, Retry(), ONE_BREAKER], "the same CircuitBreaker object stands twice"),
            ([Retry(), Deadline(5)], r"Deadline \(at 1\) inside Retry \(at 0\)"),
        ],
    )
    async def test_an_order_that_cannot_work_is_refused_with_the_numbers(self, policies: list[Any], reason: str) -> None:
        with pytest.raises(ValueError, match=f"^Engine.policies: .*{reason}"):
            built(*policies)

    async def test_being_refused_by_an_open_circuit_is_no_reason_to_sleep(self, world: World) -> None:
        """D19: retry around an open breaker makes no call and no sleep."""
        breaker = CircuitBreaker()
        breaker.isolate()
        fetch = script()

        error = await caught(Engine([Retry(attempts=5), breaker], env=world.env).call(fetch))

        assert "CircuitOpen" == type(error).__name__
        assert (0, []) == (fetch.calls, world.slept)

    async def test_being_refused_on_the_way_to_a_repeat_does_not_hide_what_led_there(self, world: World) -> None:
        breaker = CircuitBreaker(consecutive=2, failure_ratio=1, cooldown=60)
        first, second = ConnectionError("first"), ConnectionError("second")
        fetch = script(first, second)

        error = await caught(Engine([Retry(attempts=5), breaker], env=world.env).call(fetch))

        assert second is error
        assert ["rejected"] == [event.reason for event in world.told(RetryGaveUp)]
        assert 2 == len(history(error))


class TestBuilding:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"policies": Retry()}, r"Engine\.policies: expected a sequence of policies, got Retry\("),
            ({"policies": "Retry"}, r"Engine\.policies: expected a sequence"),
            ({"policies": [Retry]}, r"Engine\.policies\[0\]: expected a policy, got .*; write Retry\(\.\.\.\)"),
            ({"policies": [Deadline(5), 3]}, r"Engine\.policies\[1\]: expected a policy, got 3"),
            ({"policies": [None]}, r"Engine\.policies\[0\]: expected a policy, got None"),
            ({"rules": http}, r"Engine\.rules: expected Rules, got <module"),
            ({"rules": None}, r"Engine\.rules: expected Rules, got None"),
            ({"env": World()}, r"Engine\.env: expected Env, got <World"),
        ],
    )
    async def test_what_is_none_is_refused(self, arguments: Any, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            Engine(**arguments)

    @pytest.mark.parametrize("name", ["", 5, b"x"])
    async def test_a_name_that_is_none_is_refused(self, name: Any) -> None:
        with pytest.raises(ValueError, match=r"^Engine\.name: expected a non-empty str"):
            Engine(name=name)

    async def test_takes_any_sequence(self) -> None:
        assert (Retry(),) == Engine((Retry(),)).policies == Engine([Retry()]).policies

    async def test_is_called_like_its_dialect_unless_it_is_named(self) -> None:
        assert ("http", "pay") == (Engine().name, Engine(name="pay").name)


class TestViews:
    """D31: `using` gives a view of the engine with other settings for some calls."""

    async def test_calls_and_decorates_like_its_engine(self, world: World, engine: Engine) -> None:
        view = engine.using(attempts=2, operation="list bots")
        fetch = script(*[ConnectionError] * 5)

        async def list_bots() -> None:
            await fetch()

        await caught(view.call(list_bots))
        await caught(view(list_bots)())

        assert 4 == fetch.calls
        assert {"list bots"} == {event.operation for event in world.events}

    @pytest.mark.parametrize(("wanted", "calls"), [(1, 1), (2, 2), (3, 3), (9, 3)])
    async def test_attempts_take_the_smaller_number(self, engine: Engine, wanted: int, calls: int) -> None:
        """B59: one means exactly one, and nothing raises the engine's own number."""
        fetch = script(*[ConnectionError] * 9)

        await caught(engine.using(attempts=wanted).call(fetch))

        assert calls == fetch.calls

    async def test_one_attempt_does_not_repeat_a_success(self, engine: Engine) -> None:
        """B59."""
        fetch = script("ok")

        assert "ok" == await engine.using(attempts=1).call(fetch)
        assert 1 == fetch.calls

    async def test_leaves_the_engine_as_it_was(self, engine: Engine) -> None:
        engine.using(attempts=1, deadline=1)
        fetch = script(ConnectionError, ConnectionError, "ok")

        assert "ok" == await engine.call(fetch)

    async def test_merge_and_the_later_wins(self, world: World, engine: Engine) -> None:
        view = engine.using(operation="one", method="GET", attempts=1).using(operation="two", attempts=2)
        fetch = script(*[ConnectionError] * 9)

        await caught(view.call(fetch))

        assert 2 == fetch.calls
        assert {"two"} == {event.operation for event in world.events}
        assert "GET" == view._plan.method

    async def test_keep_every_field_that_they_do_not_change(self) -> None:
        """B57."""
        engine = Engine([Retry(attempts=5), IdempotencyKey()])
        changes: dict[str, Any] = {"deadline": 3.0, "attempts": 2, "operation": "pay", "method": "POST", "repeatable": True, "key": "k"}
        full = engine.view(prepare=print, translate=print).using(**changes)
        for name, value in changes.items():
            assert value == getattr(full._plan, name)
        for name in Plan.__annotations__:
            if name not in {"operation", "uses"}:
                assert getattr(full._plan, name) is getattr(full.using(operation="other")._plan, name)

    async def test_share_all_state_with_their_engine(self, world: World) -> None:
        breaker = CircuitBreaker(consecutive=1, failure_ratio=1)
        engine = Engine([breaker], env=world.env)
        await caught(engine.using(operation="one").call(script(ConnectionError)))

        assert "CircuitOpen" == type(await caught(engine.using(operation="two").call(script()))).__name__

    @pytest.mark.parametrize(
        "setting", [{"attempts": 2}, {"key": "k"}, {"key_from": ("order", 42)}], ids=lambda setting: next(iter(setting))
    )
    async def test_a_setting_without_its_policy_is_refused(self, setting: Any) -> None:
        with pytest.raises(ValueError, match=rf"^using: {next(iter(setting))} needs (Retry|IdempotencyKey)"):
            Engine([Deadline(5)]).using(**setting)

    @pytest.mark.parametrize(
        ("setting", "values"),
        [
            ("deadline", [0, -1, math.nan, math.inf, True, "5"]),
            ("attempts", [0, -1, 1.0, True, "2", math.nan]),
            ("key", ["", "x" * 256, "new\nline", "schlüssel", " padded", 5, b"bytes"]),
            ("key_from", [(), [], "order", b"order", 42, {"order": 42}]),
            ("method", ["", "GET /", 5, b"GET"]),
            ("repeatable", [0, 1, "yes"]),
            ("operation", ["", 5, b"pay"]),
        ],
    )
    async def test_a_wrong_setting_is_refused_by_name_and_value(self, setting: str, values: list[Any]) -> None:
        """D36, B54, rivals 6.18."""
        engine = Engine([Retry(), IdempotencyKey()])
        for value in values:
            with pytest.raises(ValueError, match=rf"^using\.{setting}: "):
                engine.using(**{setting: value})

    async def test_describe_says_what_is_different(self) -> None:
        engine = Engine([Deadline(30), Retry(attempts=4)], rules=Rules("mine", by_status={503: retry()}), name="acme")

        assert (
            "engine acme by rules <Rules mine: 0 codes, 1 statuses, 0 errors>\n"
            "Deadline(seconds=30)\n"
            "  └ Retry(attempts=4, backoff=Exponential(base=0.05, cap=20.0, factor=2.0, jitter='full'), "
            "throttled=Exponential(base=1.0, cap=20.0, factor=2.0, jitter='full'), max_server_delay=60.0, over_limit='fail')\n"
            "    └ your coroutine\n"
            "for this view: deadline=5.0, attempts=2, operation='pay', method='POST', repeatable=True"
        ) == engine.using(deadline=5.0, attempts=2, operation="pay", method="post", repeatable=True).describe()
        assert "for this view" not in engine.describe()
        assert "your coroutine" in Engine().describe()


class TestEvents:
    """D16: every decision, once."""

    async def test_of_a_clean_success(self, world: World, engine: Engine) -> None:
        await engine.call(script("ok"))

        assert ["call.succeeded"] == world.names()

    async def test_of_a_recovery(self, world: World) -> None:
        engine = Engine([Deadline(60), Retry(backoff=Constant(2))], env=world.env, name="acme")

        async def list_bots() -> Response:
            await world.sleep(1)
            return next(responses)

        responses = iter([Response(503), Response(429, {"retry-after": "7"}), Response(200)])
        await engine.using(operation="list bots").call(list_bots)

        common = {"engine": "acme", "operation": "list bots", "call": "00000001"}
        told = [(event.name, event.asdict()) for event in world.events]
        assert [
            ("attempt.failed", {"attempt": 1, "elapsed": 1.0, "seconds_left": 59.0, "status": 503, "retry_after": None}),
            ("retry.scheduled", {"attempt": 1, "elapsed": 1.0, "seconds_left": 59.0, "delay": 2.0, "delay_source": "backoff"}),
            ("attempt.failed", {"attempt": 2, "elapsed": 4.0, "seconds_left": 56.0, "status": 429, "retry_after": 7.0}),
            ("retry.scheduled", {"attempt": 2, "elapsed": 4.0, "seconds_left": 56.0, "delay": 7.25, "delay_source": "hint"}),
            ("call.recovered", {"attempt": 3, "elapsed": 12.25, "seconds_left": 47.75}),
        ] == [(name, {key: fields[key] for key in expected}) for (name, fields), expected in zip(told, RECOVERY, strict=True)]
        assert all(common.items() <= fields.items() for _, fields in told)

    @pytest.mark.parametrize(
        ("outcomes", "settings", "names", "reason"),
        [
            ([ConnectionError] * 2, {"attempts": 2}, ["attempt.failed", "retry.scheduled", "attempt.failed", "retry.gave_up"], "attempts"),
            ([ConnectionError], {"repeatable": False}, ["attempt.failed", "retry.gave_up"], "unsafe"),
            ([Response(429, {"retry-after": "3600"})], {}, ["attempt.failed", "retry.gave_up"], "hint"),
            ([ConnectionError], {"deadline": 0.001}, ["attempt.failed", "retry.gave_up"], "deadline"),
            ([ValueError], {}, ["attempt.failed", "call.failed_fast"], None),
        ],
    )
    async def test_of_each_way_to_fail(
        self, world: World, engine: Engine, *, outcomes: Any, settings: Any, names: list[str], reason: str | None
    ) -> None:
        try:
            await engine.using(**settings).call(script(*outcomes))
        except Exception:
            pass

        assert names == world.names()
        assert ([reason] if reason else []) == [event.reason for event in world.told(RetryGaveUp)]

    async def test_of_a_failure_that_may_pass_but_has_no_retry_to_repeat_it(self, world: World) -> None:
        await caught(Engine(env=world.env).call(script(ConnectionError)))

        assert ["attempt.failed", "retry.gave_up"] == world.names()

    async def test_carry_the_facts_and_no_words(self, world: World, engine: Engine) -> None:
        """D17, B61: neither arguments nor messages."""
        secret = "cm_live_marker"
        await caught(engine.call(script(ApiError(403, {"error": {"code": "denied", "message": secret}})), secret, key=secret))
        await caught(engine.call(script(ValueError(secret)), secret))

        failed = world.events[0].asdict()
        assert {"status": 403, "code": "denied", "rule": "http: status 403", "action": "fail_fast", "error": "ApiError"} == {
            key: failed[key] for key in ("status", "code", "rule", "action", "error")
        }
        assert secret not in repr(world.events)
        assert 4 == len(world.events)


RECOVERY = [
    ("attempt", "elapsed", "seconds_left", "status", "retry_after"),
    ("attempt", "elapsed", "seconds_left", "delay", "delay_source"),
    ("attempt", "elapsed", "seconds_left", "status", "retry_after"),
    ("attempt", "elapsed", "seconds_left", "delay", "delay_source"),
    ("attempt", "elapsed", "seconds_left"),
]


class TestCallbacks:
    """D22, B52: whatever a callback does, the call comes to the same end, and no coroutine is left without its await."""

    @staticmethod
    def listening(world: World, emit: Any) -> Engine:
        return Engine([Retry(attempts=3)], env=attrs.evolve(world.env, emit=emit))

    async def test_a_listener_that_raises_changes_nothing(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        def emit(event: Event) -> None:
            raise KeyError("no such metric")

        fetch = script(ConnectionError, ConnectionError, "ok")

        assert "ok" == await self.listening(world, emit).call(fetch)
        assert [0.025, 0.05] == world.slept
        assert "could not log retry.scheduled" in capsys.readouterr().err

    async def test_a_listener_that_raises_does_not_replace_the_error(self, world: World) -> None:
        def emit(event: Event) -> None:
            raise KeyError("no such metric")

        last = ConnectionError()

        assert last is await caught(self.listening(world, emit).call(script(ConnectionError, ConnectionError, last)))

    @pytest.mark.parametrize("raising", [False, True])
    async def test_a_listener_may_be_async(self, world: World, raising: bool, capsys: pytest.CaptureFixture[str]) -> None:
        heard = []

        async def emit(event: Event) -> None:
            await world.sleep(0.001)
            heard.append(event.name)
            if raising:
                raise KeyError("no such metric")

        assert "ok" == await self.listening(world, emit).call(script(ConnectionError, "ok"))
        await world.sleep(1)

        assert {"attempt.failed", "retry.scheduled", "call.recovered"} == set(heard)  # trio starts tasks in no order
        assert raising == ("could not log call.recovered" in capsys.readouterr().err)

    async def test_a_reader_of_results_that_raises_leaves_a_success_alone(self, world: World) -> None:
        def by_result(value: object) -> Signal | None:
            raise KeyError("no such field")

        rules = http.RULES.extend("acme", by_result=by_result)
        engine = Engine([Retry()], rules=rules, env=world.env)

        assert "ok" == await engine.call(script("ok"))
        assert ["KeyError"] == [event.error for event in world.told(ResultUnread)]
        assert Response(404) == await engine.call(script(Response(404)))  # and a failing response is one all the same

    @pytest.mark.parametrize("said", [True, "busy", Verdict(Action.RETRY)], ids=repr)
    async def test_a_reader_of_results_that_says_something_else_than_a_signal_is_not_heard(self, world: World, said: Any) -> None:
        rules = http.RULES.extend("acme", by_result=lambda value: said)
        fetch = script("ok")

        assert "ok" == await Engine([Retry()], rules=rules, env=world.env).call(fetch)
        assert [type(said).__name__] == [event.error for event in world.told(ResultUnread)]

    async def test_a_reader_of_results_that_turns_out_to_be_async_is_not_heard(self, world: World) -> None:
        async def read(value: object) -> Signal | None:
            return None

        rules = http.RULES.extend("acme", by_result=lambda value: read(value))  # type: ignore[arg-type, return-value]  # noqa: PLW0108 - the mistake

        assert "ok" == await Engine([Retry()], rules=rules, env=world.env).call(script("ok"))
        assert ["coroutine"] == [event.error for event in world.told(ResultUnread)]

    @pytest.mark.parametrize("delay", [math.nan, math.inf, -1.0, None, "1", True], ids=repr)
    async def test_a_schedule_that_makes_no_sense_ends_in_the_callers_own_error(self, world: World, delay: Any) -> None:
        """B25: not in a wait of NaN seconds."""

        class Mine:
            def delay(self, retry: int, draw: float, previous: float | None = None, /) -> float:
                return delay  # type: ignore[no-any-return]  # the mistake

        error = ConnectionError()
        engine = Engine([Retry(backoff=Mine())], env=world.env)

        assert error is await caught(engine.call(script(error)))
        assert [] == world.slept
        assert ["schedule"] == [event.reason for event in world.told(RetryGaveUp)]
        assert [f"resilience: not repeated, for Mine.delay gave {delay!r}"] == error.__notes__

    async def test_a_schedule_that_raises_ends_in_the_callers_own_error(self, world: World) -> None:
        class Mine:
            def delay(self, retry: int, draw: float, previous: float | None = None, /) -> float:
                raise KeyError("no such step")

        error = ConnectionError()

        assert error is await caught(Engine([Retry(backoff=Mine())], env=world.env).call(script(error)))
        assert ["resilience: not repeated, for Mine.delay raised KeyError('no such step')"] == error.__notes__
        assert Response(503) == await Engine([Retry(backoff=Mine())], env=world.env).call(script(Response(503)))

    async def test_an_async_schedule_is_refused_when_it_is_written(self) -> None:
        class Mine:
            async def delay(self, retry: int, draw: float, previous: float | None = None, /) -> float:
                return 1.0

        with pytest.raises(ValueError, match=r"^Retry\.backoff: expected a schedule"):
            Retry(backoff=Mine())  # type: ignore[arg-type]  # the mistake

    @pytest.mark.parametrize("raising", [False, True])
    async def test_a_dialects_word_on_what_creates_nothing_is_taken_if_it_comes(self, world: World, raising: bool) -> None:
        def creates_nothing(method: str, path: str) -> bool:
            if raising:
                raise KeyError(path)
            return True

        rules = http.RULES.extend("acme", creates_nothing=creates_nothing)
        fetch = script(ConnectionError, "ok")
        engine = Engine([Retry()], rules=rules, env=world.env).using(method="POST")

        if raising:
            assert "ConnectionError" == type(await caught(engine.call(fetch))).__name__
        else:
            assert "ok" == await engine.call(fetch)

    async def test_a_breakers_key_that_raises_comes_out_and_breaks_nothing(self, world: World) -> None:
        def key(call: Call[Any]) -> str:
            raise KeyError("no tenant")

        breaker = CircuitBreaker(key=key)

        assert isinstance(await caught(Engine([Retry(), breaker], env=world.env).call(script())), KeyError)
        assert "closed" == breaker.era("tenant")

    async def test_successes_are_told_to_a_listener_of_ones_own(self, world: World, engine: Engine) -> None:
        for _ in range(5):
            await engine.call(script("ok"))

        assert 5 == len(world.told(CallSucceeded))

    async def test_a_policy_that_raises_comes_out_as_it_is(self, world: World) -> None:
        class Broken:
            def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
                async def breaking(call: Call[Any]) -> Failure:
                    raise KeyError("mine")

                return breaking

        error = await caught(Engine([Retry(), Broken()], env=world.env).call(script()))

        assert isinstance(error, KeyError)
