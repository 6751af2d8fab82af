"""
Every code and status of Azure OpenAI, beside those of OpenAI, as a response and as the SDK's exception.

Expectations, from learn.microsoft.com: "Troubleshoot common errors in Azure OpenAI in Microsoft Foundry Models", "Content filtering",
"Content Safety error codes", "Provisioned throughput" on 429, and bodies that users report.
"""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest

from resilience import Action, Blame, Engine, RefreshToken, Retry, Verdict, read
from resilience.dialects import azure_openai as dialect
from resilience.dialects import openai as base
from resilience.testing import World, script

Means = tuple[Action, int | None, bool, Blame]  # what to do, tries in all, whether less is asked for, whom it speaks against

ASKED: Means = (Action.FAIL_FAST, None, False, Blame.CALLER)
KEY: Means = (Action.FAIL_FAST, None, False, Blame.CREDENTIAL)
BUSY: Means = (Action.RETRY, None, True, Blame.PEER)
AGAIN: Means = (Action.RETRY, None, False, Blame.PEER)
REFRESH: Means = (Action.REFRESH_TOKEN, None, False, Blame.CREDENTIAL)

CODES = [
    ("ResponsibleAIPolicyViolation", 400, ASKED),
    ("DeploymentNotFound", 404, ASKED),
    ("OperationNotSupported", 400, ASKED),
    ("PermissionDenied", 401, KEY),
    ("AuthenticationTypeDisabled", 403, KEY),
    ("Forbidden", 403, KEY),
    ("Unauthorized", 401, REFRESH),
    ("RateLimitReached", 429, BUSY),
    ("TooManyRequests", 429, BUSY),
    ("too_many_requests", 429, BUSY),
    ("NoCapacity", 429, BUSY),
    ("ServerBusy", 503, BUSY),
    ("ServiceUnavailable", 503, BUSY),
    ("InternalError", 500, AGAIN),
    ("InternalServerError", 500, AGAIN),
    ("InsufficientQuota", 400, ASKED),
    ("QuotaExceeded", 429, ASKED),
]

# The page has them by status; the code in the body is the status once more.
STATUSES = [
    (400, "Bad request", ASKED, "http: status 4xx"),
    (401, "Unauthorized. Access token is missing, invalid, audience is incorrect, or have expired.", REFRESH, "azure_openai: status 401"),
    (403, "Public access is disabled. Please configure private endpoint.", KEY, "http: status 403"),
    (404, "Resource not found", ASKED, "http: status 4xx"),
    (408, "The operation was timeout.", AGAIN, "http: status 408"),
    (424, "Error retrieving tool list from MCP server", (Action.RETRY, 2, False, Blame.PEER), "azure_openai: status 424"),
    (429, "Requests have exceeded token rate limit of your current OpenAI S0 pricing tier.", BUSY, "http: status 429"),
    (500, "Internal server error", AGAIN, "http: status 5xx"),
    (503, "The service is temporarily unable to process your request.", BUSY, "openai: status 503"),
]

MESSAGES = [
    (
        "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription.",
        401, KEY, "401 invalid subscription key",
    ),
    ("Out of call volume quota. Quota will be replenished in 12.00:00:00.", 403, ASKED, "403 out of call volume quota"),
]  # fmt: skip

SDK = openai.AzureOpenAI(api_key="k", api_version="v1", azure_endpoint="https://x.openai.azure.com")
REQUEST = httpx2.Request("POST", "https://x.openai.azure.com/openai/deployments/gpt/chat/completions?api-version=v1")


def means(verdict: Verdict) -> Means:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def envelope(code: str, message: str = "for people", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message} | more}


def response(status: int, body: object = None, headers: dict[str, str] | None = None) -> httpx2.Response:
    content = b"" if body is None else json.dumps(body).encode()
    return httpx2.Response(status, content=content, headers={"content-type": "application/json"} | (headers or {}), request=REQUEST)


def raised(answer: httpx2.Response) -> openai.APIStatusError:
    """What the SDK makes of it."""
    return SDK._make_status_error_from_response(answer)


def classified(failure: object) -> Verdict:
    return dialect.RULES.classify(read(failure, wall=0))


@pytest.mark.parametrize(("code", "status", "meaning"), CODES)
def test_each_code_means_what_its_page_says(code: str, status: int, meaning: Means) -> None:
    """D2: whatever the status says."""
    for answered in (status, 400, 429, 500):
        answer = response(answered, envelope(code))
        for failure in (answer, raised(answer)):
            verdict = classified(failure)
            assert (meaning, f"azure_openai: code {code}") == (means(verdict), verdict.rule)


@pytest.mark.parametrize(("status", "message", "meaning", "rule"), STATUSES)
def test_where_the_code_is_the_status_once_more_the_status_decides(status: int, message: str, meaning: Means, rule: str) -> None:
    """Of the gateway in front there is ``{"statusCode": 401, "message": ...}``, too."""
    for body in (None, envelope(str(status), message), {"statusCode": status, "message": message}):
        for failure in (response(status, body), raised(response(status, body))):
            verdict = classified(failure)
            assert (meaning, rule) == (means(verdict), verdict.rule)


@pytest.mark.parametrize(("message", "status", "meaning", "entry"), MESSAGES)
def test_words_tell_a_key_that_is_wrong_from_a_token_that_has_expired(message: str, status: int, meaning: Means, entry: str) -> None:
    answer = response(status, envelope(str(status), message))

    for failure in (answer, raised(answer)):
        verdict = classified(failure)
        assert (meaning, f"azure_openai: message {entry}") == (means(verdict), verdict.rule)


def test_a_prompt_that_was_filtered_is_not_sent_again() -> None:
    """ "Content filtering": the code, and an inner error that says which filter it was."""
    inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"jailbreak": {"filtered": True, "detected": True}}}
    answer = response(400, envelope("content_filter", type=None, param="prompt", status=400, innererror=inner))

    for failure in (answer, raised(answer)):
        verdict = classified(failure)
        assert (ASKED, "openai: code content_filter") == (means(verdict), verdict.rule)


def test_an_inner_error_alone_says_enough() -> None:
    inner = {"code": "ResponsibleAIPolicyViolation"}

    for body in (envelope("400", innererror=inner), envelope("new_in_2027", innererror=inner)):
        for failure in (response(400, body), raised(response(400, body))):
            verdict = classified(failure)
            assert ASKED == means(verdict)
            assert verdict.rule.endswith(" ResponsibleAIPolicyViolation")


def test_a_wait_in_milliseconds_is_exact() -> None:
    """ "Follow the retry-after-ms header when present"."""
    answer = response(429, envelope("429"), {"retry-after-ms": "1250", "retry-after": "2"})

    assert [1.25, 1.25] == [read(failure, wall=0).retry_after for failure in (answer, raised(answer))]


def test_everything_else_is_as_with_openai() -> None:
    for table in ("by_code", "by_kind", "by_status", "by_error"):
        for key, verdict in getattr(base.RULES, table).items():
            assert means(verdict) == means(getattr(dialect.RULES, table)[key])
    assert base.RULES.creates_nothing is dialect.RULES.creates_nothing
    assert base.RULES.by_item is dialect.RULES.by_item


def test_no_entry_is_untested() -> None:
    tables = (dialect.RULES.by_code, dialect.RULES.by_message, dialect.RULES.by_kind, dialect.RULES.by_status, dialect.RULES.by_error)
    own = {verdict.rule for table in tables for verdict in table.values() if verdict.rule.startswith("azure_openai: ")}
    tested = {
        *(f"azure_openai: code {code}" for code, *_ in CODES),
        *(rule for *_, rule in STATUSES if rule.startswith("azure_openai: ")),
        *(f"azure_openai: message {entry}" for *_, entry in MESSAGES),
        "azure_openai: kind ResponsibleAIPolicyViolation",  # the inner error's code where the outer one is unknown
    }

    assert tested == own


@pytest.mark.anyio
async def test_a_token_of_entra_that_has_expired_is_renewed_once(world: World) -> None:
    """D6."""
    renewed: list[str | None] = []

    async def token(stale: str | None) -> str:
        renewed.append(stale)
        return "token"

    expired = raised(response(401, {"statusCode": 401, "message": STATUSES[1][1]}))
    asked = script(expired, "ok")
    engine = Engine([RefreshToken(token, token="stale"), Retry()], rules=dialect.RULES, env=world.env)

    assert "ok" == await engine.call(asked)
    assert 1 == len(renewed)
    assert 2 == asked.calls
