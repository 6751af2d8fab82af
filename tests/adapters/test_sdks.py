"""Both SDKs take a `ResilientClient` as ``http_client=``; what is theirs stays theirs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import anyio
import attrs
import openai
import pytest

from resilience import (
    CircuitBreaker,
    Deadline,
    Engine,
    IdempotencyKey,
    RefreshToken,
    Retry,
    current,
    history,
    retry,
)
from resilience.demo.faults import Answer, Reset
from resilience.demo.serve import Server
from resilience.dialects import callmissed
from tests.adapters import sdks

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
    lib: Any, desk: Any, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D9: no header can stop these."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)  # seconds, which no setting changes
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
        create: Any = sdk.chat.completions.create
        for _ in range(2):
            with pytest.raises(openai.InternalServerError):
                await around.call(create, **CHAT)

    assert ["0", "1", "2"] * 2 == counted_tries(server)
    assert [("callmissed", "openai")] == [(event.outer, event.inner) for event in desk.of("engine.nested")]
    assert ["attempts", "attempts"] == [event.reason for event in desk.of("retry.gave_up")]


async def test_an_engine_around_an_sdk_has_the_attempts_that_the_one_under_it_leaves(lib: Any, desk: Any, server: Server) -> None:
    """D9: the inner one's having used up its own is no word of the peer's."""
    server.script(POST, *[Answer(503)] * 99)
    rules = callmissed.RULES.extend("callmissed", by_kind={"provider_error": retry()})  # without its cap
    around = Engine([Retry(attempts=5)], rules=rules, env=desk.env, name="around")
    async with openai_over(lib, engine(desk, IdempotencyKey(), Retry(attempts=2)), server) as sdk:
        create: Any = sdk.chat.completions.create
        with pytest.raises(openai.InternalServerError):
            await around.using(repeatable=True).call(create, **CHAT)

    assert 5 == server.settle().requests
    assert {"callmissed: kind provider_error"} == {event.rule for event in desk.of("attempt.failed") if event.engine == "around"}


async def test_what_an_sdk_has_left_of_the_attempts_is_the_engine_s(desk: Any, server: Server) -> None:
    server.script(POST, *[Answer(503, headers={"retry-after-ms": "1"})] * 3)
    around = engine(desk, Retry(attempts=5)).using(repeatable=True)
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.api_key(), max_retries=1) as sdk:
        create: Any = sdk.chat.completions.create
        await around.call(create, **CHAT)

    assert ["0", "1", "0", "1"] == counted_tries(server)


# Both SDKs with the adapters of their own: the engine under their client, or around their methods.


@pytest.fixture(params=[sdks.OPENAI, sdks.ANTHROPIC], ids=["openai", "anthropic"])
def sdk(request: pytest.FixtureRequest) -> sdks.Sdk:
    return request.param  # type: ignore[no-any-return]  # one of the two


Ask = Callable[..., Awaitable[Any]]


async def under(sdk: sdks.Sdk, engine: Engine, url: str, **settings: Any) -> Any:
    """An answer, of a client over the engine."""
    async with sdk.over(engine, url, **settings) as client:
        return await sdk.asking(client)(**sdk.arguments)


async def around(sdk: sdks.Sdk, engine: Engine, url: str, **settings: Any) -> Any:
    """An answer, of the engine around a plain client's method."""
    async with sdk.plain(url, **settings) as client:
        return await engine.call(sdk.asking(client), **sdk.arguments)


@pytest.fixture(params=[under, around])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Either way: ``ask(sdk, engine, url)``."""
    return request.param  # type: ignore[no-any-return]  # one of the two


def native(sdk: sdks.Sdk, desk: Any, *policies: Any) -> Engine:
    return Engine(policies or [Retry()], rules=sdk.rules, env=desk.env)


async def test_attempts_equal_requests(ask: Ask, sdk: sdks.Sdk, desk: Any, server: Server) -> None:
    """D9: whatever goes wrong, and although an answer is a POST without a key: it creates nothing."""
    server.script(f"POST {sdk.path}", Answer(429), Answer(500), Answer(503), Answer(529), Reset(), Reset("after"))
    answer = await ask(sdk, native(sdk, desk, Retry(attempts=7)), server.url, api_key=server.api_key())

    assert ["You missed a call."] == sdk.words([answer])
    assert ["0"] * 7 == counted_tries(server)
    assert [1, 2, 3, 4, 5, 6] == [event.attempt for event in desk.of("attempt.failed")]


async def test_the_last_failure_arrives_as_the_sdk_raises_it(ask: Ask, sdk: sdks.Sdk, desk: Any, server: Server) -> None:
    """D11."""
    server.script(f"POST {sdk.path}", Answer(503), times=None)
    with pytest.raises(sdk.api.InternalServerError) as caught:
        await ask(sdk, native(sdk, desk), server.url, api_key=server.api_key())

    assert ["0"] * 3 == counted_tries(server)
    assert [503] * 3 == [tried.status for tried in history(caught.value)]


async def test_a_connection_that_is_refused_is_tried_anew(ask: Ask, sdk: sdks.Sdk, desk: Any, server: Server) -> None:
    with server.down(), pytest.raises(sdk.api.APIConnectionError) as caught:
        await ask(sdk, native(sdk, desk), server.url)

    assert ["not_sent"] * 3 == [tried.phase for tried in history(caught.value)]
    assert 0 == server.settle().requests


@sdks.on_asyncio
@pytest.mark.parametrize(
    ("sdk", "said"),
    [
        (sdks.OPENAI, [429, {"error": {"message": "You exceeded it.", "type": "insufficient_quota", "code": "insufficient_quota"}}]),
        (sdks.OPENAI, [400, {"error": {"message": "Too long.", "type": "invalid_request_error", "code": "context_length_exceeded"}}]),
        (sdks.ANTHROPIC, [400, {"error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access ..."}}]),
        (sdks.ANTHROPIC, [413, {"error": {"type": "request_too_large", "message": "Too long."}}]),
    ],
    ids=["insufficient_quota", "context_length_exceeded", "credit balance", "request_too_large"],
    indirect=["sdk"],
)
async def test_what_no_repeat_mends_is_one_request(ask: Ask, sdk: sdks.Sdk, desk: Any, odd: Any, said: list[Any]) -> None:
    """D2: the SDK would repeat the first of them twice."""
    server = odd(sdks.playing(said))
    with pytest.raises(sdk.api.APIStatusError) as caught:
        await ask(sdk, native(sdk, desk), server.url)

    assert (said[0], 1) == (caught.value.status_code, server.arrived(1))
    assert 1 == desk.names().count("call.failed_fast")


@sdks.on_asyncio
@pytest.mark.parametrize(
    ("sdk", "said", "delays"),
    [
        (sdks.OPENAI, [503, {"error": {"message": "The engine is currently overloaded."}}], [0.5, 1.0]),
        (sdks.OPENAI, [429, {"error": {"message": "Slow down.", "type": "tokens", "code": "rate_limit_exceeded"}}], [0.5, 1.0]),
        (sdks.OPENAI, [500, {"error": {"message": "Oops.", "type": "server_error", "code": None}}], [0.025, 0.05]),
        (sdks.ANTHROPIC, [529, {"error": {"type": "overloaded_error", "message": "Overloaded"}}], [0.5, 1.0]),
        (sdks.ANTHROPIC, [500, {"error": {"type": "api_error", "message": "Oops."}}], [0.025, 0.05]),
    ],
    ids=["openai 503", "openai 429", "openai 500", "overloaded_error", "api_error"],
    indirect=["sdk"],
)
async def test_who_is_overloaded_is_given_more_time(  # noqa: PLR0917 - fixtures
    ask: Ask, sdk: sdks.Sdk, desk: Any, odd: Any, said: list[Any], delays: list[float]
) -> None:
    """D30."""
    server = odd(sdks.playing(said))
    with pytest.raises(sdk.api.APIStatusError):
        await ask(sdk, native(sdk, desk), server.url)

    assert (delays, 3) == (desk.slept, server.arrived(3))


async def test_one_key_goes_with_all_attempts_of_a_client_over_an_engine(sdk: sdks.Sdk, desk: Any, server: Server) -> None:
    """D4: where the service honours keys."""
    server.script(f"POST {sdk.path}", Answer(503), Reset("after"))
    await under(sdk, engine(desk, IdempotencyKey(), Retry()), server.url, api_key=server.api_key())

    counts = server.settle()
    assert ([3], {"completion.made": 1}) == (list(counts.by_key.values()), counts.effects)


async def test_one_key_goes_with_all_attempts_of_an_engine_around_a_method(sdk: sdks.Sdk, desk: Any, server: Server) -> None:
    """D4: likewise."""
    server.script(f"POST {sdk.path}", Answer(503), Reset("after"))
    async with sdk.plain(server.url, api_key=server.api_key()) as client:

        @engine(desk, IdempotencyKey(), Retry())
        async def complete() -> Any:
            return await sdk.asking(client)(**sdk.arguments, extra_headers={"Idempotency-Key": current().take_key()})

        await complete()

    counts = server.settle()
    assert ([3], {"completion.made": 1}) == (list(counts.by_key.values()), counts.effects)


CREATING: dict[str, tuple[sdks.Sdk, str, dict[str, Any]]] = {
    "openai file": (sdks.OPENAI, "files.create", {"file": b"{}", "purpose": "batch"}),
    "openai batch": (
        sdks.OPENAI,
        "batches.create",
        {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"},
    ),
    "openai response": (sdks.OPENAI, "responses.create", {"model": "m", "input": "hi"}),
    "anthropic batch": (sdks.ANTHROPIC, "messages.batches.create", {"requests": []}),
    "anthropic file": (sdks.ANTHROPIC, "beta.files.upload", {"file": b"{}"}),
}


async def creating(ask: Ask, what: str, desk: Any, url: str) -> str:
    """The class of the error that ends the attempt to create something."""
    sdk, method, arguments = CREATING[what]
    in_that_way = attrs.evolve(sdk, method=method, arguments=arguments)
    try:
        await ask(in_that_way, native(sdk, desk), url)
    except Exception as error:
        return type(error).__name__
    raise AssertionError("nothing went wrong")


@sdks.on_asyncio
@pytest.mark.parametrize("what", CREATING)
@pytest.mark.parametrize("happens", ["lost", 500])
async def test_what_creates_something_is_not_repeated_where_it_may_have_done_so(
    ask: Ask, desk: Any, odd: Any, what: str, happens: Any
) -> None:
    """D4."""
    server = odd((lambda peer, request: peer.connection.close()) if happens == "lost" else sdks.playing([happens]))

    assert ("APIConnectionError" if happens == "lost" else "InternalServerError") == await creating(ask, what, desk, server.url)
    assert 1 == server.arrived(1)
    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up")]


@sdks.on_asyncio
@pytest.mark.parametrize("what", CREATING)
async def test_what_creates_something_is_repeated_where_it_was_refused(ask: Ask, desk: Any, odd: Any, what: str) -> None:
    server = odd(sdks.playing([429]))

    assert "RateLimitError" == await creating(ask, what, desk, server.url)
    assert 3 == server.arrived(3)


async def test_many_calls_with_a_token_that_has_expired_make_one_refresh(ask: Ask, sdk: sdks.Sdk, desk: Any, server: Server) -> None:
    """D5."""
    old = server.sign_in().access_token
    server.expire_tokens()
    logins: list[str | None] = []

    async def login(stale: str | None) -> str:
        logins.append(stale)
        await anyio.sleep(0.01)
        return server.sign_in().access_token

    shared = engine(desk, RefreshToken(login, token=old), Retry())
    credential = "api_key" if sdk.name == "openai" else "auth_token"
    kept = {"api_key": None, credential: "unused"}
    async with sdk.over(shared, server.url, **kept) as over, sdk.plain(server.url, **kept) as plain:

        @shared
        async def with_token() -> Any:
            return await sdk.asking(plain)(**sdk.arguments, extra_headers={"Authorization": f"Bearer {current().token}"})

        answers: list[Any] = []

        async def one() -> None:
            answers.append(await (sdk.asking(over)(**sdk.arguments) if ask is under else with_token()))

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(one)

    statuses = [seen.status for seen in server.settle().seen]
    assert (10, [old]) == (len(answers), logins)
    assert (10, True) == (statuses.count(200), 1 <= statuses.count(401) <= 10)


async def test_retries_that_a_copy_of_the_client_turns_on_again_are_no_more_tries(sdk: sdks.Sdk, desk: Any, server: Server) -> None:
    """D9."""
    server.script(f"POST {sdk.path}", Answer(503), times=None)
    async with sdk.over(native(sdk, desk), server.url, api_key=server.api_key()) as client:
        with pytest.raises(sdk.api.InternalServerError):
            await sdk.asking(client.with_options(max_retries=2))(**sdk.arguments)

    assert ["0"] * 3 == counted_tries(server)
