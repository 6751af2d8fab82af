"""
Every `google.rpc.Code`, every reason of the common infrastructure, and quotas, in the JSON of Google's APIs.

Expectations: ``google/rpc/code.proto`` and ``google/api/error_reason.proto`` (googleapis), AIP-194, "Troubleshoot issues" of Service Usage
(cloud.google.com), "Google APIs: global domain errors" and "Resolve errors" of the Drive API (developers.google.com).
"""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from google.rpc import code_pb2

from resilience import Action, Blame, Engine, RefreshToken, Retry, Signal, Verdict, read
from resilience.dialects import google as dialect
from resilience.testing import World, script

Means = tuple[Action, int | None, bool, Blame]  # what to do, tries in all, whether less is asked for, whom it speaks against

ASKED: Means = (Action.FAIL_FAST, None, False, Blame.CALLER)
KEY: Means = (Action.FAIL_FAST, None, False, Blame.CREDENTIAL)
THEIRS: Means = (Action.FAIL_FAST, None, False, Blame.PEER)
BUSY: Means = (Action.RETRY, None, True, Blame.PEER)
AGAIN: Means = (Action.RETRY, None, False, Blame.PEER)
ONCE_MORE: Means = (Action.RETRY, 2, False, Blame.PEER)
REFRESH: Means = (Action.REFRESH_TOKEN, None, False, Blame.CREDENTIAL)

# name, the status that code.proto maps it to, what it means.
NAMES = [
    ("CANCELLED", 499, ASKED),  # AIP-194: "must be honored"
    ("UNKNOWN", 500, ONCE_MORE),  # Service Usage: 500 after a second; AIP-194: generally not
    ("INVALID_ARGUMENT", 400, ASKED),
    ("DEADLINE_EXCEEDED", 504, ONCE_MORE),
    ("NOT_FOUND", 404, ASKED),
    ("ALREADY_EXISTS", 409, ASKED),
    ("PERMISSION_DENIED", 403, KEY),
    ("UNAUTHENTICATED", 401, REFRESH),
    ("RESOURCE_EXHAUSTED", 429, BUSY),  # Service Usage: 429
    ("FAILED_PRECONDITION", 400, ASKED),  # "should not retry until the system state has been explicitly fixed"
    ("ABORTED", 409, ASKED),  # "should retry at a higher level"
    ("OUT_OF_RANGE", 400, ASKED),
    ("UNIMPLEMENTED", 501, ASKED),
    ("INTERNAL", 500, ONCE_MORE),
    ("UNAVAILABLE", 503, AGAIN),  # "can retry just the failing call"
    ("DATA_LOSS", 500, THEIRS),  # "unrecoverable"
]

# `google.api.ErrorReason`
REASONS = {
    BUSY: "RATE_LIMIT_EXCEEDED",
    REFRESH: "ACCESS_TOKEN_EXPIRED JWT_TOKEN_INVALID",
    KEY: """
        ACCESS_TOKEN_SCOPE_INSUFFICIENT ACCESS_TOKEN_TYPE_UNSUPPORTED ACCOUNT_STATE_INVALID ACCOUNT_TYPE_UNSUPPORTED
        API_KEY_ANDROID_APP_BLOCKED API_KEY_HTTP_REFERRER_BLOCKED API_KEY_INVALID API_KEY_IOS_APP_BLOCKED API_KEY_IP_ADDRESS_BLOCKED
        API_KEY_SERVICE_BLOCKED CONSUMER_INVALID CONSUMER_SUSPENDED CREDENTIALS_MISSING CREDENTIAL_ANDROID_APP_INVALID
        CREDENTIAL_TYPE_UNSUPPORTED GCP_SUSPENDED IAM_PERMISSION_DENIED OVERLOADED_CREDENTIALS SESSION_COOKIE_INVALID
        USER_BLOCKED_BY_ADMIN USER_PROJECT_DENIED
        """,
    ASKED: """
        BILLING_DISABLED EMULATOR_QUOTA_EXCEEDED ENDPOINT_USAGE_RESTRICTION_VIOLATED LOCATION_ORG_POLICY_VIOLATED LOCATION_POLICY_VIOLATED
        LOCATION_TAX_POLICY_VIOLATED MCP_SERVER_DISABLED MISSING_ORIGIN ORG_RESTRICTION_HEADER_INVALID ORG_RESTRICTION_VIOLATION
        RESOURCE_PROJECT_INVALID RESOURCE_QUOTA_EXCEEDED RESOURCE_USAGE_RESTRICTION_VIOLATED SECURITY_POLICY_VIOLATED SERVICE_DISABLED
        SERVICE_NOT_VISIBLE SYSTEM_PARAMETER_UNSUPPORTED TLS_CIPHER_RESTRICTION_VIOLATED TLS_ORG_POLICY_VIOLATED
        """,
}
REASON_ROWS = [(reason, meaning) for meaning, reasons in REASONS.items() for reason in reasons.split()]

# "Google APIs: global domain errors": reason, its status, what it means; those with another are as their status has it.
OLDER_REASONS = [
    ("rateLimitExceeded", 403, BUSY),
    ("userRateLimitExceeded", 403, BUSY),
    ("concurrentLimitExceeded", 403, BUSY),
    ("servingLimitExceeded", 403, BUSY),
    ("limitExceeded", 403, BUSY),
    ("rateLimitExceededUnreg", 403, ASKED),
    ("userRateLimitExceededUnreg", 403, ASKED),
    ("quotaExceeded", 403, ASKED),
    ("quotaExceeded402", 402, ASKED),
    ("variableTermLimitExceeded", 403, ASKED),
    ("accessNotConfigured", 403, ASKED),
    ("responseTooLarge", 403, ASKED),
]
BY_THEIR_STATUS = [
    ("badRequest", 400, ASKED),
    ("authError", 401, REFRESH),
    ("forbidden", 403, KEY),
    ("notFound", 404, ASKED),
    ("conflict", 409, ASKED),
    ("backendError", 503, AGAIN),
]

# id of a quota, or a reason, that is about a day; the entry.
DAILY = [
    ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "*PerDay*"),
    ("defaultPerDayPerProject", "*PerDay*"),
    ("perDayPerProject", "*perDay*"),
    ("generate_requests_per_day", "*per_day*"),
    ("REQUESTS_PER_DAY", "*PER_DAY*"),
    ("DailyLimit", "*Daily*"),
    ("variableTermExpiredDailyExceeded", "*Daily*"),
    ("dailyLimitExceeded", "*daily*"),
    ("dailyLimitExceededUnreg", "*daily*"),
]


def means(verdict: Verdict) -> Means:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def envelope(status: int, name: str | None = None, *details: dict[str, Any], message: str = "for people", **more: Any) -> dict[str, Any]:
    error: dict[str, Any] = {"code": status, "message": message} | more
    return {"error": error | ({} if name is None else {"status": name}) | ({"details": list(details)} if details else {})}


def info(reason: str, **metadata: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com", "metadata": metadata}


def quota(*ids: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": one} for one in ids]}


def wait(seconds: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": seconds}


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


@pytest.mark.parametrize(("name", "status", "meaning"), NAMES)
def test_each_code_by_name_means_what_code_proto_and_aip_194_say(name: str, status: int, meaning: Means) -> None:
    """Alone, as an exception, in a list that is streamed after a 200, and beside a reason that no table knows."""
    alone, unknown = envelope(status, name), envelope(status, name, info("NEW_IN_2027"))

    for failure in (response(status, alone), ApiError(status, alone), response(200, [alone])):
        assert meaning == means(classified(failure))
    verdict = classified(response(status, unknown))
    assert (meaning, f"google: kind {name}") == (means(verdict), verdict.rule)
    for signal in (Signal(code=name), Signal(kind=name)):
        if signal.code != "RESOURCE_EXHAUSTED":  # where the message has a say
            assert meaning == means(dialect.RULES.classify(signal))


def test_all_codes_are_there() -> None:
    assert set(code_pb2.Code.keys()) - {"OK"} == {name for name, *_ in NAMES}


@pytest.mark.parametrize(("reason", "meaning"), REASON_ROWS)
def test_a_reason_says_more_than_the_status(reason: str, meaning: Means) -> None:
    """D2: a key that is invalid is a 400, a service that was not enabled a 403."""
    for status, name in ((400, "INVALID_ARGUMENT"), (401, "UNAUTHENTICATED"), (403, "PERMISSION_DENIED"), (429, "RESOURCE_EXHAUSTED")):
        verdict = classified(response(status, envelope(status, name, info(reason))))
        assert (meaning, f"google: code {reason}") == (means(verdict), verdict.rule)


@pytest.mark.parametrize(("reason", "status", "meaning"), OLDER_REASONS)
def test_in_the_older_apis_a_403_may_be_a_limit(reason: str, status: int, meaning: Means) -> None:
    older = [{"domain": "usageLimits", "reason": reason, "message": "for people"}]

    for body in (envelope(status, errors=older), envelope(status, "PERMISSION_DENIED", errors=older)):
        verdict = classified(response(status, body))
        assert (meaning, f"google: code {reason}") == (means(verdict), verdict.rule)


@pytest.mark.parametrize(("reason", "status", "meaning"), BY_THEIR_STATUS)
def test_any_other_reason_of_theirs_is_as_its_status_has_it(reason: str, status: int, meaning: Means) -> None:
    assert meaning == means(classified(response(status, envelope(status, errors=[{"domain": "global", "reason": reason}]))))


@pytest.mark.parametrize(("code", "entry"), DAILY)
def test_a_quota_by_the_day_is_not_waited_for(code: str, entry: str) -> None:
    """Whatever `google.rpc.RetryInfo` asks for: it may be seconds."""
    body = envelope(429, "RESOURCE_EXHAUSTED", quota(code), wait("47s"))
    older = envelope(403, errors=[{"domain": "usageLimits", "reason": code}])

    for failure in (response(429, body), ApiError(429, body), response(403, older)):
        verdict = classified(failure)
        assert (ASKED, f"google: code {entry}") == (means(verdict), verdict.rule)


def test_of_several_quotas_the_one_by_the_day_decides() -> None:
    """googleapis/python-genai #2044."""
    minute, day = "GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"

    for ids in ((minute, day), (day, minute)):
        assert ASKED == means(classified(response(429, envelope(429, "RESOURCE_EXHAUSTED", quota(*ids)))))
    limited = info("RATE_LIMIT_EXCEEDED", quota_limit="defaultPerDayPerProject")
    assert ASKED == means(classified(response(429, envelope(429, "RESOURCE_EXHAUSTED", limited))))


@pytest.mark.parametrize(
    "code",
    [
        "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
        "GenerateContentInputTokensPerModelPerMinute-FreeTier",
        "CPUS-PER-VM-FAMILY-per-project-region",
        "RequestsPerHour",
    ],
)
def test_any_other_quota_is_a_limit_to_wait_for(code: str) -> None:
    verdict = classified(response(429, envelope(429, "RESOURCE_EXHAUSTED", quota(code), wait("36.5s"))))

    assert (BUSY, "google: kind RESOURCE_EXHAUSTED") == (means(verdict), verdict.rule)


def test_words_tell_a_limit_from_a_lack_of_permission() -> None:
    """ "Usage limits" of the Drive API: "403: User rate limit exceeded"."""
    verdict = classified(response(403, envelope(403, message="User Rate Limit Exceeded. Rate of requests for user exceed quota.")))

    assert (BUSY, "google: message 403 rate limit exceeded") == (means(verdict), verdict.rule)
    assert KEY == means(classified(response(403, envelope(403, message="The user does not have sufficient permissions."))))


@pytest.mark.parametrize(
    ("status", "meaning"),
    [(400, ASKED), (401, REFRESH), (403, KEY), (404, ASKED), (429, BUSY), (500, AGAIN), (502, AGAIN), (503, AGAIN), (504, AGAIN)],
)
def test_without_a_body_the_status_decides(status: int, meaning: Means) -> None:
    """Drive API: "500, 502, 503, 504", with exponential backoff; these come from in front of the service."""
    assert meaning == means(classified(response(status)))


def test_no_entry_is_untested() -> None:
    tables = (dialect.RULES.by_code, dialect.RULES.by_message, dialect.RULES.by_kind, dialect.RULES.by_status, dialect.RULES.by_error)
    own = {verdict.rule for table in tables for verdict in table.values() if verdict.rule.startswith("google: ")}
    tested = {
        *(f"google: code {name}" for name, *_ in NAMES if name != "RESOURCE_EXHAUSTED"),
        *(f"google: kind {name}" for name, *_ in NAMES),
        *(f"google: code {reason}" for reason, _ in REASON_ROWS),
        *(f"google: code {reason}" for reason, *_ in OLDER_REASONS),
        *(f"google: code {entry}" for _, entry in DAILY),
        "google: message 403 rate limit exceeded",
    }

    assert tested == own
    assert dialect.RULES.creates_nothing is None


@pytest.mark.anyio
class TestUnderAnEngine:
    async def test_a_limit_by_the_minute_is_waited_for_as_asked_and_one_by_the_day_is_not(self, world: World) -> None:
        """D2, D3."""
        minute = response(429, envelope(429, "RESOURCE_EXHAUSTED", quota("RequestsPerMinute"), wait("20s")))
        day = response(429, envelope(429, "RESOURCE_EXHAUSTED", quota("RequestsPerDay"), wait("20s")))
        engine = Engine([Retry(attempts=3)], rules=dialect.RULES, env=world.env)
        asked = script(minute, "ok", day)

        assert "ok" == await engine.call(asked)
        assert day is await engine.call(asked)
        assert 3 == asked.calls
        assert 1 == len(world.slept)
        assert 20 <= world.slept[0]

    async def test_a_token_that_has_expired_is_renewed(self, world: World) -> None:
        async def token(stale: str | None) -> str:
            return "token"

        expired = response(401, envelope(401, "UNAUTHENTICATED", info("ACCESS_TOKEN_EXPIRED")))
        asked = script(expired, "ok")

        assert "ok" == await Engine([RefreshToken(token, token="stale"), Retry()], rules=dialect.RULES, env=world.env).call(asked)
        assert 2 == asked.calls
