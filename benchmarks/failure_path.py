"""
What a call costs in which something goes wrong.

One failed attempt, a repeat without a delay, success: as a multiple of the loop that one would write by hand, sleep of 0 seconds included.
And a call that an open breaker turns away, in the same unit.  Ours has every policy on and every event built; whoever takes the events
does nothing with them.

    python -m benchmarks.failure_path [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
from collections.abc import Callable

import attrs

from benchmarks import peers
from benchmarks.aims import FAILURES, aimed
from benchmarks.figures import Figure
from benchmarks.results import Result
from benchmarks.rounds import Operation, Turn, footer, measured, one_by_one, quartiles
from benchmarks.tables import tables
from resilience import (
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Constant,
    Deadline,
    Engine,
    Env,
    IdempotencyKey,
    RefreshToken,
    Retry,
    current,
)
from resilience.dialects import callmissed
from resilience.events import Event

__all__ = ["LIBRARIES", "ROUNDS", "figures", "main"]

ROUNDS = 101
TURN = 0.001  # seconds
LIBRARIES = ("resilience-engine", "anyio", "attrs", "structlog", *peers.DISTRIBUTIONS)


def _unheard(event: Event) -> None:
    """Take an event and do nothing with it."""


logless = attrs.evolve(Env(), emit=_unheard)


def flaky() -> Operation:
    """An operation that fails every other time: each call of it takes two attempts."""
    healthy = True

    async def op(x: object) -> object:
        nonlocal healthy
        healthy = not healthy
        if healthy:
            return x
        raise ConnectionError

    return op


def flaky_keyed() -> Operation:
    """The same, but that it takes its call's key, as a client does that sends one."""
    healthy = True

    async def op(x: object) -> object:
        nonlocal healthy
        current().take_key()
        healthy = not healthy
        if healthy:
            return x
        raise ConnectionError

    return op


def by_hand(op: Operation) -> Operation:
    """The loop that one would write oneself."""

    async def looping(x: object) -> object:
        for attempt in range(3):
            try:
                return await op(x)
            except ConnectionError:
                if attempt == 2:
                    raise
                await asyncio.sleep(0)
        raise AssertionError

    return looping


async def _login(stale: str | None) -> str:
    raise AssertionError(stale)  # nothing expires here


def _retry() -> Operation:
    return Engine([Retry(backoff=Constant(0))], rules=callmissed.RULES, env=logless)(flaky())


def _everything() -> Operation:
    engine = Engine(
        [
            Deadline(30),
            IdempotencyKey(),
            RefreshToken(_login, token="t"),
            Retry(backoff=Constant(0)),
            CircuitBreaker(failure_ratio=1.0),  # at this rate of failure any would open that is not told to bear it
            AttemptTimeout(10),
        ],
        rules=callmissed.RULES,
        env=logless,
    )
    return engine(flaky_keyed())


def turned_away(call: Operation, rejection: type[Exception]) -> Operation:
    """A call of which nothing is expected but its rejection."""

    async def rejected(x: object) -> object:
        try:
            return await call(x)
        except rejection:
            return None

    return rejected


async def _unreachable(x: object) -> object:
    raise AssertionError(x)


def _open_breaker() -> Operation:
    breaker = CircuitBreaker()
    breaker.isolate()
    return turned_away(Engine([Retry(), breaker], rules=callmissed.RULES, env=logless)(_unreachable), CircuitOpen)


OURS: dict[str, Callable[[], Operation]] = {
    "recovered: Retry": _retry,
    "recovered: everything on": _everything,
    "rejected: Retry, CircuitBreaker": _open_breaker,
}


async def _sides() -> dict[str, dict[str, Operation]]:
    """All rows there are to measure, by whose they are."""
    theirs = {f"recovered: {row}": wrap(flaky()) for row, wrap in peers.available(peers.FAILING).items()}
    with contextlib.suppress(ImportError):
        theirs["rejected: nopanic breaker"] = turned_away(*await peers.nopanic_open())
    return {"ours": {row: making() for row, making in OURS.items()}, "theirs": theirs, "floors": {"recovered: by hand": by_hand(flaky())}}


def _figure(row: str, side: str, turns: list[Turn]) -> Figure:
    low, loops, high = quartiles(turn.took / turn.beside["by hand"] for turn in turns)
    beside = {"low": low, "high": high, "ns": statistics.median(turn.took for turn in turns)}
    return Figure(row, loops, "loops", group=FAILURES, beside=beside, side=side)


async def _measured(rounds: int) -> list[Figure]:
    sides = await _sides()
    variants = {row: one_by_one(operation) for side in sides.values() for row, operation in side.items()}
    turns = await measured(variants, {"by hand": one_by_one(by_hand(flaky()))}, rounds=rounds, turn=TURN)
    return [_figure(row, side, turns[row]) for side, rows in sides.items() for row in rows]


def figures(rounds: int = ROUNDS) -> list[Figure]:
    """
    Each row's cost, in hand-written loops that recover from one failure.

    Args:
        rounds: Turns of each row; >= 2.  With the usual number it takes some ten seconds.
    """
    return aimed(asyncio.run(_measured(rounds)))


def main() -> None:
    """Measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description="What a call costs in which something goes wrong.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each row (default: {ROUNDS})")
    parser.add_argument("--json", metavar="FILE", help="save the figures, quartiles included")
    options = parser.parse_args()
    found = figures(options.rounds)
    print(f"{tables(found)}\n\n{footer(options.rounds, LIBRARIES)}")
    if options.json:
        Result.of(found, libraries=LIBRARIES, rounds=options.rounds).save(options.json)


if __name__ == "__main__":
    main()
