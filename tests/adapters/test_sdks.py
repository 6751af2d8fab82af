"""Both SDKs take a `ResilientClient` as ``http_client=``; what is theirs stays theirs."""

from __future__ import annotations

from typing import Any

import anthropic
import openai
import pytest

from resilience import CircuitBreaker, Deadline, Engine, IdempotencyKey, RefreshToken, Retry
from resilience.demo.faults import Answer, Reset
from resilience.demo.serve import Server
from resilience.dialects import callmissed

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {"model": "missed-1", "messages": [{"role": "user", "content": "Who called?"}]}
POST = "POST /v1/chat/completions"
MESSAGES = "POST /v1/messages"

DELTA = b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'


def engine(desk: Any, *policies: Any) -> Engine:
    return Engine(policies, rules=callmissed.RULES, env=desk.env)


def openai_over(lib: Any, engine: Engine, server: Server, **settings: Any) -> openai.AsyncOpenAI:
    settings = {"api_key": server.api_key(), "max_retries": 0, **settings}
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", http_client=lib.client(engine), **settings)


async def test_an_sdk_s_request_is_one_call_of_the_engine(lib: Any, desk: Any, server: Server) -> None:
    server.script(POST, Answer(503), Reset())
    async with openai_over(lib, engine(desk, IdempotencyKey(), Retry()), server) as sdk:
        completion = await sdk.chat.completions.create(**CHAT)

    counts = server.settle()
    assert "You missed a call." == completion.choices[0].message.content
    assert ([3], {"completion.made": 1}) == (list(counts.by_key.values()), counts.effects)
    assert ["call.recovered"] == desk.names()[-1:]


@pytest.mark.parametrize("lib", ["httpx2"], indirect=True)
async def test_the_other_sdk_takes_httpx2_only(lib: Any, desk: Any, server: Server) -> None:
    server.script(MESSAGES, Answer(503))
    client = lib.client(engine(desk, IdempotencyKey(), Retry()))
    async with anthropic.AsyncAnthropic(api_key=server.api_key(), base_url=server.url, http_client=client, max_retries=0) as sdk:
        message = await sdk.messages.create(max_tokens=10, **CHAT)

    assert "end_turn" == message.stop_reason
    assert [2] == list(server.settle().by_key.values())


async def test_an_sdk_reads_the_failure_it_gets(lib: Any, desk: Any, server: Server) -> None:
    """D2: one request, and the SDK's own error with the envelope in it."""
    server.script(POST, Answer(429, "insufficient_credits"))
    async with openai_over(lib, engine(desk, Retry()), server) as sdk:
        with pytest.raises(openai.RateLimitError) as caught:
            await sdk.chat.completions.create(**CHAT)

    assert ("insufficient_credits", 1) == (caught.value.code, server.settle().requests)


async def test_an_sdk_s_own_retries_are_left_to_it(lib: Any, desk: Any, server: Server) -> None:
    """D9: they are no engine's; whoever leaves them on gets both."""
    server.script(POST, Answer(400), Answer(503, headers={"x-should-retry": "true", "retry-after-ms": "1"}))
    async with openai_over(lib, engine(desk), server, max_retries=1) as sdk:
        with pytest.raises(openai.BadRequestError):
            await sdk.chat.completions.create(**CHAT)
        completion = await sdk.chat.completions.create(**CHAT)

    assert completion.id
    assert 3 == server.settle().requests
    assert ["0", "0", "1"] == [seen.headers["x-stainless-retry-count"] for seen in server.counts().seen]


async def test_an_idempotency_key_that_an_sdk_sends_goes_out_as_it_is(lib: Any, desk: Any, server: Server) -> None:
    server.script(POST, Reset("after"))
    async with openai_over(lib, engine(desk, IdempotencyKey(), Retry()), server) as sdk:
        await sdk.chat.completions.create(**CHAT, extra_headers={"Idempotency-Key": "order-42"})

    assert {"order-42": 2} == server.settle().by_key
    assert ["header"] == [event.source for event in desk.of("key.taken")]


async def test_a_renewed_token_takes_the_place_of_an_sdk_s_api_key(lib: Any, desk: Any, server: Server) -> None:
    old, new = server.sign_in().access_token, server.sign_in().access_token

    async def login(stale: str | None) -> str:
        return new

    server.script(POST, Answer(401, "token_expired"))
    async with openai_over(lib, engine(desk, RefreshToken(login, token=old)), server, api_key="unused") as sdk:
        await sdk.chat.completions.create(**CHAT)

    assert [old, new] == [seen.credential for seen in server.settle().seen]


async def test_our_errors_reach_an_sdk_as_failures_to_connect(lib: Any, desk: Any, server: Server, odd: Any) -> None:
    server.script(POST, Answer(503))
    breaker = CircuitBreaker(consecutive=1, failure_ratio=1)
    async with openai_over(lib, engine(desk, breaker), server) as sdk:
        with pytest.raises(openai.InternalServerError):
            await sdk.chat.completions.create(**CHAT)
        with pytest.raises(openai.APIConnectionError) as refused:
            await sdk.chat.completions.create(**CHAT)
    silent = odd(lambda peer, request: peer.gone())
    sdk = openai.AsyncOpenAI(api_key="-", base_url=silent.url, http_client=lib.client(engine(desk, Deadline(0.03))), max_retries=0)
    async with sdk:
        with pytest.raises(openai.APITimeoutError) as late:
            await sdk.chat.completions.create(**CHAT)

    assert isinstance(refused.value.__cause__, lib.adapter.HttpxCircuitOpen)
    assert isinstance(late.value.__cause__, lib.adapter.HttpxDeadlineExceeded)


@pytest.mark.filterwarnings("ignore:.*was garbage collected before it had been exhausted:ResourceWarning")  # the SDK's own, on trio
async def test_an_sdk_s_stream_streams(lib: Any, desk: Any, odd: Any) -> None:
    def play(peer: Any, request: bytes) -> None:
        if len(peer.odd.requests) < 2:
            peer.answer(503)
        else:
            peer.answer(200, DELTA % b"You " + DELTA % b"missed it." + b"data: [DONE]\n\n", content_type="text/event-stream")

    server = odd(play)
    client = lib.client(engine(desk, Deadline(10), IdempotencyKey(), Retry()))
    async with openai.AsyncOpenAI(api_key="-", base_url=server.url, http_client=client, max_retries=0) as sdk:
        stream = await sdk.chat.completions.create(**CHAT, stream=True)
        words = [chunk.choices[0].delta.content async for chunk in stream]

    assert ["You ", "missed it."] == words
    assert 2 == len(server.requests)


def counted_tries(server: Server) -> list[str]:
    return [seen.headers["x-stainless-retry-count"] for seen in server.settle().seen]


async def test_an_engine_s_last_word_stops_the_retries_of_an_sdk_above_it(lib: Any, desk: Any, server: Server) -> None:
    """D9: attempts are HTTP requests, whatever the SDK's own setting."""
    server.script(POST, *[Answer(503)] * 9)
    async with openai_over(lib, engine(desk, IdempotencyKey(), Retry(attempts=3)), server, max_retries=2) as sdk:
        with pytest.raises(openai.InternalServerError):
            await sdk.chat.completions.create(**CHAT)

    assert ["0", "0", "0"] == counted_tries(server)


async def test_an_sdk_that_retries_a_lost_connection_is_noticed_once_and_adds_no_more_than_its_own_tries(
    lib: Any, desk: Any, server: Server
) -> None:
    """D9: no header can stop these."""
    server.script(POST, *[Reset()] * 99)
    async with openai_over(lib, engine(desk, IdempotencyKey(), Retry(attempts=3)), server, max_retries=1) as sdk:
        for _ in range(2):
            with pytest.raises(openai.APIConnectionError):
                await sdk.chat.completions.create(**CHAT)

    assert ["0", "0", "0", "1"] * 2 == counted_tries(server)
    assert ["AsyncOpenAI"] == [event.outer for event in desk.of("engine.nested")]


async def test_the_retries_of_an_sdk_inside_an_engine_are_counted_and_noticed_once(desk: Any, server: Server) -> None:
    """D9: three and two would make nine requests; they make three."""
    server.script(POST, *[Answer(503, headers={"retry-after-ms": "1"})] * 99)
    around = engine(desk, Retry(attempts=3))
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.api_key(), max_retries=2) as sdk:
        for _ in range(2):
            with pytest.raises(openai.InternalServerError):
                await around.call(sdk.chat.completions.create, **CHAT)

    assert ["0", "1", "2"] * 2 == counted_tries(server)
    assert [("callmissed", "openai")] == [(event.outer, event.inner) for event in desk.of("engine.nested")]
    assert ["attempts", "attempts"] == [event.reason for event in desk.of("retry.gave_up")]


async def test_what_an_sdk_has_left_of_the_attempts_is_the_engine_s(desk: Any, server: Server) -> None:
    server.script(POST, *[Answer(503, headers={"retry-after-ms": "1"})] * 3)
    around = engine(desk, Retry(attempts=5)).using(repeatable=True)
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.api_key(), max_retries=1) as sdk:
        await around.call(sdk.chat.completions.create, **CHAT)

    assert ["0", "1", "0", "1"] == counted_tries(server)
