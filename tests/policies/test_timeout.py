"""Deadline and AttemptTimeout write on the call; where they stand among the policies changes nothing but how it reads (D10)."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest

from resilience import AttemptTimedOut, AttemptTimeout, Constant, Deadline, DeadlineExceeded, Engine, RefreshToken, Retry, current
from resilience.testing import World, script

pytestmark = pytest.mark.anyio


def built(world: World, *policies: Any) -> Engine:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an order that reads oddly is a subject here
        return Engine(policies, env=world.env)


RETRY = Retry(attempts=3, backoff=Constant(1))


@pytest.mark.parametrize("policies", [(AttemptTimeout(2), RETRY), (RETRY, AttemptTimeout(2))], ids=["outside", "inside"])
async def test_an_attempts_timeout_bounds_each_attempt_wherever_it_stands(world: World, policies: Any) -> None:
    fetch = script(*[world.takes(math.inf)] * 3)

    with pytest.raises(AttemptTimedOut):
        await built(world, *policies).call(fetch)

    assert (3, 8.0) == (fetch.calls, world.now)


@pytest.mark.parametrize(
    "policies", [(Deadline(4), RETRY), (Deadline(4), RETRY, AttemptTimeout(2)), (AttemptTimeout(2), Deadline(4), RETRY)]
)
async def test_a_deadline_bounds_the_whole_call(world: World, policies: Any) -> None:
    with pytest.raises(DeadlineExceeded):
        await built(world, *policies).call(script(*[world.takes(math.inf)] * 3))

    assert 4.0 == world.now


async def test_an_attempt_within_its_limits_is_left_in_peace(world: World) -> None:
    assert "ok" == await built(world, Deadline(4), AttemptTimeout(2)).call(script(world.takes(1.999, "ok")))


async def test_each_attempt_has_the_whole_of_its_timeout(world: World) -> None:
    """B64: a scope made with the engine, or once for all attempts, would be used up."""
    engine = built(world, Retry(attempts=4, backoff=Constant(5)), AttemptTimeout(2))
    await world.sleep(50)
    fetch = script(*[world.takes(1.5, ConnectionError)] * 3, world.takes(1.5, "ok"))

    assert "ok" == await engine.call(fetch)


async def test_calls_of_one_engine_each_have_a_time_of_their_own(world: World) -> None:
    engine = built(world, Deadline(2))
    for _ in range(3):
        assert "ok" == await engine.call(script(world.takes(1.5, "ok")))


async def test_waiting_for_a_token_counts_against_the_deadline(world: World) -> None:
    async def login(stale: str | None) -> str:
        await world.sleep(10)
        return "new"

    fetch = script()
    with pytest.raises(DeadlineExceeded):
        await built(world, Deadline(3), RefreshToken(login)).call(fetch)

    assert (0, 3.0) == (fetch.calls, world.now)


async def test_but_not_against_the_attempts_timeout(world: World) -> None:
    async def login(stale: str | None) -> str:
        await world.sleep(10)
        return "new"

    assert "ok" == await built(world, RefreshToken(login), AttemptTimeout(2)).call(script(world.takes(1, "ok")))


async def test_a_timed_out_attempt_of_an_unsafe_call_is_not_repeated(world: World) -> None:
    """D4: it may have worked all the same."""
    fetch = script(world.takes(math.inf))

    with pytest.raises(AttemptTimedOut):
        await built(world, RETRY, AttemptTimeout(2)).using(method="POST").call(fetch)

    assert 1 == fetch.calls


@pytest.mark.parametrize(
    ("policies", "remaining"), [((), math.inf), ((AttemptTimeout(2),), math.inf), ((Deadline(5), AttemptTimeout(2)), 5.0)]
)
async def test_what_is_left_of_the_call_is_not_shortened_by_the_attempts_limit(world: World, policies: Any, remaining: float) -> None:
    async def look() -> float:
        return current().remaining

    assert remaining == await built(world, *policies).call(look)
