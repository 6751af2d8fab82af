"""
What a stream is between its items: where they come from, how far it got, and who waits for its end.

A source is whatever yields items: an async generator, an SDK's stream, what an async context manager gives.  Nothing but these objects
lives from one item to the next: no context variable, no scope, no timer.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Awaitable, Callable
from typing import Any, cast

import attrs

from resilience.env import Env
from resilience.outcome import END, Failure
from resilience.settings import Value

__all__ = ["AtEnd", "Flow", "Progress", "Source"]

AtEnd = Callable[[bool | None, Failure | None], None]
"""Told how a stream ended: whether that speaks for the peer, against it or neither, and the failure if it broke."""

_CLOSE_SECONDS = 1.0


@attrs.frozen(eq=False, repr=False)
class Progress(Value):
    """
    How far a stream had got when it broke; what a ``resume`` function is given.

    Args:
        items: How many items were delivered; >= 1.
        last: The last of them.
        last_event_id: The id of the last server-sent event that had one.
        delivered: All of them, where ``keep_items=True`` was asked for; else None, for nothing is kept unasked.
    """

    items: int
    last: object = attrs.field(repr=False)
    last_event_id: str | None = None
    delivered: tuple[object, ...] | None = attrs.field(default=None, repr=False)


class Source:
    """What one attempt opened: read item by item, closed once."""

    __slots__ = ("_held", "_items", "_manager")

    def __init__(self) -> None:
        self._held: Any = None
        self._items: Any = None
        self._manager: Any = None

    @property
    def is_open(self) -> bool:
        """Whether there is anything to close."""
        return self._held is not None or self._manager is not None

    @property
    def closes_itself(self) -> bool:
        """Whether whoever drops it need not close it: an async generator is closed by the event loop's own hook."""
        return self._manager is None and (self._held is None or inspect.isasyncgen(self._held))

    async def open(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], operation: str) -> Any:
        """
        Open it, and read the first item.

        Raises:
            TypeError: What *fn* gives has no items.
            RuntimeError: *fn* raised `StopAsyncIteration`, which would pass for the end of a stream that never began.
        """
        try:
            held = await _awaited(fn(*args, **kwargs))
            # What is to be iterated over and can be closed, as the streams of SDKs, need not be entered as well.
            if hasattr(held, "__aenter__") and not (hasattr(held, "__aiter__") and _closer(held)):
                manager, held = held, await held.__aenter__()
                self._manager = manager
            self._held = held
            if not hasattr(held, "__aiter__"):
                raise TypeError(
                    f"{operation}: returned {type(held).__name__}, which has no items to await; "
                    "give engine.stream an async generator function, or a function that returns an async iterable"
                )
            self._items = held.__aiter__()
        except StopAsyncIteration as error:
            msg = f"{operation}: raised StopAsyncIteration before there were any items"
            raise RuntimeError(msg) from error
        return await self.next()

    def ask(self) -> Awaitable[Any]:
        """Ask for the next item, as iterators are asked: `StopAsyncIteration` where there are no more."""
        asked: Awaitable[Any] = self._items.__anext__()
        return asked

    async def next(self) -> Any:
        """The next item, or `END`."""
        try:
            return await self._items.__anext__()
        except StopAsyncIteration:
            return END

    async def close(self, env: Env, error: BaseException | None = None) -> None:
        """
        Let go of everything, in at most a second, whoever cancels; what goes wrong at that is nobody's business.

        Args:
            env: For the time.
            error: What ended it before its time; a context manager is told, and may roll back instead of committing.
        """
        manager, held, items = self._manager, self._held, self._items
        self._manager = self._held = self._items = None
        if manager is None and (held is None or _finished(held)):
            return
        try:
            with contextlib.suppress(Exception), env.cutoff(_CLOSE_SECONDS, shield=True):
                try:
                    # What a manager gives is its own to close, but for a generator, which would be left half-read.
                    if items is not held or (manager is not None and inspect.isasyncgen(items)):
                        await _closed(items)
                finally:
                    # Even if the items raise, hang or are cancelled natively: this is what holds the connection.
                    if manager is None:
                        await _closed(held)
                    else:
                        await manager.__aexit__(
                            None if error is None else type(error), error, None if error is None else error.__traceback__
                        )
        finally:
            del error  # a manager that raises it leaves this frame on its traceback


async def _awaited(brought: Any) -> Any:
    """What a function gave, or what that leads to."""
    if not hasattr(brought, "__aiter__") and isinstance(brought, Awaitable):
        return await cast("Awaitable[object]", brought)
    return brought


def _finished(held: Any) -> bool:
    """Whether it is an async generator that has come to its end, as most have when they are closed: a shield for that is wasted."""
    return inspect.isasyncgen(held) and held.ag_frame is None


def _closer(held: Any) -> Any:
    return getattr(held, "aclose", None) or getattr(held, "close", None)


async def _closed(held: Any) -> None:
    close = _closer(held)
    if callable(close):
        closing = close()
        if isinstance(closing, Awaitable):
            await closing


class Flow:
    """
    One streaming call's account of itself.

    Attributes:
        source: What the present attempt reads from.
        count: How many items the caller was given.
        first_item: Seconds an attempt may take to its first item.
        idle: Seconds that any later item may take.
        broken: The failure after which the stream is to go on; whoever repeats takes it from here.
        at_end: Who is to be told how the stream ended.
        beats: Who is to be told, with the time, that another item came.
    """

    __slots__ = ("_event_id", "_kept", "_last", "_resume", "at_end", "beats", "broken", "count", "first_item", "idle", "source")

    def __init__(self, resume: Callable[[Progress], Any] | str | None, *, keep: bool) -> None:
        self._resume = resume
        self._kept: list[object] | None = [] if keep else None
        self._last: object = None
        self._event_id: str | None = None
        self.source = Source()
        self.count = 0
        self.first_item = self.idle = math.inf
        self.broken: Failure | None = None
        self.at_end: list[AtEnd] = []
        self.beats: list[Callable[[float], None]] = []

    @property
    def resumes(self) -> bool:
        """Whether a stream that breaks after its first item is to go on."""
        return self._resume is not None

    def opener(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], operation: str) -> Callable[[], Awaitable[Any]]:
        """What opens the source of the next attempt, and reads its first item."""
        self.source = Source()
        if self.count and callable(self._resume):
            delivered = None if self._kept is None else tuple(self._kept)
            fn, args, kwargs = self._resume, (Progress(self.count, self._last, self._event_id, delivered),), {}
            operation += ", resumed"
        return functools.partial(self.source.open, fn, args, kwargs, operation)

    def limit(self, first_item: float | None, idle: float | None) -> None:
        """Let an attempt take no longer to its first item, or to any later one; of two limits the shorter holds."""
        if first_item is not None:
            self.first_item = min(self.first_item, first_item)
        if idle is not None:
            self.idle = min(self.idle, idle)

    def delivered(self, item: object, event_id: Callable[[object], str | None]) -> None:
        """Note that the caller is given *item*."""
        self.count += 1
        if callable(self._resume):
            self._last = item
            self._event_id = event_id(item) or self._event_id
            if self._kept is not None:
                self._kept.append(item)

    def settle(self, healthy: bool | None, failure: Failure | None = None) -> None:
        """
        Tell everybody who waits how it ended, the innermost first, each once.

        Raises:
            Exception: What one of them raised; the others have been told.
        """
        waiting, self.at_end = self.at_end, []
        if not waiting:
            return
        self.beats = []
        with contextlib.ExitStack() as all_of_them:
            for tell in reversed(waiting):
                all_of_them.callback(tell, healthy, failure)

    def end(self, healthy: bool | None) -> None:
        """Tell everybody, and let go of what was kept of the items: the stream is over."""
        self._resume = self._last = self._event_id = self._kept = self.broken = None
        self.settle(healthy)
