"""
What a call costs in which nothing goes wrong.

The unit is W: the overhead of a plain wrapper coroutine, ``async def w(x): return await op(x)``, over a bare ``await op(x)``, which is
what everybody pays for one more function.  A row's figure is all that stands between the caller and the operation, in W, first for an
operation that has its result at once, then, in the same unit, for one that really suspends, once.

    python benchmarks/happy_path.py [--rounds N] [--json FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import functools
import importlib
import itertools
import logging
import statistics
import time
import types
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, TypeAlias

import anyio
import attrs
import nopanic
import stamina
import tenacity

from benchmarks.rounds import Operation, Turn, abreast, footer, installed, machine, measured, one_by_one, save
from resilience import AttemptTimeout, CircuitBreaker, Deadline, Engine, IdempotencyKey, RefreshToken, Retry, current
from resilience.dialects import callmissed

Wrap: TypeAlias = Callable[[Operation], Operation]

ROUNDS = 61
TURN = 0.0006  # seconds, and where the operation suspends ...
LONGER = 0.002  # ... for its tasks take some starting
LIBRARIES = ("resilience-engine", "anyio", "attrs", "structlog", "nopanic", "stamina", "tenacity", "redress", "interlock-cb")


# The operations


async def ready(x: object) -> object:
    """An operation that has its result at once."""
    return x


@types.coroutine
def _next_round() -> Generator[None, None, None]:
    """Let the other tasks run: what `asyncio.sleep` does for 0 seconds."""
    yield


async def suspending(x: object) -> object:
    """An operation that suspends once."""
    await _next_round()
    return x


# Ours


async def _login(stale: str | None) -> str:
    raise AssertionError(stale)  # nothing expires here


def _engine(*policies: Any) -> Wrap:
    return Engine(policies, rules=callmissed.RULES)


def _called(op: Operation) -> Operation:
    call: Any = Engine([], rules=callmissed.RULES).call  # mypy reads a partial of it as a call without arguments
    return functools.partial(call, op)


def _token() -> RefreshToken:
    return RefreshToken(_login, token="t")


def _keyed(*policies: Any) -> Wrap:
    def wrap(op: Operation) -> Operation:
        @_engine(*policies)
        async def taking(x: object) -> object:
            current().take_key()
            return await op(x)

        return taking

    return wrap


OURS: Mapping[str, Wrap] = {
    "engine, no policy, engine.call(op, x)": _called,
    "engine, no policy": _engine(),
    "+ Retry": _engine(Retry()),
    "+ CircuitBreaker": _engine(Retry(), CircuitBreaker()),
    "+ RefreshToken": _engine(_token(), Retry(), CircuitBreaker()),
    "+ IdempotencyKey, taken": _keyed(IdempotencyKey(), _token(), Retry(), CircuitBreaker()),
    "+ Deadline, AttemptTimeout (all)": _keyed(Deadline(30), IdempotencyKey(), _token(), Retry(), CircuitBreaker(), AttemptTimeout(10)),
}


# Theirs.  Each is set to retry and to trip on a ConnectionError, and logs nothing on success.


def _nopanic_retry(op: Operation) -> Operation:
    return nopanic.retry(attempts=3, on=ConnectionError)(op)


def _nopanic_breaker(op: Operation) -> Operation:
    return nopanic.compose(nopanic.retry(attempts=3, on=ConnectionError), nopanic.circuit_breaker(on=ConnectionError))(op)


def _nopanic_timeout(op: Operation) -> Operation:
    return nopanic.compose(nopanic.retry(attempts=3, on=ConnectionError), nopanic.circuit_breaker(on=ConnectionError), nopanic.timeout(10))(
        op
    )


def _stamina(op: Operation) -> Operation:
    return stamina.retry(on=ConnectionError, attempts=3)(op)


def _tenacity(op: Operation) -> Operation:
    return tenacity.retry(retry=tenacity.retry_if_exception_type(ConnectionError), stop=tenacity.stop_after_attempt(3))(op)


def _redress_breaker(redress: Any) -> Wrap:
    def wrap(op: Operation) -> Operation:
        policy = redress.AsyncPolicy(
            retry=redress.AsyncRetry(
                classifier=redress.default_classifier, strategy=redress.decorrelated_jitter(max_s=5.0), max_attempts=3
            ),
            circuit_breaker=redress.CircuitBreaker(),
        )

        async def called(x: object) -> object:
            return await policy.call(lambda: op(x))

        return called

    return wrap


def _interlock_breaker(interlock: Any) -> Wrap:
    def wrap(op: Operation) -> Operation:
        return interlock.CircuitBreaker(name="peer")(op)  # type: ignore[no-any-return]

    return wrap


# Not in the dev extra, for the comparison only: measured where they are installed.
OPTIONAL: Mapping[str, tuple[str, Callable[[Any], Wrap]]] = {
    "redress retry, breaker": ("redress", _redress_breaker),
    "interlock breaker": ("interlock", _interlock_breaker),
}


def _theirs() -> dict[str, Wrap]:
    wraps: dict[str, Wrap] = {
        "nopanic retry": _nopanic_retry,
        "nopanic retry, breaker": _nopanic_breaker,
        "nopanic retry, breaker, timeout": _nopanic_timeout,
        "stamina retry": _stamina,
        "tenacity retry": _tenacity,
    }
    for name, (module, wrap) in OPTIONAL.items():
        try:
            wraps[name] = wrap(importlib.import_module(module))
        except ImportError:
            continue
    return wraps


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


def _clock(op: Operation) -> Operation:
    now = time.monotonic

    async def reading(x: object) -> object:
        now()
        value = await op(x)
        now()
        return value

    return reading


def _asyncio_timeout(op: Operation) -> Operation:
    async def limited(x: object) -> object:
        async with asyncio.timeout(10):
            return await op(x)

    return limited


def _fail_after(op: Operation) -> Operation:
    async def limited(x: object) -> object:
        with anyio.fail_after(10):
            return await op(x)

    return limited


FLOORS: Mapping[str, Wrap] = {
    "a plain wrapper coroutine": _wrapper,
    "retry and breaker written inline": _inline,
    "one contextvar set": _contextvar,
    "two clock readings": _clock,
    "asyncio.timeout": _asyncio_timeout,
    "anyio.fail_after": _fail_after,
}


# The table


@attrs.frozen
class Cost:
    """
    What a row says of one operation.

    Args:
        ns: Nanoseconds a call, the operation included.
        w: The overhead in W ...
        low: ... the lower quartile of the turns ...
        high: ... and the upper one.
    """

    ns: float
    w: float
    low: float
    high: float

    @classmethod
    def of(cls, turns: list[Turn], bare: str, unit: float) -> Cost:
        """The medians; *bare* names the baseline that is the operation alone, *unit* is W as a share of an operation that is ready."""
        overheads = [(turn.took - turn.beside[bare]) / turn.beside["ready"] / unit for turn in turns]
        low, w, high = statistics.quantiles(overheads, n=4, method="inclusive")
        return cls(statistics.median(turn.took for turn in turns), w, low, high)


def _unit(turns: Iterable[Turn]) -> float:
    """W, as a share of what the bare operation takes; all turns have their say, for all else depends on it."""
    return statistics.median(turn.beside["wrapper"] / turn.beside["ready"] - 1 for turn in turns)


async def run(rounds: int) -> dict[str, dict[str, tuple[Cost, Cost]]]:
    """Section, row: its costs with an operation that is ready, and with one that suspends."""
    sections = {"ours": OURS, "theirs": _theirs(), "floors": FLOORS}
    wraps = {name: wrap for section in sections.values() for name, wrap in section.items()}
    baselines = {"ready": one_by_one(ready), "wrapper": one_by_one(_wrapper(ready))}
    at_once = await measured({name: one_by_one(wrap(ready)) for name, wrap in wraps.items()}, baselines, rounds=rounds, turn=TURN)
    baselines["suspending"] = abreast(suspending)
    later = await measured({name: abreast(wrap(suspending)) for name, wrap in wraps.items()}, baselines, rounds=rounds, turn=LONGER)
    unit = _unit(turn for turns in (at_once, later) for row in turns.values() for turn in row)
    return {
        title: {name: (Cost.of(at_once[name], "ready", unit), Cost.of(later[name], "suspending", unit)) for name in section}
        for title, section in sections.items()
    }


def table(costs: Mapping[str, Mapping[str, tuple[Cost, Cost]]]) -> str:
    """The costs as a table in Markdown."""
    lines = ["| on the happy path | ns | W | suspending, ns | W |", "| --- | ---: | ---: | ---: | ---: |"]
    for title, rows in costs.items():
        lines.append(f"| **{title}** | | | | |")
        lines += [
            f"| {name} | {at_once.ns:,.0f} | {at_once.w:.1f} | {later.ns:,.0f} | {later.w:.1f} |" for name, (at_once, later) in rows.items()
        ]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, and save if asked to."""
    parser = argparse.ArgumentParser(description="What a call costs in which nothing goes wrong.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each row (default: {ROUNDS})")
    parser.add_argument("--json", metavar="FILE", help="save the figures, quartiles included")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO)  # successes are debug: wanted by nobody, as in production
    costs = asyncio.run(run(options.rounds))
    print(f"{table(costs)}\n\n{footer(options.rounds, LIBRARIES)}")
    if options.json:
        figures = {
            title: {name: {"ready": attrs.asdict(at_once), "suspending": attrs.asdict(later)} for name, (at_once, later) in rows.items()}
            for title, rows in costs.items()
        }
        save(options.json, {"machine": machine(), "versions": installed(LIBRARIES), "rounds": options.rounds, "costs": figures})


if __name__ == "__main__":
    main()
