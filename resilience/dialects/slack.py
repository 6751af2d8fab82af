"""
Slack's Web API, whose errors come inside a 200, by any client and by slack_sdk.

Sources, as of 2026: the errors that docs.slack.dev lists for every method (as on the pages of ``auth.test`` and ``chat.postMessage``);
"Rate limits"; "Using token rotation" and the pages of the ``oauth.v2`` methods; older ones from the published OpenAPI specification
(slackapi/slack-api-specs).  What a single method says of its arguments, ``channel_not_found`` and the like, fails fast like everything
that is in no table.

Every method may be called by POST, those that only read included; they are known by their names.  Slack takes no idempotency key, so one
that writes is repeated only if it was refused: before ``internal_error`` and ``fatal_error``, "some aspect of the operation" may have
"succeeded".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.classify import CodeKey
from resilience.dialects import http
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry
from resilience.reading.inside import slack_error

__all__ = ["RULES"]

_ASKED = fail_fast()
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_LIMITED = retry(throttled=True, blames=Blame.CALLER)  # as of a 429, the caller's own rate: a 200 does not say so
_ONCE_MORE = retry(attempts=2)

# The last part of the names of methods that only read: conversations.history, users.profile.get, admin.teams.list ...
_READS = frozenset(
    {
        "conversations",  # of a user, as users.conversations
        "get",
        "getPermalink",
        "getPresence",
        "history",
        "identity",
        "info",
        "list",
        "lookupByEmail",
        "members",
        "replies",
        "teamInfo",
        "test",
    }
)

_CODES: Final[Mapping[CodeKey, Verdict]] = {
    # "Rate limits": with status 429 and Retry-After; chat.postMessage spells it with an underscore.
    "ratelimited": _LIMITED,
    "rate_limited": _LIMITED,
    # Slack's own trouble: "likely due to a transient issue on our end".
    "internal_error": _ONCE_MORE,
    "fatal_error": _ONCE_MORE,
    "service_unavailable": retry(),
    # The workspace moves into an organization, and is away now and then, or until that is done: no word on Slack's own health.
    "team_added_to_org": retry(blames=Blame.CALLER),
    "org_login_required": _ASKED,
    # "The POST data was either missing or truncated": on the way, perhaps.
    "request_timeout": retry(attempts=2, blames=Blame.CALLER),
    # Token rotation: after 12 hours.
    "token_expired": refresh_token(),
    # A credential that no refresh mends.
    "not_authed": _KEY,
    "invalid_auth": _KEY,
    "account_inactive": _KEY,
    "token_revoked": _KEY,
    "access_denied": _KEY,
    "accesslimited": _KEY,
    "ekm_access_denied": _KEY,
    "enterprise_is_restricted": _KEY,
    "missing_scope": _KEY,
    "no_permission": _KEY,
    "not_allowed_token_type": _KEY,
    "team_access_not_granted": _KEY,
    "two_factor_setup_required": _KEY,
    "user_is_bot": _KEY,
    "user_is_restricted": _KEY,
    # The ``oauth.v2`` methods and ``tooling.tokens.rotate``.
    "authorization_not_found": _KEY,
    "bad_client_secret": _KEY,
    "invalid_client_id": _KEY,
    "invalid_refresh_token": _KEY,
    "invalid_token": _KEY,
    "token_already_exchanged": _KEY,
    "token_rotation_not_enabled": _ASKED,
    # The request.
    "deprecated_endpoint": _ASKED,
    "method_deprecated": _ASKED,
    "unknown_method": _ASKED,
    "invalid_arg_name": _ASKED,
    "invalid_arguments": _ASKED,
    "invalid_array_arg": _ASKED,
    "invalid_charset": _ASKED,
    "invalid_form_data": _ASKED,
    "invalid_json": _ASKED,
    "invalid_post_type": _ASKED,
    "json_not_object": _ASKED,
    "missing_charset": _ASKED,
    "missing_post_type": _ASKED,
    "superfluous_charset": _ASKED,
    "upgrade_required": _ASKED,
}


def _creates_nothing(method: str, path: str) -> bool:  # noqa: ARG001 - any method may be called by POST, and by GET as well
    """Methods that only read, by the last part of their names; and searches."""
    family, dot, verb = path.rpartition("/api/")[2].rpartition(".")
    return "/api/" in path and dot == "." and (verb in _READS or family == "search")


RULES: Final = http.RULES.extend("slack", by_code=_CODES, by_result=slack_error, creates_nothing=_creates_nothing)
"""Slack's Web API: every error that is documented for all methods."""
