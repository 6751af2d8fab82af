"""
What a call holds while it runs and after it has ended, and that nothing grows with the number of calls or keys (D34, D37).

Objects are counted, not bytes, so that nothing here depends on the machine; `benchmarks/growth.py` has the bytes.
"""

from __future__ import annotations

import gc
import pathlib
import sys
import types
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import anyio
import anyio.lowlevel
import attrs
import pytest

import resilience
from resilience import (
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Constant,
    Deadline,
    Engine,
    Env,
    IdempotencyKey,
    RefreshToken,
    Retry,
    current,
)
from resilience.call import get_running
from resilience.events import Event

pytestmark = pytest.mark.anyio

Run: TypeAlias = Callable[..., Awaitable[object]]

LONG = 600.0  # seconds that nobody waits
SECONDS = 0.002  # until what hangs is cut, where anything is


# What belongs to the caller.

alive: weakref.WeakSet[Any] = weakref.WeakSet()


class Thing:
    """An argument, or a result."""

    def __init__(self) -> None:
        alive.add(self)


class Lost(ConnectionRefusedError):
    """Nothing was sent, so that anything may be repeated."""

    def __init__(self) -> None:
        super().__init__("gone")
        alive.add(self)


class Answer(Exception):
    status_code = 404

    def __init__(self) -> None:
        super().__init__("no")
        alive.add(self)


class Grave(BaseException):
    def __init__(self) -> None:
        super().__init__("in earnest")
        alive.add(self)


class Operation:
    """
    Fails so many times before it does what is last.

    Args:
        failures: How often.
        last: Given the scope that the call runs in.
    """

    def __init__(self, failures: int, last: Callable[[anyio.CancelScope], Awaitable[object]]) -> None:
        self.failures = failures
        self.last = last
        alive.add(self)

    async def __call__(self, thing: Thing, *, scope: anyio.CancelScope) -> object:
        self.failures -= 1
        if self.failures >= 0:
            raise Lost
        return await self.last(scope)


async def returns(scope: anyio.CancelScope) -> Thing:
    return Thing()


async def suspends(scope: anyio.CancelScope) -> Thing:
    await anyio.lowlevel.checkpoint()
    return Thing()


async def takes_the_key(scope: anyio.CancelScope) -> Thing:
    current().take_key()
    return Thing()


async def is_refused(scope: anyio.CancelScope) -> None:
    raise Answer


async def is_in_earnest(scope: anyio.CancelScope) -> None:
    raise Grave


async def hangs(scope: anyio.CancelScope) -> None:
    await anyio.Event().wait()  # no sleep: its timer may lie in the loop for a while after it was cancelled, with the context it was set in


async def is_cancelled(scope: anyio.CancelScope) -> None:
    scope.cancel()
    await hangs(scope)


ENDINGS: dict[str, tuple[int, Callable[[anyio.CancelScope], Awaitable[object]]]] = {
    "a success": (0, returns),
    "a success that took a while": (0, suspends),
    "a success with a key": (0, takes_the_key),
    "a retry, then a success": (2, returns),
    "exhaustion": (3, returns),
    "an error that is not repeated": (0, is_refused),
    "a retry, then an error that is not repeated": (1, is_refused),
    "an error that nobody handles": (0, is_in_earnest),
    "a cancellation": (0, is_cancelled),
    "a cancellation of the second attempt": (1, is_cancelled),
}


async def end(run: Run, failures: int, last: Callable[[anyio.CancelScope], Awaitable[object]]) -> None:
    """Let a call come to its end, and drop what it came to."""
    with anyio.CancelScope() as scope:
        try:
            await run(Operation(failures, last), Thing(), scope=scope)
        except (Exception, Grave):
            pass


# The engines.


def silent(event: Event) -> None:
    """Hears everything, and keeps nothing."""


HEARD = attrs.evolve(Env(), emit=silent)


async def login(stale: str | None) -> str:
    return "new"


def everything(*, attempt: float = LONG / 4, **breaker: Any) -> Engine:
    return Engine(
        [
            Deadline(LONG),
            IdempotencyKey(),
            RefreshToken(login, token="t"),
            Retry(backoff=Constant(0)),
            CircuitBreaker(**{"minimum": 1_000_000, **breaker}),
            AttemptTimeout(attempt),
        ],
        env=HEARD,
    )


def nested() -> Run:
    inner, outer = everything(), everything()
    return lambda fn, *args, **kwargs: outer.call(inner.call, fn, *args, **kwargs)


def rejecting() -> Run:
    breaker = CircuitBreaker()
    breaker.isolate()
    return Engine([Retry(), breaker], env=HEARD).call


ENGINES: dict[str, Callable[[], Run]] = {
    "no policy": lambda: Engine(env=HEARD).call,
    "everything": lambda: everything().call,
    "everything, watched for being slow": lambda: everything(slow_after=LONG, lease=LONG).call,
    "everything, inside everything": nested,
    "a breaker that rejects": rejecting,
}

# Those that cut what hangs.
IMPATIENT: dict[str, Callable[[], Run]] = {
    "a limit for an attempt": lambda: everything(attempt=SECONDS).call,
    "a deadline": lambda: everything().using(deadline=SECONDS).call,
}


# The end of a call.


async def kept_after(run: Run, failures: int, last: Callable[[anyio.CancelScope], Awaitable[object]]) -> list[object]:
    """What is still there of the caller's own once a call has ended, with the call itself still in the context that it was made in."""
    await end(run, failures, last)  # first calls find things out once and for all
    alive.clear()
    gc.disable()
    try:
        await end(run, failures, last)
        for _ in range(3):
            await anyio.lowlevel.checkpoint()  # the loop itself may hold a cancellation until it has another thing to hold
        call = get_running()

        assert call is not None
        assert call.ended
        return [*alive]
    finally:
        gc.enable()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("ending", ENDINGS)
async def test_a_call_lets_go_of_all_that_is_the_callers_after(ending: str, engine: str) -> None:
    """D34: function, arguments, result and errors, at once, even where the call itself is still to be found."""
    assert [] == await kept_after(ENGINES[engine](), *ENDINGS[ending])


@pytest.mark.parametrize("engine", IMPATIENT)
async def test_a_call_lets_go_of_all_that_is_the_callers_when_time_runs_out_by(engine: str) -> None:
    assert [] == await kept_after(IMPATIENT[engine](), 0, hangs)


async def test_a_rejection_that_the_caller_keeps_keeps_nothing_of_the_call() -> None:
    """D34: ten thousand that were gathered with ``return_exceptions=True`` would keep what ten thousand calls were to send."""
    run = rejecting()
    kept: list[Exception] = []

    async def call() -> None:
        try:
            await run(Operation(0, returns), Thing(), scope=Thing())
        except CircuitOpen as error:
            kept.append(error)

    await call()
    alive.clear()
    gc.disable()
    try:
        kept.clear()
        await call()

        assert [] == [*alive]
    finally:
        gc.enable()


# The number of calls.

_HOME = str(pathlib.Path(resilience.__file__).parent)


def _ours(one: object) -> str | None:
    """What a thing is, if it is ours."""
    if isinstance(one, types.CoroutineType):
        return "coroutine" if one.cr_code.co_filename.startswith(_HOME) else None
    kind = type(one)
    return kind.__name__ if str(kind.__module__).startswith("resilience") else None


def ours() -> Counter[str]:
    """How much there is of ours, by name."""
    gc.collect()
    return Counter(name for one in gc.get_objects() if (name := _ours(one)) is not None)


@pytest.mark.parametrize("engine", ENGINES)
async def test_nothing_grows_with_the_number_of_calls(engine: str) -> None:
    """D34."""
    run = ENGINES[engine]()

    async def calls(times: int) -> tuple[Counter[str], int]:
        for _ in range(times // len(ENDINGS)):
            for ending in ENDINGS.values():
                await end(run, *ending)
        return ours(), sys.getallocatedblocks()

    before, blocks_before = await calls(100)
    after, blocks_after = await calls(2_000)

    assert {} == {name: count for name, count in (after - before).items() if count > 5}  # some are still held by the last call
    assert 150 > blocks_after - blocks_before  # of each ending there were 200 more


# Calls in flight.


async def held_by_each(run: Run, calls: int = 50) -> dict[str, float]:
    """What there is of ours for each call in flight."""
    await end(run, 0, returns)
    go = anyio.Event()
    before = ours()

    async def waits(thing: Thing) -> None:
        await go.wait()

    async def call() -> None:
        await run(waits, Thing())

    async with anyio.create_task_group() as group:
        for _ in range(calls):
            group.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        held = ours() - before
        go.set()
    return {name: count / calls for name, count in held.items()}


async def test_a_call_in_flight_is_one_object_and_one_coroutine() -> None:
    assert {"Call": 1, "coroutine": 1} == await held_by_each(Engine().call)


async def test_with_everything_on_it_is_one_object_a_cutoff_and_one_coroutine(anyio_backend_name: str) -> None:
    cutoff = "_Cutoff" if anyio_backend_name == "trio" else "SharedCutoff"
    held = await held_by_each(everything().call)

    assert {"Call": 1, cutoff: 1, "coroutine": 1} == {name: count for name, count in held.items() if name != "_Slot"}  # one for all of them


# The number of keys.


@pytest.mark.parametrize(("keys", "failures"), [(50_000, 0), (2_000, 1)])
async def test_a_breaker_for_each_key_grows_to_its_bound_and_no_further(keys: int, failures: int) -> None:
    """D37: nor does anything else, be it a timer or a task, and whether or not any of them may be forgotten."""
    bound, others = 200, ours()["Circuit"]
    run = Engine([CircuitBreaker(key=lambda call: call.args[0], max_keys=bound)], env=HEARD).call

    async def fetch(key: int) -> None:
        if failures:
            raise Lost

    async def calls(first: int, last: int) -> int:
        for key in range(first, last):
            try:
                await run(fetch, key)
            except Lost:
                pass
        gc.collect()
        return sys.getallocatedblocks()

    blocks_before = await calls(0, bound)
    assert bound == ours()["Circuit"] - others
    blocks_after = await calls(bound, keys)

    assert bound + 1 >= ours()["Circuit"] - others  # the last call, which is still in this context, may have one that is not kept
    assert 5 * bound > blocks_after - blocks_before
