"""
Every error that Slack documents for all methods of its Web API, inside a 200, and as slack_sdk raises it.

Expectations: docs.slack.dev, the table of errors on each method's page (the common part, as on ``auth.test``), "Rate limits", "Using token
rotation", the pages of ``oauth.v2.access``, ``oauth.v2.exchange`` and ``tooling.tokens.rotate``; the published OpenAPI specification for
the older ones.
"""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient
from slack_sdk.web.async_slack_response import AsyncSlackResponse

from resilience import Action, Blame, Engine, Phase, RefreshToken, Retry, Signal, Verdict, read
from resilience.adapters.httpx2 import ResilientClient
from resilience.dialects import slack as dialect
from resilience.testing import World, script

Means = tuple[Action, int | None, bool, Blame]  # what to do, tries in all, whether less is asked for, whom it speaks against

ASKED: Means = (Action.FAIL_FAST, None, False, Blame.CALLER)
KEY: Means = (Action.FAIL_FAST, None, False, Blame.CREDENTIAL)
BUSY: Means = (Action.RETRY, None, True, Blame.PEER)
LIMITED: Means = (Action.RETRY, None, True, Blame.CALLER)
AGAIN: Means = (Action.RETRY, None, False, Blame.PEER)
ONCE_MORE: Means = (Action.RETRY, 2, False, Blame.PEER)
MOVING: Means = (Action.RETRY, None, False, Blame.CALLER)
CUT_SHORT: Means = (Action.RETRY, 2, False, Blame.CALLER)
REFRESH: Means = (Action.REFRESH_TOKEN, None, False, Blame.CREDENTIAL)

CODES = [
    # The common errors of today's pages, in their order.
    ("access_denied", KEY),
    ("accesslimited", KEY),
    ("account_inactive", KEY),
    ("deprecated_endpoint", ASKED),
    ("ekm_access_denied", KEY),
    ("enterprise_is_restricted", KEY),
    ("fatal_error", ONCE_MORE),
    ("internal_error", ONCE_MORE),
    ("invalid_arg_name", ASKED),
    ("invalid_arguments", ASKED),
    ("invalid_array_arg", ASKED),
    ("invalid_auth", KEY),
    ("invalid_charset", ASKED),
    ("invalid_form_data", ASKED),
    ("invalid_post_type", ASKED),
    ("method_deprecated", ASKED),
    ("missing_post_type", ASKED),
    ("missing_scope", KEY),
    ("no_permission", KEY),
    ("not_allowed_token_type", KEY),
    ("not_authed", KEY),
    ("org_login_required", ASKED),
    ("ratelimited", LIMITED),
    ("request_timeout", CUT_SHORT),
    ("service_unavailable", AGAIN),
    ("team_access_not_granted", KEY),
    ("team_added_to_org", MOVING),
    ("token_expired", REFRESH),
    ("token_revoked", KEY),
    ("two_factor_setup_required", KEY),
    # chat.postMessage
    ("rate_limited", LIMITED),
    # The OpenAPI specification, and earlier pages.
    ("invalid_json", ASKED),
    ("json_not_object", ASKED),
    ("missing_charset", ASKED),
    ("superfluous_charset", ASKED),
    ("unknown_method", ASKED),
    ("upgrade_required", ASKED),
    ("user_is_bot", KEY),
    ("user_is_restricted", KEY),
    # Token rotation.
    ("authorization_not_found", KEY),
    ("bad_client_secret", KEY),
    ("invalid_client_id", KEY),
    ("invalid_refresh_token", KEY),
    ("invalid_token", KEY),
    ("token_already_exchanged", KEY),
    ("token_rotation_not_enabled", ASKED),
    # What a single method says of its arguments.
    ("channel_not_found", ASKED),
    ("msg_too_long", ASKED),
]


def meant(verdict: Verdict) -> Means:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def inside(value: object) -> Signal:
    assert dialect.RULES.by_result is not None
    signal = dialect.RULES.by_result(value)
    assert signal is not None
    return signal


def raised(code: str, status: int = 200, headers: dict[str, str] | None = None) -> SlackApiError:
    """What slack_sdk makes of an answer."""
    response = AsyncSlackResponse(
        client=AsyncWebClient(),
        http_verb="POST",
        api_url="https://slack.com/api/chat.postMessage",
        req_args={},
        data={"ok": False, "error": code},
        headers=headers or {},
        status_code=status,
    )
    with pytest.raises(SlackApiError) as caught:
        response.validate()  # type: ignore[no-untyped-call]  # slack_sdk's
    return caught.value


@pytest.mark.parametrize(("code", "means"), CODES)
def test_each_documented_error_means_what_its_page_says(code: str, means: Means) -> None:
    answer = {"ok": False, "error": code}

    for value in (answer, httpx.Response(200, json=answer), httpx2.Response(200, json=answer)):
        assert means == meant(dialect.RULES.classify(inside(value)))
    assert means == meant(dialect.RULES.classify(read(raised(code))))


def test_a_rate_limit_says_when_to_come_back_and_that_nothing_was_done() -> None:
    """ "Rate limits": "HTTP 429 Too Many Requests ... with a Retry-After header"."""
    headers = {"Retry-After": "30"}
    answers: list[object] = [
        client.Response(429, json={"ok": False, "error": "ratelimited"}, headers=headers) for client in (httpx, httpx2)
    ]
    for answer in (*answers, raised("ratelimited", 429, headers)):
        signal = read(answer)

        assert (429, "ratelimited", 30.0, Phase.REFUSED) == (signal.status, signal.code, signal.retry_after, signal.phase)
        assert LIMITED == meant(dialect.RULES.classify(signal))


@pytest.mark.parametrize(("status", "means"), [(404, ASKED), (408, AGAIN), (429, BUSY), (500, AGAIN), (502, AGAIN), (503, AGAIN)])
def test_a_status_without_an_error_means_what_it_does_in_http(status: int, means: Means) -> None:
    """ "Other errors can be returned in the case where the service is down"."""
    assert means == meant(dialect.RULES.classify(read(httpx2.Response(status, content=b"<html>"))))


READS = """auth.test api.test conversations.history conversations.info conversations.list conversations.members conversations.replies
users.info users.list users.conversations users.getPresence users.lookupByEmail users.identity users.profile.get team.info files.info
files.list emoji.list pins.list reactions.get reactions.list search.all search.files search.messages bots.info dnd.info dnd.teamInfo
chat.getPermalink chat.scheduledMessages.list usergroups.list usergroups.users.list admin.teams.list""".split()
WRITES = """chat.postMessage chat.update chat.delete chat.scheduleMessage conversations.create conversations.open conversations.join
conversations.mark conversations.invite files.upload files.completeUploadExternal reactions.add pins.add users.profile.set views.open
oauth.v2.access usergroups.create reminders.add apps.connections.open list search""".split()


@pytest.mark.parametrize("name", READS)
def test_a_method_that_only_reads_creates_nothing(name: str) -> None:
    assert dialect.RULES.creates_nothing is not None
    assert dialect.RULES.creates_nothing("POST", f"/api/{name}")
    assert not dialect.RULES.creates_nothing("POST", f"/services/{name}")


@pytest.mark.parametrize("name", WRITES)
def test_a_method_that_writes_may_create_something(name: str) -> None:
    assert dialect.RULES.creates_nothing is not None
    assert not dialect.RULES.creates_nothing("POST", f"/api/{name}")


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "error", "requests"),
    [
        ("conversations.history", "internal_error", 2),
        ("chat.postMessage", "internal_error", 1),
        ("chat.postMessage", "ratelimited", 2),
        ("chat.postMessage", "request_timeout", 2),
        ("chat.postMessage", "token_revoked", 1),
    ],
)
async def test_a_message_is_posted_again_only_if_it_was_refused(name: str, error: str, requests: int) -> None:
    """D4: "some aspect of the operation" may have "succeeded before the error was raised"."""
    world = World()
    sent: list[httpx2.Request] = []

    def answers(request: httpx2.Request) -> httpx2.Response:
        sent.append(request)
        return httpx2.Response(200, json={"ok": False, "error": error} if len(sent) == 1 else {"ok": True})

    engine = Engine([Retry()], rules=dialect.RULES, env=world.env)
    async with ResilientClient(engine, transport=httpx2.MockTransport(answers)) as client:
        response = await client.post(f"https://slack.com/api/{name}", data={"channel": "C1"})

    assert (requests, requests == 2) == (len(sent), response.json()["ok"])


@pytest.mark.anyio
@pytest.mark.parametrize(("error", "calls"), [("token_expired", 2), ("token_revoked", 1)])
async def test_a_token_that_expired_is_renewed_and_one_that_was_revoked_is_not(world: World, error: str, calls: int) -> None:
    asked: list[str | None] = []

    async def login(stale: str | None) -> str:
        asked.append(stale)
        return "new"

    failure: Any = {"ok": False, "error": error}
    fetch = script(failure, {"ok": True})
    engine = Engine([RefreshToken(login, token="old"), Retry()], rules=dialect.RULES, env=world.env)

    value = await engine.call(fetch)

    assert (calls, calls == 2, ["old"][: calls - 1]) == (fetch.calls, value["ok"], asked)
