"""
RFC 9457: registered problem types, and types that leave it to the status.

Expectations: the IANA registry "HTTP Problem Types" and the documents it refers to (RFC 9457, 4.2.1; RFC 9458, 5.3 and 6.5.2), the drafts
draft-ietf-httpapi-ratelimit-headers-10 and draft-ietf-httpbis-resumable-upload-12; RFC 9110, 15, for all others.
"""

from __future__ import annotations

from typing import Any

import httpx
import httpx2
import pytest

from resilience import Action, Blame, Verdict, fail_fast, read, refresh_token
from resilience.dialects import http
from resilience.dialects import problem as dialect

Means = tuple[Action, int | None, bool, Blame]  # what to do, tries in all, whether less is asked for, whom it speaks against

ASKED: Means = (Action.FAIL_FAST, None, False, Blame.CALLER)
BUSY: Means = (Action.RETRY, None, True, Blame.PEER)

# type, the status that its document recommends, what it means.
REGISTERED = [
    ("date", 400, ASKED),
    ("ohttp-key", 400, ASKED),
    ("quota-exceeded", 429, BUSY),
    ("temporary-reduced-capacity", 503, BUSY),
    ("abnormal-usage-detected", 429, ASKED),
    ("mismatching-upload-offset", 409, ASKED),
    ("completed-upload", 400, ASKED),
    ("inconsistent-upload-length", 400, ASKED),
]


def meant(verdict: Verdict) -> Means:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def problem(status: int, kind: str | None, **more: Any) -> list[Any]:
    """A problem, as each client has it."""
    body = {"title": "Title", "status": status, "detail": "Detail.", **({} if kind is None else {"type": kind}), **more}
    headers = {"Content-Type": "application/problem+json"}
    return [client.Response(status, json=body, headers=headers) for client in (httpx, httpx2)]


@pytest.mark.parametrize(("name", "status", "means"), REGISTERED)
def test_each_registered_type_means_what_its_document_says(name: str, status: int, means: Means) -> None:
    kind = f"https://iana.org/assignments/http-problem-types#{name}"

    for under in (status, 400, 500):  # the type decides, whatever it comes under
        for response in problem(under, kind):
            signal = read(response)
            verdict = dialect.RULES.classify(signal)
            assert (means, f"problem: kind {kind}") == (meant(verdict), verdict.rule)
            assert (name, kind, "Detail.") == (signal.code, signal.kind, signal.message)


@pytest.mark.parametrize(
    "kind",
    [
        None,
        "about:blank",
        "https://tools.ietf.org/html/rfc9110#section-15.5.5",
        "https://www.rfc-editor.org/rfc/rfc9110.html#name-404-not-found",
        "https://httpstatuses.io/404",
        # Another's, of the same name as a registered one.
        "https://acme.example/problems/date",
    ],
)
@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 408, 409, 410, 415, 422, 425, 429, 500, 501, 502, 503, 504, 511, 529])
def test_a_type_that_says_nothing_leaves_it_to_the_status(kind: str | None, status: int) -> None:
    """RFC 9457, 4.2.1: "the problem has no additional semantics beyond that of the HTTP status code"."""
    for response in problem(status, kind):
        signal = read(response)
        assert http.RULES.classify(read(httpx2.Response(status))) == http.RULES.classify(signal)
        assert http.RULES.classify(signal) == dialect.RULES.classify(signal)


TABLES = [
    dialect.RULES.extend("acme", by_code={"out-of-credit": fail_fast(), "session-over": refresh_token()}),
    dialect.RULES.extend(
        "acme",
        by_kind={
            "https://acme.example/problems/out-of-credit": fail_fast(),
            "https://acme.example/problems/session-over": refresh_token(),
        },
    ),
]


@pytest.mark.parametrize("rules", TABLES, ids=["by_code", "by_kind"])
def test_an_apis_own_types_go_into_a_table_by_their_last_part_or_whole(rules: Any) -> None:
    """D2: credit that has run out under a 429, and a session that is over under a 403."""
    for response in problem(429, "https://acme.example/problems/out-of-credit"):
        assert ASKED == meant(rules.classify(read(response)))
    for response in problem(403, "https://acme.example/problems/session-over"):
        assert Action.REFRESH_TOKEN is rules.classify(read(response)).action
    for response in problem(429, "https://acme.example/problems/too-fast"):
        assert BUSY == meant(rules.classify(read(response)))


def test_a_code_of_the_bodys_own_comes_before_its_types_name() -> None:
    """RFC 9457, 3.2: extension members."""
    rules = dialect.RULES.extend("acme", by_code={"E42": fail_fast(), "busy": fail_fast()})

    for response in problem(503, "https://acme.example/problems/busy", code="E42"):
        assert "acme: code E42" == rules.classify(read(response)).rule
