"""
Every code and status of the Gemini API, in both of its ways to name them, and of Gemini on Vertex AI.

Expectations: "Troubleshooting", "GenerateContent API: API errors", "Interactions API: API errors" and "Rate limits"
(ai.google.dev/gemini-api/docs), "API errors" of generative AI on Vertex AI (docs.cloud.google.com).  The SDK (google-genai) is not among
the packages that the suite is run with; its ``APIError`` is stood in for by its shape.
"""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from resilience import Action, Blame, Engine, Retry, Verdict, read
from resilience.dialects import gemini as dialect
from resilience.dialects import google as base
from resilience.testing import World, script

Means = tuple[Action, int | None, bool, Blame]  # what to do, tries in all, whether less is asked for, whom it speaks against

ASKED: Means = (Action.FAIL_FAST, None, False, Blame.CALLER)
MONEY = ASKED
KEY: Means = (Action.FAIL_FAST, None, False, Blame.CREDENTIAL)
BUSY: Means = (Action.RETRY, None, True, Blame.PEER)
ONCE_MORE: Means = (Action.RETRY, 2, False, Blame.PEER)
TWICE_MORE: Means = (Action.RETRY, 3, False, Blame.PEER)  # Vertex AI: "no more than two times"
REFRESH: Means = (Action.REFRESH_TOKEN, None, False, Blame.CREDENTIAL)

# "GenerateContent API: API errors" and "API errors" of Vertex AI: status, name, what it means, the entry.
GENERATE_CONTENT = [
    (400, "INVALID_ARGUMENT", ASKED, "google: code INVALID_ARGUMENT"),
    (400, "FAILED_PRECONDITION", ASKED, "google: code FAILED_PRECONDITION"),
    (401, "UNAUTHENTICATED", REFRESH, "google: code UNAUTHENTICATED"),
    (402, "RESOURCE_EXHAUSTED", MONEY, "gemini: code 402 RESOURCE_EXHAUSTED"),
    (403, "PERMISSION_DENIED", KEY, "google: code PERMISSION_DENIED"),
    (404, "NOT_FOUND", ASKED, "google: code NOT_FOUND"),
    (429, "RESOURCE_EXHAUSTED", BUSY, "google: kind RESOURCE_EXHAUSTED"),
    (499, "CANCELLED", ASKED, "google: code CANCELLED"),
    (500, "INTERNAL", TWICE_MORE, "gemini: code INTERNAL"),
    (500, "UNKNOWN", TWICE_MORE, "gemini: code UNKNOWN"),
    (503, "UNAVAILABLE", BUSY, "gemini: code UNAVAILABLE"),
    (504, "DEADLINE_EXCEEDED", ONCE_MORE, "google: code DEADLINE_EXCEEDED"),
]

# "Interactions API: API errors": code, its status, what it means.
INTERACTIONS = [
    ("invalid_request", 400, ASKED),
    ("failed_precondition", 400, ASKED),
    ("out_of_range", 416, ASKED),
    ("parameter_unknown", 400, ASKED),
    ("authentication", 401, REFRESH),
    ("payment_required", 402, MONEY),
    ("permission_denied", 403, KEY),
    ("not_found", 404, ASKED),
    ("model_not_found", 404, ASKED),
    ("already_exists", 409, ASKED),
    ("aborted", 409, ASKED),
    ("rate_limit_exceeded", 429, BUSY),
    ("too_many_requests", 429, BUSY),
    ("quota_exceeded", 429, ASKED),
    ("cancelled", 499, ASKED),
    ("api_error", 500, TWICE_MORE),
    ("service_unavailable", 503, BUSY),
    ("deadline_exceeded", 504, ONCE_MORE),
]

QUOTA_EXCEEDED = (
    "You exceeded your current quota, please check your plan and billing details. For more information on this error, head to: "
    "https://ai.google.dev/gemini-api/docs/rate-limits. To monitor your current usage, head to: https://ai.dev/rate-limit. \n"
    "* Quota exceeded for metric: generativelanguage.googleapis.com/generate_content_free_tier_requests, limit: {limit}, model: gemini-3\n"
    "Please retry in 45.578569677s."
)


def means(verdict: Verdict) -> Means:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def envelope(status: int, name: str, *details: dict[str, Any], message: str = "for people") -> dict[str, Any]:
    return {"error": {"code": status, "message": message, "status": name} | ({"details": list(details)} if details else {})}


def interaction(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": "for people"}}


def quota(name: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": name, "quotaDimensions": {"model": "m"}}]}


def response(status: int, body: object = None) -> httpx2.Response:
    return httpx2.Response(status, content=b"" if body is None else json.dumps(body).encode())


class ApiError(Exception):
    """In the shape of ``google.genai.errors.APIError``: the number, the name and the parsed body as attributes."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(f"{status}")
        self.code = status
        self.status = body["error"].get("status")
        self.message = body["error"]["message"]
        self.details = body


def classified(failure: object) -> Verdict:
    return dialect.RULES.classify(read(failure, wall=0))


def in_a_stream(item: object) -> Verdict:
    assert dialect.RULES.by_item is not None
    signal = dialect.RULES.by_item(item)
    assert signal is not None
    return dialect.RULES.classify(signal)


@pytest.mark.parametrize(("status", "name", "meaning", "rule"), GENERATE_CONTENT)
def test_each_status_of_generate_content_means_what_its_page_says(status: int, name: str, meaning: Means, rule: str) -> None:
    body = envelope(status, name)

    for verdict in (classified(response(status, body)), classified(ApiError(status, body))):
        assert (meaning, rule) == (means(verdict), verdict.rule)
    if status != 402:  # of which a stream, which began with 200, knows nothing
        assert (meaning, rule) == (means(in_a_stream(body)), in_a_stream(f"data: {json.dumps(body)}").rule)


def test_what_a_stream_is_asked_for_is_no_failure() -> None:
    assert dialect.RULES.by_item is not None
    for item in ({"candidates": [{"content": {"parts": [{"text": "error"}]}}]}, 'data: {"event_type": "content.delta"}'):
        assert dialect.RULES.by_item(item) is None


@pytest.mark.parametrize("name", ["INTERNAL", "UNKNOWN", "UNAVAILABLE"])
def test_a_name_serves_as_a_kind_beside_a_reason_that_is_new(name: str) -> None:
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "NEW_IN_2027"}

    assert f"gemini: kind {name}" == classified(response(500, envelope(500, name, detail))).rule


@pytest.mark.parametrize(("code", "status", "meaning"), INTERACTIONS)
def test_each_code_of_interactions_means_what_its_page_says(code: str, status: int, meaning: Means) -> None:
    """As a response, as an event of a stream that began with 200, and whatever the status says (D2)."""
    event = {"event_type": "error"} | interaction(code)

    failures = [response(answered, interaction(code)) for answered in (status, 400, 500)]
    for verdict in (*map(classified, failures), in_a_stream(event), in_a_stream(f"data: {json.dumps(event)}")):
        assert (meaning, f"gemini: code {code}") == (means(verdict), verdict.rule)


@pytest.mark.parametrize(
    ("name", "meaning"),
    [
        ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", ASKED),
        ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", BUSY),
        ("GenerateContentInputTokensPerModelPerMinute-FreeTier", BUSY),
    ],
)
def test_a_limit_by_the_minute_passes_and_one_by_the_day_does_not(name: str, meaning: Means) -> None:
    """ "Rate limits": those by the day are reset at midnight, Pacific time."""
    body = envelope(429, "RESOURCE_EXHAUSTED", quota(name), message=QUOTA_EXCEEDED.format(limit=20))

    for failure in (response(429, body), ApiError(429, body)):
        assert meaning == means(classified(failure))


def test_a_limit_of_none_at_all_is_not_waited_for() -> None:
    minute = quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")

    for details in ((), (minute,)):
        verdict = classified(response(429, envelope(429, "RESOURCE_EXHAUSTED", *details, message=QUOTA_EXCEEDED.format(limit=0))))
        assert (MONEY, "gemini: message 429 limit: 0") == (means(verdict), verdict.rule)
    for limit in (10, 50):
        assert BUSY == means(classified(response(429, envelope(429, "RESOURCE_EXHAUSTED", message=QUOTA_EXCEEDED.format(limit=limit)))))


def test_credits_that_are_used_up_are_not_waited_for_whatever_the_status() -> None:
    """ "Don't retry this request: it won't succeed until credits are added"."""
    message = "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing."

    verdict = classified(response(429, envelope(429, "RESOURCE_EXHAUSTED", message=message)))
    assert (MONEY, "gemini: message credits are depleted") == (means(verdict), verdict.rule)
    assert MONEY == means(classified(response(402, envelope(402, "RESOURCE_EXHAUSTED", message=message))))


def test_a_key_that_is_not_valid_is_a_400_and_blames_the_key() -> None:
    """The example of the page."""
    detail = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}
    body = envelope(400, "INVALID_ARGUMENT", detail, message="API key not valid. Please pass a valid API key.")

    for failure in (response(400, body), ApiError(400, body)):
        assert KEY == means(classified(failure))


def test_a_service_that_is_overloaded_is_asked_for_less_even_without_a_body() -> None:
    verdict = classified(response(503))

    assert (BUSY, "gemini: status 503") == (means(verdict), verdict.rule)


def test_everything_else_is_as_with_googles_other_apis() -> None:
    for table in ("by_code", "by_message", "by_kind", "by_status", "by_error"):
        for key, verdict in getattr(base.RULES, table).items():
            own = getattr(dialect.RULES, table)[key]
            assert verdict == own or own.rule.startswith("gemini: ")


def test_no_entry_is_untested() -> None:
    tables = (dialect.RULES.by_code, dialect.RULES.by_message, dialect.RULES.by_kind, dialect.RULES.by_status, dialect.RULES.by_error)
    own = {verdict.rule for table in tables for verdict in table.values() if verdict.rule.startswith("gemini: ")}
    tested = {
        *(rule for *_, rule in GENERATE_CONTENT if rule.startswith("gemini: ")),
        *(f"gemini: code {code}" for code, *_ in INTERACTIONS),
        *(f"gemini: kind {name}" for name in ("INTERNAL", "UNKNOWN", "UNAVAILABLE")),
        "gemini: message 429 limit: 0",
        "gemini: message credits are depleted",
        "gemini: status 503",
    }

    assert tested == own


@pytest.mark.parametrize(
    "prefix",
    [
        "/v1beta/models/gemini-3-flash:",
        "/v1beta/tunedModels/mine:",
        "/v1/projects/p/locations/us-central1/publishers/google/models/gemini-3-flash:",
        "/v1/projects/p/locations/l/endpoints/1:",
        "/proxy/gemini/v1/models/gemini-3-flash:",
        "models/gemini-3-flash:",  # as it stands in a call, relative to a base
    ],
)
@pytest.mark.parametrize(
    "verb",
    [
        "generateContent", "streamGenerateContent", "countTokens", "computeTokens", "embedContent", "batchEmbedContents", "generateAnswer",
        "predict",
    ],
)  # fmt: skip
def test_what_only_the_model_runs_for_creates_nothing(prefix: str, verb: str) -> None:
    creates_nothing = dialect.RULES.creates_nothing

    assert creates_nothing is not None
    assert creates_nothing("POST", prefix + verb)
    assert not creates_nothing("PATCH", prefix + verb)


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "generateContent", "/v1beta/models", "/v1beta/models/m", "/v1beta/models/generateContent",
        "/v1beta/models/m:generateContent/operations", "/v1beta/models/m:generateContents", "/v1beta/models/m:batchGenerateContent",
        "/v1beta/models/m:asyncBatchEmbedContent", "/v1/projects/p/locations/l/publishers/google/models/veo:predictLongRunning",
        "/v1beta/interactions", "/v1beta/files", "/upload/v1beta/files", "/v1beta/cachedContents", "/v1beta/tunedModels",
        "/v1beta/corpora/c/documents", "/v1beta/batches/b:cancel",
    ],
)  # fmt: skip
def test_what_is_there_afterwards_was_created(path: str) -> None:
    """D4."""
    creates_nothing = dialect.RULES.creates_nothing

    assert creates_nothing is not None
    assert not creates_nothing("POST", path)


@pytest.mark.anyio
class TestUnderAnEngine:
    @pytest.mark.parametrize(("by", "tries"), [("Day", 1), ("Minute", 3)])
    async def test_a_quota_by_the_day_is_one_attempt(self, world: World, by: str, tries: int) -> None:
        """D2."""
        limited = ApiError(429, envelope(429, "RESOURCE_EXHAUSTED", quota(f"GenerateRequestsPer{by}PerProjectPerModel-FreeTier")))
        asked = script(*[limited] * 5)

        with pytest.raises(ApiError):
            await Engine([Retry(attempts=3)], rules=dialect.RULES, env=world.env).call(asked)
        assert tries == asked.calls

    @pytest.mark.parametrize(("path", "tries"), [("/v1beta/models/m:generateContent", 2), ("/v1beta/interactions", 1)])
    async def test_a_request_that_timed_out_is_repeated_where_nothing_may_be_there_twice(self, world: World, path: str, tries: int) -> None:
        """D4."""
        request = httpx2.Request("POST", f"https://generativelanguage.googleapis.com{path}?alt=sse")
        asked = script(*[httpx2.ReadTimeout("", request=request)] * 2)

        with pytest.raises(httpx2.ReadTimeout):
            await Engine([Retry(attempts=2)], rules=dialect.RULES, env=world.env).call(asked)
        assert tries == asked.calls
