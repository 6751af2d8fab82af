"""The Anthropic SDK over an engine in one line, and what is its API's own: its events, and the platforms that it is served on."""

from __future__ import annotations

import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx2
import pytest

from resilience import CircuitBreaker, Deadline, Engine, Retry, callmissed, history
from resilience.adapters import anthropic as adapter
from resilience.adapters.httpx2 import ResilientClient
from resilience.demo.faults import Answer
from resilience.demo.serve import Server
from resilience.dialects import anthropic as dialect
from resilience.dialects import http
from tests.adapters import sdks

pytestmark = [pytest.mark.anyio, sdks.on_trio_dropped]

ARGUMENTS: dict[str, Any] = sdks.ANTHROPIC.arguments
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


@pytest.fixture(scope="module", params=[sdks.ASYNCIO, sdks.TRIO])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Not uvloop, to which all of this is no news."""
    return request.param


def engine(desk: Any, *policies: Any, **settings: Any) -> Engine:
    return Engine(policies or [Retry()], **{"rules": dialect.RULES, "env": desk.env, **settings})


# One line.


async def test_one_line_makes_a_client_that_repeats(desk: Any, server: Server) -> None:
    server.script("POST /v1/messages", Answer(529), Answer(500))
    ready = adapter.engine(env=desk.env)
    async with adapter.client(ready, api_key=server.api_key(), base_url=server.url) as sdk:
        message = await sdk.messages.create(**ARGUMENTS)

    assert "end_turn" == message.stop_reason
    assert ["0", "0", "0"] == [seen.headers["x-stainless-retry-count"] for seen in server.settle().seen]
    assert ["anthropic"] == list({event.engine for event in desk.events})


@sdks.on_asyncio
async def test_without_an_engine_it_makes_one() -> None:
    async with adapter.client(api_key="-") as sdk:
        assert isinstance(sdk._client, ResilientClient)
        assert (0, anthropic.AsyncAnthropic) == (sdk.max_retries, type(sdk))


def test_the_engine_that_it_makes_has_no_keys_and_no_limit_to_an_attempt() -> None:
    """The API honours no keys, and a generation takes as long as the SDK's own timeout allows."""
    ready = adapter.engine()

    assert [Deadline, Retry, CircuitBreaker] == [type(policy) for policy in ready.policies]
    assert ("anthropic", dialect.RULES) == (ready.name, ready.rules)
    assert "doubtful" not in ready.describe()


def test_the_kind_of_client_decides_on_the_dialect() -> None:
    class Own(anthropic.AsyncAnthropicVertex):
        pass

    kinds = (
        anthropic.AsyncAnthropic,
        anthropic.AsyncAnthropicFoundry,
        anthropic.AsyncAnthropicAWS,
        anthropic.AsyncAnthropicBedrockMantle,
        anthropic.AsyncAnthropicGoogleCloud,
        anthropic.AsyncAnthropicBedrock,
        anthropic.AsyncAnthropicVertex,
        Own,
    )

    assert [*["anthropic"] * 5, "anthropic on bedrock", *["anthropic on vertex"] * 2] == [adapter.engine(kind).name for kind in kinds]


@sdks.on_asyncio
async def test_it_has_the_sdk_s_own_defaults(desk: Any) -> None:
    """Connections that a long answer leaves idle are kept alive, too."""
    async with adapter.client(engine(desk), api_key="-") as ours, anthropic.AsyncAnthropic(api_key="-") as theirs:
        assert theirs.timeout == ours.timeout
        assert theirs._client.timeout == ours._client.timeout
        assert (True, True) == (theirs._client.follow_redirects, ours._client.follow_redirects)
        assert pool_of(theirs) == pool_of(ours)
        with pytest.raises(ValueError, match="Streaming is required"):
            await ours.messages.create(**{**ARGUMENTS, "max_tokens": 128_000})
    async with adapter.client(engine(desk), api_key="-", timeout=7) as sdk:
        assert 7 == sdk.timeout


def pool_of(sdk: Any) -> list[Any]:
    pool = sdk._client._transport._pool
    return [pool._max_connections, pool._max_keepalive_connections, pool._socket_options]


def test_the_sdk_s_own_retries_are_refused(desk: Any) -> None:
    """D9."""
    with pytest.raises(ValueError, match=r"adapters\.anthropic\.client: max_retries=2: the engine repeats in the SDK's stead"):
        adapter.client(engine(desk), api_key="-", max_retries=2)


def test_so_is_an_http_client_of_one_s_own(desk: Any) -> None:
    with pytest.raises(ValueError, match=r"http_client=<.*>: .*write AsyncAnthropic\(http_client=HttpClient\(engine, proxy=\.\.\.\), max"):
        adapter.client(engine(desk), api_key="-", http_client=httpx2.AsyncClient(verify=False))


def test_so_is_what_is_no_async_client(desk: Any) -> None:
    with pytest.raises(TypeError, match="kind: expected the class of an async client"):
        adapter.client(engine(desk), anthropic.Anthropic, api_key="-")


def test_an_engine_without_a_dialect_is_doubtful(desk: Any) -> None:
    """D2: plain HTTP knows nothing of an empty credit."""
    with pytest.warns(UserWarning, match="engine 'http' goes by plain HTTP") as told:
        adapter.client(engine(desk, rules=http.RULES), api_key="-")

    assert __file__ == told[0].filename


async def test_copies_share_the_engine(desk: Any, server: Server) -> None:
    server.script("POST /v1/messages", Answer(503))
    async with adapter.client(engine(desk), api_key="-", base_url=server.url) as sdk:
        copy = sdk.with_options(api_key=server.api_key(), timeout=30)
        await copy.messages.create(**ARGUMENTS)

    assert 2 == server.settle().requests


async def test_compatible_services_that_honour_keys_get_them(server: Server, desk: Any) -> None:
    server.script("POST /v1/messages", Answer(503))
    async with adapter.client(callmissed.engine(env=desk.env), api_key=server.api_key(), base_url=server.url) as sdk:
        await sdk.messages.create(**ARGUMENTS)

    assert [2] == list(server.settle().by_key.values())


# Platforms.


def losing_the_first(answer: list[Any]) -> Any:
    play = sdks.playing(answer)
    return lambda peer, request: peer.connection.close() if len(peer.odd.requests) < 2 else play(peer, request)


async def test_on_bedrock_a_message_may_be_repeated_too(desk: Any, odd: Any) -> None:
    """Although nobody knows what became of the first, and the path names a model."""
    server = odd(losing_the_first([200, MESSAGE]))
    kind = anthropic.AsyncAnthropicBedrock
    async with adapter.client(adapter.engine(kind, env=desk.env), kind, api_key="-", aws_region="eu-1", base_url=server.url) as sdk:
        await sdk.messages.create(**ARGUMENTS)

    assert [b"POST /model/missed-1/invoke HTTP/1.1"] * 2 == [request.split(b"\r\n")[0] for request in server.requests]


async def test_on_vertex_too(desk: Any, odd: Any) -> None:
    server = odd(losing_the_first([200, MESSAGE]))
    kind = anthropic.AsyncAnthropicVertex
    vertex = adapter.client(
        adapter.engine(kind, env=desk.env), kind, access_token="-", region="eu", project_id="p", base_url=f"{server.url}/v1"
    )
    async with vertex as sdk:
        await sdk.messages.create(**ARGUMENTS)

    path = b"/v1/projects/p/locations/eu/publishers/anthropic/models/missed-1:rawPredict"
    assert [b"POST %s HTTP/1.1" % path] * 2 == [request.split(b"\r\n")[0] for request in server.requests]


async def test_what_vertex_says_counts_as_google_means_it(desk: Any, odd: Any) -> None:
    daily = {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "TokensPerDayPerProject"}]}
    server = odd(sdks.playing([429, {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "Spent.", "details": [daily]}}]))
    kind = anthropic.AsyncAnthropicVertex
    vertex = adapter.client(adapter.engine(kind, env=desk.env), kind, access_token="-", region="eu", project_id="p", base_url=server.url)
    async with vertex as sdk:
        with pytest.raises(anthropic.RateLimitError):
            await sdk.messages.create(**ARGUMENTS)

    assert 1 == server.arrived(1)


def framed(payload: bytes, **headers: str) -> bytes:
    """A message in AWS's encoding of event streams; underscores in names are dashes."""
    head = b""
    for name, value in headers.items():
        key = b":" + name.replace("_", "-").encode()
        head += struct.pack("!B", len(key)) + key + struct.pack("!BH", 7, len(value)) + value.encode()
    prelude = struct.pack("!II", len(head) + len(payload) + 16, len(head))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + head + payload
    return message + struct.pack("!I", zlib.crc32(message))


@pytest.mark.parametrize(("kind", "delays"), [("throttlingException", [0.5, 1.0]), ("validationException", [])])
async def test_exceptions_in_bedrock_s_streams_go_by_their_names(desk: Any, odd: Any, kind: str, delays: list[float]) -> None:
    """B65: the SDK raises them with the status of the stream, which was 200."""
    server = odd(
        sdks.playing([framed(b'{"message": "No."}', message_type="exception", exception_type=kind, content_type="application/json")])
    )
    rules = adapter.engine(anthropic.AsyncAnthropicBedrock).rules
    bedrock = sdks.ANTHROPIC.plain(server.url, kind=anthropic.AsyncAnthropicBedrock, aws_region="eu-1")
    async with bedrock as sdk:
        _, error = await sdks.collected(adapter.stream(engine(desk, rules=rules), sdk.messages.create, **ARGUMENTS, stream=True))

    assert isinstance(error, anthropic.APIStatusError)
    assert (200, delays) == (error.status_code, desk.slept)


# Events.


@pytest.mark.parametrize(
    "event", [b"event: error\ndata: oops\n\n", sdks.ANTHROPIC.error("a_new_error", None), sdks.ANTHROPIC.error("api_error", None)]
)
async def test_the_200_of_a_stream_says_nothing_about_an_error_in_it(desk: Any, odd: Any, event: bytes) -> None:
    """B65: what no table knows fails fast; an error of the API's is repeated."""
    server = odd(sdks.playing([sdks.ANTHROPIC.prelude, event]))
    async with sdks.ANTHROPIC.plain(server.url) as sdk:
        _, error = await sdks.collected(adapter.stream(engine(desk), sdk.messages.create, **ARGUMENTS, stream=True))

    assert isinstance(error, anthropic.APIStatusError)
    assert 200 == error.status_code
    assert (3 if b"api_error" in event else 1) == server.arrived(1)


async def test_a_function_that_yields_words_is_repeated_until_the_first_of_them(desk: Any, odd: Any) -> None:
    """D12: to a generator of one's own, an item is what it yields."""
    whole = [sdks.ANTHROPIC.prelude, *sdks.ANTHROPIC.tokens("a", "b", "c")]
    server = odd(sdks.playing([sdks.ANTHROPIC.prelude, sdks.CUT], [*whole, sdks.CUT]))
    async with sdks.ANTHROPIC.plain(server.url) as sdk:

        @engine(desk)
        async def words() -> AsyncIterator[str]:
            async with sdk.messages.stream(**ARGUMENTS) as stream:
                async for word in stream.text_stream:
                    yield word

        items, error = await sdks.collected(words())

    assert (["a", "b", "c"], 3, 2) == (items, history(error)[-1].items, server.arrived(2))


def started(block: dict[str, Any]) -> bytes:
    return sdks.sse({"type": "content_block_start", "index": 0, "content_block": block}, "content_block_start")


def changed(delta: dict[str, Any]) -> bytes:
    return sdks.sse({"type": "content_block_delta", "index": 0, "delta": delta}, "content_block_delta")


STOPPED = {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 0}}


@sdks.on_asyncio
@pytest.mark.parametrize(
    ("then", "shows"),
    [
        (b"", False),
        (started({"type": "text", "text": ""}), False),
        (started({"type": "thinking", "thinking": "", "signature": ""}), False),
        (started({"type": "tool_use", "id": "1", "name": "look_up", "input": {}}), False),
        (
            started({"type": "tool_use", "id": "1", "name": "x", "input": {}}) + changed({"type": "input_json_delta", "partial_json": ""}),
            False,
        ),
        (changed({"type": "text_delta", "text": ""}), False),
        (started({"type": "text", "text": "Hi"}), True),
        (started({"type": "redacted_thinking", "data": "abc"}), True),
        (started({"type": "web_search_tool_result", "tool_use_id": "1", "content": []}), True),
        (changed({"type": "text_delta", "text": "Hi"}), True),
        (changed({"type": "thinking_delta", "thinking": "Hm"}), True),
        (changed({"type": "input_json_delta", "partial_json": "{"}), True),
        (changed({"type": "signature_delta", "signature": "abc"}), True),
        (changed({"type": "a_new_delta"}), True),
        (sdks.sse(STOPPED, "message_delta"), True),
    ],
)
async def test_what_there_is_to_show(desk: Any, odd: Any, then: bytes, shows: bool) -> None:
    start = sdks.sse({"type": "message_start", "message": {**MESSAGE, "content": []}}, "message_start")
    server = odd(sdks.playing([start + then, sdks.CUT]))
    async with sdks.ANTHROPIC.plain(server.url) as sdk:
        items, error = await sdks.collected(adapter.stream(engine(desk), sdk.messages.create, **ARGUMENTS, stream=True))

    assert isinstance(error, httpx2.RemoteProtocolError)
    assert (1 if shows else 3) == server.arrived(1)
    assert shows == bool(items)


@sdks.on_asyncio
async def test_events_of_the_helper_wait_for_words_as_well(desk: Any, odd: Any) -> None:
    empty = changed({"type": "text_delta", "text": ""})
    server = odd(sdks.playing([sdks.ANTHROPIC.prelude, empty, sdks.CUT], [sdks.ANTHROPIC.prelude, empty, *sdks.ANTHROPIC.tokens("Hi")]))
    async with sdks.ANTHROPIC.plain(server.url) as sdk:
        items, error = await sdks.collected(adapter.stream(engine(desk), sdk.messages.stream, **ARGUMENTS))

    assert (["", "Hi"], None) == ([item.text for item in items if item.type == "text"], error)
    assert 2 == len(server.requests)
