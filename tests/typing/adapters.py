"""The adapters as a type checker sees them: never run.  Settings, methods and errors are the client's own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, assert_type

import aiohttp
import anthropic
import httpx
import httpx2
import openai
import psycopg
import redis.asyncio
from anthropic.lib.vertex import AsyncAnthropicVertex
from openai.types.chat import ChatCompletion

from resilience import AttemptTimedOut, CircuitOpen, DeadlineExceeded, Engine, RefreshFailed, Rejected, Stream
from resilience.adapters import aiohttp as for_aiohttp
from resilience.adapters import anthropic as for_anthropic
from resilience.adapters import asyncpg as for_asyncpg
from resilience.adapters import grpc as for_grpc
from resilience.adapters import httpx as for_httpx
from resilience.adapters import httpx2 as for_httpx2
from resilience.adapters import openai as for_openai
from resilience.adapters import psycopg as for_psycopg
from resilience.adapters import redis as for_redis

engine = Engine()


async def client_of_httpx2() -> None:
    async with for_httpx2.ResilientClient(engine, base_url="https://api.example", timeout=5, follow_redirects=True) as client:
        assert_type(client, for_httpx2.ResilientClient)
        assert_type(await client.get("/"), httpx2.Response)
        assert_type(await client.send(client.build_request("GET", "/"), stream=True, auth=("ada", "secret")), httpx2.Response)
    for_httpx2.ResilientClient(engine.using(deadline=5))
    for_httpx2.ResilientClient()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    for_httpx2.ResilientClient("https://api.example")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx2.ResilientClient(engine, base_url=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx2.ResilientClient(engine, retries=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await client.send(client.build_request("GET", "/"), streamed=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def client_of_httpx() -> None:
    async with for_httpx.ResilientClient(engine, base_url="https://api.example", timeout=5, follow_redirects=True) as client:
        assert_type(client, for_httpx.ResilientClient)
        assert_type(await client.get("/"), httpx.Response)
    for_httpx.ResilientClient(engine, base_url=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def transports() -> None:
    httpx2.AsyncClient(transport=for_httpx2.ResilientTransport(engine, httpx2.AsyncHTTPTransport(retries=1)))
    httpx.AsyncClient(transport=for_httpx.ResilientTransport(engine))
    httpx.AsyncClient(transport=for_httpx2.ResilientTransport(engine))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_httpx2.ResilientTransport(engine, httpx2.HTTPTransport())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def errors(error: for_httpx2.HttpxCircuitOpen) -> tuple[CircuitOpen, httpx2.TransportError]:
    assert_type(error.retry_after, float | None)
    assert_type(error.request, httpx2.Request)
    return error, error


async def session_of_aiohttp() -> None:
    async with aiohttp.ClientSession("https://api.example", middlewares=(for_aiohttp.ResilientMiddleware(engine),)) as session:
        async with session.get("/", middlewares=(for_aiohttp.ResilientMiddleware(engine.using(deadline=5)),)) as response:
            assert_type(response, aiohttp.ClientResponse)
    for_aiohttp.ResilientMiddleware()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    for_aiohttp.ResilientMiddleware("https://api.example")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def errors_of_aiohttp(
    rejected: for_aiohttp.AiohttpRejected,
    opened: for_aiohttp.AiohttpCircuitOpen,
    late: for_aiohttp.AiohttpDeadlineExceeded,
    cut: for_aiohttp.AiohttpAttemptTimedOut,
    refresh: for_aiohttp.AiohttpRefreshFailed,
) -> Sequence[aiohttp.ClientConnectionError]:
    ours: tuple[Rejected, CircuitOpen, DeadlineExceeded, AttemptTimedOut, RefreshFailed] = (rejected, opened, late, cut, refresh)
    assert_type(ours[1].retry_after, float | None)
    timeouts: tuple[aiohttp.ServerTimeoutError, aiohttp.ServerTimeoutError] = (late, cut)
    return rejected, opened, refresh, *timeouts


def channel_of_grpc(error: for_grpc.GrpcCircuitOpen) -> CircuitOpen:
    target = "dns:///api.example:443"
    ours: list[Any] = for_grpc.interceptors(engine, target, idempotent={"/package.Service/Get"})
    ours += for_grpc.interceptors(engine.using(deadline=5), target, idempotent=lambda method: method.endswith("/Get"))
    assert_type(for_grpc.NO_RETRIES, tuple[tuple[str, int]])
    for_grpc.interceptors(engine)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    for_grpc.interceptors(target, engine)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_grpc.interceptors(engine, target, idempotent=lambda method: method)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType, reportReturnType]
    late: type[DeadlineExceeded] = for_grpc.GrpcDeadlineExceeded
    cut: type[AttemptTimedOut] = for_grpc.GrpcAttemptTimedOut
    others: tuple[type[Exception], ...] = (late, cut, for_grpc.GrpcRejected, for_grpc.GrpcRefreshFailed, for_grpc.GrpcStreamFailed)
    del others
    return error


async def transactions_of_asyncpg(error: for_asyncpg.AsyncpgCircuitOpen) -> CircuitOpen:
    async def count(connection: Any, table: str, *, most: int = 9) -> int:
        return int(await connection.fetchval(f"select least(count(*), {most}) from {table}"))

    transactions = for_asyncpg.Transactions(engine, print, isolation="serializable", readonly=True, deferrable=True, peer="here")
    assert_type(await transactions.call(count, "t", most=3), int)
    assert_type(await transactions(count)("t", most=3), int)
    await transactions.call(count)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await transactions(count)("t", least=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    level: for_asyncpg.Isolation = "read_committed"
    for_asyncpg.Transactions(engine, print, isolation=level)
    for_asyncpg.Transactions(engine, print, isolation="snapshot")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_asyncpg.Transactions(print, engine)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(error.sqlstate, str | None)
    kinds: tuple[type[Rejected], type[RefreshFailed]] = (for_asyncpg.AsyncpgRejected, for_asyncpg.AsyncpgRefreshFailed)
    del kinds
    return error


async def transactions_of_psycopg(error: for_psycopg.PsycopgDeadlineExceeded) -> tuple[DeadlineExceeded, psycopg.OperationalError]:
    async def count(connection: psycopg.AsyncConnection[Any], *, most: int = 9) -> int:
        return min(most, (await connection.execute("select 1")).rowcount)

    async def of_another(connection: redis.asyncio.Redis) -> int:
        return len(str(await connection.get("n")))

    connect = functools.partial(psycopg.AsyncConnection.connect, "host=db.example")
    transactions = for_psycopg.Transactions(engine.using(attempts=2), connect, isolation="repeatable_read")
    assert_type(await transactions.call(count, most=3), int)
    assert_type(await transactions(count)(most=3), int)
    await transactions(count)(3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await transactions.call(of_another)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    families: tuple[type[psycopg.OperationalError], ...] = (
        for_psycopg.PsycopgRejected,
        for_psycopg.PsycopgCircuitOpen,
        for_psycopg.PsycopgAttemptTimedOut,
        for_psycopg.PsycopgRefreshFailed,
    )
    del families
    return error, error


async def client_of_redis(error: for_redis.RedisAttemptTimedOut) -> tuple[AttemptTimedOut, redis.TimeoutError]:
    client = for_redis.ResilientRedis(engine, host="cache.example", decode_responses=True)
    made: tuple[for_redis.ResilientRedis, ...] = (
        for_redis.ResilientRedis.from_url(engine, "redis://cache.example", decode_responses=True),
        for_redis.ResilientRedis.from_pool(engine, redis.asyncio.ConnectionPool()),
        client.client(),
    )
    plain: redis.asyncio.Redis = made[0]
    await plain.set("greeting", "hello", ex=5)
    pipe: for_redis.ResilientPipeline = client.pipeline(transaction=False)
    assert_type(await pipe.execute(), list[Any])
    client = for_redis.ResilientRedis(host="cache.example")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client = for_redis.ResilientRedis(engine, hots="cache.example")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    client = for_redis.ResilientRedis(engine, port="6379")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    families: tuple[type[redis.RedisError], ...] = (
        for_redis.RedisRejected,
        for_redis.RedisCircuitOpen,
        for_redis.RedisDeadlineExceeded,
        for_redis.RedisRefreshFailed,
    )
    del families
    return error, error


async def sdk_of_openai() -> None:
    assert_type(for_openai.engine(openai.AsyncAzureOpenAI, name="azure"), Engine)
    sdk = for_openai.client()
    assert_type(sdk, openai.AsyncOpenAI)
    assert_type(for_openai.client(engine, api_key="-", timeout=5), openai.AsyncOpenAI)
    azure = for_openai.client(None, openai.AsyncAzureOpenAI, azure_endpoint="https://api.example", api_version="2026-01-01")
    assert_type(azure, openai.AsyncAzureOpenAI)
    for_openai.client(engine, base_ulr="https://api.example")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    own = openai.AsyncOpenAI(http_client=for_openai.HttpClient(engine, timeout=5), max_retries=0)
    completion = await engine.call(own.chat.completions.create, model="gpt-5", messages=[])
    assert_type(completion, ChatCompletion)

    async with for_openai.stream(engine, sdk.responses.create, model="gpt-5", input="Hello", stream=True) as events:
        async for event in events:
            assert_type(event.type == "response.completed", bool)


async def sdk_of_anthropic() -> None:
    assert_type(for_anthropic.engine(), Engine)
    sdk = for_anthropic.client(engine, api_key="-")
    assert_type(sdk, anthropic.AsyncAnthropic)
    assert_type(for_anthropic.client(None, AsyncAnthropicVertex, region="eu", project_id="p"), AsyncAnthropicVertex)
    for_anthropic.client("sk-ant-api")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    anthropic.AsyncAnthropic(http_client=for_anthropic.HttpClient(engine), max_retries=0)


def streams_of_anthropic(sdk: anthropic.AsyncAnthropic) -> None:
    async def words(prompt: str) -> Any:
        return sdk.messages.stream(model=prompt, max_tokens=1, messages=[])

    assert_type(for_anthropic.stream(engine, words, "Hello"), Stream[Any])
    for_anthropic.stream(engine, words)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
