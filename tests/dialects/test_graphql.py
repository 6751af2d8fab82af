"""
Every code that Apollo Server and Apollo Router document, inside a 200 and under a status of its own.

Expectations: apollographql.com, "Error handling" (Apollo Server; its enumerations `ApolloServerErrorCode` and
`ApolloServerValidationErrorCode`, and version 3's `UNAUTHENTICATED` and `FORBIDDEN`) and "Router Errors"; the GraphQL specification, 7.1,
and "GraphQL over HTTP"; GitHub's documentation of its GraphQL API.
"""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest

from resilience import Action, Blame, Engine, RefreshToken, Retry, Signal, Verdict, read
from resilience.adapters.httpx2 import ResilientClient
from resilience.dialects import graphql as dialect
from resilience.dialects import http
from resilience.testing import World, script

Means = tuple[Action, int | None, bool, Blame]  # what to do, tries in all, whether less is asked for, whom it speaks against

ASKED: Means = (Action.FAIL_FAST, None, False, Blame.CALLER)
KEY: Means = (Action.FAIL_FAST, None, False, Blame.CREDENTIAL)
THEIRS: Means = (Action.FAIL_FAST, None, False, Blame.PEER)
LIMITED: Means = (Action.RETRY, None, True, Blame.CALLER)
AGAIN: Means = (Action.RETRY, None, False, Blame.PEER)
ONCE_MORE: Means = (Action.RETRY, 2, False, Blame.PEER)
REFRESH: Means = (Action.REFRESH_TOKEN, None, False, Blame.CREDENTIAL)

CODES = [
    # Apollo Server.
    ("GRAPHQL_PARSE_FAILED", ASKED),
    ("GRAPHQL_VALIDATION_FAILED", ASKED),
    ("BAD_USER_INPUT", ASKED),
    ("BAD_REQUEST", ASKED),
    ("OPERATION_RESOLUTION_FAILURE", ASKED),
    ("INTROSPECTION_DISABLED", ASKED),
    ("MAX_RECURSIVE_SELECTIONS_EXCEEDED", ASKED),
    ("PERSISTED_QUERY_NOT_FOUND", ASKED),
    ("PERSISTED_QUERY_NOT_SUPPORTED", ASKED),
    ("INTERNAL_SERVER_ERROR", ONCE_MORE),
    ("UNAUTHENTICATED", REFRESH),
    ("FORBIDDEN", KEY),
    # Apollo Router.
    ("GRAPHQL_UNKNOWN_OPERATION_NAME", ASKED),
    ("PARSING_ERROR", ASKED),
    ("QUERY_PLAN_COMPLEXITY_EXCEEDED", ASKED),
    ("CANNOT_SEND_PQ_ID_AND_BODY", ASKED),
    ("CONNECTOR_FETCH", AGAIN),
    ("COST_ESTIMATED_TOO_EXPENSIVE", ASKED),
    ("SUBGRAPH_COST_ESTIMATED_TOO_EXPENSIVE", ASKED),
    ("COST_ACTUAL_TOO_EXPENSIVE", ASKED),
    ("COST_QUERY_PARSE_FAILURE", ASKED),
    ("COST_RESPONSE_TYPING_FAILURE", THEIRS),
    ("GATEWAY_TIMEOUT", AGAIN),
    ("HTTP_CLIENT_ERROR", AGAIN),
    ("MAX_ALIASES_LIMIT", ASKED),
    ("MAX_DEPTH_LIMIT", ASKED),
    ("MAX_HEIGHT_LIMIT", ASKED),
    ("MAX_ROOT_FIELDS_LIMIT", ASKED),
    ("QUERY_NOT_IN_SAFELIST", ASKED),
    ("PERSISTED_QUERY_HASH_MISMATCH", ASKED),
    ("PERSISTED_QUERY_NOT_IN_LIST", ASKED),
    ("PERSISTED_QUERY_ID_REQUIRED", ASKED),
    ("REQUEST_LIMIT_EXCEEDED", ASKED),
    ("RESPONSE_VALIDATION_FAILED", THEIRS),
    ("SUBREQUEST_HTTP_ERROR", AGAIN),
    ("UNAUTHORIZED_FIELD_OR_TYPE", KEY),
    ("VALIDATION_INVALID_TYPE_VARIABLE", ASKED),
    # Rate limits, under the names in use.
    ("REQUEST_RATE_LIMITED", LIMITED),
    ("RATE_LIMITED", LIMITED),
    ("RATE_LIMIT_EXCEEDED", LIMITED),
    ("RATELIMITED", LIMITED),
    ("THROTTLED", LIMITED),
    ("TOO_MANY_REQUESTS", LIMITED),
    # Nobody's, which may mean anything.
    ("OUT_OF_CHEESE", ASKED),
]
# GitHub has them in the error's type.
TYPES = [
    ("RATE_LIMITED", LIMITED),
    ("FORBIDDEN", KEY),
    ("INSUFFICIENT_SCOPES", KEY),
    ("NOT_FOUND", ASKED),
    ("UNPROCESSABLE", ASKED),
    ("MAX_NODE_LIMIT_EXCEEDED", ASKED),
    ("undefinedField", ASKED),
]


def meant(verdict: Verdict) -> Means:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def failed(**error: Any) -> dict[str, Any]:
    return {"data": None, "errors": [{"message": "No.", **error}]}


def inside(value: object) -> Signal:
    assert dialect.RULES.by_result is not None
    signal = dialect.RULES.by_result(value)
    assert signal is not None
    return signal


@pytest.mark.parametrize(("code", "means"), CODES)
def test_each_documented_code_means_what_its_page_says(code: str, means: Means) -> None:
    answer = failed(extensions={"code": code})

    assert means == meant(dialect.RULES.classify(inside(answer)))
    for client in (httpx, httpx2):
        assert means == meant(dialect.RULES.classify(inside(client.Response(200, json=answer))))
    # With application/graphql-response+json a request error has a status, and the code still decides (D2).
    if code != "OUT_OF_CHEESE":
        for status in (400, 401, 500, 503):
            assert means == meant(dialect.RULES.classify(read(httpx2.Response(status, json=answer))))


@pytest.mark.parametrize(("kind", "means"), TYPES)
def test_each_type_means_what_a_code_would(kind: str, means: Means) -> None:
    assert means == meant(dialect.RULES.classify(inside(failed(type=kind))))


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 408, 415, 422, 429, 500, 501, 502, 503, 504])
def test_a_status_without_a_known_code_means_what_it_does_in_http(status: int) -> None:
    """ "GraphQL over HTTP": such a response may come from an intermediary."""
    signal = read(httpx2.Response(status, json={"errors": [{"message": "No."}]}))

    assert meant(http.RULES.classify(signal)) == meant(dialect.RULES.classify(signal))


@pytest.mark.anyio
async def test_an_answer_that_asks_to_slow_down_is_asked_again_when_it_said(world: World) -> None:
    """inyutin/aiohttp_retry 39, redress 34: errors inside a 200 (D2); D3."""
    cost = {"cost": {"requestedQueryCost": 252, "throttleStatus": {"currentlyAvailable": 2, "restoreRate": 50}}}
    throttled = {"errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}], "extensions": cost}
    fetch = script(throttled, {"data": {"me": 1}})

    assert {"data": {"me": 1}} == await Engine([Retry()], rules=dialect.RULES, env=world.env).call(fetch)
    assert 2 == fetch.calls
    assert 5.0 <= world.slept[0] < 6.5


@pytest.mark.anyio
async def test_a_token_that_expired_inside_a_200_is_renewed_once(world: World) -> None:
    async def login(stale: str | None) -> str:
        return "new"

    fetch = script(failed(extensions={"code": "UNAUTHENTICATED"}), {"data": {"me": 1}})
    engine = Engine([RefreshToken(login, token="old"), Retry()], rules=dialect.RULES, env=world.env)

    assert {"data": {"me": 1}} == await engine.call(fetch)
    assert (2, []) == (fetch.calls, world.slept)


@pytest.mark.anyio
async def test_partial_data_is_handed_over_as_it_came(world: World) -> None:
    answer = {
        "data": {"me": 1, "you": None},
        "errors": [{"message": "No.", "path": ["you"], "extensions": {"code": "INTERNAL_SERVER_ERROR"}}],
    }
    fetch = script(answer)

    assert answer is await Engine([Retry()], rules=dialect.RULES, env=world.env).call(fetch)
    assert (1, []) == (fetch.calls, world.names("attempt.failed"))


@pytest.mark.anyio
@pytest.mark.parametrize(("answer", "requests"), [("refused", 2), ("begun", 1)])
async def test_a_mutation_is_sent_again_only_if_it_was_refused_before_it_began(answer: str, requests: int) -> None:
    """D4: over a real client, POST by POST; its body is read before the engine looks at it."""
    first = {"errors": [{"message": "No.", "extensions": {"code": "THROTTLED" if answer == "refused" else "INTERNAL_SERVER_ERROR"}}]}
    world = World()
    sent: list[httpx2.Request] = []

    def answers(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, json=first if len(sent) == 1 else {"data": {"paid": True}})

    engine = Engine([Retry()], rules=dialect.RULES, env=world.env)
    async with ResilientClient(engine, transport=httpx2.MockTransport(answers)) as client:
        response = await client.post("https://api.example/graphql", json={"query": "mutation { pay }"})

    assert requests == len(sent)
    assert response.json() == ({"data": {"paid": True}} if requests == 2 else first)
