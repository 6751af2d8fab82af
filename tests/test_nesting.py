"""
A function under one engine that uses a client under another is the normal set-up (D9).

The two share the repeats, the deadline and the refresh of the outermost call; first tries are free; and what an engine further in has
decided for good no engine around it undoes.
"""

from __future__ import annotations

import functools
import math
import pickle
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilience import (
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Constant,
    Deadline,
    DeadlineExceeded,
    Engine,
    IdempotencyKey,
    RefreshToken,
    Retry,
    current,
    fail_fast,
    history,
    retry,
)
from resilience.dialects import http
from resilience.events import EngineNested, RetryGaveUp
from resilience.testing import World, script

pytestmark = pytest.mark.anyio


@attrs.define(slots=False)
class Response:
    status_code: int
    headers: dict[str, str] = attrs.field(factory=dict)

    def raise_for_status(self) -> Response:
        if self.status_code >= 400:
            raise StatusError(self)
        return self


class StatusError(Exception):
    """As clients raise it: it has the response, and was not raised by the engine."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.status_code}")
        self.response = response


@pytest.fixture
def inner(world: World) -> Engine:
    return Engine([Retry(attempts=3, backoff=Constant(1))], env=world.env, name="inner")


@pytest.fixture
def outer(world: World) -> Engine:
    return Engine([Retry(attempts=3, backoff=Constant(1))], env=world.env, name="outer")


async def caught(awaitable: Awaitable[Any]) -> Exception:
    try:
        value = await awaitable
    except Exception as error:
        return error
    pytest.fail(f"came back with {value!r}")


class TestRepeats:
    async def test_three_by_three_makes_three_tries(self, outer: Engine, inner: Engine, world: World) -> None:
        fetch = script(*[ConnectionError] * 9)

        @outer
        async def list_bots() -> None:
            await inner.call(fetch)

        error = await caught(list_bots())

        assert isinstance(error, ConnectionError)
        assert (3, 2) == (fetch.calls, len(world.slept))

    async def test_every_try_is_in_the_history(self, outer: Engine, inner: Engine) -> None:
        """D11: what an engine around adds is no try of its own, and hides none."""
        fetch = script(*[ConnectionError] * 9)

        error = await caught(outer.call(inner.call, fetch))

        assert [1, 2, 3] == [tried.attempt for tried in history(error)]

    @pytest.mark.parametrize("error", [ConnectionError, ConnectionError("one instance for all")], ids=["new", "same"])
    async def test_repeats_from_outside_add_theirs(self, world: World, outer: Engine, error: Any) -> None:
        inner = Engine([Retry(attempts=2)], env=world.env, name="inner")
        fetch = script(Response(503), error, error, error)

        async def get() -> Response:
            response: Response = await inner.call(fetch)
            return response.raise_for_status()

        came = await caught(outer.call(get))

        assert [(1, "Response"), (2, "ConnectionError"), (1, "ConnectionError")] == [
            (tried.attempt, tried.error) for tried in history(came)
        ]

    async def test_of_a_group_every_leafs_tries_are(self, outer: Engine, inner: Engine) -> None:
        async def both() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(inner.using(repeatable=False).call, script(ConnectionError()))
                tasks.start_soon(inner.call, script(ValueError()))

        error = await caught(outer.call(both))

        assert {"ConnectionError", "ValueError"} == {tried.error for tried in history(error)}

    @pytest.mark.parametrize(("outer_attempts", "inner_attempts", "tries"), [(5, 2, 5), (2, 5, 2), (1, 3, 1), (3, 1, 3), (1, 1, 1)])
    async def test_the_outermost_calls_repeats_are_all_there_are(
        self, world: World, outer_attempts: int, inner_attempts: int, tries: int
    ) -> None:
        fetch = script(*[ConnectionError] * 9)
        outer = Engine([Retry(attempts=outer_attempts)], env=world.env, name="outer")
        inner = Engine([Retry(attempts=inner_attempts)], env=world.env, name="inner")

        await caught(outer.call(inner.call, fetch))

        assert tries == fetch.calls

    async def test_three_deep_they_do_not_multiply_either(self, world: World) -> None:
        fetch = script(*[ConnectionError] * 27)
        engines = [Engine([Retry(attempts=3)], env=world.env, name=f"engine {depth}") for depth in range(3)]

        await caught(engines[0].call(lambda: engines[1].call(engines[2].call, fetch)))

        assert 3 == fetch.calls

    async def test_an_engine_in_itself_is_nested_all_the_same(self, outer: Engine) -> None:
        fetch = script(*[ConnectionError] * 9)

        await caught(outer.call(outer.call, fetch))

        assert 3 == fetch.calls

    async def test_one_in_itself_is_nothing_to_warn_of(self, world: World, outer: Engine) -> None:
        """A client's engine around a stream of that client, say."""
        await outer.using(operation="all of it").call(outer.call, script("ok"))

        assert [] == world.told(EngineNested)

    async def test_first_tries_are_free(self, outer: Engine, inner: Engine) -> None:
        fetch = script(1, 2, 3, 4, 5)

        @outer
        async def sum_of_five() -> int:
            return sum([await inner.call(fetch) for _ in range(5)])

        assert 15 == await sum_of_five()

    async def test_repeats_are_shared_by_one_call_after_the_other(self, outer: Engine, inner: Engine) -> None:
        fetch = script(ConnectionError, "a", ConnectionError, "b", ConnectionError)

        @outer
        async def three() -> None:
            for _ in range(3):
                await inner.call(fetch)

        await caught(three())

        assert 5 == fetch.calls  # three first tries, and two repeats between them

    async def test_repeats_are_shared_by_calls_at_once(self, outer: Engine, inner: Engine) -> None:
        calls = 0

        async def fetch() -> None:
            nonlocal calls
            calls += 1
            raise ConnectionError

        async def quietly() -> None:
            await caught(inner.call(fetch))

        @outer
        async def ten() -> None:
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(quietly)

        await ten()

        assert 12 == calls

    async def test_an_outer_engine_without_retry_lets_the_inner_one_do_as_it_does(self, world: World, inner: Engine) -> None:
        fetch = script(*[ConnectionError] * 9)

        await caught(Engine([Deadline(60)], env=world.env, name="outer").call(inner.call, fetch))

        assert 3 == fetch.calls

    async def test_an_inner_engine_without_retry_is_repeated_from_outside(self, world: World, outer: Engine) -> None:
        fetch = script(ConnectionError, ConnectionError, "ok")

        assert "ok" == await outer.call(Engine(env=world.env, name="inner").call, fetch)

    @pytest.mark.parametrize("raises", [True, False])
    async def test_a_cap_of_the_inner_engines_rules_holds_outside_too(self, world: World, raises: bool) -> None:
        """A 500 that is to be tried twice in all is tried twice in all."""
        rules = http.RULES.extend("acme", by_status={500: retry(attempts=2)})
        fetch = script(*[Response(500)] * 9)
        inner, outer = (Engine([Retry(attempts=5)], rules=rules, env=world.env, name=name) for name in ("inner", "outer"))

        async def get() -> Response:
            response: Response = await inner.call(fetch)
            return response.raise_for_status() if raises else response

        try:
            await outer.call(get)
        except StatusError:
            pass

        assert 2 == fetch.calls


class TestWhateverTheTree:
    @pytest.mark.parametrize("anyio_backend", ["asyncio"], scope="module")  # loops count alike
    @settings(max_examples=40)
    @given(
        attempts=st.integers(1, 5),
        steps=st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.integers(1, 3)), min_size=1, max_size=4),
        fails=st.lists(st.booleans(), min_size=60, max_size=60),
    )
    async def test_all_repeats_together_are_those_of_the_outermost_call(
        self, attempts: int, steps: list[tuple[int, bool, int]], fails: list[bool]
    ) -> None:
        """Each step is a call through an engine with so many attempts of its own, caught or not, so many engines deep."""
        world = World()
        outcomes = iter(fails)
        asked = tries = rounds = 0

        async def fetch() -> None:
            nonlocal tries
            tries += 1
            if next(outcomes, False):
                raise ConnectionError

        async def around() -> None:
            nonlocal asked, rounds
            rounds += 1
            for number, (inner_attempts, catches, depth) in enumerate(steps):
                call: Callable[[], Awaitable[None]] = fetch
                for level in range(depth):
                    engine = Engine([Retry(attempts=inner_attempts)], env=world.env, name=f"{number}.{level}")
                    call = functools.partial(engine.call, call)
                asked += 1
                try:
                    await call()
                except ConnectionError:
                    if not catches:
                        raise

        try:
            await Engine([Retry(attempts=attempts)], env=world.env, name="outer").call(around)
        except ConnectionError:
            pass

        assert (tries - asked) + (rounds - 1) <= attempts - 1
        assert len(world.slept) == (tries - asked) + (rounds - 1)


class TestTheDeadline:
    async def test_is_shared(self, world: World, inner: Engine) -> None:
        seen = []

        async def fetch() -> None:
            seen.append(current().remaining)
            await world.sleep(2)
            raise ConnectionError

        outer = Engine([Deadline(4.5), Retry()], env=world.env, name="outer")
        error = await caught(outer.call(inner.call, fetch))

        assert [4.5, 1.5] == seen
        assert isinstance(error, DeadlineExceeded)
        assert 4.5 == world.now

    async def test_of_the_inner_engine_is_final_for_the_outer_one(self, world: World, outer: Engine) -> None:
        """It is a `TimeoutError` too, but says what it is."""
        fetch = script(world.takes(math.inf))

        error = await caught(outer.call(Engine([Deadline(2)], env=world.env, name="inner").call, fetch))

        assert isinstance(error, DeadlineExceeded)
        assert (1, 2.0) == (fetch.calls, world.now)

    async def test_of_an_inner_attempt_is_not(self, world: World, outer: Engine) -> None:
        fetch = script(world.takes(math.inf), "ok")

        assert "ok" == await outer.call(Engine([AttemptTimeout(2)], env=world.env, name="inner").call, fetch)

    async def test_the_inner_one_may_be_shorter(self, world: World) -> None:
        outer = Engine([Deadline(10)], env=world.env, name="outer")
        inner = Engine([Deadline(2)], env=world.env, name="inner")

        error = await caught(outer.call(inner.call, script(world.takes(math.inf))))

        assert isinstance(error, DeadlineExceeded)
        assert (2, 2.0) == (error.seconds, world.now)


class TestFinalDecisions:
    """What left an inner engine carries its decision; nothing further out repeats it."""

    async def test_an_unsafe_call_is_not_repeated(self, outer: Engine, inner: Engine, world: World) -> None:
        """D4: a POST that timed out may have charged somebody."""
        fetch = script(TimeoutError())

        await caught(outer.call(inner.using(method="POST").call, fetch))

        assert (1, []) == (fetch.calls, world.slept)
        assert ["unsafe", "unsafe"] == [event.reason for event in world.told(RetryGaveUp)]

    @pytest.mark.parametrize("raises", [True, False])
    async def test_nor_one_whose_response_is_raised_by_the_function_around_it(self, outer: Engine, inner: Engine, raises: bool) -> None:
        fetch = script(Response(503))

        async def pay() -> Response:
            response: Response = await inner.using(method="POST").call(fetch)
            return response.raise_for_status() if raises else response

        try:
            await outer.call(pay)
        except StatusError:
            pass

        assert 1 == fetch.calls

    async def test_nor_one_whose_error_was_wrapped_on_the_way(self, outer: Engine, inner: Engine) -> None:
        fetch = script(TimeoutError())

        async def pay() -> None:
            try:
                await inner.using(method="POST").call(fetch)
            except TimeoutError as error:
                raise ConnectionError("the bank is away") from error

        await caught(outer.call(pay))

        assert 1 == fetch.calls

    async def test_nor_one_whose_error_was_lost_on_the_way(self, outer: Engine, inner: Engine) -> None:
        """What the inner call has done is known without it."""
        fetch = script(TimeoutError())

        async def pay() -> None:
            try:
                await inner.using(method="POST").call(fetch)
            except TimeoutError:
                pass
            raise ConnectionError("something else")

        await caught(outer.call(pay))

        assert 1 == fetch.calls

    async def test_a_success_that_created_something_is_not_repeated_after_a_later_failure(self, outer: Engine, inner: Engine) -> None:
        pay = script("paid")
        tell = script(*[ConnectionError] * 9)

        async def pay_and_tell() -> None:
            await inner.using(method="POST").call(pay)
            await inner.using(attempts=1).call(tell)

        await caught(outer.call(pay_and_tell))

        assert (1, 1) == (pay.calls, tell.calls)

    async def test_a_success_that_did_no_harm_is(self, outer: Engine, inner: Engine) -> None:
        get = script("a", "a")
        tell = script(ConnectionError, "told")

        async def get_and_tell() -> str:
            await inner.using(method="GET").call(get)
            return await inner.using(attempts=1).call(tell)

        assert "told" == await outer.call(get_and_tell)
        assert (2, 2) == (get.calls, tell.calls)

    @pytest.mark.parametrize("said", ["outside", "inside"])
    async def test_unless_the_user_says_that_it_may_be_repeated(self, outer: Engine, inner: Engine, said: str) -> None:
        pay = script("paid", "paid")
        tell = script(ConnectionError, "told")
        posting = inner.using(method="POST", repeatable=True if said == "inside" else None)

        async def pay_and_tell() -> str:
            await posting.call(pay)
            return await inner.using(attempts=1).call(tell)

        assert "told" == await outer.using(repeatable=True if said == "outside" else None).call(pay_and_tell)
        assert 2 == pay.calls

    async def test_his_word_covers_what_an_engine_still_further_in_has_done(self, world: World, outer: Engine, inner: Engine) -> None:
        pay = script("paid", "paid")
        middle = Engine(env=world.env, name="middle").using(repeatable=True)

        @outer
        async def around() -> None:
            await middle.call(inner.using(method="POST").call, pay)
            if pay.calls < 2:
                raise ConnectionError

        await around()

        assert 2 == pay.calls

    async def test_a_post_that_was_never_sent_may_be_repeated(self, outer: Engine, inner: Engine) -> None:
        fetch = script(ConnectionRefusedError, "paid")

        assert "paid" == await outer.call(inner.using(method="POST", attempts=1).call, fetch)

    async def test_a_post_that_was_cut_off_by_the_outer_attempts_timeout_is_not_repeated(self, world: World, inner: Engine) -> None:
        fetch = script(world.takes(math.inf), "twice")
        outer = Engine([Retry(), AttemptTimeout(2)], env=world.env, name="outer")

        await caught(outer.call(inner.using(method="POST").call, fetch))

        assert 1 == fetch.calls

    async def test_a_hint_beyond_the_limit_is_final(self, outer: Engine, inner: Engine) -> None:
        lenient = Engine([Retry(over_limit="wait")], env=outer.env, name="lenient")
        fetch = script(Response(429, {"retry-after": "3600"}))

        async def get() -> Response:
            response: Response = await inner.call(fetch)
            return response.raise_for_status()

        error = await caught(lenient.call(get))

        assert isinstance(error, StatusError)
        assert 1 == fetch.calls

    async def test_a_rejection_is_final(self, world: World, outer: Engine) -> None:
        breaker = CircuitBreaker()
        breaker.isolate()

        error = await caught(outer.call(Engine([breaker], env=world.env, name="inner").call, script()))

        assert isinstance(error, CircuitOpen)
        assert [] == world.slept

    async def test_a_rejection_that_somebody_made_a_connection_error_of_is_final(self, world: World, outer: Engine) -> None:
        """As SDKs do."""
        breaker = CircuitBreaker()
        breaker.isolate()
        inner = Engine([breaker], env=world.env, name="inner")

        async def through_an_sdk() -> None:
            try:
                await inner.call(script())
            except CircuitOpen as error:
                raise ConnectionError("Connection error.") from error

        await caught(outer.call(through_an_sdk))

        assert [] == world.slept

    @pytest.mark.parametrize("raises", [True, False])
    async def test_what_failed_fast_inside_is_not_repeated_by_other_rules_outside(self, world: World, outer: Engine, raises: bool) -> None:
        rules = http.RULES.extend("acme", by_status={503: fail_fast()})
        fetch = script(Response(503))
        inner = Engine([Retry()], rules=rules, env=world.env, name="inner")

        async def get() -> Response:
            response: Response = await inner.call(fetch)
            return response.raise_for_status() if raises else response

        try:
            await outer.call(get)
        except StatusError:
            pass

        assert 1 == fetch.calls

    async def test_a_group_with_such_an_error_in_it_is_not_repeated(self, outer: Engine, inner: Engine) -> None:
        """D39."""
        fetch = script(TimeoutError())

        async def both() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(inner.using(method="POST").call, fetch)

        error = await caught(outer.call(both))

        assert isinstance(error, ExceptionGroup)
        assert 1 == fetch.calls

    async def test_the_same_error_in_a_later_call_is_judged_anew(self, outer: Engine, inner: Engine) -> None:
        error = TimeoutError()
        await caught(outer.call(inner.using(method="POST").call, script(error)))

        assert "ok" == await outer.call(inner.call, script(error, "ok"))


class TestKeys:
    """An inner keyed call under a repeat from outside sends the same key again, or is not repeated."""

    @staticmethod
    def paying(engine: Engine, keys: list[str], outcomes: Iterator[Any]) -> Callable[[], Awaitable[None]]:
        async def post() -> None:
            keys.append(current().take_key())
            outcome = next(outcomes)
            if outcome is not None:
                raise outcome

        return lambda: engine.call(post)

    async def test_under_a_keyed_call_the_same_keys_are_sent_again_in_the_same_order(self, world: World) -> None:
        outer = Engine([IdempotencyKey(), Retry()], env=world.env, name="outer")
        inner = Engine([IdempotencyKey(), Retry(attempts=1)], env=world.env, name="inner").using(method="POST")
        keys: list[str] = []
        pay = self.paying(inner, keys, iter([None, TimeoutError(), None, None]))

        @outer
        async def pay_twice() -> None:
            await pay()
            await pay()

        await pay_twice()

        assert keys[:2] == keys[2:]
        assert 2 == len(set(keys))
        await caught(pay_twice())
        assert 3 == len(set(keys)), "a new call is a new wish"

    async def test_an_inner_repeat_keeps_its_key_too(self, world: World) -> None:
        outer = Engine([IdempotencyKey(), Retry(attempts=5)], env=world.env, name="outer")
        inner = Engine([IdempotencyKey(), Retry(attempts=2)], env=world.env, name="inner").using(method="POST")
        keys: list[str] = []
        pay = self.paying(inner, keys, iter([TimeoutError(), TimeoutError(), TimeoutError(), None]))

        await outer.call(pay)

        assert (4, 1) == (len(keys), len(set(keys)))

    async def test_under_a_call_without_one_it_is_not_repeated_from_outside(self, world: World, outer: Engine) -> None:
        inner = Engine([IdempotencyKey(), Retry(attempts=2)], env=world.env, name="inner").using(method="POST")
        keys: list[str] = []

        await caught(outer.call(self.paying(inner, keys, iter([TimeoutError(), TimeoutError(), None]))))

        assert (2, 1) == (len(keys), len(set(keys)))

    async def test_nor_after_its_own_success(self, world: World, outer: Engine) -> None:
        inner = Engine([IdempotencyKey(), Retry(attempts=2)], env=world.env, name="inner").using(method="POST")
        keys: list[str] = []
        pay = self.paying(inner, keys, iter([None, None]))

        async def pay_and_stumble() -> None:
            await pay()
            raise ConnectionError

        await caught(outer.call(pay_and_stumble))

        assert 1 == len(keys)

    async def test_a_key_from_business_data_is_the_same_whoever_repeats(self, world: World, outer: Engine) -> None:
        inner = Engine([IdempotencyKey(), Retry(attempts=1)], env=world.env, name="inner")
        keys: list[str] = []
        view = inner.using(method="POST", key_from=("order", 42), operation="pay")

        await outer.call(self.paying(view, keys, iter([TimeoutError(), None])))

        assert (2, 1) == (len(keys), len(set(keys)))


class TestTheRefresh:
    async def test_is_shared_where_the_credential_is(self, world: World) -> None:
        renewed = []

        async def login(stale: str | None) -> str:
            renewed.append(stale)
            return f"token {len(renewed)}"

        refresh = RefreshToken(login, token="old", cooldown=0)
        outer, inner = (Engine([refresh, Retry()], env=world.env, name=name) for name in ("outer", "inner"))
        fetch = script(*[Response(401)] * 9)

        await outer.call(inner.call, fetch)

        assert ["old"] == renewed
        assert fetch.calls <= 3


class TestWhatIsSaid:
    async def test_nesting_is_told_once_a_pair(self, world: World, outer: Engine, inner: Engine) -> None:
        for _ in range(3):
            await outer.call(inner.call, script("ok"))
            await outer.using(operation="view").call(inner.using(operation="view").call, script("ok"))
        await inner.call(script("ok"))

        assert [("inner", "outer")] == [(event.engine, event.outer) for event in world.told(EngineNested)]

    async def test_each_call_has_an_id_of_its_own(self, world: World, outer: Engine, inner: Engine) -> None:
        await outer.call(inner.call, script("ok"))

        assert {"outer", "inner"} == {event.engine for event in world.events}
        assert 2 == len({event.call for event in world.events})


class TestWhichCallIsCurrent:
    async def test_the_innermost_inside_and_the_outer_one_after_it(self, outer: Engine, inner: Engine) -> None:
        seen = []

        async def look() -> None:
            seen.append(current().engine)

        @outer
        async def around() -> None:
            await look()
            await inner.call(look)
            await look()
            await caught(inner.using(attempts=1).call(script(ConnectionError)))
            await look()

        await around()

        assert ["outer", "inner", "outer", "outer"] == seen

    async def test_none_outside_and_none_after(self, outer: Engine) -> None:
        for _ in range(2):
            with pytest.raises(LookupError, match="no engine is running a call here"):
                current()
            await outer.call(script("ok"))
            await caught(outer.call(script(ValueError)))

    async def test_a_task_that_a_call_leaves_behind_has_done_with_it(self, world: World) -> None:
        """Else its deadline and its repeats would run out for every later call of that task, for ever (design-review 12)."""
        outer = Engine([Deadline(5), Retry(attempts=1)], env=world.env, name="outer")
        inner = Engine([Retry(attempts=3, backoff=Constant(1))], env=world.env, name="inner")
        seen: list[Any] = []
        fetch = script(ConnectionError, ConnectionError, "ok")

        async def left_behind() -> None:
            seen.append(current().engine)
            await world.sleep(100)
            with pytest.raises(LookupError):
                current()
            seen.append(await inner.call(fetch))

        async with anyio.create_task_group() as tasks:

            @outer
            async def start() -> None:
                tasks.start_soon(left_behind)
                await world.sleep(1)

            await start()

        assert ["outer", "ok"] == seen
        assert 3 == fetch.calls

    async def test_a_call_that_outlives_the_one_around_it_goes_on_by_itself(self, world: World, inner: Engine) -> None:
        outer = Engine([Retry(attempts=1)], env=world.env, name="outer")
        fetch = script(world.takes(10, ConnectionError), ConnectionError, "ok")
        seen = []

        async def left_behind() -> None:
            seen.append(await inner.call(fetch))

        async with anyio.create_task_group() as tasks:

            @outer
            async def start() -> None:
                tasks.start_soon(left_behind)
                await world.sleep(1)

            await start()

        assert (["ok"], 3) == (seen, fetch.calls)

    async def test_but_while_it_runs_its_tasks_belong_to_it(self, world: World, outer: Engine, inner: Engine) -> None:
        fetch = script(*[ConnectionError] * 9)

        @outer
        async def around() -> None:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(inner.call, fetch)

        await caught(around())

        assert 3 == fetch.calls

    async def test_calls_side_by_side_see_only_themselves(self, world: World, outer: Engine) -> None:
        seen = []

        async def one(number: int) -> None:
            before = current()
            await world.sleep(1)
            seen.append((number, current() is before))

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(outer.call, one, number)

        assert {(number, True) for number in range(5)} == set(seen)


async def test_an_error_from_two_engines_survives_pickling_without_a_trace_of_either(outer: Engine, inner: Engine) -> None:
    error = await caught(outer.call(inner.using(method="POST").call, script(TimeoutError("lost"))))

    copy = pickle.loads(pickle.dumps(error))

    assert history(error) == history(copy)
    assert b"resilience.call" not in pickle.dumps(error)
    assert b"resilience.engine" not in pickle.dumps(error)
