"""Every status and every code that the CallMissed documentation names, in all three envelopes."""

from __future__ import annotations

import json
from typing import Any

import attrs
import httpx2
import pytest

from resilience import Action, Blame, Engine, Exponential, Phase, Retry, callmissed, read
from resilience.dialects import callmissed as dialect
from resilience.testing import World, script

RETRY, FAIL_FAST, REFRESH = Action.RETRY, Action.FAIL_FAST, Action.REFRESH_TOKEN

# status, action, attempts in all, throttled, whom it blames: the provider's page on errors.
STATUSES = [
    (400, FAIL_FAST, None, False, Blame.CALLER),
    (401, REFRESH, None, False, Blame.CREDENTIAL),
    (402, FAIL_FAST, None, False, Blame.CALLER),
    (403, FAIL_FAST, None, False, Blame.CREDENTIAL),
    (404, FAIL_FAST, None, False, Blame.CALLER),
    (409, FAIL_FAST, None, False, Blame.CALLER),
    (422, FAIL_FAST, None, False, Blame.CALLER),
    (429, RETRY, None, True, Blame.PEER),
    (500, RETRY, 2, False, Blame.PEER),
    (501, FAIL_FAST, None, False, Blame.CALLER),
    (503, RETRY, 3, False, Blame.PEER),
]
# code, its status, action, attempts in all, throttled: the same page.
CODES = [
    ("invalid_api_key", 401, FAIL_FAST, None, False),
    ("token_expired", 401, REFRESH, None, False),
    ("insufficient_credits", 402, FAIL_FAST, None, False),
    ("budget_exceeded", 402, FAIL_FAST, None, False),
    ("permission_denied", 403, FAIL_FAST, None, False),
    ("search_provider_not_allowed", 403, FAIL_FAST, None, False),
    ("domain_not_allowed", 403, FAIL_FAST, None, False),
    ("not_found", 404, FAIL_FAST, None, False),
    ("rate_limit_exceeded", 429, RETRY, None, True),
    ("provider_error", 503, RETRY, 3, False),
]


def native(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": "for people", "type": "some_error"}}


def openai(code: str | None, kind: str = "some_error") -> dict[str, Any]:
    return {"error": {"message": "for people", "type": kind, "param": None, "code": code}}


def anthropic(kind: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": "for people"}}


def response(status: int, body: object = None, headers: dict[str, str] | None = None) -> httpx2.Response:
    return httpx2.Response(status, content=b"" if body is None else json.dumps(body).encode(), headers=headers)


@pytest.mark.parametrize(("status", "action", "attempts", "throttled", "blames"), STATUSES)
def test_each_documented_status_means_what_the_page_says(
    status: int, action: Action, attempts: int | None, throttled: bool, blames: Blame
) -> None:
    verdict = dialect.RULES.classify(read(response(status), wall=0))

    assert (action, attempts, throttled, blames) == (verdict.action, verdict.attempts, verdict.throttled, verdict.blames)
    assert f"callmissed: status {status}" == verdict.rule


@pytest.mark.parametrize(("code", "status", "action", "attempts", "throttled"), CODES)
def test_each_documented_code_means_what_the_page_says_in_both_families(
    code: str, status: int, action: Action, attempts: int | None, throttled: bool
) -> None:
    for envelope in (native(code), openai(code)):
        verdict = dialect.RULES.classify(read(response(status, envelope), wall=0))
        assert (action, attempts, throttled) == (verdict.action, verdict.attempts, verdict.throttled)
        assert f"callmissed: code {code}" == verdict.rule


@pytest.mark.parametrize(("code", "status", "action", "attempts", "throttled"), CODES)
def test_a_code_decides_even_under_a_status_that_says_something_else(
    code: str, status: int, action: Action, attempts: int | None, throttled: bool
) -> None:
    """D2."""
    for other in (400, 418, 500):
        verdict = dialect.RULES.classify(read(response(other, native(code)), wall=0))
        assert (action, attempts, throttled) == (verdict.action, verdict.attempts, verdict.throttled)


@pytest.mark.parametrize(
    ("status", "body", "rule"),
    [
        (402, openai(None, "billing_error"), "callmissed: kind billing_error"),
        (429, openai(None, "rate_limit_error"), "callmissed: status 429"),
        (401, anthropic("authentication_error"), "callmissed: status 401"),
        (429, anthropic("rate_limit_error"), "callmissed: status 429"),
        (503, anthropic("provider_error"), "callmissed: kind provider_error"),
        (401, anthropic("token_expired"), "callmissed: kind token_expired"),
    ],
)
def test_where_the_code_is_null_or_the_envelope_has_none_the_type_has_to_serve(status: int, body: object, rule: str) -> None:
    assert rule == dialect.RULES.classify(read(response(status, body), wall=0)).rule


def test_a_rate_limit_says_for_how_long_and_that_nothing_was_done() -> None:
    signal = read(response(429, native("rate_limit_exceeded"), {"Retry-After": "43", "X-RateLimit-Remaining": "0"}), wall=0)

    assert (43.0, Phase.REFUSED) == (signal.retry_after, signal.phase)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "code", "tries"),
    [
        (500, None, 2),
        (503, None, 3),
        (503, "provider_error", 3),
        (429, "rate_limit_exceeded", 9),
        (402, "insufficient_credits", 1),
        (409, None, 1),
        (501, None, 1),
    ],
)
async def test_the_caps_of_the_page_hold_under_a_retry_that_would_go_on(world: World, status: int, code: str | None, tries: int) -> None:
    answer = response(status, None if code is None else native(code))
    asked = script(*[answer] * 20)
    engine = Engine([Retry(attempts=9, backoff=Exponential(0.1))], rules=dialect.RULES, env=world.env)

    assert answer is await engine.call(asked)
    assert tries == asked.calls


@pytest.mark.anyio
async def test_a_cap_counts_the_tries_that_end_in_its_own_rule(world: World) -> None:
    """D30, design-review 14: 503, 500, 500: the 500s are two, and the last."""
    answers = [response(503), response(500), response(500), response(200)]
    asked = script(*answers)
    engine = Engine([Retry(attempts=9)], rules=dialect.RULES, env=world.env)

    assert answers[2] is await engine.call(asked)


@pytest.mark.anyio
async def test_the_ready_made_engine_is_the_one_of_the_documentation(world: World) -> None:
    async def login(stale: str | None) -> str:
        return "token"

    engine = callmissed.engine(login, env=world.env)

    assert ["Deadline", "IdempotencyKey", "RefreshToken", "Retry", "CircuitBreaker", "AttemptTimeout"] == [
        type(policy).__name__ for policy in engine.policies
    ]
    assert "doubtful" not in engine.describe()
    assert "ok" == await engine.call(script("ok"))


def test_with_an_api_key_there_is_nothing_to_refresh() -> None:
    assert "RefreshToken" not in callmissed.engine().describe()

    with pytest.raises(ValueError, match="callmissed.engine: token: "):
        callmissed.engine(token="t")


def test_any_entry_can_be_overridden_and_the_rest_stays() -> None:
    """D2: a provider that says "insufficient credits" for a limit by the minute."""
    rules = dialect.RULES.extend("ours", by_code={(429, "insufficient_credits"): attrs.evolve(dialect.RULES.by_status[429])})

    assert RETRY is rules.classify(read(response(429, native("insufficient_credits")), wall=0)).action
    assert FAIL_FAST is rules.classify(read(response(402, native("insufficient_credits")), wall=0)).action
    assert "ours: code 429 insufficient_credits" == rules.classify(read(response(429, native("insufficient_credits")), wall=0)).rule
