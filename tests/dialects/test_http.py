"""Plain HTTP: what each status and each client's exceptions call for."""

from __future__ import annotations

import asyncio
import errno
import http.client
import socket
import ssl
import urllib.error
from collections.abc import Callable
from typing import Any

import anyio
import httpcore
import httpx
import httpx2
import pytest
import trio

from resilience import Action, Blame, Engine, Phase, RefreshToken, Retry, read
from resilience.dialects import http as dialect
from resilience.testing import World, script

RETRY, FAIL, REFRESH = Action.RETRY, Action.FAIL_FAST, Action.REFRESH_TOKEN
NOT_SENT, UNKNOWN = Phase.NOT_SENT, Phase.UNKNOWN
PEER, CALLER, CREDENTIAL = Blame.PEER, Blame.CALLER, Blame.CREDENTIAL

STATUSES = {
    300: (FAIL, CALLER), 301: (FAIL, CALLER), 304: (FAIL, CALLER), 308: (FAIL, CALLER),
    400: (FAIL, CALLER), 401: (REFRESH, CREDENTIAL), 402: (FAIL, CALLER), 403: (FAIL, CREDENTIAL), 404: (FAIL, CALLER),
    405: (FAIL, CALLER), 406: (FAIL, CALLER), 407: (FAIL, CALLER), 408: (RETRY, PEER), 409: (FAIL, CALLER), 410: (FAIL, CALLER),
    411: (FAIL, CALLER), 412: (FAIL, CALLER), 413: (FAIL, CALLER), 414: (FAIL, CALLER), 415: (FAIL, CALLER), 416: (FAIL, CALLER),
    417: (FAIL, CALLER), 418: (FAIL, CALLER), 421: (FAIL, CALLER), 422: (FAIL, CALLER), 423: (FAIL, CALLER), 424: (FAIL, CALLER),
    425: (RETRY, PEER), 426: (FAIL, CALLER), 428: (FAIL, CALLER), 429: (RETRY, PEER), 431: (FAIL, CALLER), 451: (FAIL, CALLER),
    499: (FAIL, CALLER),
    500: (RETRY, PEER), 501: (FAIL, PEER), 502: (RETRY, PEER), 503: (RETRY, PEER), 504: (RETRY, PEER), 505: (FAIL, PEER),
    506: (FAIL, PEER), 507: (RETRY, PEER), 508: (FAIL, PEER), 510: (FAIL, PEER), 511: (FAIL, CALLER), 520: (RETRY, PEER),
    522: (RETRY, PEER), 524: (RETRY, PEER), 529: (RETRY, PEER), 599: (RETRY, PEER),
}  # fmt: skip


class StatusError(Exception):
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


@pytest.mark.parametrize("status", STATUSES)
def test_each_status_means_what_the_rfcs_say(status: int) -> None:
    """RFC 9110, 6585, 8470."""
    raised = dialect.RULES.classify(read(StatusError(status), wall=0))

    assert STATUSES[status] == (raised.action, raised.blames)
    assert (status in {429, 529}) == raised.throttled
    assert raised.attempts is None
    if status >= 400:
        for client in (httpx, httpx2):
            returned = dialect.RULES.classify(read(client.Response(status), wall=0))
            assert raised == returned


def test_every_status_is_judged_and_a_client_error_says_that_nothing_was_done() -> None:
    """But for those that may come in the middle of the work: out of time, a failure behind the peer, a client that has gone."""
    for status in range(100, 600):
        signal = read(StatusError(status), wall=0)

        assert (Phase.REFUSED if 400 <= status < 500 and status not in {408, 424, 499} else Phase.UNKNOWN) is signal.phase
        assert dialect.RULES.classify(signal).action in Action


def named(name: str, *bases: type[Exception], words: str = "") -> Exception:
    """An exception as a client that is not installed here would raise it."""
    package, _, qualname = name.rpartition(".")
    kind: type[Exception] = type(qualname, bases or (Exception,), {"__module__": f"{package}._exceptions"})
    return kind(words) if words else kind()


def max_retry(reason: Exception) -> Exception:
    """As urllib3 keeps what its last try ended in."""
    error = named("urllib3.MaxRetryError", words=f"Max retries exceeded (Caused by {reason})")
    error.reason = reason  # type: ignore[attr-defined]
    return error


REQUEST, REQUEST2 = httpx.Request("POST", "https://api.example/"), httpx2.Request("POST", "https://api.example/")
CONNECTION_ERROR = named("aiohttp.ClientConnectionError")
CONNECTOR = named("aiohttp.ClientConnectorError", type(CONNECTION_ERROR))

UNTRUSTED = "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1006)"
BROKE_OFF = "[SSL: UNEXPECTED_EOF_WHILE_READING] EOF occurred in violation of protocol (_ssl.c:1006)"
# How each client brings an error of TLS, and how far a request got whose certificate was refused, or whose handshake broke off.
TLS: dict[str, tuple[Callable[[str], Exception], Phase, Phase]] = {
    "ssl": (lambda words: (ssl.SSLCertVerificationError if words == UNTRUSTED else ssl.SSLEOFError)(1, words), NOT_SENT, UNKNOWN),
    "httpx": (httpx.ConnectError, NOT_SENT, NOT_SENT),
    "httpx2": (httpx2.ConnectError, NOT_SENT, NOT_SENT),
    "httpcore": (httpcore.ConnectError, NOT_SENT, NOT_SENT),
    "aiohttp": (lambda words: named("aiohttp.ClientConnectorSSLError", type(CONNECTOR), words=words), NOT_SENT, NOT_SENT),
    "requests": (lambda words: named("requests.SSLError", type(named("requests.ConnectionError")), words=words), UNKNOWN, UNKNOWN),
    "urllib": (lambda words: urllib.error.URLError(TLS["ssl"][0](words)), NOT_SENT, UNKNOWN),
    "urllib3": (lambda words: max_retry(named("urllib3.SSLError", words=words)), UNKNOWN, UNKNOWN),
}

# Rivals 6.6: connection refused, DNS, TLS, disconnects, of each client: what it calls for, whom it blames, how far it got.
ERRORS: dict[str, tuple[BaseException, Action, Blame, Phase]] = {
    "refused": (ConnectionRefusedError(), RETRY, PEER, Phase.NOT_SENT),
    "reset": (ConnectionResetError(), RETRY, PEER, Phase.UNKNOWN),
    "broken pipe": (BrokenPipeError(), RETRY, PEER, Phase.UNKNOWN),
    "timeout": (TimeoutError(), RETRY, PEER, Phase.UNKNOWN),
    "network unreachable": (OSError(errno.ENETUNREACH, "unreachable"), RETRY, PEER, Phase.UNKNOWN),
    "host unreachable": (OSError(errno.EHOSTUNREACH, "unreachable"), RETRY, PEER, Phase.UNKNOWN),
    "no such file": (FileNotFoundError(errno.ENOENT, "no"), FAIL, CALLER, Phase.UNKNOWN),
    "disk full": (OSError(errno.ENOSPC, "full"), FAIL, CALLER, Phase.UNKNOWN),
    "DNS": (socket.gaierror(socket.EAI_AGAIN, "again"), RETRY, PEER, Phase.NOT_SENT),
    "certificate": (ssl.SSLCertVerificationError("expired"), FAIL, PEER, Phase.NOT_SENT),
    "end of stream": (EOFError(), RETRY, PEER, Phase.UNKNOWN),
    "asyncio incomplete read": (asyncio.IncompleteReadError(b"", 5), RETRY, PEER, Phase.UNKNOWN),
    "anyio broken": (anyio.BrokenResourceError(), RETRY, PEER, Phase.UNKNOWN),
    "anyio end": (anyio.EndOfStream(), RETRY, PEER, Phase.UNKNOWN),
    "anyio incomplete read": (anyio.IncompleteRead(), RETRY, PEER, Phase.UNKNOWN),
    "trio broken": (trio.BrokenResourceError(), RETRY, PEER, Phase.UNKNOWN),
    "trio too slow": (trio.TooSlowError(), RETRY, PEER, Phase.UNKNOWN),
    "httpcore connect": (httpcore.ConnectError(), RETRY, PEER, Phase.NOT_SENT),
    "httpcore read": (httpcore.ReadError(), RETRY, PEER, Phase.UNKNOWN),
    "httpcore disconnected": (httpcore.RemoteProtocolError(), RETRY, PEER, Phase.UNKNOWN),
    "httpcore read timeout": (httpcore.ReadTimeout(), RETRY, PEER, Phase.UNKNOWN),
    **{
        f"{client.__name__} {name}": (getattr(client, name)("x", request=request), *expected)
        for client, request in ((httpx, REQUEST), (httpx2, REQUEST2))
        for name, expected in {
            "ConnectError": (RETRY, PEER, Phase.NOT_SENT),
            "ConnectTimeout": (RETRY, PEER, Phase.NOT_SENT),
            "PoolTimeout": (RETRY, CALLER, Phase.NOT_SENT),
            "ProxyError": (RETRY, PEER, Phase.NOT_SENT),
            "ReadTimeout": (RETRY, PEER, Phase.UNKNOWN),
            "WriteTimeout": (RETRY, PEER, Phase.UNKNOWN),
            "ReadError": (RETRY, PEER, Phase.UNKNOWN),
            "WriteError": (RETRY, PEER, Phase.UNKNOWN),
            "CloseError": (RETRY, PEER, Phase.UNKNOWN),
            "RemoteProtocolError": (RETRY, PEER, Phase.UNKNOWN),
            "LocalProtocolError": (FAIL, CALLER, Phase.UNKNOWN),
            "UnsupportedProtocol": (FAIL, CALLER, Phase.NOT_SENT),
            "TooManyRedirects": (FAIL, CALLER, Phase.UNKNOWN),
            "DecodingError": (FAIL, CALLER, Phase.UNKNOWN),
        }.items()
    },
    "httpx InvalidURL": (httpx.InvalidURL("x"), FAIL, CALLER, Phase.UNKNOWN),
    "aiohttp connection": (CONNECTION_ERROR, RETRY, PEER, Phase.UNKNOWN),
    "aiohttp connector": (CONNECTOR, RETRY, PEER, Phase.NOT_SENT),
    "aiohttp certificate": (named("aiohttp.ClientConnectorCertificateError", type(CONNECTION_ERROR)), FAIL, PEER, Phase.UNKNOWN),
    "aiohttp payload": (named("aiohttp.ClientPayloadError"), RETRY, PEER, Phase.UNKNOWN),
    "aiohttp parsing": (named("aiohttp.HttpProcessingError"), RETRY, PEER, Phase.UNKNOWN),
    "aiohttp url": (named("aiohttp.InvalidURL"), FAIL, CALLER, Phase.UNKNOWN),
    "requests connection": (named("requests.ConnectionError"), RETRY, PEER, Phase.UNKNOWN),
    # One class for every trouble with TLS, or none at all: a handshake that broke off passes, a certificate does not.
    **{f"{client}, untrusted": (error(UNTRUSTED), FAIL, PEER, phase) for client, (error, phase, _) in TLS.items()},
    **{f"{client}, handshake broke off": (error(BROKE_OFF), RETRY, PEER, phase) for client, (error, _, phase) in TLS.items()},
    "requests chunk": (named("requests.ChunkedEncodingError"), RETRY, PEER, Phase.UNKNOWN),
    "http.client incomplete read": (http.client.IncompleteRead(b"x", 5), RETRY, PEER, Phase.UNKNOWN),
    "http.client no status": (http.client.BadStatusLine(""), RETRY, PEER, Phase.UNKNOWN),
    "http.client disconnected": (http.client.RemoteDisconnected(""), RETRY, PEER, Phase.UNKNOWN),
    "http.client misuse": (http.client.CannotSendRequest(), FAIL, CALLER, Phase.UNKNOWN),
    # Judged by what they wrap.
    "urllib refused": (urllib.error.URLError(ConnectionRefusedError()), RETRY, PEER, Phase.NOT_SENT),
    "urllib timeout": (urllib.error.URLError(TimeoutError()), RETRY, PEER, Phase.UNKNOWN),
    "urllib DNS": (urllib.error.URLError(socket.gaierror(socket.EAI_AGAIN, "again")), RETRY, PEER, Phase.NOT_SENT),
    "urllib unreachable": (urllib.error.URLError(OSError(errno.ENETUNREACH, "unreachable")), RETRY, PEER, Phase.UNKNOWN),
    "urllib no file": (urllib.error.URLError(FileNotFoundError(errno.ENOENT, "no")), FAIL, CALLER, Phase.UNKNOWN),
    "urllib no host": (urllib.error.URLError("no host given"), FAIL, CALLER, Phase.UNKNOWN),
    "urllib3 refused": (max_retry(named("urllib3.NewConnectionError")), RETRY, PEER, Phase.NOT_SENT),
    "urllib3 broke off": (max_retry(named("urllib3.ProtocolError")), RETRY, PEER, Phase.UNKNOWN),
    "urllib3 retried it": (max_retry(named("urllib3.ResponseError")), FAIL, CALLER, Phase.UNKNOWN),
    "urllib3 new connection": (named("urllib3.NewConnectionError"), RETRY, PEER, Phase.NOT_SENT),
    "urllib3 protocol": (named("urllib3.ProtocolError"), RETRY, PEER, Phase.UNKNOWN),
    "openai connection": (named("openai.APIConnectionError"), RETRY, PEER, Phase.UNKNOWN),
    "anthropic timeout": (named("anthropic.APITimeoutError", type(named("anthropic.APIConnectionError"))), RETRY, PEER, Phase.UNKNOWN),
    # D27: programming errors and the unknown are nobody's to repeat.
    **{
        kind.__name__: (kind("a bug"), FAIL, CALLER, Phase.UNKNOWN)
        for kind in (ValueError, TypeError, KeyError, AttributeError, RuntimeError)
    },
    "somebody's own": (named("acme.AcmeError"), FAIL, CALLER, Phase.UNKNOWN),
    # The name alone proves nothing: the package must be the client's.
    "somebody's own of the same name": (named("acme.ConnectError"), FAIL, CALLER, Phase.UNKNOWN),
}


@pytest.mark.parametrize("row", ERRORS)
def test_each_clients_errors_are_known_by_name(row: str) -> None:
    """D28, rivals 6.6: no client is imported for it."""
    error, action, blames, phase = ERRORS[row]

    signal = read(error, wall=0)
    verdict = dialect.RULES.classify(signal)

    assert (action, blames, phase) == (verdict.action, verdict.blames, signal.phase)


@pytest.mark.parametrize("client", [httpx, httpx2])
@pytest.mark.parametrize(("status", "action"), [(400, FAIL), (401, REFRESH), (404, FAIL), (429, RETRY), (503, RETRY)])
def test_a_status_raised_is_judged_like_one_returned(client: Any, status: int, action: Action) -> None:
    response = client.Response(status, request=client.Request("GET", "http://api.example.com/"))
    with pytest.raises(client.HTTPStatusError) as caught:
        response.raise_for_status()

    raised, returned = read(caught.value, wall=0), read(response, wall=0)
    assert action is dialect.RULES.classify(raised).action is dialect.RULES.classify(returned).action
    assert raised.phase is returned.phase


def test_what_an_exception_wraps_counts_unless_the_wrapper_has_an_entry_of_its_own() -> None:
    ours = dialect.RULES.extend("ours", by_error={"urllib.URLError": "fail_fast"})
    refused = read(urllib.error.URLError(ConnectionRefusedError()))

    assert "http: error ConnectionError" == dialect.RULES.classify(refused).rule
    assert "ours: error urllib.URLError" == ours.classify(refused).rule
    assert ("URLError", urllib.error.URLError) == (refused.code, refused.raised)


def test_the_peers_own_word_beats_the_status_but_no_code() -> None:
    """D2."""
    told = httpx2.Response(404, headers={"x-should-retry": "true"})
    assert RETRY is dialect.RULES.classify(read(told, wall=0)).action
    forbidden = httpx2.Response(503, headers={"x-should-retry": "false"})
    assert FAIL is dialect.RULES.classify(read(forbidden, wall=0)).action

    known = dialect.RULES.extend("ours", by_code={"quota": "fail_fast"})
    both = httpx2.Response(429, headers={"x-should-retry": "true"}, json={"error": {"code": "quota"}})
    assert FAIL is known.classify(read(both, wall=0)).action


@pytest.mark.anyio
@pytest.mark.parametrize(("method", "calls"), [("POST", 1), ("PUT", 2)])
async def test_a_timeout_of_the_peers_own_does_not_create_anything_twice(world: World, method: str, calls: int) -> None:
    """D4: 408 may be the time that the peer allows itself, and the work may have been done."""
    request = httpx2.Request(method, "https://api.example/orders")
    order = script(httpx2.Response(408, request=request), httpx2.Response(200, request=request))

    await Engine([Retry()], env=world.env).call(order)

    assert calls == order.calls


@pytest.mark.anyio
async def test_a_401_without_a_token_source_is_final_at_once(world: World) -> None:
    fetch = script(httpx.Response(401))

    assert 401 == (await Engine([Retry()], env=world.env).call(fetch)).status_code
    assert (1, []) == (fetch.calls, world.slept)
    assert ["call.failed_fast"] == world.names("call.", "retry.")


@pytest.mark.anyio
async def test_a_401_with_one_is_repeated_once_renewed(world: World) -> None:
    async def login(stale: str | None) -> str:
        return "new"

    fetch = script(httpx.Response(401), httpx.Response(200))

    assert 200 == (await Engine([RefreshToken(login, token="old"), Retry()], env=world.env).call(fetch)).status_code


@pytest.mark.anyio
@pytest.mark.parametrize("status", [301, 304, 308])
async def test_a_redirect_that_comes_back_as_a_value_is_one(world: World, status: int) -> None:
    fetch = script(httpx.Response(status))

    assert status == (await Engine([Retry()], env=world.env).call(fetch)).status_code
    assert ["call.succeeded"] == world.names()


def test_nothing_in_the_table_leads_to_an_endless_wait() -> None:
    """Every entry is one of the three actions, and none is unnamed."""
    tables: list[Any] = [dialect.RULES.by_code, dialect.RULES.by_kind, dialect.RULES.by_status, dialect.RULES.by_error]

    assert all(verdict.action in Action and verdict.rule.startswith("http: ") for table in tables for verdict in table.values())


def test_the_peers_own_word_is_about_the_same_request_not_one_with_a_new_token() -> None:
    for word in ("true", "false"):
        expired = httpx2.Response(401, headers={"x-should-retry": word})
        assert Action.REFRESH_TOKEN is dialect.RULES.classify(read(expired)).action
