"""Both SDKs to the same tests: how each is made, asked and streamed, and what its API says on the wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import anthropic
import attrs
import openai
import pytest

from resilience import Engine, Rules
from resilience.adapters import anthropic as anthropic_adapter
from resilience.adapters import openai as openai_adapter
from resilience.dialects import anthropic as anthropic_dialect
from resilience.dialects import openai as openai_dialect

CHAT: dict[str, Any] = {"model": "missed-1", "messages": [{"role": "user", "content": "Who called?"}]}
CUT = "cut"
HANG = "hang"
QUICK: dict[str, Any] = {"verify": False, "trust_env": False}  # loads no certificates, looks for no proxies

ASYNCIO = pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio")
TRIO = pytest.param(("trio", {}), id="trio")
# Of what is the same everywhere, once is enough.
on_asyncio = pytest.mark.parametrize("anyio_backend", [ASYNCIO])
# The SDKs' own generators, where they are dropped half-read; on trio the collector may find them in a thread of the test's server.
on_trio_dropped = pytest.mark.filterwarnings(
    "ignore:.*was garbage collected before it had been exhausted:ResourceWarning",
    "ignore:Exception ignored in. <async_generator object Response.aiter_raw:pytest.PytestUnraisableExceptionWarning",
)


async def collected(stream: Any) -> tuple[list[Any], Exception | None]:
    """All items of a stream, and the error at its end if there is one."""
    items: list[Any] = []
    try:
        async with stream:
            async for item in stream:
                items.append(item)  # noqa: PERF401 - kept although an error follows
    except Exception as error:
        return items, error
    return items, None


def sse(event: dict[str, Any], name: str | None = None) -> bytes:
    return (b"" if name is None else b"event: %s\n" % name.encode()) + b"data: " + json.dumps(event).encode() + b"\n\n"


@attrs.frozen
class Sdk:
    """
    One of the two.

    Args:
        name: Its name.
        api: Its package.
        adapter: Ours for it.
        rules: Its API's dialect.
        kind: The class of its client.
        prefix: What its base URL ends in.
        path: Where it asks for an answer.
        method: Its method for that, by way of attributes.
        arguments: What that is given.
        prelude: What comes before the first token of a stream.
        token: One token on the wire, by its words.
        ending: What comes after the last.
        words_of: The words of an item, or of a whole answer; None if it has none.
        error: An event that reports a failure, by type and code.
    """

    name: str
    api: Any
    adapter: Any
    rules: Rules
    kind: Any
    prefix: str
    path: str
    method: str
    arguments: dict[str, Any]
    prelude: bytes
    token: Callable[[str], bytes]
    ending: bytes
    words_of: Callable[[Any], str | None]
    error: Callable[[str, str | None], bytes]

    def plain(self, url: str, **settings: Any) -> Any:
        """The SDK's client without an engine, and without retries."""
        http_client = self.api.DefaultAsyncHttpxClient(**QUICK)
        kind = settings.pop("kind", self.kind)
        return kind(**{"api_key": "-", "base_url": url + self.prefix, "max_retries": 0, "http_client": http_client, **settings})

    def over(self, engine: Engine, url: str, **settings: Any) -> Any:
        """The SDK's client over an engine, as ``client(engine)`` makes it, but quicker."""
        return self.plain(url, http_client=self.adapter.HttpClient(engine, **QUICK), **settings)

    def asking(self, client: Any, method: str | None = None) -> Callable[..., Any]:
        """The method of *client* that asks for an answer."""
        found = client
        for name in (method or self.method).split("."):
            found = getattr(found, name)
        return found  # type: ignore[no-any-return]  # one of the SDK's

    def tokens(self, *words: str) -> list[bytes]:
        return [self.token(word) for word in words]

    def words(self, items: Iterable[Any]) -> list[str]:
        """The words of all *items* that have any."""
        return [found for item in items if (found := self.words_of(item)) is not None]


def _openai_token(word: str) -> bytes:
    return _openai_chunk({"content": word})


def _openai_chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return sse({"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]})


def _openai_words(item: Any) -> str | None:
    if not item.choices:
        return None
    choice = item.choices[0]
    return (choice.delta if hasattr(choice, "delta") else choice.message).content or None


OPENAI = Sdk(
    name="openai",
    api=openai,
    adapter=openai_adapter,
    rules=openai_dialect.RULES,
    kind=openai.AsyncOpenAI,
    prefix="/v1",
    path="/v1/chat/completions",
    method="chat.completions.create",
    arguments=CHAT,
    prelude=_openai_chunk({"role": "assistant", "content": ""}),
    token=_openai_token,
    ending=_openai_chunk({}, "stop") + b"data: [DONE]\n\n",
    words_of=_openai_words,
    error=lambda kind, code: sse({"error": {"message": "As scripted.", "type": kind, "code": code, "param": None}}),
)


def _anthropic_event(event: dict[str, Any]) -> bytes:
    return sse(event, event["type"])


def _anthropic_words(item: Any) -> str | None:
    if item.type == "message":
        return str(item.content[0].text)
    return str(item.delta.text) if item.type == "content_block_delta" else None


_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}

ANTHROPIC = Sdk(
    name="anthropic",
    api=anthropic,
    adapter=anthropic_adapter,
    rules=anthropic_dialect.RULES,
    kind=anthropic.AsyncAnthropic,
    prefix="",
    path="/v1/messages",
    method="messages.create",
    arguments={"max_tokens": 10, **CHAT},
    prelude=_anthropic_event({"type": "message_start", "message": _MESSAGE})
    + _anthropic_event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    + _anthropic_event({"type": "ping"}),
    token=lambda word: _anthropic_event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}),
    ending=_anthropic_event({"type": "content_block_stop", "index": 0})
    + _anthropic_event(
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 3}}
    )
    + _anthropic_event({"type": "message_stop"}),
    words_of=_anthropic_words,
    error=lambda kind, code: sse({"type": "error", "error": {"type": kind, "message": "As scripted."}}, "error"),
)


def playing(*scripts: list[Any]) -> Callable[[Any, bytes], None]:
    """
    What the odd server does with one request after the other; the last for all that come after.

    A script is a list of bytes to stream, perhaps with `CUT` or `HANG` at its end; or a status, and a body.
    """

    def play(peer: Any, request: bytes) -> None:
        script = scripts[min(len(peer.odd.requests), len(scripts)) - 1]
        if isinstance(script[0], int):
            status, *body = script
            peer.answer(status, json.dumps(body[0] if body else {}).encode(), content_type="application/json")
            return
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for part in script:
            if part is CUT:
                peer.connection.close()
                return
            if part is HANG:
                peer.gone()
                return
            peer.send(b"%x\r\n%s\r\n" % (len(part), part))
        peer.send(b"0\r\n\r\n")

    return play
