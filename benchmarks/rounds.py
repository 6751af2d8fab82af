"""
How the benchmarks measure: all variants in one process, in many short turns.

A machine drifts: between two speeds of its processor, with its neighbours' work, with the temperature.  So no figure stands for itself,
and what counts is the thread's own time on the processor: nothing measured here waits, and somebody else's turn is not ours.
Each turn of a variant lies between two turns of every baseline, the order is shuffled anew in each round, and what counts is the median of
the turns, each compared with its own neighbours.  The garbage collector is off while the clock runs and cleans up in between, so that
nobody pays for another's garbage (nor, which flatters some, for their own).
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import json
import logging
import math
import pathlib
import platform
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import repeat
from typing import Any, TypeAlias

import attrs

__all__ = [
    "ABREAST",
    "Operation",
    "Times",
    "Turn",
    "Wrap",
    "abreast",
    "as_in_production",
    "footer",
    "installed",
    "machine",
    "measured",
    "one_by_one",
    "quartiles",
    "save",
]

Operation: TypeAlias = Callable[[object], Awaitable[object]]
Wrap: TypeAlias = Callable[[Operation], Operation]
Times: TypeAlias = Callable[[int], Awaitable[float]]
"""Make so many calls; the nanoseconds of CPU time that one of them took."""

ABREAST = 16
"""Tasks that share the event loop's own work where the operation suspends: on its own it would drown what is to be measured."""

_ARGUMENT = object()


@attrs.frozen
class Turn:
    """
    One turn of a variant.

    Args:
        took: Nanoseconds per call.
        before: The same for each baseline just before ...
        after: ... and just after.
    """

    took: float
    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def beside(self) -> dict[str, float]:
        """What each baseline took around this turn."""
        return {name: (self.before[name] + self.after[name]) / 2 for name in self.before}

    @property
    def unrest(self) -> float:
        """How far the baselines before and after disagree, 0 for not at all: has the machine changed its speed meanwhile?"""
        return sum(abs(math.log(self.after[name] / self.before[name])) for name in self.before)


def one_by_one(fn: Operation) -> Times:
    """Call *fn* again and again in one task."""

    async def times(calls: int) -> float:
        start = time.thread_time_ns()
        for _ in repeat(None, calls):
            await fn(_ARGUMENT)
        return (time.thread_time_ns() - start) / calls

    return times


def abreast(fn: Operation) -> Times:
    """Call *fn* in `ABREAST` tasks that take turns."""

    async def some(calls: int, begin: asyncio.Event) -> None:
        await begin.wait()
        for _ in repeat(None, calls):
            await fn(_ARGUMENT)

    async def times(calls: int) -> float:
        each = -(-calls // ABREAST)
        begin = asyncio.Event()
        tasks = [asyncio.create_task(some(each, begin)) for _ in range(ABREAST)]
        await asyncio.sleep(0)
        start = time.thread_time_ns()
        begin.set()
        await asyncio.gather(*tasks)
        return (time.thread_time_ns() - start) / (each * ABREAST)

    return times


async def measured(variants: Mapping[str, Times], baselines: Mapping[str, Times], *, rounds: int, turn: float) -> dict[str, list[Turn]]:
    """
    The calmer half of the turns of each variant: those whose neighbours agree best.

    Args:
        variants: What to measure, by name.
        baselines: What to measure before and after each of them.
        rounds: Turns of each variant; >= 1.
        turn: Seconds one turn takes, roughly.
    """
    calls = {name: await _calls_in(turn, times) for name, times in (*variants.items(), *baselines.items())}
    turns: dict[str, list[Turn]] = {name: [] for name in variants}
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for _ in range(rounds):
            before = {name: await times(calls[name]) for name, times in baselines.items()}
            for name in random.sample(list(variants), len(variants)):
                took = await variants[name](calls[name])
                await asyncio.sleep(0)  # lets the event loop clear the cancelled timers away, which nobody who never waits gives it
                gc.collect()
                after = {name: await times(calls[name]) for name, times in baselines.items()}
                turns[name].append(Turn(took, before, after))
                before = after
    finally:
        gc.enable()
        gc.unfreeze()
    return {name: sorted(row, key=lambda turn: turn.unrest)[: (rounds + 1) // 2] for name, row in turns.items()}


async def _calls_in(turn: float, times: Times) -> int:
    await times(100)  # first calls find things out once and for all
    return max(ABREAST, int(turn * 1e9 / statistics.median([await times(100) for _ in range(5)])))


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper one."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def as_in_production() -> None:
    """Log at info: successes are debug, and wanted by nobody."""
    logging.basicConfig(level=logging.INFO)


def footer(rounds: int, distributions: Iterable[str]) -> str:
    """What a table belongs to, in one line."""
    versions = ", ".join(f"{name} {version}" for name, version in installed(distributions).items())
    return f"{', '.join(machine().values())}; medians of {rounds} rounds; {versions}"


def installed(distributions: Iterable[str]) -> dict[str, str]:
    """Versions of those that are there."""
    versions: dict[str, str] = {}
    for name in distributions:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def machine() -> dict[str, str]:
    """What the figures belong to."""
    try:
        about = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
        model = next(line.partition(":")[2].strip() for line in about.splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return {"processor": model, "system": platform.system(), "python": f"{platform.python_implementation()} {platform.python_version()}"}


def save(file: str, result: Mapping[str, Any]) -> None:
    """Write *result* as JSON."""
    pathlib.Path(file).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
