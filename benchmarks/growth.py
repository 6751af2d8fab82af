"""
How the price of a call grows: with the calls in flight, with the policies, with the calls and the keys seen before.  It is to stay flat.

    python -m benchmarks.growth [--effort E]

What is measured, and against what:

- **Calls at once.**  So many tasks call in turns, and each call waits one round of the event loop, so that all of them are in flight.  The
  same tasks without an engine are measured before and after, in the same way, and what counts is the difference.  A hundred thousand tasks
  fill no cache of any processor: everything that is touched gets dearer, the bare task as well, and its own growth is told beside ours.
- **Policies.**  Each does nothing but await what is inside it.  The slope is that of a straight line through all points but the first: an
  engine without policies takes a shorter way.
- **Calls in one process.**  With the garbage collector off, so that a cycle left behind would stay.  A thousandth of the calls fail once.
- **Memory of a call in flight.**  A process of its own for each kind of task, a hundred thousand of them asleep, and the resident memory
  that they added.  The bare task's is taken off.
- **A breaker for each key.**  A call for a key that is kept, and one for a key that was never seen before and for which another has to go,
  against the same engine with one circuit for all, after more and more keys.
- **Garbage.**  What the collector finds after a call of each ending, less what it finds after the same without an engine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import gc
import itertools
import json
import math
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Generator, Mapping, Sequence
from types import coroutine
from typing import Any, TypeAlias

import attrs

from benchmarks.aims import aimed
from benchmarks.figures import Curve, Figure
from benchmarks.rounds import Operation, as_in_production, footer, measured, one_by_one
from benchmarks.tables import tables
from resilience import (
    AttemptTimeout,
    CircuitBreaker,
    Constant,
    Deadline,
    Engine,
    Env,
    IdempotencyKey,
    RefreshToken,
    Retry,
    current,
)
from resilience.decide.breaker import Circuit
from resilience.dialects import callmissed
from resilience.events import Event
from resilience.policy import Handler, Policy

__all__ = ["GROWTH", "LIBRARIES", "curves", "figures", "main"]

GROWTH = "growth"
LIBRARIES = ("resilience-engine", "anyio")

_ARGUMENT = object()
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_STATM = pathlib.Path("/proc/self/statm")

Figures: TypeAlias = list[Figure]
Task: TypeAlias = Callable[[], Coroutine[Any, Any, None]]


# What runs.


async def ready(x: object) -> object:
    """Has its result at once."""
    return x


@coroutine
def _next_round() -> Generator[None, None, None]:
    yield


async def suspending(x: object) -> object:
    """Waits one round of the event loop."""
    await _next_round()
    return x


async def _login(stale: str | None) -> str:
    raise AssertionError(stale)  # nothing expires here


async def suspending_keyed(x: object) -> object:
    """The same, but that it takes its call's key."""
    current().take_key()
    await _next_round()
    return x


def _everything() -> Engine:
    return Engine(
        [
            Deadline(600),
            IdempotencyKey(),
            RefreshToken(_login, token="t"),
            Retry(backoff=Constant(0)),
            CircuitBreaker(),
            AttemptTimeout(150),
        ],
        rules=callmissed.RULES,
    )


def _figure(row: str, value: float, unit: str, **beside: float) -> Figure:
    return Figure(row, value, unit, group=GROWTH, beside=beside)


def _silent(event: Event) -> None:
    """Hears everything, so that every event is made."""


def _resident() -> int:
    """Bytes of this process that are in memory."""
    return int(_STATM.read_text(encoding="ascii").split()[1]) * _PAGE


# Calls at once.

AT_ONCE = (1, 10, 100, 1_000, 10_000, 100_000)
_CALLS = 20_000  # of a turn, at least, by all tasks together
_PROBED = 5_000  # calls of an operation that is ready, to see how fast the processor is just now


async def _in_turns(fn: Operation, tasks: int) -> float:
    """Nanoseconds of CPU time a call, where so many tasks take turns and each is in a call all the time."""
    begin, calls = asyncio.Event(), max(2, _CALLS // tasks)

    async def some() -> None:
        await fn(_ARGUMENT)  # takes memory that is there to be used again from now on
        await begin.wait()
        for _ in itertools.repeat(None, calls):
            await fn(_ARGUMENT)

    started = [asyncio.ensure_future(some()) for _ in range(tasks)]
    for _ in range(5):
        await asyncio.sleep(0)  # in two rounds each has made its first call
    gc.collect()
    start = time.thread_time_ns()
    begin.set()
    for task in started:
        await task
    return (time.thread_time_ns() - start) / (tasks * calls)


async def _taking_turns(tasks: int, unit: float, effort: float) -> tuple[float, float]:
    """What an engine adds to a call, and what the bare task takes, in W, where so many take turns."""
    ours, probe = _everything()(suspending_keyed), one_by_one(ready)
    await ours(_ARGUMENT)
    turns: list[tuple[float, float]] = []
    before, speed = await _in_turns(suspending, tasks), await probe(_PROBED)
    for _ in range(max(2, round(effort * (3 if tasks > 10_000 else 7)))):
        took = await _in_turns(ours, tasks)
        after, after_speed = await _in_turns(suspending, tasks), await probe(_PROBED)
        w, bare = unit * (speed + after_speed) / 2, (before + after) / 2
        turns.append(((took - bare) / w, bare / w))
        before, speed = after, after_speed
    added, bare = (statistics.median(column) for column in zip(*turns, strict=True))
    return added, bare


async def _beside_sleepers(sleepers: int, unit: float, effort: float) -> float:
    """What an engine adds to a call, in W, made by one task while so many other calls of the same engine sleep."""
    engine, wake = _everything(), asyncio.Event()
    ours, sleeping = engine(suspending_keyed), engine(wake.wait)
    await ours(_ARGUMENT)
    asleep = [asyncio.ensure_future(sleeping()) for _ in range(sleepers)]
    await asyncio.sleep(0)
    baselines = {"bare": one_by_one(suspending), "ready": one_by_one(ready)}
    turns = await measured({"ours": one_by_one(ours)}, baselines, rounds=max(9, round(effort * 41)), turn=0.002)
    wake.set()
    for task in asleep:
        await task
    return statistics.median((turn.took - turn.beside["bare"]) / turn.beside["ready"] / unit for turn in turns["ours"])


async def _at_once(unit: float, effort: float) -> tuple[Figures, list[Curve]]:
    beside = {calls: await _beside_sleepers(calls - 1, unit, effort) for calls in AT_ONCE}
    gc.disable()
    turns = {calls: await _taking_turns(calls, unit, effort) for calls in AT_ONCE}
    gc.enable()
    added, bare = ({calls: turn[which] for calls, turn in turns.items()} for which in (0, 1))
    last, base = AT_ONCE[-1], 100  # below a hundred, rounds of the loop with little in them are what a bare task pays for
    found = [
        _figure("up to 100,000 calls at once, one of which runs: growth", _grown(beside), "x"),
        _figure("100 to 100,000 calls that take turns: growth", added[last] / added[base], "x"),
        Figure(
            "100 to 100,000 calls that take turns: growth, of a bare task's",
            added[last] / added[base] / (bare[last] / bare[base]),
            "x",
            group=GROWTH,
        ),
    ]
    drawn = [
        Curve("what the engine adds to a call while others sleep", "calls at once", "W", _points(beside), log=True),
        Curve("what it adds where all take turns", "calls at once", "W", _points(added), log=True),
        Curve("a bare task of that kind", "tasks at once", "W", _points(bare), log=True),
    ]
    return found, drawn


def _points(costs: Mapping[int, float]) -> list[tuple[float, float]]:
    return [(float(count), cost) for count, cost in costs.items()]


def _fitted(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and intercept of the straight line through *points*, by least squares."""
    return statistics.linear_regression(*zip(*points, strict=True))


def _grown(costs: Mapping[int, float]) -> float:
    """Where the line through all costs ends, over counts that are drawn in powers of ten, of where it begins."""
    slope, intercept = _fitted([(math.log10(count), cost) for count, cost in costs.items()])
    return 1 + slope * math.log10(max(costs)) / intercept


# Policies.

POLICIES = range(13)


class PassThrough:
    """A policy that awaits what is inside it, and does nothing else."""

    def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:  # noqa: ARG002 - the shape of Policy
        """Hand everything through."""

        async def passing(call: Any) -> Any:
            return await inner(call)

        return passing


async def _by_policies(effort: float) -> tuple[Figures, list[Curve], float]:
    async def wrapper(x: object) -> object:
        return await ready(x)

    variants = {count: Engine([PassThrough() for _ in range(count)], rules=callmissed.RULES)(ready) for count in POLICIES}
    baselines = {"ready": one_by_one(ready), "wrapper": one_by_one(wrapper)}
    times = {str(count): one_by_one(fn) for count, fn in variants.items()}
    turns = await measured(times, baselines, rounds=max(9, round(effort * 61)), turn=0.0006)
    unit = statistics.median(turn.beside["wrapper"] / turn.beside["ready"] - 1 for row in turns.values() for turn in row)
    points = [
        (float(name), statistics.median((turn.took / turn.beside["ready"] - 1) / unit for turn in row)) for name, row in turns.items()
    ]
    slope, _ = _fitted(points[1:])
    found = [
        _figure("each further pass-through policy", slope, "W"),
        _figure("the first one, for which the short way is left", points[1][1] - points[0][1], "W"),
    ]
    return found, [Curve("a call through policies that do nothing", "policies", "W", points)], unit


# Calls in one process, and memory: in processes of their own.

CALLS = 10_000_000
SAMPLES = 20
ASLEEP = 100_000


async def _many(calls: int) -> list[tuple[int, int]]:
    """Make so many calls; how many had been made and what was resident then, so and so often."""
    failing = itertools.cycle([True, *itertools.repeat(False, 999)])

    async def operation(x: object) -> object:
        call = current()
        call.take_key()
        if call.attempt == 1 and next(failing):
            raise ConnectionRefusedError
        return x

    engine = Engine(
        [IdempotencyKey(), RefreshToken(_login, token="t"), Retry(backoff=Constant(0)), CircuitBreaker()],
        rules=callmissed.RULES,
        env=attrs.evolve(Env(), emit=_silent),
    )
    call = engine(operation)
    gc.disable()  # a cycle that is left behind is to show
    seen: list[tuple[int, int]] = []
    for sample in range(SAMPLES + 1):
        seen.append((sample * calls // SAMPLES, _resident()))
        for _ in itertools.repeat(None, calls // SAMPLES):
            await call(_ARGUMENT)
    return seen[1:]  # what the first calls find out is found out once and for all


async def _asleep(kind: str) -> float:
    """Bytes that each of a hundred thousand tasks of a kind holds while it sleeps."""
    engines = {"bare": None, "no policy": Engine(rules=callmissed.RULES), "everything on": _everything()}
    engine = engines[kind]
    keyed = kind == "everything on"

    async def operation(seconds: float) -> None:
        if keyed:
            current().take_key()
        await asyncio.sleep(seconds)

    fn = operation if engine is None else engine(operation)
    for _ in range(100):
        await fn(0)
    gc.collect()
    gc.disable()
    before = _resident()
    tasks = [asyncio.ensure_future(fn(1e6)) for _ in range(ASLEEP)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    held = (_resident() - before) / ASLEEP
    for task in tasks:
        task.cancel()
    return held


def _alone(*what: str) -> Any:
    """What this module finds in a process of its own."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.growth", *what], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def _in_one_process(effort: float) -> tuple[Figures, list[Curve]]:
    calls = max(SAMPLES * 1_000, round(CALLS * effort))
    seen = _alone("--calls", str(calls))
    slope, _ = _fitted(seen)
    added = slope * (seen[-1][0] - seen[0][0]) / 1024
    found = [
        _figure("memory that 20 times as many calls take", max(0.0, added), "KiB", calls=calls),
    ]
    return found, [Curve("memory of one process", "calls made", "MiB", [(made, resident / 2**20) for made, resident in seen])]


def _in_flight() -> Figures:
    held = {kind: _alone("--asleep", kind) for kind in ("bare", "no policy", "everything on")}
    return [
        _figure(f"memory of a call in flight: {kind}", (held[kind] - held["bare"]) / 1024, "KiB") for kind in ("no policy", "everything on")
    ]


# A breaker for each key.

KEYS = (1_000, 10_000, 100_000, 1_000_000)


async def _by_keys(unit: float, effort: float) -> tuple[Figures, list[Curve]]:
    for_all = Engine([CircuitBreaker()], rules=callmissed.RULES)(ready)
    for_each = Engine([CircuitBreaker(key=lambda call: call.args[0])], rules=callmissed.RULES)(ready)
    await for_all(_ARGUMENT)
    others, seen = _circuits(), 0

    async def kept(calls: int) -> float:
        keys = range(seen - 500, seen)
        for key in keys:
            await for_each(key)
        turns = itertools.islice(itertools.cycle(keys), calls)
        start = time.thread_time_ns()
        for key in turns:
            await for_each(key)
        return (time.thread_time_ns() - start) / calls

    async def never_seen(calls: int) -> float:
        nonlocal seen
        keys = range(seen, seen + calls)
        seen += calls
        start = time.thread_time_ns()
        for key in keys:
            await for_each(key)
        return (time.thread_time_ns() - start) / calls

    looked_up: dict[int, float] = {}
    replaced: dict[int, float] = {}
    resident: dict[int, int] = {}
    baselines = {"ready": one_by_one(ready), "one": one_by_one(for_all)}
    for keys in KEYS:
        if seen < keys:
            await never_seen(keys - seen)
        resident[keys] = _resident()
        turns = await measured({"kept": kept, "new": never_seen}, baselines, rounds=max(9, round(effort * 31)), turn=0.002)
        looked_up[keys], replaced[keys] = (
            statistics.median((turn.took - turn.beside["one"]) / turn.beside["ready"] / unit for turn in turns[name])
            for name in ("kept", "new")
        )
    base, last = KEYS[1], KEYS[-1]
    row = f"a breaker for each of {last:,} keys"
    found = [
        _figure(f"{row}: to find one that is kept", looked_up[last], "W"),
        _figure(f"{row}: to make room for a new one", replaced[last], "W"),
        _figure(f"{row}: that, of what it was after {base:,}", replaced[last] / replaced[base], "x"),
        _figure(f"{row}: circuits kept", _circuits() - others, "circuits"),
        _figure(f"{row}: memory since the first {base:,}", max(0, resident[last] - resident[base]) / 2**20, "MiB"),
    ]
    drawn = [
        Curve("to find the circuit of a kept key", "keys seen", "W", _points(looked_up), log=True),
        Curve("to make room for a new key's circuit", "keys seen", "W", _points(replaced), log=True),
    ]
    return found, drawn


def _circuits() -> int:
    gc.collect()
    return sum(isinstance(one, Circuit) for one in gc.get_objects())


# Garbage.


class _Lost(ConnectionRefusedError):
    """Nothing was sent, so that it may be repeated."""


async def _fails() -> None:
    raise _Lost


async def _hangs() -> None:
    await asyncio.Event().wait()


def _recovers() -> Task:
    attempts = itertools.count(1)

    async def operation() -> None:
        if next(attempts) < 3:
            raise _Lost

    return operation


async def _succeeds() -> None:
    await _next_round()


async def _cancelled(run: Callable[[Task], Coroutine[Any, Any, None]]) -> None:
    task = asyncio.ensure_future(run(_hangs))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def _limited(fn: Task) -> None:
    async with asyncio.timeout(0.001):
        await fn()


async def _bare(fn: Task) -> None:
    await fn()


async def _garbage() -> Figures:
    """Endings with everything on, but for what would end it otherwise; each beside the same without an engine."""

    def engine(*, attempt: float = 150, seconds: float = 600, minimum: int = 1_000_000) -> Engine:
        breaker = CircuitBreaker(minimum=minimum, cooldown=600, max_cooldown=600)
        policies: list[Policy] = [Deadline(seconds), IdempotencyKey(), RefreshToken(_login, token="t"), Retry(backoff=Constant(0)), breaker]
        if attempt < seconds:
            policies.append(AttemptTimeout(attempt))
        return Engine(policies, rules=callmissed.RULES, env=attrs.evolve(Env(), emit=_silent))

    calm, opened, hasty, late = engine(), engine(minimum=1), engine(attempt=0.001), engine(seconds=0.001)
    endings: dict[str, tuple[Task, Task]] = {
        "success": (lambda: calm.call(_succeeds), _succeeds),
        "two retries and success": (lambda: calm.call(_recovers()), _succeeds),
        "exhaustion": (lambda: calm.call(_fails), _fails),
        "rejection by an open breaker": (lambda: opened.call(_fails), _fails),
        "the time of an attempt": (lambda: hasty.call(_hangs), lambda: _limited(_hangs)),
        "the time of the call": (lambda: late.call(_hangs), lambda: _limited(_hangs)),
        "cancellation": (lambda: _cancelled(calm.call), lambda: _cancelled(_bare)),
    }
    found: Figures = []
    for name, (ours, theirs) in endings.items():
        left = max(0, await _left_by(ours) - await _left_by(theirs))
        found.append(_figure(f"objects left for the collector after {name}", left, "objects"))
    return found


async def _left_by(end: Task, times: int = 20) -> int:
    async def ended() -> None:
        with contextlib.suppress(Exception):
            await end()
        await asyncio.sleep(0)  # the loop may hold the last of it until then

    for _ in range(3):
        await ended()
    gc.collect()
    gc.disable()
    for _ in range(times):
        await ended()
    left = gc.collect()
    gc.enable()
    return left


# All of it.


@functools.cache
def _found(effort: float) -> tuple[Figures, list[Curve]]:
    by_policies, policies, unit = asyncio.run(_by_policies(effort))
    at_once, at_once_drawn = asyncio.run(_at_once(unit, effort))
    by_calls, calls = _in_one_process(effort)
    by_keys, keys = asyncio.run(_by_keys(unit, effort))
    garbage = asyncio.run(_garbage())
    return [*at_once, *by_policies, *by_calls, *_in_flight(), *by_keys, *garbage], [*at_once_drawn, *policies, *calls, *keys]


def figures(effort: float = 1.0) -> Figures:
    """
    How costs grow, in figures.

    Args:
        effort: How much of the usual work to put into it; > 0.
    """
    return _found(effort)[0]


def curves(effort: float = 1.0) -> list[Curve]:
    """The same as curves; measured only once."""
    return _found(effort)[1]


def main() -> None:
    """Measure and print, or answer what this module asks of itself."""
    parser = argparse.ArgumentParser(description="How the price of a call grows.")
    parser.add_argument("--effort", type=float, default=1.0, help="how much of the usual work to put into it (default: 1)")
    parser.add_argument("--calls", type=int, help="what is resident while so many calls are made, as JSON")
    parser.add_argument("--asleep", help="what a sleeping task of this kind takes, as JSON")
    options = parser.parse_args()
    as_in_production()
    if options.calls:
        print(json.dumps(asyncio.run(_many(options.calls))))
        return
    if options.asleep:
        print(json.dumps(asyncio.run(_asleep(options.asleep))))
        return
    print(tables(aimed(figures(options.effort))))
    for curve in curves(options.effort):
        print(f"\n{curve.title}: {curve.y} by {curve.x}")
        print("\n".join(f"{x:>12,.0f}  {y:,.2f}" for x, y in curve.points))
    print(f"\n{footer(round(61 * options.effort), LIBRARIES)}")


if __name__ == "__main__":
    main()
