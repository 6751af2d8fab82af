"""Cutoffs that share a timer: never early, hardly late, and nothing left in the loop when nobody is in one."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import anyio
import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import backend, timers
from resilience.present import present_task
from resilience.timers import SharedCutoff

C = TypeVar("C", bound=SharedCutoff)

LOOPS = [False, True]


@attrs.define(eq=False)
class Loop:
    """An event loop as far as a wheel sees it: somebody to set timers."""

    set_for: list[float] = attrs.field(factory=list)
    cancelled: int = 0
    turn: Callable[[], None] | None = None

    def call_later(self, delay: float, turn: Callable[[], None]) -> Any:
        self.set_for.append(delay)
        self.turn = turn
        return self

    def cancel(self) -> None:
        self.cancelled += 1

    def is_closed(self) -> bool:
        return True


class Task:
    """A task as far as an entry that is filed sees it."""

    def __init__(self, loop: Loop) -> None:
        self.get_loop = lambda: loop
        self.cancelling = lambda: 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(timers, "_now", lambda: now[0])
    return now


def filed(loop: Loop, seconds: float) -> tuple[Any, list[str]]:
    due: list[str] = []

    class Watched(SharedCutoff):
        def become(self) -> None:
            due.append("due")
            self._scope = _Closed()

    cutoff: Any = made(Watched, seconds, Task(loop))
    cutoff.__enter__()
    return cutoff, due


def made(kind: type[C], seconds: float, task: Any) -> C:
    """What `SharedCutoff.here` makes, of another kind."""
    cutoff = kind()
    cutoff._seconds, cutoff._task, cutoff._scope = seconds, task, None
    return cutoff


class _Closed:
    def __exit__(self, *error: object) -> None:
        pass


@given(st.floats(0.0001, 100_000.0), st.floats(0.0, 1e6))
def test_none_comes_early_and_none_later_than_ten_milliseconds_or_a_hundredth(seconds: float, start: float) -> None:
    loop, now = Loop(), start
    saved, timers._now = timers._now, lambda: now
    try:
        cutoff, due = filed(loop, seconds)
        assert loop.turn is not None
        now = math.nextafter(start + seconds, 0) - 1e-6
        loop.turn()
        early = list(due)
        now = start + seconds + backend.lateness(seconds) + 1e-6
        loop.turn()
        cutoff.__exit__(None, None, None)
    finally:
        timers._now = saved

    assert ([], ["due"]) == (early, due)


def test_one_timer_serves_all_and_is_set_anew_only_for_what_comes_sooner(clock: list[float]) -> None:
    loop = Loop()
    cutoffs = [filed(loop, seconds)[0] for seconds in (30.0, 30.0, 60.0, 1.0, 1.0, 5.0)]

    assert 2 == len(loop.set_for)
    assert 1 == loop.cancelled
    for cutoff in cutoffs:
        cutoff.__exit__(None, None, None)


def test_no_timer_is_set_while_nobody_is_in_a_cutoff(clock: list[float]) -> None:
    loop = Loop()
    for _ in range(1000):
        cutoff, _ = filed(loop, 5.0)
        cutoff.__exit__(None, None, None)
    assert loop.turn is not None
    clock[0] += 6.0
    loop.turn()

    assert 1 == len(loop.set_for)
    assert {} == timers._wheels[loop]._slots  # type: ignore[index]


def test_what_is_over_leaves_nothing_behind(clock: list[float]) -> None:
    """A million calls a minute with a limit of an hour each must not pile up."""
    loop = Loop()
    for _ in range(100):
        cutoff, _ = filed(loop, 3600.0)
        cutoff.__exit__(None, None, None)
        clock[0] += 60.0
    slots = timers._wheels[loop]._slots  # type: ignore[index]

    assert 100 >= len(slots)
    assert not any(slot.after is not slot for slot in slots.values())


@pytest.mark.parametrize("uvloop", LOOPS)
def test_one_whose_time_was_up_is_not_left_to_the_garbage_collector(uvloop: bool) -> None:
    """D34."""

    class Watched(SharedCutoff):
        """One that can be referred to weakly."""

    async def struck() -> weakref.ref[Watched]:
        task = asyncio.current_task()
        assert task is not None
        with (scope := made(Watched, 0.01, task)):
            await asyncio.sleep(60)
        assert scope.cancelled_caught
        return weakref.ref(scope)

    gc.disable()
    try:
        left = anyio.run(struck, backend_options={"use_uvloop": uvloop})
    finally:
        gc.enable()

    assert left() is None


def test_a_cutoff_is_good_for_one_block(clock: list[float]) -> None:
    cutoff, _ = filed(Loop(), 1.0)
    cutoff.__exit__(None, None, None)

    with pytest.raises(RuntimeError, match="good for one `with` block"):
        cutoff.__enter__()


@pytest.mark.parametrize("uvloop", LOOPS)
def test_on_asyncio_a_limit_of_ours_is_no_scope_until_its_time_is_up(uvloop: bool) -> None:
    async def main() -> tuple[bool, bool, bool]:
        with backend.cutoff(60.0) as long:
            within = anyio.current_effective_deadline() == math.inf
        with backend.cutoff(0.01) as short:
            await anyio.sleep_forever()
        return isinstance(long, SharedCutoff), within, short.cancelled_caught

    assert (True, True, True) == anyio.run(main, backend_options={"use_uvloop": uvloop})


def test_on_trio_it_is_one_from_the_first() -> None:
    async def main() -> bool:
        return isinstance(backend.cutoff(60.0), SharedCutoff)

    assert not anyio.run(main, backend="trio")


def test_with_an_anyio_that_keeps_its_scopes_otherwise_there_are_real_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timers, "usable", False)
    monkeypatch.setattr(backend, "_shared_cutoff", backend._first_shared_cutoff)

    async def main() -> tuple[bool, bool]:
        with backend.cutoff(0.01) as cutoff:
            await anyio.sleep_forever()
        return isinstance(cutoff, SharedCutoff), cutoff.cancelled_caught

    assert (False, True) == anyio.run(main)


@pytest.mark.parametrize("missing", sorted(timers._NEEDED))
def test_each_name_of_anyio_s_that_is_needed_is_looked_for(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    class Other:
        __slots__ = tuple(timers._NEEDED - {missing})

    monkeypatch.setattr(timers, "_Scope", Other)

    assert timers.usable
    assert not timers._checked()


def test_loops_in_threads_do_not_see_each_other() -> None:
    ended: list[float] = []

    async def main(seconds: float) -> None:
        for _ in range(20):
            with backend.cutoff(seconds) as cutoff:
                await anyio.sleep_forever()
            assert cutoff.cancelled_caught
        ended.append(seconds)

    threads = [threading.Thread(target=anyio.run, args=(main, seconds)) for seconds in (0.001, 0.002, 0.003, 0.004)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [0.001, 0.002, 0.003, 0.004] == sorted(ended)


def test_a_loop_that_has_moved_to_another_thread_is_not_mistaken_for_the_present_one() -> None:
    """On 3.11 a thread remembers its loop, for asking costs a system call."""
    loop = asyncio.new_event_loop()

    async def present() -> bool:
        backend.cancel_count()
        return present_task() is asyncio.current_task()

    right = [loop.run_until_complete(present())]
    started, over = threading.Event(), asyncio.Event()

    async def elsewhere() -> None:
        started.set()
        await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(elsewhere(),))
    thread.start()
    started.wait()
    right.append(asyncio.run(present()))
    loop.call_soon_threadsafe(over.set)
    thread.join()
    loop.close()

    assert [True, True] == right


def test_a_closed_loop_and_what_hung_in_it_are_not_kept() -> None:
    class Held:
        pass

    async def main() -> weakref.ref[Held]:
        held = Held()

        async def hangs(held: Held) -> None:
            with backend.cutoff(3600.0):
                await anyio.sleep_forever()

        task = asyncio.ensure_future(hangs(held))
        await anyio.sleep(0)
        task.cancel()
        return weakref.ref(held)

    loop = asyncio.new_event_loop()
    held = loop.run_until_complete(main())
    asyncio.run(anyio.sleep(0))
    loop.run_until_complete(anyio.sleep(0))
    loop.close()
    del loop
    gc.collect()

    assert held() is None


def test_loops_that_are_closed_are_let_go() -> None:
    """D34."""

    async def limited() -> None:
        with backend.cutoff(60.0):
            pass

    for _ in range(20):
        asyncio.run(limited())

    assert 2 >= sum(loop.is_closed() for loop in timers._wheels)
