"""
What a call costs in which nothing goes wrong.

The unit is W: the overhead of a plain wrapper coroutine, ``async def w(x): return await op(x)``, over a bare ``await op(x)``, which is
what everybody pays for one more function.  A row's figure is all that stands between the caller and the operation, in W, first for an
operation that has its result at once, then, in the same unit, for one that really suspends, once.

    python -m benchmarks.happy_path [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import functools
import itertools
import os
import statistics
import time
import types
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, TypeAlias

import anyio

from benchmarks import peers
from benchmarks.aims import BESIDE, HAPPY, aimed
from benchmarks.figures import Figure
from benchmarks.results import Result
from benchmarks.rounds import Operation, Turn, Wrap, abreast, as_in_production, footer, measured, one_by_one, quartiles
from benchmarks.tables import tables
from resilience import AttemptTimeout, CircuitBreaker, Deadline, Engine, IdempotencyKey, RefreshToken, Retry, current
from resilience.dialects import callmissed

__all__ = ["LIBRARIES", "ROUNDS", "figures", "main"]

ROUNDS = 101
TURN = 0.0006  # seconds, and where the operation suspends ...
LONGER = 0.002  # ... for its tasks take some starting
LIBRARIES = ("resilience-engine", "anyio", "attrs", "structlog", *peers.DISTRIBUTIONS)


# The operations


@types.coroutine
def _next_round() -> Generator[None, None, None]:
    """Let the other tasks run: what `asyncio.sleep` does for 0 seconds."""
    yield


async def ready(x: object) -> object:
    """An operation that has its result at once."""
    return x


async def suspending(x: object) -> object:
    """An operation that suspends once."""
    await _next_round()
    return x


async def ready_keyed(x: object) -> object:
    """The same as `ready`, but that it takes its call's key, as a client does that sends one."""
    current().take_key()
    return x


async def suspending_keyed(x: object) -> object:
    """The same as `suspending`, but that it takes its call's key."""
    current().take_key()
    await _next_round()
    return x


Making: TypeAlias = Callable[[Operation, Operation], Operation]
"""What is called, made from an operation and from the one that takes its key."""


def _plain(wrap: Wrap) -> Making:
    return lambda op, _: wrap(op)


# Ours


async def _login(stale: str | None) -> str:
    raise AssertionError(stale)  # nothing expires here


def _engine(*policies: Any) -> Making:
    return _plain(Engine(policies, rules=callmissed.RULES))


def _keyed(*policies: Any) -> Making:
    engine = Engine(policies, rules=callmissed.RULES)
    return lambda _, taking: engine(taking)


def _called(op: Operation) -> Operation:
    call: Any = Engine([], rules=callmissed.RULES).call  # mypy reads a partial of it as a call without arguments
    return functools.partial(call, op)


def _token() -> RefreshToken:
    return RefreshToken(_login, token="t")


NO_POLICY, RETRY, REFRESH, EVERYTHING = "engine, no policy", "+ Retry", "+ RefreshToken", "+ Deadline, AttemptTimeout (all)"

OURS: Mapping[str, Making] = {
    "engine, no policy, engine.call(op, x)": _plain(_called),
    NO_POLICY: _engine(),
    RETRY: _engine(Retry()),
    "+ CircuitBreaker": _engine(Retry(), CircuitBreaker()),
    REFRESH: _engine(_token(), Retry(), CircuitBreaker()),
    "+ IdempotencyKey, taken": _keyed(IdempotencyKey(), _token(), Retry(), CircuitBreaker()),
    EVERYTHING: _keyed(Deadline(30), IdempotencyKey(), _token(), Retry(), CircuitBreaker(), AttemptTimeout(10)),
}


# Floors: what the ingredients cost, each in a wrapper coroutine of its own


def _wrapper(op: Operation) -> Operation:
    async def wrapper(x: object) -> object:
        return await op(x)

    return wrapper


def _inline(op: Operation) -> Operation:
    """Retry and breaker as one would write them into the function itself."""
    is_open, count = False, itertools.count().__next__

    async def inline(x: object) -> object:
        if is_open:
            raise ConnectionError
        for attempt in range(3):
            try:
                value = await op(x)
            except ConnectionError:
                if attempt == 2:
                    raise
            else:
                count()
                return value
        raise AssertionError

    return inline


def _contextvar(op: Operation) -> Operation:
    variable = contextvars.ContextVar[object]("variable")

    async def setting(x: object) -> object:
        variable.set(object())  # another one each time, as calls are; the same again would be nearly free
        return await op(x)

    return setting


def _contextvar_reset(op: Operation) -> Operation:
    variable = contextvars.ContextVar[object]("variable")

    async def setting(x: object) -> object:
        token = variable.set(object())
        try:
            return await op(x)
        finally:
            variable.reset(token)

    return setting


def _clock(op: Operation) -> Operation:
    now = time.monotonic

    async def reading(x: object) -> object:
        now()
        value = await op(x)
        now()
        return value

    return reading


def _random_bytes(op: Operation) -> Operation:
    async def drawing(x: object) -> object:
        os.urandom(16)
        return await op(x)

    return drawing


def _call_later(op: Operation) -> Operation:
    async def timing(x: object) -> object:
        timer = asyncio.get_running_loop().call_later(10, print)
        try:
            return await op(x)
        finally:
            timer.cancel()

    return timing


def _fail_after(op: Operation) -> Operation:
    async def limited(x: object) -> object:
        with anyio.fail_after(10):
            return await op(x)

    return limited


WRAPPER, TIMEOUT = "a plain wrapper coroutine", "asyncio.timeout"

FLOORS: Mapping[str, Wrap] = {
    WRAPPER: _wrapper,
    "retry and breaker written inline": _inline,
    "two clock readings": _clock,
    "a contextvar set": _contextvar,
    "a contextvar set and reset": _contextvar_reset,
    "16 random bytes from the system": _random_bytes,
    "call_later and its cancel": _call_later,
    TIMEOUT: peers.timed,
    "anyio.fail_after": _fail_after,
}


# What is found

RATIOS: Mapping[str, tuple[str, str]] = {
    "Retry, of nopanic's retry": (RETRY, "nopanic retry"),
    "up to RefreshToken, of nopanic's retry, breaker": (REFRESH, "nopanic retry, breaker"),
    "all, of asyncio.timeout alone": (EVERYTHING, TIMEOUT),
    "all, of nopanic's retry, breaker, timeout": (EVERYTHING, "nopanic retry, breaker, timeout"),
}
"""A row of ours and one that it is compared with."""


def _sides() -> dict[str, dict[str, Making]]:
    """All rows there are to measure, by whose they are."""
    return {
        "ours": dict(OURS),
        "theirs": {row: _plain(wrap) for row, wrap in peers.available(peers.SUCCEEDING).items()},
        "theirs, with a timeout": {row: _plain(wrap) for row, wrap in peers.available(peers.WITH_TIMEOUT).items()},
        "floors": {row: _plain(wrap) for row, wrap in FLOORS.items()},
    }


def _unit(turns: Iterable[Turn]) -> float:
    """W, as a share of what the bare operation takes; all turns have their say, for all else depends on it."""
    return statistics.median(turn.beside["wrapper"] / turn.beside["ready"] - 1 for turn in turns)


def _overheads(turns: Iterable[Turn], bare: str, unit: float) -> list[float]:
    """In W; *bare* names the baseline that is the operation alone, *unit* is W as a share of an operation that is ready."""
    return [(turn.took - turn.beside[bare]) / turn.beside["ready"] / unit for turn in turns]


def _figure(row: str, side: str, at_once: list[Turn], later: list[Turn], unit: float) -> Figure:
    low, middle, high = quartiles(_overheads(at_once, "ready", unit))
    beside = {
        "low": low,
        "high": high,
        "ns": statistics.median(turn.took for turn in at_once),
        "suspending": statistics.median(_overheads(later, "suspending", unit)),
        "suspending, ns": statistics.median(turn.took for turn in later),
    }
    return Figure(row, middle, "W", group=HAPPY, beside=beside, side=side)


def ratios(found: Iterable[Figure]) -> list[Figure]:
    """How rows of ours compare with rows of others, as far as both are there."""
    by_row = {figure.row: figure for figure in found}
    return [
        Figure(
            row,
            by_row[ours].value / by_row[theirs].value,
            "x",
            group=BESIDE,
            beside={"suspending": by_row[ours].beside["suspending"] / by_row[theirs].beside["suspending"]},
        )
        for row, (ours, theirs) in RATIOS.items()
        if ours in by_row and theirs in by_row
    ]


async def _measured(rounds: int) -> list[Figure]:
    sides = _sides()
    makings = {row: making for side in sides.values() for row, making in side.items()}
    baselines = {"ready": one_by_one(ready), "wrapper": one_by_one(_wrapper(ready))}
    variants = {row: one_by_one(making(ready, ready_keyed)) for row, making in makings.items()}
    at_once = await measured(variants, baselines, rounds=rounds, turn=TURN)
    baselines["suspending"] = abreast(suspending)
    variants = {row: abreast(making(suspending, suspending_keyed)) for row, making in makings.items()}
    later = await measured(variants, baselines, rounds=rounds, turn=LONGER)
    unit = _unit(turn for turns in (at_once, later) for row in turns.values() for turn in row)
    found = [_figure(row, side, at_once[row], later[row], unit) for side, rows in sides.items() for row in rows]
    return [*found, *ratios(found)]


def figures(rounds: int = ROUNDS) -> list[Figure]:
    """
    Each row's cost, and how ours compare with others'.

    Args:
        rounds: Turns of each row; >= 2.  With the usual number it takes three quarters of a minute.
    """
    as_in_production()
    return aimed(asyncio.run(_measured(rounds)))


def main() -> None:
    """Measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description="What a call costs in which nothing goes wrong.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each row (default: {ROUNDS})")
    parser.add_argument("--json", metavar="FILE", help="save the figures, quartiles included")
    options = parser.parse_args()
    found = figures(options.rounds)
    print(f"{tables(found)}\n\n{footer(options.rounds, LIBRARIES)}")
    if options.json:
        Result.of(found, libraries=LIBRARIES, rounds=options.rounds).save(options.json)


if __name__ == "__main__":
    main()
