"""
The only door to time, chance and logs.

Everything that makes two runs of the same calls differ comes through an `Env`; with one that is fixed (`resilience.testing.World`) the same
calls make the same decisions, on asyncio, on trio and in a simulation.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Awaitable, Callable

import attrs

from resilience import backend, log
from resilience.backend import Cutoff, Waiter
from resilience.events import Event
from resilience.log import Quiet
from resilience.settings import Shown

__all__ = ["Env"]


def _heard_by(env: Env) -> Quiet:
    return log.quiet if env.emit is log.emit else Quiet()


_POOL = 64  # pieces of randomness that are fetched at a time: asking the system for one costs as much as the rest of a call
_PIECE = 16  # bytes
_pool: list[str] = []


def _unique(size: int) -> str:
    # What `secrets.token_hex` does, without the libraries for signing that it brings along.
    if size > _PIECE:
        return os.urandom(size).hex()
    try:
        piece = _pool.pop()  # one step, whatever other threads do
    except IndexError:
        piece, *more = os.urandom(_POOL * _PIECE).hex(" ", _PIECE).split()
        _pool.extend(more)
    return piece if size == _PIECE else piece[: 2 * size]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.clear)  # two processes must not give out the same


@attrs.frozen(eq=False, repr=False)
class Env(Shown):
    """
    Where an engine gets its readings from, and where its decisions go.

    Replace single fields with `attrs.evolve`, as in ``attrs.evolve(Env(), emit=notebook.append)``.

    Args:
        now: Monotonic seconds, the same clock for the whole process.
        wall: Unix seconds; read only to make sense of a date in a header.
        draw: A uniform sample in [0, 1).
        unique: So many random bytes, as twice as many hex digits.
        sleep: Wait so many seconds.
        emit: Take one event.  Whoever replaces it is told of clean successes too.  It may be async, and then hears of events a little
            later, and in no certain order; what it raises changes nothing for the call.
        cutoff: A scope that cancels what runs inside it after so many seconds.
        detach: Run an async function to its end, whatever becomes of the caller.
        waiter: Something to wait for that any thread may wake.
        cancel_count: How many cancellations the current task has been asked for, natively.
        cancellation_pending: Whether one has come since the count was so much.
    """

    now: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    draw: Callable[[], float] = random.random
    unique: Callable[[int], str] = _unique
    sleep: Callable[[float], Awaitable[None]] = backend.sleep
    emit: Callable[[Event], object] = log.emit
    cutoff: Callable[..., Cutoff] = backend.cutoff
    detach: Callable[[Callable[[], Awaitable[None]]], None] = backend.detach
    waiter: Callable[[], Waiter] = backend.waiter
    cancel_count: Callable[[], int] = backend.cancel_count
    cancellation_pending: Callable[[int], bool] = backend.cancellation_pending
    quiet: Quiet = attrs.field(init=False, default=attrs.Factory(_heard_by, takes_self=True))
