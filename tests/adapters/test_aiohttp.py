"""Each request of a session with a `ResilientMiddleware` is one call of the engine, and each hop of it one more of the same."""

from __future__ import annotations

import contextlib
import copy
import gc
import gzip
import inspect
import io
import json
import pickle
import socket
import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import attrs
import pytest
from aiohttp import web

from resilience import (
    AttemptTimedOut,
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Deadline,
    DeadlineExceeded,
    Engine,
    IdempotencyKey,
    RefreshFailed,
    RefreshToken,
    Rejected,
    ResilienceError,
    Retry,
    Signal,
    Token,
    callmissed,
    current,
    history,
    read,
)
from resilience.adapters import aiohttp as adapter
from resilience.adapters.aiohttp import ResilientMiddleware
from resilience.demo.faults import Answer, Drip, Redirect, Reset, Truncate
from resilience.demo.serve import Server
from resilience.demo.server import Settings
from resilience.dialects import callmissed as dialect
from resilience.dialects import http
from resilience.history import keep_history
from resilience.reading.envelope import LARGEST
from tests.conftest import ON_ASYNCIO

pytestmark = pytest.mark.anyio

BOTS = "/api/v1/bots"
GET = f"GET {BOTS}"
CALLS = "/api/v1/calls"
POST = f"POST {CALLS}"
BODY = {"to": "+1"}
QUOTA = b'{"error": {"code": "insufficient_credits", "message": "none left", "type": "billing_error"}}'


@pytest.fixture(scope="module", params=ON_ASYNCIO)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """What aiohttp runs on."""
    return request.param


@pytest.fixture
def headers(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.api_key()}"}


def engine(desk: Any, *policies: Any, **settings: Any) -> Engine:
    return Engine(policies or [Retry()], **{"rules": dialect.RULES, "env": desk.env, **settings})


def over(engine: Engine, url: str | None = None, *, before: Any = (), after: Any = (), pool: int = 100, **settings: Any) -> Any:
    """A session over *engine*, with other middlewares listed before and after it."""
    connector = aiohttp.TCPConnector(limit=pool)
    middlewares = (*before, ResilientMiddleware(engine), *after)
    return aiohttp.ClientSession(url, middlewares=middlewares, connector=connector, **settings)


async def done(sending: Any) -> aiohttp.ClientResponse:
    """The response, read to its end: nobody leaves one lying about."""
    response: aiohttp.ClientResponse
    async with sending as response:
        await response.read()
    return response


def answering(*statuses: int) -> Any:
    def play(peer: Any, request: bytes) -> None:
        peer.answer(statuses[min(len(peer.odd.requests), len(statuses)) - 1])

    return play


def losing(peer: Any, request: bytes) -> None:
    peer.connection.close()


def hanging(peer: Any, request: bytes) -> None:
    peer.gone()


def keys_of(*servers: Any) -> list[bytes]:
    """The key of each request that had one."""
    return [
        line
        for server in servers
        for request in server.requests
        for line in request.lower().split(b"\r\n")
        if line.startswith(b"idempotency-key")
    ]


def codes(desk: Any) -> list[str | None]:
    return [event.code for event in desk.of("attempt.failed")]


def reasons(desk: Any) -> list[str]:
    return [event.reason for event in desk.of("retry.gave_up")]


# A request is a call.


async def test_a_request_that_goes_well_is_sent_once(desk: Any, server: Server, headers: Any) -> None:
    async with over(engine(desk), server.url, headers=headers) as session, session.get(BOTS) as response:
        body = await response.json()

    assert (200, {"data": []}) == (response.status, body)
    assert 1 == server.settle().requests
    assert ["call.succeeded"] == desk.names()


async def test_a_failing_answer_is_repeated_until_it_passes(desk: Any, server: Server, headers: Any) -> None:
    """D28."""
    server.script(GET, Answer(503), Reset())
    async with over(engine(desk), server.url, headers=headers) as session, session.get(BOTS) as response:
        pass

    assert 200 == response.status
    assert 3 == server.settle().requests
    assert [0.025, 0.05] == desk.slept


async def test_a_failing_answer_comes_back_as_it_came_once_no_attempt_is_left(desk: Any, server: Server, headers: Any) -> None:
    """D11."""
    server.script(GET, Answer(503), times=3)
    async with over(engine(desk), server.url, headers=headers) as session, session.get(BOTS) as response:
        body = await response.json()

    assert (503, "provider_error") == (response.status, body["error"]["code"])
    assert [(1, 503, "provider_error"), (2, 503, "provider_error"), (3, 503, "provider_error")] == [
        (tried.attempt, tried.status, tried.code) for tried in history(response)
    ]


async def test_the_code_in_the_body_decides_and_not_the_status_alone(desk: Any, server: Server, headers: Any) -> None:
    """D2."""
    server.script(GET, Answer(429, "insufficient_credits"))
    async with over(engine(desk), server.url, headers=headers) as session, session.get(BOTS) as response:
        pass

    assert 429 == response.status
    assert 1 == server.settle().requests
    assert ["callmissed: code insufficient_credits"] == [event.rule for event in desk.of("call.failed_fast")]


async def test_an_exception_arrives_as_the_same_object(desk: Any) -> None:
    """D11."""
    raised: list[Exception] = []

    async def refuse(req: Any, handler: Any) -> Any:
        raised.append(aiohttp.ClientConnectionError("no such host"))
        raise raised[-1]

    async with over(engine(desk), after=[refuse]) as session:
        with pytest.raises(aiohttp.ClientConnectionError) as caught:
            await session.get("https://api.example/")

    assert 3 == len(raised)
    assert raised[-1] is caught.value
    assert "refuse" == inspect.getinnerframes(caught.tb)[-1].function
    assert [1, 2, 3] == [tried.attempt for tried in history(caught.value)]


async def test_it_judges_at_the_headers(desk: Any, server: Server, headers: Any) -> None:
    server.script(GET, Truncate())
    async with over(engine(desk), server.url, headers=headers) as session, session.get(BOTS) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()

    assert 1 == server.settle().requests
    assert ["call.succeeded"] == desk.names()
    assert "judges at the headers" in str(ResilientMiddleware.__doc__)


async def test_a_streamed_answer_goes_on_streaming(desk: Any, server: Server, headers: Any) -> None:
    server.script(GET, Answer(503), Drip(0, 4))
    async with over(engine(desk), server.url, headers=headers) as session, session.get(BOTS) as response:
        assert ["call.recovered"] == desk.names()[-1:]
        parts = [part async for part in response.content.iter_any()]

    assert b'{"data": []}' == b"".join(parts)


async def test_the_running_call_is_seen_from_a_middleware_further_in(desk: Any, server: Server, headers: Any) -> None:
    attempts = []

    async def look(req: Any, handler: Any) -> Any:
        attempts.append((current().attempt, current().method, current().path, current().peer))
        return await handler(req)

    server.script(GET, Answer(503))
    async with over(engine(desk), server.url, after=[look], headers=headers) as session:
        await done(session.get(f"{BOTS}?limit=1"))

    assert [(1, "GET", BOTS, server.url), (2, "GET", BOTS, server.url)] == attempts


async def test_the_request_stays_as_the_caller_made_it_and_the_response_tells_what_was_sent(
    desk: Any, server: Server, headers: Any
) -> None:
    seen: list[Any] = []

    async def look(req: Any, handler: Any) -> Any:
        before = (req, req.headers.copy(), req.body, req.response)
        response = await handler(req)
        seen.append((before, (req, req.headers.copy(), req.body, req.response)))
        return response

    server.script(f"POST {BOTS}", Answer(503))
    mine = {"X-Mine": "1"}
    policies = [IdempotencyKey(), Retry(), AttemptTimeout(5)]
    async with over(engine(desk, *policies), server.url, before=[look], headers=headers) as session:
        async with session.post(BOTS, json={"name": "Ann"}, headers=mine) as response:
            sent = response.request_info.headers

    assert [before for before, _ in seen] == [after for _, after in seen]
    assert ({"X-Mine": "1"}, None) == (mine, seen[0][0][3])
    assert list(server.settle().by_key) == [sent["Idempotency-Key"]]
    assert "Idempotency-Key" not in seen[0][1][1]


async def test_a_request_class_of_the_caller_s_own_keeps_what_it_has(desk: Any, odd: Any) -> None:
    class Marked(aiohttp.ClientRequest):
        __slots__ = ("mark",)  # an attribute that is not in `__dict__`

        def __init__(self, *given: Any, **settings: Any) -> None:
            super().__init__(*given, **settings)
            self.mark = "mine"

    marks: list[str] = []

    async def further_in(req: Any, handler: Any) -> Any:
        marks.append(req.mark)
        return await handler(req)

    peer = odd(answering(503, 200))
    async with over(engine(desk), peer.url, after=(further_in,), request_class=Marked) as session:
        await done(session.get("/x"))

    assert ["mine", "mine"] == marks


async def test_events_name_a_request_by_method_and_host_and_say_nothing_else_of_it(desk: Any, odd: Any) -> None:
    """D17, B61: a marker planted in path, query, headers, body, user info and key."""
    server = odd(lambda peer, request: peer.answer(500, b'{"error": {"code": "oops", "message": "MARKER"}}', x_marker="MARKER"))
    host = server.url.removeprefix("http://")
    keyed = engine(desk, IdempotencyKey(), Retry(attempts=2)).using(key="MARKER")
    async with over(keyed) as session:
        await done(session.post(f"http://MARKER:MARKER@{host}/MARKER?MARKER=MARKER", json={"MARKER": 1}, headers={"X-MARKER": "MARKER"}))

    assert 2 == len(server.requests)
    assert {f"POST {host}"} == {event.operation for event in desk.events}
    assert "MARKER" not in repr(desk.events)


async def test_a_view_brings_its_settings(desk: Any, server: Server, headers: Any) -> None:
    server.script(GET, Answer(503), times=None)
    async with over(engine(desk).using(attempts=2, operation="list bots"), server.url, headers=headers) as session:
        await done(session.get(BOTS))

    assert 2 == server.settle().requests
    assert {"list bots"} == {event.operation for event in desk.events}


async def test_each_origin_has_a_circuit_of_its_own(desk: Any, odd: Any) -> None:
    """D37."""
    down, up = odd(answering(503)), odd(answering(200))
    async with over(engine(desk, CircuitBreaker(consecutive=2))) as session:
        for _ in range(2):
            await done(session.get(down.url))
        with pytest.raises(adapter.AiohttpCircuitOpen) as caught:
            await session.get(down.url)
        response = await done(session.get(up.url))

    assert 200 == response.status
    assert 2 == len(down.requests)
    assert down.url == caught.value.key


async def test_one_middleware_serves_several_sessions(desk: Any, odd: Any) -> None:
    server = odd(answering(503, 200, 503, 200))
    shared = ResilientMiddleware(engine(desk))
    statuses = []
    for _ in range(2):
        async with aiohttp.ClientSession(middlewares=(shared,)) as session, session.get(server.url) as response:
            statuses.append(response.status)

    assert [200, 200] == statuses
    assert 4 == len(server.requests)


async def test_a_middleware_for_one_request_only(desk: Any, odd: Any) -> None:
    server = odd(answering(503, 200, 503, 200))
    async with aiohttp.ClientSession() as session:
        with_it = await done(session.get(server.url, middlewares=(ResilientMiddleware(engine(desk)),)))
        without = await done(session.get(server.url))

    assert [200, 503] == [with_it.status, without.status]


async def test_what_is_no_engine_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match=r"ResilientMiddleware: engine: expected an Engine or a view of one.*'https://api.example'"):
        ResilientMiddleware("https://api.example")  # type: ignore[arg-type]


async def test_what_is_no_request_is_refused_by_name(desk: Any) -> None:
    with pytest.raises(TypeError, match=r"expected a request of aiohttp, got builtins\.str"):
        await ResilientMiddleware(engine(desk))("GET /", None)  # type: ignore[arg-type]


# What aiohttp does around a middleware.


async def test_plain_aiohttp_repeats_a_lost_connection_by_itself(odd: Any) -> None:
    """What the tests below are up against."""
    server = odd(losing)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(server.url)

    assert 2 == server.arrived(2)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
@pytest.mark.parametrize("policies", [[], [Retry()]], ids=["once", "thrice"])
async def test_requests_are_as_many_as_attempts(desk: Any, odd: Any, method: str, policies: list[Any]) -> None:
    """B56: what aiohttp would send once more comes to the middleware, and ends there."""
    server = odd(losing)
    async with over(Engine(policies, env=desk.env)) as session:
        with pytest.raises(aiohttp.ClientConnectionError) as caught:
            await session.request(method, server.url, data=b"x")
        again = session.request(method, server.url)
        with pytest.raises(aiohttp.ClientConnectionError):
            await again

    expected = 3 if policies else 1
    assert 2 * expected == server.arrived(2 * expected)
    assert expected == len(history(caught.value))
    assert 2 * expected == len(desk.of("attempt.failed"))


async def test_an_error_said_again_is_the_same_and_shows_where_it_came_from(desk: Any) -> None:
    """D11."""
    raised: list[Exception] = []

    async def lose(req: Any, handler: Any) -> Any:
        raised.append(aiohttp.ServerDisconnectedError())
        raise raised[-1]

    async with over(engine(desk), after=[lose]) as session:
        with pytest.raises(aiohttp.ServerDisconnectedError) as caught:
            await session.get("http://127.0.0.1:9/")

    assert 3 == len(raised)
    assert raised[-1] is caught.value
    frames = [frame.function for frame in inspect.getinnerframes(caught.tb)]
    assert ("lose", 1, 1) == (frames[-1], frames.count("lose"), frames.count("_request"))


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_middleware_before_ours_that_repeats_really_does(desk: Any, odd: Any, method: str) -> None:
    """Whatever it does it means, and only aiohttp's own repeat, in which it is asked once more, is kept from the wire."""
    server = odd(losing)

    async def stubborn(req: Any, handler: Any) -> Any:
        for _ in range(2):
            with contextlib.suppress(aiohttp.ClientConnectionError):
                return await handler(req)
        return await handler(req)

    async with over(engine(desk, IdempotencyKey()), before=[stubborn]) as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.request(method, server.url)

    assert 3 == server.arrived(3)
    assert (method == "POST") == len(set(keys_of(server)))


async def test_a_total_timeout_that_strikes_in_an_attempt_leads_to_no_other(desk: Any, odd: Any) -> None:
    """D10, D29: it strikes once; what were sent after it, nobody would look at."""
    server = odd(hanging)
    async with over(engine(desk, Deadline(30), Retry(), AttemptTimeout(20))) as session:
        with pytest.raises(TimeoutError) as caught:
            await session.get(server.url, timeout=aiohttp.ClientTimeout(total=0.05))

    assert not isinstance(caught.value, ResilienceError)
    assert 1 == server.arrived(1)
    assert ["deadline"] == reasons(desk)
    assert [] == desk.slept


async def test_a_total_timeout_that_strikes_in_a_drain_leaves_the_status_standing(desk: Any, odd: Any) -> None:
    def play(peer: Any, request: bytes) -> None:
        peer.send(b"HTTP/1.1 503 Busy\r\ncontent-length: 100\r\n\r\npartly")
        peer.gone()

    server = odd(play)
    async with over(engine(desk)) as session:
        async with session.get(server.url, timeout=aiohttp.ClientTimeout(total=0.05)) as response:
            assert 503 == response.status

    assert 1 == len(server.requests)
    assert ["deadline"] == reasons(desk)


async def test_a_total_timeout_that_strikes_in_a_wait_is_the_caller_s_own(desk: Any, odd: Any) -> None:
    """D10, D1."""
    server = odd(answering(503))
    waiting = attrs.evolve(desk.env, sleep=lambda seconds: anyio.sleep(60))
    async with over(engine(desk, Deadline(30), Retry(), env=waiting)) as session:
        with pytest.raises(TimeoutError) as caught:
            await session.get(server.url, timeout=aiohttp.ClientTimeout(total=0.05))

    assert not isinstance(caught.value, ResilienceError)
    assert 1 == len(server.requests)
    assert [] == reasons(desk)


async def test_an_attempt_s_own_timeout_of_aiohttp_s_is_repeated(desk: Any, odd: Any) -> None:
    server = odd(hanging)
    async with over(engine(desk, Deadline(5), Retry(attempts=2), AttemptTimeout(4))) as session:
        with pytest.raises(aiohttp.SocketTimeoutError):
            await session.get(server.url, timeout=aiohttp.ClientTimeout(sock_read=0.02))

    assert 2 == server.arrived(2)


async def test_raise_for_status_is_asked_after_the_engine(desk: Any, server: Server, headers: Any) -> None:
    seen = []

    async def complain(response: aiohttp.ClientResponse) -> None:
        seen.append((await response.json())["error"]["code"])
        response.raise_for_status()

    server.script(GET, Answer(503), times=None)
    async with over(engine(desk), server.url, headers=headers) as session:
        for how in (True, complain):
            with pytest.raises(aiohttp.ClientResponseError) as caught:
                await session.get(BOTS, raise_for_status=how)
            assert 503 == caught.value.status

    assert ["provider_error"] == seen
    assert 6 == server.settle().requests


async def test_a_web_socket_is_left_alone(desk: Any) -> None:
    """It lives as long as it likes, whatever the deadline of the call that opened it."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        peer = web.WebSocketResponse()
        await peer.prepare(request)
        async for message in peer:
            await peer.send_str(message.data)
        return peer

    app = web.Application()
    app.router.add_get("/echo", echo)
    async with serving(app) as url, over(engine(desk, Deadline(10), env=desk.stopped()), url) as session:
        async with session.ws_connect("/echo") as socket:
            desk.now += 20
            await socket.send_str("hello")
            answer = await socket.receive_str()

    assert "hello" == answer


@contextlib.asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """A real server of aiohttp's own."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await runner.cleanup()


# What becomes of failed responses.


def deflated(data: bytes, window: int) -> bytes:
    encoder = zlib.compressobj(wbits=window)
    return encoder.compress(data) + encoder.flush()


@pytest.mark.parametrize("unpacking", [True, False], ids=["unpacked", "packed"])
@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("identity", QUOTA),
        ("gzip", gzip.compress(QUOTA, mtime=0)),
        ("deflate", zlib.compress(QUOTA)),
        ("deflate", deflated(QUOTA, -15)),
    ],
    ids=["plain", "gzip", "deflate", "bare"],
)
async def test_an_envelope_is_read_whatever_it_is_packed_in(desk: Any, odd: Any, encoding: str, body: bytes, unpacking: bool) -> None:
    """D2: a gzipped envelope read raw has no code, and a used-up quota would be asked for again and again."""
    server = odd(lambda peer, request: peer.answer(429, body, content_encoding=encoding))
    async with over(engine(desk), auto_decompress=unpacking) as session, session.get(server.url) as response:
        content = await response.read()

    assert ["insufficient_credits"] == codes(desk)
    assert 1 == len(server.requests)
    assert (QUOTA if unpacking else body) == content


async def test_an_envelope_that_aiohttp_has_unpacked_is_not_unpacked_again(desk: Any, odd: Any) -> None:
    """As Google lays it out over a stream, it happens to be bare deflate as well, of two bytes."""
    body = b'[{\n  "error": {\n    "code": 429,\n "status": "RESOURCE_EXHAUSTED"}}]'
    server = odd(lambda peer, request: peer.answer(400, zlib.compress(body), content_encoding="deflate"))
    async with over(engine(desk)) as session:
        await done(session.get(server.url))

    assert ["RESOURCE_EXHAUSTED"] == codes(desk)


WAYS: dict[str, Callable[[Any], Any]] = {
    "read": lambda response: response.read(),
    "text": lambda response: response.text(),
    "json": lambda response: response.json(content_type=None),
    "content": lambda response: response.content.read(),
    "exactly": lambda response: response.content.readexactly(len(QUOTA)),
    "line": lambda response: response.content.readline(),
    "any": lambda response: joined(response.content.iter_any()),
    "chunked": lambda response: joined(response.content.iter_chunked(7)),
    "chunks": lambda response: joined(part async for part, _ in response.content.iter_chunks()),
}


async def joined(parts: Any) -> bytes:
    return b"".join([part async for part in parts])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
async def test_a_failure_can_be_read_in_every_way(desk: Any, odd: Any, way: str, chunked: bool) -> None:
    def play(peer: Any, request: bytes) -> None:
        if not chunked:
            peer.answer(402, QUOTA)
            return
        peer.send(b"HTTP/1.1 402 No\r\ntransfer-encoding: chunked\r\n\r\n")
        for at in range(0, len(QUOTA), 40):
            part = QUOTA[at : at + 40]
            peer.send(b"%x\r\n%s\r\n" % (len(part), part))
        peer.send(b"0\r\n\r\n")

    server = odd(play)
    async with over(engine(desk, Deadline(5))) as session, session.get(server.url) as response:
        content = await WAYS[way](response)
        text = await response.text()

    if way == "json":
        content = json.dumps(content).encode()
    assert QUOTA == (content.encode() if isinstance(content, str) else content)
    assert ["insufficient_credits"] == codes(desk)
    assert text in {QUOTA.decode(), ""}


async def test_whoever_reads_a_drained_response_finds_its_code(desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(402, QUOTA))
    async with over(engine(desk)) as session, session.get(server.url) as response:
        assert "insufficient_credits" == read(response, wall=0.0).code


@pytest.mark.parametrize("body", [b"<html>busy</html>", b"", b"\xff\xfe", b"[" * 10_000])
async def test_a_body_without_an_envelope_says_nothing_and_frees_its_connection(desk: Any, odd: Any, body: bytes) -> None:
    """D29: an HTML 503 is read to its end like any other."""
    server = odd(lambda peer, request: peer.answer(503, body) if len(peer.odd.requests) < 3 else peer.answer(200))
    async with over(engine(desk), pool=1) as session, session.get(server.url) as response:
        pass

    assert 200 == response.status
    assert [None, None] == codes(desk)
    assert (3, 1) == (len(server.requests), server.connections)


async def test_a_head_has_no_body_to_wait_for(desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(503, content_length="100") if len(peer.odd.requests) < 2 else peer.answer(200))
    async with over(engine(desk), pool=1) as session:
        response = await done(session.head(server.url))

    assert (200, 2, 1) == (response.status, len(server.requests), server.connections)


async def test_a_pool_of_one_survives_two_failures_too_large_to_drain(desk: Any, odd: Any) -> None:
    """D29, B51: what is thrown away is closed before the wait."""
    server = odd(lambda peer, request: peer.answer(503, b"x" * 10_000_000) if len(peer.odd.requests) < 3 else peer.answer(200, b"y"))
    async with over(engine(desk), pool=1, timeout=aiohttp.ClientTimeout(connect=2)) as session:
        async with session.get(server.url) as response:
            text = await response.text()

    assert (200, "y", 3) == (response.status, text, server.connections)


async def test_a_large_failure_that_stays_arrives_whole(desk: Any, odd: Any) -> None:
    body = bytes(range(256)) * 4_000
    server = odd(lambda peer, request: peer.answer(404, body))
    async with over(engine(desk, Deadline(10))) as session:
        async with session.get(server.url) as response:
            first = await response.read()
        async with session.get(server.url) as response:
            second = await joined(response.content.iter_any())

    assert [body, body] == [first, second]


@pytest.mark.skipif(not hasattr(aiohttp.StreamReader, "set_read_chunk_size"), reason="this aiohttp unpacks before it can be asked")
async def test_no_more_of_a_failure_that_unpacks_without_end_is_read_than_an_envelope_takes(desk: Any, odd: Any) -> None:
    """A kilobyte may fill any memory."""
    bomb = gzip.compress(bytes(2**26), mtime=0)
    server = odd(lambda peer, request: peer.answer(404, bomb, content_encoding="gzip"))
    async with over(engine(desk)) as session:
        response = await session.get(server.url)
        held = response.content._size
        response.close()

    assert LARGEST < held < 2**22


async def test_a_failure_whose_body_hangs_keeps_its_status_and_its_beginning(desk: Any, odd: Any) -> None:
    def play(peer: Any, request: bytes) -> None:
        peer.send(b"HTTP/1.1 503 Busy\r\ncontent-length: 100\r\nretry-after: 7\r\n\r\n" + b"partly")
        peer.gone()

    server = odd(play)
    async with over(engine(desk, Deadline(30), env=desk.sped_up(50))) as session, session.get(server.url) as response:
        begun = await response.content.readexactly(6)

    assert (503, b"partly") == (response.status, begun)
    assert [(503, 7.0)] == [(event.status, event.retry_after) for event in desk.of("attempt.failed")]


async def test_a_failure_whose_body_breaks_off_keeps_its_status_and_code(desk: Any, odd: Any) -> None:
    def play(peer: Any, request: bytes) -> None:
        peer.send(b"HTTP/1.1 429 Slow\r\ncontent-length: 1000\r\n\r\n" + QUOTA)
        peer.connection.close()

    server = odd(play)
    async with over(engine(desk)) as session, session.get(server.url) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()

    assert 429 == response.status
    assert ["insufficient_credits"] == codes(desk)


async def test_a_failure_never_spends_the_last_of_the_time_on_its_body(desk: Any, odd: Any) -> None:
    """Of 40 ms that are left, 36 are for the body: its status is not to be lost to a deadline that strikes meanwhile."""
    asked: list[float] = []

    def noted(seconds: float, *, shield: bool = False) -> Any:
        asked.append(round(seconds, 3))
        return desk.env.cutoff(seconds, shield=shield)

    def play(peer: Any, request: bytes) -> None:
        desk.now += 9.96
        peer.send(b"HTTP/1.1 404 No\r\ncontent-length: 100\r\n\r\npartly")
        peer.gone()

    server = odd(play)
    env = attrs.evolve(desk.stopped(), cutoff=noted)
    async with over(engine(desk, Deadline(10), env=env)) as session, session.get(server.url) as response:
        assert 404 == response.status

    assert [10.0, 0.036] == asked[:2]


async def test_a_failure_brought_back_because_its_repeat_was_refused_can_still_be_read(desk: Any, odd: Any) -> None:
    """It was let go of before the wait; what it said was not."""
    server = odd(lambda peer, request: peer.answer(503, QUOTA.replace(b"insufficient_credits", b"provider_error")))
    policies = [Retry(), CircuitBreaker(consecutive=1, failure_ratio=1)]
    async with over(engine(desk, *policies)) as session, session.get(server.url) as response:
        twice = [await response.json(content_type=None) for _ in range(2)]

    assert (503, 1) == (response.status, len(server.requests))
    assert ["provider_error"] * 2 == [body["error"]["code"] for body in twice]
    assert ["rejected"] == reasons(desk)


async def test_a_failure_brought_back_unread_says_that_it_was_closed(desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(503, b"x" * 1_000_000))
    policies = [Retry(), CircuitBreaker(consecutive=1, failure_ratio=1)]
    async with over(engine(desk, *policies)) as session, session.get(server.url) as response:
        with pytest.raises(aiohttp.ClientConnectionError, match="closed"):
            await response.read()

    assert 503 == response.status


async def test_a_cancel_while_a_failure_is_drained_frees_the_connection(desk: Any, odd: Any) -> None:
    """D1, D29: the pool of one serves the next request."""

    def play(peer: Any, request: bytes) -> None:
        if b"/hang" in request:
            peer.send(b"HTTP/1.1 503 Busy\r\ncontent-length: 100\r\n\r\n")
            peer.gone()
        else:
            peer.answer(200)

    server = odd(play)
    async with over(engine(desk), pool=1, timeout=aiohttp.ClientTimeout(connect=2)) as session:
        with anyio.move_on_after(0.03) as scope:
            await done(session.get(f"{server.url}/hang"))
        response = await done(session.get(f"{server.url}/next"))

    assert scope.cancelled_caught
    assert 200 == response.status
    assert [] == codes(desk)


async def test_failing_calls_leave_nothing_of_ours_to_the_garbage_collector(desk: Any, server: Server, odd: Any, headers: Any) -> None:
    """D34, B62: neither failures returned nor errors raised."""

    def cut_short(peer: Any, request: bytes) -> None:
        peer.answer(503, b"{", content_length="99")
        peer.connection.shutdown(socket.SHUT_RDWR)

    cut, lost = odd(cut_short), odd(losing)
    server.script(GET, Answer(503), times=None)
    async with over(engine(desk, Deadline(9), IdempotencyKey(), Retry(attempts=2)), server.url, headers=headers) as session:

        async def fail() -> None:
            async with session.get(BOTS) as response:
                await response.read()
            async with session.get(cut.url) as response:
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
            for send in (session.get, session.post):
                with pytest.raises(aiohttp.ClientConnectionError):
                    await send(lost.url)

        await fail()
        await anyio.sleep(0.01)
        gc.collect()
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        try:
            await fail()
            gc.collect()
            ours = {type(one).__name__ for one in gc.garbage if type(one).__module__.startswith("resilience")}
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()

    assert set() == ours


# Bodies.


async def parts() -> AsyncIterator[bytes]:
    yield b"one-"
    yield b"shot"


class Tape(io.RawIOBase):
    """One that knows where it is, and that it cannot be rewound."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._content.read(size)

    def tell(self) -> int:
        return self._content.tell()


class Pipe(io.RawIOBase):
    """One that knows it cannot be rewound."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._content.read(size)


class Own(aiohttp.Payload):
    """A kind of body that somebody made, and that says nothing of itself."""

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return "own"

    async def write(self, writer: Any) -> None:
        await writer.write(self._value.read())


def form(value: Any) -> aiohttp.FormData:
    data = aiohttp.FormData({"a": "1"})
    data.add_field("file", value, filename="upload")
    return data


BODIES: dict[str, Callable[[], dict[str, Any]]] = {
    "bytes": lambda: {"data": b"raw"},
    "text": lambda: {"data": "text"},
    "json": lambda: {"json": {"a": 1}},
    "form": lambda: {"data": {"a": "1"}},
    "upload": lambda: {"data": form(b"bytes")},
    "upload of a file": lambda: {"data": form(io.BytesIO(b"rewound"))},
    "file in memory": lambda: {"data": io.BytesIO(b"rewound")},
    "packed": lambda: {"data": b"x" * 1_000, "compress": True},
    "nothing": dict,
}


@pytest.mark.parametrize("body", BODIES)
async def test_a_body_that_can_be_sent_again_is_the_same_every_time(desk: Any, odd: Any, body: str) -> None:
    """D29, B48, B50."""
    server = odd(answering(503, 503, 200))
    async with over(engine(desk, IdempotencyKey(), Retry())) as session:
        response = await done(session.post(server.url, **BODIES[body]()))

    sent = [request.partition(b"\r\n\r\n")[2] for request in server.requests]
    assert 200 == response.status
    assert 3 == len(sent)
    assert 1 == len(set(sent))
    assert (sent[0] != b"") == (body != "nothing")


@pytest.mark.parametrize("formed", [False, True], ids=["plain", "in a form"])
async def test_an_open_file_is_rewound_to_where_it_stood(desk: Any, odd: Any, tmp_path: Path, formed: bool) -> None:
    path = tmp_path / "upload"
    path.write_bytes(b"skip" + b"x" * 200_000)
    server = odd(answering(503, 200))
    async with over(engine(desk, IdempotencyKey(), Retry())) as session:
        with path.open("rb") as file:
            file.seek(4)
            response = await done(session.post(server.url, data=form(file) if formed else file))

    assert 200 == response.status
    assert [200_000] * 2 == [request.count(b"x" * 100_000) * 100_000 for request in server.requests]
    assert not any(b"skip" in request for request in server.requests)


ONCE: dict[str, Callable[[], Any]] = {
    "generator": parts,
    "pipe": lambda: Pipe(b"one-shot"),
    "pipe in a form": lambda: form(Pipe(b"one-shot")),
    "tape": lambda: Tape(b"one-shot"),
    "tape in a form": lambda: form(Tape(b"one-shot")),
    "own": lambda: Own(io.BytesIO(b"one-shot")),
    "own in a form": lambda: form(Own(io.BytesIO(b"one-shot"))),
}


@pytest.mark.parametrize("body", ONCE)
@pytest.mark.parametrize("status", [503, 429])
async def test_a_body_that_can_be_read_once_is_sent_once_and_the_event_says_why(desk: Any, odd: Any, status: int, body: str) -> None:
    """D29, B50: not even where the peer did no work, and not even with a key."""
    server = odd(answering(status))
    async with over(engine(desk, IdempotencyKey(), Retry())) as session:
        response = await done(session.post(server.url, data=ONCE[body]()))

    assert status == response.status
    assert 1 == len(server.requests)
    assert b"one-" in server.requests[0]
    assert ["unrepeatable"] == reasons(desk)
    assert [] == desk.slept


async def test_a_body_that_is_used_up_is_not_sent_again_after_a_401_but_the_next_one_goes_with_a_newer_token(desk: Any, odd: Any) -> None:
    """A client that does nothing but upload streams must not be left with an expired token for ever."""
    logins = []

    async def login(stale: str | None) -> str:
        logins.append(stale)
        return "new"

    server = odd(lambda peer, request: peer.answer(200 if b"Bearer new" in request else 401))
    async with over(engine(desk, RefreshToken(login, token="old"), Retry())) as session:
        statuses = [(await done(session.post(server.url, data=parts()))).status for _ in range(2)]

    assert [401, 200] == statuses
    assert (2, ["old"]) == (len(server.requests), logins)


async def test_a_body_that_was_never_touched_is_sent_all_the_same(desk: Any, odd: Any) -> None:
    """The connection failed before anybody asked for the first part."""
    server = odd(answering(200))
    refusals: list[Any] = []

    async def flaky(req: Any, handler: Any) -> Any:
        if len(refusals) < 2:
            refusals.append(req)
            raise ConnectionRefusedError("not today")
        return await handler(req)

    async with over(engine(desk), after=[flaky]) as session:
        response = await done(session.post(server.url, data=parts()))

    assert (200, 2, 1) == (response.status, len(refusals), len(server.requests))
    assert b"one-" in server.requests[0]


async def test_an_upload_that_was_answered_half_way_is_whole_the_second_time(desk: Any, odd: Any, tmp_path: Path) -> None:
    """Two writers of one file would each send a part of it."""
    path = tmp_path / "upload"
    path.write_bytes(bytes(range(256)) * 40_000)
    whole: list[int] = []

    async def busy_then_well(request: web.Request) -> web.Response:
        if not whole:
            whole.append(-1)
            return web.Response(status=503, text="busy")
        whole.append(int((await request.read()) == path.read_bytes()))
        return web.Response()

    app = web.Application(client_max_size=2**26)
    app.router.add_post("/", busy_then_well)
    async with serving(app) as url, over(engine(desk, IdempotencyKey(), Retry())) as session:
        with path.open("rb") as file:
            response = await done(session.post(url, data=file))

    assert (200, [-1, 1]) == (response.status, whole)


async def test_an_upload_that_waits_for_leave_to_go_on_waits_in_every_attempt(desk: Any, odd: Any) -> None:
    """The future that a 100 completes serves once; cancelled with the first attempt, it would fail the second."""
    asked: list[str] = []

    async def busy_then_well(request: web.Request) -> web.Response | None:
        asked.append("may I")
        if len(asked) < 2:
            return web.Response(status=503)
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return None

    async def take(request: web.Request) -> web.Response:
        asked.append(await request.text())
        return web.Response()

    app = web.Application()
    app.router.add_post("/", take, expect_handler=busy_then_well)
    async with serving(app) as url, over(engine(desk, IdempotencyKey(), Retry())) as session:
        response = await done(session.post(url, data=b"here it is", expect100=True))

    assert 200 == response.status
    assert ["may I", "may I", "here it is"] == asked


# Keys.


async def no_login(stale: str | None) -> str:
    raise AssertionError("no refresh was called for")


def keyed(desk: Any, token: str, **settings: Any) -> Engine:
    return engine(desk, IdempotencyKey(), RefreshToken(no_login, token=token, **settings), Retry())


async def test_all_attempts_of_a_call_carry_one_key_and_the_next_call_another(desk: Any, server: Server) -> None:
    """D4, B47: the answer of the first was lost, and the work was done once."""
    server.script(POST, Reset("after"), Answer(503))
    async with over(keyed(desk, server.api_key()), server.url) as session:
        statuses = [(await done(session.post(CALLS, json=BODY))).status for _ in range(2)]

    counts = server.settle()
    assert [201, 201] == statuses
    assert [3, 1] == list(counts.by_key.values())
    assert {"call.placed": 2} == counts.effects


async def test_a_key_survives_a_refresh(desk: Any, server: Server) -> None:
    """B47."""
    good, stale = server.sign_in().access_token, server.sign_in().access_token

    async def login(stale: str | None) -> str:
        return good

    server.script(POST, Answer(401, "token_expired"))
    async with over(engine(desk, IdempotencyKey(), RefreshToken(login, token=stale), Retry()), server.url) as session:
        response = await done(session.post(CALLS, json=BODY))

    assert 201 == response.status
    assert [2] == list(server.settle().by_key.values())


@pytest.mark.parametrize(
    ("method", "stamped"), [("GET", False), ("DELETE", False), ("HEAD", False), ("POST", True), ("PUT", True), ("PATCH", True)]
)
async def test_only_methods_that_change_something_get_a_key(desk: Any, odd: Any, method: str, stamped: bool) -> None:
    server = odd(answering(200))
    async with over(engine(desk, IdempotencyKey())) as session:
        await done(session.request(method, server.url))

    assert stamped == bool(keys_of(server))
    assert stamped == ("key.taken" in desk.names())


@pytest.mark.parametrize("header", ["Idempotency-Key", "X-Once"])
async def test_a_key_that_the_caller_set_goes_out_as_it_is_and_counts(desk: Any, odd: Any, header: str) -> None:
    """B49: a custom header is honoured both where keys are sent and where it is asked whether there is one."""
    server = odd(lambda peer, request: peer.answer(200) if len(peer.odd.requests) > 1 else peer.connection.close())
    async with over(engine(desk, IdempotencyKey(header=header), Retry())) as session:
        response = await done(session.post(server.url, headers={header: "order-42"}))

    assert 200 == response.status
    assert [1, 1] == [request.lower().count(f"{header}: order-42\r\n".lower().encode()) for request in server.requests]
    assert 2 * (header != "X-Once") == len(keys_of(server))


async def test_without_a_key_an_answer_that_got_lost_is_not_asked_for_again(desk: Any, server: Server, headers: Any) -> None:
    """D4: the error tells nothing about the work."""
    server.script(POST, Reset("after"))
    async with over(engine(desk), server.url, headers=headers) as session:
        with pytest.raises(aiohttp.ClientOSError):
            await session.post(CALLS, json=BODY)

    assert {"call.placed": 1} == server.settle().effects
    assert ["unsafe"] == reasons(desk)


async def test_without_a_key_what_was_never_sent_is_sent_again(desk: Any, server: Server) -> None:
    """D4."""
    async with over(engine(desk), server.url) as session:
        with server.down(), pytest.raises(aiohttp.ClientConnectorError):
            await session.post(CALLS, json=BODY)

    assert 2 == len(desk.slept)


async def test_a_key_from_data_uses_method_and_path(desk: Any, odd: Any) -> None:
    server = odd(answering(200))
    async with over(engine(desk, IdempotencyKey()).using(key_from=("order", 42))) as session:
        for path in ("/charge?at=1", "/charge?at=2", "/refund"):
            await done(session.post(server.url + path))
        await done(session.patch(server.url + "/charge"))

    keys = keys_of(server)
    assert keys[0] == keys[1]
    assert 3 == len(set(keys))


# Tokens.


async def test_the_token_goes_with_every_attempt_and_in_place_of_any_other(desk: Any, server: Server) -> None:
    """B46: an old credential in the session's headers does not come back."""
    token = server.sign_in().access_token
    server.script(GET, Answer(503))
    stale = {"Authorization": "Bearer stale", "x-api-key": "untouched"}
    async with over(keyed(desk, token), server.url, headers=stale) as session:
        response = await done(session.get(BOTS))

    assert 200 == response.status
    assert {token: 2} == server.settle().by_credential
    assert ["untouched"] * 2 == [seen.headers["x-api-key"] for seen in server.counts().seen]


async def test_without_a_token_authorization_stays_the_caller_s(desk: Any, odd: Any) -> None:
    server = odd(answering(200))
    async with over(engine(desk), headers={"Authorization": "Bearer mine"}) as session:
        await done(session.get(server.url))

    assert b"\r\nauthorization: bearer mine\r\n" in server.requests[0].lower()


async def test_after_a_refresh_the_new_token_is_used_even_after_a_later_failure(desk: Any, server: Server) -> None:
    """D6, B46: 401, refresh, 503, 200."""
    old, new = server.sign_in().access_token, server.sign_in().access_token

    async def login(stale: str | None) -> str:
        return new

    server.script(GET, Answer(401, "token_expired"), Answer(503))
    async with over(engine(desk, RefreshToken(login, token=old), Retry()), server.url) as session:
        response = await done(session.get(BOTS))

    assert 200 == response.status
    assert [old, new, new] == [seen.credential for seen in server.settle().seen]


async def test_a_login_through_the_same_session_goes_without_a_token(desk: Any, server: Server) -> None:
    """B45: the refresh never passes through its own policy."""
    sessions: list[aiohttp.ClientSession] = []

    async def login(stale: str | None) -> str:
        credentials = {"email": "ada@acme.example", "password": "correct horse"}
        async with sessions[0].post("/api/v1/auth/login", json=credentials) as response:
            return str((await response.json())["access_token"])

    async with over(engine(desk, IdempotencyKey(), RefreshToken(login), Retry()), server.url) as session:
        sessions.append(session)
        response = await done(session.get(BOTS))

    assert 200 == response.status
    assert server.settle().seen[0].credential is None


async def test_a_token_is_sent_to_the_origins_it_was_declared_for(desk: Any, odd: Any) -> None:
    mine, others = odd(answering(200)), odd(answering(200))
    async with over(keyed(desk, "t0ken", origins={mine.url.upper(), "https://api.example:443"})) as session:
        await done(session.get(mine.url))
        await done(session.get(others.url))

    assert [True, False] == [b"t0ken" in server.requests[0] for server in (mine, others)]


async def test_a_token_stays_at_the_base_url_of_its_session(desk: Any, odd: Any) -> None:
    """A signed link to somebody else's storage needs no token of ours, and must not have it."""
    api, storage = odd(answering(200)), odd(answering(200))
    async with over(keyed(desk, "t0ken"), api.url) as session:
        await done(session.get("/bots"))
        await done(session.get(f"{storage.url}/file?signature=1"))

    assert [True, False] == [b"t0ken" in server.requests[0] for server in (api, storage)]


async def test_the_default_port_is_part_of_no_origin(desk: Any) -> None:
    seen = []

    class Sent(Exception):
        pass

    async def look(req: Any, handler: Any) -> Any:
        seen.append(req.headers.get("authorization"))
        raise Sent

    origins = {"https://API.example:443", "http://[::1]:80", "https://b\u00fccher.example"}
    async with over(keyed(desk, "t0ken", origins=origins), after=[look]) as session:
        for url in (
            "https://api.example/",
            "http://[::1]/x",
            "https://B\u00fccher.example",
            "http://api.example",
            "https://api.example:444",
        ):
            with pytest.raises(Sent):
                await session.get(url)

    assert ["Bearer t0ken"] * 3 + [None] * 2 == seen


TASKS = 100
ROOM = Settings(address_limit=1_000, key_limits=dict.fromkeys(["free", "starter", "pro", "enterprise"], 1_000))


async def test_a_hundred_calls_share_one_refresh_of_their_expired_token(desk: Any, server: Server) -> None:
    """D5, D6, B46: 1 refresh, 200 calls, no failure."""
    server.start_over(ROOM)
    signed_in = server.sign_in()
    server.expire_tokens()
    refresh_token = signed_in.refresh_token

    async def login(stale: str | None) -> Token:
        nonlocal refresh_token
        async with aiohttp.ClientSession(server.url, raise_for_status=True) as plain:
            async with plain.post("/api/v1/auth/refresh", json={"refresh_token": refresh_token}) as response:
                body = await response.json()
        refresh_token = body["refresh_token"]
        return Token(body["access_token"], expires_in=body["expires_in"])

    statuses: list[int] = []
    async with over(callmissed.engine(login, token=signed_in.access_token, env=desk.env), server.url, pool=20) as session:

        async def fetch() -> None:
            async with session.get(BOTS) as response:
                statuses.append(response.status)

        async with anyio.create_task_group() as group:
            for _ in range(TASKS):
                group.start_soon(fetch)

    counts = server.settle()
    assert [200] * TASKS == statuses
    assert (1, 0) == (counts.refreshes, counts.revocations)
    assert 2 * TASKS == len(counts.of(GET))
    assert TASKS == counts.by_credential[signed_in.access_token]
    assert 1 == desk.names().count("token.refreshed")


# Redirects.


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_to_the_same_origin_keeps_key_and_token_and_call(desk: Any, server: Server, status: int) -> None:
    token = server.api_key()
    server.script(POST, Redirect("same", status))
    async with over(keyed(desk, token), server.url) as session:
        response = await done(session.post(CALLS, json=BODY))

    counts = server.settle()
    assert (201, 2) == (response.status, counts.requests)
    assert [2] == list(counts.by_key.values())
    assert {token: 2} == counts.by_credential
    assert {"call.placed": 1} == counts.effects
    assert 1 == len({event.call for event in desk.events})
    assert 1 == desk.names().count("key.taken")


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_to_another_origin_carries_neither_key_nor_token(desk: Any, server: Server, status: int) -> None:
    token = server.api_key()
    server.script(POST, Redirect("other", status))
    async with over(keyed(desk, token), server.url) as session, session.post(CALLS, json=BODY) as response:
        body = await response.json()

    counts = server.settle()
    (there,) = counts.elsewhere
    assert {"origin": "other"} == body
    assert ("POST", None, None) == (there.method, there.credential, there.key)
    assert token not in repr(there.headers)
    assert [1, {token: 1}] == [len(counts.by_key), counts.by_credential]


async def test_a_redirect_to_another_origin_carries_nothing_without_a_base_url_either(desk: Any, odd: Any) -> None:
    """Where the first request's origin is the token's, a hop must not be taken for a first request."""
    away = odd(answering(200))
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    async with over(keyed(desk, "s3cret")) as session:
        await done(session.post(home.url, json=BODY))

    assert [True, False] == [b"s3cret" in server.requests[0] for server in (home, away)]
    assert [1, 0] == [len(keys_of(server)) for server in (home, away)]


async def test_a_middleware_that_runs_ours_in_a_task_of_its_own_changes_nothing_of_that(desk: Any, odd: Any) -> None:
    away = odd(answering(200))
    home = odd(lambda peer, request: peer.answer(307, location=away.url))

    async def apart(req: Any, handler: Any) -> Any:
        came = []

        async def run() -> None:
            came.append(await handler(req))

        async with anyio.create_task_group() as group:
            group.start_soon(run)
        return came[0]

    async with over(keyed(desk, "s3cret"), before=[apart]) as session:
        await done(session.post(home.url, json=BODY))

    assert [True, False] == [b"s3cret" in server.requests[0] for server in (home, away)]


async def test_the_caller_s_own_key_stays_at_home_too(desk: Any, odd: Any) -> None:
    away = odd(answering(200))
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    async with over(engine(desk, IdempotencyKey(), Retry())) as session:
        await done(session.post(home.url, json=BODY, headers={"Idempotency-Key": "order-42"}))

    assert [1, 0] == [len(keys_of(server)) for server in (home, away)]


async def test_a_401_from_an_origin_that_gets_no_token_calls_for_no_other_token(desk: Any, odd: Any) -> None:
    """It says nothing about the token; an origin that always says so would use up the refreshes of all calls."""
    away = odd(answering(401))
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    async with over(keyed(desk, "t", origins=home.url)) as session:
        statuses = [(await done(session.get(url))).status for url in (away.url, home.url)]

    assert [401, 401] == statuses
    assert (2, 1) == (len(away.requests), len(home.requests))


async def test_a_redirect_back_home_gets_them_again(desk: Any, odd: Any) -> None:
    home: Any = odd(lambda peer, request: peer.answer(307, location=away.url) if len(peer.odd.requests) < 2 else peer.answer(200))
    away: Any = odd(lambda peer, request: peer.answer(307, location=home.url))
    async with over(keyed(desk, "s3cret")) as session:
        response = await done(session.post(home.url, json=BODY))

    assert (200, 2, 1) == (response.status, len(home.requests), len(away.requests))
    assert [1, 1] == [request.count(b"Authorization: Bearer s3cret") for request in home.requests]
    assert [2, 1] == [len(keys_of(home)), len(set(keys_of(home, away)))]
    assert b"s3cret" not in away.requests[0]


async def test_a_redirect_that_becomes_a_get_needs_no_key(desk: Any, server: Server) -> None:
    server.script(POST, Redirect("same", 303, BOTS))
    token = server.api_key()
    async with over(keyed(desk, token), server.url) as session:
        response = await done(session.post(CALLS, json=BODY))

    counts = server.settle()
    assert 200 == response.status
    assert [("POST", True), ("GET", False)] == [(seen.method, seen.key is not None) for seen in counts.seen]
    assert {token: 2} == counts.by_credential


async def test_a_redirect_that_is_not_followed_ends_the_call(desk: Any, server: Server) -> None:
    server.script(POST, Redirect("same"))
    async with over(keyed(desk, server.api_key()), server.url) as session:
        statuses = [(await done(session.post(CALLS, json=BODY, allow_redirects=False))).status for _ in range(2)]

    assert [307, 201] == statuses
    assert [1, 1] == list(server.settle().by_key.values())


async def test_hops_share_the_call_s_repeats_and_its_time(desk: Any, server: Server) -> None:
    """A redirect is no repeat, and gives none back either."""
    server.script(POST, Answer(503), Redirect("same"), Answer(503), Answer(503))
    async with over(keyed(desk, server.api_key()), server.url) as session:
        response = await done(session.post(CALLS, json=BODY))

    assert 503 == response.status
    assert 4 == server.settle().requests
    assert [1, 3, 4] == [event.attempt for event in desk.of("attempt.failed")]
    assert ["attempts"] == reasons(desk)
    assert 1 == len(server.counts().by_key)


async def test_hops_share_the_deadline(desk: Any, odd: Any) -> None:
    def play(peer: Any, request: bytes) -> None:
        desk.now += 6
        peer.answer(307, location="/next")

    server = odd(play)
    async with over(engine(desk, Deadline(10), env=desk.stopped())) as session:
        with pytest.raises(adapter.AiohttpDeadlineExceeded):
            await session.get(server.url)

    assert 2 == len(server.requests)


async def test_a_post_that_another_origin_may_have_done_is_not_repeated(desk: Any, odd: Any) -> None:
    """D4: home would know the key again, but it was not home that did the work."""
    away = odd(losing)
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    async with over(keyed(desk, "t")) as session:
        with pytest.raises(aiohttp.ClientConnectionError):
            await session.post(home.url, json=BODY)

    assert (1, 1) == (len(home.requests), away.arrived(1))
    assert ["unsafe"] == reasons(desk)


async def test_the_breaker_counts_a_hop_against_the_origin_that_failed(desk: Any, odd: Any) -> None:
    away = odd(answering(503))
    home = odd(lambda peer, request: peer.answer(307, location=away.url))
    async with over(engine(desk, CircuitBreaker(consecutive=1, failure_ratio=1))) as session:
        await done(session.get(home.url))
        with pytest.raises(adapter.AiohttpCircuitOpen) as caught:
            await session.get(home.url)

    assert away.url == caught.value.key


async def test_what_an_auth_middleware_sends_again_keeps_its_key(desk: Any, odd: Any) -> None:
    """D4: before it was refused, an attempt may have done the work."""
    challenge = 'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"'

    def play(peer: Any, request: bytes) -> None:
        if len(peer.odd.requests) == 1:
            peer.connection.close()
        elif b"authorization: digest" in request.lower():
            peer.answer(200)
        else:
            peer.answer(401, www_authenticate=challenge)

    server = odd(play)
    digest = aiohttp.DigestAuthMiddleware("ada", "secret", preemptive=False)
    async with over(engine(desk, IdempotencyKey(), Retry()), before=[digest]) as session:
        statuses = [(await done(session.post(server.url, json=BODY))).status for _ in range(2)]

    keys = keys_of(server)
    assert [200, 200] == statuses
    assert [3, 2] == [keys.count(key) for key in dict.fromkeys(keys)]


async def test_an_auth_middleware_after_ours_works_inside_an_attempt(desk: Any, odd: Any) -> None:
    challenge = 'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"'

    def play(peer: Any, request: bytes) -> None:
        peer.answer(200) if b"authorization: digest" in request.lower() else peer.answer(401, www_authenticate=challenge)

    server = odd(play)
    async with over(engine(desk), after=[aiohttp.DigestAuthMiddleware("ada", "secret")]) as session:
        response = await done(session.get(server.url))

    assert (200, 2) == (response.status, len(server.requests))
    assert ["call.succeeded"] == desk.names()


# Deadlines.


async def test_a_deadline_cuts_a_hung_request(desk: Any, odd: Any) -> None:
    """D10."""
    server = odd(hanging)
    async with over(engine(desk, Deadline(0.03), Retry())) as session:
        with pytest.raises(adapter.AiohttpDeadlineExceeded, match=r"exceeded its deadline of 0\.03 s after 1 attempt"):
            await session.get(server.url)

    assert ["attempt"] == [event.where for event in desk.of("deadline.exceeded")]
    assert len(server.requests) <= 1


async def test_an_attempt_that_takes_too_long_is_repeated_where_that_is_safe(desk: Any, odd: Any) -> None:
    """D10, D4."""
    server = odd(hanging)
    async with over(engine(desk, Retry(attempts=2), AttemptTimeout(0.02))) as session:
        with pytest.raises(adapter.AiohttpAttemptTimedOut, match=r"attempt 2 took longer than 0\.02 s"):
            await session.get(server.url)
        with pytest.raises(adapter.AiohttpAttemptTimedOut, match=r"attempt 1 took longer than 0\.02 s"):
            await session.post(server.url)

    assert ["attempts", "unsafe"] == reasons(desk)


async def test_the_caller_s_own_timeout_is_never_taken_for_ours(desk: Any, odd: Any) -> None:
    """D10, D1."""
    server = odd(hanging)
    async with over(engine(desk, Deadline(5), Retry(), AttemptTimeout(4))) as session:
        with pytest.raises(TimeoutError) as caught:
            with anyio.fail_after(0.02):
                await done(session.get(server.url))

    assert not isinstance(caught.value, DeadlineExceeded | AttemptTimedOut)
    assert len(server.requests) <= 1
    assert [] == desk.of("attempt.failed")


def halting(peer: Any, request: bytes) -> None:
    """A head and the first byte at once, then nothing."""
    peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\nx")
    peer.gone()


async def test_a_body_is_bounded_by_the_deadline_after_the_call(desk: Any, odd: Any) -> None:
    server = odd(halting)
    async with over(engine(desk, Deadline(10), Retry(), env=desk.stopped())) as session, session.get(server.url) as response:
        first = await response.content.readany()
        desk.now += 9.99
        with pytest.raises(adapter.AiohttpDeadlineExceeded, match="deadline of 10 s after 1 attempt"):
            await response.content.readany()

    assert b"x" == first
    assert ["call.succeeded", "deadline.exceeded"] == desk.names()
    assert "streaming" == desk.events[-1].where


async def test_what_has_not_arrived_when_the_time_is_up_is_not_waited_for(desk: Any, odd: Any) -> None:
    server = odd(halting)
    async with over(engine(desk, Deadline(10), env=desk.stopped())) as session, session.get(server.url) as response:
        desk.now += 10
        for _ in range(2):
            with pytest.raises((DeadlineExceeded, aiohttp.ClientConnectionError)) as caught:
                await response.read()

    assert isinstance(caught.value, aiohttp.ClientConnectionError)
    assert 1 == len(desk.of("deadline.exceeded"))


async def test_a_body_cut_by_the_deadline_frees_its_connection(desk: Any, odd: Any) -> None:
    """D29."""
    server = odd(lambda peer, request: halting(peer, request) if len(peer.odd.requests) < 2 else peer.answer(200))
    timeout = aiohttp.ClientTimeout(connect=2)
    async with over(engine(desk, Deadline(10), env=desk.stopped()), pool=1, timeout=timeout) as session:
        response = await session.get(server.url)
        desk.now += 9.99
        await response.content.readany()
        with pytest.raises(DeadlineExceeded):
            await response.content.readany()
        status = (await done(session.get(server.url))).status

    assert 200 == status


async def test_a_failed_response_is_bounded_likewise_beyond_what_was_drained(desk: Any, odd: Any) -> None:
    def play(peer: Any, request: bytes) -> None:
        peer.send(b"HTTP/1.1 404 No\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 200_000)
        peer.gone()

    server = odd(play)
    async with over(engine(desk, Deadline(10), env=desk.stopped())) as session, session.get(server.url) as response:
        desk.now += 9.99
        with pytest.raises(DeadlineExceeded):
            await response.read()

    assert 404 == response.status


async def test_what_is_there_may_be_read_after_the_deadline(desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(404, QUOTA))
    async with over(engine(desk, Deadline(10), env=desk.stopped())) as session, session.get(server.url) as response:
        desk.now += 20
        content = await response.read()

    assert QUOTA == content


async def test_a_session_s_total_holds_for_a_body_beside_the_deadline(desk: Any, odd: Any) -> None:
    server = odd(halting)
    async with over(engine(desk, Deadline(10))) as session:
        async with session.get(server.url, timeout=aiohttp.ClientTimeout(total=0.05)) as response:
            with pytest.raises(TimeoutError) as caught:
                await response.read()

    assert not isinstance(caught.value, ResilienceError)
    assert [] == desk.of("deadline.exceeded")


async def test_a_body_in_time_is_whole_and_its_errors_are_its_own(desk: Any, odd: Any) -> None:
    def play(peer: Any, request: bytes) -> None:
        if b"/whole" in request:
            peer.answer(200, b"x" * 300_000)
        else:
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx")
            peer.connection.close()

    server = odd(play)
    async with over(engine(desk, Deadline(5))) as session:
        async with session.get(f"{server.url}/whole") as response:
            assert 300_000 == len(await response.read())
        async with session.get(f"{server.url}/part") as response:
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()

    assert [] == desk.of("deadline.exceeded")


async def test_a_cancelled_reader_is_cancelled_and_not_late(desk: Any, odd: Any) -> None:
    """D1."""
    server = odd(halting)
    async with over(engine(desk, Deadline(5))) as session, session.get(server.url) as response:
        with anyio.move_on_after(0.02) as scope:
            await response.read()

    assert scope.cancelled_caught
    assert [] == desk.of("deadline.exceeded")


async def test_a_body_may_be_read_and_closed_in_another_task(desk: Any, odd: Any) -> None:
    """B39: no scope and no context variable is held across an item."""
    server = odd(lambda peer, request: peer.answer(200, b"x" * 3_000_000))
    async with over(engine(desk, Deadline(5))) as session:
        response = await session.get(server.url)
        sizes = []

        async def read_one() -> None:
            sizes.append(len(await response.content.readany()))

        async def read_and_close() -> None:
            sizes.extend([len(part) async for part in response.content.iter_any()])
            response.release()

        for job in (read_one, read_one, read_and_close):
            async with anyio.create_task_group() as group:
                group.start_soon(job)

    assert 3_000_000 == sum(sizes)


async def test_the_error_of_a_late_read_knows_the_attempts_before(desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(503) if len(peer.odd.requests) < 2 else halting(peer, request))
    async with over(engine(desk, Deadline(10), Retry(), env=desk.stopped())) as session, session.get(server.url) as response:
        desk.now += 9.99
        with pytest.raises(DeadlineExceeded) as caught:
            await response.read()

    assert 2 == caught.value.attempts
    assert [503] == [tried.status for tried in history(caught.value)]


# Our own errors.


TWINS: dict[str, tuple[ResilienceError, type[Exception]]] = {
    "AiohttpRejected": (Rejected(operation="op", policy="Bulkhead", retry_after=1.5), aiohttp.ClientConnectionError),
    "AiohttpCircuitOpen": (CircuitOpen(operation="op", key="k", era="half_open", tripped_by="503"), aiohttp.ClientConnectionError),
    "AiohttpDeadlineExceeded": (DeadlineExceeded(operation="op", seconds=30.0, attempts=2, status=503), aiohttp.ServerTimeoutError),
    "AiohttpAttemptTimedOut": (AttemptTimedOut(operation="op", seconds=10.0, attempt=3), aiohttp.ServerTimeoutError),
    "AiohttpRefreshFailed": (RefreshFailed(operation="op", reason="timeout", detail="KeyError"), aiohttp.ClientConnectionError),
}


@pytest.fixture(params=TWINS)
def twin(request: pytest.FixtureRequest) -> Any:
    plain, _ = TWINS[request.param]
    error = getattr(adapter, request.param)(**{name: getattr(plain, name) for name in plain.facts})
    error.add_note("noted")
    keep_history(error, ((1, "retry", "rule", "Busy", 503, "busy", "unknown", None, 0.1),))
    return error


def test_a_twin_belongs_to_both_families_and_says_the_same(twin: Any) -> None:
    plain, family = TWINS[type(twin).__name__]

    assert isinstance(twin, type(plain))
    assert isinstance(twin, family)
    assert isinstance(twin, TimeoutError) == isinstance(plain, TimeoutError)
    assert str(plain) == str(twin)


@pytest.mark.parametrize(
    "make", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "deepcopy", "pickle"]
)
def test_a_twin_survives_copies_and_pickles(twin: Any, make: Any) -> None:
    """D11, B60."""
    again = make(twin)

    assert type(twin) is type(again)
    assert {name: getattr(twin, name) for name in twin.facts} == {name: getattr(again, name) for name in twin.facts}
    assert (str(twin), ["noted"], history(twin)) == (str(again), again.__notes__, history(again))


def test_a_twin_is_read_and_classified_as_what_it_says(twin: Any) -> None:
    """An engine further out must not take an open circuit for a lost connection."""
    plain, _ = TWINS[type(twin).__name__]
    signals = [read(error, wall=0.0) for error in (plain, twin)]

    assert signals[0].phase == signals[1].phase
    assert http.RULES.classify(signals[0]) == http.RULES.classify(signals[1])
    assert isinstance(signals[1], Signal)


async def lost_login(stale: str | None) -> str:
    raise KeyError("nobody is home")


CASES: dict[str, Callable[[], list[Any]]] = {
    "AiohttpDeadlineExceeded": lambda: [Deadline(0.02)],
    "AiohttpAttemptTimedOut": lambda: [Retry(attempts=2), AttemptTimeout(0.02)],
    "AiohttpRefreshFailed": lambda: [RefreshToken(lost_login)],
    "AiohttpCircuitOpen": lambda: [CircuitBreaker(consecutive=1, failure_ratio=1), AttemptTimeout(0.02)],
}


@pytest.mark.parametrize("name", CASES)
async def test_what_we_raise_is_of_aiohttp_s_family(desk: Any, odd: Any, name: str) -> None:
    """D28."""
    server = odd(hanging)
    errors: list[Any] = []
    async with over(engine(desk, *CASES[name]())) as session:
        for _ in range(2):
            with pytest.raises(aiohttp.ClientError) as caught:
                await session.get(server.url)
            errors.append(caught.value)

    assert getattr(adapter, name) is type(errors[-1])
    assert errors[0] is not errors[1]


# Engines inside engines.


async def test_three_by_three_makes_three_tries(desk: Any, server: Server, headers: Any) -> None:
    """D9."""
    server.script(GET, Answer(503), times=None)
    async with over(engine(desk, Retry(attempts=3), name="inner"), server.url, headers=headers) as session:

        @engine(desk, Retry(attempts=3), name="outer")
        async def fetch() -> Any:
            async with session.get(BOTS) as response:
                response.raise_for_status()

        with pytest.raises(aiohttp.ClientResponseError):
            await fetch()

    assert 3 == server.settle().requests
    assert 1 == desk.names().count("engine.nested")


async def test_a_post_whose_answer_got_lost_is_sent_once_without_a_key(desk: Any, server: Server, headers: Any) -> None:
    """D4, D9: neither engine repeats it."""
    server.script(POST, Reset("after"), times=None)
    async with over(engine(desk, Retry(), name="inner"), server.url, headers=headers) as session:
        with pytest.raises(aiohttp.ClientOSError):
            await engine(desk, Retry(), name="outer").call(session.post, CALLS, json=BODY)

    assert {"call.placed": 1} == server.settle().effects


async def test_one_key_serves_the_outer_call_s_repeats(desk: Any, server: Server, headers: Any) -> None:
    """D9: the inner call's key comes from the outer one's, in the order in which the calls begin."""
    server.script(POST, Reset("after"))
    async with over(engine(desk, IdempotencyKey(), name="inner"), server.url, headers=headers) as session:

        @engine(desk, IdempotencyKey(), Retry(), name="outer")
        async def place_two() -> list[int]:
            return [(await done(session.post(CALLS, json={"to": to}))).status for to in ("+1", "+2")]

        statuses = await place_two()

    counts = server.settle()
    assert [201, 201] == statuses
    assert [2, 1] == list(counts.by_key.values())
    assert {"call.placed": 2} == counts.effects


async def test_two_middlewares_of_ours_are_nested_too(desk: Any, server: Server, headers: Any) -> None:
    """D9."""
    server.script(GET, Answer(503), Reset(), Reset(), times=None)
    below = ResilientMiddleware(engine(desk, Retry(attempts=3), name="below"))
    async with over(engine(desk, Retry(attempts=3), name="above"), server.url, after=[below], headers=headers) as session:
        with pytest.raises(aiohttp.ClientOSError):
            await session.get(BOTS)

    assert 3 == server.settle().requests


async def test_the_inner_of_two_takes_an_outer_attempt_for_what_it_is(desk: Any, odd: Any) -> None:
    """And not for aiohttp's own repeat of what it has answered with an error."""
    server = odd(lambda peer, request: peer.connection.close() if len(peer.odd.requests) < 3 else peer.answer(200))
    below = ResilientMiddleware(engine(desk, IdempotencyKey(), name="below"))
    async with over(engine(desk, Retry(), name="above"), after=[below]) as session:
        response = await done(session.get(server.url))

    assert (200, 3) == (response.status, len(server.requests))


async def test_the_inner_of_two_knows_another_origin_too_and_has_one_key_for_all_hops(desk: Any, odd: Any) -> None:
    """D4: the first attempt's answer got lost, the second was sent elsewhere, by way of home."""

    def play(peer: Any, request: bytes) -> None:
        hops = len(peer.odd.requests)
        peer.connection.close() if hops == 1 else peer.answer(307, location="/2") if hops == 2 else peer.answer(307, location=away.url)

    home, away = odd(play), odd(answering(503, 200))
    below = ResilientMiddleware(keyed(desk, "s3cret"))
    async with over(engine(desk, Retry(), name="above"), after=[below]) as session:
        response = await done(session.post(home.url, json=BODY))

    assert (3, 0) == (len(keys_of(home)), len(keys_of(away)))
    assert 1 == len(set(keys_of(home)))
    assert [True] * 3 + [False] * len(away.requests) == [b"s3cret" in request for request in (*home.requests, *away.requests)]
    assert 503 == response.status
