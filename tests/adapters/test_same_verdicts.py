"""
One table: the same failure gives the same verdict, whichever client it comes through.

A server on a real socket plays each failure.  What reached the engine is its verdict (action, cap, throttling, blame and the rule that made
it) and what was read: status, error code, hint and phase.  Where no answer came there is nothing to go by but the client's own exception:
the rule is named after it then, and its class stands in for the code.  All else is the same, or the table says what is not, and why.
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any

import aiohttp
import anthropic
import attrs
import httpx
import httpx2
import openai
import pytest

from resilience import Blame, Engine, Failure, Phase, Rules, Verdict, fail_fast, refresh_token, retry
from resilience.adapters import httpx as over_httpx
from resilience.adapters import httpx2 as over_httpx2
from resilience.adapters.aiohttp import ResilientMiddleware
from resilience.dialects import callmissed
from resilience.dialects import openai as dialect
from tests.conftest import ON_ASYNCIO

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {"model": "missed-1", "messages": [{"role": "user", "content": "Who called?"}]}
PATIENCE = 5.0  # seconds for an answer


@pytest.fixture(scope="module", params=ON_ASYNCIO)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """What all of these clients run on."""
    return request.param


# The clients: one request each, and whatever comes of it.


async def through_a_client(adapter: Any, http: Any, engine: Engine, url: str, patience: float) -> None:
    async with adapter.ResilientClient(engine, verify=False, trust_env=False, timeout=http.Timeout(PATIENCE, read=patience)) as client:
        await client.post(f"{url}/v1/chat/completions", json=CHAT)


async def through_httpx2(engine: Engine, url: str, patience: float) -> None:
    await through_a_client(over_httpx2, httpx2, engine, url, patience)


async def through_httpx(engine: Engine, url: str, patience: float) -> None:
    await through_a_client(over_httpx, httpx, engine, url, patience)


async def through_aiohttp(engine: Engine, url: str, patience: float) -> None:
    timeout = aiohttp.ClientTimeout(sock_read=patience)
    async with aiohttp.ClientSession(middlewares=(ResilientMiddleware(engine),), timeout=timeout) as session:
        async with session.post(f"{url}/v1/chat/completions", json=CHAT) as response:
            await response.read()


def plain(patience: float) -> dict[str, Any]:
    """An SDK's settings: a client that knows of no engine, and no retries of its own."""
    client = httpx2.AsyncClient(verify=False, trust_env=False)
    return {"api_key": "-", "http_client": client, "max_retries": 0, "timeout": httpx2.Timeout(PATIENCE, read=patience)}


async def through_openai(engine: Engine, url: str, patience: float) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", **plain(patience)) as sdk:
        create: Any = sdk.chat.completions.create
        await engine.call(create, **CHAT)


async def through_anthropic(engine: Engine, url: str, patience: float) -> None:
    async with anthropic.AsyncAnthropic(base_url=url, **plain(patience)) as sdk:
        create: Any = sdk.messages.create
        await engine.call(create, max_tokens=10, **CHAT)


Through = Callable[[Engine, str, float], Awaitable[None]]
CLIENTS: dict[str, Through] = {
    "httpx2": through_httpx2,
    "httpx": through_httpx,
    "aiohttp": through_aiohttp,
    "openai": through_openai,
    "anthropic": through_anthropic,
}
RESPONSE, EXCEPTION = "a plain response", "a plain exception"


@attrs.frozen
class Reply:
    """A response of no library's."""

    status_code: int
    headers: Mapping[str, str]
    content: bytes


class Refused(Exception):
    """An exception of no library's."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("refused")
        self.status_code = reply.status_code
        self.headers = reply.headers
        self.body = reply.content


# What is heard of a failure.


@attrs.frozen
class Heard:
    """What reached the engine."""

    verdict: Verdict
    status: int | None = None
    code: str | None = None
    retry_after: float | None = None
    phase: Phase = Phase.UNKNOWN


@attrs.frozen
class But:
    """
    What one client cannot tell as the others do.

    Args:
        why: The reason.
        heard: What is heard instead; None if nothing is.
    """

    why: str
    heard: Heard | None


@attrs.frozen
class Row:
    """
    A failure, and what is to be heard of it.

    Args:
        name: The failure.
        answer: The whole answer of the server, where there is one ...
        play: ... or what it does instead; None if it is not there.
        rules: The dialect that judges.
        heard: What is heard through every client.
        names: By client, where it is named after the client's exception: that, and the rule.
        raises: What an exception of no library's is then.
        but: By client, what differs.
        patience: Seconds until a client gives up.
    """

    name: str
    heard: Heard
    answer: Reply | None = None
    play: Callable[[Any, bytes], None] | None = None
    rules: Rules = dialect.RULES
    names: Mapping[str, tuple[str, str]] = attrs.field(factory=dict[str, tuple[str, str]])
    raises: Callable[[], Exception] | None = None
    but: Mapping[str, But] = attrs.field(factory=dict[str, But])
    patience: float = PATIENCE

    def expected(self, client: str) -> Heard | None:
        if client in self.but:
            return self.but[client].heard
        if client not in self.names:
            return self.heard
        code, rule = self.names[client]
        return attrs.evolve(self.heard, code=code, verdict=ruled(rule, self.heard.verdict))

    def clients(self) -> Iterator[str]:
        yield from CLIENTS
        if self.answer is not None:
            yield RESPONSE  # one that came, that is: no response tells of one that did not
        if self.answer is not None or self.raises is not None:
            yield EXCEPTION


def ruled(rule: str, verdict: Verdict) -> Verdict:
    return attrs.evolve(verdict, rule=rule)


def named(*, httpx: str, aiohttp: str = "", sdks: str, python: str = "") -> dict[str, tuple[str, str]]:
    """The classes of the clients' own exceptions, with the rules for them; empty where there is none."""
    return {
        "httpx2": (httpx, "http: error httpx2.TransportError"),
        "httpx": (httpx, "http: error httpx.TransportError"),
        "aiohttp": (aiohttp, "http: error aiohttp.ClientConnectionError"),
        "openai": (sdks, f"openai: error openai.{sdks}"),
        "anthropic": (sdks, "http: error anthropic.APIConnectionError"),
        EXCEPTION: (python, f"http: error {'TimeoutError' if python == 'TimeoutError' else 'ConnectionError'}"),
    }


# The failures.


def answer(status: int, body: bytes, **headers: str) -> Reply:
    return Reply(status, {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}, body)


def envelope(code: str | None, kind: str = "invalid_request_error") -> bytes:
    return b'{"error": {"code": %s, "type": "%s", "message": "As played."}}' % (
        b"null" if code is None else f'"{code}"'.encode(),
        kind.encode(),
    )


def reset(peer: Any, request: bytes) -> None:
    peer.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.connection.close()


def begun(status: int, body: bytes) -> Callable[[Any, bytes], None]:
    """An answer that breaks off after *body*, of which more was announced."""

    def play(peer: Any, request: bytes) -> None:
        peer.answer(status, body, content_type="application/json", content_length="1000")
        peer.connection.close()

    return play


def not_http(peer: Any, request: bytes) -> None:
    peer.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    peer.connection.close()


QUOTA = envelope("insufficient_quota", "insufficient_quota")
NO_MONEY = Heard(ruled("openai: code insufficient_quota", fail_fast()), 429, "insufficient_quota", phase=Phase.REFUSED)
LOST = Heard(retry())

TABLE = [
    Row("429, no credit left", NO_MONEY, answer(429, QUOTA)),
    Row(
        "429, no credit left, packed",
        NO_MONEY,
        answer(429, gzip.compress(QUOTA, mtime=0), content_encoding="gzip"),
        but=dict.fromkeys(
            [RESPONSE, EXCEPTION],
            But(
                "nobody has unpacked it: adapters do, with a bound, and whoever makes such an object has to do it himself",
                Heard(ruled("http: status 429", retry(throttled=True)), 429, phase=Phase.REFUSED),
            ),
        ),
    ),
    Row(
        "429, too fast, with a hint in milliseconds",
        Heard(
            ruled("openai: code rate_limit_exceeded", retry(throttled=True, blames=Blame.CALLER)),
            429,
            "rate_limit_exceeded",
            1.5,
            Phase.REFUSED,
        ),
        answer(429, envelope("rate_limit_exceeded", "requests"), retry_after_ms="1500"),
    ),
    Row(
        "401, token expired",
        Heard(ruled("callmissed: code token_expired", refresh_token()), 401, "token_expired", phase=Phase.REFUSED),
        answer(401, envelope("token_expired", "authentication_error")),
        rules=callmissed.RULES,
    ),
    Row(
        "500",
        Heard(ruled("callmissed: status 500", retry(attempts=2)), 500),
        answer(500, envelope(None, "server_error")),
        rules=callmissed.RULES,
    ),
    Row(
        "503, with a hint in seconds",
        Heard(ruled("openai: kind server_error", retry()), 503, retry_after=7.0),
        answer(503, envelope(None, "server_error"), retry_after="7"),
    ),
    Row(
        "529",
        Heard(ruled("http: status 529", retry(throttled=True)), 529),
        answer(529, b'{"type": "error", "error": {"type": "overloaded_error", "message": "As played."}}'),
    ),
    Row(
        "400, context too long",
        Heard(ruled("openai: code context_length_exceeded", fail_fast()), 400, "context_length_exceeded", phase=Phase.REFUSED),
        answer(400, envelope("context_length_exceeded")),
    ),
    Row(
        "403",
        Heard(ruled("http: status 403", fail_fast(blames=Blame.CREDENTIAL)), 403, phase=Phase.REFUSED),
        answer(403, envelope(None)),
    ),
    Row(
        "404",
        Heard(ruled("http: status 4xx", fail_fast()), 404, phase=Phase.REFUSED),
        answer(404, envelope(None)),
    ),
    Row(
        "garbage in the envelope's place",
        Heard(ruled("http: status 5xx", retry()), 502),
        answer(502, b'\x00\xff{"error": {"code": "insufficient_quota"'),
    ),
    Row(
        "connection refused",
        Heard(retry(), phase=Phase.NOT_SENT),
        names=named(httpx="ConnectError", aiohttp="ClientConnectorError", sdks="APIConnectionError", python="ConnectionRefusedError"),
        raises=ConnectionRefusedError,
    ),
    Row(
        "reset before the answer",
        LOST,
        play=reset,
        names=named(httpx="ReadError", aiohttp="ClientOSError", sdks="APIConnectionError", python="ConnectionResetError"),
        raises=ConnectionResetError,
    ),
    Row(
        "success that breaks off",
        LOST,
        play=begun(200, b'{"id": "chatcmpl-1", '),
        names=named(httpx="RemoteProtocolError", sdks="APIConnectionError"),
        but={
            "aiohttp": But("its middleware ends at the headers; whoever reads the body gets a ClientPayloadError", None),
        },
    ),
    Row(
        "failure that breaks off",
        NO_MONEY,
        play=begun(429, QUOTA),
        but={
            sdk: But(
                "it reads the body before it looks at the status, and has only the lost connection to tell of",
                Heard(ruled(f"{rules}: error {sdk}.APIConnectionError", retry()), code="APIConnectionError"),
            )
            for sdk, rules in (("openai", "openai"), ("anthropic", "http"))
        },
    ),
    Row(
        "silence",
        LOST,
        play=lambda peer, request: peer.gone(),
        names=named(httpx="ReadTimeout", aiohttp="SocketTimeoutError", sdks="APITimeoutError", python="TimeoutError"),
        raises=TimeoutError,
        patience=0.1,
    ),
    Row(
        "no HTTP at all",
        LOST,
        play=not_http,
        names=named(httpx="RemoteProtocolError", sdks="APIConnectionError")
        | {"aiohttp": ("ClientResponseError", "http: error aiohttp.HttpProcessingError")},
    ),
]


class Listening:
    """A policy that does nothing but remember the failures that pass."""

    def __init__(self) -> None:
        self.heard: list[Failure] = []

    def bind(self, inner: Any, env: Any) -> Any:
        async def listen(call: Any) -> Any:
            outcome = await inner(call)
            if isinstance(outcome, Failure):
                self.heard.append(outcome)
            return outcome

        return listen


def as_heard(failure: Failure) -> Heard:
    signal = failure.signal
    return Heard(failure.verdict, signal.status, signal.code, signal.retry_after, signal.phase)


def serve(row: Row) -> Callable[[Any, bytes], None]:
    if row.answer is None:
        return row.play or (lambda peer, request: None)
    status, headers, body = row.answer.status_code, row.answer.headers, row.answer.content
    return lambda peer, request: peer.answer(status, body, **headers)


async def play(row: Row, client: str, engine: Engine, odd: Any) -> None:
    if client in CLIENTS:
        server = odd(serve(row))
        if row.answer is None and row.play is None:
            server.close()
        with contextlib.suppress(Exception):
            await CLIENTS[client](engine, server.url, row.patience)
        assert len(server.requests) == (row.answer is not None or row.play is not None)
        return

    async def fake() -> Reply:
        reply = row.answer
        if reply is None:
            assert row.raises is not None
            raise row.raises()
        if client == EXCEPTION:
            raise Refused(reply)
        return reply

    with contextlib.suppress(Refused, OSError):
        await engine.call(fake)


@pytest.mark.parametrize(
    ("row", "client"), [pytest.param(row, client, id=f"{row.name} / {client}") for row in TABLE for client in row.clients()]
)
async def test_a_failure_gives_one_verdict_through_every_client(desk: Any, odd: Any, row: Row, client: str) -> None:
    """D2, D28."""
    listening = Listening()
    await play(row, client, Engine([listening], rules=row.rules, env=desk.env), odd)

    expected = row.expected(client)
    assert ([] if expected is None else [expected]) == [as_heard(failure) for failure in listening.heard]
    assert [
        (
            failure.verdict.action.value,
            failure.verdict.rule,
            failure.signal.status,
            failure.signal.code,
            failure.signal.phase.value,
            failure.signal.retry_after,
        )
        for failure in listening.heard
    ] == [(event.action, event.rule, event.status, event.code, event.phase, event.retry_after) for event in desk.of("attempt.failed")]
