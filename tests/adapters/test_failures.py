"""What becomes of a failed response: read as far as it helps, handed on whole, let go of before any wait."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
import zlib
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from resilience import AttemptTimeout, CircuitBreaker, Deadline, Engine, IdempotencyKey, Retry, read
from resilience.adapters._bodies import decoded
from resilience.adapters._httpx import _MOST_KEPT
from resilience.demo.faults import Answer
from resilience.demo.serve import Server
from resilience.dialects import callmissed
from resilience.reading.envelope import LARGEST

pytestmark = pytest.mark.anyio

# trio is told of it when either client closes a body that was not read to its end, engine or not.
half_read = pytest.mark.filterwarnings("ignore:.*was garbage collected before it had been exhausted:ResourceWarning")

QUOTA = b'{"error": {"code": "insufficient_credits", "message": "none left", "type": "billing_error"}}'


def engine(desk: Any, *policies: Any) -> Engine:
    return Engine(policies or [Retry()], rules=callmissed.RULES, env=desk.env)


def codes(desk: Any) -> list[str | None]:
    return [event.code for event in desk.of("attempt.failed")]


async def read_into(parts: list[bytes], response: Any) -> None:
    async for part in response.aiter_raw():
        parts.append(part)  # noqa: PERF401 - what came before an error counts


def deflated(data: bytes, window: int) -> bytes:
    encoder = zlib.compressobj(wbits=window)
    return encoder.compress(data) + encoder.flush()


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("identity", QUOTA),
        ("gzip", gzip.compress(QUOTA, mtime=0)),
        ("deflate", zlib.compress(QUOTA)),
        ("deflate", deflated(QUOTA, -15)),
        ("GZIP , deflate", zlib.compress(gzip.compress(QUOTA, mtime=0))),
    ],
)
async def test_an_envelope_is_read_whatever_it_is_packed_in(over: Any, desk: Any, odd: Any, encoding: str, body: bytes) -> None:
    """D2: a gzipped envelope read raw has no code, and a used-up quota would be asked for again and again."""
    server = odd(lambda peer, request: peer.answer(429, body, content_encoding=encoding))
    async with over(engine(desk)) as client:
        response = await client.get(server.url)
        async with client.stream("GET", server.url) as streamed:
            parts = [part async for part in streamed.aiter_raw()]

    assert ["insufficient_credits"] * 2 == codes(desk)
    assert 2 == len(server.requests)
    assert body == b"".join(parts)
    assert QUOTA == response.content


async def test_a_streamed_failure_can_be_read_in_every_way(over: Any, desk: Any, odd: Any) -> None:
    body = gzip.compress(QUOTA, mtime=0)
    server = odd(lambda peer, request: peer.answer(402, body, content_encoding="gzip"))
    seen: list[Any] = []
    async with over(engine(desk)) as client:
        async with client.stream("GET", server.url) as response:
            seen.append(await response.aread())
            seen.append(json.dumps(response.json()).encode())
        async with client.stream("GET", server.url) as response:
            seen.append(b"".join([part async for part in response.aiter_bytes(7)]))
        async with client.stream("GET", server.url) as response:
            seen.append("".join([part async for part in response.aiter_text()]).encode())
        async with client.stream("GET", server.url) as response:
            seen.append("\n".join([line async for line in response.aiter_lines()]).encode())
            assert response.num_bytes_downloaded == len(body)

    assert [QUOTA] * 5 == seen
    assert ["insufficient_credits"] * 4 == codes(desk)


async def test_whoever_reads_a_drained_response_finds_its_code(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(402, QUOTA))
    async with over(engine(desk)) as client, client.stream("GET", server.url) as response:
        with pytest.raises(lib.http.HTTPStatusError) as caught:
            response.raise_for_status()

    assert "insufficient_credits" == read(response, wall=0.0).code
    assert "insufficient_credits" == read(caught.value, wall=0.0).code


@pytest.mark.parametrize("body", [b"<html>busy</html>", b"", b"\xff\xfe", b"[" * 10_000])
async def test_a_body_without_an_envelope_says_nothing_and_frees_its_connection(over: Any, desk: Any, odd: Any, body: bytes) -> None:
    """D29: an HTML 503 is read to its end like any other."""
    server = odd(lambda peer, request: peer.answer(503, body) if len(peer.odd.requests) < 3 else peer.answer(200))
    async with over(engine(desk)) as client:
        response = await client.get(server.url)

    assert 200 == response.status_code
    assert [None, None] == codes(desk)
    assert (3, 1) == (len(server.requests), server.connections)


async def test_an_encoding_unknown_here_hides_the_code_and_nothing_else(over: Any, desk: Any, odd: Any) -> None:
    body = QUOTA[::-1]
    server = odd(lambda peer, request: peer.answer(402, body, content_encoding="compress"))
    async with over(engine(desk)) as client:
        response = await client.get(server.url)

    assert (402, body) == (response.status_code, response.content)
    assert [None] == codes(desk)


@half_read
async def test_a_body_that_is_not_encoded_as_it_claims_leaves_status_and_code_standing(lib: Any, desk: Any, odd: Any) -> None:
    """A gateway that puts its own error into the place of a compressed answer, and leaves the headers."""
    server = odd(lambda peer, request: peer.answer(402, QUOTA, content_encoding="gzip"))
    async with lib.client(engine(desk)) as client:
        response = await client.get(server.url)

    assert (402, QUOTA, True) == (response.status_code, response.content, response.is_closed)
    assert ["insufficient_credits"] == codes(desk)


@half_read
async def test_a_failure_too_large_to_drain_is_not_read_before_it_is_repeated(over: Any, desk: Any, odd: Any) -> None:
    """D29: what is thrown away is closed before the wait, so that a pool of one goes on."""
    server = odd(lambda peer, request: peer.answer(503, b"x" * 10_000_000) if len(peer.odd.requests) < 2 else peer.answer(200, b"y"))
    async with over(engine(desk)) as client:
        began = time.monotonic()
        response = await client.get(server.url)

    assert (200, "y", 2) == (response.status_code, response.text, server.connections)
    assert time.monotonic() - began < 2


async def test_a_large_failure_that_stays_arrives_whole(over: Any, desk: Any, odd: Any) -> None:
    body = bytes(range(256)) * 4_000
    server = odd(lambda peer, request: peer.answer(404, body))
    async with over(engine(desk, Deadline(10))) as client:
        response = await client.get(server.url)
        async with client.stream("GET", server.url) as streamed:
            content = await streamed.aread()

    assert [body, body] == [response.content, content]
    assert [404, 404] == [response.status_code, streamed.status_code]


@half_read
async def test_a_failure_that_never_ends_is_cut_off_and_keeps_its_status(lib: Any, desk: Any, odd: Any) -> None:
    """Without any limit of time, and in memory that has one."""

    def play(peer: Any, request: bytes) -> None:
        peer.send(b"HTTP/1.1 404 None\r\n\r\n")
        with contextlib.suppress(OSError):
            while True:
                peer.connection.sendall(bytes(LARGEST))

    server = odd(play)
    async with lib.client(engine(desk)) as client:
        response = await client.get(server.url)

    assert 404 == response.status_code
    assert _MOST_KEPT <= len(response.content) < 2 * _MOST_KEPT


BOMB = gzip.compress(gzip.compress(bytes(4 * _MOST_KEPT), mtime=0), mtime=0)


async def test_a_failure_that_would_unpack_without_end_stays_packed(lib: Any, desk: Any, odd: Any) -> None:
    """A kilobyte, packed twice, may fill any memory, and no deadline cuts short what unpacks it."""
    server = odd(lambda peer, request: peer.answer(404, BOMB, content_encoding="gzip, gzip"))
    async with lib.client(engine(desk)) as client:
        response = await client.get(server.url)

    assert (404, BOMB) == (response.status_code, response.content)


@half_read
async def test_an_attempt_s_limit_bounds_what_is_read_of_its_failure(lib: Any, desk: Any, odd: Any) -> None:
    """Beyond the first 64 KiB, too, and with no deadline to do it."""

    def play(peer: Any, request: bytes) -> None:
        peer.send(b"HTTP/1.1 404 None\r\ncontent-length: 1000000\r\n\r\n" + bytes(LARGEST))
        peer.gone()

    server = odd(play)
    hasty = Engine([AttemptTimeout(20)], rules=callmissed.RULES, env=desk.sped_up(50))
    async with lib.client(hasty, timeout=None) as client:
        with anyio.fail_after(5):
            response = await client.get(server.url)

    assert (404, LARGEST) == (response.status_code, len(response.content))


async def test_a_failure_whose_body_hangs_keeps_its_status(lib: Any, desk: Any, odd: Any) -> None:
    """A 503 that became a read timeout would lose what is known about it."""

    def play(peer: Any, request: bytes) -> None:
        peer.send(b"HTTP/1.1 503 Busy\r\ncontent-length: 100\r\nretry-after: 7\r\n\r\n" + b"partly")
        peer.gone()

    server = odd(play)
    hasty = Engine([Deadline(30)], rules=callmissed.RULES, env=desk.sped_up(50))
    async with lib.client(hasty) as client:
        response = await client.get(server.url)

    assert (503, b"partly") == (response.status_code, response.content)
    assert [(503, 7.0)] == [(event.status, event.retry_after) for event in desk.of("attempt.failed")]


async def test_a_failure_whose_body_breaks_off_keeps_its_status(lib: Any, desk: Any, odd: Any) -> None:
    def play(peer: Any, request: bytes) -> None:
        peer.send(b"HTTP/1.1 429 Slow\r\ncontent-length: 1000\r\n\r\n" + QUOTA)
        peer.connection.close()

    server = odd(play)
    async with lib.client(engine(desk)) as client:
        response = await client.get(server.url)

    assert (429, QUOTA) == (response.status_code, response.content)
    assert ["insufficient_credits"] == codes(desk)


async def test_what_came_of_a_packed_body_that_breaks_off_is_unpacked(lib: Any, desk: Any, odd: Any) -> None:
    packed = gzip.compress(b"<html>" + bytes(range(256)) * 100)

    def play(peer: Any, request: bytes) -> None:
        peer.send(b"HTTP/1.1 502 Bad\r\ncontent-length: 100000\r\ncontent-encoding: gzip\r\n\r\n" + packed[: len(packed) // 2])
        peer.connection.close()

    server = odd(play)
    async with lib.client(engine(desk, Deadline(10))) as client:
        response = await client.get(server.url)

    assert (502, b"<html>") == (response.status_code, response.content[:6])


async def test_a_failure_never_spends_the_last_of_the_time_on_its_body(over: Any, lib: Any, desk: Any, odd: Any) -> None:
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
    async with over(Engine([Deadline(10)], env=env)) as client, client.stream("GET", server.url) as response:
        assert 404 == response.status_code

    assert [10.0, 0.036] == asked[:2]


async def test_a_reader_of_results_finds_the_content_of_failures_too(lib: Any, desk: Any, server: Server) -> None:
    """Rules may look at what comes back; in a client the body is there by then."""
    seen = []

    def look(response: object) -> None:
        assert isinstance(response, lib.http.Response)
        seen.append(response.json()["error"]["code"])

    server.script("GET /api/v1/bots", Answer(503, "provider_error"))
    looking = Engine([], rules=callmissed.RULES.extend("looking", by_result=look), env=desk.env)
    async with lib.client(looking, base_url=server.url) as client:
        await client.get("/api/v1/bots")

    assert ["provider_error"] == seen
    assert [] == desk.of("result.unread")


async def test_a_cancel_while_a_success_is_read_closes_it(lib: Any, desk: Any) -> None:
    """D1, D29."""
    closed = []

    class Stream(lib.http.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> Any:
            await anyio.sleep(60)
            yield b""

        async def aclose(self) -> None:
            await anyio.lowlevel.checkpoint()
            closed.append(self)

    for status in (200, 503):
        transport = lib.http.MockTransport(lambda request, status=status: lib.http.Response(status, stream=Stream()))
        async with lib.client(engine(desk), transport=transport) as client:
            with anyio.move_on_after(0.01):
                await client.get("https://api.example")

    assert 2 == len(set(closed))


async def test_whoever_streams_a_failure_that_breaks_off_reads_what_came_and_then_the_error(
    over: Any, lib: Any, desk: Any, odd: Any
) -> None:
    def play(peer: Any, request: bytes) -> None:
        peer.send(b"HTTP/1.1 429 Slow\r\ncontent-length: 1000\r\n\r\n" + QUOTA)
        peer.connection.close()

    server = odd(play)
    parts: list[bytes] = []
    async with over(engine(desk)) as client, client.stream("GET", server.url) as response:
        with pytest.raises(lib.http.RemoteProtocolError):
            await read_into(parts, response)

    assert (429, QUOTA) == (response.status_code, b"".join(parts))
    assert ["insufficient_credits"] == codes(desk)


async def test_a_failure_brought_back_because_its_repeat_was_refused_can_still_be_read(lib: Any, desk: Any, odd: Any) -> None:
    """It was let go of before the wait; what it said was not."""
    server = odd(lambda peer, request: peer.answer(503, QUOTA.replace(b"insufficient_credits", b"provider_error")))
    policies: list[Any] = [Retry(), CircuitBreaker(consecutive=1, failure_ratio=1)]
    async with lib.client(engine(desk, *policies)) as client:
        async with client.stream("GET", server.url) as response:
            body = await response.aread()

    assert (503, "provider_error", 1) == (response.status_code, json.loads(body)["error"]["code"], len(server.requests))
    assert ["rejected"] == [event.reason for event in desk.of("retry.gave_up")]


@half_read
async def test_a_failure_brought_back_unread_says_that_it_was_let_go_of(lib: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(503, b"x" * 1_000_000))
    policies: list[Any] = [Retry(), CircuitBreaker(consecutive=1, failure_ratio=1)]
    parts: list[bytes] = []
    async with lib.client(engine(desk, *policies)) as client:
        async with client.stream("GET", server.url) as response:
            with pytest.raises(lib.http.ReadError, match="let go of"):
                await read_into(parts, response)

    assert 503 == response.status_code
    assert LARGEST <= sum(map(len, parts)) < 1_000_000


@half_read
async def test_a_large_failure_that_is_brought_back_holds_what_was_read_of_it(lib: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(503, b"x" * 1_000_000))
    policies: list[Any] = [Retry(), CircuitBreaker(consecutive=1, failure_ratio=1)]
    async with lib.client(engine(desk, *policies)) as client:
        response = await client.get(server.url)

    assert (503, "") == (response.status_code, response.text.strip("x"))
    assert LARGEST <= len(response.content) < 1_000_000


async def test_a_cancel_while_a_failure_is_drained_frees_the_connection(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    """D1, D29: the pool of one serves the next request."""

    def play(peer: Any, request: bytes) -> None:
        if b"/hang" in request:
            peer.send(b"HTTP/1.1 503 Busy\r\ncontent-length: 100\r\n\r\n")
            peer.gone()
        else:
            peer.answer(200)

    server = odd(play)
    inner = lib.http.AsyncHTTPTransport(verify=False, limits=lib.http.Limits(max_connections=1))
    async with over(engine(desk), transport=inner, timeout=lib.http.Timeout(5, pool=1)) as client:
        with anyio.move_on_after(0.03) as scope:
            await client.get(f"{server.url}/hang")
        response = await client.get(f"{server.url}/next")

    assert scope.cancelled_caught
    assert 200 == response.status_code
    assert [] == codes(desk)


class Reluctant:
    """A transport of large failures that take *seconds* to close, then small successes."""

    def __init__(self, lib: Any, seconds: float) -> None:
        self.closed: list[str] = []
        outer = self

        class Stream(lib.http.AsyncByteStream):  # type: ignore[misc]
            async def __aiter__(self) -> Any:
                for _ in range(100):
                    yield b"x" * LARGEST

            async def aclose(self) -> None:
                outer.closed.append("began")
                await anyio.sleep(seconds)
                outer.closed.append("ended")

        class Transport(lib.http.AsyncBaseTransport):  # type: ignore[misc]
            async def handle_async_request(self, request: Any) -> Any:
                return lib.http.Response(200) if outer.closed else lib.http.Response(503, stream=Stream())

        self.transport = Transport()


@half_read
async def test_a_cancel_while_a_failure_is_thrown_away_lets_it_be_closed(over: Any, lib: Any, desk: Any) -> None:
    """D29."""
    reluctant = Reluctant(lib, 0.03)
    async with over(engine(desk), transport=reluctant.transport) as client:
        with anyio.move_on_after(0.01) as scope:
            await client.get("https://api.example")

    assert scope.cancelled_caught
    assert ["began", "ended"] == reluctant.closed


@half_read
async def test_a_failure_that_will_not_close_delays_the_repeat_for_a_second_at_most(over: Any, lib: Any, desk: Any) -> None:
    """D29; a second is 20 ms here."""
    reluctant = Reluctant(lib, 60)
    hasty = Engine([Retry()], rules=callmissed.RULES, env=desk.sped_up(50))
    async with over(hasty, transport=reluctant.transport) as client:
        began = time.monotonic()
        response = await client.get("https://api.example")

    assert (200, ["began"]) == (response.status_code, reluctant.closed)
    assert time.monotonic() - began < 5


async def test_nothing_waits_longer_than_a_second_for_a_body_that_drips(over: Any, desk: Any, server: Server) -> None:
    """The limit is asked of the env: no test waits for it."""
    limits = []
    cutoff = desk.env.cutoff

    def noted(seconds: float, *, shield: bool = False) -> Any:
        limits.append((seconds, shield))
        return cutoff(seconds, shield=shield)

    env = attrs.evolve(desk.env, cutoff=noted)
    server.script("GET /api/v1/bots", Answer(503), Answer(503))
    async with over(Engine([Retry()], rules=callmissed.RULES, env=env), base_url=server.url) as client:
        with contextlib.suppress(Exception):
            await client.get("/api/v1/bots")

    assert [1.0] == sorted({seconds for seconds, shield in limits if not shield})
    assert [1.0] == sorted({seconds for seconds, shield in limits if shield})


async def test_a_success_is_not_drained(over: Any, desk: Any, odd: Any) -> None:
    server = odd(lambda peer, request: peer.answer(200, b"x" * 200_000))
    async with over(engine(desk, IdempotencyKey(), Retry())) as client, client.stream("GET", server.url) as response:
        assert "resilience.drained" not in response.extensions
        assert 200_000 == len(await response.aread())


# Undoing encodings: pure.


@pytest.mark.parametrize(
    ("raw", "header", "expected"),
    [
        (b"{}", "", b"{}"),
        (b"{}", "identity, IDENTITY", b"{}"),
        (gzip.compress(b"{}", mtime=0), "gzip", b"{}"),
        (gzip.compress(b"{}", mtime=0)[:-4], "gzip", b"{}"),
        (b"", "gzip", b""),
        (b"{}", "gzip", b"{}"),
        (b"{}", "br", b"{}"),
        (gzip.compress(b"\x0b\x01", mtime=0), "br, gzip", b"\x0b\x01"),
    ],
)
def test_content_codings_are_undone_as_far_as_they_are_known(raw: bytes, header: str, expected: bytes) -> None:
    assert expected == decoded(raw, header)


def test_a_bomb_is_undone_as_far_as_is_read() -> None:
    bomb = gzip.compress(b"0" * 5_000_000)

    assert LARGEST + 1 == len(decoded(bomb, "gzip"))
    assert LARGEST + 1 == len(decoded(gzip.compress(bomb), "gzip, gzip"))
    assert b"x" * 100 == decoded(b"x" * 100, ",".join(["gzip"] * 10_000))
