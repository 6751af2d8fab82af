"""Streams: repeated until there is a first item, honest after that (D12), and nothing held between two items."""

from __future__ import annotations

import contextlib
import gc
import inspect
import pickle
import warnings
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilience import (
    AttemptTimedOut,
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Constant,
    Deadline,
    DeadlineExceeded,
    Engine,
    IdempotencyKey,
    Progress,
    RefreshToken,
    Retry,
    Signal,
    Stream,
    StreamFailed,
    StreamTimeout,
    current,
    history,
    retry,
)
from resilience.dialects import http
from resilience.events import AttemptFailed, DeadlineHit, RetryGaveUp
from resilience.testing import World

pytestmark = pytest.mark.anyio

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


class ManagedFeed:
    """What a client's ``stream(...)`` gives: a context manager around the items."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.left: list[Any] = []

    async def __aenter__(self) -> AsyncIterator[Any]:
        return self.feed()

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.left.append(kind)


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
