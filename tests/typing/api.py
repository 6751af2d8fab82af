"""
Each public name in use, for the type checkers: `mypy --strict` and `pyright` read this file, nothing runs it (D23).

A line that must not pass carries an ignore with its code; were it to pass one day, the unused ignore would be the error.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Protocol, TypeVar, assert_type, overload

import attrs

import resilience
from resilience import (
    Action,
    AttemptTimedOut,
    AttemptTimeout,
    Blame,
    Call,
    CircuitBreaker,
    CircuitOpen,
    Constant,
    Deadline,
    DeadlineExceeded,
    Engine,
    Env,
    Exponential,
    Failure,
    Fibonacci,
    Handler,
    IdempotencyKey,
    Linear,
    Listed,
    Phase,
    Policy,
    Progress,
    RefreshFailed,
    RefreshToken,
    Rejected,
    ResilienceError,
    Retry,
    Rules,
    Signal,
    Stream,
    StreamFailed,
    StreamTimeout,
    Token,
    Tried,
    Verdict,
    callmissed,
    current,
    fail_fast,
    history,
    read,
    refresh_token,
    retry,
)
from resilience.dialects import http
from resilience.testing import World, script

T = TypeVar("T")


async def login(stale: str | None) -> str:
    return stale or "token"


async def login_with_expiry(stale: str | None) -> Token:
    return Token("token", expires_in=3600)


# Settings, and the sequence of policies: a list of one kind is a list of policies.

retries: list[Retry] = [Retry(attempts=4, backoff=Exponential(0.05, cap=20, jitter="equal"), throttled=Listed([1, 5]))]
engine = Engine(retries)
engine = Engine(
    [
        Deadline(30),
        IdempotencyKey(header="Idempotency-Key", methods={"POST"}),
        RefreshToken(login, token=Token("t", expires_in=60), origins=["https://api.example.com"]),
        Retry(attempts=4, backoff=Fibonacci(0.1), throttled=Linear(1.0), max_server_delay=60, over_limit="clamp"),
        CircuitBreaker(failure_ratio=0.5, minimum=10, key=lambda call: call.peer),
        AttemptTimeout(10),
    ],
    rules=http.RULES,
    name="api",
    env=Env(),
)
RefreshToken(login_with_expiry, token="t")
RefreshToken(lambda stale: "t")
Retry(backoff=Constant(1))
Retry(over_limit="perhaps")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Exponential(1, jitter="some")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Engine([Retry])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
Engine([Retry()], rules={})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(callmissed.engine(login), Engine)

# Functions, methods and all their kin keep their signature.


@engine
async def fetch(url: str, *, limit: int = 10) -> list[str]:
    return [url] * limit


async def misuse() -> None:
    assert_type(fetch, Callable[..., Coroutine[Any, Any, list[str]]])  # type: ignore[assert-type]  # pyright: ignore[reportAssertTypeFailure]
    await fetch(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Client:
    @engine
    async def get(self, url: str) -> bytes:
        return url.encode()

    @classmethod
    @engine
    async def make(cls, name: str) -> Client:
        return cls()

    @staticmethod
    @engine
    async def ping() -> bool:
        return True

    async def __call__(self, url: str) -> int:
        return len(url)

    async def plain(self, url: str) -> bytes:
        return url.encode()


async def generic(value: T) -> T:
    return value


@overload
async def overloaded(value: int) -> str: ...
@overload
async def overloaded(value: str) -> int: ...
async def overloaded(value: int | str) -> int | str:
    return value


def returns_an_awaitable(value: int) -> Awaitable[int]:
    return generic(value)


async def calls() -> None:
    client = Client()
    assert_type(await fetch("/"), list[str])
    assert_type(await client.get("/"), bytes)
    assert_type(await Client.make("a"), Client)
    assert_type(await Client.ping(), bool)

    assert_type(await engine.call(fetch, "/", limit=3), list[str])
    assert_type(await engine.call(client.plain, "/"), bytes)
    assert_type(await engine.call(client, "/"), int)
    assert_type(await engine.call(functools.partial(client.plain, "/")), bytes)
    assert_type(await engine.call(lambda: client.plain("/")), bytes)
    assert_type(await engine.call(generic, 3), int)
    assert_type(await engine.call(returns_an_awaitable, 3), int)
    assert_type(await engine(client)("/"), int)
    assert_type(await engine(functools.partial(client.plain, "/"))(), bytes)

    view = engine.using(deadline=5, attempts=2, key_from=("order", 42), method="POST", repeatable=True, operation="pay")
    assert_type(view, Engine)
    assert_type(await view.call(client.plain, "/"), bytes)
    assert_type(await engine.using(key="k")(client.plain)("/"), bytes)

    await engine.call(client.plain, 3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await engine.call(client.plain)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await engine.call(client.plain, url="/", more=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    engine.using(deadline="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# What is no async callable is refused before it runs.


def sync(value: int) -> int:
    return value


async def stream() -> AsyncIterator[int]:
    yield 1


engine(sync)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
engine(generic(3))  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]

# Streams: whatever leads to items.


class Chunks(Protocol):
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    async def close(self) -> None: ...


class Sdk(Protocol):
    async def create(self, model: str, *, stream: bool) -> Chunks: ...
    def managed(self, path: str) -> contextlib.AbstractAsyncContextManager[Chunks]: ...
    def rest(self, progress: Progress) -> AsyncIterator[int]: ...


class Bot:
    @engine
    async def says(self, words: int) -> AsyncIterator[str]:
        yield "word" * words

    @staticmethod
    @engine
    async def counts(most: int) -> AsyncGenerator[int, None]:
        yield most

    async def __call__(self, prompt: str) -> AsyncIterator[float]:
        yield len(prompt)


async def repeating(value: T) -> AsyncIterator[T]:
    yield value


@contextlib.asynccontextmanager
async def connected(path: str) -> AsyncGenerator[Chunks]:
    raise NotImplementedError(path)
    yield


async def streams(client: Sdk, failed: StreamFailed) -> None:
    assert_type(engine(stream)(), Stream[int])
    assert_type(engine.stream(stream), Stream[int])
    assert_type(engine.stream(client.create, "m", stream=True), Stream[bytes])
    assert_type(engine.stream(client.managed, "/"), Stream[bytes])
    assert_type(engine.stream(connected, "/"), Stream[bytes])
    assert_type(engine.stream(functools.partial(client.create, "m"), stream=True), Stream[bytes])
    assert_type(engine.stream(lambda: client.managed("/")), Stream[bytes])
    assert_type(engine.stream(repeating, 3), Stream[int])
    assert_type(engine.stream(Bot(), "hello"), Stream[float])
    assert_type(engine(Bot())("hello"), Stream[float])
    assert_type(Bot().says(3), Stream[str])
    assert_type(Bot.counts(3), Stream[int])
    assert_type(await anext(engine.stream(stream)), int)
    Bot().says("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    engine(connected)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
    engine.stream(client.create, 5, stream=True)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    engine.stream(client.create)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    engine.stream(stream())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    engine.using(resume="again")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    engine.using(resume=client.rest, keep_items=True)
    engine.using(resume="restart")
    async with engine.stream(stream) as numbers:
        async for number in numbers:
            assert_type(number, int)
    async for number in engine.stream(stream):
        assert_type(number, int)
    await engine.stream(stream).aclose()
    assert_type(failed.items, int)
    StreamTimeout(first_item=5, idle=1.5)


# Inside a call, and after it.


async def inside() -> None:
    call = current()
    assert_type(call, Call[Any])
    assert_type(call.attempt, int)
    assert_type(call.token, str | None)
    assert_type(call.idempotency_key, str | None)
    assert_type(call.take_key(), str)
    assert_type(call.remaining, float)
    assert_type(call.operation, str)


def after(error: Exception) -> None:
    assert_type(history(error), tuple[Tried, ...])
    signal = read(error, wall=0.0)
    assert_type(signal, Signal)
    verdict = http.RULES.classify(signal)
    assert_type(verdict, Verdict)
    assert_type(verdict.action, Action)
    assert_type(verdict.blames, Blame)
    assert_type(signal.phase, Phase)
    if isinstance(error, CircuitOpen):
        assert_type(error.retry_after, float | None)
        assert_type(error.tripped_by, str | None)
    if isinstance(error, Rejected | DeadlineExceeded | AttemptTimedOut | RefreshFailed):
        base: ResilienceError = error
        assert_type(base.status, int | None)


# Tables, policies and environments of one's own.

rules: Rules = http.RULES.extend(
    "acme",
    by_code={"SlowDown": retry(throttled=True), (429, "quota"): fail_fast(), "TokenExpired": refresh_token()},
    by_status={500: retry(attempts=2), "5xx": Action.RETRY, 418: "fail_fast"},
    by_error={ValueError: retry(), "acme.Busy": retry()},
)
http.RULES.extend("acme", by_status={500: 3})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]


@attrs.frozen
class Counting:
    seen: list[str] = attrs.field(factory=list[str])

    def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
        async def counting(call: Call[Any]) -> Any | Failure:
            self.seen.append(call.operation)
            return await inner(call)

        return counting


own: Policy = Counting()
Engine([own, Counting(), Retry()])

world = World()
assert_type(world.env, Env)
play: Callable[..., Awaitable[Any]] = script(ConnectionError(), "ok")
assert_type(resilience.Engine([Retry()], env=world.env).describe(), str)
