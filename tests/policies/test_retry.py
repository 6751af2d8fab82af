"""Retry: what is repeated, how often, and after how long."""

from __future__ import annotations

import functools
import itertools
import math
import random
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from typing import Any

import anyio
import attrs
import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import (
    AttemptTimeout,
    Constant,
    Engine,
    Exponential,
    Fibonacci,
    IdempotencyKey,
    Linear,
    Listed,
    Retry,
    current,
    history,
    retry,
)
from resilience.dialects import http
from resilience.events import RetryGaveUp, RetryScheduled
from resilience.testing import World, script

pytestmark = pytest.mark.anyio


# What a table holds of the outside world is the same in every loop.
one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"], scope="module")


@attrs.define(slots=False)
class Response:
    status_code: int
    headers: dict[str, str] = attrs.field(factory=dict)
    closed: int = 0
    closing: Callable[[], Awaitable[None]] | None = None

    async def aclose(self) -> None:
        self.closed += 1
        if self.closing is not None:
            await self.closing()


@attrs.define
class Request:
    method: str
    headers: dict[str, str] = attrs.field(factory=dict)
    url: str = "https://api.example/orders?secret=1"


class ReadTimeout(TimeoutError):
    """As httpx raises it: it knows its request."""

    def __init__(self, request: Request) -> None:
        super().__init__("the read timed out")
        self.request = request


class StatusError(Exception):
    def __init__(self, status: int, request: Request) -> None:
        super().__init__(str(status))
        self.response = Response(status)
        self.response.request = request  # type: ignore[attr-defined]  # as clients do


async def outcome_of(awaitable: Awaitable[Any]) -> Any:
    """The value, or the error."""
    try:
        return await awaitable
    except Exception as error:
        return error


def reasons(world: World) -> list[str]:
    return [event.reason for event in world.told(RetryGaveUp)]


class TestSchedules:
    """D30: each class of failure has its own patience."""

    @pytest.mark.parametrize(
        ("schedule", "delays"),
        [
            (Constant(2), [2, 2, 2, 2]),
            (Linear(1, cap=3), [0.5, 1.0, 1.5, 1.5]),
            (Exponential(1, cap=20), [0.5, 1.0, 2.0, 4.0]),
            (Exponential(1, cap=20, jitter="none", factor=3), [1, 3, 9, 20]),
            (Exponential(1, cap=20, jitter="decorrelated"), [2.0, 3.5, 5.75, 9.125]),
            (Fibonacci(1, cap=20, jitter="equal"), [0.75, 0.75, 1.5, 2.25]),
            (Listed([5, 1]), [5, 1, 1, 1]),
        ],
        ids=repr,
    )
    async def test_wait_as_they_are_written(self, world: World, schedule: Any, delays: list[float]) -> None:
        await outcome_of(Engine([Retry(attempts=5, backoff=schedule)], env=world.env).call(script(*[ConnectionError] * 5)))

        assert delays == world.slept
        assert delays == [event.delay for event in world.told(RetryScheduled)]
        assert {"backoff"} == {event.delay_source for event in world.told(RetryScheduled)}

    async def test_of_two_classes_are_counted_apart(self, world: World) -> None:
        engine = Engine([Retry(attempts=6, backoff=Listed([1, 2, 3]), throttled=Listed([10, 20]))], env=world.env)
        lost, limited = ConnectionError, Response(429)

        assert "ok" == await engine.call(script(lost, limited, lost, limited, lost, "ok"))
        assert [1, 10, 2, 20, 3] == world.slept

    async def test_decorrelated_jitter_grows_from_its_own_classes_delays(self, world: World) -> None:
        backoff = Exponential(1, cap=100, jitter="decorrelated")
        engine = Engine([Retry(attempts=4, backoff=backoff, throttled=Listed([50]))], env=world.env)

        await engine.call(script(ConnectionError, Response(429), ConnectionError, "ok"))

        assert [2.0, 50, 3.5] == world.slept

    async def test_count_towards_one_total(self, world: World) -> None:
        fetch = script(*[ConnectionError, Response(429)] * 4)

        await outcome_of(Engine([Retry(attempts=3)], env=world.env).call(fetch))

        assert 3 == fetch.calls

    async def test_a_cap_of_a_rule_ends_before_the_total(self, world: World) -> None:
        rules = http.RULES.extend("acme", by_status={500: retry(attempts=2)})
        engine = Engine([Retry(attempts=9)], rules=rules, env=world.env)
        fetch = script(*[Response(500)] * 9)

        assert 500 == (await engine.call(fetch)).status_code
        assert 2 == fetch.calls
        assert ["attempts"] == reasons(world)

    async def test_a_cap_counts_only_the_tries_that_ended_in_its_rule(self, world: World) -> None:
        """Design-review 14: 503, 500, 503, 500 under "500 is 2"."""
        rules = http.RULES.extend("acme", by_status={500: retry(attempts=2)})
        fetch = script(*[Response(status) for status in (503, 500, 503, 500, 503)])

        await Engine([Retry(attempts=9)], rules=rules, env=world.env).call(fetch)

        assert 4 == fetch.calls

    async def test_a_schedule_of_ones_own_is_given_number_draw_and_the_delay_before(self) -> None:
        world = World(draw=[0.1, 0.9, 0.2, 0.9, 0.3, 0.9])
        asked = []

        class Mine:
            def delay(self, retry: int, draw: float, previous: float | None = None, /) -> float:
                asked.append((retry, draw, previous))
                return float(retry)

        await outcome_of(Engine([Retry(attempts=4, backoff=Mine())], env=world.env).call(script(*[ConnectionError] * 4)))

        assert [(1, 0.1, None), (2, 0.2, 1.0), (3, 0.3, 2.0)] == asked

    async def test_calls_that_fail_together_do_not_come_back_together(self) -> None:
        """B31."""
        dice = random.Random(1)
        world = World(draw=iter(dice.random, None))
        engine = Engine([Retry(attempts=2, backoff=Exponential(10, cap=20))], env=world.env)
        back = []

        async def fetch() -> None:
            back.append(world.now)
            raise ConnectionError

        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(outcome_of, engine.call(fetch))

        assert [0.0] * 50 == back[:50]
        assert 50 == len(set(back[50:]))
        assert max(back[50:]) - min(back[50:]) > 8


class TestHints:
    """D3: the server's hint is a floor, within a limit that the user chose."""

    async def test_43_s_are_waited_although_the_backoff_is_capped_at_8(self, world: World) -> None:
        """B26."""
        engine = Engine([Retry(backoff=Exponential(1, cap=8), throttled=Exponential(1, cap=8))], env=world.env)

        assert "ok" == await engine.call(script(Response(429, {"Retry-After": "43"}), "ok"))
        assert 43 <= world.slept[0] <= 43 * 1.1
        assert ["hint"] == [event.delay_source for event in world.told(RetryScheduled)]

    async def test_3600_s_fail_after_one_call_with_the_hint_in_the_history(self, world: World) -> None:
        """B24."""
        fetch = script(Response(429, {"Retry-After": "3600"}))

        response = await Engine([Retry()], env=world.env).call(fetch)

        assert (1, []) == (fetch.calls, world.slept)
        assert [3600.0] == [tried.retry_after for tried in history(response)]
        assert [("hint", 3600.0)] == [(event.reason, event.retry_after) for event in world.told(RetryGaveUp)]

    async def test_10_s_with_5_s_left_fail_without_sleeping(self, world: World) -> None:
        fetch = script(Response(429, {"Retry-After": "10"}))

        response = await Engine([Retry()], env=world.env).using(deadline=5).call(fetch)

        assert 429 == response.status_code
        assert (1, [], 0.0) == (fetch.calls, world.slept, world.now)
        assert ["deadline"] == reasons(world)

    @pytest.mark.parametrize(("over_limit", "waited"), [("clamp", 30.0), ("wait", 3600.5)])
    async def test_over_the_limit_they_may_be_clamped_or_obeyed_instead(self, world: World, over_limit: Any, waited: float) -> None:
        engine = Engine([Retry(max_server_delay=30, over_limit=over_limit, throttled=Constant(1))], env=world.env)

        assert "ok" == await engine.call(script(Response(429, {"Retry-After": "3600"}), "ok"))
        assert [waited] == world.slept

    async def test_jitter_is_only_ever_added(self) -> None:
        """B26: 46% of a rival's retries came too early."""
        for number in range(100):
            world = World(draw=number / 100)
            await Engine([Retry()], env=world.env).call(script(Response(429, {"Retry-After": "7"}), "ok"))
            assert 7 <= world.slept[0] < 7.7

    @one_loop
    @pytest.mark.parametrize(
        ("headers", "hint"),
        [
            ([("Retry-After", "3")], 3.0),
            ([("Retry-After", "1.5")], 1.5),
            ([("retry-after-ms", "2500")], 2.5),
            ([("retry-after-ms", "2500"), ("Retry-After", "9")], 2.5),
            ([("Retry-After", "2"), ("Retry-After", "4")], 4.0),
            ([("Retry-After", formatdate(1_767_225_605, usegmt=True))], 5.0),
            ([("Date", formatdate(1_000_000_000, usegmt=True)), ("Retry-After", formatdate(1_000_000_004, usegmt=True))], 4.0),
            # What says nothing, or nonsense, leaves the backoff standing: neither no wait at all (B23, B25) nor a crash (B22).
            ([], None),
            ([("Retry-After", "0")], None),
            ([("Retry-After", formatdate(1_000_000_000, usegmt=True))], None),
            ([("Retry-After", "-1")], None),
            ([("Retry-After", "nan")], None),
            ([("Retry-After", "inf")], None),
            ([("Retry-After", "1e9")], None),
            ([("Retry-After", "")], None),
            ([("Retry-After", "soon")], None),
            ([("Retry-After", "\u0663")], None),
            ([("Retry-After", "9" * 400)], None),
        ],
        ids=lambda value: " ".join(f"{pair[0]}={pair[1]}"[:40] for pair in value) if isinstance(value, list) else repr(value),
    )
    async def test_are_read_the_same_from_every_response(self, headers: list[tuple[str, str]], hint: float | None) -> None:
        """Rivals 6.8."""
        joined: dict[str, str] = {}
        for name, value in headers:
            joined[name] = f"{joined[name]}, {value}" if name in joined else value
        pairs = [(name.encode(), value.encode()) for name, value in headers]
        for status in (429, 503):
            for refused in (Response(status, joined), httpx.Response(status, headers=pairs), httpx2.Response(status, headers=pairs)):
                world = World()
                engine = Engine([Retry(backoff=Constant(0.25), throttled=Constant(0.25))], env=world.env)

                assert "ok" == await engine.call(script(refused, "ok"))

                spread = 0 if hint is None else 0.5 * min(hint / 10, 0.25)
                assert [pytest.approx(0.25 if hint is None else hint + spread)] == world.slept

    @pytest.mark.parametrize("value", ["9999999999", "86400", formatdate(4_070_908_800, usegmt=True)])
    async def test_of_days_or_years_fail_at_once(self, world: World, value: str) -> None:
        """B24: a date in 2099 among them."""
        fetch = script(Response(503, {"Retry-After": value}))

        await Engine([Retry()], env=world.env).call(fetch)

        assert (1, [], ["hint"]) == (fetch.calls, world.slept, reasons(world))

    @one_loop
    @given(hint=st.floats(0, 70), backoff=st.floats(0, 20), draw=st.floats(0, 0.99))
    async def test_whatever_the_numbers_an_accepted_one_is_waited_for(self, hint: float, backoff: float, draw: float) -> None:
        """B26."""
        world = World(draw=draw)
        engine = Engine([Retry(attempts=2, backoff=Constant(backoff), throttled=Constant(backoff))], env=world.env)

        await engine.call(script(Response(429, {"Retry-After": f"{hint:.6f}"}), "ok"))

        if float(f"{hint:.6f}") > 60:
            assert [] == world.slept
        else:
            assert max(backoff, float(f"{hint:.6f}")) <= world.slept[0] <= max(backoff, 60.0)


POST, GET = Request("POST"), Request("GET")
KEYED = Request("POST", {"idempotency-key": "k"})


class TestSafety:
    """D4, rivals 6.10: a plain callable's failure often tells what it was about."""

    @pytest.mark.parametrize(
        ("failure", "repeats"),
        [
            # Nothing is known: the engine's user said Retry, and is taken at his word.
            (TimeoutError(), True),
            # The failure knows its request, and the request its method.
            (ReadTimeout(GET), True),
            (ReadTimeout(Request("PUT")), True),
            (ReadTimeout(Request("DELETE")), True),
            (ReadTimeout(POST), False),
            (ReadTimeout(Request("PATCH")), False),
            (StatusError(503, GET), True),
            (StatusError(503, POST), False),
            (StatusError(504, POST), False),
            # It was refused, so that nothing was done.
            (StatusError(429, POST), True),
            # A key that the caller sends protects the call.
            (ReadTimeout(KEYED), True),
            (StatusError(503, KEYED), True),
            # An empty header is none.
            (ReadTimeout(Request("POST", {"idempotency-key": " "})), False),
        ],
        ids=repr,
    )
    async def test_the_failures_own_request_decides(self, world: World, failure: Exception, repeats: bool) -> None:
        fetch = script(failure, "ok")

        outcome = await outcome_of(Engine([Retry()], env=world.env).call(fetch, "k"))

        assert ("ok" if repeats else failure) == outcome
        assert ([] if repeats else ["unsafe"]) == reasons(world)

    async def test_a_key_that_was_made_up_for_the_failed_attempt_protects_nothing(self, world: World) -> None:
        """D4: SDKs do that, and the next attempt would have another."""
        minted = itertools.count()

        async def pay(amount: int) -> None:
            raise ReadTimeout(Request("POST", {"idempotency-key": f"key-{next(minted)}"}))

        assert isinstance(await outcome_of(Engine([Retry()], env=world.env).call(pay, 42)), ReadTimeout)
        assert ["unsafe"] == reasons(world)

    @pytest.mark.parametrize("way", ["argument", "header", "attribute", "around", "default", "constant", "partial", "method"])
    async def test_one_that_the_caller_has_set_does_wherever_it_was(self, world: World, way: str) -> None:
        key = "order-42"
        failing = ReadTimeout(Request("POST", {"idempotency-key": key}))

        class Order:
            def __init__(self) -> None:
                self.key = key

            async def pay(self) -> None:
                raise failing

        async def pay(*args: object, **kwargs: object) -> None:
            raise failing

        async def around() -> None:
            assert key
            raise failing

        async def default(key: str = key) -> None:
            raise failing

        async def constant() -> None:
            headers = {"Idempotency-Key": "order-42"}
            assert headers
            raise failing

        engine = Engine([Retry(attempts=2)], env=world.env)
        await outcome_of(
            {
                "argument": lambda: engine.call(pay, key),
                "header": lambda: engine.call(pay, extra_headers={"Idempotency-Key": key}),
                "attribute": lambda: engine.call(pay, Order()),
                "around": lambda: engine.call(around),
                "default": lambda: engine.call(default),
                "constant": lambda: engine.call(constant),
                "partial": lambda: engine.call(functools.partial(pay, [key])),
                "method": lambda: engine.call(Order().pay),
            }[way]()
        )

        assert ["attempts"] == reasons(world)

    @one_loop
    @pytest.mark.parametrize("client", [httpx, httpx2], ids=["httpx", "httpx2"])
    @pytest.mark.parametrize(
        ("error", "method", "repeats"),
        [
            ("ConnectError", "POST", True),
            ("ConnectTimeout", "POST", True),
            ("PoolTimeout", "POST", True),
            ("ReadTimeout", "POST", False),
            ("WriteError", "POST", False),
            ("RemoteProtocolError", "POST", False),
            ("ReadTimeout", "GET", True),
        ],
    )
    async def test_real_clients_errors_tell_too(self, world: World, *, client: Any, error: str, method: str, repeats: bool) -> None:
        failure = getattr(client, error)("lost", request=client.Request(method, "https://api.example/"))
        fetch = script(failure, "ok")

        assert ("ok" if repeats else failure) is await outcome_of(Engine([Retry()], env=world.env).call(fetch))

    @one_loop
    @pytest.mark.parametrize("client", [httpx, httpx2], ids=["httpx", "httpx2"])
    @pytest.mark.parametrize(("method", "calls"), [("GET", 3), ("POST", 1)])
    async def test_and_so_do_their_responses(self, world: World, *, client: Any, method: str, calls: int) -> None:
        fetch = script(*[client.Response(503, request=client.Request(method, "https://api.example/")) for _ in range(3)])

        assert 503 == (await Engine([Retry()], env=world.env).call(fetch)).status_code
        assert calls == fetch.calls

    @pytest.mark.parametrize(
        ("settings", "failure", "repeats"),
        [
            ({"method": "POST"}, TimeoutError(), False),
            ({"method": "post"}, TimeoutError(), False),
            ({"method": "GET"}, TimeoutError(), True),
            ({"method": "GET"}, ReadTimeout(POST), True),
            ({"method": "POST"}, ReadTimeout(GET), False),
            ({"method": "POST"}, ConnectionRefusedError(), True),
            ({"repeatable": False}, TimeoutError(), False),
            ({"repeatable": False}, ReadTimeout(GET), False),
            ({"repeatable": False}, ConnectionRefusedError(), False),  # it may have done something before that
            ({"repeatable": True}, ReadTimeout(POST), True),
            ({"repeatable": True, "method": "POST"}, TimeoutError(), True),
            ({"repeatable": False, "method": "GET"}, TimeoutError(), False),
        ],
        ids=repr,
    )
    async def test_the_users_word_comes_first(self, world: World, settings: Any, failure: Exception, repeats: bool) -> None:
        fetch = script(failure, "ok")

        outcome = await outcome_of(Engine([Retry()], env=world.env).using(**settings).call(fetch))

        assert ("ok" if repeats else failure) == outcome

    async def test_a_function_that_must_not_be_repeated_is_not_though_its_last_request_never_left(self, world: World) -> None:
        """D4: it charges, then reports, and the report finds nobody there."""
        charged = 0

        async def charge_and_report() -> None:
            nonlocal charged
            charged += 1
            raise ConnectionRefusedError

        with pytest.raises(ConnectionRefusedError):
            await Engine([Retry(attempts=3)], env=world.env).using(repeatable=False).call(charge_and_report)

        assert 1 == charged

    async def test_a_key_that_was_taken_makes_a_post_repeatable_and_is_the_same_each_time(self, world: World) -> None:
        keys = []

        async def pay() -> str:
            keys.append(current().take_key())
            if len(keys) < 3:
                raise ReadTimeout(POST)
            return "paid"

        engine = Engine([IdempotencyKey(), Retry()], env=world.env).using(method="POST")

        assert "paid" == await engine.call(pay)
        assert (3, 1) == (len(keys), len(set(keys)))
        await engine.call(pay)
        assert 2 == len(set(keys)), "another call has another key"

    async def test_a_key_that_nobody_took_protects_nobody(self, world: World) -> None:
        fetch = script(ReadTimeout(POST))

        await outcome_of(Engine([IdempotencyKey(), Retry()], env=world.env).call(fetch))

        assert 1 == fetch.calls

    async def test_a_custom_key_header_is_known_in_the_failing_request(self, world: World) -> None:
        """B49."""
        engine = Engine([IdempotencyKey(header="X-Request-Id"), Retry()], env=world.env)
        ours, theirs = Request("POST", {"x-request-id": "k"}), Request("POST", {"idempotency-key": "k"})

        assert "ok" == await engine.call(script(ReadTimeout(ours), "ok"), "k")
        assert isinstance(await outcome_of(engine.call(script(ReadTimeout(theirs)), "k")), ReadTimeout)

    async def test_a_dialect_may_know_requests_that_create_nothing(self, world: World) -> None:
        asked = []

        def creates_nothing(method: str, path: str) -> bool:
            asked.append((method, path))
            return path == "/v1/completions"

        rules = http.RULES.extend("llm", creates_nothing=creates_nothing)
        engine = Engine([Retry()], rules=rules, env=world.env)
        completion = Request("POST", url="https://api.example/v1/completions?user=1")

        assert "ok" == await engine.call(script(ReadTimeout(completion), "ok"))
        assert isinstance(await outcome_of(engine.call(script(ReadTimeout(POST)))), ReadTimeout)
        assert [("POST", "/v1/completions"), ("POST", "/orders")] == asked

    @pytest.mark.parametrize(
        ("name", "args", "kwargs", "calls"),
        [
            ("post", ("/orders",), {}, 1),
            ("post", ("/orders",), {"headers": {"Idempotency-Key": "k"}}, 2),
            ("request", ("PATCH", "/orders/1"), {}, 1),
            ("send", (Request("POST"),), {}, 1),
            ("send", (KEYED,), {}, 2),
            ("put", ("/orders/1",), {}, 2),
            ("get", ("/orders",), {}, 2),
        ],
    )
    async def test_a_clients_method_whose_attempt_was_cut_tells_by_its_name(
        self, world: World, *, name: str, args: Any, kwargs: Any, calls: int
    ) -> None:
        """Neither our own timeout nor every client's errors hold the request: ``engine.call(client.post, url)`` must not be done twice."""
        method = script(world.takes(math.inf), "ok")
        method.__name__ = name

        outcome = await outcome_of(Engine([Retry(), AttemptTimeout(1)], env=world.env).call(method, *args, **kwargs))

        assert calls == method.calls
        assert ("ok" if calls > 1 else "AttemptTimedOut") in (outcome, type(outcome).__name__)

    async def test_what_a_clients_method_is_asked_for_comes_before_what_a_redirect_led_to(self, world: World) -> None:
        """The POST was answered with "see other"; what got lost is the answer to the GET that followed."""
        post = script(ReadTimeout(GET))
        post.__name__ = "post"

        assert isinstance(await outcome_of(Engine([Retry()], env=world.env).call(post, "/orders")), ReadTimeout)
        assert ["unsafe"] == reasons(world)

    async def test_what_an_earlier_attempt_told_is_remembered(self, world: World) -> None:
        """A cut attempt knows nothing of its request, but the one before it did."""
        refused = httpx.ConnectError("refused", request=httpx.Request("POST", "https://api.example/"))
        fetch = script(refused, world.takes(math.inf))

        error = await outcome_of(Engine([Retry(attempts=5), AttemptTimeout(1)], env=world.env).call(fetch))

        assert "AttemptTimedOut" == type(error).__name__
        assert (2, ["unsafe"]) == (fetch.calls, reasons(world))


class TestLettingGo:
    """D29, B51: what is thrown away is closed before any wait."""

    async def test_failed_responses_are_closed_before_the_wait_and_the_last_one_is_not(self, world: World) -> None:
        slept_when_closed = []

        async def note() -> None:
            slept_when_closed.append(len(world.slept))

        responses = [Response(503, closing=note) for _ in range(3)]

        last = await Engine([Retry(attempts=3)], env=world.env).call(script(*responses))

        assert [1, 1, 0] == [response.closed for response in responses]
        assert responses[-1] is last
        assert [0, 1] == slept_when_closed

    async def test_the_response_inside_an_error_is_closed_too(self, world: World) -> None:
        failure = StatusError(503, GET)

        await Engine([Retry()], env=world.env).call(script(failure, "ok"))

        assert 1 == failure.response.closed

    async def test_a_sync_close_will_do(self, world: World) -> None:
        @attrs.define(slots=False)
        class Sync:
            status_code: int
            headers: dict[str, str]
            closed: bool = False

            def close(self) -> None:
                self.closed = True

        response = Sync(503, {})
        await Engine([Retry()], env=world.env).call(script(response, "ok"))

        assert response.closed

    @pytest.mark.parametrize("error", [OSError("connection lost"), RuntimeError("closed twice")])
    async def test_a_closing_that_fails_is_nobodys_business(self, world: World, error: Exception) -> None:
        async def fail() -> None:
            raise error

        assert "ok" == await Engine([Retry()], env=world.env).call(script(Response(503, closing=fail), "ok"))


class TestWhatIsNotRepeated:
    async def test_a_body_that_cannot_be_sent_twice(self, world: World) -> None:
        async def upload() -> None:
            current().replayable = False
            raise ConnectionRefusedError

        await outcome_of(Engine([Retry()], env=world.env).call(upload))

        assert ["unrepeatable"] == reasons(world)

    async def test_without_retry_nothing_is_looked_at_closer(self, world: World) -> None:
        error = TimeoutError()

        assert error is await outcome_of(Engine(env=world.env).call(script(error)))
        assert ["attempts"] == reasons(world)


async def test_a_thousand_repeats_do_as_well_as_three(world: World) -> None:
    async def lost() -> None:
        raise ConnectionError

    error = await outcome_of(Engine([Retry(attempts=1000, backoff=Constant(0))], env=world.env).call(lost))

    assert list(range(1, 1001)) == [tried.attempt for tried in history(error)]
