"""Money that has run out is not waited for, however the news arrives, and speaks against nobody else (rivals 6.7, D2, D18)."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from resilience import CircuitBreaker, Engine, Retry
from resilience.dialects import callmissed
from resilience.testing import World, script

pytestmark = pytest.mark.anyio

CODES = {
    "insufficient_credits": 402,
    "budget_exceeded": 402,
    "permission_denied": 403,
    "invalid_api_key": 401,
}
ENVELOPES = {
    "native": lambda code: {"error": {"code": code, "message": "...", "type": "billing_error"}},
    "openai": lambda code: {"error": {"message": "...", "type": "billing_error", "param": None, "code": code}},
    "openai without a code": lambda code: {"error": {"message": "...", "type": code, "param": None, "code": None}},
    "anthropic": lambda code: {"type": "error", "error": {"type": code, "message": "..."}},
}


class Bare(Exception):
    """An SDK's error in its simplest form."""

    def __init__(self, status_code: int, body: object) -> None:
        super().__init__("failed")
        self.status_code = status_code
        self.body = body


def returned(client: Any) -> Any:
    return lambda status, body: client.Response(status, json=body, request=client.Request("GET", "https://api.example/"))


def raised(client: Any) -> Any:
    def make(status: int, body: object) -> Exception:
        try:
            returned(client)(status, body).raise_for_status()
        except client.HTTPStatusError as error:
            return error  # type: ignore[no-any-return]  # a client's error
        raise AssertionError("unreachable")

    return make


def openai_error(status: int, body: Any) -> Exception:
    response: Any = returned(httpx if isinstance_of(openai, httpx) else httpx2)(status, body)
    return openai.APIStatusError("failed", response=response, body=body["error"])  # the SDK hands on what is inside


def anthropic_error(status: int, body: Any) -> Exception:
    response: Any = returned(httpx if isinstance_of(anthropic, httpx) else httpx2)(status, body)
    return anthropic.APIStatusError("failed", response=response, body=body)


def isinstance_of(sdk: Any, client: Any) -> bool:
    """Whether an SDK is built on this client."""
    return issubclass(sdk.DefaultAsyncHttpxClient, client.AsyncClient)


WAYS = {
    "httpx, returned": returned(httpx),
    "httpx2, returned": returned(httpx2),
    "httpx, raised": raised(httpx),
    "httpx2, raised": raised(httpx2),
    "a parsed body": Bare,
    "raw JSON": lambda status, body: Bare(status, json.dumps(body).encode()),
    "openai": openai_error,
    "anthropic": anthropic_error,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("envelope", ENVELOPES.values(), ids=ENVELOPES)
@pytest.mark.parametrize("code", CODES)
# The status may be another than documented: a code beats it.
@pytest.mark.parametrize("status", [None, 429, 503])
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_it_is_one_attempt_and_the_circuit_stays_as_it_was(*, status: int | None, code: str, envelope: Any, way: Any) -> None:
    world = World()
    breaker = CircuitBreaker(consecutive=1, failure_ratio=1)
    engine = Engine([Retry(attempts=5), breaker], rules=callmissed.RULES, env=world.env)
    fetch = script(way(status or CODES[code], envelope(code)))

    try:
        await engine.call(fetch)
    except Exception:
        pass

    assert (1, []) == (fetch.calls, world.slept)
    assert "closed" == breaker.era()
    assert ["call.failed_fast"] == world.names("call.", "retry.", "breaker.")
