"""The test kit keeps its own promises: time that moves only when every task waits, dice that show what they are told, and a notebook."""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import inspect
import math
import random
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from resilience import testing
from resilience.env import Env
from resilience.events import CallRecovered, CallSucceeded, Event, RetryScheduled
from resilience.testing import Step, World, script

pytestmark = pytest.mark.anyio

BACKENDS = [
    pytest.param(("asyncio", {}), id="asyncio"),
    pytest.param(
        ("asyncio", {"use_uvloop": True}),
        id="uvloop",
        marks=pytest.mark.skipif(importlib.util.find_spec("uvloop") is None, reason="uvloop does not exist for this platform"),
    ),
    pytest.param(("trio", {}), id="trio"),
]

natively = pytest.mark.parametrize("anyio_backend", BACKENDS[:2], scope="module")  # trio knows no native cancellation
in_a_loop_of_its_own = pytest.mark.parametrize("loop", BACKENDS)


def run(loop: tuple[str, dict[str, Any]], main: Callable[[], Awaitable[Any]]) -> Any:
    return anyio.run(main, backend=loop[0], backend_options=loop[1])


# Time


async def test_a_schedule_of_an_hour_takes_an_hour_of_virtual_time(world: World) -> None:
    """D15"""
    for _ in range(10):
        await world.env.sleep(360.0)

    assert 3600.0 == world.now
    assert 3600.0 == world.env.now()
    assert [360.0] * 10 == world.slept


async def test_time_begins_at_zero(world: World) -> None:
    """B54: who takes a 0 for nothing will be found out."""
    assert 0.0 == world.now
    assert 0.0 == world.env.now()


async def test_time_stands_still_while_a_task_can_run(world: World) -> None:
    seen: list[float] = []

    async def busy() -> None:
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
            seen.append(world.now)

    async with anyio.create_task_group() as group:
        group.start_soon(world.sleep, 1.0)
        group.start_soon(busy)

    assert [0.0] * 50 == seen
    assert 1.0 == world.now


async def test_sleepers_wake_in_the_order_of_their_times(world: World) -> None:
    woke: list[tuple[float, float]] = []

    async def sleep(seconds: float) -> None:
        await world.sleep(seconds)
        woke.append((seconds, world.now))

    async with anyio.create_task_group() as group:
        for seconds in (3.0, 1.0, 2.0, 1.0):
            group.start_soon(sleep, seconds)

    assert [(1.0, 1.0), (1.0, 1.0), (2.0, 2.0), (3.0, 3.0)] == woke


async def test_a_thousand_sleepers_share_the_time(world: World) -> None:
    async with anyio.create_task_group() as group:
        for number in range(1000):
            group.start_soon(world.sleep, float(number % 7))

    assert 6.0 == world.now


async def test_a_sleep_of_nothing_lets_others_run(world: World) -> None:
    turns: list[str] = []

    async def other() -> None:
        turns.append("other")

    async with anyio.create_task_group() as group:
        group.start_soon(other)
        await world.env.sleep(0.0)
        await world.env.sleep(0.0)  # trio shuffles whoever can run, so one round may be too few
        assert ["other"] == turns

    assert [0.0, 0.0] == world.slept
    assert 0.0 == world.now


@pytest.mark.parametrize("seconds", [-0.1, -math.inf, math.nan])
async def test_a_sleep_of_less_than_nothing_is_refused(world: World, seconds: float) -> None:
    """B22, B33: asyncio would let it pass, trio would not."""
    with pytest.raises(ValueError, match=f"{seconds!r}"):
        await world.env.sleep(seconds)


async def test_who_sleeps_for_ever_hangs_until_cut(world: World) -> None:
    with world.env.cutoff(5.0) as scope:
        await world.sleep(math.inf)

    assert scope.cancelled_caught
    assert 5.0 == world.now


async def test_what_was_called_off_moves_no_time(world: World) -> None:
    with world.env.cutoff(1.0):
        await world.sleep(10.0)
    with world.env.cutoff(20.0):
        await world.sleep(2.0)
    await anyio.sleep(0.005)  # every task waits, in earnest

    assert 3.0 == world.now


@natively
async def test_a_sleep_can_be_cancelled_natively(world: World) -> None:
    task = asyncio.create_task(world.sleep(10.0))
    world.at(1.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task

    assert 1.0 == world.now
    await world.sleep(1.0)
    assert 2.0 == world.now


async def test_until_a_time_that_is_past_is_no_wait(world: World) -> None:
    await world.until(3.0)
    await world.until(2.0)

    assert 3.0 == world.now
    assert [] == world.slept


async def test_only_what_the_engine_sleeps_is_noted(world: World) -> None:
    await world.sleep(1.0)
    await world.env.sleep(2.0)

    assert [2.0] == world.slept
    assert 3.0 == world.now


async def test_the_wall_clock_moves_along(world: World) -> None:
    """B19: and can be set back."""
    began = world.env.wall()
    await world.sleep(60.0)
    assert began + 60.0 == world.env.wall() == world.wall

    world.epoch -= 86_400.0

    assert began + 60.0 - 86_400.0 == world.env.wall()
    assert 60.0 == world.env.now()


def test_the_wall_clock_starts_where_it_is_told() -> None:
    assert 0.0 == World(epoch=0.0).env.wall()


# Callbacks at a time


async def test_callbacks_of_one_time_come_in_the_order_in_which_they_were_set(world: World) -> None:
    order: list[str] = []
    world.at(2.0, lambda: order.append("third"))
    world.at(1.0, lambda: order.append("first"))
    world.at(1.0, lambda: order.append("second"))
    await world.sleep(1.0)
    assert ["first", "second"] == order
    await world.sleep(1.0)

    assert ["first", "second", "third"] == order


async def test_a_callback_for_a_time_that_is_past_comes_as_soon_as_all_wait(world: World) -> None:
    await world.sleep(5.0)
    times: list[float] = []
    world.at(1.0, lambda: times.append(world.now))
    await world.sleep(1.0)

    assert [5.0] == times


@natively
async def test_a_callback_that_fails_is_reported_and_the_rest_goes_on(world: World) -> None:
    reported: list[Any] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    error = RuntimeError("boom")

    def fail() -> None:
        raise error

    world.at(1.0, fail)
    await world.sleep(1.0)
    loop.set_exception_handler(before)

    assert [error] == reported
    assert 1.0 == world.now


def test_a_callback_that_fails_ends_trios_run() -> None:
    async def main() -> None:
        world = World()
        world.at(1.0, lambda: 1 // 0)
        await world.sleep(2.0)

    with pytest.raises(Exception, match="internal error") as caught:
        anyio.run(main, backend="trio")

    cause = caught.value.__cause__
    assert isinstance(cause, ZeroDivisionError) or (isinstance(cause, ExceptionGroup) and cause.subgroup(ZeroDivisionError))


# Cutoffs; what they mean is in test_cutoff.py


async def test_a_cutoffs_time_starts_when_it_is_entered(world: World) -> None:
    """B64"""
    scope = world.env.cutoff(5.0)
    await world.sleep(3.0)
    with scope:
        await world.sleep(10.0)

    assert 8.0 == world.now


async def test_a_cutoff_that_was_left_in_time_cuts_nothing(world: World) -> None:
    with world.env.cutoff(5.0) as scope:
        await world.sleep(3.0)
    await world.sleep(10.0)

    assert not scope.cancel_called
    assert not scope.cancelled_caught


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_a_cutoff_without_time_cuts_the_first_wait(world: World, seconds: float) -> None:
    with world.env.cutoff(seconds) as scope:
        await anyio.lowlevel.checkpoint()
        pytest.fail("went on")

    assert scope.cancelled_caught
    assert 0.0 == world.now


async def test_an_endless_cutoff_cuts_nothing(world: World) -> None:
    with world.env.cutoff(math.inf) as scope:
        await world.sleep(1e9)

    assert not scope.cancel_called
    assert 1e9 == world.now


async def test_a_cutoff_comes_before_the_end_of_a_wait_of_the_same_length(world: World) -> None:
    with world.env.cutoff(5.0) as scope:
        await world.sleep(5.0)

    assert scope.cancelled_caught


async def test_a_cutoff_cuts_what_waits_for_something_else(world: World) -> None:
    with world.env.cutoff(5.0) as scope:
        await anyio.Event().wait()

    assert scope.cancelled_caught
    assert 5.0 == world.now


async def test_a_shielded_cutoff_keeps_outer_cancellation_out(world: World) -> None:
    with anyio.CancelScope() as outer:
        outer.cancel()
        with world.env.cutoff(5.0, shield=True) as scope:
            await world.sleep(10.0)

    assert scope.cancelled_caught
    assert 5.0 == world.now


async def test_a_cutoff_is_good_for_one_block(world: World) -> None:
    scope = world.env.cutoff(5.0)
    with scope:
        pass

    with pytest.raises(RuntimeError, match="one `with` block"), scope:
        pytest.fail("entered twice")


async def test_a_cutoff_of_no_number_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="nan"), world.env.cutoff(math.nan):
        pytest.fail("entered")


# Worlds among themselves, and their loops


async def test_two_worlds_do_not_see_each_other() -> None:
    """D15"""
    one, two = World(draw=0.1), World(draw=0.2)

    async def live(world: World, nights: int) -> None:
        for _ in range(nights):
            await world.env.sleep(world.env.draw())

    async with anyio.create_task_group() as group:
        group.start_soon(live, one, 3)
        group.start_soon(live, two, 5)

    assert [0.1] * 3 == one.slept
    assert [0.2] * 5 == two.slept
    assert pytest.approx(0.3) == one.now
    assert pytest.approx(1.0) == two.now


async def test_a_world_belongs_to_one_loop(world: World) -> None:
    await world.sleep(1.0)
    errors: list[str] = []

    async def trespass() -> None:
        for wait in (world.sleep, world.until, world.env.sleep):
            with pytest.raises(RuntimeError) as caught:
                await wait(9.0)
            errors.append(str(caught.value))
        with pytest.raises(RuntimeError) as caught, world.env.cutoff(1.0):
            pytest.fail("entered")
        errors.append(str(caught.value))

    thread = threading.Thread(target=anyio.run, args=[trespass])
    thread.start()
    thread.join()

    assert 4 == len(errors)
    assert all("make a World for each loop" in error for error in errors)
    assert 1.0 == world.now


def test_a_world_can_be_read_where_no_loop_runs() -> None:
    world = World()

    assert 0.0 == world.env.now()
    assert 0.5 == world.env.draw()
    with pytest.raises(RuntimeError):
        world.at(1.0, lambda: None)


@in_a_loop_of_its_own
def test_a_world_leaves_nothing_behind(loop: tuple[str, dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    ended: list[float] = []

    async def main() -> None:
        world = World()
        world.at(7.0, lambda: ended.append(7.0))
        world.env.cutoff(3.0).__enter__()
        world.env.detach(lambda: world.sleep(5.0))

    run(loop, main)
    gc.collect()

    assert [] == caplog.records
    assert [] == ended


async def test_patience_gives_a_thread_its_time() -> None:
    world = World(patience=0.04)
    thought = threading.Event()

    with world.env.cutoff(5.0) as scope:
        await anyio.to_thread.run_sync(thought.wait, 0.01, abandon_on_cancel=True)

    assert not scope.cancel_called
    assert 0.0 == world.now


async def test_without_patience_a_thread_looks_as_if_it_hung(world: World) -> None:
    release = threading.Event()

    with world.env.cutoff(5.0) as scope:
        await anyio.to_thread.run_sync(release.wait, 5.0, abandon_on_cancel=True)
    release.set()

    assert scope.cancelled_caught
    assert 5.0 == world.now


async def test_a_waiter_lets_time_pass_and_is_woken_in_it(world: World) -> None:
    bell = world.env.waiter()
    world.at(3.0, bell.wake)
    await bell.wait()

    assert 3.0 == world.now


async def test_what_is_detached_lives_in_the_same_time(world: World) -> None:
    times: list[float] = []

    async def work() -> None:
        await world.env.sleep(2.0)
        times.append(world.now)

    world.env.detach(work)
    await world.sleep(5.0)

    assert [2.0] == times


@pytest.mark.parametrize("patience", [-1.0, math.nan])
def test_patience_is_no_debt(patience: float) -> None:
    """D36"""
    with pytest.raises(ValueError, match=f"patience.*{patience!r}"):
        World(patience=patience)


# Dice, names, the notebook


async def test_the_dice_show_one_half_unless_told() -> None:
    assert [0.5, 0.5] == [draw() for draw in [World().env.draw] * 2]


async def test_the_dice_show_what_they_are_told() -> None:
    draw = World(draw=[0.1, 0.9]).env.draw

    assert [0.1, 0.9] == [draw(), draw()]
    with pytest.raises(AssertionError, match="thrown 3 times"):
        draw()


async def test_the_dice_may_come_from_anything_that_yields() -> None:
    rolls = random.Random(7)
    draw = World(draw=iter(rolls.random, None)).env.draw

    assert [random.Random(7).random()] == [draw()]


@pytest.mark.parametrize("draw", [1.0, -0.1, math.nan, 7])
def test_dice_that_show_no_sample_are_refused(draw: float) -> None:
    with pytest.raises(ValueError, match=rf"\[0, 1\), not {draw!r}"):
        World(draw=draw)
    with pytest.raises(ValueError, match=rf"\[0, 1\), not {draw!r}"):
        World(draw=[draw]).env.draw()


async def test_names_are_counted() -> None:
    unique = World().env.unique

    assert ["00000001", "0002", "0" * 31 + "3"] == [unique(4), unique(2), unique(16)]
    assert "00000001" == World().env.unique(4)


async def test_names_keep_their_length(world: World) -> None:
    names = [world.env.unique(1) for _ in range(300)]

    assert {2} == {len(name) for name in names}


def told(kind: type[Event], **facts: Any) -> Event:
    return kind(engine="e", operation="o", call="c", attempt=1, elapsed=0.0, **facts)


async def test_the_notebook_keeps_every_event_in_order(world: World) -> None:
    scheduled = told(RetryScheduled, action="retry", rule="r", delay=1.0, delay_source="backoff")
    recovered = told(CallRecovered)
    succeeded = told(CallSucceeded)
    for event in (scheduled, recovered, succeeded):
        world.env.emit(event)

    assert [scheduled, recovered, succeeded] == world.events
    assert ["retry.scheduled", "call.recovered", "call.succeeded"] == world.names()
    assert ["call.recovered", "call.succeeded"] == world.names("call.")
    assert ["retry.scheduled", "call.succeeded"] == world.names("retry.", "call.succeeded")
    assert [1.0] == [event.delay for event in world.told(RetryScheduled)]


async def test_clean_successes_are_told_too(world: World) -> None:
    assert world.env.quiet.wanted(0.0)


def test_a_world_stands_in_for_every_field_of_the_env(world: World) -> None:
    """A new source of time or chance must not reach the real one from a test."""
    real = Env()
    shared = {"detach", "waiter", "cancel_count", "cancellation_pending"}  # these are the backend's own

    assert shared == {field.name for field in attrs.fields(Env) if getattr(real, field.name) == getattr(world.env, field.name)}


async def test_single_fields_of_the_env_can_be_replaced(world: World) -> None:
    env = attrs.evolve(world.env, draw=lambda: 0.25)
    await env.sleep(1.0)

    assert 0.25 == env.draw()
    assert [1.0] == world.slept


async def test_a_world_says_where_it_stands(world: World) -> None:
    await world.env.sleep(1.5)

    assert "<World at 1.5 s, 1 sleeps, 0 events>" == repr(world)


# Scripts


async def test_a_script_plays_its_outcomes_in_turn() -> None:
    error = ConnectionError("lost")
    operation = script(error, KeyError, "ok", None)

    with pytest.raises(ConnectionError) as caught:
        await operation()
    assert error is caught.value
    with pytest.raises(KeyError):
        await operation()
    assert "ok" == await operation()
    assert None is await operation()
    assert 4 == operation.calls


async def test_a_script_says_when_it_is_called_too_often() -> None:
    operation = script("ok")
    await operation()

    with pytest.raises(AssertionError, match="call 2 of a script that has only 1 outcome"):
        await operation()
    assert 2 == operation.calls


async def test_a_script_without_outcomes_must_not_be_called() -> None:
    with pytest.raises(AssertionError, match="call 1"):
        await script()()


async def test_a_script_notes_its_arguments() -> None:
    operation = script("ok", "ok")
    await operation(1, two=2)
    await operation()

    assert [((1,), {"two": 2}), ((), {})] == operation.arguments


async def test_a_function_is_an_outcome_like_any_other() -> None:
    assert len is await script(len)()


async def test_a_step_is_worked_out_when_its_turn_comes() -> None:
    async def double(number: int) -> int:
        return 2 * number

    operation = script(Step(double), Step(double))

    assert 4 == await operation(2)
    assert 6 == await operation(number=3)


async def test_a_step_takes_its_time(world: World) -> None:
    operation = script(world.takes(3.0, ValueError("late")), world.takes(2.0, world.takes(1.0, "nested")), world.takes(0.5))

    with pytest.raises(ValueError, match="late"):
        await operation()
    assert 3.0 == world.now
    assert "nested" == await operation("any", argument="will do")
    assert 6.0 == world.now
    assert None is await operation()
    assert [] == world.slept


async def test_a_step_may_hang(world: World) -> None:
    with world.env.cutoff(30.0) as scope:
        await script(world.takes(math.inf))()

    assert scope.cancelled_caught
    assert 30.0 == world.now


async def test_a_script_can_be_called_by_many_at_once(world: World) -> None:
    operation = script(*(world.takes(1.0, number) for number in range(3)))
    results: list[int] = []

    async def call() -> None:
        results.append(await operation())

    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(call)

    assert [0, 1, 2] == sorted(results)
    assert 1.0 == world.now


async def test_a_script_makes_no_garbage_of_its_errors() -> None:
    """D34: or tests for garbage would find it."""
    operation = script(ConnectionError("lost"), KeyError)
    gc.collect()
    gc.disable()
    try:
        for kind in (ConnectionError, KeyError):
            try:
                await operation()
            except kind:
                pass
        assert 0 == gc.collect()
    finally:
        gc.enable()


def test_a_script_looks_like_a_function() -> None:
    operation = script("ok")

    assert "script" == operation.__name__ == operation.__qualname__
    assert inspect.iscoroutinefunction(operation.__call__)
    assert "<script: 0 calls, 1 outcomes>" == repr(operation)


def test_the_example_runs() -> None:
    assert testing.__doc__ is not None
    lines = testing.__doc__.splitlines()
    example = "\n".join(line[4:] for line in lines if line.startswith("    ") or not line)

    exec(compile(example, "the example", "exec"), {"__name__": "example"})
