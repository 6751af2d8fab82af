"""
An engine inside the OpenAI SDK, or around it.

    from resilience.adapters import openai as resilient

    sdk = resilient.client()                    # an openai.AsyncOpenAI that repeats what is worth repeating, and nothing else
    completion = await sdk.chat.completions.create(model="gpt-5", messages=messages)

    async with resilient.stream(engine, sdk.chat.completions.create, model="gpt-5", messages=messages, stream=True) as chunks:
        async for chunk in chunks:
            ...

`client` puts the engine under the SDK, where each request is a call; what the SDK raises stays what it raises, and our own errors reach it
as failures to connect.  **Of a streamed answer that guards the head**: the SDK reads the rest after the call has ended.  `stream`, like
``engine.stream``, goes around a method of the SDK and guards all of it.  Do both with one engine, and they share its attempts.

A plain SDK client may be used with ``engine.call(sdk.chat.completions.create, ...)`` as well; give it ``max_retries=0``.  What its
exceptions say is read, codes included.  What they do not say is which request it was if an attempt was cut: around what creates something,
say ``using(method="POST")``.

**Idempotency keys.**  The API honours none, but for a few endpoints of the beta for agents, whose methods take an ``idempotency_key=``; so
the SDK sends none, and `engine` has no `IdempotencyKey`.  Do not add one: the engine would take it for a guarantee.  Completions,
embeddings and the like create nothing, and are repeated all the same (each try is paid for); responses, files, batches and jobs are
repeated only if it is certain that nothing was done.  Some compatible services do honour keys; there it belongs in the engine.

Reference:
    openai 3.54, ``_base_client.py``: timeouts of 600 s, 5 s to connect; two retries, of any 408, 409, 429 and 5xx.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import openai

from resilience.adapters import _sdk
from resilience.adapters.httpx2 import ResilientClient
from resilience.classify import Rules
from resilience.dialects import azure_openai
from resilience.dialects import openai as dialect
from resilience.engine import Engine, Streamable
from resilience.env import Env
from resilience.reading.peek import is_list
from resilience.stream import Stream

__all__ = ["HttpClient", "client", "engine", "stream"]

P = ParamSpec("P")
T = TypeVar("T")

_OWNER = "resilience.adapters.openai.client"

# What comes before there is anything to show.  In the Responses API; steps of the tools that it runs are none of it, being work done.
_PRELUDE = frozenset(
    {
        "response.created",
        "response.queued",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.reasoning_summary_part.added",
    }
)


class HttpClient(ResilientClient, openai.DefaultAsyncHttpxClient):
    """
    A `ResilientClient` with the SDK's own defaults, to be handed to it as ``http_client=`` beside ``max_retries=0``: timeouts of 600 s (5 s
    to connect), 1,000 connections, redirects followed.

    Args:
        engine: An `Engine`, or a view of one.
        settings: Those of `httpx2.AsyncClient`: ``proxy``, ``verify`` ...

    Raises:
        TypeError: No engine, or a sync transport.
    """


def engine(kind: type = openai.AsyncOpenAI, *, name: str | None = None, env: Env | None = None) -> Engine:
    """
    An engine for the OpenAI API: an hour a call, four tries, a breaker for each origin.

    No limit to an attempt but the SDK's own: a ``timeout=`` that is given to one of its methods holds as it is.  No idempotency keys, as
    the API honours none.

    Args:
        kind: The class of the SDK's client, for the dialect: Azure's for `openai.AsyncAzureOpenAI`.
        name: The engine's name in events; the dialect's by default.
        env: Time, chance and the log; the real ones by default.
    """
    rules: Rules = azure_openai.RULES if issubclass(kind, openai.AsyncAzureOpenAI) else dialect.RULES
    return Engine(_sdk.policies(), rules=rules, name=name, env=env)


_ready_made = engine


@_sdk.makes(openai.AsyncOpenAI)
def client(engine: Engine | None = None, kind: Any = openai.AsyncOpenAI, /, *args: Any, **settings: Any) -> Any:
    """
    The SDK's client over an engine, which repeats in its stead.

        sdk = client(engine)
        sdk = client(engine, openai.AsyncAzureOpenAI, azure_endpoint=..., api_version=...)

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

    A stream begins with items that say no more than that it has begun: a role, ``response.created``.  Here they wait for the first item
    that has something to show, and an attempt that breaks before it leaves no trace.  Limits to the first item are limits to that one.

    Args:
        engine: An `Engine`, or a view of one.
        fn: ``sdk.chat.completions.create``, ``sdk.chat.completions.stream``, ``sdk.responses.create`` ...
        *args: Handed to *fn*, in every attempt.
        **kwargs: Likewise.

    Returns:
        A `Stream`, of all the items.
    """
    return _sdk.from_content(engine, fn, _is_prelude, args, kwargs)


def _is_prelude(item: object) -> bool:
    kind = getattr(item, "type", None)
    if kind == "chunk":  # an event of the SDK's helper, around what came
        return _is_prelude(getattr(item, "chunk", None))
    if kind is not None:
        return kind in _PRELUDE or getattr(item, "delta", None) == ""
    choices = getattr(item, "choices", None)
    return is_list(choices) and getattr(item, "usage", None) is None and all(map(_is_empty, choices))


def _is_empty(choice: Any) -> bool:
    if choice.finish_reason is not None:
        return False
    if not hasattr(choice, "delta"):
        return not choice.text  # of the older completions
    # Not the fields that are known here: compatible APIs have others, such as for the reasoning.
    return not any(value for name, value in choice.delta if name != "role")
