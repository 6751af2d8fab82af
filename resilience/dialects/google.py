"""
Google's APIs over HTTP and JSON, whichever of them.

Sources, as of 2026: ``google/rpc/code.proto`` and ``error_details.proto``, ``google/api/error_reason.proto`` (googleapis); AIP-193 (errors)
and AIP-194 (automatic retry); "Troubleshoot issues" of Service Usage (cloud.google.com: 429, 500 and 503 are worth another try); "Google
APIs: global domain errors" (developers.google.com) for the older APIs, which say 403 to a rate limit; "Resolve errors" of the Drive API.

An error has a status name, which is its kind here, and most have a reason or the quota that was exceeded, which is the code then.  Where
they have neither, the name is both.  The names are in both tables, but for ``RESOURCE_EXHAUSTED``, which is no code: for lack of one the
message may say that no waiting helps, and a code would come before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.classify import CodeKey
from resilience.dialects import http
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry

__all__ = ["RULES"]

_ASKED = fail_fast()
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_THEIRS = fail_fast(blames=Blame.PEER)
_BUSY = retry(throttled=True)
_ONCE_MORE = retry(attempts=2)

# `google.rpc.Code`.  OK is no error.
_NAMES: Final[Mapping[str, Verdict]] = {
    "CANCELLED": _ASKED,  # AIP-194: a cancellation "must be honored"
    # AIP-194 takes these for bugs, which another try does not mend; Service Usage asks for one, after a second.
    "UNKNOWN": _ONCE_MORE,
    "INTERNAL": _ONCE_MORE,
    # AIP-194 means the deadline that an RPC carries.  A request over HTTP carries none, so this is the server's own.
    "DEADLINE_EXCEEDED": _ONCE_MORE,
    "UNAVAILABLE": retry(),
    "RESOURCE_EXHAUSTED": _BUSY,
    "UNAUTHENTICATED": refresh_token(),
    "PERMISSION_DENIED": _KEY,
    "INVALID_ARGUMENT": _ASKED,
    "NOT_FOUND": _ASKED,
    "ALREADY_EXISTS": _ASKED,
    "FAILED_PRECONDITION": _ASKED,
    "OUT_OF_RANGE": _ASKED,
    "UNIMPLEMENTED": _ASKED,
    # "The client should retry at a higher level": read, modify and write again.  Who wraps all of that says retry() here.
    "ABORTED": _ASKED,
    "DATA_LOSS": _THEIRS,
}

# `google.api.ErrorReason`, of the domain ``googleapis.com``.
_REASONS: Final[Mapping[CodeKey, Verdict]] = {
    "RATE_LIMIT_EXCEEDED": _BUSY,
    "RESOURCE_QUOTA_EXCEEDED": _ASKED,  # how many there may be, not how fast
    "EMULATOR_QUOTA_EXCEEDED": _ASKED,
    "ACCESS_TOKEN_EXPIRED": refresh_token(),
    "JWT_TOKEN_INVALID": refresh_token(),  # as one that has expired is
    **dict.fromkeys(
        (
            "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
            "ACCESS_TOKEN_TYPE_UNSUPPORTED",
            "ACCOUNT_STATE_INVALID",
            "ACCOUNT_TYPE_UNSUPPORTED",
            "API_KEY_ANDROID_APP_BLOCKED",
            "API_KEY_HTTP_REFERRER_BLOCKED",
            "API_KEY_INVALID",  # with a 400
            "API_KEY_IOS_APP_BLOCKED",
            "API_KEY_IP_ADDRESS_BLOCKED",
            "API_KEY_SERVICE_BLOCKED",
            "CONSUMER_INVALID",
            "CONSUMER_SUSPENDED",
            "CREDENTIALS_MISSING",
            "CREDENTIAL_ANDROID_APP_INVALID",
            "CREDENTIAL_TYPE_UNSUPPORTED",
            "GCP_SUSPENDED",
            "IAM_PERMISSION_DENIED",
            "OVERLOADED_CREDENTIALS",
            "SESSION_COOKIE_INVALID",
            "USER_BLOCKED_BY_ADMIN",
            "USER_PROJECT_DENIED",
        ),
        _KEY,
    ),
    **dict.fromkeys(
        (
            "BILLING_DISABLED",
            "ENDPOINT_USAGE_RESTRICTION_VIOLATED",
            "LOCATION_ORG_POLICY_VIOLATED",
            "LOCATION_POLICY_VIOLATED",
            "LOCATION_TAX_POLICY_VIOLATED",
            "MCP_SERVER_DISABLED",
            "MISSING_ORIGIN",
            "ORG_RESTRICTION_HEADER_INVALID",
            "ORG_RESTRICTION_VIOLATION",
            "RESOURCE_PROJECT_INVALID",
            "RESOURCE_USAGE_RESTRICTION_VIOLATED",
            "SECURITY_POLICY_VIOLATED",
            "SERVICE_DISABLED",
            "SERVICE_NOT_VISIBLE",
            "SYSTEM_PARAMETER_UNSUPPORTED",
            "TLS_CIPHER_RESTRICTION_VIOLATED",
            "TLS_ORG_POLICY_VIOLATED",
        ),
        _ASKED,
    ),
}

# "Google APIs: global domain errors", those that their status does not explain: limits, most of them with a 403.
_OLDER_REASONS: Final[Mapping[CodeKey, Verdict]] = {
    "rateLimitExceeded": _BUSY,
    "userRateLimitExceeded": _BUSY,
    "concurrentLimitExceeded": _BUSY,
    "servingLimitExceeded": _BUSY,
    "limitExceeded": _BUSY,
    "rateLimitExceededUnreg": _ASKED,  # "please register"
    "userRateLimitExceededUnreg": _ASKED,
    "quotaExceeded": _ASKED,  # "requires more resources than the quota allows"
    "quotaExceeded402": _ASKED,
    "variableTermLimitExceeded": _ASKED,
    "accessNotConfigured": _ASKED,
    "responseTooLarge": _ASKED,
}

# The id of the quota in a `google.rpc.QuotaFailure`, ``GenerateRequestsPerDayPerProjectPerModel-FreeTier``, or a reason such as
# ``dailyLimitExceeded``: back tomorrow, whatever the `google.rpc.RetryInfo` beside it says.
_DAILY: Final[Mapping[CodeKey, Verdict]] = dict.fromkeys(("*PerDay*", "*perDay*", "*per_day*", "*PER_DAY*", "*Daily*", "*daily*"), _ASKED)

_CODES: Final[Mapping[CodeKey, Verdict]] = {
    **{name: verdict for name, verdict in _NAMES.items() if name != "RESOURCE_EXHAUSTED"},
    **_REASONS,
    **_OLDER_REASONS,
    **_DAILY,
}

RULES: Final = http.RULES.extend(
    "google",
    by_code=_CODES,
    by_message={
        # The Drive API and its kin, where only the words say that this 403 is a limit: "User Rate Limit Exceeded.  Rate of requests ..."
        (403, "rate limit exceeded"): _BUSY,
    },
    by_kind=_NAMES,
)
"""Google: every `google.rpc.Code`, every reason of the common infrastructure, and quotas by the day."""
