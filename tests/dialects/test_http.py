"""What plain HTTP means, by its RFCs, and what the exceptions of the common clients mean, unimported."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Any

import anyio
import httpx
import httpx2
import pytest

from resilience import Action, Blame, Phase, read
from resilience.dialects.http import RULES

RETRY, FAIL_FAST, REFRESH = Action.RETRY, Action.FAIL_FAST, Action.REFRESH_TOKEN


@pytest.mark.parametrize(
    ("status", "action", "throttled", "blames"),
    [
        (301, FAIL_FAST, False, Blame.CALLER),  # as an error: a returned one is a value like any other
        (400, FAIL_FAST, False, Blame.CALLER),
        (401, REFRESH, False, Blame.CREDENTIAL),
        (403, FAIL_FAST, False, Blame.CREDENTIAL),
        (404, FAIL_FAST, False, Blame.CALLER),
        (408, RETRY, False, Blame.PEER),
        (409, FAIL_FAST, False, Blame.CALLER),
        (418, FAIL_FAST, False, Blame.CALLER),
        (422, FAIL_FAST, False, Blame.CALLER),
        (425, RETRY, False, Blame.PEER),
        (428, FAIL_FAST, False, Blame.CALLER),
        (429, RETRY, True, Blame.PEER),
        (431, FAIL_FAST, False, Blame.CALLER),
        (499, FAIL_FAST, False, Blame.CALLER),
        (500, RETRY, False, Blame.PEER),
        (501, FAIL_FAST, False, Blame.PEER),
        (502, RETRY, False, Blame.PEER),
        (503, RETRY, False, Blame.PEER),
        (504, RETRY, False, Blame.PEER),
        (505, FAIL_FAST, False, Blame.PEER),
        (511, FAIL_FAST, False, Blame.CALLER),
        (529, RETRY, True, Blame.PEER),
        (599, RETRY, False, Blame.PEER),
    ],
)
def test_each_status_means_what_its_rfc_says(status: int, action: Action, throttled: bool, blames: Blame) -> None:
    verdict = RULES.classify(read(httpx2.Response(status), wall=0))

    assert (action, throttled, blames) == (verdict.action, verdict.throttled, verdict.blames)


@pytest.mark.parametrize(
    ("error", "action", "blames", "phase"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), RETRY, Blame.PEER, Phase.NOT_SENT),
        (ConnectionResetError(errno.ECONNRESET, "reset"), RETRY, Blame.PEER, Phase.UNKNOWN),
        (BrokenPipeError(errno.EPIPE, "broken"), RETRY, Blame.PEER, Phase.UNKNOWN),
        (TimeoutError(), RETRY, Blame.PEER, Phase.UNKNOWN),
        (OSError(errno.EHOSTUNREACH, "no route"), RETRY, Blame.PEER, Phase.UNKNOWN),
        (OSError(errno.ENETUNREACH, "no network"), RETRY, Blame.PEER, Phase.UNKNOWN),
        (FileNotFoundError(errno.ENOENT, "no file"), FAIL_FAST, Blame.CALLER, Phase.UNKNOWN),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), RETRY, Blame.PEER, Phase.NOT_SENT),
        (ssl.SSLCertVerificationError("bad certificate"), FAIL_FAST, Blame.PEER, Phase.NOT_SENT),
        (anyio.BrokenResourceError(), RETRY, Blame.PEER, Phase.UNKNOWN),
        *(
            case
            for client in (httpx, httpx2)
            for case in [
                (client.ConnectError("no"), RETRY, Blame.PEER, Phase.NOT_SENT),
                (client.ConnectTimeout("late"), RETRY, Blame.PEER, Phase.NOT_SENT),
                (client.PoolTimeout("full"), RETRY, Blame.CALLER, Phase.NOT_SENT),
                (client.ReadTimeout("late"), RETRY, Blame.PEER, Phase.UNKNOWN),
                (client.ReadError("cut"), RETRY, Blame.PEER, Phase.UNKNOWN),
                (client.WriteError("cut"), RETRY, Blame.PEER, Phase.UNKNOWN),
                (client.RemoteProtocolError("gone"), RETRY, Blame.PEER, Phase.UNKNOWN),
                (client.LocalProtocolError("ours"), FAIL_FAST, Blame.CALLER, Phase.UNKNOWN),
                (client.UnsupportedProtocol("ours"), FAIL_FAST, Blame.CALLER, Phase.NOT_SENT),
                (client.InvalidURL("ours"), FAIL_FAST, Blame.CALLER, Phase.UNKNOWN),
                (client.TooManyRedirects("round"), FAIL_FAST, Blame.CALLER, Phase.UNKNOWN),
            ]
        ),
        # D27: programming errors and the unknown are nobody's to repeat.
        *(
            (kind("a bug"), FAIL_FAST, Blame.CALLER, Phase.UNKNOWN)
            for kind in (ValueError, TypeError, KeyError, AttributeError, RuntimeError)
        ),
    ],
    ids=lambda value: f"{type(value).__module__}.{type(value).__name__}" if isinstance(value, Exception) else None,
)
def test_each_exception_says_what_it_calls_for_whom_it_blames_and_how_far_it_got(
    error: Exception, action: Action, blames: Blame, phase: Phase
) -> None:
    """D27, D28, and the table of section 6 in the comparison with rivals: one test a row."""
    signal = read(error, wall=0)
    verdict = RULES.classify(signal)

    assert (action, blames, phase) == (verdict.action, verdict.blames, signal.phase)


@pytest.mark.parametrize("client", [httpx, httpx2])
@pytest.mark.parametrize(("status", "action"), [(400, FAIL_FAST), (401, REFRESH), (404, FAIL_FAST), (429, RETRY), (503, RETRY)])
def test_a_status_raised_is_judged_like_one_returned(client: Any, status: int, action: Action) -> None:
    response = client.Response(status, request=client.Request("GET", "http://api.example.com/"))
    with pytest.raises(client.HTTPStatusError) as caught:
        response.raise_for_status()

    raised, returned = read(caught.value, wall=0), read(response, wall=0)
    assert action is RULES.classify(raised).action is RULES.classify(returned).action
    assert raised.phase is returned.phase


def test_the_peers_own_word_beats_the_status_but_no_code() -> None:
    """D2."""
    told = httpx2.Response(404, headers={"x-should-retry": "true"})
    assert RETRY is RULES.classify(read(told, wall=0)).action
    forbidden = httpx2.Response(503, headers={"x-should-retry": "false"})
    assert FAIL_FAST is RULES.classify(read(forbidden, wall=0)).action

    known = RULES.extend("ours", by_code={"quota": "fail_fast"})
    both = httpx2.Response(429, headers={"x-should-retry": "true"}, json={"error": {"code": "quota"}})
    assert FAIL_FAST is known.classify(read(both, wall=0)).action
