"""
Every code, type and status that OpenAI documents, as a response, as the SDK's exception and in a stream.

Expectations: the guides "Error codes", "Rate limits", "Flex processing", "WebSocket mode" and "Agents API: errors and recovery"
(developers.openai.com), "Troubleshooting API usage and spend limits" (help.openai.com), and the enumerations of the API's specification as
the SDK has them.
"""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest
from openai._exceptions import SubjectTokenProviderError  # in no public namespace
from openai.types.responses import ResponseErrorEvent

from resilience import Action, Blame, Engine, Retry, Signal, Verdict, read
from resilience.dialects import openai as dialect
from resilience.testing import World, script

Means = tuple[Action, int | None, bool, Blame]  # what to do, tries in all, whether less is asked for, whom it speaks against

ASKED: Means = (Action.FAIL_FAST, None, False, Blame.CALLER)
MONEY = ASKED
KEY: Means = (Action.FAIL_FAST, None, False, Blame.CREDENTIAL)
THEIRS: Means = (Action.FAIL_FAST, None, False, Blame.PEER)
BUSY: Means = (Action.RETRY, None, True, Blame.PEER)
LIMITED: Means = (Action.RETRY, None, True, Blame.CALLER)  # the caller's own rate speaks against nobody else
AGAIN: Means = (Action.RETRY, None, False, Blame.PEER)
REFRESH: Means = (Action.REFRESH_TOKEN, None, False, Blame.CREDENTIAL)

# code, its status, what it means; and the entry, where that is a pattern.
CODES = [
    # "Error codes"; "Troubleshooting API usage and spend limits".
    ("insufficient_quota", 429, MONEY),
    ("credit_balance_exhausted", 429, MONEY),
    ("organization_spend_limit_exceeded", 429, MONEY),
    ("organization_usage_limit_exceeded", 429, MONEY),
    ("project_spend_limit_exceeded", 429, MONEY),
    ("billing_hard_limit_reached", 400, MONEY),
    ("rate_limit_exceeded", 429, LIMITED),
    ("slow_down", 429, BUSY),
    ("server_is_overloaded", 503, BUSY),
    ("resource_unavailable", 429, BUSY),
    ("invalid_api_key", 401, KEY),
    ("account_deactivated", 401, KEY),
    ("no_organization", 401, KEY),
    ("invalid_organization", 401, KEY),
    ("mismatched_organization", 401, KEY),
    ("mismatched_project", 401, KEY),
    ("ip_not_authorized", 401, KEY),
    ("missing_scope", 401, KEY),
    ("insufficient_permissions", 403, KEY),
    ("unsupported_country_region_territory", 403, ASKED, "unsupported_*"),
    # `OAuthErrorCode`
    ("invalid_grant", 400, KEY),
    ("invalid_subject_token", 400, KEY),
    # `ResponseError`
    ("server_error", 500, AGAIN),
    ("invalid_prompt", 400, ASKED),
    ("data_residency_mismatch", 400, ASKED),
    ("bio_policy", 400, ASKED),
    ("misalignment_policy_violation", 400, ASKED),
    ("vector_store_timeout", 500, AGAIN),
    ("invalid_image", 400, ASKED),
    ("invalid_image_format", 400, ASKED, "invalid_image_*"),
    ("invalid_base64_image", 400, ASKED),
    ("invalid_image_url", 400, ASKED, "invalid_image_*"),
    ("image_too_large", 400, ASKED),
    ("image_too_small", 400, ASKED),
    ("image_parse_error", 400, ASKED),
    ("image_content_policy_violation", 400, ASKED),
    ("invalid_image_mode", 400, ASKED, "invalid_image_*"),
    ("image_file_too_large", 400, ASKED),
    ("unsupported_image_media_type", 400, ASKED, "unsupported_*"),
    ("empty_image_file", 400, ASKED),
    ("failed_to_download_image", 400, ASKED),
    ("image_file_not_found", 400, ASKED, "*_not_found"),
    # Content filters.
    ("content_filter", 400, ASKED),
    ("content_policy_violation", 400, ASKED),
    ("moderation_blocked", 400, ASKED),
    # Requests.
    ("context_length_exceeded", 400, ASKED),
    ("string_above_max_length", 400, ASKED),
    ("model_not_found", 404, ASKED, "*_not_found"),
    ("unsupported_parameter", 400, ASKED, "unsupported_*"),
    ("unsupported_value", 400, ASKED, "unsupported_*"),
    ("invalid_request_error", 400, ASKED),
    # "WebSocket mode"
    ("previous_response_not_found", 400, ASKED, "*_not_found"),
    ("websocket_connection_limit_reached", 400, AGAIN),
    # "Agents API: errors and recovery"
    ("invalid_beta", 400, ASKED),
    ("agent_not_persisted", 400, ASKED),
    ("invalid_otlp_endpoint", 400, ASKED),
    ("invalid_otlp_header", 400, ASKED),
    ("unauthorized", 401, REFRESH),
    ("forbidden", 403, KEY),
    # `SessionTurnError`
    ("max_output_tokens", 400, ASKED),
    ("session_budget_exceeded", 429, MONEY),
    ("usage_limit_exceeded", 429, MONEY),
    ("billing_not_active", 429, MONEY),
    ("flex_unavailable", 429, BUSY),
    ("server_overloaded", 503, BUSY),
    ("cyber_policy", 400, ASKED),
    ("connection_failed", 500, AGAIN),
    ("authentication_error", 401, KEY),
    ("invalid_request", 400, ASKED),
    ("resource_not_found", 404, ASKED, "*_not_found"),
    ("sandbox_error", 500, THEIRS),
    ("executor_version_incompatible", 400, ASKED),
    ("active_turn_not_steerable", 409, ASKED),
    ("request_timeout", 500, AGAIN),
    ("internal_error", 500, AGAIN),
]
CODE_ROWS = [(row[0], row[1], row[2], f"openai: code {row[-1] if len(row) > 3 else row[0]}") for row in CODES]

# type, its status, what it means where there is no code: "Error codes", and bodies that users report.
TYPES = [
    ("insufficient_quota", 429, MONEY),
    ("rate_limit_error", 429, LIMITED),
    ("requests", 429, LIMITED),
    ("tokens", 429, LIMITED),
    ("service_unavailable_error", 503, BUSY),
    ("server_error", 500, AGAIN),
    ("request_forbidden", 403, KEY),
    ("image_generation_user_error", 400, ASKED),
]

# status, what it means, the entry: "Error codes", both of its tables.
STATUSES = [
    (400, ASKED, "http: status 4xx"),
    (401, REFRESH, "http: status 401"),
    (403, KEY, "http: status 403"),
    (404, ASKED, "http: status 4xx"),
    (408, AGAIN, "http: status 408"),
    (409, (Action.RETRY, 3, False, Blame.PEER), "openai: status 409"),
    (422, (Action.RETRY, 2, False, Blame.PEER), "openai: status 422"),
    (429, BUSY, "http: status 429"),
    (500, AGAIN, "http: status 5xx"),
    (503, BUSY, "openai: status 503"),
]

SDK = openai.OpenAI(api_key="k")
REQUEST = httpx2.Request("POST", "https://api.openai.com/v1/chat/completions")
COMPLETION = openai.types.chat.ChatCompletion(id="c", object="chat.completion", created=1, model="m", choices=[])
ERRORS = [
    (openai.APIConnectionError(request=REQUEST), AGAIN, "openai.APIConnectionError"),
    (openai.APITimeoutError(REQUEST), AGAIN, "openai.APITimeoutError"),
    (openai.LengthFinishReasonError(completion=COMPLETION), ASKED, "openai.LengthFinishReasonError"),
    (openai.ContentFilterFinishReasonError(), ASKED, "openai.ContentFilterFinishReasonError"),
    (openai.APIResponseValidationError(httpx2.Response(200, request=REQUEST), None), THEIRS, "openai.APIResponseValidationError"),
    (SubjectTokenProviderError("no token"), KEY, "openai.SubjectTokenProviderError"),
]


def means(verdict: Verdict) -> Means:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def envelope(code: str | None, kind: str | None = "invalid_request_error") -> dict[str, Any]:
    return {"error": {"message": "for people", "type": kind, "param": None, "code": code}}


def response(status: int, body: object = None, headers: dict[str, str] | None = None) -> httpx2.Response:
    content = b"" if body is None else json.dumps(body).encode()
    return httpx2.Response(status, content=content, headers={"content-type": "application/json"} | (headers or {}), request=REQUEST)


def raised(answer: httpx2.Response) -> openai.APIStatusError:
    """What the SDK makes of it."""
    return SDK._make_status_error_from_response(answer)


def classified(failure: object) -> Verdict:
    return dialect.RULES.classify(read(failure, wall=0))


def in_a_stream(item: object) -> Verdict:
    assert dialect.RULES.by_item is not None
    signal = dialect.RULES.by_item(item)
    assert signal is not None
    return dialect.RULES.classify(signal)


@pytest.mark.parametrize(("code", "status", "meaning", "rule"), CODE_ROWS)
def test_each_documented_code_means_what_its_page_says(code: str, status: int, meaning: Means, rule: str) -> None:
    """D2."""
    answer = response(status, envelope(code))

    for failure in (answer, raised(answer)):
        verdict = classified(failure)
        assert (meaning, rule) == (means(verdict), verdict.rule)


@pytest.mark.parametrize(("code", "status", "meaning", "rule"), CODE_ROWS)
def test_a_code_decides_whatever_the_status_says_and_ends_what_the_peer_would_have_repeated(
    code: str, status: int, meaning: Means, rule: str
) -> None:
    """D2: "insufficient_quota" would be repeated by status, and by the SDK."""
    for other in (400, 401, 418, 429, 500, 503):
        assert rule == classified(response(other, envelope(code))).rule
    verdict = classified(raised(response(status, envelope(code), {"x-should-retry": "true"})))
    assert (meaning, rule) == (means(verdict), verdict.rule)
    assert Action.RETRY is not classified(raised(response(status, envelope(code), {"x-should-retry": "false"}))).action


@pytest.mark.parametrize(("code", "status", "meaning", "rule"), CODE_ROWS)
def test_an_error_event_inside_a_stream_means_the_same(code: str, status: int, meaning: Means, rule: str) -> None:
    """Chat completions: ``{"error": {...}}``; the Responses API: ``error`` events, and ``response.failed`` with an error inside."""
    chat = envelope(code, kind=None)
    event = {"type": "error", "code": code, "message": "for people", "param": None, "sequence_number": 3}
    failed = {"type": "response.failed", "response": {"id": "r", "status": "failed", "error": {"code": code, "message": "for people"}}}

    for item in (
        chat,
        event,
        failed,
        ResponseErrorEvent.model_validate(event),
        *(f"data: {json.dumps(one)}" for one in (chat, event, failed)),
    ):
        verdict = in_a_stream(item)
        assert (meaning, rule) == (means(verdict), verdict.rule)
    raised_by_the_sdk = classified(openai.APIError("for people", REQUEST, body=chat["error"]))
    assert (meaning, rule) == (means(raised_by_the_sdk), raised_by_the_sdk.rule)


def test_what_a_stream_is_asked_for_is_no_failure() -> None:
    assert dialect.RULES.by_item is not None
    for item in ({"choices": [{"delta": {"content": "error"}}]}, {"type": "response.output_text.delta", "delta": "x"}, "data: [DONE]"):
        assert dialect.RULES.by_item(item) is None


@pytest.mark.parametrize(("kind", "status", "meaning"), TYPES)
def test_where_the_code_is_null_or_new_the_type_has_to_serve(kind: str, status: int, meaning: Means) -> None:
    for body in (envelope(None, kind), envelope("new_in_2027", kind)):
        event = openai.APIError("for people", REQUEST, body=body["error"])
        for failure in (response(status, body), raised(response(status, body)), event):
            verdict = classified(failure)
            assert (meaning, f"openai: kind {kind}") == (means(verdict), verdict.rule)


@pytest.mark.parametrize(("status", "meaning", "rule"), STATUSES)
def test_each_documented_status_means_what_the_page_says(status: int, meaning: Means, rule: str) -> None:
    """The type that most errors share says nothing: it comes with 400, 401, 404 and 409 alike."""
    for body in (None, envelope(None)):
        for failure in (response(status, body), raised(response(status, body))):
            verdict = classified(failure)
            assert (meaning, rule) == (means(verdict), verdict.rule)


TOO_LARGE = "429 tokens must be reduced in order to run"


def test_a_request_above_the_limit_of_a_whole_minute_is_not_sent_again() -> None:
    """D2: all but its words are those of a rate limit.  Body as users report it (Aider-AI/aider issue 1880)."""
    words = (
        "Request too large for gpt-4o in organization org-1 on tokens per min (TPM): Limit 30000, Requested 36278. "
        "The input or output tokens must be reduced in order to run successfully."
    )
    body = {"error": {"message": words, "type": "tokens", "param": None, "code": "rate_limit_exceeded"}}

    for failure in (response(429, body), raised(response(429, body, {"x-should-retry": "true"}))):
        verdict = classified(failure)
        assert (ASKED, f"openai: message {TOO_LARGE}") == (means(verdict), verdict.rule)


def test_a_request_refused_in_a_stream_speaks_against_the_caller() -> None:
    verdict = classified(openai.APIError("for people", REQUEST, body=envelope(None)["error"]))

    assert (ASKED, "default") == (means(verdict), verdict.rule)


@pytest.mark.parametrize(("status", "word", "action"), [(500, "false", "fail_fast"), (404, "true", "retry"), (429, "false", "fail_fast")])
def test_without_a_code_the_peers_own_word_decides(status: int, word: str, action: str) -> None:
    """As the SDK has it."""
    verdict = classified(raised(response(status, None, {"x-should-retry": word})))

    assert (Action(action), "openai: the peer's own word") == (verdict.action, verdict.rule)


@pytest.mark.parametrize(("error", "meaning", "entry"), ERRORS)
def test_what_the_sdk_raises_without_a_status_is_known_by_its_class(error: Exception, meaning: Means, entry: str) -> None:
    verdict = classified(error)

    assert (meaning, f"openai: error {entry}") == (means(verdict), verdict.rule)


def test_an_exchange_of_tokens_that_failed_at_the_other_end_may_pass() -> None:
    error = SubjectTokenProviderError("metadata server", response=httpx2.Response(502, request=REQUEST))

    assert AGAIN == means(classified(error))


def test_no_entry_is_untested() -> None:
    tables = (dialect.RULES.by_code, dialect.RULES.by_message, dialect.RULES.by_kind, dialect.RULES.by_status, dialect.RULES.by_error)
    own = {verdict.rule for table in tables for verdict in table.values() if verdict.rule.startswith("openai: ")}
    tested = {
        *(rule for *_, rule in CODE_ROWS),
        f"openai: message {TOO_LARGE}",
        *(f"openai: kind {kind}" for kind, *_ in TYPES),
        *(rule for *_, rule in STATUSES if rule.startswith("openai: ")),
        *(f"openai: error {entry}" for *_, entry in ERRORS),
    }

    assert tested == own


@pytest.mark.parametrize("prefix", ["", "/v1", "/openai/deployments/gpt", "/openai/v1", "/proxy/eu/llm/v1"])
@pytest.mark.parametrize(
    "path",
    [
        "/chat/completions", "/completions", "/embeddings", "/moderations", "/audio/speech", "/audio/transcriptions", "/audio/translations",
        "/images/generations", "/images/edits", "/images/variations", "/responses/input_tokens",
    ],
)  # fmt: skip
def test_what_only_the_model_runs_for_creates_nothing(prefix: str, path: str) -> None:
    creates_nothing = dialect.RULES.creates_nothing

    assert creates_nothing is not None
    assert creates_nothing("POST", prefix + path)
    assert creates_nothing("POST", (prefix + path).removeprefix("/"))  # as it stands in a call, relative to a base
    assert not creates_nothing("PATCH", prefix + path)


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/v1", "/v1/chat", "/v1/chat/completions/abc", "/v1/chat/completions/", "/v1/chat/completions/abc/messages",
        "/v1/mycompletions", "/v1/responses", "/v1/responses/abc/cancel", "/v1/responses/compact", "/v1/conversations",
        "/v1/conversations/c/items", "/v1/files", "/v1/uploads", "/v1/batches", "/v1/fine_tuning/jobs", "/v1/assistants", "/v1/threads",
        "/v1/threads/t/messages", "/v1/threads/t/runs", "/v1/vector_stores", "/v1/videos", "/v1/containers", "/v1/evals",
        "/v1/realtime/client_secrets", "/v1/audio/voices", "/openai/images/generations:submit",
    ],
)  # fmt: skip
def test_what_is_there_afterwards_was_created(path: str) -> None:
    """D4."""
    creates_nothing = dialect.RULES.creates_nothing

    assert creates_nothing is not None
    assert not creates_nothing("POST", path)


@pytest.mark.anyio
class TestUnderAnEngine:
    @pytest.mark.parametrize(("code", "tries"), [("insufficient_quota", 1), ("context_length_exceeded", 1), ("rate_limit_exceeded", 3)])
    async def test_money_that_has_run_out_is_one_attempt_and_a_rate_limit_three(self, world: World, code: str, tries: int) -> None:
        """D2, langchainjs #1929."""
        asked = script(*[raised(response(429, envelope(code), {"x-should-retry": "true"}))] * 5)
        engine = Engine([Retry(attempts=3)], rules=dialect.RULES, env=world.env)

        with pytest.raises(openai.RateLimitError):
            await engine.call(asked)
        assert tries == asked.calls

    @pytest.mark.parametrize(("path", "tries"), [("/v1/chat/completions", 2), ("/v1/files", 1), ("/v1/responses", 1)])
    async def test_a_request_that_timed_out_is_repeated_where_nothing_may_be_there_twice(self, world: World, path: str, tries: int) -> None:
        """D4."""
        timed_out = openai.APITimeoutError(httpx2.Request("POST", f"https://api.openai.com{path}"))
        asked = script(timed_out, timed_out)

        with pytest.raises(openai.APITimeoutError):
            await Engine([Retry(attempts=2)], rules=dialect.RULES, env=world.env).call(asked)
        assert tries == asked.calls

    async def test_the_sdk_raises_what_a_stream_says_and_it_is_known(self, world: World) -> None:
        """A stream that began with 200, read by the SDK itself."""
        events = f"data: {json.dumps(envelope('server_error', 'server_error'))}\n\n".encode()
        transport = httpx2.MockTransport(
            lambda request: httpx2.Response(200, content=events, headers={"content-type": "text/event-stream"})
        )

        async with openai.AsyncOpenAI(api_key="k", max_retries=0, http_client=httpx2.AsyncClient(transport=transport)) as client:

            async def complete() -> list[object]:
                stream = await client.chat.completions.create(model="m", messages=[], stream=True)
                return [chunk async for chunk in stream]

            with pytest.raises(openai.APIError) as caught:
                await complete()

        verdict = classified(caught.value)
        assert (AGAIN, "openai: code server_error") == (means(verdict), verdict.rule)


def test_a_signal_of_any_origin_is_classified_alike() -> None:
    """As a stream's reader makes them: the status is that of the response, 200, or there is none."""
    for status in (None, 200):
        assert LIMITED == means(dialect.RULES.classify(Signal(status=status, code="rate_limit_exceeded")))
        assert AGAIN == means(dialect.RULES.classify(Signal(status=status, kind="server_error")))
