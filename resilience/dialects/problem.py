"""
Problem details for HTTP APIs (RFC 9457): a base for the dialect of any API that answers so.

Sources, as of 2026: the IANA registry "HTTP Problem Types" (about:blank, date, ohttp-key), and the types that Internet-Drafts of the HTTP
working groups are about to register and servers send already: draft-ietf-httpapi-ratelimit-headers-10 and
draft-ietf-httpbis-resumable-upload-12.

    RULES = problem.RULES.extend("acme", by_code={"out-of-credit": fail_fast()})
    RULES = problem.RULES.extend("acme", by_kind={"https://acme.example/problems/out-of-credit": fail_fast()})

A problem's identity is its ``type``, a URI (3.1.1), and that is the kind.  Its last part is the code, where the body has no ``code`` of its
own; both tables above say the same of the same problem.  What this one holds is known to the whole web, so it is listed by the whole URI.

``about:blank``, and the sections of RFC 9110 that frameworks give for want of a type, say no more than the status does (4.2.1): the status
decides, as in `resilience.dialects.http`.
"""

from __future__ import annotations

from typing import Final

from resilience.dialects import http
from resilience.outcome import fail_fast, retry

__all__ = ["RULES"]

_REGISTRY = "https://iana.org/assignments/http-problem-types#"
_ASKED = fail_fast()
_BUSY = retry(throttled=True)

RULES: Final = http.RULES.extend(
    "problem",
    by_kind={
        # RFC 9458, 6.5.2 and 5.3: the client's clock, or its copy of the gateway's keys, has to be set right first.
        f"{_REGISTRY}date": _ASKED,
        f"{_REGISTRY}ohttp-key": _ASKED,
        # draft-ietf-httpapi-ratelimit-headers: a quota, or less of it than usual for a while; and what looks like abuse, as repeats would.
        f"{_REGISTRY}quota-exceeded": _BUSY,
        f"{_REGISTRY}temporary-reduced-capacity": _BUSY,
        f"{_REGISTRY}abnormal-usage-detected": _ASKED,
        # draft-ietf-httpbis-resumable-upload: the client has to ask how far it got, and go on from there.
        f"{_REGISTRY}mismatching-upload-offset": _ASKED,
        f"{_REGISTRY}completed-upload": _ASKED,
        f"{_REGISTRY}inconsistent-upload-length": _ASKED,
    },
)
"""RFC 9457: the problem types that are everybody's."""
