"""
What a call costs in which something goes wrong.

One failed attempt, a repeat without a delay, success: as a multiple of the loop that one would write by hand, sleep of 0 seconds included.
And a call that an open breaker turns away, in the same unit.  Ours has every policy on and every event built; whoever takes the events
does nothing with them.

    python benchmarks/failure_path.py [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import attrs
import nopanic
import stamina
import tenacity

from benchmarks.rounds import Operation, Turn, footer, installed, machine, measured, one_by_one, save
from resilience import (
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Constant,
    Deadline,
    Engine,
    Env,
    IdempotencyKey,
    Policy,
    RefreshToken,
    Retry,
    current,
)
from resilience.dialects import callmissed
from resilience.events import Event

Wrap: TypeAlias = Callable[[Operation], Operation]

ROUNDS = 61
TURN = 0.001  # seconds
LIBRARIES = ("resilience-engine", "anyio", "attrs", "structlog", "nopanic", "stamina", "tenacity")


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


def _retry(op: Operation) -> Operation:
    return Engine([Retry(backoff=Constant(0))], rules=callmissed.RULES, env=logless)(op)


def _everything(op: Operation) -> Operation:
    # At this rate of failure any breaker would open that is not told to bear it.
    policies: list[Policy] = [
        Deadline(30),
        IdempotencyKey(),
        RefreshToken(_login, token="t"),
        Retry(backoff=Constant(0)),
        CircuitBreaker(failure_ratio=1.0),
    ]

    @Engine([*policies, AttemptTimeout(10)], rules=callmissed.RULES, env=logless)
    async def taking(x: object) -> object:
        current().take_key()
        return await op(x)

    return taking


def _nopanic(op: Operation) -> Operation:
    return nopanic.retry(attempts=3, on=ConnectionError, backoff=0.0)(op)


def _nopanic_breaker(op: Operation) -> Operation:
    breaker = nopanic.circuit_breaker(on=ConnectionError, failure_threshold=1.0)
    return nopanic.compose(nopanic.retry(attempts=3, on=ConnectionError, backoff=0.0), breaker)(op)


def _nopanic_timeout(op: Operation) -> Operation:
    breaker = nopanic.circuit_breaker(on=ConnectionError, failure_threshold=1.0)
    return nopanic.compose(nopanic.retry(attempts=3, on=ConnectionError, backoff=0.0), breaker, nopanic.timeout(10))(op)


def _stamina(op: Operation) -> Operation:
    return stamina.retry(on=ConnectionError, attempts=3, wait_initial=0.0, wait_max=0.0, wait_jitter=0.0)(op)


def _tenacity(op: Operation) -> Operation:
    return tenacity.retry(retry=tenacity.retry_if_exception_type(ConnectionError), stop=tenacity.stop_after_attempt(3))(op)


RECOVERED: Mapping[str, Wrap] = {
    "Retry": _retry,
    "everything on": _everything,
    "nopanic retry": _nopanic,
    "nopanic retry, breaker": _nopanic_breaker,
    "nopanic retry, breaker, timeout": _nopanic_timeout,
    "stamina retry": _stamina,
    "tenacity retry": _tenacity,
}


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


async def _nopanic_open() -> Operation:
    breaker = nopanic.circuit_breaker(on=ConnectionError, min_calls=1, reset_timeout=3600.0)

    @breaker
    async def failing(x: object) -> object:
        raise ConnectionError(x)

    await turned_away(failing, ConnectionError)(None)
    return turned_away(failing, nopanic.CircuitOpen)


@attrs.frozen
class Cost:
    """
    What a row says.

    Args:
        ns: Nanoseconds a call.
        loops: The same in hand-written loops that recover from one failure ...
        low: ... the lower quartile of the turns ...
        high: ... and the upper one.
    """

    ns: float
    loops: float
    low: float
    high: float

    @classmethod
    def of(cls, turns: list[Turn]) -> Cost:
        """The medians."""
        low, loops, high = statistics.quantiles([turn.took / turn.beside["by hand"] for turn in turns], n=4, method="inclusive")
        return cls(statistics.median(turn.took for turn in turns), loops, low, high)


async def run(rounds: int) -> dict[str, Cost]:
    """Each row's cost."""
    operations: dict[str, Operation] = {f"recovered: {name}": wrap(flaky()) for name, wrap in RECOVERED.items()}
    operations |= {"rejected: Retry, CircuitBreaker": _open_breaker(), "rejected: nopanic breaker": await _nopanic_open()}
    variants = {"recovered: by hand": one_by_one(by_hand(flaky()))} | {name: one_by_one(fn) for name, fn in operations.items()}
    turns = await measured(variants, {"by hand": one_by_one(by_hand(flaky()))}, rounds=rounds, turn=TURN)
    return {name: Cost.of(row) for name, row in turns.items()}


def table(costs: Mapping[str, Cost]) -> str:
    """The costs as a table in Markdown."""
    lines = ["| when something goes wrong | ns | hand-written loops |", "| --- | ---: | ---: |"]
    return "\n".join(lines + [f"| {name} | {cost.ns:,.0f} | {cost.loops:.1f} |" for name, cost in costs.items()])


def main() -> None:
    """Measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description="What a call costs in which something goes wrong.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each row (default: {ROUNDS})")
    parser.add_argument("--json", metavar="FILE", help="save the figures, quartiles included")
    options = parser.parse_args()
    stamina.instrumentation.set_on_retry_hooks([])  # silent, as ours is
    costs = asyncio.run(run(options.rounds))
    print(f"{table(costs)}\n\n{footer(options.rounds, LIBRARIES)}")
    if options.json:
        figures: dict[str, Any] = {name: attrs.asdict(cost) for name, cost in costs.items()}
        save(options.json, {"machine": machine(), "versions": installed(LIBRARIES), "rounds": options.rounds, "costs": figures})


if __name__ == "__main__":
    main()
