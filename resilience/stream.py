"""
Streams: calls whose result comes in items, repeated until there is a first one, and honest after that.

    async for ──▶ Stream ──first item──▶ policies ──▶ opening ──▶ your generator
                    └──────later items────────────▶ advance ──▶   the same one

A call of this kind is over when its stream is: at its last item, in an error, or when it is closed.  Only then do guards learn how it went.
Between two items nothing is held that belongs to a task: the context variable, the limits of time and the scope by which another task may
close a stream are set up and taken down within each ``__anext__``, in the task of whoever asks for the item.  So a stream may be handed
from task to task, closed by any of them, or dropped.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

import anyio
import attrs

from resilience import attempt
from resilience.call import Call, Plan, begin, gave_up, get_running, out_of_time, running, set_running
from resilience.ending import failed, over, settle_in, succeeded
from resilience.flow import END, Flow
from resilience.outcome import Action, Failure
from resilience.policy import Handler
from resilience.reading.sse import event_id

__all__ = ["Stream", "Streaming"]

T = TypeVar("T")


@attrs.frozen(eq=False)
class Streaming:
    """
    What an engine, or a view of one, fixes for each of its streams.

    Args:
        plan: As for any call.
        handler: Its policies, bound for streams.
    """

    plan: Plan
    handler: Handler[Any]

    def begin(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
        """A call with an account of a stream, in whatever runs around it."""
        plan = self.plan
        call: Call[Any] = begin(plan, fn, args, kwargs, plan.env.now())
        call.flow = Flow(plan.resume, keep=plan.keep_items)
        call.bounded = True  # its attempts have a way of their own
        settle_in(call, running())
        return call


class Stream(Generic[T]):
    """
    The items of one call, to be had one by one: ``async for item in engine.stream(fn)``.

    Nothing happens before the first item is asked for.  Until it has come, failures are repeated as those of any call.  A failure after
    that is raised where the items end, the same object, with the number of items that were delivered in `history`; unless a view says how
    to go on (``engine.using(resume=...)``).

    Used as ``async with engine.stream(fn) as items`` it is closed at the end of the block.  `aclose` closes it too, in any task and at any
    time.
    """

    __slots__ = ("__weakref__", "_args", "_call", "_closing", "_fn", "_kwargs", "_left", "_over", "_reading", "_streaming")

    def __init__(self, streaming: Streaming, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._streaming = streaming
        self._fn: Callable[..., Any] | None = fn
        self._args = args
        self._kwargs = kwargs
        self._call: Call[Any] | None = None
        self._reading: anyio.CancelScope | None = None  # that of the task that waits for an item
        self._left: anyio.Event | None = None  # set when that task is out
        self._closing = False
        self._over = False

    def __repr__(self) -> str:
        state = "ended" if self._over else "not begun" if self._call is None else f"{self.delivered} items so far"
        return f"<Stream {self._streaming.plan.engine}: {state}>"

    @property
    def delivered(self) -> int:
        """How many items were delivered."""
        return 0 if self._call is None or self._call.flow is None else self._call.flow.count

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        """
        The next item.

        Raises:
            StopAsyncIteration: There are no more.
            Exception: What the source raised, the same object, or one of ours, as for any call.
            StreamFailed: The peer sent an error event.
            anyio.BusyResourceError: Another task is waiting for an item.
            anyio.ClosedResourceError: Another task closed the stream in the meantime.
        """
        if self._reading is not None:
            raise anyio.BusyResourceError("waiting for an item of")
        if self._over:
            raise StopAsyncIteration
        before = get_running()
        item: Any = END
        self._reading = scope = anyio.CancelScope()
        try:
            with scope:
                item = await self._next()
        except Exception as error:
            if self._closing:
                raise anyio.ClosedResourceError from error
            raise
        finally:
            # Set, not reset: whoever reads on or closes may do so in another context.
            set_running(before)
            self._reading = None
            if self._left is not None:
                self._left.set()
        if scope.cancelled_caught:
            raise anyio.ClosedResourceError
        if item is END:
            raise StopAsyncIteration
        return item  # type: ignore[no-any-return]  # the source's items are fn's

    async def aclose(self) -> None:
        """
        Close the stream and let go of all that it holds; a task that waits for an item gets `anyio.ClosedResourceError`.

        Closing before the end is no failure: what was delivered was delivered.  Closing twice does nothing.
        """
        if self._reading is not None:
            self._closing = True
            self._left = self._left or anyio.Event()
            self._reading.cancel()
            await self._left.wait()
            return
        call = self._call
        if self._over or call is None or call.flow is None:
            self._over, self._fn = True, None
            return
        before = get_running()
        self._end(call, call.flow, healthy=True)
        set_running(call)
        try:
            await call.flow.source.close(call.plan.env)
        finally:
            set_running(before)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self.aclose()

    def __del__(self) -> None:
        call = self._call
        if self._over or call is None or call.flow is None:
            return
        # Dropped half-read, perhaps by the garbage collector: nothing can be awaited here, but nobody is to wait for its end any more.
        self._over = True
        closes_itself = call.flow.source.closes_itself
        call.flow.settle(None)
        over(call, acted=True)
        if not closes_itself:
            told = f"{call.operation}: a stream was dropped before its end; close it, or use it in `async with`"
            warnings.warn(told, ResourceWarning, stacklevel=2, source=self)

    async def _next(self) -> Any:
        call = self._call
        try:
            if call is None:
                assert self._fn is not None  # noqa: S101 - nothing has ended it
                call = self._call = self._streaming.begin(self._fn, self._args, self._kwargs)
                self._fn, self._args, self._kwargs = None, (), {}
                item = await self._open(call)
            else:
                assert call.flow is not None  # noqa: S101 - `begin` gave it one
                set_running(call)
                item = await attempt.advance(call, call.flow)
            while type(item) is Failure:
                item = await self._go_on(call, item)
        except BaseException:
            if call is not None and call.flow is not None and not self._over:
                # Cancelled, by whomever: no news of the peer.
                self._over = True
                call.flow.settle(None)
                over(call, acted=call.attempt > 0)
            raise
        flow = call.flow
        assert flow is not None  # noqa: S101 - as above
        if item is END:
            self._end(call, flow, healthy=True)
            await flow.source.close(call.plan.env)
        else:
            flow.delivered(item, event_id)
            for beat in flow.beats:
                beat(call.plan.env.now())
        return item

    async def _open(self, call: Call[Any]) -> Any:
        """The first item of an attempt, as the policies let it through; what they leave of a failure is final."""
        call.cancels = call.plan.env.cancel_count()  # of this task: another may have read what came before
        set_running(call)
        early = call.ends <= call.started
        outcome = out_of_time(call, "before") if early else await self._streaming.handler(call)
        if type(outcome) is Failure:
            self._fail(call, outcome)
        return outcome

    async def _go_on(self, call: Call[Any], failure: Failure) -> Any:
        """The next item of a stream that broke after its first, where somebody said how to go on."""
        flow = call.flow
        assert flow is not None  # noqa: S101 - `begin` gave it one
        flow.settle(None, failure)
        if failure.verdict.action is Action.RETRY and call.final is None:
            if flow.resumes:
                flow.broken = failure
                return await self._open(call)
            gave_up(call, failure, "delivered")
        return self._fail(call, failure)

    def _fail(self, call: Call[Any], failure: Failure) -> Any:
        self._over = True
        error = failed(call, failure)
        assert error is not None  # noqa: S101 - a stream's failures are errors, all of them
        try:
            raise error
        finally:
            del error, failure  # the traceback holds this frame

    def _end(self, call: Call[Any], flow: Flow, *, healthy: bool) -> None:
        self._over = True
        flow.settle(healthy)
        succeeded(call, call.plan.env.quiet)
        over(call, acted=False)
