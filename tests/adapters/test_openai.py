"""The OpenAI SDK over an engine in one line, and what is its API's own: Azure, the Responses API, the older completions."""

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest

from resilience import (
    CircuitBreaker,
    Deadline,
    Engine,
    Retry,
    StreamFailed,
    callmissed,
    history,
)
from resilience.adapters import openai as adapter
from resilience.adapters.httpx2 import ResilientClient
from resilience.demo.faults import Answer
from resilience.demo.serve import Server
from resilience.dialects import http
from resilience.dialects import openai as dialect
from tests.adapters import sdks

pytestmark = [pytest.mark.anyio, sdks.on_trio_dropped]


@pytest.fixture(scope="module", params=[sdks.ASYNCIO, sdks.TRIO])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Not uvloop, to which all of this is no news."""
    return request.param


RESPONSE = {"id": "resp_1", "object": "response", "created_at": 1, "model": "m", "output": [], "status": "in_progress"}
CREATED = sdks.sse({"type": "response.created", "sequence_number": 0, "response": RESPONSE})
TEXT = {"type": "response.output_text.delta", "item_id": "1", "output_index": 0, "content_index": 0, "logprobs": []}
ANSWER: dict[str, Any] = {"model": "m", "input": "hi", "stream": True}


def delta(word: str) -> bytes:
    return sdks.sse({**TEXT, "sequence_number": 1, "delta": word})


def failed(code: str) -> bytes:
    error = {"code": code, "message": "As scripted."}
    return sdks.sse({"type": "response.failed", "sequence_number": 2, "response": {**RESPONSE, "status": "failed", "error": error}})


def reported(code: str) -> bytes:
    return sdks.sse({"type": "error", "sequence_number": 2, "code": code, "message": "As scripted.", "param": None})


def engine(desk: Any, *policies: Any, **settings: Any) -> Engine:
    return Engine(policies or [Retry()], **{"rules": dialect.RULES, "env": desk.env, **settings})


# One line.


async def test_one_line_makes_a_client_that_repeats(desk: Any, server: Server) -> None:
    server.script("POST /v1/chat/completions", Answer(503), Answer(500))
    ready = adapter.engine(env=desk.env)
    async with adapter.client(ready, api_key=server.api_key(), base_url=f"{server.url}/v1") as sdk:
        completion = await sdk.chat.completions.create(**sdks.CHAT)

    assert "You missed a call." == completion.choices[0].message.content
    assert ["0", "0", "0"] == [seen.headers["x-stainless-retry-count"] for seen in server.settle().seen]
    assert ["openai"] == list({event.engine for event in desk.events})


@sdks.on_asyncio
async def test_without_an_engine_it_makes_one() -> None:
    async with adapter.client(api_key="-") as sdk:
        assert isinstance(sdk._client, ResilientClient)
        assert (0, openai.AsyncOpenAI) == (sdk.max_retries, type(sdk))


def test_the_engine_that_it_makes_has_no_keys_and_no_limit_to_an_attempt() -> None:
    """The API honours no keys, and a generation takes as long as the SDK's own timeout allows."""
    ready = adapter.engine()

    assert [Deadline, Retry, CircuitBreaker] == [type(policy) for policy in ready.policies]
    assert ("openai", dialect.RULES) == (ready.name, ready.rules)
    assert "doubtful" not in ready.describe()


def test_the_kind_of_client_decides_on_the_dialect() -> None:
    class Own(openai.AsyncAzureOpenAI):
        pass

    names = [adapter.engine(kind).name for kind in (openai.AsyncOpenAI, openai.AsyncBedrockOpenAI, openai.AsyncAzureOpenAI, Own)]

    assert ["openai", "openai", "azure_openai", "azure_openai"] == names


@sdks.on_asyncio
async def test_it_has_the_sdk_s_own_defaults(desk: Any) -> None:
    async with adapter.client(engine(desk), api_key="-") as ours, openai.AsyncOpenAI(api_key="-") as theirs:
        assert theirs.timeout == ours.timeout
        assert theirs._client.timeout == ours._client.timeout
        assert (True, True) == (theirs._client.follow_redirects, ours._client.follow_redirects)
        assert pool_of(theirs) == pool_of(ours)
    async with adapter.client(engine(desk), api_key="-", timeout=7) as sdk:
        assert 7 == sdk.timeout


def pool_of(sdk: Any) -> list[Any]:
    pool = sdk._client._transport._pool
    return [pool._max_connections, pool._max_keepalive_connections, pool._socket_options]


def test_the_sdk_s_own_retries_are_refused(desk: Any) -> None:
    """D9."""
    with pytest.raises(ValueError, match=r"adapters\.openai\.client: max_retries=2: the engine repeats in the SDK's stead"):
        adapter.client(engine(desk), api_key="-", max_retries=2)


def test_so_is_an_http_client_of_one_s_own(desk: Any) -> None:
    with pytest.raises(ValueError, match=r"http_client=<.*>: .*write AsyncOpenAI\(http_client=HttpClient\(engine, proxy=\.\.\.\), max_re"):
        adapter.client(engine(desk), api_key="-", http_client=httpx2.AsyncClient(verify=False))


def test_so_is_what_is_no_async_client(desk: Any) -> None:
    with pytest.raises(TypeError, match="kind: expected the class of an async client"):
        adapter.client(engine(desk), openai.OpenAI, api_key="-")
    with pytest.raises(TypeError, match="kind: expected the class of an async client, for engines are async only; got 'azure'"):
        adapter.client(engine(desk), "azure")  # type: ignore[call-overload]


def test_so_is_what_is_no_engine() -> None:
    with pytest.raises(TypeError, match="engine: expected an Engine"):
        adapter.client(openai.AsyncAzureOpenAI, api_key="-")  # type: ignore[call-overload]


def test_the_settings_that_change_nothing_are_taken(desk: Any) -> None:
    assert 0 == adapter.client(engine(desk), api_key="-", max_retries=0, http_client=None).max_retries


def test_an_engine_without_a_dialect_is_doubtful(desk: Any) -> None:
    """D2: to plain HTTP a quota that is used up is a rate limit."""
    with pytest.warns(UserWarning, match="engine 'http' goes by plain HTTP") as told:
        adapter.client(engine(desk, rules=http.RULES), api_key="-")

    assert __file__ == told[0].filename


async def test_an_http_client_with_settings_of_one_s_own(desk: Any, odd: Any) -> None:
    server = odd(sdks.playing([503], [200, {"object": "list", "data": []}]))
    carrier = adapter.HttpClient(engine(desk), verify=False, headers={"X-Team": "blue"})
    async with openai.AsyncOpenAI(api_key="-", base_url=server.url, http_client=carrier, max_retries=0) as sdk:
        await sdk.models.list()

    assert [True, True] == [b"x-team: blue" in request.lower() for request in server.requests]


async def test_copies_share_the_engine(desk: Any, server: Server) -> None:
    server.script("POST /v1/chat/completions", Answer(503))
    async with adapter.client(engine(desk), api_key="-", base_url=f"{server.url}/v1") as sdk:
        copy = sdk.with_options(api_key=server.api_key(), timeout=30)
        await copy.chat.completions.create(**sdks.CHAT)

    assert 2 == server.settle().requests


async def test_azure_s_client_finds_its_deployments(desk: Any, odd: Any) -> None:
    """A completion may be repeated there, too, although nobody knows what became of the first."""
    answers = sdks.playing([200, {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": []}])
    server = odd(lambda peer, request: peer.connection.close() if len(peer.odd.requests) < 2 else answers(peer, request))
    azure = adapter.client(
        adapter.engine(openai.AsyncAzureOpenAI, env=desk.env),
        openai.AsyncAzureOpenAI,
        azure_endpoint=server.url,
        azure_deployment="mini",
        api_version="2026-01-01",
        api_key="secret",
    )
    async with azure as sdk:
        await sdk.chat.completions.create(**sdks.CHAT)

    lines = [request.split(b"\r\n") for request in server.requests]
    assert [b"POST /openai/deployments/mini/chat/completions?api-version=2026-01-01 HTTP/1.1"] * 2 == [head[0] for head in lines]
    assert [True, True] == [b"api-key: secret" in head for head in lines]


async def test_azure_s_words_count_with_azure_s_kind(desk: Any, odd: Any) -> None:
    server = odd(sdks.playing([429, {"error": {"code": "InsufficientQuota", "message": "None left."}}]))
    azure = adapter.client(
        adapter.engine(openai.AsyncAzureOpenAI, env=desk.env),
        openai.AsyncAzureOpenAI,
        azure_endpoint=server.url,
        api_version="2026-01-01",
        api_key="-",
    )
    async with azure as sdk:
        with pytest.raises(openai.RateLimitError):
            await sdk.chat.completions.create(**sdks.CHAT)

    assert 1 == server.arrived(1)


async def test_a_key_that_a_method_of_the_sdk_takes_makes_its_request_repeatable(desk: Any, odd: Any) -> None:
    """D4: the few endpoints that honour one are told it by the caller, and the engine sees it go out."""
    server = odd(lambda peer, request: peer.connection.close())
    async with adapter.client(engine(desk), api_key="-", base_url=server.url) as sdk:
        for headers in ({}, {"Idempotency-Key": "order-42"}):
            with pytest.raises(openai.APIConnectionError):
                await sdk.batches.create(input_file_id="f", endpoint="/v1/embeddings", completion_window="24h", extra_headers=headers)

    assert [False, True, True, True] == [b"order-42" in request for request in server.requests]


async def test_compatible_services_that_honour_keys_get_them(server: Server, desk: Any) -> None:
    server.script("POST /v1/chat/completions", Answer(503))
    engine = callmissed.engine(env=desk.env)
    async with adapter.client(engine, api_key=server.api_key(), base_url=f"{server.url}/v1") as sdk:
        await sdk.chat.completions.create(**sdks.CHAT)

    assert [2] == list(server.settle().by_key.values())


# The Responses API.


@pytest.mark.parametrize("event", [failed, reported])
async def test_a_response_that_fails_before_it_says_anything_is_begun_anew(desk: Any, odd: Any, event: Any) -> None:
    """B65: the SDK gives such events out as items like any other."""
    server = odd(sdks.playing([CREATED, event("rate_limit_exceeded")], [CREATED, delta("Hi")]))
    async with sdks.OPENAI.plain(server.url) as sdk:
        items, error = await sdks.collected(adapter.stream(engine(desk), sdk.responses.create, **ANSWER))

    assert (["response.created", "response.output_text.delta"], None) == ([item.type for item in items], error)
    assert ([0.5], 2) == (desk.slept, len(server.requests))


@pytest.mark.parametrize("event", [failed, reported])
async def test_one_that_fails_after_words_is_an_error_with_their_number(desk: Any, odd: Any, event: Any) -> None:
    """B65, D12."""
    server = odd(sdks.playing([CREATED, delta("a"), delta("b"), event("server_error")]))
    async with sdks.OPENAI.plain(server.url) as sdk:
        items, error = await sdks.collected(adapter.stream(engine(desk), sdk.responses.create, **ANSWER))

    assert isinstance(error, StreamFailed)
    assert ("server_error", 3, 3) == (error.code, len(items), history(error)[-1].items)
    assert 1 == server.arrived(1)


@pytest.mark.parametrize("event", [failed, reported])
async def test_one_that_no_repeat_mends_is_one_request(desk: Any, odd: Any, event: Any) -> None:
    server = odd(sdks.playing([CREATED, event("context_length_exceeded")]))
    async with sdks.OPENAI.plain(server.url) as sdk:
        with pytest.raises(StreamFailed):
            await anext(adapter.stream(engine(desk), sdk.responses.create, **ANSWER))

    assert 1 == server.arrived(1)


async def test_a_response_that_is_lost_is_repeated_only_if_one_says_so(desk: Any, odd: Any) -> None:
    """D4: it may be stored, and have run tools."""
    server = odd(sdks.playing([CREATED, sdks.CUT], [CREATED, sdks.CUT], [CREATED, delta("Hi")]))
    engine_ = engine(desk)
    async with sdks.OPENAI.plain(server.url) as sdk:
        with pytest.raises(openai.APIConnectionError):
            await anext(adapter.stream(engine_, sdk.responses.create, **ANSWER))

        assert 1 == server.arrived(1)

        stream = adapter.stream(engine_.using(repeatable=True), sdk.responses.create, **ANSWER)
        items = [item.type async for item in stream]

    assert ["response.created", "response.output_text.delta"] == items
    assert 3 == len(server.requests)


# What waits for the first token.


CHOICE = {"index": 0, "finish_reason": None}


def chunk(*choices: dict[str, Any], **more: Any) -> bytes:
    made = [{**CHOICE, **choice} for choice in choices]
    return sdks.sse({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": made, **more})


TOOL = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": ""}}


@pytest.mark.parametrize(
    ("first", "shows"),
    [
        (chunk(), False),  # Azure's, with what its filters say of the prompt
        (chunk({"delta": {"role": "assistant"}}), False),
        (chunk({"delta": {"role": "assistant", "content": "", "refusal": None}}), False),
        (chunk({"delta": {"content": "Hi"}}), True),
        (chunk({"delta": {"content": ""}}, {"delta": {"content": "Hi"}}), True),
        (chunk({"delta": {"refusal": "No."}}), True),
        (chunk({"delta": {"tool_calls": [TOOL]}}), True),
        (chunk({"delta": {"reasoning_content": "Hmm."}}), True),  # DeepSeek's
        (chunk({"delta": {}, "finish_reason": "length"}), True),
        (chunk(usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}), True),
    ],
    ids=["filters", "role", "no content", "content", "second choice", "refusal", "tool", "reasoning", "finished", "usage"],
)
@sdks.on_asyncio
async def test_what_there_is_to_show(desk: Any, odd: Any, first: bytes, shows: bool) -> None:
    server = odd(sdks.playing([first, sdks.CUT]))
    async with sdks.OPENAI.plain(server.url) as sdk:
        items, error = await sdks.collected(adapter.stream(engine(desk), sdk.chat.completions.create, **sdks.CHAT, stream=True))

    assert isinstance(error, openai.APIConnectionError)
    assert ((1, 1) if shows else (0, 3)) == (len(items), server.arrived(1))


@sdks.on_asyncio
async def test_older_completions_wait_for_their_first_words_too(desk: Any, odd: Any) -> None:
    def text(words: str) -> bytes:
        choice = {"index": 0, "text": words, "finish_reason": None, "logprobs": None}
        return sdks.sse({"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice]})

    server = odd(sdks.playing([text(""), sdks.CUT], [text(""), text("Hi")]))
    async with sdks.OPENAI.plain(server.url) as sdk:
        stream = adapter.stream(engine(desk), sdk.completions.create, model="m", prompt="hi", stream=True)
        items = [item.choices[0].text async for item in stream]

    assert ["", "Hi"] == items
