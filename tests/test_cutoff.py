"""What a cut means when other things happen around it: the nineteen scenarios that any implementation of `cutoff` must pass."""

from __future__ import annotations

import asyncio
import importlib.util
import math
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Literal

import anyio
import anyio.lowlevel
import attrs
import pytest

from resilience import backend
from resilience.backend import Cutoff, cancel_count, cancellation_pending, was_cut
from resilience.testing import World
from resilience.timers import SharedCutoff

pytestmark = pytest.mark.anyio


class Cut(Exception):
    """The cutoff's own outcome."""


@attrs.frozen
class Stage:
    """Where a scenario plays: a clock, and cutoffs of one of three kinds that expire by it."""

    kind: Literal["real", "shared", "virtual"]
    world: World = attrs.field(factory=World)

    def cutoff(self, seconds: float) -> Cutoff:
        if self.kind == "virtual":
            return self.world.env.cutoff(seconds)
        shared = SharedCutoff.here(3600.0) if self.kind == "shared" and seconds < math.inf else None
        if shared is not None:
            self.world.at(self.world.now + seconds, partial(come_due, shared))
            return shared
        scope = backend.cutoff(math.inf)
        self.world.at(self.world.now + seconds, partial(expire, scope))
        return scope

    async def attempt(self, seconds: float, fn: Callable[[], Awaitable[Any]], name: str = "ours") -> Any:
        """One attempt under one cutoff, as the engine makes it."""
        since = cancel_count()
        scope = self.cutoff(seconds)
        value = None
        try:
            with scope:
                value = await fn()
        except Exception as error:
            if was_cut(scope, since):
                raise Cut(name) from error
            raise
        if scope.cancelled_caught:
            raise Cut(name)
        return value


@pytest.fixture(params=["real", "shared", "virtual"])
def stage(request: pytest.FixtureRequest) -> Stage:
    return Stage(request.param)


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


def expire(scope: Any) -> None:
    """What the timer of a real scope does."""
    scope._scope.cancel()


def come_due(shared: SharedCutoff) -> None:
    """What the timer of a shared one does."""
    after = getattr(shared, "after", None)
    if after is not None:
        before = shared.before
        before.after, after.before, shared.before, shared.after = after, before, None, None
        shared.become()


Operation = Callable[[], Awaitable[Any]]


def long(stage: Stage) -> Operation:
    return lambda: stage.world.sleep(10.0)


async def test_1_a_wait_longer_than_the_cutoff_is_cut(stage: Stage) -> None:
    with pytest.raises(Cut):
        await stage.attempt(0.05, long(stage))

    assert 0.05 == stage.world.now
    assert 0 == cancel_count()
    assert not cancellation_pending(0)


async def test_2_the_callers_own_shorter_timeout_stays_theirs(stage: Stage) -> None:
    """D10"""
    with pytest.raises(TimeoutError), anyio.fail_after(0.005):
        await stage.attempt(math.inf, anyio.sleep_forever)

    assert 0 == cancel_count()


async def test_3_an_inner_scope_that_fires_first_is_no_cut(stage: Stage) -> None:
    async def patient() -> str:
        with anyio.CancelScope() as inner:
            stage.world.at(0.03, inner.cancel)
            await stage.world.sleep(10.0)
        return "after it"

    assert "after it" == await stage.attempt(0.05, patient)
    assert 0.03 == stage.world.now


async def test_4_a_task_group_is_cut_as_a_whole(stage: Stage) -> None:
    async def three() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(stage.world.sleep, 10.0)

    with pytest.raises(Cut):
        await stage.attempt(0.05, three)

    assert 0.05 == stage.world.now
    assert 0 == cancel_count()


async def test_5_a_group_whose_child_fails_when_cut_becomes_the_cause(stage: Stage) -> None:
    async def sulks() -> None:
        try:
            await stage.world.sleep(10.0)
        except anyio.get_cancelled_exc_class():
            raise ValueError("cannot stop") from None

    async def two() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(sulks)
            group.start_soon(stage.world.sleep, 10.0)

    with pytest.raises(Cut) as caught:
        await stage.attempt(0.05, two)

    assert isinstance(caught.value.__cause__, ExceptionGroup)
    assert ["cannot stop"] == [str(error) for error in caught.value.__cause__.exceptions]
    assert 0 == cancel_count()


@natively
@pytest.mark.parametrize("first", ["native", "cut"])
async def test_6_and_7_a_native_cancel_in_the_same_tick_wins(stage: Stage, first: str) -> None:
    """D1"""

    async def body() -> None:
        if first == "native":
            stage.world.at(0.05, cancel)
        await stage.attempt(0.05, operation)

    async def operation() -> None:
        if first == "cut":
            stage.world.at(0.05, cancel)
        await stage.world.sleep(10.0)

    def cancel() -> None:
        task.cancel()

    task = asyncio.create_task(body())
    with pytest.raises(asyncio.CancelledError):
        await task

    assert task.cancelled()
    assert 1 == task.cancelling()


@pytest.mark.parametrize("first", ["outer", "cut"])
async def test_8_and_9_an_outer_scopes_cancel_in_the_same_tick_wins(stage: Stage, first: str) -> None:
    """D1"""

    async def operation() -> None:
        if first == "cut":
            stage.world.at(0.05, outer.cancel)
        await stage.world.sleep(10.0)

    with anyio.CancelScope() as outer:
        if first == "outer":
            stage.world.at(0.05, outer.cancel)
        await stage.attempt(0.05, operation)
        pytest.fail("the outer scope's cancellation was lost")

    assert outer.cancelled_caught
    assert 0.05 == stage.world.now
    assert 0 == cancel_count()


async def test_10_a_result_that_is_there_in_the_tick_of_the_cut_stands(stage: Stage) -> None:
    """B2"""
    there = anyio.Event()
    stage.world.at(0.05, there.set)

    async def operation() -> str:
        await there.wait()
        return "result"

    assert "result" == await stage.attempt(0.05, operation)
    await anyio.lowlevel.checkpoint()
    assert 0 == cancel_count()
    assert not cancellation_pending(0)


async def test_11_an_operation_that_swallows_the_cut_keeps_its_value(stage: Stage) -> None:
    async def stubborn() -> str | None:
        try:
            await stage.world.sleep(10.0)
        except anyio.get_cancelled_exc_class():
            return "partial"
        return None

    assert "partial" == await stage.attempt(0.05, stubborn)
    await anyio.lowlevel.checkpoint()
    assert 0 == cancel_count()


async def test_12_an_error_made_of_the_cut_becomes_its_cause(stage: Stage) -> None:
    async def converts() -> None:
        try:
            await stage.world.sleep(10.0)
        except anyio.get_cancelled_exc_class():
            raise RuntimeError("connection torn") from None

    with pytest.raises(Cut) as caught:
        await stage.attempt(0.05, converts)

    assert "connection torn" == str(caught.value.__cause__)
    assert 0 == cancel_count()


@natively
async def test_13_a_cut_in_the_cleanup_of_a_cancelled_task_is_a_cut(stage: Stage) -> None:
    counts: list[int] = []

    async def body() -> str:
        try:
            await stage.world.sleep(10.0)
        except asyncio.CancelledError:
            try:
                await stage.attempt(0.05, long(stage))
            except Cut:
                counts.append(cancel_count())
                return "cleaned up"
        return "not cancelled"

    task = asyncio.create_task(body())
    stage.world.at(0.01, task.cancel)

    assert "cleaned up" == await task
    assert [1] == counts


async def test_14_a_shield_holds_until_it_ends(stage: Stage) -> None:
    async def operation() -> None:
        with anyio.CancelScope(shield=True):
            await stage.world.sleep(0.15)
        await stage.world.sleep(10.0)

    with pytest.raises(Cut):
        await stage.attempt(0.05, operation)

    assert 0.15 == stage.world.now
    assert 0 == cancel_count()


async def test_15_who_swallows_the_cut_and_waits_again_is_cut_again(stage: Stage) -> None:
    async def operation() -> None:
        try:
            await stage.world.sleep(10.0)
        except anyio.get_cancelled_exc_class():
            await stage.world.sleep(10.0)

    with pytest.raises(Cut):
        await stage.attempt(0.05, operation)

    assert 0.05 == stage.world.now
    assert 0 == cancel_count()


async def test_16_the_shorter_outer_cutoff_names_the_error(stage: Stage) -> None:
    async def inner() -> None:
        await stage.attempt(0.1, long(stage), "inner")

    with pytest.raises(Cut, match="outer"):
        await stage.attempt(0.05, inner, "outer")

    assert 0.05 == stage.world.now
    assert 0 == cancel_count()


@pytest.mark.parametrize("first", ["inner", "cut"])
async def test_17_and_18_an_inner_scope_cancelled_in_the_same_tick_hides_no_cut(stage: Stage, first: str) -> None:
    inner = anyio.CancelScope()

    async def operation() -> None:
        with inner:
            if first == "cut":
                stage.world.at(0.05, inner.cancel)
            await stage.world.sleep(10.0)
        await stage.world.sleep(10.0)

    if first == "inner":
        stage.world.at(0.05, inner.cancel)
    with pytest.raises(Cut):
        await stage.attempt(0.05, operation)

    assert 0.05 == stage.world.now
    assert 0 == cancel_count()


async def test_19_after_a_cut_a_later_timeout_works_as_ever(stage: Stage) -> None:
    with pytest.raises(Cut):
        await stage.attempt(0.05, long(stage))

    with pytest.raises(TimeoutError), anyio.fail_after(0.005):
        await anyio.sleep_forever()
    assert 0 == cancel_count()


@natively
async def test_19_after_a_cut_a_later_timeout_of_asyncios_works_as_ever(stage: Stage) -> None:
    with pytest.raises(Cut):
        await stage.attempt(0.05, long(stage))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):
            await asyncio.Event().wait()
    assert 0 == cancel_count()


# What `was_cut` adds: who is to blame for an ordinary error that leaves a cutoff.


async def converts_any_cancel(stage: Stage) -> None:
    try:
        await stage.world.sleep(10.0)
    except anyio.get_cancelled_exc_class():
        raise RuntimeError("connection torn") from None


async def test_an_error_made_of_two_cancellations_is_not_ours(stage: Stage) -> None:
    """D1"""
    with anyio.CancelScope() as outer:
        stage.world.at(0.05, outer.cancel)
        with pytest.raises(RuntimeError, match="connection torn"):
            await stage.attempt(0.05, lambda: converts_any_cancel(stage))
        assert cancellation_pending(0)
        await anyio.lowlevel.checkpoint()

    assert outer.cancelled_caught
    assert 0 == cancel_count()


@natively
async def test_an_error_made_of_a_native_cancel_and_a_cut_is_not_ours(stage: Stage) -> None:
    """D1"""

    async def body() -> bool:
        stage.world.at(0.05, cancel)
        with pytest.raises(RuntimeError, match="connection torn"):
            await stage.attempt(0.05, lambda: converts_any_cancel(stage))
        return cancellation_pending(0)

    def cancel() -> None:
        task.cancel()

    task = asyncio.create_task(body())

    assert await task


async def test_the_outermost_of_two_cutoffs_names_the_error_made_of_both(stage: Stage) -> None:
    async def inner() -> None:
        await stage.attempt(0.05, lambda: converts_any_cancel(stage), "inner")

    with pytest.raises(Cut, match="outer") as caught:
        await stage.attempt(0.05, inner, "outer")

    assert "connection torn" == str(caught.value.__cause__)


async def test_an_inner_cutoff_may_come_due_while_an_outer_one_is_being_obeyed(stage: Stage) -> None:
    async def cleans_up() -> None:
        try:
            await stage.world.sleep(10.0)
        finally:
            with anyio.CancelScope(shield=True):
                await stage.world.sleep(1.0)

    with pytest.raises(Cut, match="outer"):
        await stage.attempt(0.05, lambda: stage.attempt(0.5, cleans_up, "inner"), "outer")

    assert 1.05 == stage.world.now
    assert 0 == cancel_count()


async def test_an_error_long_before_the_cut_is_the_operations_own(stage: Stage) -> None:
    """D11"""

    async def fails() -> None:
        raise RuntimeError("by itself")

    with pytest.raises(RuntimeError, match="by itself"):
        await stage.attempt(0.05, fails)
