"""
Every type, code and status that Anthropic documents, as a response, as the SDK's exception and in a stream.

Expectations: the pages "Errors", "Rate limits" and "Streaming messages" (platform.claude.com/docs), and the types and codes of the API's
specification as the SDK documents them, one class each.
"""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic.lib.credentials import WorkloadIdentityError

from resilience import Action, Blame, Engine, Retry, Signal, Verdict, read
from resilience.dialects import anthropic as dialect
from resilience.testing import World, script

Means = tuple[Action, int | None, bool, Blame]  # what to do, tries in all, whether less is asked for, whom it speaks against

ASKED: Means = (Action.FAIL_FAST, None, False, Blame.CALLER)
MONEY = ASKED
KEY: Means = (Action.FAIL_FAST, None, False, Blame.CREDENTIAL)
THEIRS: Means = (Action.FAIL_FAST, None, False, Blame.PEER)
BUSY: Means = (Action.RETRY, None, True, Blame.PEER)
LIMITED: Means = (Action.RETRY, None, True, Blame.CALLER)  # the caller's own rate speaks against nobody else
AGAIN: Means = (Action.RETRY, None, False, Blame.PEER)
ONCE_MORE: Means = (Action.RETRY, 2, False, Blame.PEER)
REFRESH: Means = (Action.REFRESH_TOKEN, None, False, Blame.CREDENTIAL)

# type, its status, what it means: "Errors", and `ErrorType` of the SDK.
TYPES = [
    ("authentication_error", 401, REFRESH),
    ("billing_error", 402, MONEY),
    ("permission_error", 403, KEY),
    ("not_found_error", 404, ASKED),
    ("request_too_large", 413, ASKED),
    ("rate_limit_error", 429, LIMITED),
    ("api_error", 500, AGAIN),
    ("timeout_error", 504, ONCE_MORE),
    ("overloaded_error", 529, BUSY),
    ("memory_precondition_failed_error", 409, ASKED),
    ("memory_path_conflict_error", 409, ASKED),
]

# status, its type, what it means, the entry: "Errors", and those that the SDK has a class for.
STATUSES = [
    (400, "invalid_request_error", ASKED, "http: status 4xx"),
    (401, None, REFRESH, "http: status 401"),
    (402, None, ASKED, "http: status 4xx"),
    (403, None, KEY, "http: status 403"),
    (404, None, ASKED, "http: status 4xx"),
    (408, "invalid_request_error", AGAIN, "http: status 408"),
    (409, "conflict_error", ASKED, "anthropic: status 409"),
    (412, "invalid_request_error", ASKED, "http: status 4xx"),
    (413, None, ASKED, "http: status 4xx"),
    (422, "invalid_request_error", ASKED, "http: status 4xx"),
    (429, None, BUSY, "http: status 429"),
    (431, "invalid_request_error", ASKED, "http: status 4xx"),
    (499, "invalid_request_error", ASKED, "http: status 4xx"),
    (500, None, AGAIN, "http: status 5xx"),
    (501, None, THEIRS, "http: status 501"),
    (503, None, AGAIN, "http: status 5xx"),
    (504, None, ONCE_MORE, "anthropic: status 504"),
    (529, None, BUSY, "http: status 529"),
]

# Codes of which the type tells too little: code, its status and type, what it means.
CODES = [
    ("enforced_spend_limit_reached", 429, "rate_limit_error", MONEY),  # "Rate limits": retrying fails until next month
    ("contract_spend_limit_reached", 429, "rate_limit_error", MONEY),
    ("ramp_limit_exceeded", 429, "rate_limit_error", LIMITED),  # "retry after the time in the `retry-after` header"
    ("compaction_unavailable", 529, "overloaded_error", BUSY),  # "a transient server reason.  Retry the request"
    ("cmek_context_unavailable", 503, "api_error", AGAIN),  # "retry in a few minutes"
    ("cmek_key_unreachable", 503, "api_error", AGAIN),  # "retry the request"
    ("registration_pending", 503, "api_error", ASKED),  # "was stored but is not yet usable"
    ("concurrent_membership_change", 409, "conflict_error", AGAIN),  # "retry the request once it completes"
    ("external_key_changed", 409, "conflict_error", AGAIN),  # "send the request again"
    ("scan_pending", 409, "conflict_error", AGAIN),  # "retry once the scan finishes"
    ("external_key_validation_timed_out", 400, "invalid_request_error", AGAIN),  # "wait a moment, then send the request again"
    ("claude_code_key_creator_not_member", 400, "invalid_request_error", KEY),  # the key's user has left
    ("organization_on_hold", 400, "invalid_request_error", KEY),  # "has disabled the organization"
]

# All the others have the meaning of their type, or of their status.
OTHER_CODES = {
    (400, "invalid_request_error", ASKED): """
        already_member available_tools_limit_exceeded bundle_attachment_not_supported bundle_on_call
        cannot_invite_emails_with_unverified_domains cannot_remove_last_member cannot_sign_out_primary_owner cannot_sign_out_self
        claude_code_version_too_old cmek_feature_unsupported cmek_key_disabled cmek_key_network_blocked compaction_block_ambiguous
        compaction_block_misplaced compaction_content_mismatch compaction_incomplete_turn compaction_nothing_to_summarize
        compaction_signature_invalid compaction_too_many_tool_references compaction_tool_changes_mismatch email_domain_not_allowed
        environment_archived external_key_in_workspace_policy external_key_validation_failed file_not_downloadable
        image_dimensions_too_large invalid_config_type_change invalid_metadata invite_already_exists key_profile_mismatch
        org_api_key_limit_exceeded org_member_limit_exceeded organization_not_enrolled_in_beta organization_type_not_supported
        parent_organization_required rbac_group_grants_owner_access rbac_group_order_limit_exceeded rbac_group_owner_access_unconfirmed
        request_body_encoding_invalid request_body_encoding_unsupported request_body_timeout scan_failed settings_document_limit_exceeded
        settings_history_limit_exceeded slack_channel_set_up_settings_refused storage_quota_exceeded thread_already_continued
        thread_continue_in_flight thread_fingerprint_mismatch thread_unsupported_request tool_name_conflict tool_reference_unresolved
        unsupported_charset user_profile_not_found user_profile_required workspace_api_key_limit_exceeded workspace_member_limit_exceeded
        workspace_policy_violation
        """,
    (402, "billing_error", MONEY): "linked_organization_billing_unavailable linked_organization_spend_limit_reached",
    (403, "permission_error", KEY): """
        api_key_scope_missing cannot_sign_out_managed_member cannot_sign_out_membership_admin cannot_sign_out_owner
        cannot_sign_out_privileged_member claude_tag_writes_not_enabled compliance_configuration_restricted environment_create_disabled
        environment_update_disabled organization_level_scoped_api_key_required sandbox_egress_restricted
        spend_limits_admin_api_writes_not_enabled user_profile_billing_not_authorized user_profile_not_billable
        """,
    (404, "not_found_error", ASKED): """
        environment_not_found file_expired rbac_group_managed_settings_not_found rbac_group_not_found rbac_role_not_found
        slack_channel_set_up_environment_not_found thread_not_found
        """,
    (409, "conflict_error", ASKED): """
        plugin_name_taken skill_name_taken skill_read_blocked_undecryptable slack_channel_set_up_settings_conflict
        """,
    (412, "invalid_request_error", ASKED): "heartbeat_precondition_failed",
    (413, "request_too_large", ASKED): "request_body_too_large_after_decoding",
}

# words, the status and type they come with, what they mean, the entry.
MESSAGES = [
    (
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits.",
        400, "invalid_request_error", MONEY, "credit balance is too low",
    ),
    (
        "You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC.",
        400, "invalid_request_error", MONEY, "api usage limits",
    ),
    ("You have reached your specified workspace API usage limits.", 429, "rate_limit_error", MONEY, "api usage limits"),
    (
        "You have reached your API usage limits: your organization has crossed its monthly API usage threshold.",
        429, "rate_limit_error", MONEY, "api usage limits",
    ),
    ("Extra usage is required for long context requests.", 429, "rate_limit_error", MONEY, "extra usage is required"),
    (
        "CORS requests are not allowed for this Organization because of its settings.",
        401, "authentication_error", ASKED, "401 cors requests are not allowed",
    ),
]  # fmt: skip

SDK = anthropic.Anthropic(api_key="k")
REQUEST = httpx2.Request("POST", "https://api.anthropic.com/v1/messages")
ERRORS = [
    (anthropic.APIConnectionError(request=REQUEST), AGAIN, "anthropic.APIConnectionError"),
    (anthropic.APITimeoutError(REQUEST), AGAIN, "anthropic.APITimeoutError"),
    (anthropic.RetryableError("from middleware"), AGAIN, "anthropic.RetryableError"),
    (anthropic.APIResponseValidationError(httpx2.Response(200, request=REQUEST), None), THEIRS, "anthropic.APIResponseValidationError"),
    (anthropic.CredentialsError("none"), KEY, "anthropic.CredentialsError"),
    (anthropic.IdentityTokenFileError("empty"), KEY, "anthropic.CredentialsError"),
    (WorkloadIdentityError("no token"), KEY, "anthropic.WorkloadIdentityError"),
]


def means(verdict: Verdict) -> Means:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def envelope(kind: str, code: str | None = None, message: str = "for people") -> dict[str, Any]:
    error: dict[str, Any] = {"type": kind, "message": message}
    return {"type": "error", "error": error if code is None else error | {"details": {"error_code": code}}, "request_id": "req_1"}


def response(status: int, body: object = None, headers: dict[str, str] | None = None) -> httpx2.Response:
    content = b"" if body is None else json.dumps(body).encode()
    return httpx2.Response(status, content=content, headers={"content-type": "application/json"} | (headers or {}), request=REQUEST)


def raised(answer: httpx2.Response) -> anthropic.APIStatusError:
    """What the SDK makes of it."""
    return SDK._make_status_error_from_response(answer)


def classified(failure: object) -> Verdict:
    return dialect.RULES.classify(read(failure, wall=0))


def in_a_stream(body: dict[str, Any]) -> list[Verdict]:
    """What is said of an error event after a 200: as the SDK raises it, with that status, and as it stands."""
    found = [classified(SDK._make_status_error("for people", body=body, response=response(200)))]
    for event in (body, f"data: {json.dumps(body)}"):
        assert dialect.RULES.by_item is not None
        signal = dialect.RULES.by_item(event)
        assert signal is not None
        found.append(dialect.RULES.classify(signal))
    return found


@pytest.mark.parametrize(("kind", "status", "meaning"), TYPES)
def test_each_documented_type_means_what_its_page_says(kind: str, status: int, meaning: Means) -> None:
    """In a stream there is no other word: "overloaded_error" comes with the status 200 (D2)."""
    answer = response(status, envelope(kind))

    for verdict in (classified(answer), classified(raised(answer)), *in_a_stream(envelope(kind))):
        assert (meaning, f"anthropic: kind {kind}") == (means(verdict), verdict.rule)


@pytest.mark.parametrize(("status", "kind", "meaning", "rule"), STATUSES)
def test_each_documented_status_means_what_the_page_says(status: int, kind: str | None, meaning: Means, rule: str) -> None:
    answer = response(status, None if kind is None else envelope(kind))

    for failure in (answer, raised(answer)):
        verdict = classified(failure)
        assert (meaning, rule) == (means(verdict), verdict.rule)


@pytest.mark.parametrize("kind", ["invalid_request_error", "conflict_error"])
def test_a_request_refused_in_a_stream_speaks_against_the_caller(kind: str) -> None:
    for verdict in in_a_stream(envelope(kind)):
        assert (ASKED, "default") == (means(verdict), verdict.rule)


def test_what_a_stream_is_asked_for_is_no_failure() -> None:
    assert dialect.RULES.by_item is not None
    for item in (
        "event: error",
        'data: {"type": "ping"}',
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "error"}},
    ):
        assert dialect.RULES.by_item(item) is None


@pytest.mark.parametrize(("code", "status", "kind", "meaning"), CODES)
def test_a_code_says_more_than_its_type_and_status(code: str, status: int, kind: str, meaning: Means) -> None:
    """D2, in a stream too, and even where the peer would have every answer with that status repeated."""
    answer = response(status, envelope(kind, code), {"x-should-retry": "true"})

    for verdict in (classified(answer), classified(raised(answer)), *in_a_stream(envelope(kind, code))):
        assert (meaning, f"anthropic: code {code}") == (means(verdict), verdict.rule)
    assert Action.RETRY is not classified(response(status, envelope(kind, code), {"x-should-retry": "false"})).action


@pytest.mark.parametrize(
    ("code", "status", "kind", "meaning"),
    [(code, status, kind, meaning) for (status, kind, meaning), codes in OTHER_CODES.items() for code in codes.split()],
)
def test_every_other_code_has_the_meaning_of_its_type(code: str, status: int, kind: str, meaning: Means) -> None:
    answer = response(status, envelope(kind, code))

    for failure in (answer, raised(answer)):
        assert meaning == means(classified(failure))


@pytest.mark.parametrize(("message", "status", "kind", "meaning", "entry"), MESSAGES)
def test_words_decide_where_neither_type_nor_code_says_it(message: str, status: int, kind: str, meaning: Means, entry: str) -> None:
    answer = response(status, envelope(kind, message=message), {"x-should-retry": "true"})

    for failure in (answer, raised(answer)):
        verdict = classified(failure)
        assert (meaning, f"anthropic: message {entry}") == (means(verdict), verdict.rule)


@pytest.mark.parametrize(
    "message",
    [
        "This request would exceed your organization's rate limit of 50,000 input tokens per minute.",
        "Number of requests has exceeded your per-minute rate limit.",
    ],
)
def test_the_words_of_a_rate_limit_are_not_taken_for_those_of_a_spend_limit(message: str) -> None:
    assert LIMITED == means(classified(response(429, envelope("rate_limit_error", message=message))))


@pytest.mark.parametrize(("status", "word", "action"), [(409, "true", "retry"), (409, "false", "fail_fast"), (400, "true", "retry")])
def test_where_the_type_says_nothing_the_peers_own_word_decides(status: int, word: str, action: str) -> None:
    """As the SDK has it: a conflict may be a lock that will be free."""
    kind = {409: "conflict_error", 400: "invalid_request_error"}[status]
    verdict = classified(raised(response(status, envelope(kind), {"x-should-retry": word})))

    assert (Action(action), "anthropic: the peer's own word") == (verdict.action, verdict.rule)


@pytest.mark.parametrize(("error", "meaning", "entry"), ERRORS)
def test_what_the_sdk_raises_without_a_status_is_known_by_its_class(error: Exception, meaning: Means, entry: str) -> None:
    verdict = classified(error)

    assert (meaning, f"anthropic: error {entry}") == (means(verdict), verdict.rule)


def test_no_entry_is_untested() -> None:
    tables = (dialect.RULES.by_code, dialect.RULES.by_message, dialect.RULES.by_kind, dialect.RULES.by_status, dialect.RULES.by_error)
    own = {verdict.rule for table in tables for verdict in table.values() if verdict.rule.startswith("anthropic: ")}
    tested = {
        *(f"anthropic: kind {kind}" for kind, *_ in TYPES),
        *(rule for *_, rule in STATUSES if rule.startswith("anthropic: ")),
        *(f"anthropic: code {code}" for code, *_ in CODES),
        *(f"anthropic: message {entry}" for *_, entry in MESSAGES),
        *(f"anthropic: error {entry}" for *_, entry in ERRORS),
    }

    assert tested == own


@pytest.mark.parametrize("prefix", ["", "/anthropic", "/proxy/eu/llm"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/complete"])
def test_what_only_the_model_runs_for_creates_nothing(prefix: str, path: str) -> None:
    creates_nothing = dialect.RULES.creates_nothing

    assert creates_nothing is not None
    assert creates_nothing("POST", prefix + path)
    assert creates_nothing("POST", (prefix + path).removeprefix("/"))  # as it stands in a call, relative to a base
    assert not creates_nothing("PATCH", prefix + path)


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/v1", "/messages", "/v1/messages/", "/v1/messages/batches", "/v1/messages/batches/b/cancel", "/v1/messages/abc",
        "/v1/messages/count_tokens/abc", "/v1/files", "/v1/skills", "/v1/agents", "/v1/sessions", "/v1/sessions/s/events",
        "/v1/threads/t/messages", "/rev1/messages", "/v1/organizations/invites", "/v1/incomplete",
    ],
)  # fmt: skip
def test_what_is_there_afterwards_was_created(path: str) -> None:
    """D4."""
    creates_nothing = dialect.RULES.creates_nothing

    assert creates_nothing is not None
    assert not creates_nothing("POST", path)


@pytest.mark.anyio
class TestUnderAnEngine:
    @pytest.mark.parametrize(("code", "tries"), [("enforced_spend_limit_reached", 1), ("ramp_limit_exceeded", 3), (None, 3)])
    async def test_money_that_has_run_out_is_one_attempt_and_a_rate_limit_three(self, world: World, code: str | None, tries: int) -> None:
        """D2."""
        asked = script(*[raised(response(429, envelope("rate_limit_error", code)))] * 5)

        with pytest.raises(anthropic.RateLimitError):
            await Engine([Retry(attempts=3)], rules=dialect.RULES, env=world.env).call(asked)
        assert tries == asked.calls

    @pytest.mark.parametrize(("path", "tries"), [("/v1/messages", 2), ("/v1/messages/batches", 1)])
    async def test_a_request_that_timed_out_is_repeated_where_nothing_may_be_there_twice(self, world: World, path: str, tries: int) -> None:
        """D4."""
        timed_out = anthropic.APITimeoutError(httpx2.Request("POST", f"https://api.anthropic.com{path}"))
        asked = script(timed_out, timed_out)

        with pytest.raises(anthropic.APITimeoutError):
            await Engine([Retry(attempts=2)], rules=dialect.RULES, env=world.env).call(asked)
        assert tries == asked.calls

    async def test_the_sdk_raises_what_a_stream_says_and_it_is_known(self) -> None:
        """D2: with ``status_code == 200``, and the real word in the body only."""
        events = f"event: error\ndata: {json.dumps(envelope('overloaded_error'))}\n\n".encode()
        transport = httpx2.MockTransport(
            lambda request: httpx2.Response(200, content=events, headers={"content-type": "text/event-stream"})
        )

        async with anthropic.AsyncAnthropic(api_key="k", max_retries=0, http_client=httpx2.AsyncClient(transport=transport)) as client:

            async def ask() -> list[object]:
                stream = await client.messages.create(model="m", max_tokens=1, messages=[], stream=True)
                return [event async for event in stream]

            with pytest.raises(anthropic.APIStatusError) as caught:
                await ask()

        verdict = classified(caught.value)
        assert 200 == caught.value.status_code
        assert (BUSY, "anthropic: kind overloaded_error") == (means(verdict), verdict.rule)


def test_a_signal_of_any_origin_is_classified_alike() -> None:
    """As a stream's reader makes them: the status is that of the response, 200, or there is none."""
    for status in (None, 200):
        assert BUSY == means(dialect.RULES.classify(Signal(status=status, kind="overloaded_error")))
        assert MONEY == means(dialect.RULES.classify(Signal(status=status, kind="rate_limit_error", code="enforced_spend_limit_reached")))
