"""
What the adapters for openai and anthropic share: both SDKs are made by one generator, and have the same base client.

    client(engine) ─▶ SDK ─▶ HttpClient.send ─▶ Engine ─▶ attempt ─▶ HTTP            a call is one request of the SDK
    engine.call(sdk.method) ─▶ Engine ─▶ attempt ─▶ SDK ─▶ HTTP                      a call is one use of the method
    stream(engine, sdk.method) ─▶ Engine ─▶ attempt ─▶ FromContent ─▶ SDK ─▶ HTTP    likewise, and it ends with the stream

Read in openai 3.54 and anthropic 2.12: ``_base_client.py`` (an ``http_client`` brings its timeouts along, and a copy is given the same
one; ``max_retries`` is each copy's own), ``_streaming.py``.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

from resilience.callables import operation_name
from resilience.dialects import http
from resilience.engine import Engine, Streamable
from resilience.flow import Source
from resilience.outcome import END
from resilience.policies.circuit_breaker import CircuitBreaker
from resilience.policies.retry import Retry
from resilience.policies.timeout import Deadline
from resilience.policy import Policy
from resilience.stream import Stream

__all__ = ["FromContent", "Makes", "doubt", "from_content", "makes", "policies", "settled"]

P = ParamSpec("P")
Q = ParamSpec("Q")
T = TypeVar("T")
C_co = TypeVar("C_co", covariant=True)
D = TypeVar("D")

_MOST_HELD = 64  # items; a stream that has said nothing by then is handed out as it comes


# Seconds.  The SDKs reckon with an hour for 128,000 tokens, the longest answer there is.
_LONGEST_CALL = 3600.0
# A probe of the breaker may be a long generation: with less, one that is merely slow would lose its place before it can tell.
_LEASE = 120.0


def policies() -> list[Policy]:
    """What suits generations, which take minutes and are paid for by the try."""
    return [Deadline(_LONGEST_CALL), Retry(attempts=4), CircuitBreaker(lease=_LEASE)]


# Clients


class Makes(Protocol[P, C_co]):
    """A function from an engine, and a kind of client if it is to be another, to an SDK's client; the settings are those of the kind."""

    @overload
    def __call__(self, engine: Engine | None = None, /, *args: P.args, **settings: P.kwargs) -> C_co: ...

    @overload
    def __call__(self, engine: Engine | None, kind: Callable[Q, D], /, *args: Q.args, **settings: Q.kwargs) -> D: ...


def makes(kind: Callable[P, T]) -> Callable[[Callable[..., Any]], Makes[P, T]]:
    """Type a function as one that makes a *kind*, or whatever else it is asked for."""

    def unchanged(function: Callable[..., Any]) -> Makes[P, T]:
        return cast("Makes[P, T]", function)

    del kind
    return unchanged


def settled(owner: str, kind: Any, settings: dict[str, Any]) -> dict[str, Any]:
    """
    The settings of an SDK's client over an engine, which alone repeats.

    Args:
        owner: Whom to name in messages.
        kind: The class of the client.
        settings: What the caller would have.

    Raises:
        TypeError: No class of an async client.
        ValueError: A setting that is for the engine to decide.
    """
    if not isinstance(kind, type) or not inspect.iscoroutinefunction(getattr(kind, "request", None)):
        raise TypeError(f"{owner}: kind: expected the class of an async client, for engines are async only; got {kind!r}")
    if settings.get("max_retries", 0) != 0:
        raise ValueError(
            f"{owner}: max_retries={settings['max_retries']!r}: the engine repeats in the SDK's stead, and two would multiply; "
            "say it there, in Retry(attempts=...)"
        )
    if settings.get("http_client") is not None:
        raise ValueError(
            f"{owner}: http_client={settings['http_client']!r}: the one that carries the engine is made here; for one with a proxy and "
            f"the like write {kind.__name__}(http_client=HttpClient(engine, proxy=...), max_retries=0)"
        )
    return {**settings, "max_retries": 0}


def doubt(owner: str, engine: Engine) -> None:
    """Warn of an engine that cannot tell a quota that is used up from a rate limit."""
    if engine.rules is http.RULES:
        told = f"{owner}: engine {engine.name!r} goes by plain HTTP, to which money that has run out is a rate limit; give it a dialect"
        warnings.warn(told, stacklevel=3)


# Streams


def from_content(
    engine: Engine, fn: Callable[..., Streamable[T]], is_prelude: Callable[[object], bool], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Stream[T]:
    """The items of ``fn(*args, **kwargs)`` through *engine*, where a first item is the first that is no prelude."""

    def opening(*args: Any, **kwargs: Any) -> FromContent[T]:
        return FromContent(engine, functools.partial(fn, *args, **kwargs), is_prelude)

    functools.update_wrapper(opening, fn)
    opening.__qualname__ = operation_name(fn)
    return engine.stream(opening, *args, **kwargs)


class FromContent(Generic[T]):
    """
    The items of one attempt.  Those before the first with content wait until that has come, so that an attempt which never gets so far
    leaves nothing behind.

    It is no generator: that would have to be closed by the task, and in the loop, that it was begun in.
    """

    def __init__(self, engine: Engine, fn: Callable[[], Any], is_prelude: Callable[[object], bool]) -> None:
        self._env = engine.env
        self._by_item = engine.rules.by_item
        self._fn = fn
        self._is_prelude = is_prelude
        self._source = Source()
        self._begun = self._over = False
        self._held: list[T] = []  # the latest first

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        if not self._begun:
            self._begun = True
            await self._begin()
        if self._held:
            return self._held.pop()
        item = END if self._over else await self._source.next()
        if item is END:
            self._over = True
            raise StopAsyncIteration
        return cast("T", item)

    async def aclose(self) -> None:
        await self._source.close(self._env)

    async def _begin(self) -> None:
        source = self._source
        item = await source.open(self._fn, (), {}, operation_name(self._fn))
        held: list[Any] = []
        while item is not END and len(held) < _MOST_HELD and self._is_prelude(item):
            held.append(item)
            item = await source.next()
        if item is END:
            self._over = True
        elif self._reports_failure(item):
            held = [item]  # the attempt has failed before it said anything
        else:
            held.append(item)
        self._held = held[::-1]

    def _reports_failure(self, item: object) -> bool:
        try:
            return self._by_item is not None and self._by_item(item) is not None
        except Exception:  # noqa: BLE001 - a reader's mistake is told by whoever reads the item next
            return False
