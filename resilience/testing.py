"""
Tests in which nothing really waits: virtual time, fixed dice, and a notebook of every decision.

    import anyio

    from resilience import Engine, Exponential, Retry
    from resilience.testing import World, script


    async def test_a_lost_connection_is_made_again_after_its_backoff() -> None:
        world = World(draw=0.5)
        engine = Engine([Retry(backoff=Exponential(1.0))], env=world.env)
        fetch = script(ConnectionError(), ConnectionError(), "ok")

        assert "ok" == await engine.call(fetch)
        assert [0.5, 1.0] == world.slept
        assert 1.5 == world.now
        assert ["retry.scheduled", "retry.scheduled", "call.recovered"] == world.names("retry.", "call.")


    anyio.run(test_a_lost_connection_is_made_again_after_its_backoff)

A `World` needs no context manager and no plug-in: make one in each test, or in a fixture that says ``return World()``.  It works on
asyncio, uvloop and trio.  `script` makes an operation of outcomes; `World.takes` makes one of them slow, or never end.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Any, Self, TypeGuard, TypeVar

import anyio
import anyio.lowlevel
import attrs

from resilience import backend
from resilience.env import Env
from resilience.events import Event

__all__ = ["Script", "Step", "World", "script"]

E = TypeVar("E", bound=Event)


@attrs.define(order=True)
class _Alarm:
    """Something to do at a virtual time; those of one time in the order in which they were set."""

    when: float
    serial: int
    ring: Callable[[], object] | None = attrs.field(eq=False)

    def off(self) -> None:
        self.ring = None


class World:
    """
    A small world for an engine under test: its time stands still until every task waits, and then moves to the next thing that is due.

    Give `env` to an `Engine`; replace single fields with ``attrs.evolve(world.env, draw=...)``.  Worlds share nothing: two of them in two
    tasks do not see each other, each has a time of its own.  A world belongs to the event loop it is first waited in.

    *Every task* means every task of that loop, whether it waits in this world or for anything else.  So an operation that really waits, for
    a thread, another process or a timer of the loop's own, looks as if it hung: the next cutoff strikes at once, and sleeps end.  Where a
    test does such things, *patience* says how long all must have waited before time may move.  What tasks of the same loop send each other
    through a socket arrives first, as a rule.

    Args:
        draw: What the dice show: one sample in [0, 1) for ever, or the samples to come, one after another.
        epoch: Unix seconds at virtual time 0; 1 January 2026 if nothing is said.
        patience: Real seconds for which every task must have waited before time moves; >= 0.

    Raises:
        ValueError: *draw* is not in [0, 1), or *patience* is negative.
    """

    env: Env
    """An `Env` for an `Engine`, made of all this."""
    slept: list[float]
    """The seconds of each ``env.sleep``, in the order in which they were asked for."""
    events: list[Event]
    """What was decided, in order."""
    epoch: float
    """Unix seconds at virtual time 0; change it, and the wall clock jumps."""

    def __init__(self, draw: float | Iterable[float] = 0.5, *, epoch: float = 1_767_225_600.0, patience: float = 0.0) -> None:
        if not patience >= 0.0:
            raise ValueError(f"patience must be 0 or more seconds, not {patience!r}")
        self.epoch = epoch
        self.slept = []
        self.events = []
        self._patience = patience
        self._dice = itertools.repeat(_sample(draw)) if isinstance(draw, int | float) else iter(draw)
        self._thrown = 0
        self._named = 0
        self._now = 0.0
        self._alarms: list[_Alarm] = []
        self._serial = itertools.count()
        self._home: object = None
        self._watching = False
        self.env = Env(
            now=lambda: self._now,
            wall=lambda: self.wall,
            draw=self._draw,
            unique=self._unique,
            sleep=self._sleep,
            emit=self.events.append,
            cutoff=self._cutoff,
            detach=backend.detach,
            waiter=backend.waiter,
            cancel_count=backend.cancel_count,
            cancellation_pending=backend.cancellation_pending,
        )

    def __repr__(self) -> str:
        return f"<World at {self._now:g} s, {len(self.slept)} sleeps, {len(self.events)} events>"

    # What a test reads

    @property
    def now(self) -> float:
        """Virtual seconds since this world was made."""
        return self._now

    @property
    def wall(self) -> float:
        """Unix seconds, as the engine sees them."""
        return self.epoch + self._now

    def names(self, *prefixes: str) -> list[str]:
        """The names of `events`, in order; only those that begin so, if *prefixes* are given."""
        return [event.name for event in self.events if event.name.startswith(prefixes or "")]

    def told(self, kind: type[E]) -> list[E]:
        """The `events` of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    # What a test does

    async def sleep(self, seconds: float) -> None:
        """
        Wait so many virtual seconds: for operations that take time, and tests that let some pass.  Not noted in `slept`.

        Raises:
            ValueError: *seconds* is negative or not a number.
            RuntimeError: This world belongs to another event loop.
        """
        if not seconds >= 0.0:
            raise ValueError(f"cannot sleep for {seconds!r} seconds")
        await self.until(self._now + seconds)

    async def until(self, when: float) -> None:
        """
        Wait for a virtual time; if it is past, only let the others have their turn.

        Raises:
            RuntimeError: This world belongs to another event loop.
        """
        if when <= self._now:
            await anyio.lowlevel.checkpoint()
            return
        rang = anyio.Event()
        alarm = self._set(when, rang.set)
        try:
            await rang.wait()
        finally:
            alarm.off()

    def at(self, when: float, fn: Callable[[], object]) -> None:
        """
        Call *fn* at a virtual time, between tasks: ``world.at(0.3, task.cancel)``.

        Whatever is due at one time happens in the order in which it was asked for, before any task runs again.  *fn* is not to raise: it
        would end trio's run, and go to the loop's exception handler on asyncio, where anyio's pytest plug-in has it fail the test.

        Raises:
            RuntimeError: This world belongs to another event loop, or none is running.
        """
        self._set(when, fn)

    def takes(self, seconds: float, outcome: object = None) -> Step:
        """
        A step for `script` that takes so many virtual seconds before its outcome: ``world.takes(3, "ok")``.

        Args:
            seconds: `math.inf` for a step that hangs.
            outcome: As `script` takes them.
        """

        async def take(*args: Any, **kwargs: Any) -> Any:
            await self.sleep(seconds)
            return await _play(outcome, args, kwargs)

        return Step(take)

    # What the engine gets

    def _draw(self) -> float:
        self._thrown += 1
        for sample in self._dice:
            return _sample(sample)
        raise AssertionError(f"the dice were thrown {self._thrown} times, which is once more than World(draw=...) has samples")

    def _unique(self, nbytes: int) -> str:
        self._named += 1
        return f"{self._named % 256**nbytes:0{2 * nbytes}x}"

    async def _sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await self.sleep(seconds)

    def _cutoff(self, seconds: float, *, shield: bool = False) -> backend.Cutoff:
        return _Cutoff(self._after, seconds, shield=shield)

    # How time moves

    def _after(self, seconds: float, ring: Callable[[], object]) -> _Alarm:
        return self._set(self._now + seconds, ring)

    def _set(self, when: float, ring: Callable[[], object]) -> _Alarm:
        here = backend.current_loop()
        if self._home is None:
            self._home = here
        elif self._home is not here:
            raise RuntimeError(
                "this World was first waited in by another event loop, and its time moves only there: make a World for each loop"
            )
        alarm = _Alarm(when, next(self._serial), ring)
        if when < math.inf:
            heapq.heappush(self._alarms, alarm)
            self._watch()
        return alarm

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            backend.when_all_wait(self._move, patience=self._patience)

    def _move(self) -> None:
        self._watching = False
        alarms = self._alarms
        while alarms and alarms[0].ring is None:
            heapq.heappop(alarms)
        if not alarms:
            return
        self._now = max(self._now, alarms[0].when)
        try:
            while alarms and alarms[0].when <= self._now:
                ring = heapq.heappop(alarms).ring
                if ring is not None:
                    ring()
        finally:
            if alarms:
                self._watch()


def _sample(sample: float) -> float:
    if not 0.0 <= sample < 1.0:
        raise ValueError(f"the dice show samples in [0, 1), not {sample!r}")
    return sample


class _Cutoff:
    """`backend.cutoff` in virtual time: a real scope, cancelled when the time comes."""

    __slots__ = ("_after", "_alarm", "_scope", "_seconds")

    def __init__(self, after: Callable[[float, Callable[[], object]], _Alarm], seconds: float, *, shield: bool) -> None:
        self._after = after
        self._seconds = seconds
        self._scope = anyio.CancelScope(shield=shield)
        self._alarm: _Alarm | None = None

    @property
    def cancel_called(self) -> bool:
        return self._scope.cancel_called

    @property
    def cancelled_caught(self) -> bool:
        return self._scope.cancelled_caught

    def __enter__(self) -> Self:
        if self._alarm is not None:
            raise RuntimeError("a cutoff is good for one `with` block; ask for a new one")
        if math.isnan(self._seconds):
            raise ValueError("a cutoff of nan seconds")
        self._alarm = self._after(self._seconds, self._scope.cancel)
        self._scope.__enter__()
        if self._seconds <= 0.0:
            self._scope.cancel()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> bool:
        assert self._alarm is not None  # noqa: S101 - `with` enters first
        self._alarm.off()
        return self._scope.__exit__(kind, error, traceback)


@attrs.frozen
class Step:
    """
    An outcome for `script` that is worked out when its turn comes.

    Args:
        run: Awaited with the arguments of the call; what it returns or raises is the outcome.
    """

    run: Callable[..., Awaitable[Any]]


class Script:
    """An operation that plays its outcomes in turn; see `script`."""

    calls: int
    """How often it was called."""
    arguments: list[tuple[tuple[Any, ...], dict[str, Any]]]
    """What it was called with, in order: positional and keyword arguments."""

    def __init__(self, *outcomes: object) -> None:
        self.__name__ = self.__qualname__ = "script"
        self.calls = 0
        self.arguments = []
        self._left = deque(outcomes)
        self._length = len(outcomes)

    def __repr__(self) -> str:
        return f"<script: {self.calls} calls, {self._length} outcomes>"

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Play the next outcome."""
        self.calls += 1
        self.arguments.append((args, kwargs))
        if not self._left:
            raise AssertionError(f"call {self.calls} of a script that has only {self._length} outcomes")
        return await _play(self._left.popleft(), args, kwargs)


async def _play(outcome: object, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    try:
        if isinstance(outcome, Step):
            return await outcome.run(*args, **kwargs)
        if _is_error(outcome):
            raise outcome
        return outcome
    finally:
        del outcome  # an error that kept the frame that raised it would be a cycle of the test's own making


def _is_error(outcome: object) -> TypeGuard[BaseException | type[BaseException]]:
    return isinstance(outcome, BaseException) or (isinstance(outcome, type) and issubclass(outcome, BaseException))


def script(*outcomes: object) -> Script:
    """
    An operation that ends differently each time: ``script(ConnectionError(), "ok")`` fails, then returns ``"ok"``.

    An exception, instance or class, is raised, as the same object if it is one; a `Step` is run; anything else, a function included, is
    returned as it is.  Any arguments will do.  A call too many raises `AssertionError`, and ``script()`` must not be called at all.
    """
    return Script(*outcomes)
