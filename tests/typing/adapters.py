"""Both adapters as a type checker sees them: never run.  Settings, methods and errors are the client's own."""

from __future__ import annotations

from typing import assert_type

import httpx
import httpx2

from resilience import CircuitOpen, Engine
from resilience.adapters import httpx as for_httpx
from resilience.adapters import httpx2 as for_httpx2

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
