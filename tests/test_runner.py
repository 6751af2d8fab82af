"""The two ways of a call through the policies: the fast one, where nothing is out of the ordinary, and their handlers."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import traceback
import warnings
import weakref
from collections.abc import Awaitable
from typing import Any

import anyio
import attrs
import pytest

from resilience import (
    AttemptTimedOut,
    AttemptTimeout,
    Call,
    CircuitBreaker,
    Deadline,
    DeadlineExceeded,
    Engine,
    Env,
    Failure,
    Handler,
    IdempotencyKey,
    Phase,
    Policy,
    RefreshToken,
    Retry,
    Signal,
    current,
    retry,
)
from resilience.call import begin
from resilience.policy import FastPath
from resilience.testing import World, script

pytestmark = pytest.mark.anyio

one_loop = pytest.mark.parametrize("anyio_backend", ["asyncio"], scope="module")


async def login(stale: str | None) -> str:
    return "second"


@attrs.define(eq=False)
class Told:
    """A policy that notes what it is told, and by which way."""

    notes: list[str]
    name: str = "policy"
    open: bool = True

    def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
        async def handling(call: Call[Any]) -> Any:
            self.notes.append(f"{self.name} handles")
            return await inner(call)

        return handling

    def bind_fast(self, path: FastPath, inner: Handler[Any], env: Env) -> FastPath:
        def admits(call: Call[Any]) -> bool:
            self.notes.append(f"{self.name} admits")
            return self.open and (path.admits is None or path.admits(call))

        def succeeded(call: Call[Any]) -> None:
            self.notes.append(f"{self.name} has succeeded")

        async def failed(call: Call[Any], failure: Failure) -> Any:
            outcome = failure if path.failed is None else await path.failed(call, failure)
            self.notes.append(f"{self.name} has failed")
            return outcome

        return path.but(admits=admits, succeeded=succeeded, failed=failed)


@attrs.define(eq=False)
class Plain:
    """A policy that knows nothing of a fast path."""

    notes: list[str]

    def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
        def handling(call: Call[Any]) -> Awaitable[Any]:
            self.notes.append("plain handles")
            return inner(call)

        return handling


async def test_a_first_attempt_that_succeeds_needs_no_handler() -> None:
    notes: list[str] = []

    value = await Engine([Told(notes)]).call(script("value"))

    assert ("value", ["policy admits", "policy has succeeded"]) == (value, notes)


async def test_a_call_that_is_not_admitted_goes_through_the_handlers() -> None:
    notes: list[str] = []

    value = await Engine([Told(notes, "outer"), Told(notes, "inner", open=False)]).call(script("value"))

    assert ("value", ["outer admits", "inner admits", "outer handles", "inner handles"]) == (value, notes)


async def test_one_policy_without_a_fast_path_has_every_call_go_through_the_handlers() -> None:
    notes: list[str] = []

    value = await Engine([Told(notes), Plain(notes)]).call(script("value"))

    assert ("value", ["policy handles", "plain handles"]) == (value, notes)


async def test_a_first_attempt_that_fails_is_told_from_the_innermost_outward() -> None:
    notes: list[str] = []

    with pytest.raises(LookupError):
        await Engine([Told(notes, "outer"), Told(notes, "inner")]).call(script(LookupError()))

    assert ["outer admits", "inner admits", "inner has failed", "outer has failed"] == notes


async def test_repeats_go_through_the_handlers_further_in_and_only_those(world: World) -> None:
    notes: list[str] = []
    engine = Engine([Told(notes, "outer"), Retry(), Told(notes, "inner")], env=world.env)

    assert "value" == await engine.call(script(ConnectionError(), "value"))
    assert ["outer admits", "inner admits", "inner has failed", "inner handles", "outer has failed"] == notes


async def test_a_call_that_is_cut_by_its_attempt_timeout_is_told_as_failed(world: World) -> None:
    notes: list[str] = []
    engine = Engine([Told(notes), AttemptTimeout(1)], env=world.env)

    with pytest.raises(TimeoutError):
        await engine.call(anyio.sleep_forever)
    assert ["policy admits", "policy has failed"] == notes


@pytest.mark.parametrize(
    "policies",
    [
        [],
        [Retry()],
        [Deadline(30), IdempotencyKey(), RefreshToken(login, token="first"), Retry(), CircuitBreaker(), AttemptTimeout(10)],
        [Retry(), RefreshToken(login, token="first"), CircuitBreaker(key=lambda call: call.operation)],
    ],
    ids=["none", "retry", "everything", "in another order"],
)
async def test_what_goes_well_goes_well_by_either_way(policies: list[Policy], world: World) -> None:
    async def op(x: int, *, y: int = 0) -> tuple[int, int, str | None]:
        return current().attempt, x + y, current().token

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the order
        fast, slow = Engine(policies, env=world.env), Engine([Plain([]), *policies], env=world.env)
    outcomes = [[await call(op, 1, y=2) for _ in range(3)] for call in (fast.call, slow.call)]

    assert outcomes[0] == outcomes[1]
    assert [(1, 3, "first" if any(isinstance(policy, RefreshToken) for policy in policies) else None)] * 3 == outcomes[0]


async def test_a_token_that_never_worked_is_watched_by_the_handlers() -> None:
    refresh = RefreshToken(login, token="first")
    engine = Engine([refresh])
    seen: list[str] = []

    async def op() -> None:
        seen.extend(frame.name for frame in traceback.extract_stack() if frame.name == "refreshing")

    await engine.call(op)
    await engine.call(op)

    assert ["refreshing"] == seen


async def test_a_breaker_sees_the_same_by_either_way(world: World) -> None:
    def engine(*around: Policy) -> tuple[Engine, CircuitBreaker]:
        breaker = CircuitBreaker(failure_ratio=0.5, minimum=4)
        return Engine([*around, breaker], env=world.env), breaker

    async def eras(engine: Engine, breaker: CircuitBreaker) -> list[str]:
        found = []
        for outcome in ("ok", ConnectionError(), "ok", "ok", ConnectionError(), ConnectionError()):
            try:
                await engine.call(script(outcome))
            except ConnectionError:
                pass
            found.append(breaker.era())
        return found

    fast, slow = await eras(*engine()), await eras(*engine(Plain([])))

    assert ["closed", "closed", "closed", "closed", "closed", "open"] == fast == slow


async def test_a_success_that_may_trip_is_looked_at_although_it_began_when_none_could(world: World) -> None:
    """Somebody else's failure, which came in the meantime, is all that the ratio waited for."""
    breaker = CircuitBreaker(failure_ratio=0.5, minimum=2)
    engine = Engine([breaker], env=world.env)
    await engine.call(script("ok"))
    breaker.reset()
    await engine.call(script("ok"))
    breaker.reset()
    failing, done = anyio.Event(), anyio.Event()

    async def slow() -> None:
        failing.set()
        await done.wait()

    async with anyio.create_task_group() as group:
        group.start_soon(engine.call, slow)
        await failing.wait()
        with pytest.raises(ConnectionError):
            await engine.call(script(ConnectionError()))
        done.set()

    assert "open" == breaker.era()


def test_the_runner_begins_a_call_as_begin_does() -> None:
    """It does so in place, for speed."""
    seen: list[dict[str, object]] = []

    def slots(call: Call[Any]) -> dict[str, object]:
        return {name: getattr(call, name) for name in Call.__slots__ if not name.startswith("__") and hasattr(call, name)}

    async def op() -> None:
        seen.append(slots(current()))

    env = attrs.evolve(Env(), now=lambda: 1.0)
    engine = Engine([], env=env)
    asyncio.run(engine.call(op))
    begun = slots(begin(engine._plan, op, (), {}, 1.0))

    assert begun | {"attempt": 1} == seen[0]


# What is decorated


@one_loop
async def test_a_decorated_function_is_seen_as_the_coroutine_function_that_it_is() -> None:
    @Engine([])
    async def charge() -> None:
        """Charge."""

    assert (True, True) == (inspect.iscoroutinefunction(charge), inspect.iscoroutinefunction(functools.partial(charge)))


@one_loop
async def test_a_method_is_seen_so_too() -> None:
    class Client:
        @Engine([])
        async def charge(self) -> str:
            return "charged"

    assert inspect.iscoroutinefunction(Client.charge)
    assert inspect.iscoroutinefunction(Client().charge)
    assert "charged" == await Client().charge()


@one_loop
async def test_its_coroutines_and_its_tasks_have_its_name() -> None:
    @Engine([Retry()])
    async def charge() -> None: ...

    made: Any = charge()
    try:
        assert ("charge", charge.__qualname__) == (made.__name__, made.__qualname__)
    finally:
        made.close()


def test_who_forgets_to_await_one_is_told_which() -> None:
    @Engine([])
    async def charge() -> None: ...

    def forget() -> None:
        charge()  # type: ignore[unused-coroutine]  # which is the point
        gc.collect()

    with pytest.warns(RuntimeWarning, match=r"charge' was never awaited"):
        forget()


# What a policy of the user's own may do


async def test_a_subclass_with_a_bind_of_its_own_is_asked_by_that() -> None:
    notes: list[str] = []

    class Noted(Retry):
        def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
            async def noted(call: Call[Any]) -> Any:
                notes.append("noted")
                return await inner(call)

            return noted

    await Engine([Noted()]).call(script("value"))

    assert ["noted"] == notes


async def test_a_failure_from_a_policy_before_any_attempt_is_no_cancellation(world: World) -> None:
    class Limiter:
        full = True

        def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
            async def limiting(call: Call[Any]) -> Any:
                if self.full:
                    self.full = False
                    return Failure(retry(), Signal(phase=Phase.NOT_SENT), ConnectionError())
                return await inner(call)

            return limiting

    engine = Engine([Retry(), Limiter()], env=world.env)

    assert "value" == await engine.using(deadline=5).call(script("value"))


async def test_a_policy_that_takes_its_time_to_admit_leaves_less_for_the_attempt() -> None:
    seconds = [0.0]

    def key(call: Call[Any]) -> str:
        seconds[0] += 6.0
        return "peer"

    engine = Engine([Deadline(5), CircuitBreaker(key=key)], env=attrs.evolve(Env(), now=lambda: seconds[0]))

    with pytest.raises(DeadlineExceeded, match=r"after 0 attempt"):
        await engine.call(script("value"))


async def test_a_cutoff_of_the_users_own_need_be_no_more_than_a_scope() -> None:
    def cutoff(seconds: float, *, shield: bool = False) -> Any:
        return anyio.move_on_after(seconds, shield=shield)

    assert "value" == await Engine([Deadline(5)], env=attrs.evolve(Env(), cutoff=cutoff)).call(script("value"))


@pytest.mark.parametrize("anyio_backend", ["asyncio"], scope="module")
async def test_a_timeout_is_told_from_a_cancellation_that_an_earlier_attempt_swallowed(world: World) -> None:
    class Twice:
        def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
            async def twice(call: Call[Any]) -> Any:
                await inner(call)
                return await inner(call)

            return twice

    async def op() -> None:
        task = asyncio.current_task()
        assert task is not None
        if current().attempt == 1:
            task.cancel()
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            raise ConnectionError from None

    with pytest.raises(AttemptTimedOut, match="attempt 2"):
        await Engine([Twice(), AttemptTimeout(1)], env=world.env).call(op)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], scope="module")
@pytest.mark.parametrize("around", [[], [Plain([])]], ids=["fast", "through the handlers"])
async def test_a_task_that_was_given_and_failed_is_let_go(around: list[Policy]) -> None:
    """D34."""

    class Given:
        pass

    async def fails(given: Given) -> None:
        raise LookupError

    def begun(given: Given) -> Awaitable[None]:
        return asyncio.ensure_future(fails(given))

    given = Given()
    left = weakref.ref(given)
    gc.disable()
    try:
        with pytest.raises(LookupError):
            await Engine(around).call(begun, given)
        del given
        await anyio.sleep(0)

        assert left() is None
    finally:
        gc.enable()
