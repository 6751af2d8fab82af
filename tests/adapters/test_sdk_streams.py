"""Streams of both SDKs, through an engine around their methods, and one under them besides: D12, D9, B37-B39, B65."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpx2
import openai
import pytest

from resilience import AttemptTimedOut, Engine, Retry, StreamTimeout, history, read
from tests.adapters import sdks

pytestmark = [pytest.mark.anyio, sdks.on_trio_dropped]


@pytest.fixture(scope="module", params=[sdks.ASYNCIO, sdks.TRIO])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Not uvloop, to which streams are no news."""
    return request.param


@pytest.fixture(params=[sdks.OPENAI, sdks.ANTHROPIC], ids=["openai", "anthropic"])
def sdk(request: pytest.FixtureRequest) -> sdks.Sdk:
    return request.param  # type: ignore[no-any-return]  # one of the two


def native(sdk: sdks.Sdk, desk: Any, *policies: Any) -> Engine:
    return Engine(policies or [Retry()], rules=sdk.rules, env=desk.env)


async def streamed(sdk: sdks.Sdk, engine: Engine, client: Any) -> tuple[list[Any], Exception | None]:
    """All items of a streamed answer, and the error at its end if there is one."""
    return await sdks.collected(sdk.adapter.stream(engine, sdk.asking(client), **sdk.arguments, stream=True))


@pytest.fixture(params=["plain", "over"])
def client_of(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A plain client, or one over the same engine: ``client_of(sdk, engine, url)``."""

    def made(sdk: sdks.Sdk, engine: Engine, url: str) -> Any:
        return sdk.plain(url) if request.param == "plain" else sdk.over(engine, url)

    return made


async def test_a_stream_cut_before_its_first_token_is_repeated_and_each_token_comes_once(
    client_of: Any, sdk: sdks.Sdk, desk: Any, odd: Any
) -> None:
    """D12, D9: what came before the first token is not seen twice either, and the attempts are those of both engines together."""
    whole = [sdk.prelude, *sdk.tokens("You ", "missed ", "it."), sdk.ending]
    server = odd(sdks.playing([503], [sdk.prelude, sdks.CUT], whole))
    engine = native(sdk, desk)
    async with client_of(sdk, engine, server.url) as client:
        items, error = await streamed(sdk, engine, client)
        unguarded, _ = await sdks.collected(await sdk.asking(client)(**sdk.arguments, stream=True))

    assert (["You ", "missed ", "it."], None) == (sdk.words(items), error)
    assert items == unguarded
    assert 4 == len(server.requests)


async def test_a_stream_cut_after_its_third_token_is_not_repeated(client_of: Any, sdk: sdks.Sdk, desk: Any, odd: Any) -> None:
    """D12: the tokens, then the error as it came, with their number."""
    server = odd(sdks.playing([*sdk.tokens("You ", "missed ", "it."), sdks.CUT]))
    raised: list[Exception] = []

    async def create(**arguments: Any) -> AsyncIterator[Any]:
        try:
            async for item in await sdk.asking(client)(**arguments):
                yield item
        except Exception as error:
            raised.append(error)
            raise

    engine = native(sdk, desk)
    async with client_of(sdk, engine, server.url) as client:
        items, error = await sdks.collected(sdk.adapter.stream(engine, create, **sdk.arguments, stream=True))

    assert ["You ", "missed ", "it."] == sdk.words(items)
    assert ([error], 3) == (raised, history(error)[-1].items)
    assert isinstance(error, openai.APIConnectionError if sdk is sdks.OPENAI else httpx2.RemoteProtocolError)
    assert 1 == server.arrived(1)
    assert ["delivered"] == [event.reason for event in desk.of("retry.gave_up")]


FAILURES: list[Any] = [
    pytest.param(sdks.OPENAI, ("server_error", "rate_limit_exceeded"), id="openai"),
    pytest.param(sdks.ANTHROPIC, ("overloaded_error", None), id="anthropic"),
]
FINAL: list[Any] = [
    pytest.param(sdks.OPENAI, ("insufficient_quota", "insufficient_quota"), id="openai"),
    pytest.param(sdks.ANTHROPIC, ("permission_error", None), id="anthropic"),
]


@pytest.mark.parametrize(("sdk", "failure"), FAILURES, indirect=["sdk"])
async def test_a_failure_reported_after_a_200_is_repeated_before_the_first_token(
    client_of: Any, sdk: sdks.Sdk, failure: Any, desk: Any, odd: Any
) -> None:
    """B65: by its type or code, and with the slower schedule that it calls for."""
    server = odd(sdks.playing([sdk.prelude, sdk.error(*failure)], [sdk.prelude, *sdk.tokens("Hi"), sdk.ending]))
    engine = native(sdk, desk)
    async with client_of(sdk, engine, server.url) as client:
        items, error = await streamed(sdk, engine, client)

    assert (["Hi"], None, [0.5]) == (sdk.words(items), error, desk.slept)
    assert 2 == len(server.requests)


@pytest.mark.parametrize(("sdk", "failure"), FINAL, indirect=["sdk"])
async def test_one_that_no_repeat_mends_is_not(client_of: Any, sdk: sdks.Sdk, failure: Any, desk: Any, odd: Any) -> None:
    """B65, D2."""
    server = odd(sdks.playing([sdk.prelude, sdk.error(*failure)]))
    engine = native(sdk, desk)
    async with client_of(sdk, engine, server.url) as client:
        items, error = await streamed(sdk, engine, client)

    assert ([], 1) == (items, server.arrived(1))
    assert isinstance(error, sdk.api.APIError)
    assert failure[0] == read(error).kind


@pytest.mark.parametrize(("sdk", "failure"), FAILURES, indirect=["sdk"])
async def test_nor_is_one_reported_after_tokens(client_of: Any, sdk: sdks.Sdk, failure: Any, desk: Any, odd: Any) -> None:
    """B65, D12."""
    server = odd(sdks.playing([*sdk.tokens("a", "b", "c"), sdk.error(*failure)]))
    engine = native(sdk, desk)
    async with client_of(sdk, engine, server.url) as client:
        items, error = await streamed(sdk, engine, client)

    assert (["a", "b", "c"], 1) == (sdk.words(items), server.arrived(1))
    assert isinstance(error, sdk.api.APIError)
    assert 3 == history(error)[-1].items


async def test_a_stream_that_is_slow_to_its_first_token_is_begun_anew(sdk: sdks.Sdk, desk: Any, odd: Any) -> None:
    """What comes before it does not count."""
    server = odd(sdks.playing([sdk.prelude, sdks.HANG], [sdk.prelude, *sdk.tokens("Hi"), sdk.ending]))
    engine = Engine([Retry(), StreamTimeout(first_item=30)], rules=sdk.rules, env=desk.sped_up(100))
    async with sdk.plain(server.url) as client:
        items, error = await streamed(sdk, engine, client)

    assert (["Hi"], None) == (sdk.words(items), error)
    assert {"AttemptTimedOut"} == {event.error for event in desk.of("attempt.failed")}


async def test_a_stream_that_falls_silent_is_not(sdk: sdks.Sdk, desk: Any, odd: Any) -> None:
    server = odd(sdks.playing([sdk.prelude, *sdk.tokens("a", "b"), sdks.HANG]))
    engine = Engine([Retry(), StreamTimeout(idle=30)], rules=sdk.rules, env=desk.sped_up(100))
    async with sdk.plain(server.url) as client:
        items, error = await streamed(sdk, engine, client)

    assert (["a", "b"], 1) == (sdk.words(items), server.arrived(1))
    assert isinstance(error, AttemptTimedOut)


async def test_leaving_the_block_closes_the_connection(client_of: Any, sdk: sdks.Sdk, desk: Any, odd: Any) -> None:
    """D12."""
    left: list[bool] = []

    def play(peer: Any, request: bytes) -> None:
        sdks.playing([sdk.prelude, *sdk.tokens("a", "b"), sdks.HANG])(peer, request)
        left.append(True)

    server = odd(play)
    engine = native(sdk, desk)
    async with client_of(sdk, engine, server.url) as client:
        async with sdk.adapter.stream(engine, sdk.asking(client), **sdk.arguments, stream=True) as stream:
            async for item in stream:
                if sdk.words([item]):
                    break
        for _ in range(200):
            if left:
                break
            await anyio.sleep(0.005)

        assert [True] == left
    assert ["call.succeeded"] == [name for name in desk.names() if name.startswith("call")][-1:]
    assert 1 == len(server.requests)


def said(event: Any) -> str | None:
    """The words of an event of a helper's own."""
    if event.type == "content.delta":
        return str(event.delta)
    return str(event.text) if event.type == "text" else None


HELPERS = [
    pytest.param(sdks.OPENAI, "chat.completions.stream", id="openai"),
    pytest.param(sdks.ANTHROPIC, "messages.stream", id="anthropic"),
]


@pytest.mark.parametrize(("sdk", "method"), HELPERS, indirect=["sdk"])
async def test_the_sdk_s_helpers_for_streams_are_repeated_too(client_of: Any, sdk: sdks.Sdk, method: str, desk: Any, odd: Any) -> None:
    """Context managers around a stream of events of their own making."""
    server = odd(sdks.playing([sdk.prelude, sdks.CUT], [sdk.prelude, *sdk.tokens("a", "b"), sdk.ending]))
    engine = native(sdk, desk)
    async with client_of(sdk, engine, server.url) as client:
        items, error = await sdks.collected(sdk.adapter.stream(engine, sdk.asking(client, method), **sdk.arguments))

    kinds = [item.type for item in items]
    assert error is None
    assert ["a", "b"] == [words for item in items if (words := said(item))]
    assert 1 == len([kind for kind in kinds if kind in {"content.done", "message_stop"}])
    assert 2 == len(server.requests)


async def test_a_client_over_an_engine_guards_no_more_of_a_stream_than_its_head(sdk: sdks.Sdk, desk: Any, odd: Any) -> None:
    server = odd(sdks.playing([503], [sdk.prelude, sdks.CUT]))
    async with sdk.over(native(sdk, desk), server.url) as client:
        _, error = await sdks.collected(await sdk.asking(client)(**sdk.arguments, stream=True))

    assert isinstance(error, openai.APIConnectionError if sdk is sdks.OPENAI else httpx2.RemoteProtocolError)
    assert (2, ["call.recovered"]) == (server.arrived(2), desk.names()[-1:])


async def test_three_by_three_makes_three_tries_of_a_stream(sdk: sdks.Sdk, desk: Any, odd: Any) -> None:
    """D9."""
    server = odd(sdks.playing([503]))
    engine = native(sdk, desk)
    async with sdk.over(engine, server.url) as client:
        items, error = await streamed(sdk, engine, client)

    assert ([], 3) == (items, server.arrived(3))
    assert isinstance(error, sdk.api.InternalServerError)


# What waits for the first token.


async def test_a_stream_that_ends_without_a_token_is_what_it_is(sdk: sdks.Sdk, desk: Any, odd: Any) -> None:
    server = odd(sdks.playing([sdk.prelude]))
    async with sdk.plain(server.url) as client:
        items, error = await streamed(sdk, native(sdk, desk), client)
        plain, _ = await sdks.collected(await sdk.asking(client)(**sdk.arguments, stream=True))

    assert (plain, None) == (items, error)
    assert 1 <= len(items)


async def test_nothing_waits_for_ever(sdk: sdks.Sdk, desk: Any, odd: Any) -> None:
    """A stream that goes on without a token is handed out as it comes."""
    server = odd(sdks.playing([sdk.prelude * 100, sdks.HANG]))
    async with sdk.plain(server.url) as client:
        stream = sdk.adapter.stream(native(sdk, desk), sdk.asking(client), **sdk.arguments, stream=True)
        with anyio.fail_after(5):
            async with stream:
                for _ in range(100):
                    await anext(stream)

    assert 100 == stream.delivered


async def test_a_reader_s_mistake_costs_no_items(sdk: sdks.Sdk, desk: Any, odd: Any) -> None:
    """D22."""

    def by_item(item: object) -> Any:
        raise ValueError(item)

    server = odd(sdks.playing([sdk.prelude, *sdk.tokens("a", "b"), sdk.ending]))
    engine = Engine([Retry()], rules=sdk.rules.extend("mistaken", by_item=by_item), env=desk.env)
    async with sdk.plain(server.url) as client:
        items, error = await streamed(sdk, engine, client)

    assert (["a", "b"], None) == (sdk.words(items), error)
    assert {"ValueError"} == {event.error for event in desk.of("result.unread")}


async def test_a_stream_closed_by_another_task_while_it_waits_for_its_first_token_frees_the_connection(
    sdk: sdks.Sdk, desk: Any, odd: Any
) -> None:
    """B39."""
    server = odd(sdks.playing([sdk.prelude, sdks.HANG]))
    async with sdk.plain(server.url) as client:
        stream = sdk.adapter.stream(native(sdk, desk), sdk.asking(client), **sdk.arguments, stream=True)
        errors: list[Exception | None] = []

        async def reading() -> None:
            errors.append((await sdks.collected(stream))[1])

        async with anyio.create_task_group() as group:
            group.start_soon(reading)
            with anyio.fail_after(5):
                while not server.requests:
                    await anyio.sleep(0.001)
            await stream.aclose()

        assert [] == client._client._transport._pool.connections
    assert [anyio.ClosedResourceError] == [type(error) for error in errors]


async def test_the_operation_goes_by_the_name_of_the_method(sdk: sdks.Sdk, desk: Any, odd: Any) -> None:
    server = odd(sdks.playing([503], [sdk.prelude, *sdk.tokens("a"), sdk.ending]))
    async with sdk.plain(server.url) as client:
        await streamed(sdk, native(sdk, desk), client)

    assert {sdk.asking(client).__qualname__} == {event.operation for event in desk.events}


async def test_a_function_without_items_is_a_mistake_and_says_so(sdk: sdks.Sdk, desk: Any, server: Any) -> None:
    async with sdk.plain(server.url, api_key=server.api_key()) as client:
        _, error = await sdks.collected(sdk.adapter.stream(native(sdk, desk), sdk.asking(client), **sdk.arguments))

    assert isinstance(error, TypeError)
    assert "which has no items to await" in str(error)
