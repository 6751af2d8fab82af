"""
What a call leaves to the garbage collector, however it ends: nothing (D34, B62).

Everything goes by counting references, at once, and with it the caller's arguments, responses and connections.  A cycle would keep them
until the collector comes by, which in a program that allocates little else may take minutes.

Each way to end is walked with and without an engine: what the event loop, anyio or the operation leave on it by themselves is not held
against us.  Time is real here, a few milliseconds of it: what strikes an attempt is the timer that strikes it in production.  What streams
leave is told in `test_stream`, and what a breaker leaves that does nothing but reject in `policies/test_circuit_breaker`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import time
import types
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, TypeAlias, cast

import anyio
import anyio.lowlevel
import attrs
import pytest

from resilience import (
    AttemptTimedOut,
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Constant,
    Deadline,
    DeadlineExceeded,
    Engine,
    Env,
    IdempotencyKey,
    RefreshFailed,
    RefreshToken,
    Retry,
    current,
    history,
)
from resilience.events import Event, RetryScheduled
from resilience.policies.refresh import Source
from tests.conftest import ON_ASYNCIO

pytestmark = pytest.mark.anyio

Run: TypeAlias = Callable[[Callable[..., Awaitable[Any]]], Coroutine[Any, Any, object]]
"""Runs an operation once: through an engine, or bare."""

Walk: TypeAlias = Callable[[Run], Awaitable[object]]
"""Runs an operation to one of its ends; what came of it."""

SECONDS = 0.002  # until what hangs is cut
LONG = 600.0  # seconds that nobody waits


class Answer(Exception):
    """The peer's answer, as a client raises it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status_code = status


class Response:
    """The peer's answer, as a client returns it."""

    status_code: int
    headers: dict[str, str]

    def __init__(self, status: int) -> None:
        self.status_code = status
        self.headers = {}


class Lost(ConnectionRefusedError):
    """Nothing was sent, so that anything may be repeated."""


# What to look for.


def _name(one: object) -> str:
    """What kind of thing it is, and whose."""
    if isinstance(one, types.FrameType):
        return f"frame of {one.f_code.co_qualname}"
    if isinstance(one, types.CoroutineType | types.FunctionType):
        return f"{type(one).__name__} {one.__qualname__}"
    return f"{type(one).__module__}.{type(one).__qualname__}"


Way: TypeAlias = Callable[[], Awaitable[object]]


async def left_by(way: Way, *, beside: Way | None = None, times: int = 3) -> Counter[str]:
    """What *way* leaves for the collector when it is taken so many times, by name, but for what *beside*, taken instead, leaves as well."""
    left = Counter[str]()
    for _ in range(3):  # a way that is seldom taken may find something out once and for all; what each call leaves is there every time
        left = await _found_after(way, times)
        if not left:
            return left
    return left if beside is None else left - await _found_after(beside, times)


async def _found_after(way: Way, times: int) -> Counter[str]:
    await way()
    await _settled()
    gc.freeze()  # what there is by now is nobody's garbage, and need not be looked through again and again
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(times):
            await way()
        await _settled()
        gc.collect()
        return Counter(_name(one) for one in gc.garbage)
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.unfreeze()
        gc.enable()


async def _settled() -> None:
    """Let the loop do what is left to do, and forget what it did last."""
    for _ in range(3):
        await anyio.lowlevel.checkpoint()


async def ended(running: Awaitable[object]) -> object:
    """What a call came to: its word, or the class of its error or response."""
    try:
        value = await running
    except Exception as error:
        return type(error)
    return value if isinstance(value, str) else type(value)


# The engines.


def silent(event: Event) -> None:
    """Hears everything, so that every event is made, and keeps nothing."""


HEARD = attrs.evolve(Env(), emit=silent)


async def login(stale: str | None) -> str:
    return "new"


def everything(*, attempt: float = LONG / 4, source: Source = login, env: Env = HEARD, **breaker: Any) -> Engine:
    return Engine(
        [
            Deadline(LONG),
            IdempotencyKey(),
            RefreshToken(source, token="old"),
            Retry(backoff=Constant(0), throttled=Constant(0)),
            CircuitBreaker(**{"minimum": 1_000_000, **breaker}),
            AttemptTimeout(attempt),
        ],
        env=env,
    )


async def bare(fn: Callable[..., Awaitable[Any]]) -> object:
    return await fn()


def with_a_view_for_each_call() -> Run:
    engine = everything()
    return lambda fn: engine.using(deadline=LONG / 2, attempts=3, operation="pay", key_from=("order", 42)).call(fn)


def with_a_wrapper_for_each_call() -> Run:
    engine = everything()
    return lambda fn: engine(fn)()


def inside_another() -> Run:
    inner, outer = everything(), everything()
    return lambda fn: outer.call(inner(fn))


ENGINES: dict[str, Callable[[], Run]] = {
    "no policy": lambda: Engine(env=HEARD).call,
    "retry": lambda: Engine([Retry(backoff=Constant(0), throttled=Constant(0))], env=HEARD).call,
    "everything": lambda: everything().call,
    "everything, watched for being slow": lambda: everything(slow_after=LONG, lease=LONG).call,
    "everything, told to the log": lambda: everything(env=Env()).call,
    "everything, as a decorator": with_a_wrapper_for_each_call,
    "everything, as a view": with_a_view_for_each_call,
    "everything, inside everything": inside_another,
}


# The ways.


class Play:
    """An operation that makes its outcomes anew, one an attempt."""

    def __init__(self, *outcomes: Callable[[], object]) -> None:
        self.left = [*outcomes]

    async def __call__(self) -> object:
        outcome = self.left.pop(0)()
        if isinstance(outcome, Exception):
            try:
                raise outcome
            finally:
                del outcome  # its traceback holds this frame
        return outcome


def plays(*outcomes: Callable[[], object]) -> Walk:
    return lambda run: ended(run(Play(*outcomes)))


def answers(status: int) -> Callable[[], Answer]:
    return lambda: Answer(status)


def responds(status: int) -> Callable[[], Response]:
    return lambda: Response(status)


def says_ok() -> str:
    return "ok"


async def ready() -> str:
    return "ok"


async def suspends() -> str:
    await anyio.lowlevel.checkpoint()
    return "ok"


async def takes_the_key() -> str:
    with contextlib.suppress(LookupError):  # no engine, or none that has keys
        current().take_key()
    return "ok"


async def chained() -> None:
    try:
        raise KeyError("missing")
    except KeyError as missing:
        raise Lost("gone") from missing


async def a_group() -> None:
    async def fail() -> None:
        raise Lost("gone")

    async with anyio.create_task_group() as group:
        group.start_soon(fail)
        group.start_soon(fail)


class Grave(BaseException):
    """What nobody but the outermost caller is to catch."""


async def grave() -> None:
    raise Grave


async def a_grave_error(run: Run) -> object:
    try:
        return await run(grave)
    except Grave:
        return Grave


async def cancelled_before_it_begins(run: Run) -> object:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await run(suspends)
    return "cancelled" if scope.cancelled_caught else "not cancelled"


def cancelled_in(attempt: int) -> Walk:
    """The operation is cancelled while it waits, in the *attempt*-th attempt, if there are so many."""

    async def walk(run: Run) -> object:
        attempts = itertools.count(1)

        async def waits() -> None:
            if next(attempts) < attempt:
                raise Lost("gone")
            scope.cancel()
            await anyio.sleep_forever()

        with anyio.CancelScope() as scope:
            await ended(run(waits))
        return "cancelled" if scope.cancelled_caught else "not cancelled"

    return walk


@types.coroutine
def _hand_over() -> Generator[None, None, None]:
    yield


async def waits_for_nobody() -> None:
    await _hand_over()


async def thrown_away_halfway(run: Run) -> object:
    coroutine = run(waits_for_nobody)
    coroutine.send(None)
    coroutine.close()
    return "closed"


async def thrown_away_before_it_begins(run: Run) -> object:
    run(ready).close()
    return "closed"


async def kept_for_a_while(run: Run) -> object:
    """The caller keeps the error after the call, and drops it later."""
    kept: list[Exception] = []
    try:
        await run(Play(Lost, Lost, Lost))
    except Lost as error:
        kept.append(error)
    behind = len(history(kept[0]))
    kept.clear()
    return behind


WAYS: dict[str, tuple[Walk, object]] = {
    "a success": (lambda run: run(ready), "ok"),
    "a success that took a while": (lambda run: run(suspends), "ok"),
    "a success with a key": (lambda run: run(takes_the_key), "ok"),
    "a retry, then a success": (plays(Lost, Lost, says_ok), "ok"),
    "a throttled retry, then a success": (plays(answers(429), says_ok), "ok"),
    "exhaustion": (plays(Lost, Lost, Lost), Lost),
    "exhaustion, with errors that have causes": (lambda run: ended(run(chained)), Lost),
    "exhaustion, with errors in groups": (lambda run: ended(run(a_group)), ExceptionGroup),
    "exhaustion, with an error that is kept and dropped": (kept_for_a_while, 3),
    "an error of the caller's own": (plays(ValueError), ValueError),
    "an answer that is an error": (plays(answers(404)), Answer),
    "an answer that is a failure": (plays(responds(404)), Response),
    "answers that are failures, then a success": (plays(responds(429), responds(429), says_ok), "ok"),
    "an error that nobody handles": (a_grave_error, Grave),
    "a cancellation before it begins": (cancelled_before_it_begins, "cancelled"),
    "a cancellation": (cancelled_in(1), "cancelled"),
    "a cancellation of the second attempt": (cancelled_in(2), "cancelled"),
    "a coroutine that is closed before it begins": (thrown_away_before_it_begins, "closed"),
    "a coroutine that is closed halfway": (thrown_away_halfway, "closed"),
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("way", WAYS)
async def test_nothing_is_left_for_the_collector_after(way: str, engine: str) -> None:
    walk, expected = WAYS[way]
    run = ENGINES[engine]()

    assert Counter() == await left_by(lambda: walk(run), beside=lambda: walk(bare))
    assert expected == await walk(run) or "everything" not in engine


async def test_nothing_is_left_for_the_collector_after_one_error_is_raised_by_many_calls() -> None:
    """It carries the frames of each of them."""

    async def walk(run: Run) -> None:
        kept = [Lost("gone")]

        async def fail() -> None:
            raise kept[0]

        for _ in range(2):
            with contextlib.suppress(Lost):
                await run(fail)
        kept.clear()  # this frame is among those that the error carries

    run = everything().call

    assert Counter() == await left_by(lambda: walk(run), beside=lambda: walk(bare))


@pytest.mark.parametrize("anyio_backend", ON_ASYNCIO, scope="module")
@pytest.mark.parametrize("engine", ENGINES)
async def test_nothing_is_left_for_the_collector_after_a_native_cancellation(engine: str) -> None:
    async def cancels() -> None:
        cast("asyncio.Task[None]", asyncio.current_task()).cancel()  # a task that is kept here would be in a cycle of the test's own
        await anyio.sleep_forever()

    async def walk(run: Run) -> bool:
        task = asyncio.ensure_future(run(cancels))
        await asyncio.wait([task])
        return task.cancelled()

    run = ENGINES[engine]()

    assert Counter() == await left_by(lambda: walk(run), beside=lambda: walk(bare))
    assert await walk(run)


async def test_nothing_is_left_for_the_collector_after_a_cancellation_between_two_attempts() -> None:
    scopes: list[anyio.CancelScope] = []

    def strike(event: Event) -> None:
        if isinstance(event, RetryScheduled):
            scopes[-1].cancel()

    run = everything(env=attrs.evolve(Env(), emit=strike)).call

    async def walk() -> bool:
        with anyio.CancelScope() as scope:
            scopes[:] = [scope]
            await run(Play(Lost, says_ok))
        scopes.clear()
        return scope.cancelled_caught

    assert Counter() == await left_by(walk)
    assert await walk()


# Policies with a life of their own.


async def test_nothing_is_left_for_the_collector_when_a_breaker_opens_rejects_probes_and_closes() -> None:
    breaker = CircuitBreaker(minimum=1, cooldown=LONG, max_cooldown=LONG)
    hasty = CircuitBreaker(minimum=1, cooldown=1e-9)
    engine = Engine([Retry(backoff=Constant(0)), breaker], env=HEARD)
    probing = Engine([hasty], env=HEARD)

    async def walk() -> list[object]:
        breaker.reset()
        closed = await ended(engine.call(Play(answers(500))))
        rejected = await ended(engine.call(ready))
        failed = await ended(probing.call(Play(answers(500))))
        probed = await ended(probing.call(ready))
        return [closed, breaker.era(), rejected, failed, probed, hasty.era()]

    assert Counter() == await left_by(walk)
    assert [Answer, "open", CircuitOpen, Answer, "ok", "closed"] == await walk()


async def logs_in_later(stale: str | None) -> str:
    await anyio.lowlevel.checkpoint()
    return "new"


async def cannot_log_in(stale: str | None) -> str:
    raise Lost("gone")


@pytest.mark.parametrize(
    ("source", "expected"),
    [(login, "ok"), (logs_in_later, "ok"), (cannot_log_in, RefreshFailed)],
)
async def test_nothing_is_left_for_the_collector_after_a_refresh(source: Source, expected: object) -> None:
    hours = itertools.count(step=3600.0)  # or it would soon be asked to rest
    present = [next(hours)]
    run = everything(source=source, env=attrs.evolve(Env(), emit=silent, now=lambda: present[0])).call

    async def walk() -> object:
        present[:] = [next(hours)]
        return await ended(run(Play(answers(401), says_ok)))

    assert Counter() == await left_by(walk)
    assert expected == await walk()


# Time that runs out.


async def hangs() -> None:
    await anyio.sleep_forever()


async def fails_when_cut() -> None:
    try:
        await anyio.sleep_forever()
    except BaseException as cut:
        raise Lost("cut") from cut


async def answers_when_cut() -> str:
    with contextlib.suppress(BaseException):
        await anyio.sleep_forever()
    return "ok"


async def hangs_with_a_key() -> None:
    with contextlib.suppress(LookupError):
        current().take_key()  # so that it is repeated
    await anyio.sleep_forever()


async def blocks_and_fails() -> None:
    time.sleep(2 * SECONDS)
    raise Lost("gone")


async def bare_with_a_limit(fn: Callable[..., Awaitable[Any]]) -> object:
    with anyio.fail_after(SECONDS):
        return await fn()


def limited_from_outside() -> Run:
    inner, outer = everything(), Engine([Deadline(SECONDS)], env=HEARD)
    return lambda fn: outer.call(inner(fn))


LIMITED: dict[str, Callable[[], Run]] = {
    "limit for an attempt": lambda: Engine([AttemptTimeout(SECONDS)], env=HEARD).call,
    "limit for an attempt, everything on": lambda: everything(attempt=SECONDS).call,
    "limit for an attempt, watched for being slow": lambda: everything(attempt=SECONDS, slow_after=LONG, lease=LONG).call,
    "deadline": lambda: Engine([Deadline(SECONDS)], env=HEARD).call,
    "deadline, with retries": lambda: Engine([Deadline(SECONDS), Retry(backoff=Constant(0))], env=HEARD).call,
    "deadline of a view, everything on": lambda: everything().using(deadline=SECONDS).call,
    "deadline of an engine further out": limited_from_outside,
}

OUT_OF_TIME = {AttemptTimedOut, DeadlineExceeded}

CUTS: dict[str, tuple[Callable[..., Awaitable[Any]], set[Any]]] = {
    "hangs": (hangs, OUT_OF_TIME),
    "hangs and is repeated": (hangs_with_a_key, OUT_OF_TIME),
    "makes an error of being cut": (fails_when_cut, OUT_OF_TIME),
    "answers when cut": (answers_when_cut, {"ok", *OUT_OF_TIME}),  # on a busy machine time may be up before it begins
    "blocks, and then fails": (blocks_and_fails, {Lost, *OUT_OF_TIME}),
}


@pytest.mark.parametrize("engine", LIMITED)
@pytest.mark.parametrize("operation", CUTS)
async def test_nothing_is_left_for_the_collector_when_time_runs_out_for_what(operation: str, engine: str) -> None:
    fn, expected = CUTS[operation]
    run = LIMITED[engine]()

    assert Counter() == await left_by(lambda: ended(run(fn)), beside=lambda: ended(bare_with_a_limit(fn)), times=1)
    assert await ended(run(fn)) in expected
