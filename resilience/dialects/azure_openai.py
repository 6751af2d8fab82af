"""
Azure OpenAI: OpenAI's API as Microsoft hosts it.

Sources, as of 2026, at learn.microsoft.com: "Troubleshoot common errors in Azure OpenAI in Microsoft Foundry Models", "Content filtering",
"Manage Azure OpenAI quota", "Provisioned throughput: what should I do when I receive a 429", "Content Safety error codes" (the gateway in
front is the same), and the API's specification (``innerErrorCode``).

Most of its own errors have the status for a code (``"429"``), which says nothing new; the status decides then.  Throttling says for how
long, in ``retry-after-ms``, which is exact, and ``retry-after``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from resilience.classify import CodeKey
from resilience.dialects import openai
from resilience.outcome import Blame, Verdict, fail_fast, refresh_token, retry

__all__ = ["RULES"]

_ASKED = fail_fast()
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_BUSY = retry(throttled=True)

_CODES: Final[Mapping[CodeKey, Verdict]] = {
    # `innerErrorCode`; the code beside it is ``content_filter``, or ``content_policy_violation`` for images.
    "ResponsibleAIPolicyViolation": _ASKED,
    # 404.  "If you created the deployment within the last 5 minutes, please wait": longer than any call should.
    "DeploymentNotFound": _ASKED,
    "OperationNotSupported": _ASKED,  # this model does not do that
    # 401 and 403: a role or a way in that is missing.  A new token has it no more than the old one.
    "PermissionDenied": _KEY,
    "AuthenticationTypeDisabled": _KEY,
    "Forbidden": _KEY,
    "Unauthorized": refresh_token(),
    # 429: the deployment's limit, or a pool that is short of capacity.
    "RateLimitReached": _BUSY,
    "TooManyRequests": _BUSY,
    "too_many_requests": _BUSY,
    "NoCapacity": _BUSY,
    "ServerBusy": _BUSY,
    "ServiceUnavailable": _BUSY,
    "InternalError": retry(),
    "InternalServerError": retry(),
    # Of the subscription, for deployments: it has to be raised by somebody.
    "InsufficientQuota": _ASKED,
    "QuotaExceeded": _ASKED,
}

RULES: Final = openai.RULES.extend(
    "azure_openai",
    by_code=_CODES,
    by_message={
        # With the code "401", like a Microsoft Entra token that has expired; but a key does not expire.
        (401, "invalid subscription key"): _KEY,
        # With the code "403": of a pricing tier that is used up until next month.
        (403, "out of call volume quota"): _ASKED,
    },
    by_kind={"ResponsibleAIPolicyViolation": _ASKED},
    by_status={
        401: refresh_token(),  # Microsoft Entra ID: tokens live for about an hour
        # A service behind it failed: an MCP server, a data source, the container of a model.  May pass, but is often set up wrongly.
        424: retry(attempts=2),
    },
)
"""Azure OpenAI: OpenAI's, and what Azure adds."""
