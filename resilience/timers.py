"""
Cutoffs that share one timer of the event loop, on asyncio.

A cancel scope with a deadline arms a timer of the loop each time it is entered, and takes it back when it is left.  That costs more than
all the rest of a call, and is nearly always for nothing: most calls end long before any timeout.  So a cutoff here is only an entry in a
table of things to come, and no scope at all, until its time is up.

Theory of operation
===================

*The wheel.*  Time is divided into ticks of 10 ms.  An entry is filed under the tick in which it is due, rounded up: never early, at most
10 ms or a hundredth of its length late.  Each event loop has one wheel, and a wheel has one timer, set for the earliest tick under which
anything is filed, and not set at all while nothing is.  Filing and taking out are one step each in a dict.

*Becoming a scope.*  When an entry is due, a real scope of anyio's is put where it would have been all the time: into the chain of scopes
of its task, above all that were entered after it, and below all that were entered before.  Then that scope is cancelled, and all else is
anyio's: what waits inside is cancelled again in each round of the loop until it leaves (level, not edge), an operation that has just
finished keeps its result, a shielded scope further in is left in peace, the tasks of groups further in are reached, a cancellation from
further out or a native one passes through, and on the way out just those cancels are taken back that were delivered.  So nothing about
cancellation is decided here.

*Its place.*  The chain of a task runs from the scope it is in outward, by ``_parent_scope``.  An entry remembers the scope that its task
was in.  The scopes between there and the innermost one were entered after it; but for those that other entries have become, which remember
when they were filed.  Where the remembered scope is not of the task itself (that of a task group, say), it may have been exchanged since
(`TaskGroup.start` does that), so the task's own scopes end where the first scope of another task begins.

What it touches of anyio's own is named in `_NEEDED` and looked for when this is loaded; where any of it is missing there are no shared
cutoffs (`usable`), and `resilience.backend` uses real scopes, as it does on trio.  A block here must not span a ``yield``: blocks of a task
are left in the order opposite to that in which they were entered.

Read in anyio 4.16: ``_backends/_asyncio.py``, ``CancelScope.__enter__``, ``__exit__``, ``_deliver_cancellation``, ``_reparent``.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import time
from heapq import heappop, heappush
from types import TracebackType
from typing import Any, Final, Self, cast
from weakref import WeakKeyDictionary, ref

from anyio._backends import _asyncio as backend

from resilience.present import present_task

__all__ = ["SharedCutoff", "in_any_scope", "usable"]

_TICK: Final = 0.01  # seconds
_PER_SECOND: Final = 100.0
_now = time.monotonic

_NEEDED: Final = frozenset(
    {
        "_active",
        "_cancelling_at_enter",
        "_child_scopes",
        "_host_task",
        "_parent_scope",
        "_pending_uncancellations",
        "_tasks",
    }
)

_Scope: Any = getattr(backend, "CancelScope", None)
_states: Any = getattr(backend, "_task_states", None)
_State: Any = getattr(backend, "TaskState", None)


def _checked() -> bool:
    """Whether anyio keeps its scopes as this module has read it to."""
    if not isinstance(_states, WeakKeyDictionary) or getattr(_State, "__slots__", None) != ("__weakref__", "cancel_scope", "parent_id"):
        return False
    return _NEEDED <= set(getattr(_Scope, "__slots__", ())) and hasattr(asyncio.tasks, "_current_tasks")


usable: Final = _checked()
"""Whether there can be shared cutoffs with the anyio that is installed."""


def in_any_scope(task: asyncio.Task[Any]) -> bool:
    """Whether *task* is in any cancel scope; asking it for its deadline is dearer."""
    state = _by_task.get(ref(task))
    return state is not None and state.cancel_scope is not None


class _Slot:
    """
    All that is filed under one tick, as a ring that begins and ends here.

    Attributes:
        after: The first entry; the slot itself while there is none.
        before: The last one, likewise.
    """

    __slots__ = ("after", "before")

    def __init__(self) -> None:
        self.after: Any = self
        self.before: Any = self

    def emptied(self) -> list[SharedCutoff]:
        """What was filed here, the oldest first, and no longer is."""
        entries: list[SharedCutoff] = []
        link = self.after
        self.after = self.before = None  # or they would hold each other for ever
        while link is not self:
            entries.append(link)
            link, entries[-1].before, entries[-1].after = link.after, None, None
        return entries


class _Wheel:
    """
    What is to come in one event loop.

    Attributes:
        loop: The loop.
        latest: The slot that something was filed under last, which is right for all ...
        low: ... that is due later than this, in seconds of the clock, ...
        high: ... and not later than this, ...
        least: ... and at least so many seconds long.
    """

    __slots__ = ("__weakref__", "_due", "_handle", "_heap", "_slots", "high", "latest", "least", "loop", "low")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._slots: dict[int, _Slot] = {}
        self._heap: list[int] = []  # the ticks that have a slot, the next first
        self._handle: asyncio.TimerHandle | None = None
        self._due = math.inf  # the tick that the timer is set for
        self._forget()

    def _forget(self) -> None:
        self.latest: Any = None
        self.low, self.high, self.least = math.inf, -math.inf, math.inf

    def slot(self, due: float, seconds: float) -> _Slot:
        """Where to file what is *seconds* long, and *due* at a time of the clock."""
        tick, coarse, self.least = int(due * _PER_SECOND) + 1, 1, 0.0
        if seconds >= 2.0:  # noqa: PLR2004 - from here on a hundredth of it is two ticks, or four, or eight ...
            coarse = 1 << (int(seconds).bit_length() - 1)
            tick = -(-tick // coarse) * coarse
            self.least = float(coarse)
        slot = self._slots.get(tick)
        if slot is None:
            self._slots[tick] = slot = _Slot()
            heappush(self._heap, tick)
            if tick < self._due:
                self._set(tick)
        self.latest, self.low, self.high = slot, (tick - coarse) * _TICK, tick * _TICK
        return slot

    def _set(self, tick: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._due = tick
        self._handle = self.loop.call_later(max(0.0, tick * _TICK - _now()), self._turn)

    def _turn(self) -> None:
        """Let all be due whose tick has come, and set the timer for what is next."""
        self._handle, self._due = None, math.inf
        self._forget()
        now = _now()
        heap, slots = self._heap, self._slots
        while heap and (heap[0] * _TICK <= now or slots[heap[0]].after is slots[heap[0]]):
            for entry in slots.pop(heappop(heap)).emptied():
                entry.become()
        if heap:
            self._set(heap[0])


_wheels: dict[asyncio.AbstractEventLoop, _Wheel] = {}  # of loops that are not closed, and the last few that are
_recent: _Wheel | None = None
_by_task: dict[Any, Any] = _states.data if usable else {}  # a lookup in the weak dictionary itself would cost twice as much
_serial = itertools.count()
_filed: dict[Any, int] = {}  # the scopes that entries have become and that are still open, with the entry's serial number


def _wheel_of(loop: asyncio.AbstractEventLoop) -> _Wheel:
    global _recent  # noqa: PLW0603 - whoever reads it looks whose it is
    wheel = _wheels.get(loop)
    if wheel is None:
        for other in [other for other in _wheels.copy() if other.is_closed()]:
            _wheels.pop(other, None)
        _wheels[loop] = wheel = _Wheel(loop)
    _recent = wheel
    return wheel


class SharedCutoff:
    """A cutoff as `resilience.backend.Cutoff` describes it."""

    __slots__ = ("_cancelling", "_outer", "_scope", "_seconds", "_serial", "_task", "after", "before")

    _seconds: float  # below 0 once it was entered
    _task: Any  # until it is left
    _scope: Any  # the real one, once it is due
    before: Any  # its neighbours in the slot, while it is filed
    after: Any

    @staticmethod
    def here(seconds: float) -> SharedCutoff | None:
        """
        A cutoff of the task that runs, to be entered at once; None where none of asyncio's runs.

        There is no `__init__`: up to CPython 3.12 one is called from outside the interpreter's loop, for the price of a coroutine.

        Args:
            seconds: From entry; finite, > 0.
        """
        task = present_task()
        if task is None:
            return None
        cutoff = SharedCutoff()
        cutoff._seconds = seconds
        cutoff._task = task
        cutoff._scope = None
        return cutoff

    @property
    def cancel_called(self) -> bool:
        """Whether its time ran out while it was open."""
        return self._scope is not None

    @property
    def cancelled_caught(self) -> bool:
        """Whether its cancellation arrived at its end, and ended there."""
        return self._scope is not None and cast("bool", self._scope.cancelled_caught)

    def __enter__(self) -> Self:
        task, seconds = self._task, self._seconds
        if seconds < 0.0:
            raise RuntimeError("a cutoff is good for one `with` block; ask for a new one")
        loop = task.get_loop()
        wheel = _recent  # most programs have but one loop
        if wheel is None or wheel.loop is not loop:
            wheel = _wheel_of(loop)
        due = _now() + seconds
        slot = wheel.latest if wheel.low < due <= wheel.high and seconds >= wheel.least else wheel.slot(due, seconds)
        self._seconds = -1.0
        last = slot.before
        self.before, self.after = last, slot
        last.after = slot.before = self
        state = _by_task.get(ref(task))
        self._outer = None if state is None else state.cancel_scope
        self._cancelling = task.cancelling()
        self._serial = next(_serial)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> bool:
        scope = self._scope
        if scope is None:
            before, after = self.before, self.after
            before.after, after.before = after, before
            self.before = self.after = self._task = None  # a cancelled task holds its error, and that the frame that holds this
            return False
        _filed.pop(scope, None)
        self._task = None
        return cast("bool", scope.__exit__(kind, error, traceback))

    def become(self) -> None:
        """Put a real scope in this one's place, and cancel it.  Called by the loop, between the steps of its tasks."""
        # ruff: noqa: SLF001 - see `_NEEDED`
        task = self._task
        self._scope = scope = _Scope()
        _filed[scope] = self._serial
        state = _states.get(task)
        if state is None:
            _states[task] = state = _State(None, None)
        inner, outer = None, state.cancel_scope
        while outer is not None and outer is not self._outer and outer._host_task is task and _filed.get(outer, math.inf) > self._serial:
            inner, outer = outer, outer._parent_scope
        scope._host_task = task
        scope._active = True
        scope._cancelling_at_enter = self._cancelling
        scope._parent_scope = outer
        if outer is not None:
            outer._child_scopes.add(scope)
        if inner is None:
            state.cancel_scope = scope
            scope._tasks.add(task)
            if outer is not None:
                outer._tasks.discard(task)
        else:
            inner._parent_scope = scope
            scope._child_scopes.add(inner)
            if outer is not None:
                outer._child_scopes.discard(inner)
        scope.cancel("deadline exceeded")
