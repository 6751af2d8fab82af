"""
An engine inside the Anthropic SDK, or around it.

    from resilience.adapters import anthropic as resilient

    sdk = resilient.client()                    # an anthropic.AsyncAnthropic that repeats what is worth repeating, and nothing else
    message = await sdk.messages.create(model="claude-opus-4-5", max_tokens=1024, messages=messages)

    async with resilient.stream(engine, sdk.messages.create, model=..., max_tokens=1024, messages=messages, stream=True) as events:
        async for event in events:
            ...

`client` puts the engine under the SDK, where each request is a call; what the SDK raises stays what it raises, and our own errors reach it
as failures to connect.  **Of a streamed answer that guards the head**: the SDK reads the rest after the call has ended.  `stream`, like
``engine.stream``, goes around a method of the SDK and guards all of it; an overload that the API reports after its 200 is then repeated,
too, as long as nothing was said.  Do both with one engine, and they share its attempts.

A plain SDK client may be used with ``engine.call(sdk.messages.create, ...)`` as well; give it ``max_retries=0``.  What its exceptions say
is read, types and codes included; an error in the middle of a stream has the status 200 there, and goes by its type.  What they do not say
is which request it was if an attempt was cut: around what creates something, say ``using(method="POST")``.

**Idempotency keys.**  "The API doesn't currently honor an idempotency key" (a maintainer, in anthropic-sdk-typescript, pull request 1144,
August 2026); so the SDK sends none, and `engine` has no `IdempotencyKey`.  Do not add one: the engine would take it for a guarantee.
Messages create nothing, and are repeated all the same (each try is paid for); batches, files and what belongs to an organization are
repeated only if it is certain that nothing was done.  Some compatible services do honour keys; there it belongs in the engine.

**Signatures.**  On AWS the SDK signs a request before the engine has it, so that all tries go out with one signature, which is good for
minutes.  Around the SDK's methods (``engine.call``, `stream`) each try is signed anew.

Reference:
    anthropic 2.12, ``_base_client.py``: timeouts of 600 s, 5 s to connect; two retries, of any 408, 409, 429 and 5xx; TCP keep-alive.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

import anthropic

from resilience.adapters import _sdk
from resilience.adapters.httpx2 import ResilientClient
from resilience.classify import Rules
from resilience.dialects import anthropic as dialect
from resilience.dialects import aws, google
from resilience.engine import Engine, Streamable
from resilience.env import Env
from resilience.outcome import retry
from resilience.stream import Stream

__all__ = ["HttpClient", "client", "engine", "stream"]

P = ParamSpec("P")
T = TypeVar("T")

_OWNER = "resilience.adapters.anthropic.client"

# What comes before there is anything to show.
_PRELUDE = frozenset({"message_start", "ping"})
# What is filled bit by bit: blocks, bits that may be empty themselves, and the events that the SDK's helpers make of those.  Others come
# whole, such as the results of the server's own tools.
_FILLED = frozenset(
    {
        *("text", "thinking", "tool_use", "server_tool_use", "mcp_tool_use"),
        *("text_delta", "thinking_delta", "input_json_delta", "input_json"),
    }
)


def _on_vertex(method: str, path: str) -> bool:
    """The SDK's requests for messages, and for the number of their tokens, on Vertex AI."""
    return method == "POST" and re.fullmatch(r".*/models/[^/]+:(?:rawPredict|streamRawPredict)", path) is not None


# Elsewhere the platform in front answers, too, each in its own dialect.
_RULES: Final = {
    "AsyncAnthropicBedrock": dialect.RULES.extend(
        "anthropic on bedrock",
        by_code=aws.RULES.by_code,
        by_message=aws.RULES.by_message,
        # In a stream the SDK makes a type of an exception's name.
        by_kind={
            "throttlingException": retry(throttled=True),
            **{name: verdict for name, verdict in aws.RULES.by_code.items() if isinstance(name, str) and "*" not in name},
        },
        creates_nothing=aws.RULES.creates_nothing,
    ),
    "AsyncAnthropicVertex": dialect.RULES.extend(
        "anthropic on vertex",
        by_code=google.RULES.by_code,
        by_message=google.RULES.by_message,
        by_kind=google.RULES.by_kind,
        creates_nothing=_on_vertex,
    ),
}


class HttpClient(ResilientClient, anthropic.DefaultAsyncHttpxClient):
    """
    A `ResilientClient` with the SDK's own defaults, to be handed to it as ``http_client=`` beside ``max_retries=0``: timeouts of 600 s (5 s
    to connect), 1,000 connections kept alive by TCP, redirects followed.

    Args:
        engine: An `Engine`, or a view of one.
        settings: Those of `httpx2.AsyncClient`: ``proxy``, ``verify`` ...

    Raises:
        TypeError: No engine, or a sync transport.
    """


def engine(kind: type = anthropic.AsyncAnthropic, *, name: str | None = None, env: Env | None = None) -> Engine:
    """
    An engine for the Anthropic API: an hour a call, four tries, a breaker for each origin.

    No limit to an attempt but the SDK's own: a ``timeout=`` that is given to one of its methods holds as it is.  No idempotency keys, as
    the API honours none.

    Args:
        kind: The class of the SDK's client, for the dialect: on Bedrock and on Vertex AI the platform's comes on top.
        name: The engine's name in events; the dialect's by default.
        env: Time, chance and the log; the real ones by default.
    """
    rules: Rules = next((_RULES[base.__name__] for base in kind.__mro__ if base.__name__ in _RULES), dialect.RULES)
    return Engine(_sdk.policies(), rules=rules, name=name, env=env)


_ready_made = engine


@_sdk.makes(anthropic.AsyncAnthropic)
def client(engine: Engine | None = None, kind: Any = anthropic.AsyncAnthropic, /, *args: Any, **settings: Any) -> Any:
    """
    The SDK's client over an engine, which repeats in its stead.

        sdk = client(engine)
        sdk = client(engine, anthropic.AsyncAnthropicVertex, region=..., project_id=...)

    Copies (``with_options``) share the engine.  One that turns the SDK's retries on again gets them for what no answer came to, once for
    each try of its own; for all else the engine has the last word.

    Args:
        engine: An `Engine`, or a view of one; `engine` makes it by default.
        kind: The class of the client.
        *args: Handed to *kind*.
        **settings: Likewise; ``max_retries`` and ``http_client`` are not to be among them.

    Raises:
        TypeError: No engine, or no class of an async client.
        ValueError: ``max_retries`` other than 0, or an ``http_client``.

    Warns:
        UserWarning: The engine has no dialect.
    """
    settings = _sdk.settled(_OWNER, kind, settings)
    carried = _ready_made(kind) if engine is None else engine
    http_client = HttpClient(carried)
    _sdk.doubt(_OWNER, carried)
    return kind(*args, **settings | {"http_client": http_client})


def stream(engine: Engine, fn: Callable[P, Streamable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
    """
    The items of an SDK's method that streams, like ``engine.stream``, but repeated until the first *token*.

    A stream begins with events that say no more than that it has begun: ``message_start``, an empty block.  Here they wait for the first
    event that has something to show, and an attempt that breaks before it leaves no trace.  Limits to the first item are limits to that
    one.

    Args:
        engine: An `Engine`, or a view of one.
        fn: ``sdk.messages.create``, ``sdk.messages.stream`` ...
        *args: Handed to *fn*, in every attempt.
        **kwargs: Likewise.

    Returns:
        A `Stream`, of all the events.
    """
    return _sdk.from_content(engine, fn, _is_prelude, args, kwargs)


def _is_prelude(event: object) -> bool:
    kind = getattr(event, "type", None)
    if kind in _PRELUDE:
        return True
    part = getattr(event, {"content_block_start": "content_block", "content_block_delta": "delta"}.get(str(kind), ""), event)
    return getattr(part, "type", None) in _FILLED and not any(getattr(part, name, None) for name in ("text", "thinking", "partial_json"))
