"""
Other libraries, each set up as its own documentation does it, for the same work.

All retry on a ConnectionError, up to three attempts in all; breakers count it and stay closed; timeouts are of ten seconds around each
attempt.  Nobody has a listener or a logger that hears of successes.  A decorator is applied once, as in a program; where a library has none
for coroutine functions, its documented call stands in one.  What differs is what they offer, not what was left out to spare them something:

- hyx and pyresilience bound an attempt with a task of its own (pyresilience by `asyncio.wait_for`, which makes one up to Python 3.11;
  redress does likewise); nopanic and `asyncio.timeout` arm a timer.
- The breakers of hyx, pyresilience, circuitbreaker and purgatory count failures in a row; those of nopanic, redress and interlock have a
  window.  purgatory looks its breaker up by name in each call.
- redress, by default, bounds a call by a deadline that is looked at between attempts only.

Each library is imported when it is first asked for: they come with the extra `bench`, which nothing else here needs.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from benchmarks.rounds import Operation, Wrap

__all__ = ["DISTRIBUTIONS", "FAILING", "SUCCEEDING", "WITH_TIMEOUT", "Setup", "available", "nopanic_open"]

Setup: TypeAlias = Callable[[], Wrap]
"""Makes what wraps an operation; raises ImportError where the library is not installed."""

DISTRIBUTIONS = (
    *("nopanic", "stamina", "tenacity", "redress", "interlock-cb"),
    *("hyx", "pyresilience", "circuitbreaker", "purgatory"),
)
ATTEMPTS = 3
SECONDS = 10


def available(setups: Mapping[str, Setup]) -> dict[str, Wrap]:
    """What there is of *setups*: a library that is not installed leaves its rows out."""
    wraps: dict[str, Wrap] = {}
    for row, setup in setups.items():
        try:
            wraps[row] = setup()
        except ImportError:
            continue
    return wraps


def _library(name: str) -> Any:
    return importlib.import_module(name)


def _composed(*wraps: Wrap) -> Wrap:
    """All of them around an operation, the outermost first."""

    def wrap(op: Operation) -> Operation:
        for one in reversed(wraps):
            op = one(op)
        return op

    return wrap


def timed(op: Operation) -> Operation:
    """`asyncio.timeout` around each attempt: what one takes beside a library that has no timeouts."""

    async def limited(x: object) -> object:
        async with asyncio.timeout(SECONDS):
            return await op(x)

    return limited


# On the happy path


def _nopanic_retry() -> Wrap:
    nopanic = _library("nopanic")
    return _composed(nopanic.retry(attempts=ATTEMPTS, on=ConnectionError))


def _nopanic(*, budget: bool = False, timeout: bool = False) -> Wrap:
    nopanic = _library("nopanic")
    retry = nopanic.retry(attempts=ATTEMPTS, on=ConnectionError, budget=nopanic.RetryBudget() if budget else None)
    return _composed(nopanic.compose(retry, nopanic.circuit_breaker(on=ConnectionError), *([nopanic.timeout(SECONDS)] * timeout)))


def _stamina() -> Wrap:
    return _composed(_library("stamina").retry(on=ConnectionError, attempts=ATTEMPTS))


def _tenacity() -> Wrap:
    tenacity = _library("tenacity")
    return _composed(
        tenacity.retry(retry=tenacity.retry_if_exception_type(ConnectionError), stop=tenacity.stop_after_attempt(ATTEMPTS), reraise=True)
    )


def _tenacity_purgatory() -> Wrap:
    return _composed(_tenacity(), _library("purgatory").AsyncCircuitBreakerFactory()("peer"), timed)


def _redress(*, timeout: bool = False) -> Wrap:
    redress = _library("redress")
    retry = redress.AsyncRetry(
        classifier=redress.default_classifier,
        strategy=redress.decorrelated_jitter(max_s=5.0),
        max_attempts=ATTEMPTS,
        attempt_timeout_s=SECONDS if timeout else None,
    )
    return _called(redress.AsyncPolicy(retry=retry, circuit_breaker=redress.CircuitBreaker()))


def _called(policy: Any) -> Wrap:
    def wrap(op: Operation) -> Operation:
        async def called(x: object) -> object:
            return await policy.call(lambda: op(x))

        return called

    return wrap


def _interlock() -> Wrap:
    return _composed(_library("interlock").CircuitBreaker(name="peer"))


def _circuitbreaker() -> Wrap:
    return _composed(_library("circuitbreaker").CircuitBreaker(expected_exception=ConnectionError))


def _pyresilience(*, timeout: bool = False) -> Wrap:
    of = _library("pyresilience")
    return _composed(
        of.resilient(
            retry=of.RetryConfig(max_attempts=ATTEMPTS, retry_on=(ConnectionError,)),
            circuit_breaker=of.CircuitBreakerConfig(error_types=(ConnectionError,)),
            timeout=of.TimeoutConfig(seconds=SECONDS) if timeout else None,
        )
    )


def _hyx() -> Wrap:
    retry, breaker, timeout = (
        _library("hyx.retry").retry,
        _library("hyx.circuitbreaker").consecutive_breaker,
        _library("hyx.timeout").timeout,
    )
    # Its attempts are those after the first.
    return _composed(retry(on=ConnectionError, attempts=ATTEMPTS - 1), breaker(exceptions=ConnectionError), timeout(SECONDS))


SUCCEEDING: Mapping[str, Setup] = {
    "nopanic retry": _nopanic_retry,
    "circuitbreaker": _circuitbreaker,
    "nopanic retry, breaker": _nopanic,
    "nopanic retry, budget, breaker": lambda: _nopanic(budget=True),
    "pyresilience retry, breaker": _pyresilience,
    "redress retry, breaker": _redress,
    "interlock breaker": _interlock,
    "stamina retry": _stamina,
    "tenacity retry": _tenacity,
}

WITH_TIMEOUT: Mapping[str, Setup] = {
    "nopanic retry, breaker, timeout": lambda: _nopanic(timeout=True),
    "hyx retry, breaker, timeout": _hyx,
    "pyresilience retry, breaker, timeout": lambda: _pyresilience(timeout=True),
    "redress retry, breaker, timeout": lambda: _redress(timeout=True),
    "tenacity, purgatory, asyncio.timeout": _tenacity_purgatory,
}


# Where every other attempt fails: no delays, and breakers that bear it


def _failing_nopanic(*, breaker: bool = False, timeout: bool = False) -> Wrap:
    nopanic = _library("nopanic")
    retry = nopanic.retry(attempts=ATTEMPTS, on=ConnectionError, backoff=0.0)
    bearing = [nopanic.circuit_breaker(on=ConnectionError, failure_threshold=1.0)] * breaker
    return _composed(nopanic.compose(retry, *bearing, *([nopanic.timeout(SECONDS)] * timeout)))


def _failing_redress() -> Wrap:
    redress = _library("redress")

    def at_once(_context: object) -> float:
        return 0.0

    return _called(
        redress.AsyncPolicy(retry=redress.AsyncRetry(classifier=redress.default_classifier, strategy=at_once, max_attempts=ATTEMPTS))
    )


def _failing_pyresilience() -> Wrap:
    of = _library("pyresilience")
    return _composed(
        of.resilient(
            retry=of.RetryConfig(max_attempts=ATTEMPTS, delay=0.0, retry_on=(ConnectionError,)),
            circuit_breaker=of.CircuitBreakerConfig(error_types=(ConnectionError,)),  # five in a row: never here
        )
    )


def _failing_hyx() -> Wrap:
    retry, breaker, timeout = (
        _library("hyx.retry").retry,
        _library("hyx.circuitbreaker").consecutive_breaker,
        _library("hyx.timeout").timeout,
    )
    return _composed(retry(on=ConnectionError, attempts=ATTEMPTS - 1, backoff=0.0), breaker(exceptions=ConnectionError), timeout(SECONDS))


def _failing_stamina() -> Wrap:
    stamina = _library("stamina")
    stamina.instrumentation.set_on_retry_hooks([])  # silent, as ours is
    return _composed(stamina.retry(on=ConnectionError, attempts=ATTEMPTS, wait_initial=0.0, wait_max=0.0, wait_jitter=0.0))


FAILING: Mapping[str, Setup] = {
    "nopanic retry": _failing_nopanic,
    "nopanic retry, breaker": lambda: _failing_nopanic(breaker=True),
    "nopanic retry, breaker, timeout": lambda: _failing_nopanic(breaker=True, timeout=True),
    "pyresilience retry, breaker": _failing_pyresilience,
    "redress retry": _failing_redress,
    "hyx retry, breaker, timeout": _failing_hyx,
    "stamina retry": _failing_stamina,
    "tenacity retry": _tenacity,  # waits for nothing, unless told to
}


async def nopanic_open() -> tuple[Operation, type[Exception]]:
    """A call behind an open breaker, and what it raises; raises ImportError where the library is not installed."""
    nopanic = _library("nopanic")

    @nopanic.circuit_breaker(on=ConnectionError, min_calls=1, reset_timeout=3600.0)  # type: ignore[untyped-decorator]
    async def failing(x: object) -> object:
        raise ConnectionError(x)

    with contextlib.suppress(ConnectionError):
        await failing(None)
    return failing, nopanic.CircuitOpen
