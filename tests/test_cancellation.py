"""Cancelling a call always works: wherever it is, whoever cancels, whatever the rules and the operation make of it (D1, B1, B2)."""

from __future__ import annotations

import asyncio
import importlib.util
import math
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from resilience import (
    AttemptTimeout,
    CircuitBreaker,
    Constant,
    Deadline,
    Engine,
    IdempotencyKey,
    RefreshToken,
    Retry,
    Rules,
    Signal,
    retry,
)
from resilience.dialects import http
from resilience.events import RetryGaveUp
from resilience.testing import World, script

pytestmark = pytest.mark.anyio

# trio knows no native cancellation.
natively = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(
            ("asyncio", {"use_uvloop": True}),
            id="uvloop",
            marks=pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop does not exist for this platform"),
        ),
    ],
    scope="module",
)

EVERYTHING = Rules("everything", by_error={Exception: retry()}, by_status={"1xx": retry(), "4xx": retry(), "5xx": retry()}, default=retry())
"""Says "again" to whatever it is asked about."""


class Cancelled401(Exception):
    status_code = 401


async def login(stale: str | None) -> str:
    return "new"


@attrs.frozen
class Place:
    """Where a call is when it is cancelled at virtual second 5: what its operation does, and how often it was called by then."""

    name: str
    operation: Callable[[World], Any]
    calls: int = 1
    rules: Rules = EVERYTHING
    policies: Callable[[World], list[Any]] = attrs.field(default=lambda world: [Retry(attempts=9, backoff=Constant(10))])


def renewing(world: World, token: str | None = "old") -> list[Any]:
    async def slow_login(stale: str | None) -> str:
        await world.sleep(50)
        return "new"

    return [RefreshToken(slow_login, token=token, timeout=100), Retry(attempts=9, backoff=Constant(10))]


def everything_on(world: World) -> list[Any]:
    return [Deadline(1000), IdempotencyKey(), Retry(attempts=9, backoff=Constant(10)), CircuitBreaker(), AttemptTimeout(500)]


PLACES = [
    Place("in the operation", lambda world: script(world.takes(math.inf))),
    Place("in the operation, every policy on", lambda world: script(world.takes(math.inf)), policies=everything_on),
    Place("in the backoff", lambda world: script(ConnectionError)),
    Place("in the backoff, every policy on", lambda world: script(ConnectionError), policies=everything_on),
    Place("in the refresh", lambda world: script(Cancelled401), rules=http.RULES, policies=renewing),
    Place(
        "in the first refresh, before any attempt",
        lambda world: script(),
        calls=0,
        policies=lambda world: renewing(world, None),
    ),
]
everywhere = pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)


async def cancelled_at(when: float, world: World, call: Awaitable[Any]) -> None:
    """Await *call* in a scope that is cancelled at a virtual time."""
    with anyio.CancelScope() as scope:
        world.at(when, scope.cancel)
        await call


async def timed_out_at(when: float, world: World, call: Awaitable[Any]) -> None:
    """Await *call* under a timeout of the caller's own that strikes at a virtual time."""
    with anyio.fail_after(math.inf) as scope:
        world.at(when, lambda: setattr(scope, "deadline", -math.inf))
        await call


class TestWhereverTheCallIs:
    @everywhere
    async def test_a_scope_ends_it_at_once_and_nothing_more_is_started(self, world: World, place: Place) -> None:
        operation = place.operation(world)
        engine = Engine(place.policies(world), rules=place.rules, env=world.env)
        went_on = False

        with anyio.CancelScope() as scope:
            world.at(5, scope.cancel)
            await engine.call(operation)
            went_on = True

        assert scope.cancelled_caught
        assert not went_on
        assert (place.calls, 5.0) == (operation.calls, world.now)

    @natively
    @everywhere
    async def test_a_native_cancel_ends_it_at_once_and_nothing_more_is_started(self, world: World, place: Place) -> None:
        operation = place.operation(world)
        engine = Engine(place.policies(world), rules=place.rules, env=world.env)
        task = asyncio.ensure_future(engine.call(operation))
        world.at(5, task.cancel)

        with pytest.raises(asyncio.CancelledError):
            await task

        assert (place.calls, 5.0) == (operation.calls, world.now)

    @everywhere
    async def test_the_callers_own_timeout_fires_on_time_as_his_own(self, world: World, place: Place) -> None:
        """D10: it is not mistaken for an attempt's, nor repeated."""
        operation = place.operation(world)
        engine = Engine(place.policies(world), rules=place.rules, env=world.env)

        with pytest.raises(TimeoutError) as caught:
            await timed_out_at(5, world, engine.call(operation))

        assert TimeoutError is type(caught.value)
        assert (place.calls, 5.0) == (operation.calls, world.now)


class TestAnOperationThatTurnsItsCancellationIntoAnError:
    """However ordinary the error looks: the caller wants the task to end, so nothing is repeated."""

    @staticmethod
    def stubborn(calls: list[float], world: World, error: Callable[[], Exception] = RuntimeError) -> Callable[[], Awaitable[None]]:
        async def operation() -> None:
            calls.append(world.now)
            try:
                await world.sleep(math.inf)
            except BaseException:
                raise error() from None

        return operation

    @natively
    @pytest.mark.parametrize(
        "policies", [[Retry(attempts=9)], [Deadline(100), Retry(attempts=9), AttemptTimeout(50)]], ids=["plain", "bounded"]
    )
    async def test_natively_gets_no_further_attempt(self, world: World, policies: list[Any]) -> None:
        calls: list[float] = []
        engine = Engine(policies, rules=EVERYTHING, env=world.env)
        task = asyncio.ensure_future(engine.call(self.stubborn(calls, world)))
        world.at(5, task.cancel)

        with pytest.raises(RuntimeError):
            await task

        assert [0.0] == calls
        assert ["cancelled"] == [event.reason for event in world.told(RetryGaveUp)]

    @pytest.mark.parametrize(
        "policies", [[Retry(attempts=9)], [Deadline(100), Retry(attempts=9), AttemptTimeout(50)]], ids=["plain", "bounded"]
    )
    async def test_by_a_scope_gets_no_further_attempt(self, world: World, policies: list[Any]) -> None:
        calls: list[float] = []
        engine = Engine(policies, rules=EVERYTHING, env=world.env)

        with pytest.raises(RuntimeError):
            await cancelled_at(5, world, engine.call(self.stubborn(calls, world)))

        assert [0.0] == calls
        assert ["cancelled"] == [event.reason for event in world.told(RetryGaveUp)]

    @pytest.mark.parametrize("first", ["the caller", "the timeout"])
    async def test_in_the_very_tick_of_a_timeout_of_ours_is_still_the_callers(self, world: World, first: str) -> None:
        """The operation's error is then no timeout, whichever of the two came first."""
        calls: list[float] = []
        engine = Engine([Retry(attempts=9), AttemptTimeout(5)], rules=EVERYTHING, env=world.env)
        scope = anyio.CancelScope()

        async def operation() -> None:
            if first == "the timeout":
                world.at(5, scope.cancel)  # asked for after the attempt has set its own alarm
            await self.stubborn(calls, world)()

        async def caller() -> None:
            with scope:
                if first == "the caller":
                    world.at(5, scope.cancel)
                await engine.call(operation)

        with pytest.raises(RuntimeError):
            await caller()

        assert [0.0] == calls

    async def test_nor_a_refresh(self, world: World) -> None:
        calls: list[float] = []
        engine = Engine([RefreshToken(login, token="old"), Retry(attempts=9)], env=world.env)

        with pytest.raises(Cancelled401):
            await cancelled_at(5, world, engine.call(self.stubborn(calls, world, Cancelled401)))

        assert [0.0] == calls
        assert [] == world.names("token.")

    @natively
    async def test_a_task_that_swallowed_a_cancellation_before_the_call_still_retries(self, world: World) -> None:
        """Its count of cancellations stays above zero for good; what matters is whether another came since."""
        fetch = script(ConnectionError, "ok")
        engine = Engine([Deadline(100), Retry(), AttemptTimeout(50)], env=world.env)

        async def worker() -> object:
            try:
                await world.sleep(math.inf)
            except asyncio.CancelledError:
                pass
            return await engine.call(fetch)

        task = asyncio.ensure_future(worker())
        world.at(1, task.cancel)

        assert "ok" == await task
        assert 2 == fetch.calls

    @natively
    async def test_but_not_once_it_is_cancelled_again(self, world: World) -> None:
        calls: list[float] = []
        engine = Engine([Retry(attempts=9)], rules=EVERYTHING, env=world.env)

        async def worker() -> object:
            try:
                await world.sleep(math.inf)
            except asyncio.CancelledError:
                pass
            return await engine.call(self.stubborn(calls, world))

        task = asyncio.ensure_future(worker())
        world.at(1, task.cancel)
        world.at(5, task.cancel)

        with pytest.raises(RuntimeError):
            await task
        assert [1.0] == calls


@attrs.define(slots=False)
class Busy:
    """A failed response whose closing takes its time, or fails on its own account."""

    status_code: int = 503
    headers: dict[str, str] = attrs.field(factory=dict)
    closing: Callable[[], Awaitable[None]] | None = None
    closed: bool = False

    async def aclose(self) -> None:
        if self.closing is not None:
            await self.closing()
        self.closed = True


class TestWhileAFailedResponseIsLetGo:
    """D29: closing is shielded for a second, and then the cancellation has its way."""

    async def test_a_scope_lets_the_closing_end_and_then_ends_the_call(self, world: World) -> None:
        busy = Busy(closing=lambda: world.sleep(0.5))
        fetch = script(busy)

        with anyio.CancelScope() as scope:
            world.at(0.2, scope.cancel)
            await Engine([Retry(attempts=9)], rules=EVERYTHING, env=world.env).call(fetch)

        assert scope.cancelled_caught
        assert busy.closed
        assert (1, 0.5) == (fetch.calls, world.now)

    async def test_a_closing_that_hangs_is_left_alone_after_a_second(self, world: World) -> None:
        busy = Busy(closing=lambda: world.sleep(math.inf))
        fetch = script(busy, "ok")

        assert "ok" == await Engine([Retry(backoff=Constant(2))], env=world.env).call(fetch)
        assert (False, 3.0) == (busy.closed, world.now)

    @natively
    async def test_a_native_cancel_that_the_closing_turns_into_an_error_still_ends_the_call(self, world: World) -> None:
        async def stubborn() -> None:
            try:
                await world.sleep(0.5)
            except asyncio.CancelledError:
                raise RuntimeError("connection lost while closing") from None

        fetch = script(Busy(closing=stubborn))
        task = asyncio.ensure_future(Engine([Retry(attempts=9, backoff=Constant(10))], env=world.env).call(fetch))
        world.at(0.2, task.cancel)

        response = await task

        assert isinstance(response, Busy)
        assert (1, [], 0.2) == (fetch.calls, world.slept, world.now)
        assert ["cancelled"] == [event.reason for event in world.told(RetryGaveUp)]


class TestACancelThatLandsAsTheWorkCompletes:
    """B2: in the same step of the loop, a hundred times over."""

    @natively
    @pytest.mark.parametrize("bounded", [False, True])
    async def test_natively_is_never_lost(self, bounded: bool) -> None:
        engine = Engine([Deadline(60), Retry(), AttemptTimeout(30)] if bounded else [Retry()])
        ended = []
        for _ in range(100):
            done = anyio.Event()

            async def operation(done: anyio.Event = done) -> str:
                await done.wait()
                return "done"

            task = asyncio.ensure_future(engine.call(operation))
            await asyncio.sleep(0)
            done.set()
            task.cancel()
            await asyncio.wait([task])
            ended.append(task.cancelled())

        assert [True] * 100 == ended

    @pytest.mark.parametrize("bounded", [False, True])
    @pytest.mark.parametrize("fails", [False, True])
    async def test_by_a_scope_lets_nothing_more_happen(self, bounded: bool, fails: bool) -> None:
        """The value may have arrived; what must not be is a further attempt, or a wait that goes through."""
        engine = Engine([Deadline(60), Retry(attempts=9), AttemptTimeout(30)] if bounded else [Retry(attempts=9)], rules=EVERYTHING)
        calls, survived = 0, 0

        async def operation(done: anyio.Event) -> None:
            nonlocal calls
            calls += 1
            await done.wait()
            if fails:
                raise ConnectionError

        async def caller(scope: anyio.CancelScope, done: anyio.Event) -> None:
            nonlocal survived
            with scope:
                try:
                    await engine.call(operation, done)
                except ConnectionError:
                    pass
                await anyio.lowlevel.checkpoint()
                survived += 1

        for _ in range(100):
            done, scope = anyio.Event(), anyio.CancelScope()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(caller, scope, done)
                await turns()
                done.set()
                scope.cancel()

        assert (100, 0) == (calls, survived)


async def turns() -> None:
    """Let the other task get where it waits."""
    for _ in range(5):
        await anyio.lowlevel.checkpoint()


class TestForeignCancellation:
    @natively
    async def test_of_a_task_that_the_operation_awaits_passes_through_without_a_vote(self, world: World) -> None:
        async def operation() -> None:
            child = asyncio.ensure_future(world.sleep(math.inf))
            world.at(1, child.cancel)
            await child

        breaker = CircuitBreaker(consecutive=1, failure_ratio=1)

        with pytest.raises(asyncio.CancelledError):
            await Engine([Retry(attempts=9), breaker], rules=EVERYTHING, env=world.env).call(operation)

        assert "closed" == breaker.era()
        assert [] == world.names("attempt.", "retry.")


async def test_what_is_cancelled_is_no_failure_to_anybody(world: World) -> None:
    """No event, no classifier and no reader is told of it."""
    asked = []

    def by_result(value: object) -> Signal | None:
        asked.append(value)
        return None

    rules = EVERYTHING.extend("asks", by_result=by_result)
    with anyio.CancelScope() as scope:
        world.at(1, scope.cancel)
        await Engine([Retry()], rules=rules, env=world.env).call(script(world.takes(math.inf)))

    assert ([], []) == (asked, world.events)


async def test_a_stop_during_an_hours_wait_returns_at_once(world: World) -> None:
    """D35."""
    engine = Engine([Retry(attempts=2, backoff=Constant(3600))], env=world.env)

    with anyio.CancelScope() as scope:
        world.at(2, scope.cancel)
        await engine.call(script(ConnectionError))

    assert ([3600], 2.0) == (world.slept, world.now)
