"""
GitHub's statuses, the words of its 403s, and the types of its GraphQL errors.

Expectations come from docs.github.com: "Rate limits for the REST API" and "... for the GraphQL API" (what a limit looks like, and how long
to wait), "Troubleshooting the REST API" (403s and 404s about permissions, 422s, timeouts), the status codes of the REST reference; bodies
are those that the documentation and the issues named in the dialect show.
"""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from resilience import Action, Blame, Engine, Exponential, Phase, RefreshToken, Retry, Verdict, read
from resilience.dialects import github as dialect
from resilience.events import RetryGaveUp, RetryScheduled
from resilience.testing import World, script

RETRY, FAIL, REFRESH = Action.RETRY, Action.FAIL_FAST, Action.REFRESH_TOKEN
PEER, CALLER, CREDENTIAL = Blame.PEER, Blame.CALLER, Blame.CREDENTIAL

# What an answer calls for: action, tries in all that may end in it, throttled, whom it blames.
Expected = tuple[Action, int | None, bool, Blame]

PASSES: Expected = (RETRY, None, False, PEER)
TOO_SLOW: Expected = (RETRY, 2, False, PEER)
THROTTLED: Expected = (RETRY, None, True, PEER)
LIMITED: Expected = (RETRY, None, True, CALLER)  # in a 200, which does not say whose rate it is
EXPIRED: Expected = (REFRESH, None, False, CREDENTIAL)
DENIED: Expected = (FAIL, None, False, CREDENTIAL)
OURS: Expected = (FAIL, None, False, CALLER)

# status, message, expected.
REST: list[tuple[int, str, Expected]] = [
    # "You will receive a 403 or 429 response": the primary limit ...
    (
        403,
        "API rate limit exceeded for user ID 1. If you reach out to GitHub Support for help, please include the request ID X.",
        THROTTLED,
    ),
    (403, "API rate limit exceeded for 192.0.2.1. (But here's the good news: Authenticated requests get a higher rate limit.)", THROTTLED),
    (403, "API rate limit exceeded for installation ID 9306189.", THROTTLED),
    (403, "API rate limit already exceeded for user ID 1.", THROTTLED),
    (429, "API rate limit exceeded for user ID 1.", THROTTLED),
    # ... and the secondary ones, by their old name too.
    (403, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.", THROTTLED),
    (403, "You have exceeded a secondary rate limit and have been temporarily blocked from content creation.", THROTTLED),
    (429, "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.", THROTTLED),
    (403, "You have triggered an abuse detection mechanism. Please wait a few minutes before you try again.", THROTTLED),
    (403, "was submitted too quickly", THROTTLED),
    (422, "was submitted too quickly", THROTTLED),
    (429, "whatever", THROTTLED),
    # Every other 403 is a permission, or a request that GitHub does not take.
    (403, "Resource not accessible by integration", DENIED),
    (403, "Resource not accessible by personal access token", DENIED),
    (403, "Must have admin rights to Repository.", DENIED),
    (403, "Resource protected by organization SAML enforcement. You must grant your token access to this organization.", DENIED),
    (403, "Maximum number of login attempts exceeded. Please try again later.", DENIED),
    (403, "Forbidden", DENIED),
    (403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent header.", OURS),
    (403, "Repository was archived so is read-only.", OURS),
    # The status codes of the REST reference.
    (301, "Moved Permanently", OURS),
    (304, "Not Modified", OURS),
    (400, "Problems parsing JSON", OURS),
    (400, "Body should be a JSON object", OURS),
    (401, "Bad credentials", EXPIRED),
    (401, "Requires authentication", EXPIRED),
    (404, "Not Found", OURS),
    (405, "Pull Request is not mergeable", OURS),
    (406, "Not Acceptable", OURS),
    (409, "Merge conflict", OURS),
    (409, "Head branch was modified. Review and try the merge again.", OURS),
    (409, "Git Repository is empty.", OURS),
    (410, "Issues are disabled for this repo", OURS),
    (412, "Precondition Failed", OURS),
    (413, "Payload Too Large", OURS),
    (415, "Unsupported Media Type", OURS),
    (422, "Validation Failed", OURS),
    (451, "Repository access blocked", OURS),
    (500, "Server Error", PASSES),
    (502, "Server Error", PASSES),
    (502, "We couldn't respond to your request in time. Sorry about that. Please try resubmitting your request.", TOO_SLOW),
    (503, "Service unavailable", PASSES),
    (504, "Server Error", PASSES),
]
WENT_WRONG = "Something went wrong while executing your query. This may be the result of a timeout, or it could be a GitHub bug."
# The error among ``errors``, which come with a 200.
GRAPHQL: list[tuple[dict[str, Any], Expected]] = [
    ({"type": "RATE_LIMITED", "message": "API rate limit exceeded for installation ID 9306189."}, LIMITED),
    # As seen since 2026.
    ({"type": "RATE_LIMIT", "code": "graphql_rate_limit", "message": "API rate limit already exceeded for user ID 1."}, LIMITED),
    ({"type": "RATE_LIMIT", "code": "graphql_rate_limit", "message": "..."}, LIMITED),
    ({"type": "RATE_LIMIT", "message": "..."}, LIMITED),
    ({"type": "RATE_LIMITED", "message": "..."}, LIMITED),
    # "200 or 403, and you will receive an error message": the same words.
    *(({"message": message}, LIMITED) for status, message, expected in REST if (status, expected) == (403, THROTTLED)),
    ({"type": "UNPROCESSABLE", "path": ["createIssue"], "message": "was submitted too quickly"}, LIMITED),
    ({"type": "FORBIDDEN", "path": ["repository"], "message": "Resource not accessible by integration"}, DENIED),
    ({"type": "INSUFFICIENT_SCOPES", "message": "Your token has not been granted the required scopes."}, DENIED),
    ({"type": "NOT_FOUND", "path": ["repository"], "message": "Could not resolve to a Repository."}, OURS),
    ({"type": "UNPROCESSABLE", "message": "Title can't be blank"}, OURS),
    ({"type": "MAX_NODE_LIMIT_EXCEEDED", "message": "This query requests up to 1,000,000 possible nodes."}, OURS),
    ({"type": "RESOURCE_LIMITS_EXCEEDED", "path": ["user"], "message": "Resource limits for this query exceeded."}, OURS),
    ({"extensions": {"code": "undefinedField"}, "message": "Field 'nope' doesn't exist on type 'Query'"}, OURS),
    ({"message": WENT_WRONG}, TOO_SLOW),
]
UNICORN = b"<!DOCTYPE html><title>Unicorn! &middot; GitHub</title><p>This page is taking too long to load.</p>"


def rest(status: int, message: str | None = None, **headers: str) -> httpx2.Response:
    body = b"" if message is None else json.dumps({"message": message, "documentation_url": "https://docs.github.com/rest"}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx2.Response(status, content=body, headers=named, request=httpx2.Request("GET", "https://api.github.com/user"))


def graphql(error: dict[str, Any], *, data: object = None, **headers: str) -> httpx2.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = httpx2.Request("POST", "https://api.github.com/graphql")
    return httpx2.Response(200, content=json.dumps({"data": data, "errors": [error]}).encode(), headers=named, request=request)


def judged(verdict: Verdict) -> Expected:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def met(response: httpx2.Response) -> Verdict:
    assert dialect.RULES.by_result is not None
    inside = dialect.RULES.by_result(response)
    return dialect.RULES.classify(read(response, wall=0) if inside is None else inside)


@pytest.mark.parametrize(("status", "message", "expected"), REST)
def test_each_status_means_what_the_documentation_says_of_its_words(status: int, message: str, expected: Expected) -> None:
    """D2: of 403s only the words tell a limit from a permission."""
    assert expected == judged(met(rest(status, message)))


@pytest.mark.parametrize(("status", "message", "expected"), [row for row in REST if row[0] >= 400])
def test_what_is_raised_means_the_same(status: int, message: str, expected: Expected) -> None:
    """A client's own exception, and one like PyGithub's, whose body is in its text only."""
    response = rest(status, message)
    with pytest.raises(httpx2.HTTPStatusError) as caught:
        response.raise_for_status()

    class GithubException(Exception):
        def __init__(self) -> None:
            self.status, self.data, self.headers = status, response.json(), dict(response.headers)
            super().__init__(f"{status} {json.dumps(self.data)}")

    assert expected == judged(dialect.RULES.classify(read(caught.value, wall=0)))
    assert expected == judged(dialect.RULES.classify(read(GithubException(), wall=0)))


@pytest.mark.parametrize(("error", "expected"), GRAPHQL)
def test_each_graphql_error_is_known_inside_a_200(error: dict[str, Any], expected: Expected) -> None:
    """D3."""
    assert expected == judged(met(graphql(error)))


def test_every_entry_of_the_table_is_expected_by_a_line_of_this_file() -> None:
    reached = {met(rest(status, message)).rule for status, message, _ in REST} | {met(graphql(error)).rule for error, _ in GRAPHQL}
    rules = dialect.RULES
    entries = [
        entry for table in (rules.by_code, rules.by_message, rules.by_kind, rules.by_status, rules.by_error) for entry in table.values()
    ]

    assert set() == {entry.rule for entry in entries if entry.rule.startswith("github: ")} - reached


def test_a_validation_error_tells_in_its_members_what_is_the_matter() -> None:
    """ "Validation Failed": codes such as missing_field and custom, which call for nothing else; and one limit."""
    too_quick = {"resource": "IssueComment", "code": "unprocessable", "field": "data", "message": "was submitted too quickly"}
    for error, expected in ((too_quick, THROTTLED), ({"resource": "Issue", "field": "title", "code": "missing_field"}, OURS)):
        body = {"message": "Validation Failed", "errors": [error]}
        assert expected == judged(met(httpx2.Response(422, json=body)))


def test_the_unicorn_passes() -> None:
    """A page for people, where JSON was asked for."""
    for status in (502, 503):
        assert PASSES == judged(met(httpx2.Response(status, content=UNICORN, headers={"content-type": "text/html"})))


def test_partial_data_is_a_success() -> None:
    response = graphql({"type": "NOT_FOUND", "path": ["b"], "message": "..."}, data={"a": {"id": 1}, "b": None})

    assert dialect.RULES.by_result is not None
    assert dialect.RULES.by_result(response) is None


# How long to wait.

LIMIT = "API rate limit exceeded for user ID 1."
SECONDARY = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again."
# The example of the documentation, half an hour before the window ends.
SPENT = {
    "date": "Tue, 20 Aug 2013 14:50:41 GMT",
    "x_ratelimit_limit": "60",
    "x_ratelimit_remaining": "0",
    "x_ratelimit_reset": "1377012041",
}
ADVICE = Retry(attempts=4, throttled=Exponential(120, cap=960, jitter="equal"), max_server_delay=3600)


@pytest.mark.parametrize("response", [rest(403, LIMIT, **SPENT), rest(429, LIMIT, **SPENT)], ids=["403", "429"])
def test_a_primary_limit_says_when_it_ends(response: httpx2.Response) -> None:
    """In epoch seconds, by GitHub's own clock; and nothing was done."""
    signal = read(response, wall=0)

    assert (1800, Phase.REFUSED) == (signal.retry_after, signal.phase)


def test_in_graphql_too() -> None:
    """The status is 200, "and the value of the x-ratelimit-remaining header will be 0"."""
    assert dialect.RULES.by_result is not None
    signal = dialect.RULES.by_result(graphql({"type": "RATE_LIMITED", "message": LIMIT}, **SPENT))

    assert signal is not None
    assert 1800 == signal.retry_after


@pytest.mark.anyio
async def test_as_the_docstring_advises_a_limit_is_waited_out(world: World) -> None:
    limits = rest(403, LIMIT, **SPENT), rest(403, SECONDARY, retry_after="240"), rest(403, SECONDARY)
    ask = script(*limits, rest(200))
    engine = Engine([ADVICE], rules=dialect.RULES, env=world.env)

    assert 200 == (await engine.call(ask)).status_code
    assert ["hint", "hint", "backoff"] == [event.delay_source for event in world.told(RetryScheduled)]
    assert world.slept[0] >= 1800
    assert world.slept[1] >= 240
    assert world.slept[2] >= 60


def test_as_the_docstring_advises_every_wait_without_a_hint_is_a_minute_at_least_and_grows() -> None:
    """ "Wait for at least one minute before retrying ... for an exponentially increasing amount of time"."""
    for draw in (0.0, 0.5, 0.999):
        delays = [ADVICE.throttled.delay(retry, draw) for retry in (1, 2, 3)]
        assert delays[0] >= 60
        assert delays == sorted(set(delays))


@pytest.mark.anyio
async def test_without_that_a_limit_of_half_an_hour_is_final_at_once(world: World) -> None:
    """Rather than to be asked again too soon."""
    ask = script(rest(403, LIMIT, **SPENT))

    assert 403 == (await Engine([Retry()], rules=dialect.RULES, env=world.env).call(ask)).status_code
    assert (1, ["hint"]) == (ask.calls, [event.reason for event in world.told(RetryGaveUp)])


@pytest.mark.anyio
async def test_a_missing_permission_is_one_request(world: World) -> None:
    ask = script(rest(403, "Resource not accessible by integration", x_ratelimit_remaining="4999", x_ratelimit_reset="1377012041"))

    assert 403 == (await Engine([ADVICE], rules=dialect.RULES, env=world.env).call(ask)).status_code
    assert (1, []) == (ask.calls, world.slept)


@pytest.mark.anyio
async def test_the_token_of_an_installation_is_renewed(world: World) -> None:
    async def login(stale: str | None) -> str:
        return "new"

    ask = script(rest(401, "Bad credentials"), rest(200))
    engine = Engine([RefreshToken(login, token="old"), Retry()], rules=dialect.RULES, env=world.env)

    assert 200 == (await engine.call(ask)).status_code


@pytest.mark.anyio
async def test_a_query_that_takes_too_long_is_asked_once_more(world: World) -> None:
    """Each of them costs points."""
    slow = graphql({"message": WENT_WRONG})
    ask = script(*[slow] * 5)
    engine = Engine([Retry(attempts=5)], rules=dialect.RULES, env=world.env).using(repeatable=True)

    assert slow is await engine.call(ask)
    assert 2 == ask.calls
