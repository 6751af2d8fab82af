"""
The GitHub API, REST and GraphQL.

Sources, as of 2026: docs.github.com, "Rate limits for the REST API", "Rate limits and query limits for the GraphQL API", "Troubleshooting
the REST API", "Best practices for using the REST API", "Authenticating as a GitHub App installation", and the status codes of the REST
reference; GitHub changelog, 2025-07-21 (timeouts count); octokit/plugin-throttling.js (how secondary limits are known) and its pull request
848, yanyongyu/githubkit issue 271 (``RATE_LIMIT``); cli/cli issue 4801 ("was submitted too quickly").

Limits.  GitHub refuses too many requests with 403 as well as 429, GraphQL with a 200, and a 403 is a missing permission too; only the words
tell which.  So the words decide under 403 and 200, and what they do not speak of blames the credential.  Where no body was read (HEAD, a
stream) they are missing: a spent primary limit then shows in ``x-ratelimit-remaining: 0`` alone, which no table looks at.

Waiting.  A primary limit says when it ends (``x-ratelimit-reset``, within the hour), and so may a secondary one (``retry-after``).  Without
either, GitHub asks for "at least one minute", then exponentially more, then to give up; "continuing to make requests while you are rate
limited may result in the banning of your integration".  That is for `Retry` to say, whose schedule starts at one second and which heeds no
hint above one minute unless it is told to:

    Retry(attempts=4, throttled=Exponential(120, cap=960, jitter="equal"), max_server_delay=3600)

``equal`` draws from the upper half, so that the first wait is one to two minutes.

GraphQL.  A query is a POST as a mutation is; say ``using(repeatable=True)`` for queries.  One that takes ten seconds is cut off, and costs
points all the same; it is asked again once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.classify import MessageKey
from resilience.dialects import http
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry
from resilience.reading.inside import graphql_errors

__all__ = ["RULES"]

_ASKED = fail_fast()
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_BUSY = retry(throttled=True)
_LIMITED = retry(throttled=True, blames=Blame.CALLER)  # as of a 429, the caller's own rate: a 200 does not say so
_ONCE_MORE = retry(attempts=2)

_LIMITS: Final = (
    "rate limit exceeded",  # "API rate limit exceeded for user ID 1.", "... for 192.0.2.1. (But here's the good news: ..."
    "rate limit already exceeded",
    "secondary rate limit",
    "abuse detection mechanism",  # what that was called until 2021; GitHub Enterprise Server may be older
    "submitted too quickly",  # too much content
)

_MESSAGES: Final[Mapping[MessageKey, Verdict]] = {
    **{(200, words): _LIMITED for words in _LIMITS},
    **{(403, words): _BUSY for words in _LIMITS},
    (422, "submitted too quickly"): _BUSY,
    # What else a 403 may be for, apart from a permission.
    (403, "administrative rules"): _ASKED,  # no User-Agent
    (403, "archived so is read-only"): _ASKED,
    # GraphQL's ten seconds were not enough, most likely.
    "something went wrong while executing your query": _ONCE_MORE,
    "couldn't respond to your request in time": _ONCE_MORE,
}

RULES: Final = http.RULES.extend(
    "github",
    by_code={"graphql_rate_limit": _LIMITED},
    by_message=_MESSAGES,
    # The type of a GraphQL error.
    by_kind={
        "RATE_LIMITED": _LIMITED,
        "RATE_LIMIT": _LIMITED,
        "FORBIDDEN": _KEY,
        "INSUFFICIENT_SCOPES": _KEY,
        "NOT_FOUND": _ASKED,
        "UNPROCESSABLE": _ASKED,
        "MAX_NODE_LIMIT_EXCEEDED": _ASKED,  # these two are of one query, which is to ask for less
        "RESOURCE_LIMITS_EXCEEDED": _ASKED,
    },
    by_status={
        401: refresh_token(),  # "Bad credentials"; the token of an app's installation lives for an hour
        403: _KEY,
        404: _ASKED,  # or a permission that is missing: private repositories are not confirmed to exist
        409: _ASKED,  # a merge conflict, a branch that has moved on, an empty repository
        410: _ASKED,
        422: _ASKED,
        429: _BUSY,
        451: _ASKED,
    },
    by_result=graphql_errors,
)
"""GitHub: limits by their words, everything else by its status; GraphQL errors by their type."""
