"""
Every status and code that Shopify documents for its Admin API.

Expectations: shopify.dev, "Status and error codes" of the GraphQL Admin API (with its sample responses, used here), "API response status
and error codes" and "API limits".
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import httpx2
import pytest

from resilience import Action, Blame, Engine, Phase, Retry, Signal, Verdict, read
from resilience.dialects import shopify as dialect
from resilience.testing import World, script

Means = tuple[Action, int | None, bool, Blame]  # what to do, tries in all, whether less is asked for, whom it speaks against

ASKED: Means = (Action.FAIL_FAST, None, False, Blame.CALLER)
SHOP = ASKED
KEY: Means = (Action.FAIL_FAST, None, False, Blame.CREDENTIAL)
BUSY: Means = (Action.RETRY, None, True, Blame.PEER)
LIMITED: Means = (Action.RETRY, None, True, Blame.CALLER)
AGAIN: Means = (Action.RETRY, None, False, Blame.PEER)
ONCE_MORE: Means = (Action.RETRY, 2, False, Blame.PEER)
REFRESH: Means = (Action.REFRESH_TOKEN, None, False, Blame.CREDENTIAL)

CODES = [
    ("THROTTLED", LIMITED),
    ("ACCESS_DENIED", KEY),
    ("SHOP_INACTIVE", SHOP),
    ("INTERNAL_SERVER_ERROR", ONCE_MORE),
    ("MAX_COST_EXCEEDED", ASKED),
]
STATUSES = [
    (400, ASKED),
    (401, REFRESH),
    (402, SHOP),
    (403, KEY),
    (404, ASKED),
    (405, ASKED),
    (406, ASKED),
    (409, ASKED),
    (414, ASKED),
    (415, ASKED),
    (422, ASKED),
    (423, SHOP),
    (429, BUSY),
    (430, ASKED),
    (500, ONCE_MORE),
    (501, ASKED),
    (502, AGAIN),
    (503, AGAIN),
    (504, ONCE_MORE),
    (530, AGAIN),
    (540, AGAIN),
]
THROTTLED: dict[str, Any] = {
    "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED", "documentation": "https://shopify.dev/api/usage/limits"}}],
    "extensions": {
        "cost": {
            "requestedQueryCost": 752,
            "actualQueryCost": None,
            "throttleStatus": {"maximumAvailable": 1000.0, "currentlyAvailable": 666, "restoreRate": 50.0},
        }
    },
}
TOO_COSTLY: dict[str, Any] = {
    "errors": [
        {
            "message": "Query cost is 2003, which exceeds the single query max cost limit (1000).",
            "extensions": {"code": "MAX_COST_EXCEEDED", "cost": 2003, "maxCost": 1000},
        }
    ]
}


def meant(verdict: Verdict) -> Means:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def inside(value: object) -> Signal:
    assert dialect.RULES.by_result is not None
    signal = dialect.RULES.by_result(value)
    assert signal is not None
    return signal


@pytest.mark.parametrize(("code", "means"), CODES)
def test_each_documented_code_means_what_its_page_says(code: str, means: Means) -> None:
    answer = {"errors": [{"message": "No.", "extensions": {"code": code}}]}

    for value in (answer, json.dumps(answer), httpx.Response(200, json=answer), httpx2.Response(200, json=answer)):
        verdict = dialect.RULES.classify(inside(value))
        assert (means, f"shopify: code {code}") == (meant(verdict), verdict.rule)


@pytest.mark.parametrize(("status", "means"), STATUSES)
@pytest.mark.parametrize("errors", ["Unavailable Shop", {"title": ["can't be blank"]}, None])
def test_each_documented_status_means_what_its_page_says(status: int, means: Means, errors: object) -> None:
    for client in (httpx, httpx2):
        signal = read(client.Response(status, json={"errors": errors}))
        assert means == meant(dialect.RULES.classify(signal))
        assert signal.message == (errors if isinstance(errors, str) else None)


def test_a_status_that_http_does_not_have_fails_fast() -> None:
    """783, "Unexpected Token": the request includes a JSON syntax error."""
    assert ASKED == meant(dialect.RULES.classify(Signal(status=read(httpx2.Response(783)).status)))


@pytest.mark.parametrize("make", [dict, json.dumps, lambda answer: httpx2.Response(200, json=answer)])
def test_a_throttled_query_says_when_it_can_be_paid_for_and_that_nothing_was_done(make: Any) -> None:
    """752 points are asked for, 666 are there, and 50 come back each second."""
    signal = inside(make(THROTTLED))

    assert (1.72, Phase.REFUSED) == (signal.retry_after, signal.phase)


def test_rest_says_in_its_header_when_to_come_back() -> None:
    """ "API limits": Retry-After, with a fraction."""
    assert 2.0 == read(httpx2.Response(429, json={"errors": "Exceeded 2 calls per second"}, headers={"Retry-After": "2.0"})).retry_after


@pytest.mark.anyio
@pytest.mark.parametrize(("answer", "calls"), [(THROTTLED, 2), (TOO_COSTLY, 1)])
async def test_a_query_that_cannot_be_afforded_ever_is_not_waited_for(world: World, answer: Any, calls: int) -> None:
    """D2: both are about cost, and both come inside a 200."""
    fetch = script(answer, {"data": {"shop": 1}})

    value = await Engine([Retry()], rules=dialect.RULES, env=world.env).call(fetch)

    assert (calls, calls == 1) == (fetch.calls, value is answer)
    assert all(slept >= 1.72 for slept in world.slept)
