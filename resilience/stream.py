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

from resilience import attempt
from resilience.backend import current_loop
from resilience.call import Call, Plan, begin, gave_up, get_running, out_of_time, running, set_running
from resilience.callables import refuse_unstreamable
from resilience.ending import ended_well, failed, over, settle_in
from resilience.errors import Rejected
from resilience.flow import Flow
from resilience.outcome import END, Action, Failure
from resilience.policy import Handler
from resilience.reading.sse import event_id

__all__ = ["Stream", "Streaming"]

T = TypeVar("T")


class Streaming:
    """
    What an engine, or a view of one, fixes for each of its streams.

    Args:
        plan: As for any call.
        handler: Its policies, bound for streams.
    """

    __slots__ = ("handler", "plan")

    def __init__(self, plan: Plan, handler: Handler[Any]) -> None:
        self.plan = plan
        self.handler = handler

    def begin(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call[Any]:
        """A call with an account of a stream, in whatever runs around it."""
        plan = self.plan
        call: Call[Any] = begin(plan, fn, args, kwargs, plan.env.now())
        call.flow = Flow(plan.resume, keep=plan.keep_items)
        settle_in(call, running())
        return call


class Stream(Generic[T]):
    """
    The items of one call, to be had one by one: ``async for item in engine.stream(fn)``.

    Nothing happens before the first item is asked for.  Until it has come, failures are repeated as those of any call.  A failure after
    that is raised where the items end, the same object, with the number of items that were delivered in `history`; unless a view says how
    to go on (``engine.using(resume=...)``).

    Used as ``async with engine.stream(fn) as items`` it is closed at the end of the block, and a context manager around its items hears of
    an error in there, as it would without the engine.  `aclose` closes it too, in any task of its event loop and at any time.

    A source must not leave a cancel scope or a task group of its own open from one item to the next (PEP 789): each item is waited for
    inside a scope of ours, which ends before it.

    Raises:
        TypeError: *fn* cannot be called.
    """

    __slots__ = (
        "__weakref__",
        "_args",
        "_call",
        "_closing",
        "_fn",
        "_home",
        "_kwargs",
        "_left",
        "_over",
        "_reading",
        "_scope",
        "_streaming",
    )

    def __init__(self, streaming: Streaming, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._call: Call[Any] | None = None
        self._over = True  # should the next line raise
        refuse_unstreamable(fn)
        self._streaming = streaming
        self._fn: Callable[..., Any] | None = fn
        self._args = args
        self._kwargs = kwargs
        self._home: object = None  # the event loop in which it was begun, or is being closed
        self._scope: Callable[[], anyio.CancelScope] = anyio.CancelScope
        self._reading: anyio.CancelScope | None = None  # that of the task that waits for an item, or closes the stream
        self._left: anyio.Event | None = None  # set when that task is done
        self._closing = False  # another task has asked the one that waits for an item to close the stream
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
            StopAsyncIteration: There are no more, or the stream was closed before this was called.
            Exception: What the source raised, the same object, or one of ours, as for any call.
            StreamFailed: The peer sent an error event.
            anyio.BusyResourceError: Another task is waiting for an item.
            anyio.ClosedResourceError: Another task closed the stream in the meantime.
        """
        if self._over:
            raise StopAsyncIteration
        if self._reading is not None:
            raise anyio.BusyResourceError("waiting for an item of")
        before = get_running()
        item: Any = END
        self._reading = scope = self._scope()
        try:
            with scope:
                item = await self._next()
            if self._closing and not self._over:
                # The item came in the same moment, or the source would not be cancelled.
                await self._end(None)
        except Exception as error:
            if self._closing:
                raise anyio.ClosedResourceError from error
            raise
        finally:
            # Set, not reset: whoever reads on or closes may do so in another context.
            set_running(before)
            self._released()
        if self._closing:
            raise anyio.ClosedResourceError
        # anyio finds out what runs at each question, which takes as long as all that the scope does: a class makes more of its kind.
        self._scope = type(scope)
        if item is END:
            raise StopAsyncIteration
        return item  # type: ignore[no-any-return]  # the source's items are fn's

    async def aclose(self) -> None:
        """
        Close the stream and let go of all that it holds; a task that waits for an item gets `anyio.ClosedResourceError`.

        Closing before the end is no failure: what was delivered was delivered.  Closing twice does nothing, but wait for the first to be
        done.  Called by the source itself, it only asks: the source is cancelled at its next wait.

        Raises:
            RuntimeError: A task of another event loop waits for an item.
        """
        await self._close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        await self._close(error)

    def __del__(self) -> None:
        call = self._call
        if self._over or call is None or call.flow is None:
            return
        # Dropped half-read, perhaps by the garbage collector: nothing can be awaited here, but nobody is to wait for its end any more.
        self._over = True
        closes_itself = call.flow.source.closes_itself
        _settled(call, call.flow, None)
        if not closes_itself:
            told = f"{call.operation}: a stream was dropped before its end; close it, or use it in `async with`"
            warnings.warn(told, ResourceWarning, stacklevel=2, source=self)

    async def _close(self, error: BaseException | None) -> None:
        reading = self._reading
        if reading is None:
            if not self._over:
                self._home, self._reading = current_loop(), self._scope()
                before = get_running()
                try:
                    await self._end(error)
                finally:
                    set_running(before)
                    self._released()
            return
        if current_loop() is not self._home:
            msg = f"{self._streaming.plan.engine}: a task of another event loop waits for an item of the stream; close it there"
            raise RuntimeError(msg)
        if not self._over:
            self._closing = True
            reading.cancel()
        if not self._runs_here():
            self._left = self._left or anyio.Event()
            await self._left.wait()

    def _runs_here(self) -> bool:
        """Whether it is the source itself, or what it calls, that asks: to wait for its end would be to wait for ever."""
        call = get_running()
        while call is not None and call is not self._call:
            call = call.parent
        return call is not None

    def _released(self) -> None:
        self._reading = None
        if self._left is not None:
            self._left.set()

    def _begun(self, fn: Callable[..., Any]) -> Call[Any]:
        self._home = current_loop()
        self._call = call = self._streaming.begin(fn, self._args, self._kwargs)
        self._fn, self._args, self._kwargs = None, (), {}
        return call

    async def _next(self) -> Any:
        call, fn = self._call, self._fn
        if call is None:
            assert fn is not None  # noqa: S101 - nothing has ended it
            call = self._begun(fn)
        flow, env = call.flow, call.plan.env
        assert flow is not None  # noqa: S101 - `begin` gave it one
        set_running(call)
        if fn is not None or flow.resumes:
            call.cancels = env.cancel_count()  # of this task: another may have read what came before
        try:
            item = await (attempt.advance(call, flow) if fn is None else self._opened(call))
            if type(item) is Failure and fn is None:
                item = await self._resumed(call, flow, item)
            error = self._failed(call, flow, item) if type(item) is Failure else None
        except BaseException as reason:
            # Cancelled, by whomever, or a mistake in a policy: no news of the peer.
            self._over = True
            try:
                if not isinstance(reason, GeneratorExit):  # thrown away by whoever awaits it: there is nobody to wait
                    await flow.source.close(env, reason)
            finally:
                _settled(call, flow, None)
            raise
        if error is not None:
            del item  # the traceback holds this frame, which must not hold the error
            try:
                await flow.source.close(env, error)  # open still where a policy made a failure of what had begun
                raise error
            finally:
                del error
        if item is END:
            await self._end(None)
        else:
            flow.delivered(item, event_id)
            if flow.beats:
                now = env.now()
                for beat in flow.beats:
                    beat(now)
        return item

    async def _opened(self, call: Call[Any]) -> Any:
        """The first item of an attempt, as the policies let it through; what they leave of a failure is final."""
        early = call.ends <= call.started
        outcome = out_of_time(call, "before") if early else await self._streaming.handler(call)
        if call.previous is not None and type(outcome) is not Failure:
            # It has led to nothing, and the stream may go on for hours.
            call.previous = None
            attempt.empty_frames(call)
        return outcome

    async def _resumed(self, call: Call[Any], flow: Flow, failure: Failure) -> Any:
        """The next item of a stream that broke after its first, where somebody said how to go on; else the failure."""
        flow.settle(None, failure)
        if failure.verdict.action is not Action.RETRY or call.final is not None:
            return failure
        if not flow.resumes:
            return gave_up(call, failure, "delivered")
        flow.broken, tried = failure, call.attempt
        outcome = await self._opened(call)
        if call.attempt == tried and type(outcome) is Failure and outcome is not failure and isinstance(outcome.error, Rejected):
            # Refused by a policy of ours further out than `Retry`: no attempt, and no reason to hide what led there.
            return gave_up(call, failure, "rejected")
        return outcome

    def _failed(self, call: Call[Any], flow: Flow, failure: Failure) -> Exception:
        error = failed(call, failure)
        assert error is not None  # noqa: S101 - a stream's failures are errors, all of them
        self._over = True
        flow.end(None)
        return error

    async def _end(self, error: BaseException | None) -> None:
        """End it well: close the source, which still runs in the call, and tell everybody."""
        self._over = True
        call = self._call
        if call is None or call.flow is None:
            self._fn, self._args, self._kwargs = None, (), {}
            return
        set_running(call)
        try:
            await call.flow.source.close(call.plan.env, error)
        finally:
            _settled(call, call.flow, True)


def _settled(call: Call[Any], flow: Flow, healthy: bool | None) -> None:
    """End a call that did not fail."""
    try:
        flow.end(healthy)
    finally:
        if healthy:
            ended_well(call, call.plan.env.quiet)
        over(call, acted=not healthy and call.attempt > 0)
