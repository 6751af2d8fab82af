"""
What asyncio and trio do differently, behind one face; the only module that may know either.

anyio covers nearly everything.  Left for here are a cutoff whose clock starts when it is entered, tasks that outlive their creator, waking
a waiter from another thread, native cancellation, which anyio cannot see, and the moment when every task of a loop waits.  asyncio and
trio are imported only once they are in use.
"""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

import anyio

from resilience.present import cancel_count, present_task

if TYPE_CHECKING:
    import asyncio

    import trio

__all__ = [
    "Cutoff",
    "Waiter",
    "cancel_count",
    "cancellation_pending",
    "current_loop",
    "cutoff",
    "detach",
    "lateness",
    "waiter",
    "was_cut",
    "when_all_wait",
]


_NEVER = math.inf


# Cutoffs


class Cutoff(Protocol):
    """
    A context manager that cancels what runs inside it once its time is up.

    It behaves as an `anyio.CancelScope` does: what waits inside is cancelled again and again until it leaves (level, not edge), a shielded
    scope further in is left in peace, and a cancellation from further out or a native one passes through.
    """

    @property
    def cancel_called(self) -> bool:
        """Whether the time ran out while it was open; stays as it is once it is closed."""
        ...

    @property
    def cancelled_caught(self) -> bool:
        """Whether its own cancellation arrived at its end and was ended there: the block was cut, and has no value."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> bool: ...


def cutoff(seconds: float, *, shield: bool = False) -> Cutoff:
    """
    A scope that cancels what runs inside it after so many seconds.

    Its clock starts when it is entered, not when it is built.  On asyncio those that are not shielded share one timer of the loop, and may
    come late, by `lateness` at most, never early (`resilience.timers`); elsewhere each is a scope of anyio's.

    Args:
        seconds: Counted from entry; `math.inf` for never, and 0 or less for the first wait inside.
        shield: Keep cancellation by outer scopes out for as long.  A native cancel (``task.cancel()``) gets in all the same.

    Raises:
        RuntimeError: Entered a second time.
        ValueError: Entered, and *seconds* is not a number.
    """
    if 0.0 < seconds < _NEVER and not shield:
        made = _shared_cutoff(seconds)
        if made is not None:
            return made
    return _Cutoff(seconds, shield=shield)


def sleep(seconds: float) -> Awaitable[None]:
    """Wait so many seconds.  anyio finds out what runs, and where its sleep is, at each question; on asyncio it is asked once."""
    return anyio.sleep(seconds) if present_task() is None else _asyncio_sleep(seconds)


def _first_asyncio_sleep(seconds: float) -> Awaitable[None]:
    global _asyncio_sleep  # noqa: PLW0603 - a late import
    import asyncio  # noqa: PLC0415 - only where it is in use

    _asyncio_sleep = asyncio.sleep
    return _asyncio_sleep(seconds)


_asyncio_sleep: Callable[[float], Awaitable[None]] = _first_asyncio_sleep


def lateness(seconds: float) -> float:
    """The most by which a cutoff of so many seconds comes late: a client's own timeout that is to come after it must be longer by that."""
    return max(0.01, seconds / 100)


def _first_shared_cutoff(seconds: float) -> Cutoff | None:
    global _shared_cutoff  # noqa: PLW0603 - a late import
    if present_task() is None:
        return None
    from resilience import timers  # noqa: PLC0415 - it loads asyncio

    _shared_cutoff = timers.SharedCutoff.here if timers.usable else _no_shared_cutoff
    return _shared_cutoff(seconds)


def _no_shared_cutoff(seconds: float) -> None:
    """What there is with an anyio that `resilience.timers` does not know."""


_shared_cutoff: Callable[[float], Cutoff | None] = _first_shared_cutoff


def _first_in_any_scope(task: asyncio.Task[Any]) -> bool:
    global _in_any_scope  # noqa: PLW0603 - a late import
    from resilience import timers  # noqa: PLC0415 - it loads asyncio

    _in_any_scope = timers.in_any_scope if timers.usable else _perhaps
    return _in_any_scope(task)


def _perhaps(task: asyncio.Task[Any]) -> bool:  # noqa: ARG001 - as `timers.in_any_scope` is called
    """What is known of scopes with an anyio that `resilience.timers` does not know."""
    return True


_in_any_scope: Callable[[asyncio.Task[Any]], bool] = _first_in_any_scope


class _Cutoff:
    """A real anyio scope, made at entry: one made earlier would count the time since then (agronholm/anyio #514)."""

    __slots__ = ("_scope", "_seconds", "_shield")

    def __init__(self, seconds: float, *, shield: bool) -> None:
        self._seconds = seconds
        self._shield = shield
        self._scope: anyio.CancelScope | None = None

    @property
    def cancel_called(self) -> bool:
        return self._scope is not None and self._scope.cancel_called

    @property
    def cancelled_caught(self) -> bool:
        return self._scope is not None and self._scope.cancelled_caught

    def __enter__(self) -> Self:
        if self._scope is not None:
            raise RuntimeError("a cutoff is good for one `with` block; ask for a new one")
        self._scope = scope = _scope_for(self._seconds, self._shield)
        scope.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /) -> bool:
        assert self._scope is not None  # noqa: S101 - `with` enters first
        return self._scope.__exit__(kind, error, traceback)


def _scope_for(seconds: float, shield: bool) -> anyio.CancelScope:
    """
    A scope whose time is up so many seconds from now.

    anyio finds out what runs at each question, which takes twice as long as all that the scope itself does.  On asyncio it is asked once:
    `anyio.CancelScope` makes a scope of the running library's own class, and a class makes more of its kind.
    """
    global _asyncio_scope  # noqa: PLW0603 - a late import
    task = present_task()
    if task is None:
        return anyio.CancelScope(deadline=anyio.current_time() + seconds, shield=shield)
    if _asyncio_scope is None:
        _asyncio_scope = type(anyio.CancelScope())
    return _asyncio_scope(deadline=task.get_loop().time() + seconds, shield=shield)


_asyncio_scope: type[anyio.CancelScope] | None = None


def was_cut(scope: Cutoff, since: int) -> bool:
    """
    Whether an error that left *scope* counts as its timeout; to be asked right after the block.

    True if the scope's own time ran out and no other cancellation is on its way out.  The operation may have turned our cancellation into
    an error of its own, alone or in a group: it becomes the timeout's cause.  False if an outer scope or a native cancel has struck too,
    even in the same tick: then the error is no timeout of ours, and the caller's cancellation follows at the next wait.

    An operation that swallowed the cancellation and returned has a value, which stands; one that was cut and left no error shows in
    `Cutoff.cancelled_caught` alone.  Neither needs this question.  An error that the operation raised by itself in the very tick in which
    its time ran out cannot be told from one that the cut provoked, and counts as cut.

    Args:
        scope: The cutoff, already closed.
        since: What `cancel_count` said before it was entered, when the call began or later.
    """
    return scope.cancel_called and not cancellation_pending(since)


# Cancellation under way


def cancellation_pending(since: int) -> bool:
    """
    Whether the current task is being cancelled, natively or by a scope around it.

    It still is when the operation has turned its cancellation into an ordinary error, or swallowed it: the next wait will be cancelled too
    (scopes), or whoever called ``task.cancel()`` counts on it (native).

    Args:
        since: What `cancel_count` said when the call began.  A task that swallowed a cancellation before that may go on.
    """
    task = present_task()
    if task is not None and (task.cancelling() > since or not _in_any_scope(task)):
        return task.cancelling() > since
    return anyio.current_effective_deadline() == -math.inf


# Loops


def current_loop() -> object:
    """
    What stands for the running loop: the same object for as long as it runs, and another for any other loop.

    Raises:
        RuntimeError: No loop is running in this thread.
    """
    return _trio_token() or _asyncio_loop()


def _trio_token() -> trio.lowlevel.TrioToken | None:
    if "trio" not in sys.modules:
        return None
    import trio  # noqa: PLC0415 - only where it is in use

    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


def _asyncio_loop() -> asyncio.AbstractEventLoop:
    import asyncio  # noqa: PLC0415 - only where it is in use

    return asyncio.get_running_loop()


# Tasks that outlive their creator

_detached: set[asyncio.Task[None]] = set()  # the loop itself holds its tasks weakly


def detach(fn: Callable[[], Awaitable[None]]) -> None:
    """
    Run an async function to its end, whatever becomes of the caller.

    It runs in a copy of the caller's context, but in none of its cancel scopes.  Only the end of the loop cuts it short.  *fn* is to deal
    with its own errors: one that escapes is dropped, for there is nobody to hand it to.

    Raises:
        RuntimeError: No loop is running in this thread.
    """
    if _trio_token() is not None:
        import contextvars  # noqa: PLC0415 - used here only

        import trio  # noqa: PLC0415 - only where it is in use

        trio.lowlevel.spawn_system_task(_alone, fn, name=f"detached {fn!r}", context=contextvars.copy_context())
        return
    task = _asyncio_loop().create_task(_alone(fn), name=f"detached {fn!r}")
    for other in [other for other in _detached.copy() if other.get_loop().is_closed()]:
        _detached.discard(other)  # its loop was closed with the task still in it: it will never be done
    _detached.add(task)
    task.add_done_callback(_detached.discard)


async def _alone(fn: Callable[[], Awaitable[None]]) -> None:
    """Let nothing out but what ends the loop: an escaped error would crash trio's run, and be logged by asyncio."""
    try:
        await fn()
    except Exception:  # noqa: BLE001, S110 - as `detach` says
        pass
    except BaseExceptionGroup as group:
        _, rest = group.split(Exception)
        if rest is not None:
            raise rest from None


# Waking


class Waiter(Protocol):
    """Something to wait for, in the loop it was made in, that any thread may wake; good for once."""

    async def wait(self) -> None:
        """Return once `wake` was called, at once if it was already."""

    def wake(self) -> None:
        """End the wait.  From any thread or loop, any number of times, even when the waiter's own loop is gone."""


def waiter() -> Waiter:
    """
    A `Waiter` of the running loop.

    Raises:
        RuntimeError: No loop is running in this thread.
    """
    return _Waiter()


class _Waiter:
    __slots__ = ("_call_soon", "_event")

    def __init__(self) -> None:
        token = _trio_token()
        self._call_soon: Callable[[Callable[[], None]], object] = (
            token.run_sync_soon if token is not None else _asyncio_loop().call_soon_threadsafe
        )
        self._event = anyio.Event()

    async def wait(self) -> None:
        await self._event.wait()

    def wake(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._call_soon(self._event.set)


# The moment when every task waits


def when_all_wait(fn: Callable[[], None], *, patience: float = 0.0) -> None:
    """
    Call *fn* once, as soon as every task of the running loop waits for something.

    *fn* runs in the loop's thread, outside any user's task.  What it raises goes to asyncio's exception handler, or ends trio's run.
    Nothing is left behind if the loop ends first.  Tasks that wait for a thread, another process or a timer of the loop's own wait like
    any other.

    `anyio.wait_all_tasks_blocked` does this for a task, but on asyncio it looks only every 0.1 real seconds.

    Args:
        fn: Takes nothing, returns nothing.
        patience: Real seconds for which all must have waited.

    Raises:
        RuntimeError: No loop is running in this thread.
    """
    if _trio_token() is None:
        _Lull(_asyncio_loop(), fn, patience).look()
        return
    import trio  # noqa: PLC0415 - only where it is in use

    async def watch() -> None:
        import trio.testing  # noqa: PLC0415 - used here only

        await trio.testing.wait_all_tasks_blocked(patience)
        fn()

    trio.lowlevel.spawn_system_task(watch, name="when_all_wait")


class _Lull:
    """
    Watches an asyncio loop for the moment when all its tasks wait.

    A loop cannot be asked whether it has callbacks left to run, uvloop's least of all.  But tasks can be asked for the future they wait
    for.  If all have one that is not done, and the same ones some rounds of the loop later, then nothing happened in between, and data on
    its way through a socket of this process has had time to arrive.  It takes no task, only callbacks, so that a loop may end at any time.
    """

    __slots__ = ("_fn", "_loop", "_patience", "_rounds", "_seen")

    ROUNDS = 5  # a gather inside a gather takes two from the last result to the waiting task; a transport's first connection, three

    def __init__(self, loop: asyncio.AbstractEventLoop, fn: Callable[[], None], patience: float) -> None:
        self._loop = loop
        self._fn = fn
        self._patience = patience
        self._rounds = 0
        self._seen: dict[asyncio.Task[Any], object] | None = None

    def look(self) -> None:
        """Look now, then again in later rounds of the loop, until nothing changes."""
        waiting = self._waiting()
        if waiting is not None and waiting == self._seen:
            self._fn()
            return
        self._seen = waiting
        if waiting is None:
            self._loop.call_soon(self.look)
            return
        self._rounds = self.ROUNDS
        if self._patience > 0:
            self._loop.call_later(self._patience, self._pass)
        else:
            self._pass()

    def _pass(self) -> None:
        self._rounds -= 1
        self._loop.call_soon(self._pass if self._rounds > 0 else self.look)

    def _waiting(self) -> dict[asyncio.Task[Any], object] | None:
        """Each task and what it waits for, or None if one of them can run."""
        import asyncio  # noqa: PLC0415 - only where it is in use

        waiting: dict[asyncio.Task[Any], object] = {}
        for task in asyncio.all_tasks(self._loop):
            future = cast("asyncio.Future[Any] | None", task._fut_waiter)  # type: ignore[attr-defined]  # noqa: SLF001 - anyio looks there too
            if future is None or future.done():
                return None
            waiting[task] = future
        return waiting
