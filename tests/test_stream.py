"""Streams: repeated until there is a first item, honest after that (D12), and nothing held between two items."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import inspect
import pickle
import types
import warnings
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Literal, Self

import anyio
import anyio.lowlevel
import anyio.to_thread
import attrs
import pytest

from resilience import (
    Action,
    AttemptTimedOut,
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Constant,
    Deadline,
    DeadlineExceeded,
    Engine,
    Failure,
    IdempotencyKey,
    Progress,
    RefreshToken,
    Retry,
    Signal,
    Stream,
    StreamFailed,
    StreamTimeout,
    Verdict,
    current,
    history,
    retry,
)
from resilience.backend import Cutoff
from resilience.callables import yields
from resilience.decide.breaker import HalfOpen
from resilience.dialects import http
from resilience.events import AttemptFailed, DeadlineHit, RetryGaveUp
from resilience.testing import World
from tests.conftest import without_uvloop

pytestmark = pytest.mark.anyio

# trio knows no tasks to cancel.
natively = pytest.mark.parametrize(
    "anyio_backend",
    [
        pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
        pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop", marks=without_uvloop),
    ],
    scope="module",
)

RETRY = Retry(attempts=3, backoff=Constant(1.0))


class Feed:
    """A source that plays one list of items an attempt: exceptions are raised, functions awaited."""

    def __init__(self, *plays: list[Any]) -> None:
        self.plays = list(plays)
        self.opened = 0
        self.closed = 0

    async def __call__(self, *args: Any) -> AsyncIterator[Any]:
        self.opened += 1
        try:
            for item in self.plays[self.opened - 1]:
                if isinstance(item, BaseException):
                    raise item
                yield await item() if callable(item) else item
        finally:
            self.closed += 1


class Plain:
    """Items without an async generator, which trio would complain of if it were dropped half-read."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __aiter__(self) -> Plain:
        return self

    async def __anext__(self) -> Any:
        return self.items.pop(0)


async def collected(stream: Stream[Any]) -> list[Any]:
    return [item async for item in stream]


async def collected_until_error(stream: Stream[Any]) -> tuple[list[Any], Exception]:
    items: list[Any] = []
    try:
        async for item in stream:
            items.append(item)  # noqa: PERF401 - kept although an error follows
    except Exception as error:
        return items, error
    raise AssertionError(f"no error after {items}")


class TestUntilTheFirstItem:
    async def test_a_failure_is_repeated_and_each_item_is_seen_once(self, world: World) -> None:
        feed = Feed([ConnectionError()], [ConnectionError()], [1, 2, 3])
        items = await collected(Engine([RETRY], env=world.env).stream(feed))

        assert [1, 2, 3] == items
        assert (3, 3, [1.0, 1.0]) == (feed.opened, feed.closed, world.slept)
        assert ["call.recovered"] == world.names("call")

    async def test_a_stream_without_items_is_a_success(self, world: World) -> None:
        feed = Feed([ConnectionError()], [])

        assert [] == await collected(Engine([RETRY], env=world.env).stream(feed))
        assert ["call.recovered"] == world.names("call")

    async def test_nothing_is_called_before_the_first_item_is_asked_for(self, world: World) -> None:
        feed = Feed([1])
        stream = Engine([RETRY], env=world.env).stream(feed)
        await stream.aclose()

        assert [] == await collected(stream)
        assert (0, []) == (feed.opened, world.events)

    async def test_the_last_failure_arrives_as_it_came(self, world: World) -> None:
        last = ConnectionError("third")
        feed = Feed([ConnectionError()], [ConnectionError()], [last])
        items, error = await collected_until_error(Engine([RETRY], env=world.env).stream(feed))

        assert ([], last) == (items, error)
        assert [0, 0, 0] == [tried.items for tried in history(error)]

    async def test_what_repeating_cannot_cure_is_not_repeated(self, world: World) -> None:
        feed = Feed([ValueError("no")])
        _, error = await collected_until_error(Engine([RETRY], env=world.env).stream(feed))

        assert (ValueError, 1) == (type(error), feed.opened)
        assert ["call.failed_fast"] == world.names("call")

    async def test_a_token_is_refreshed_and_the_key_stays_the_same(self, world: World) -> None:
        seen: list[tuple[str | None, str]] = []

        class Expired(Exception):
            status = 401

        async def source() -> AsyncIterator[int]:
            call = current()
            seen.append((call.token, call.take_key()))
            if call.token == "old":
                raise Expired
            yield 1

        async def login(stale: str | None) -> str:
            return "old" if stale is None else "new"

        engine = Engine([IdempotencyKey(), RefreshToken(login), RETRY], env=world.env)

        assert [1] == await collected(engine.stream(source))
        assert ["old", "new"] == [token for token, _ in seen]
        assert 1 == len({key for _, key in seen})

    async def test_the_end_of_something_else_is_not_taken_for_that_of_a_stream_that_never_began(self, world: World) -> None:
        """A `StopAsyncIteration` would end the loop as if there were no items."""

        async def create() -> AsyncIterator[int]:
            await anext(Feed([])())
            return Feed([1])()

        items, error = await collected_until_error(Engine([RETRY], env=world.env).stream(create))

        assert ([], RuntimeError) == (items, type(error))
        assert isinstance(error.__cause__, StopAsyncIteration)


class TestAfterTheFirstItem:
    async def test_a_failure_ends_the_stream_and_tells_how_many_items_there_were(self, world: World) -> None:
        broken = ConnectionError("cut")
        feed = Feed([1, 2, 3, broken])
        items, error = await collected_until_error(Engine([RETRY], env=world.env).stream(feed))

        assert ([1, 2, 3], 1) == (items, feed.opened)
        assert broken is error
        assert [3] == [tried.items for tried in history(error)]
        assert ["delivered"] == [event.reason for event in world.told(RetryGaveUp)]
        assert [3] == [event.items for event in world.told(AttemptFailed)]

    async def test_the_number_of_items_survives_pickling(self, world: World) -> None:
        _, error = await collected_until_error(Engine([], env=world.env).stream(Feed([1, ConnectionError()])))

        assert 1 == history(pickle.loads(pickle.dumps(error)))[-1].items

    async def test_a_stream_that_has_failed_stays_at_its_end(self, world: World) -> None:
        stream = Engine([RETRY], env=world.env).stream(Feed([1, ConnectionError()]))
        await collected_until_error(stream)

        assert [] == await collected(stream)

    async def test_restart_begins_anew_after_a_backoff(self, world: World) -> None:
        """B38: items come twice only for who has asked for just that."""
        feed = Feed([1, 2, ConnectionError()], [1, 2, 3])
        engine = Engine([RETRY], env=world.env).using(resume="restart")

        assert [1, 2, 1, 2, 3] == await collected(engine.stream(feed))
        assert ([1.0], 2) == (world.slept, feed.closed)
        assert ["attempt.failed", "retry.scheduled", "call.recovered"] == world.names()

    async def test_resume_goes_on_where_it_broke(self, world: World) -> None:
        told: list[Progress] = []

        async def rest(progress: Progress) -> AsyncIterator[int]:
            told.append(progress)
            for item in range(progress.items + 1, 6):
                if item == 5 and len(told) == 1:
                    raise ConnectionError
                yield item

        engine = Engine([RETRY], env=world.env).using(resume=rest)

        assert [1, 2, 3, 4, 5] == await collected(engine.stream(Feed([1, 2, ConnectionError()])))
        assert [(2, 2, None), (4, 4, None)] == [(one.items, one.last, one.delivered) for one in told]

    async def test_resume_is_given_all_items_where_they_were_asked_to_be_kept(self, world: World) -> None:
        def rest(progress: Progress) -> AsyncIterator[str]:
            async def more() -> AsyncIterator[str]:
                assert progress.delivered is not None
                yield "".join(map(str, progress.delivered))

            return more()

        engine = Engine([RETRY], env=world.env).using(resume=rest, keep_items=True)

        assert ["a", "b", "ab"] == await collected(engine.stream(Feed(["a", "b", ConnectionError()])))

    async def test_resume_is_given_the_last_event_id(self, world: World) -> None:
        class Event:
            def __init__(self, number: str) -> None:
                self.event, self.data, self.id = "message", "{}", number

        told: list[str | None] = []

        def rest(progress: Progress) -> AsyncIterator[str]:
            told.append(progress.last_event_id)
            return Feed(["rest"])()

        engine = Engine([RETRY], env=world.env).using(resume=rest)
        await collected(engine.stream(Feed([Event("7"), Event("8"), Event(""), ConnectionError()])))
        await collected(engine.stream(Feed(["id: 9", "data: x", "", ConnectionError()])))

        assert ["8", "9"] == told

    async def test_the_attempts_are_those_of_the_whole_stream(self, world: World) -> None:
        """A stream that delivers one item and breaks, again and again, must not go on for ever."""
        feed = Feed(*[[1, ConnectionError()] for _ in range(9)])
        items, error = await collected_until_error(Engine([RETRY], env=world.env).using(resume="restart").stream(feed))

        assert ([1, 1, 1], 3) == (items, feed.opened)
        assert [1, 2, 3] == [tried.items for tried in history(error)]
        assert ["attempts"] == [event.reason for event in world.told(RetryGaveUp)]

    async def test_a_breaker_further_out_that_refuses_to_go_on_does_not_hide_what_broke(self, world: World) -> None:
        broken = ConnectionError("cut")
        with pytest.warns(UserWarning, match="CircuitBreaker outside Retry"):
            engine = Engine([CircuitBreaker(consecutive=1, failure_ratio=1), RETRY], env=world.env).using(resume="restart")
        items, error = await collected_until_error(engine.stream(Feed([1, broken], [2])))

        assert ([1], broken) == (items, error)
        assert ["rejected"] == [event.reason for event in world.told(RetryGaveUp)]

    @pytest.mark.parametrize("rest", [lambda _: 42, lambda _: None, lambda _: ["not", "async"]])
    async def test_a_way_to_go_on_that_leads_nowhere_is_named(self, world: World, rest: Callable[[Progress], Any]) -> None:
        engine = Engine([RETRY], env=world.env).using(resume=rest)
        items, error = await collected_until_error(engine.stream(Feed([1, ConnectionError()])))

        assert ([1], TypeError) == (items, type(error))
        assert str(error).startswith("Feed, resumed: returned ")
        assert ["ConnectionError", "TypeError"] == [tried.error for tried in history(error)]

    async def test_a_way_to_go_on_that_brings_nothing_ends_the_stream(self, world: World) -> None:
        engine = Engine([RETRY], env=world.env).using(resume=lambda _: Feed([])())

        assert [1] == await collected(engine.stream(Feed([1, ConnectionError()])))

    async def test_its_mistake_is_raised_and_not_repeated(self, world: World) -> None:
        def rest(_: Progress) -> Any:
            raise KeyError("mistake")

        items, error = await collected_until_error(Engine([RETRY], env=world.env).using(resume=rest).stream(Feed([1, ConnectionError()])))

        assert ([1], KeyError, 2) == (items, type(error), len(history(error)))

    async def test_the_key_stays_the_same_and_a_token_that_has_expired_meanwhile_is_refreshed(self, world: World) -> None:
        seen: list[tuple[str | None, str]] = []

        class Expired(Exception):
            status = 401

        async def source() -> AsyncIterator[int]:
            seen.append((current().token, current().take_key()))
            yield 1
            raise ConnectionError

        async def rest(progress: Progress) -> AsyncIterator[int]:
            seen.append((current().token, current().take_key()))
            if current().token == "old":
                raise Expired
            yield progress.items + 1

        async def login(stale: str | None) -> str:
            return "old" if stale is None else "new"

        engine = Engine([IdempotencyKey(), RefreshToken(login), RETRY], env=world.env).using(resume=rest)

        assert [1, 2] == await collected(engine.stream(source))
        assert ["old", "old", "new"] == [token for token, _ in seen]
        assert 1 == len({key for _, key in seen})

    async def test_a_later_view_may_ask_for_the_items_to_be_kept(self, world: World) -> None:
        told: list[tuple[object, ...] | None] = []

        def rest(progress: Progress) -> AsyncIterator[int]:
            told.append(progress.delivered)
            return Feed([2])()

        view = Engine([RETRY], env=world.env).using(resume=rest).using(keep_items=True)
        await collected(view.stream(Feed([1, ConnectionError()])))

        assert [(1,)] == told

    @natively
    async def test_a_task_that_is_cancelled_does_not_go_on_even_if_the_source_made_an_error_of_it(self, world: World) -> None:
        """D10: `task.cancel()` was meant."""
        opened = []

        async def source() -> AsyncIterator[int]:
            opened.append(True)
            yield 1
            try:
                await anyio.sleep_forever()
            except asyncio.CancelledError:
                raise ConnectionError from None

        stream = Engine([RETRY], env=world.env).using(resume="restart").stream(source)
        task = asyncio.ensure_future(collected_until_error(stream))
        await anyio.wait_all_tasks_blocked()
        task.cancel()
        items, error = await task

        assert ([1], ConnectionError, 1) == (items, type(error), len(opened))
        assert ["cancelled"] == [event.reason for event in world.told(RetryGaveUp)]

    async def test_what_cannot_be_cured_is_not_resumed(self, world: World) -> None:
        feed = Feed([1, ValueError()])
        items, _ = await collected_until_error(Engine([RETRY], env=world.env).using(resume="restart").stream(feed))

        assert ([1], 1) == (items, feed.opened)

    @pytest.mark.parametrize(
        ("settings", "message"),
        [
            ({"resume": 5}, "using.resume: expected 'restart', or a function"),
            ({"resume": "again"}, "using.resume: expected 'restart', or a function"),
            ({"resume": "restart", "keep_items": True}, "using.keep_items: expected False, unless resume is a function"),
            ({"keep_items": True}, "using.keep_items: expected False, unless resume is a function"),
        ],
    )
    def test_a_way_to_go_on_that_is_none_is_refused(self, settings: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Engine([RETRY]).using(**settings)

    def test_a_way_to_go_on_needs_a_retry(self) -> None:
        with pytest.raises(ValueError, match="using: resume needs Retry among the engine's policies"):
            Engine([]).using(resume="restart")


BUSY = http.RULES.extend(
    "acme",
    by_code={"overloaded": retry(), "bad": "fail_fast"},
    by_item=lambda item: Signal(code=item["error"]) if isinstance(item, dict) else None,
)


class TestErrorEvents:
    """B65: the status was 200, and is no word on what the event says."""

    async def test_before_the_first_item_they_are_repeated_by_code(self, world: World) -> None:
        feed = Feed([{"error": "overloaded"}], [1])

        assert [1] == await collected(Engine([RETRY], rules=BUSY, env=world.env).stream(feed))
        assert ["acme: code overloaded"] == [event.rule for event in world.told(AttemptFailed)]

    async def test_after_it_they_are_raised_with_the_number_of_items(self, world: World) -> None:
        feed = Feed([1, 2, {"error": "overloaded"}, 3])
        items, error = await collected_until_error(Engine([RETRY], rules=BUSY, env=world.env).stream(feed))

        assert [1, 2] == items
        assert isinstance(error, StreamFailed)
        assert ("overloaded", 2) == (error.code, error.items)
        assert "Feed: the stream reported overloaded after 2 item(s)" == str(error)
        assert 1 == feed.closed

    async def test_an_engine_further_out_judges_them_by_their_code(self, world: World) -> None:
        """The items were the inner function's; whoever calls that has seen none."""
        feed = Feed([1, {"error": "overloaded"}], [2])
        engine = Engine([RETRY], rules=BUSY, env=world.env)

        @engine
        async def all_of_it() -> list[Any]:
            return await collected(Engine([], rules=BUSY, env=world.env).stream(feed))

        assert [2] == await all_of_it()

    async def test_they_speak_against_the_peer(self, world: World) -> None:
        breaker = CircuitBreaker(consecutive=2, failure_ratio=1)
        engine = Engine([breaker], rules=BUSY, env=world.env)
        for _ in range(2):
            await collected_until_error(engine.stream(Feed([1, {"error": "overloaded"}])))

        assert "open" == breaker.era()

    async def test_a_reader_that_makes_a_mistake_costs_nothing(self, world: World) -> None:
        rules = http.RULES.extend("acme", by_item=lambda item: item.nonsense)  # type: ignore[attr-defined]

        assert [1, 2] == await collected(Engine([], rules=rules, env=world.env).stream(Feed([1, 2])))
        assert ["result.unread", "result.unread"] == world.names("result")


class TestTime:
    async def test_a_first_item_that_takes_too_long_is_cut_and_asked_for_again(self, world: World) -> None:
        async def slowly() -> int:
            await world.sleep(60)
            return 1

        feed = Feed([slowly], [2])
        engine = Engine([RETRY, StreamTimeout(first_item=5)], env=world.env)

        assert [2] == await collected(engine.stream(feed))
        assert (6.0, 2) == (world.now, feed.closed)

    async def test_a_limit_to_attempts_is_one_to_the_first_item(self, world: World) -> None:
        async def slowly() -> int:
            await world.sleep(4)
            return 1

        feed = Feed([slowly, slowly, slowly])

        assert [1, 1, 1] == await collected(Engine([AttemptTimeout(5)], env=world.env).stream(feed))
        assert 12.0 == world.now

    async def test_a_later_item_that_takes_too_long_ends_the_stream(self, world: World) -> None:
        async def never() -> None:
            await anyio.sleep_forever()

        feed = Feed([1, never])
        engine = Engine([RETRY, StreamTimeout(idle=5)], env=world.env)
        items, error = await collected_until_error(engine.stream(feed))

        assert ([1], 5.0, 1) == (items, world.now, feed.closed)
        assert isinstance(error, AttemptTimedOut)
        assert 5 == error.seconds

    async def test_only_the_time_in_which_the_caller_waits_counts(self, world: World) -> None:
        engine = Engine([StreamTimeout(first_item=1, idle=1)], env=world.env)
        stream = engine.stream(Feed([1, 2, 3]))
        items = []
        async for item in stream:
            items.append(item)
            await world.sleep(30)

        assert [1, 2, 3] == items

    async def test_the_deadline_bounds_all_of_it_the_caller_s_own_time_included(self, world: World) -> None:
        stream = Engine([Deadline(10)], env=world.env).stream(Feed([1, 2, 3]))
        first = await anext(stream)
        await world.sleep(11)
        items, late = await collected_until_error(stream)

        assert (1, [], DeadlineExceeded) == (first, items, type(late))
        assert ["streaming"] == [event.where for event in world.told(DeadlineHit)]

    async def test_the_deadline_cuts_a_wait_for_an_item(self, world: World) -> None:
        async def never() -> None:
            await anyio.sleep_forever()

        feed = Feed([1, never])
        items, error = await collected_until_error(Engine([Deadline(10), StreamTimeout(idle=60)], env=world.env).stream(feed))

        assert ([1], 10.0, DeadlineExceeded, 1) == (items, world.now, type(error), feed.closed)

    async def test_of_two_limits_the_shorter_holds(self, world: World) -> None:
        async def slowly() -> int:
            await world.sleep(3)
            return 1

        engine = Engine([StreamTimeout(first_item=1, idle=60), StreamTimeout(first_item=60), StreamTimeout(idle=2)], env=world.env)
        _, before = await collected_until_error(engine.stream(Feed([slowly])))
        items, after = await collected_until_error(engine.stream(Feed([1, slowly])))

        assert isinstance(before, AttemptTimedOut)
        assert isinstance(after, AttemptTimedOut)
        assert (1, [1], 2) == (before.seconds, items, after.seconds)

    @pytest.mark.parametrize("settings", [{}, {"idle": 0}, {"first_item": -1, "idle": 1}, {"idle": float("nan")}, {"idle": True}])
    def test_a_limit_that_is_none_is_refused(self, settings: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="StreamTimeout"):
            StreamTimeout(**settings)


class TestGuards:
    """B15: a stream is no success because it has begun."""

    @pytest.fixture
    def breaker(self) -> CircuitBreaker:
        return CircuitBreaker(consecutive=2, failure_ratio=1, cooldown=5, lease=30)

    async def test_streams_that_break_in_the_middle_open_the_circuit(self, world: World, breaker: CircuitBreaker) -> None:
        engine = Engine([breaker], env=world.env)
        for _ in range(2):
            await collected_until_error(engine.stream(Feed([1, ConnectionError()])))
        _, error = await collected_until_error(engine.stream(Feed([1])))

        assert isinstance(error, CircuitOpen)

    async def test_a_probe_is_out_until_its_stream_has_ended(self, world: World, breaker: CircuitBreaker) -> None:
        engine = Engine([breaker], env=world.env)
        for _ in range(2):
            await collected_until_error(engine.stream(Feed([ConnectionError()])))
        await world.sleep(6)
        probe = engine.stream(Feed([1, 2]))
        first = await anext(probe)
        _, refused = await collected_until_error(engine.stream(Feed([1])))

        assert (1, CircuitOpen, "half_open") == (first, type(refused), breaker.era())
        assert [2] == await collected(probe)
        assert "closed" == breaker.era()

    async def test_a_probe_that_breaks_opens_it_again(self, world: World, breaker: CircuitBreaker) -> None:
        engine = Engine([breaker], env=world.env)
        for _ in range(2):
            await collected_until_error(engine.stream(Feed([ConnectionError()])))
        await world.sleep(6)
        await collected_until_error(engine.stream(Feed([1, ConnectionError()])))

        assert "open" == breaker.era()

    async def test_a_probe_keeps_its_place_for_as_long_as_items_come(self, world: World, breaker: CircuitBreaker) -> None:
        engine = Engine([breaker], env=world.env)
        for _ in range(2):
            await collected_until_error(engine.stream(Feed([ConnectionError()])))
        await world.sleep(6)
        probe = engine.stream(Feed(list(range(5))))
        async for _ in probe:
            await world.sleep(20)
            if probe.delivered < 5:
                _, refused = await collected_until_error(engine.stream(Feed([1])))
                assert isinstance(refused, CircuitOpen)

        assert (106.0, "closed") == (world.now, breaker.era())

    async def test_a_probe_that_stays_silent_loses_its_place(self, world: World, breaker: CircuitBreaker) -> None:
        """B-list, D8: no probe's fate can hold the circuit up."""
        engine = Engine([breaker], env=world.env)
        for _ in range(2):
            await collected_until_error(engine.stream(Feed([ConnectionError()])))
        await world.sleep(6)
        probe = engine.stream(Feed([1, 2]))
        await anext(probe)
        await world.sleep(31)

        assert [7] == await collected(engine.stream(Feed([7])))
        assert "closed" == breaker.era()
        await probe.aclose()

    @pytest.mark.parametrize("way", ["closed", "dropped", "cancelled"])
    async def test_leaving_early_frees_the_probe(self, world: World, breaker: CircuitBreaker, way: str) -> None:
        engine = Engine([breaker], env=world.env)
        for _ in range(2):
            await collected_until_error(engine.stream(Feed([ConnectionError()])))
        await world.sleep(6)

        async def never() -> None:
            await anyio.sleep_forever()

        probe: Stream[Any] = engine.stream(lambda: Plain([1, 2])) if way == "dropped" else engine.stream(Feed([1, never]))
        await anext(probe)
        if way == "closed":
            await probe.aclose()
        elif way == "cancelled":
            with anyio.move_on_after(0):
                await anext(probe)
        with pytest.warns(ResourceWarning) if way == "dropped" else contextlib.nullcontext():
            del probe
        await anyio.lowlevel.checkpoint()

        assert [7] == await collected(engine.stream(Feed([7])))
        assert "closed" == breaker.era()

    async def test_slow_is_what_is_slow_to_its_first_item(self, world: World) -> None:
        breaker = CircuitBreaker(consecutive=1, failure_ratio=1, slow_after=5)
        engine = Engine([breaker], env=world.env)

        async def after(seconds: float) -> int:
            await world.sleep(seconds)
            return 1

        await collected(engine.stream(Feed([1, lambda: after(20)])))
        era = breaker.era()
        await collected(engine.stream(Feed([lambda: after(6), 2])))

        assert ("closed", "open") == (era, breaker.era())

    async def test_a_policy_of_ones_own_hears_how_it_ended(self, world: World) -> None:
        told: list[tuple[bool | None, type | None]] = []

        class Listener:
            def bind(self, inner: Any, env: Any) -> Any:
                async def listening(call: Any) -> Any:
                    outcome = await inner(call)
                    call.flow.at_end.append(lambda healthy, failure: told.append((healthy, failure and type(failure.error))))
                    return outcome

                return listening

        engine = Engine([Listener()], env=world.env)
        await collected(engine.stream(Feed([1])))
        await collected_until_error(engine.stream(Feed([1, ValueError()])))

        assert [(True, None), (None, ValueError)] == told

    async def test_everybody_hears_how_it_ended_even_if_one_of_them_makes_a_mistake(self, world: World) -> None:
        class Listener:
            def __init__(self, told: Callable[[object, object], None]) -> None:
                self.told = told

            def bind(self, inner: Any, env: Any) -> Any:
                async def listening(call: Any) -> Any:
                    outcome = await inner(call)
                    call.flow.at_end.append(self.told)
                    return outcome

                return listening

        def mistaken(*_: object) -> None:
            raise KeyError("mistake")

        heard: list[str] = []
        listeners = [Listener(lambda *_: heard.append("outer")), Listener(mistaken), Listener(lambda *_: heard.append("inner"))]
        engine, feed = Engine(listeners, env=world.env), Feed([1], [1, 2])
        items, error = await collected_until_error(engine.stream(feed))
        half_read = engine.stream(feed)
        await anext(half_read)
        with pytest.raises(KeyError):
            await half_read.aclose()

        assert ([1], KeyError) == (items, type(error))
        assert (["inner", "outer"] * 2, 2) == (heard, feed.closed)

    @pytest.mark.parametrize("then", ["raises", "fails"])
    async def test_a_policy_that_will_not_have_what_has_begun_leaves_nothing_open(self, world: World, then: str) -> None:
        class Strict:
            def bind(self, inner: Any, env: Any) -> Any:
                async def strict(call: Any) -> Any:
                    first = await inner(call)
                    if then == "raises":
                        raise KeyError("mistake")
                    if first == "good":
                        return first
                    return Failure(Verdict(Action.RETRY), Signal(), error=OSError("not good enough"))

                return strict

        closed: list[SdkStream] = []
        breaker = CircuitBreaker(slow_after=5)
        opened = [SdkStream(Feed([item])) for item in ("bad", "bad", "bad" if then == "raises" else "good")]
        sources = iter(opened)
        engine = Engine([RETRY, Strict(), breaker], env=world.env)
        with contextlib.suppress(KeyError):
            await collected(engine.stream(lambda: next(sources)))
        closed = [source for source in opened if source.closed]

        assert (1 if then == "raises" else 3) == len(closed)
        era = breaker._circuits.find(None, world.now).closed
        assert era is not None
        assert ({}, (0, 0 if then == "raises" else 1)) == (era.flight, era.window.counts())

    async def test_while_nobody_has_to_know_no_item_costs_a_look_at_the_clock(self, world: World) -> None:
        looks = 0

        def now() -> float:
            nonlocal looks
            looks += 1
            return world.now

        stream = Engine([RETRY, CircuitBreaker()], env=attrs.evolve(world.env, now=now)).stream(Feed(list(range(100))))
        await anext(stream)
        before = looks
        for _ in range(98):
            await anext(stream)

        assert before == looks
        await stream.aclose()


class TestBetweenItems:
    async def test_the_running_call_is_seen_by_the_source_and_not_by_the_consumer(self, world: World) -> None:
        seen = []

        async def source() -> AsyncIterator[int]:
            for item in range(3):
                seen.append(current().attempt)
                yield item

        async for _ in Engine([], env=world.env).stream(source):
            with pytest.raises(LookupError):
                current()

        assert [1, 1, 1] == seen

    async def test_a_variable_that_the_source_sets_is_there_in_its_next_item_as_without_an_engine(self, world: World) -> None:
        variable = contextvars.ContextVar("variable", default="unset")

        async def source() -> AsyncIterator[str]:
            for value in "abc":
                yield variable.get()
                variable.set(value)

        bare = [item async for item in source()]
        variable.set("unset")

        assert bare == await collected(Engine([Deadline(60), RETRY], env=world.env).stream(source))

    async def test_a_call_around_the_consumer_stays_the_running_one(self, world: World) -> None:
        engine = Engine([], env=world.env)

        @engine
        async def consumer() -> list[bool]:
            outer = current()
            return [current() is outer async for _ in Engine([], name="inner", env=world.env).stream(Feed([1, 2]))]

        assert [True, True] == await consumer()

    async def test_an_engine_around_it_shares_its_repeats(self, world: World) -> None:
        """D9."""
        feed = Feed(*[[ConnectionError()] for _ in range(9)])
        outer = Engine([RETRY], env=world.env)

        @outer
        async def consumer() -> list[Any]:
            return await collected(Engine([RETRY], name="inner", env=world.env).stream(feed))

        with pytest.raises(ConnectionError):
            await consumer()

        assert 3 == feed.opened

    async def test_a_half_read_stream_may_be_closed_by_another_task(self, world: World) -> None:
        """B39."""
        feed = Feed([1, 2, 3])
        stream = Engine([Deadline(60), RETRY, CircuitBreaker()], env=world.env).stream(feed)
        async with anyio.create_task_group() as group:
            group.start_soon(anext, stream)
        async with anyio.create_task_group() as group:
            group.start_soon(stream.aclose)

        assert (1, []) == (feed.closed, await collected(stream))
        assert ["call.succeeded"] == world.names()

    async def test_a_task_that_waits_for_an_item_is_told_that_another_has_closed_the_stream(self, world: World) -> None:
        async def never() -> None:
            await anyio.sleep_forever()

        feed = Feed([1, never])
        stream = Engine([RETRY], env=world.env).stream(feed)
        await anext(stream)
        errors: list[Exception] = []

        async def reading() -> None:
            try:
                await anext(stream)
            except Exception as error:
                errors.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(reading)
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError):
                await anext(stream)
            await stream.aclose()

            assert 1 == feed.closed

        assert [anyio.ClosedResourceError] == [type(error) for error in errors]
        assert [] == await collected(stream)

    async def test_closing_it_while_it_waits_between_attempts_ends_it(self, world: World) -> None:
        feed = Feed([ConnectionError()], [1])
        stream = Engine([Retry(backoff=Constant(3600))], env=World(patience=60).env).stream(feed)
        async with anyio.create_task_group() as group:

            async def reading() -> None:
                with pytest.raises(anyio.ClosedResourceError):
                    await anext(stream)

            group.start_soon(reading)
            await anyio.wait_all_tasks_blocked()
            await stream.aclose()

        assert 1 == feed.opened

    async def test_a_cancelled_consumer_closes_the_source_and_is_no_failure(self, world: World) -> None:
        async def never() -> None:
            await anyio.sleep_forever()

        feed = Feed([1, never])
        stream = Engine([RETRY], env=world.env).stream(feed)
        with anyio.CancelScope() as scope:
            async for _ in stream:
                scope.cancel()

        assert scope.cancelled_caught
        assert (1, []) == (feed.closed, world.names("attempt", "retry"))

    async def test_breaking_out_of_a_block_closes_it(self, world: World) -> None:
        feed = Feed([1, 2, 3])
        async with Engine([RETRY], env=world.env).stream(feed) as items:
            async for _ in items:
                break

        assert 1 == feed.closed
        assert ["call.succeeded"] == world.names()

    async def test_nothing_is_kept_of_items_nor_left_for_the_collector(self, world: World) -> None:
        class Item:
            alive = 0

            def __init__(self) -> None:
                Item.alive += 1

            def __del__(self) -> None:
                Item.alive -= 1

        async def source() -> AsyncIterator[Item]:
            for _ in range(100):
                yield Item()

        gc.collect()
        gc.disable()
        try:
            most = 0
            async for _ in Engine([RETRY, CircuitBreaker()], env=world.env).stream(source):
                most = max(most, Item.alive)
            del _

            assert 2 >= most
            assert 0 == Item.alive
        finally:
            gc.enable()


class TestClosing:
    """B15, B39, B65: at any time, by anybody, and for good."""

    async def test_it_is_closed_even_if_an_item_comes_in_that_moment(self, world: World) -> None:
        came = anyio.Event()

        async def coming() -> int:
            await came.wait()
            return 2

        feed = Feed([1, coming, 3])
        stream = Engine([RETRY], env=world.env).stream(feed)
        async with reading(stream) as ended:
            came.set()
            await stream.aclose()

            assert 1 == feed.closed
        assert [([1], anyio.ClosedResourceError)] == ended

    @pytest.mark.parametrize("then", ["ends", "goes on"])
    async def test_it_is_closed_even_if_the_source_will_not_be_cancelled(self, world: World, then: str) -> None:
        """Whoever reads must not take that for the end of the stream."""

        class Stubborn(SdkStream):
            async def __anext__(self) -> int:
                try:
                    return await anext(self.items)
                except BaseException:
                    if then == "ends":
                        raise StopAsyncIteration from None
                    return 2

            def __aiter__(self) -> Stubborn:
                return self

        source = Stubborn(Feed([1, anyio.sleep_forever]))
        stream = Engine([RETRY], env=world.env).stream(lambda: source)
        async with reading(stream) as ended:
            await stream.aclose()

            assert 1 == source.closed
        assert [([1], anyio.ClosedResourceError)] == ended
        assert [] == await collected(stream)

    @pytest.mark.parametrize("shield", [False, True])
    async def test_a_source_that_closes_its_own_stream_does_not_wait_for_itself(self, world: World, shield: bool) -> None:
        async def source() -> AsyncIterator[int]:
            yield 1
            with anyio.CancelScope(shield=shield):
                await stream.aclose()
            yield 2

        stream = Engine([RETRY], env=world.env).stream(source)
        items, error = await collected_until_error(stream)

        assert ([1], anyio.ClosedResourceError) == (items, type(error))

    async def test_whoever_closes_it_a_second_time_waits_until_it_is_closed(self, world: World) -> None:
        done: list[str] = []

        async def source() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                await world.sleep(0.5)
                done.append("source")

        stream = Engine([RETRY], env=world.env).stream(source)
        await anext(stream)

        async def close() -> None:
            await stream.aclose()
            done.append("closed")

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(close)

        assert ["source", "closed", "closed", "closed"] == done

    async def test_another_event_loop_cannot_close_it_under_the_hands_of_a_reader_and_is_told_so(self, world: World) -> None:
        feed = Feed([1, anyio.sleep_forever])
        stream = Engine([RETRY], env=world.env).stream(feed)
        async with reading(stream):
            with pytest.raises(RuntimeError, match="http: a task of another event loop waits for an item of the stream; close it there"):
                await anyio.to_thread.run_sync(anyio.run, stream.aclose)
            await stream.aclose()

        assert 1 == feed.closed

    async def test_the_call_still_runs_while_its_source_closes(self, world: World) -> None:
        attempts = []

        async def source() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                attempts.append(current().attempt)

        stream = Engine([RETRY], env=world.env).stream(source)
        await anext(stream)
        await stream.aclose()

        assert [1] == attempts

    @pytest.mark.parametrize("managed", [False, True])
    @pytest.mark.parametrize("how", ["raise", "hang"])
    async def test_everything_is_let_go_even_if_the_items_would_not_be_closed(self, world: World, how: str, managed: bool) -> None:
        """What is around them holds the connection."""
        left: list[str] = []

        class Items(Plain):
            async def aclose(self) -> None:
                if how == "raise":
                    raise OSError
                await anyio.sleep_forever()

        class Held:
            def __aiter__(self) -> Items:
                return Items([1, 2])

            async def aclose(self) -> None:
                left.append("held")

        class Managed:
            async def __aenter__(self) -> Held:
                return Held()

            async def __aexit__(self, *_: object) -> None:
                left.append("manager")

        stream = Engine([RETRY], env=world.env).stream(Managed if managed else Held)
        await anext(stream)
        await stream.aclose()

        assert ["manager" if managed else "held"] == left
        assert (1.0 if how == "hang" else 0.0) == world.now

    @natively
    async def test_a_task_that_is_cancelled_while_it_closes_lets_go_of_everything(self, world: World) -> None:
        left: list[str] = []

        class Items(Plain):
            async def aclose(self) -> None:
                await anyio.sleep_forever()

        class Held:
            def __aiter__(self) -> Items:
                return Items([1, 2])

            async def aclose(self) -> None:
                left.append("held")

        stream = Engine([RETRY], env=world.env).stream(Held)
        await anext(stream)
        task = asyncio.ensure_future(stream.aclose())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])

        assert (["held"], True, ["call.succeeded"]) == (left, task.cancelled(), world.names())

    async def test_a_step_that_is_thrown_away_waits_for_nothing(self, world: World) -> None:
        """As a coroutine that nobody awaits any more is: it must not go on to close the source, for nobody would wait for that."""

        @types.coroutine
        def suspended() -> Iterator[None]:
            yield

        class Slow(Plain):
            async def __anext__(self) -> Any:
                if self.items == [2]:
                    await suspended()
                return await super().__anext__()

            async def aclose(self) -> None:
                await suspended()

        stream = Engine([RETRY], env=world.env).stream(lambda: Slow([1, 2]))
        await anext(stream)
        step = stream.__anext__()
        step.send(None)
        step.close()

        assert [] == await collected(stream)

    async def test_a_generator_that_has_come_to_its_end_costs_no_shield(self, world: World) -> None:
        shields = []

        def cutoff(seconds: float, *, shield: bool = False) -> Cutoff:
            shields.append(shield)
            return world.env.cutoff(seconds, shield=shield)

        engine = Engine([Retry(backoff=Constant(0))], env=attrs.evolve(world.env, cutoff=cutoff))
        await collected(engine.stream(Feed([1])))
        assert [] == shields
        half_read = engine.stream(Feed([1]))
        await anext(half_read)
        await half_read.aclose()

        assert [True] == shields

    async def test_what_is_closed_lets_go_of_what_it_was_given(self, world: World) -> None:
        class Thing:
            pass

        thing = Thing()
        watch = weakref.ref(thing)
        stream = Engine([RETRY], env=world.env).stream(Feed([1]), thing)
        await stream.aclose()
        del thing

        assert watch() is None


@contextlib.asynccontextmanager
async def reading(stream: Stream[Any]) -> AsyncIterator[list[tuple[list[Any], type[Exception]]]]:
    """While another task waits for an item of *stream*; what that has come to."""
    ended: list[tuple[list[Any], type[Exception]]] = []

    async def read() -> None:
        items, error = await collected_until_error(stream)
        ended.append((items, type(error)))

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.wait_all_tasks_blocked()
        yield ended


class Steps:
    """A context manager around a source; each of its parts takes some steps, so that it can be cancelled at any of them."""

    def __init__(self, log: list[str], breaks_at: int | None) -> None:
        self.log = log
        self.breaks_at = breaks_at
        self.items = 0

    async def __aenter__(self) -> AsyncIterator[int]:
        await anyio.lowlevel.checkpoint()
        self.log.append("entered")
        return _Stepping(self)

    async def __aexit__(self, *_: object) -> None:
        try:
            await anyio.lowlevel.checkpoint()
        finally:
            self.log.append("left")


class _Stepping:
    def __init__(self, steps: Steps) -> None:
        self.steps = steps

    def __aiter__(self) -> _Stepping:
        return self

    async def __anext__(self) -> int:
        await anyio.lowlevel.checkpoint()
        if self.steps.items == self.steps.breaks_at:
            raise ConnectionError
        self.steps.items += 1
        if self.steps.items > 2:
            raise StopAsyncIteration
        return self.steps.items


class TestCancelledAtAnyStep:
    """D10, B3, B5: opening, waiting, between two attempts, while it closes."""

    @pytest.mark.parametrize("breaks_at", [None, 0, 1])
    @pytest.mark.parametrize("resume", [None, "restart"])
    @pytest.mark.parametrize("probing", [False, True])
    async def test_by_a_scope(self, breaks_at: int | None, resume: Literal["restart"] | None, probing: bool) -> None:
        for step in range(99):
            stream, check = await self.begun(breaks_at, resume, probing)
            scope = anyio.CancelScope()
            over: list[bool] = []

            async def read(stream: Stream[int] = stream, scope: anyio.CancelScope = scope, over: list[bool] = over) -> None:
                with scope, contextlib.suppress(ConnectionError):
                    await collected(stream)
                over.append(scope.cancelled_caught)

            async with anyio.create_task_group() as group:
                group.start_soon(read)
                for _ in range(step):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()
            check(stream)
            if over == [False]:
                break
        else:
            raise AssertionError("it never came to its end")

    @natively
    @pytest.mark.parametrize("breaks_at", [None, 0, 1])
    @pytest.mark.parametrize("resume", [None, "restart"])
    @pytest.mark.parametrize("probing", [False, True])
    async def test_natively(self, breaks_at: int | None, resume: Literal["restart"] | None, probing: bool) -> None:
        for step in range(99):
            stream, check = await self.begun(breaks_at, resume, probing)
            task = asyncio.ensure_future(collected(stream))
            for _ in range(step):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if step:
                check(stream)
            if not task.cancelled():
                task.exception()
                break
        else:
            raise AssertionError("it never came to its end")

    async def begun(
        self, breaks_at: int | None, resume: Literal["restart"] | None, probing: bool
    ) -> tuple[Stream[int], Callable[[Stream[int]], None]]:
        """A stream to be cancelled, and what must hold of it after that."""
        world, log = World(), list[str]()
        breaker = CircuitBreaker(consecutive=1 if probing else 9, failure_ratio=1, cooldown=1, probes=2, lease=60)
        engine = Engine([Deadline(60), Retry(backoff=Constant(0)), breaker, StreamTimeout(first_item=20, idle=20)], env=world.env)
        if probing:
            await collected_until_error(engine.using(attempts=1).stream(Feed([ConnectionError()])))
            await world.sleep(2)

        def check(stream: Stream[int]) -> None:
            assert log.count("entered") == log.count("left")
            era = breaker._circuits.find(None, world.now).era
            if isinstance(era, HalfOpen):
                assert (2, {}) == (era.left + era.passed, era.flight)
            call = stream._call
            if call is not None:
                assert call.flow is not None
                assert (True, True, [], None) == (stream._over, call.ended, call.flow.at_end, stream._reading)

        return engine.using(resume=resume).stream(lambda: Steps(log, breaks_at)), check


class TestGarbage:
    """D34, B62: no end leaves anything to the collector, and a stream keeps alive what it needs, no longer than that."""

    async def test_no_way_to_end_leaves_a_cycle_behind(self, world: World) -> None:
        plain = Engine(env=world.env)
        full = Engine([Deadline(900), RETRY, CircuitBreaker(minimum=10**9), StreamTimeout(first_item=3, idle=5)], env=world.env)
        engines = [plain, full, full.using(resume="restart")]

        async def slowly() -> int:
            await world.sleep(9)
            return 1

        def feed(*plays: list[Any]) -> Callable[[], AsyncIterator[Any]]:
            """Fresh errors: one that is kept would be in a cycle of the test's own making."""
            left = iter(plays)

            async def fed() -> AsyncIterator[Any]:
                for item in next(left):
                    if isinstance(item, type):
                        raise item
                    yield await item() if callable(item) else item

            return fed

        async def read(stream: Stream[Any]) -> None:
            with contextlib.suppress(Exception):
                async for _ in stream:
                    pass

        async def close(stream: Stream[Any]) -> None:
            await anext(stream)
            await stream.aclose()

        async def close_under_the_reader(stream: Stream[Any]) -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(read, stream)
                await world.sleep(1)
                await stream.aclose()

        async def drop(stream: Stream[Any]) -> None:
            await anext(stream)

        async def cancel(stream: Stream[Any]) -> None:
            with world.env.cutoff(1):
                await read(stream)

        ways: list[Callable[[Engine], Awaitable[None]]] = [
            lambda engine: read(engine.stream(feed([1, 2]))),
            lambda engine: read(engine.stream(feed([]))),
            lambda engine: read(engine.stream(feed([ValueError]))),
            lambda engine: read(engine.stream(feed([ConnectionError], [ConnectionError], [1, 2]))),
            lambda engine: read(engine.stream(feed([ConnectionError], [ConnectionError], [ConnectionError]))),
            lambda engine: read(engine.stream(feed([1, ConnectionError], [1, ConnectionError], [1, ConnectionError]))),
            lambda engine: read(engine.stream(feed([1, ConnectionError], [1, ValueError]))),
            lambda engine: read(engine.stream(feed([slowly], [slowly], [slowly]))),
            lambda engine: read(engine.stream(feed([1, slowly], [1, slowly], [1, slowly]))),
            lambda engine: read(engine.stream(lambda: ManagedFeed(Feed([1, 2])))),
            lambda engine: close(engine.stream(feed([1, 2]))),
            lambda engine: close_under_the_reader(engine.stream(feed([1, slowly]))),
            lambda engine: cancel(engine.stream(feed([slowly]))),
            lambda engine: cancel(engine.stream(feed([1, slowly]))),
            lambda engine: drop(engine.stream(lambda: SelfClosing([1, 2]))),
        ]

        async def each_once() -> None:
            for engine in engines:
                for way in ways:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore", ResourceWarning)
                        await way(engine)

        await each_once()
        gc.disable()
        gc.collect()
        gc.freeze()  # what is there already is not looked at again
        try:
            for _ in range(5):
                await each_once()

            assert 0 == gc.collect()
        finally:
            gc.unfreeze()
            gc.enable()

    async def test_an_error_that_was_repeated_after_is_gone_once_items_come(self, world: World) -> None:
        """The stream may go on for hours."""
        watches = []

        class Failed(ConnectionError):
            pass

        async def source() -> AsyncIterator[int]:
            if current().attempt == 1:
                error = Failed()
                watches.append(weakref.ref(error))
                try:
                    raise error
                finally:
                    del error
            yield 1
            yield 2

        gc.disable()
        try:
            stream = Engine([RETRY], env=world.env).stream(source)
            await anext(stream)

            assert [None] == [watch() for watch in watches]
            await stream.aclose()
        finally:
            gc.enable()

    async def test_once_it_has_ended_it_keeps_no_item(self, world: World) -> None:
        class Item:
            pass

        watches: list[weakref.ref[Item]] = []

        async def source() -> AsyncIterator[Item]:
            for _ in range(3):
                item = Item()
                watches.append(weakref.ref(item))
                yield item
                del item

        def rest(_: Progress) -> AsyncIterator[Item]:
            return source()

        stream = Engine([RETRY], env=world.env).using(resume=rest, keep_items=True).stream(source)
        async for _ in stream:
            pass
        del _

        assert [None] * 3 == [watch() for watch in watches]
        assert 3 == stream.delivered


class SelfClosing(Plain):
    """Nothing to close."""


def _same(source: AsyncIterator[Any]) -> AsyncIterator[Any]:
    return source


class ManagedFeed:
    """What a client's ``stream(...)`` gives: a context manager around the items."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.left: list[Any] = []

    async def __aenter__(self) -> AsyncIterator[Any]:
        return self.feed()

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.left.append(kind)


class Transaction:
    """What rolls back if it is told of an error, and commits if not."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.told: list[Any] = []

    async def __aenter__(self) -> AsyncIterator[Any]:
        return self.feed()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: object) -> None:
        assert kind is (None if error is None else type(error))
        self.told.append(kind)
        if error is not None:
            raise error


class SdkStream:
    """What an SDK's ``create(stream=True)`` returns: iterable once, with a ``close`` to await."""

    def __init__(self, feed: Feed) -> None:
        self.items = feed()
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[Any]:
        return self.items

    async def close(self) -> None:
        self.closed += 1


class TestSources:
    async def test_a_coroutine_function_that_returns_a_stream(self, world: World) -> None:
        feed, opened = Feed([ConnectionError()], [1, 2]), []

        async def create(model: str) -> SdkStream:
            opened.append(SdkStream(feed))
            return opened[-1]

        assert [1, 2] == await collected(Engine([RETRY], env=world.env).stream(create, "m"))
        assert [1, 1] == [stream.closed for stream in opened]

    async def test_a_context_manager_around_a_stream(self, world: World) -> None:
        feed, opened = Feed([1, ConnectionError()], [1, 2]), []

        def stream() -> ManagedFeed:
            opened.append(ManagedFeed(feed))
            return opened[-1]

        assert [1, 1, 2] == await collected(Engine([RETRY], env=world.env).using(resume="restart").stream(stream))
        assert [[ConnectionError], [None]] == [one.left for one in opened]

    async def test_a_context_manager_that_has_to_be_awaited_first(self, world: World) -> None:
        @contextlib.asynccontextmanager
        async def opening() -> AsyncIterator[AsyncIterator[int]]:
            yield Feed([1])()

        async def connect() -> Any:
            return opening()

        assert [1] == await collected(Engine([], env=world.env).stream(connect))

    @pytest.mark.parametrize(
        ("play", "settings", "error"),
        [
            ([1, 2], {}, None),
            ([1, ConnectionError()], {}, ConnectionError),
            ([1, anyio.sleep_forever], {"idle": 5}, AttemptTimedOut),
            ([anyio.sleep_forever], {"first_item": 5}, AttemptTimedOut),
            ([1, {"error": "overloaded"}], {}, StreamFailed),
        ],
        ids=["end", "error", "idle", "slow", "error event"],
    )
    async def test_a_context_manager_hears_of_what_broke_its_items(
        self, world: World, play: list[Any], settings: dict[str, Any], error: type[Exception] | None
    ) -> None:
        """It may hold a transaction: one that hears of nothing commits."""
        transaction = Transaction(Feed(play))
        policies = [StreamTimeout(**settings)] if settings else []
        with contextlib.nullcontext() if error is None else pytest.raises(error):
            await collected(Engine(policies, rules=BUSY, env=world.env).stream(lambda: transaction))

        assert [error] == transaction.told

    async def test_it_hears_of_a_cancellation(self, world: World) -> None:
        transaction = Transaction(Feed([1, anyio.sleep_forever]))
        with world.env.cutoff(1):
            await collected(Engine([RETRY], env=world.env).stream(lambda: transaction))

        assert [anyio.get_cancelled_exc_class()] == transaction.told

    async def test_it_hears_of_an_error_in_the_block_that_reads_and_of_nothing_where_that_is_left_early(self, world: World) -> None:
        """As it would without an engine."""
        transaction = Transaction(Feed([1, 2], [1, 2]))
        engine = Engine([RETRY, CircuitBreaker(consecutive=1, failure_ratio=1)], env=world.env)
        with contextlib.suppress(ValueError):
            async with engine.stream(lambda: transaction) as items:
                async for _ in items:
                    raise ValueError("the consumer's own")
        async with engine.stream(lambda: transaction) as items:
            async for _ in items:
                break

        assert [ValueError, None] == transaction.told
        assert ["call.succeeded"] * 2 == world.names()

    async def test_what_has_items_but_can_only_be_closed_as_a_context_manager_is_used_as_one(self, world: World) -> None:
        class Both(Plain):
            state = "new"

            async def __aenter__(self) -> Self:
                self.state = "open"
                return self

            async def __aexit__(self, *_: object) -> None:
                self.state = "closed"

        class Closed(Both):
            async def aclose(self) -> None:
                self.state = "closed by itself"

        engine, states = Engine([RETRY], env=world.env), []
        for kind in (Both, Closed):
            source = kind([1, 2])
            async with engine.stream(functools.partial(_same, source)) as items:
                await anext(items)
                states.append(source.state)
            states.append(source.state)

        assert ["open", "closed", "new", "closed by itself"] == states

    async def test_what_cannot_be_called_is_refused_at_once(self, world: World) -> None:
        """D24."""
        engine: Any = Engine([], env=world.env)

        async def one() -> int:
            return 1

        for wrong in (one(), Feed([1])(), None, 42):
            with pytest.raises(TypeError, match=r"engine.stream: got .*; pass the function: engine.stream\(fn, arg\), not fn\(arg\)"):
                engine.stream(wrong)

    async def test_what_has_no_items_is_a_mistake_and_says_so(self, world: World) -> None:
        async def one() -> int:
            return 1

        with pytest.raises(TypeError, match="one: returned int, which has no items to await"):
            await collected(Engine([RETRY], env=world.env).stream(one))  # type: ignore[arg-type]

    async def test_a_source_dropped_half_read_that_does_not_close_itself_is_warned_of(self, world: World) -> None:
        async def create() -> Plain:
            return Plain([1, 2])

        stream = Engine([], env=world.env).stream(create)
        await anext(stream)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            del stream

        assert ["a stream was dropped before its end"] == [str(one.message).partition(": ")[2].partition(";")[0] for one in told]

    async def test_a_source_that_will_not_close_takes_no_longer_than_a_second(self, world: World) -> None:
        async def stubborn() -> AsyncIterator[int]:
            try:
                yield 1
            finally:
                await anyio.sleep_forever()

        stream = Engine([], env=world.env).stream(stubborn)
        await anext(stream)
        await stream.aclose()

        assert 1.0 == world.now


class TestDecorated:
    async def test_an_async_generator_function_becomes_a_function_of_streams(self, world: World) -> None:
        """B37: never silently inert."""
        engine = Engine([RETRY], env=world.env)
        attempts = []

        @engine
        async def tokens(prompt: str, *, upper: bool = False) -> AsyncIterator[str]:
            """Say it."""
            attempts.append(prompt)
            if len(attempts) == 1:
                raise ConnectionError
            yield prompt.upper() if upper else prompt

        stream = tokens("hi", upper=True)

        assert ("tokens", "Say it.", ["prompt", "upper"]) == (tokens.__name__, tokens.__doc__, list(inspect.signature(tokens).parameters))
        assert ["HI"] == await collected(stream)
        assert ["hi", "hi"] == attempts

    async def test_so_does_a_method(self, world: World) -> None:
        engine = Engine([RETRY], env=world.env)

        class Bot:
            name = "bot"

            @engine
            async def says(self) -> AsyncIterator[str]:
                yield self.name

            @engine
            @staticmethod
            async def nothing() -> AsyncIterator[str]:
                return
                yield ""

        assert (["bot"], []) == (await collected(Bot().says()), await collected(Bot.nothing()))

    async def test_a_plain_function_that_says_it_returns_an_iterator_does_too(self, world: World) -> None:
        @Engine([RETRY], env=world.env)
        def numbers() -> AsyncIterator[int]:
            return Feed([1, 2])()

        assert [1, 2] == await collected(numbers())

    @pytest.mark.parametrize("annotation", ["dict[str, AsyncIterator[int]]", "Callable[[], AsyncIterator[int]]", "int"])
    def test_one_that_returns_something_around_an_iterator_is_refused(self, annotation: str) -> None:
        """B37."""

        def around() -> Any: ...

        around.__annotations__["return"] = annotation

        with pytest.raises(TypeError, match="is a sync function"):
            Engine([])(around)

    def test_a_function_that_makes_a_context_manager_is_refused(self) -> None:
        """B37: who enters it wants what it gives, and would get a stream."""

        @contextlib.asynccontextmanager
        async def connect() -> AsyncIterator[str]:
            yield "connection"

        with pytest.raises(TypeError, match=r"connect: makes a context manager; for the items in there use engine.stream\(connect\)"):
            Engine([])(connect)  # type: ignore[arg-type]

    def test_a_class_is_no_function_that_yields_although_its_objects_may_be(self) -> None:
        assert (False, True) == (yields(Feed), yields(Feed([1])))

    async def test_a_view_decorates_and_streams_like_its_engine(self, world: World) -> None:
        view = Engine([RETRY], env=world.env).using(resume="restart", operation="feed")
        feed = Feed([1, ConnectionError()], [1, 2])

        @view
        async def numbers() -> AsyncIterator[int]:
            async for item in feed():
                yield item

        assert [1, 1, 2] == await collected(numbers())
        assert {"feed"} == {event.operation for event in world.events}

    async def test_each_call_is_a_stream_of_its_own(self, world: World) -> None:
        @Engine([CircuitBreaker()], env=world.env)
        async def numbers() -> AsyncIterator[int]:
            yield 1
            yield 2

        first, second = numbers(), numbers()

        assert [1, 1, 2, 2] == [await anext(first), await anext(second), await anext(first), await anext(second)]
        await first.aclose()
        await second.aclose()


async def test_an_outermost_limit_of_the_caller_s_own_is_never_taken_for_ours(world: World) -> None:
    """D10."""
    cutoff: Callable[..., Any] = world.env.cutoff

    async def never() -> None:
        await anyio.sleep_forever()

    stream = Engine([RETRY, StreamTimeout(idle=60)], env=world.env).stream(Feed([1, never]))
    with cutoff(3) as scope:
        await collected(stream)

    assert (True, 1, 3.0) == (scope.cancelled_caught, stream.delivered, world.now)
    assert [] == world.names("attempt", "retry")
