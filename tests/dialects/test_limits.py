"""A rate limit is the caller's own rate, whatever status it comes with, and opens nobody else's circuit (D18)."""

from __future__ import annotations

from typing import Any

import grpc
import httpx2
import pytest

from resilience import CircuitBreaker, Engine, Retry, Rules
from resilience.dialects import aws, callmissed, github, google, graphql, openai, shopify, slack
from resilience.dialects import grpc as grpc_dialect
from resilience.testing import World, script

pytestmark = pytest.mark.anyio


def graphql_error(**error: Any) -> dict[str, Any]:
    return {"data": None, "errors": [{"message": "API rate limit exceeded.", **error}]}


# A dialect, the status, and the body by which its API says so.
LIMITS: dict[str, tuple[Rules, int, Any]] = {
    "callmissed": (callmissed.RULES, 429, {"error": {"code": "rate_limit_exceeded", "message": "..."}}),
    "openai": (openai.RULES, 429, {"error": {"code": "rate_limit_exceeded", "message": "..."}}),
    "aws": (aws.RULES, 400, {"__type": "ThrottlingException", "message": "Rate exceeded"}),
    "google": (google.RULES, 403, {"error": {"code": 403, "message": "...", "errors": [{"reason": "userRateLimitExceeded"}]}}),
    "slack": (slack.RULES, 200, {"ok": False, "error": "ratelimited"}),
    "graphql": (graphql.RULES, 200, graphql_error(extensions={"code": "RATE_LIMITED"})),
    "shopify": (shopify.RULES, 200, graphql_error(extensions={"code": "THROTTLED"})),
    "github": (github.RULES, 200, graphql_error(type="RATE_LIMITED")),
    "github, in other words": (github.RULES, 200, graphql_error(message="You have exceeded a secondary rate limit.")),
    "github, REST": (github.RULES, 403, {"message": "API rate limit exceeded for user ID 1."}),
}


async def limited(rules: Rules, outcome: object, world: World) -> tuple[int, str]:
    breaker = CircuitBreaker(consecutive=1, failure_ratio=1)
    fetch = script(outcome, outcome, "ok")

    await Engine([Retry(), breaker], rules=rules, env=world.env).call(fetch)

    return fetch.calls, breaker.era()


@pytest.mark.parametrize("api", LIMITS)
async def test_a_rate_limit_is_waited_for_and_opens_no_circuit(world: World, api: str) -> None:
    rules, status, body = LIMITS[api]

    assert (3, "closed") == await limited(rules, httpx2.Response(status, json=body), world)


async def test_neither_does_one_of_grpc_which_has_no_status_of_http(world: World) -> None:
    error = grpc.aio.AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.aio.Metadata(), grpc.aio.Metadata(), "slow down")

    assert (3, "closed") == await limited(grpc_dialect.RULES, error, world)
