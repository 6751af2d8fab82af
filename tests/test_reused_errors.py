"""Programs keep exceptions: in constants, caches, futures awaited twice.  What one call decided says nothing about the next."""

from __future__ import annotations

import anyio
import pytest

from resilience import Constant, Engine, Retry, history
from resilience.testing import World, script

pytestmark = pytest.mark.anyio

GONE = ConnectionError("one instance for all")


async def test_an_error_that_one_call_gave_up_on_is_retried_by_the_next(world: World) -> None:
    e = Engine([Retry(attempts=2)], env=world.env)
    with pytest.raises(ConnectionError):
        await e.using(repeatable=False).call(script(GONE))

    assert "ok" == await e.call(script(GONE, "ok"))


async def test_the_history_of_an_error_raised_again_is_that_of_the_latest_call(world: World) -> None:
    for attempts in (3, 2):
        with pytest.raises(ConnectionError):
            await Engine([Retry(attempts=attempts)], env=world.env).call(script(*[GONE] * attempts))

    assert 2 == len(history(GONE))


async def test_a_decision_made_two_engines_further_in_holds_for_all_around(world: World) -> None:
    """D9, though the engine in the middle has no Retry of its own to say so."""
    posted = script(TimeoutError("lost"), "charged twice")
    inner = Engine([Retry()], env=world.env, name="inner").using(method="POST")
    middle = Engine(env=world.env, name="middle")
    outer = Engine([Retry()], env=world.env, name="outer")

    async def through_the_middle() -> object:
        return await middle.call(through_the_inner)

    async def through_the_inner() -> object:
        try:
            return await inner.call(posted)
        except TimeoutError as error:
            raise ConnectionError("wrapped in something that may be repeated") from error

    with pytest.raises(ConnectionError, match="wrapped"):
        await outer.call(through_the_middle)
    assert 1 == posted.calls


async def test_an_error_that_two_tasks_share_ends_no_call_but_its_own(world: World) -> None:
    """A future awaited twice raises one instance in both; what the first call lets go of at its end must not be the second's."""
    got: list[object] = []

    async def late() -> None:
        await world.sleep(0.5)
        got.append(await Engine([Retry(backoff=Constant(10))], env=world.env).call(script(GONE, "late")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(late)
        got.append(await Engine([Retry(backoff=Constant(1))], env=world.env).call(script(GONE, "early")))

    assert ["early", "late"] == got
