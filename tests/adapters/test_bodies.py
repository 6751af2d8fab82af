"""A body that was used up is never sent again, and never taken for an empty one."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from resilience import Engine, IdempotencyKey, RefreshToken, Retry

pytestmark = pytest.mark.anyio

KEYED = (IdempotencyKey(), Retry())


def answering(*statuses: int) -> Any:
    def play(peer: Any, request: bytes) -> None:
        peer.answer(statuses[min(len(peer.odd.requests), len(statuses)) - 1])

    return play


async def parts() -> AsyncIterator[bytes]:
    yield b"one-"
    yield b"shot"


class Pipe(io.RawIOBase):
    """One that knows it cannot be rewound."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._content.read(size)


class Reader:
    """One that can be read, and says no more."""

    def __init__(self, content: bytes) -> None:
        self.read = io.BytesIO(content).read


BODIES: list[dict[str, Any]] = [
    {"content": b"raw"},
    {"content": "text"},
    {"json": {"a": 1}},
    {"data": {"a": "1"}},
    {"files": {"file": b"bytes"}},
    {"files": {"file": io.BytesIO(b"rewound")}, "data": {"a": "1"}},
    {},
]


@pytest.mark.parametrize("body", BODIES, ids=lambda body: "+".join(body) or "none")
async def test_a_body_that_can_be_sent_again_is_the_same_every_time(over: Any, desk: Any, odd: Any, body: dict[str, Any]) -> None:
    """D29, B48, B50."""
    server = odd(answering(503, 503, 200))
    async with over(Engine(KEYED, env=desk.env)) as client:
        response = await client.post(server.url, **body)

    sent = [request.partition(b"\r\n\r\n")[2] for request in server.requests]
    assert 200 == response.status_code
    assert 3 == len(sent)
    assert 1 == len(set(sent))
    assert (sent[0] != b"") == bool(body)


async def test_an_open_file_in_a_form_is_rewound(over: Any, desk: Any, odd: Any, tmp_path: Path) -> None:
    path = tmp_path / "upload"
    path.write_bytes(b"x" * 200_000)
    server = odd(answering(503, 200))
    async with over(Engine(KEYED, env=desk.env)) as client:
        with path.open("rb") as file:
            response = await client.post(server.url, files={"file": file})

    assert 200 == response.status_code
    assert [200_000] * 2 == [request.count(b"x" * 100_000) * 100_000 for request in server.requests]


@pytest.mark.parametrize("status", [503, 429])
async def test_a_stream_is_sent_once_and_the_event_says_why(over: Any, desk: Any, odd: Any, status: int) -> None:
    """D29, B50: not even where the peer did no work, and not even with a key."""
    server = odd(answering(status))
    async with over(Engine(KEYED, env=desk.env)) as client:
        response = await client.post(server.url, content=parts())

    assert status == response.status_code
    assert 1 == len(server.requests)
    assert b"one-" in server.requests[0]
    assert ["unrepeatable"] == [event.reason for event in desk.of("retry.gave_up")]
    assert [] == desk.slept


async def test_a_stream_is_not_sent_again_after_a_401_but_the_next_one_goes_with_a_newer_token(over: Any, desk: Any, odd: Any) -> None:
    """A client that does nothing but upload streams must not be left with an expired token for ever."""
    logins = []

    async def login(stale: str | None) -> str:
        logins.append(stale)
        return "new"

    server = odd(lambda peer, request: peer.answer(200 if b"Bearer new" in request else 401))
    async with over(Engine([RefreshToken(login, token="old"), Retry()], env=desk.env)) as client:
        first = await client.post(server.url, content=parts())
        second = await client.post(server.url, content=parts())

    assert [401, 200] == [first.status_code, second.status_code]
    assert (2, ["old"]) == (len(server.requests), logins)
    assert ["unrepeatable"] == [event.reason for event in desk.of("retry.gave_up")]


async def test_an_async_file_is_a_stream_too(over: Any, desk: Any, odd: Any, tmp_path: Path) -> None:
    """B50: both clients would go on reading at its end, and send nothing, with success."""
    path = tmp_path / "upload"
    path.write_bytes(b"content")
    server = odd(answering(503, 200))
    async with over(Engine(KEYED, env=desk.env)) as client, await anyio.open_file(path, "rb") as file:
        response = await client.post(server.url, content=file)

    assert 503 == response.status_code
    assert 1 == len(server.requests)
    assert b"content" in server.requests[0]


@pytest.mark.parametrize("kind", [Pipe, Reader])
async def test_a_form_with_a_file_that_cannot_be_rewound_is_sent_once(over: Any, desk: Any, odd: Any, kind: Any) -> None:
    """B50: both clients would send the form again, and the file empty."""
    server = odd(answering(503, 200))
    async with over(Engine(KEYED, env=desk.env)) as client:
        response = await client.post(server.url, files={"file": kind(b"content")})

    assert 503 == response.status_code
    assert 1 == len(server.requests)
    assert b"content" in server.requests[0]


async def test_a_stream_that_was_never_touched_is_sent_all_the_same(over: Any, lib: Any, desk: Any, odd: Any) -> None:
    """The connection failed before anybody asked for the first part."""
    server = odd(answering(200))
    inner = lib.http.AsyncHTTPTransport(verify=False)
    refusals = 0

    class Flaky(lib.http.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            nonlocal refusals
            if refusals < 2:
                refusals += 1
                raise lib.http.ConnectError("not today")
            return await inner.handle_async_request(request)

        async def aclose(self) -> None:
            await inner.aclose()

    async with over(Engine([Retry()], env=desk.env), transport=Flaky()) as client:
        response = await client.post(server.url, content=parts())

    assert 200 == response.status_code
    assert (2, 1) == (refusals, len(server.requests))
    assert b"one-" in server.requests[0]
    assert b"shot" in server.requests[0]


async def test_a_redirect_finds_a_stream_used_up_and_says_so(over: Any, lib: Any, desk: Any, odd: Any, tmp_path: Path) -> None:
    """B50: the clients' own redirects would send an async file empty."""
    path = tmp_path / "upload"
    path.write_bytes(b"content")
    server = odd(lambda peer, request: peer.answer(307, location="/there"))
    async with over(Engine(KEYED, env=desk.env), follow_redirects=True) as client, await anyio.open_file(path, "rb") as file:
        with pytest.raises(lib.http.StreamConsumed):
            await client.post(server.url, content=file)

    assert 1 == len([request for request in server.requests if b"content" in request])


async def test_a_sync_iterator_is_refused_as_ever(over: Any, desk: Any, odd: Any) -> None:
    server = odd(answering(200))
    async with over(Engine(KEYED, env=desk.env)) as client:
        with pytest.raises(RuntimeError, match="sync request"):
            await client.post(server.url, content=iter([b"one"]))

    assert [] == server.requests


async def test_a_stand_in_transport_sees_the_content(over: Any, lib: Any, desk: Any) -> None:
    seen: list[bytes] = []
    ours: list[str] = []

    class Looking(lib.http.AsyncBaseTransport):  # type: ignore[misc]
        async def handle_async_request(self, request: Any) -> Any:
            seen.append(request.content)
            ours.extend(name for name in request.extensions if name.startswith("resilience"))
            return lib.http.Response(200 if len(seen) > 1 else 503, json={"error": {"code": "rate_limit_exceeded"}})

    async with over(Engine(KEYED, env=desk.env), transport=Looking()) as client:
        response = await client.post("https://api.example", json=[1])

    assert 200 == response.status_code
    assert [b"[1]", b"[1]"] == seen
    assert [] == ours  # what rides along is nobody else's business
    assert ["rate_limit_exceeded"] == [event.code for event in desk.of("attempt.failed")]
