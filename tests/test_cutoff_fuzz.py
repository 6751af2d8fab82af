"""
Stories of nested scopes, groups, shields, cutoffs, swallowed and converted cancellations, told with real scopes and with shared cutoffs.

Both must go alike: the same things happen at the same times, nobody is cancelled who would not have been, no count of cancellations is
left over, and no outer scope is missed.  The suite tells some hundreds; as many as one likes are told by

    python tests/test_cutoff_fuzz.py 100000
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
import time
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from resilience import backend
from resilience.testing import World
from resilience.timers import SharedCutoff

DEPTH = 4
TELLINGS = 20
TICKS = [1.0, 2.0, 3.0, 4.0]  # few, so that much happens at once


@attrs.frozen
class Node:
    """
    One thing that a task does.

    Args:
        kind: What.
        at: A time for it: how long to sleep, when to be cancelled or cut.
        shield: Of a scope.
        body: What it does inside, one after another, or, in a group, side by side.
    """

    kind: str
    at: float | None = None
    shield: bool = False
    body: tuple[Node, ...] = ()


def story(dice: random.Random, depth: int = DEPTH) -> tuple[Node, ...]:
    """What one task does."""
    return tuple(_node(dice, depth) for _ in range(dice.choice([1, 1, 2, 3])))


def _node(dice: random.Random, depth: int) -> Node:
    kind = dice.choice(["sleep", "sleep", "checkpoint"] if depth == 0 else [*KINDS, "cutoff", "cutoff"])
    at = dice.choice(TICKS) if kind in {"sleep", "cutoff", "late"} else dice.choice([None, *TICKS])
    body = () if depth == 0 or kind in LEAVES else story(dice, depth - 1)
    return Node(kind, at, dice.random() < 0.3, body)


LEAVES = {"sleep", "checkpoint", "raise"}
KINDS = ["sleep", "sleep", "checkpoint", "raise", "scope", "group", "start", "swallow", "convert", "finally", "late"]


class Teller:
    """Tells one story with one kind of cutoffs, and notes what happens."""

    def __init__(self, *, shared: bool) -> None:
        self.world = World()
        self.shared = shared
        self.told: list[Any] = []

    def note(self, *words: Any) -> None:
        self.told.append((self.world.now, *words))

    def cutoff(self, at: float) -> Any:
        """A cutoff that is due *at* that time from now; with both kinds in the same callback of the loop."""
        made: Any
        if self.shared:
            made = SharedCutoff.here(3600.0)
            assert made is not None
            self.world.at(self.world.now + at, partial(_come_due, made))
        else:
            made = backend._Cutoff(float("inf"), shield=False)
            self.world.at(self.world.now + at, partial(_expire, made))
        return made

    async def all_of(self, nodes: tuple[Node, ...], path: str) -> None:
        for index, node in enumerate(nodes):
            await self.one(node, f"{path}.{index}")

    async def one(self, node: Node, path: str) -> None:
        self.note("begin", path)
        act = {"cutoff": self.cut, "finally": self.cleaning_up, "raise": self.raises}.get(node.kind) or getattr(self, node.kind)
        try:
            await act(node, path)
        except BaseException as error:
            self.note("left by", path, _shape(error))
            raise
        self.note("end", path)

    async def sleep(self, node: Node, path: str) -> None:
        await self.world.sleep(node.at or 0.0)

    async def checkpoint(self, node: Node, path: str) -> None:
        await anyio.lowlevel.checkpoint()

    async def raises(self, node: Node, path: str) -> None:
        raise ValueError(path)

    async def scope(self, node: Node, path: str) -> None:
        with anyio.CancelScope(shield=node.shield) as scope:
            if node.at is not None:
                self.world.at(self.world.now + node.at, scope.cancel)
            await self.all_of(node.body, path)
        self.note("scope", path, scope.cancel_called, scope.cancelled_caught)

    async def group(self, node: Node, path: str) -> None:
        async with anyio.create_task_group() as group:
            if node.at is not None:
                self.world.at(self.world.now + node.at, group.cancel_scope.cancel)
            for index, child in enumerate(node.body):
                group.start_soon(self.one, child, f"{path}|{index}")

    async def start(self, node: Node, path: str) -> None:
        """A task that tells its group in the middle of a cutoff that it has begun: its scopes are moved to another parent."""

        async def begins(task_status: Any) -> None:
            with self.cutoff(node.at or 2.0) as cutoff:
                await anyio.lowlevel.checkpoint()
                task_status.started()
                await self.all_of(node.body, f"{path}|")
            self.note("cutoff", path, cutoff.cancel_called, cutoff.cancelled_caught)

        async with anyio.create_task_group() as group:
            with contextlib.suppress(RuntimeError):  # cut before it could say so
                await group.start(begins)

    async def cut(self, node: Node, path: str) -> None:
        before = backend.cancel_count()
        cutoff = self.cutoff(node.at or 0.0)
        try:
            with cutoff:
                await self.all_of(node.body, path)
        except Exception as error:
            self.note("was cut", path, backend.was_cut(cutoff, before), _shape(error))
            raise
        self.note("cutoff", path, cutoff.cancel_called, cutoff.cancelled_caught)

    async def late(self, node: Node, path: str) -> None:
        """A cutoff around work that goes on for a while when it is cancelled."""
        cutoff = self.cutoff(node.at or 0.0)
        with cutoff:
            try:
                await self.all_of(node.body, path)
            finally:
                with anyio.CancelScope(shield=True):
                    await self.world.sleep(1.5)
        self.note("cutoff", path, cutoff.cancel_called, cutoff.cancelled_caught)

    async def swallow(self, node: Node, path: str) -> None:
        try:
            await self.all_of(node.body, path)
        except anyio.get_cancelled_exc_class():
            self.note("swallowed", path)

    async def convert(self, node: Node, path: str) -> None:
        try:
            await self.all_of(node.body, path)
        except anyio.get_cancelled_exc_class():
            raise RuntimeError(path) from None

    async def cleaning_up(self, node: Node, path: str) -> None:
        try:
            await self.all_of(node.body, path)
        finally:
            await anyio.lowlevel.checkpoint()

    async def tell(self, nodes: tuple[Node, ...], cancels: list[float]) -> list[Any]:
        """All that happens, and how it ends; *cancels* are native."""
        around = anyio.CancelScope()

        async def whole() -> None:
            try:
                with around:
                    await self.all_of(nodes, "")
            except BaseException as error:
                self.note("whole left by", _shape(error), backend.cancel_count())
                if isinstance(error, asyncio.CancelledError):
                    raise
            else:
                self.note("whole ends", around.cancelled_caught, backend.cancel_count())
            with contextlib.suppress(asyncio.CancelledError):
                # What is left of a cancellation would strike here.
                await self.world.sleep(10.0)
                self.note("peace")

        task = asyncio.create_task(whole())
        for at in cancels:
            self.world.at(at, task.cancel)
        self.world.at(20.0, around.cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self.note("task", task.cancelling(), task.cancelled())
        return self.told


def _shape(error: BaseException) -> Any:
    if isinstance(error, BaseExceptionGroup):
        return sorted(map(repr, map(_shape, error.exceptions)))
    return type(error).__name__


def _expire(made: Any) -> None:
    if made._scope is not None:
        made._scope.cancel()


def _come_due(made: Any) -> None:
    after = getattr(made, "after", None)
    if after is not None:
        before = made.before
        before.after, after.before, made.before, made.after = after, before, None, None
        made.become()


async def differs(seed: int) -> str | None:
    """
    Whether a story goes differently with shared cutoffs; how, if it does.

    anyio keeps the tasks of a scope in a set, so that even with real scopes it may go differently from one telling to the next where
    several are cancelled at once.  Then it is enough that one telling with shared cutoffs is like one with real scopes.
    """
    dice = random.Random(seed)
    nodes = story(dice)
    cancels = dice.choices(TICKS, k=dice.choice([0, 0, 0, 1, 1, 2]))
    real: set[str] = set()
    shared: set[str] = set()
    for _ in range(TELLINGS):
        real.add(_sorted(await Teller(shared=False).tell(nodes, cancels)))
        shared.add(_sorted(await Teller(shared=True).tell(nodes, cancels)))
        if real & shared:
            return None
    return f"{min(real)}\n--- shared:\n{min(shared)}"


def _sorted(told: list[Any]) -> str:
    """Side by side, tasks may take their steps in any order."""
    return "\n".join(sorted(map(repr, told)))


@pytest.mark.anyio
@pytest.mark.parametrize(
    "anyio_backend",
    [pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"), pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop")],
)
@pytest.mark.parametrize("seed", range(0, 200, 20))
async def test_a_shared_cutoff_does_what_a_real_scope_does(seed: int) -> None:
    for one in range(seed, seed + 20):
        how = await differs(one)

        assert how is None, f"story {one}: {how}"


def main(count: int) -> int:
    """Tell *count* stories on each loop."""
    for uvloop in (False, True):
        begun = time.perf_counter()

        async def tell_all() -> list[int]:
            return [seed for seed in range(count) if await differs(seed) is not None]

        different = anyio.run(tell_all, backend_options={"use_uvloop": uvloop})
        took = time.perf_counter() - begun
        print(f"{'uvloop' if uvloop else 'asyncio'}: {count} stories, {len(different)} told differently {different[:10]}, {took:.0f} s")
        if different:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000))
