"""What asyncio and trio do differently must not show."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import importlib.util
import math
import pathlib
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from anyio.abc import SocketAttribute, SocketStream

from resilience import backend
from resilience.backend import cancel_count, cancellation_pending, current_loop, cutoff, detach, waiter, when_all_wait

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


def in_thread(fn: Callable[[], Any]) -> Any:
    """Run *fn* in a thread of its own, and have its result."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(fn()))
    thread.start()
    thread.join()
    return results[0]


async def until(condition: Callable[[], object]) -> None:
    """Let others run until *condition* holds."""
    for _ in range(1000):
        if condition():
            return
        await anyio.lowlevel.checkpoint()
    pytest.fail("never came to pass")


# Cutoffs on the real clock; what they mean is in test_cutoff.py


async def test_a_cutoffs_clock_starts_when_it_is_entered() -> None:
    """B64"""
    scope = cutoff(5.0)
    await anyio.sleep(0.005)
    entered = anyio.current_time()

    with scope:
        assert entered + 5.0 <= anyio.current_effective_deadline()


async def test_a_cutoff_cuts_a_wait_that_takes_longer() -> None:
    with cutoff(0.005) as scope:
        assert not scope.cancel_called
        await anyio.sleep(1.0)

    assert scope.cancel_called
    assert scope.cancelled_caught


@pytest.mark.parametrize("seconds", [0.0, -1.0])
async def test_a_cutoff_without_time_cuts_the_first_wait(seconds: float) -> None:
    with cutoff(seconds) as scope:
        await anyio.sleep_forever()

    assert scope.cancelled_caught


async def test_an_endless_cutoff_sets_no_limit() -> None:
    with cutoff(math.inf) as scope:
        assert math.inf == anyio.current_effective_deadline()
        await anyio.lowlevel.checkpoint()

    assert not scope.cancel_called


async def test_a_shielded_cutoff_keeps_outer_cancellation_out() -> None:
    pending: list[bool] = []
    with anyio.CancelScope() as outer:
        outer.cancel()
        with cutoff(5.0, shield=True) as scope:
            await anyio.lowlevel.checkpoint()
            pending.append(cancellation_pending(cancel_count()))
        pending.append(cancellation_pending(cancel_count()))

    assert [False, True] == pending
    assert not scope.cancel_called


async def test_a_shielded_cutoff_still_cuts() -> None:
    with cutoff(0.005, shield=True) as scope:
        await anyio.sleep(1.0)

    assert scope.cancelled_caught


async def test_a_cutoff_is_good_for_one_block() -> None:
    scope = cutoff(5.0)
    with scope:
        pass

    with pytest.raises(RuntimeError, match="one `with` block"), scope:
        pytest.fail("entered twice")


async def test_a_cutoff_of_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN"), cutoff(math.nan):
        pytest.fail("entered")


def test_a_cutoff_that_was_never_entered_was_not_cut() -> None:
    scope = cutoff(5.0)

    assert not scope.cancel_called
    assert not scope.cancelled_caught


# Cancellation under way


async def test_no_cancellation_is_pending_in_a_task_that_nobody_cancels() -> None:
    assert 0 == cancel_count()
    assert not cancellation_pending(0)


async def test_a_scope_around_the_task_cancels_it() -> None:
    with anyio.CancelScope() as outer, anyio.CancelScope():
        await anyio.lowlevel.checkpoint()
        outer.cancel()

        assert cancellation_pending(cancel_count())
    assert not cancellation_pending(cancel_count())


async def test_a_scope_around_the_group_cancels_its_children() -> None:
    seen: list[bool] = []

    async def child(started: anyio.Event) -> None:
        try:
            started.set()
            await anyio.sleep_forever()
        finally:
            seen.append(cancellation_pending(0))

    async with anyio.create_task_group() as group:
        started = anyio.Event()
        group.start_soon(child, started)
        await started.wait()
        group.cancel_scope.cancel()

    assert [True] == seen


async def test_a_deadline_still_to_come_is_no_cancellation() -> None:
    with anyio.move_on_after(60):
        await anyio.lowlevel.checkpoint()
        assert not cancellation_pending(cancel_count())


@natively
async def test_a_native_cancel_that_was_swallowed_is_still_pending() -> None:
    """D1: the operation must not get another attempt."""

    async def swallows() -> tuple[int, bool]:
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            return cancel_count(), cancellation_pending(0)
        return 0, False

    task = asyncio.create_task(swallows())
    await anyio.lowlevel.checkpoint()
    task.cancel()

    assert (1, True) == await task


@natively
async def test_a_cancellation_from_before_the_call_is_not_pending() -> None:
    async def swallows() -> bool:
        with contextlib.suppress(asyncio.CancelledError):
            await anyio.sleep_forever()
        since = cancel_count()
        assert 1 == since
        return cancellation_pending(since)

    task = asyncio.create_task(swallows())
    await anyio.lowlevel.checkpoint()
    task.cancel()

    assert not await task


@natively
async def test_a_callback_of_the_loop_has_no_count() -> None:
    counts: list[int] = []
    asyncio.get_running_loop().call_soon(lambda: counts.append(cancel_count()))
    await until(lambda: counts)

    assert [0] == counts


def test_where_nothing_runs_there_is_no_count() -> None:
    assert 0 == cancel_count()


async def cancelled_once() -> int:
    """The count of a task of asyncio's that has just been cancelled."""
    assert 0 == cancel_count()
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    return cancel_count()


async def not_cancelled() -> int:
    return cancel_count()


@in_a_loop_of_its_own
def test_each_loop_in_a_thread_has_its_own_count(loop: tuple[str, dict[str, Any]]) -> None:
    """D26"""
    assert 1 == asyncio.run(cancelled_once())
    assert 0 == run(loop, not_cancelled)
    assert 1 == asyncio.run(cancelled_once())
    assert 0 == cancel_count()
    assert 0 == in_thread(cancel_count)


async def test_a_loop_in_another_thread_lends_no_count() -> None:
    """D26"""
    assert 1 == in_thread(lambda: asyncio.run(cancelled_once()))
    assert 0 == cancel_count()


# Loops


async def test_a_loop_is_known_again() -> None:
    here = current_loop()
    await anyio.lowlevel.checkpoint()

    assert here is current_loop()


async def test_loops_are_told_apart() -> None:
    async def main() -> object:
        return current_loop()

    assert in_thread(lambda: anyio.run(main)) is not current_loop()
    assert in_thread(lambda: anyio.run(main, backend="trio")) is not current_loop()


@pytest.mark.parametrize("ask", [current_loop, waiter, lambda: detach(anyio.sleep_forever), lambda: when_all_wait(lambda: None)])
def test_where_nothing_runs_there_is_no_loop(ask: Callable[[], object]) -> None:
    with pytest.raises(RuntimeError):
        ask()


# Tasks that outlive their creator


async def test_a_detached_function_outlives_a_cancelled_caller() -> None:
    """B41"""
    go = anyio.Event()
    done: list[str] = []

    async def work() -> None:
        await go.wait()
        await anyio.lowlevel.checkpoint()
        done.append("done")

    with anyio.CancelScope() as scope:
        detach(work)
        scope.cancel()
        await anyio.lowlevel.checkpoint()
    go.set()
    await until(lambda: done)

    assert ["done"] == done


@natively
async def test_a_detached_function_outlives_a_natively_cancelled_caller() -> None:
    """B41"""
    go = anyio.Event()
    done: list[str] = []

    async def work() -> None:
        await go.wait()
        done.append("done")

    async def caller() -> None:
        detach(work)
        await anyio.sleep_forever()

    task = asyncio.create_task(caller())
    await until(lambda: backend._detached)
    task.cancel()
    await until(task.done)
    gc.collect()
    go.set()
    await until(lambda: done)

    assert ["done"] == done
    await until(lambda: not backend._detached)


async def test_a_detached_function_sees_the_callers_context_in_a_copy() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    seen: list[str] = []

    async def work() -> None:
        seen.append(variable.get())
        variable.set("changed inside")
        seen.append(variable.get())

    variable.set("the caller's")
    detach(work)
    variable.set("changed outside")
    await until(lambda: len(seen) == 2)

    assert ["the caller's", "changed inside"] == seen
    assert "changed outside" == variable.get()


async def test_a_detached_function_is_in_none_of_the_callers_scopes() -> None:
    deadlines: list[float] = []

    async def work() -> None:
        deadlines.append(anyio.current_effective_deadline())

    with anyio.move_on_after(60):
        detach(work)
        await until(lambda: deadlines)

    assert [math.inf] == deadlines


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("error", [RuntimeError("boom"), ExceptionGroup("two", [ValueError(), KeyError()])])
@in_a_loop_of_its_own
def test_an_error_that_escapes_a_detached_function_harms_nobody(
    loop: tuple[str, dict[str, Any]], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """B44"""
    raised: list[Exception] = []

    async def work() -> None:
        await anyio.lowlevel.checkpoint()
        raised.append(error)
        raise error

    async def main() -> str:
        detach(work)
        await until(lambda: raised)
        await anyio.lowlevel.checkpoint()
        gc.collect()
        return "unharmed"

    assert "unharmed" == run(loop, main)
    gc.collect()
    assert [] == caplog.records
    assert not backend._detached


@in_a_loop_of_its_own
def test_only_the_end_of_the_loop_cuts_a_detached_function_short(
    loop: tuple[str, dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    """B44"""
    ended: list[str] = []

    async def work() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            ended.append("cancelled")
            raise

    async def main() -> None:
        detach(work)
        await anyio.wait_all_tasks_blocked()

    run(loop, main)

    assert ["cancelled"] == ended
    assert [] == caplog.records
    assert not backend._detached


def test_a_task_group_in_a_detached_function_may_fail_at_the_end_of_trios_run() -> None:
    """B44: a group of the run's own cancellation and an error of theirs.  (asyncio logs the child, a task of the user's, for itself.)"""
    ended: list[str] = []

    async def sulks() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("child")
            raise ValueError("cannot stop")

    async def work() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(sulks)
            group.start_soon(anyio.sleep_forever)

    async def main() -> str:
        detach(work)
        await anyio.wait_all_tasks_blocked()
        return "unharmed"

    assert "unharmed" == anyio.run(main, backend="trio")
    assert ["child"] == ended


def test_a_detached_task_of_a_loop_that_was_closed_under_it_is_let_go() -> None:
    """B43, D26"""

    async def main() -> None:
        detach(anyio.sleep_forever)
        await asyncio.sleep(0)

    async def nothing() -> None:
        pass

    async def another() -> None:
        detach(nothing)
        assert 1 == len(backend._detached)
        await asyncio.sleep(0)

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)  # asyncio complains of the pending task, rightly
    loop.run_until_complete(main())
    loop.close()
    assert 1 == len(backend._detached)

    asyncio.run(another())
    assert not backend._detached


# Waking


async def test_a_waiter_sleeps_until_it_is_woken() -> None:
    woken: list[str] = []
    bell = waiter()

    async def wait() -> None:
        await bell.wait()
        woken.append("woken")

    async with anyio.create_task_group() as group:
        group.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        assert [] == woken
        bell.wake()

    assert ["woken"] == woken


async def test_a_waiter_that_was_woken_before_does_not_wait() -> None:
    bell = waiter()
    bell.wake()
    bell.wake()

    with anyio.fail_after(1):
        await bell.wait()
        await bell.wait()


async def test_any_thread_wakes_a_waiter() -> None:
    """D26"""
    bell = waiter()
    thread = threading.Thread(target=bell.wake)
    with anyio.fail_after(1):
        async with anyio.create_task_group() as group:
            group.start_soon(bell.wait)
            await anyio.wait_all_tasks_blocked()
            thread.start()
    thread.join()


@pytest.mark.parametrize("other", ["asyncio", "trio"])
async def test_another_loop_wakes_a_waiter(other: str) -> None:
    """D26"""
    bell = waiter()

    async def wake() -> None:
        bell.wake()

    thread = threading.Thread(target=lambda: anyio.run(wake, backend=other))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(bell.wait)
            await anyio.wait_all_tasks_blocked()
            thread.start()
    thread.join()


async def test_a_waiter_that_is_cancelled_waits_no_more() -> None:
    bell = waiter()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await bell.wait()

    assert scope.cancelled_caught
    bell.wake()


@in_a_loop_of_its_own
def test_waking_a_waiter_whose_loop_is_gone_is_harmless(loop: tuple[str, dict[str, Any]]) -> None:
    """B43"""

    async def main() -> backend.Waiter:
        return waiter()

    bell = run(loop, main)
    bell.wake()
    in_thread(bell.wake)


# The moment when every task waits


async def test_it_comes_once_every_task_waits() -> None:
    order: list[str] = []
    done = anyio.Event()

    async def busy() -> None:
        for _ in range(50):
            await anyio.lowlevel.checkpoint()
        order.append("busy")
        await done.wait()

    def all_wait() -> None:
        order.append("all wait")
        done.set()

    async with anyio.create_task_group() as group:
        when_all_wait(all_wait)
        group.start_soon(busy)
        group.start_soon(done.wait)

    assert ["busy", "all wait"] == order


async def test_it_comes_once() -> None:
    times: list[str] = []
    when_all_wait(lambda: times.append("now"))
    await anyio.sleep(0.005)
    await anyio.sleep(0.005)

    assert ["now"] == times


@natively
async def test_it_waits_for_results_on_their_way_through_gathers() -> None:
    order: list[str] = []
    done = asyncio.Event()

    async def leaf() -> None:
        await asyncio.sleep(0)

    async def tree() -> None:
        await asyncio.gather(asyncio.gather(asyncio.gather(leaf()), leaf()), leaf())
        order.append("gathered")

    def all_wait() -> None:
        order.append("all wait")
        done.set()

    task = asyncio.create_task(tree())
    await asyncio.sleep(0)
    when_all_wait(all_wait)
    await done.wait()
    await task

    assert ["gathered", "all wait"] == order


async def test_it_waits_for_data_between_tasks_of_the_loop() -> None:
    order: list[str] = []
    done = anyio.Event()

    async def echo(stream: SocketStream) -> None:
        async with stream:
            async for data in stream:
                await stream.send(data)

    def all_wait() -> None:
        order.append("all wait")
        done.set()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, echo)
        async with await anyio.connect_tcp("127.0.0.1", listener.extra(SocketAttribute.local_port)) as stream:
            when_all_wait(all_wait)
            for _ in range(20):
                await stream.send(b"hello")
                assert b"hello" == await stream.receive()
            order.append("talked")
            await done.wait()
        group.cancel_scope.cancel()

    assert ["talked", "all wait"] == order


async def test_patience_waits_out_what_a_thread_does() -> None:
    order: list[str] = []
    thought = threading.Event()
    done = anyio.Event()

    async def think() -> None:
        await anyio.to_thread.run_sync(thought.wait, 0.01)
        order.append("thought")
        await done.wait()

    def all_wait() -> None:
        order.append("all wait")
        done.set()

    async with anyio.create_task_group() as group:
        group.start_soon(think)
        when_all_wait(all_wait, patience=0.04)

    assert ["thought", "all wait"] == order


@in_a_loop_of_its_own
def test_a_loop_that_ends_first_is_left_clean(loop: tuple[str, dict[str, Any]], caplog: pytest.LogCaptureFixture) -> None:
    times: list[str] = []

    async def main() -> None:
        when_all_wait(lambda: times.append("now"))

    run(loop, main)
    gc.collect()

    assert [] == times
    assert [] == caplog.records


@natively
async def test_what_it_calls_may_fail_loudly() -> None:
    loop = asyncio.get_running_loop()
    reported: list[Any] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    error = RuntimeError("boom")

    def fail() -> None:
        raise error

    when_all_wait(fail)
    await asyncio.sleep(0.005)
    loop.set_exception_handler(before)

    assert [error] == reported


# Imports


def test_neither_library_is_imported_before_it_is_used() -> None:
    """D25, D40"""
    code = (
        "import sys, types\n"
        "sys.modules['resilience'] = package = types.ModuleType('resilience')\n"
        f"package.__path__ = [{str(pathlib.Path(backend.__file__).parent)!r}]  # structlog loads asyncio\n"
        "from resilience import backend\n"
        "assert 0 == backend.cancel_count()\n"
        "print([name for name in ('asyncio', 'trio') if name in sys.modules])\n"
    )

    assert "[]" == subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
