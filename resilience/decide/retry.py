"""
Whether a failed attempt is repeated, and when.

The delay is the longer of the server's hint and the backoff; jitter is only ever added to a hint, up to the limit for hints.  A hint above
that limit is a decision, not a clamp, unless the user chose otherwise; a repeat that does not fit the time left is neither started nor
slept for.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

from resilience.outcome import Phase

__all__ = ["GiveUp", "OverLimit", "RetryIn", "decide"]

OverLimit = Literal["fail", "clamp", "wait"]


class RetryIn(NamedTuple):  # a class of attrs would be compiled on import, and takes longer to fill
    """Try again in *delay* seconds, as *source* (``backoff`` or ``hint``) has it."""

    delay: float
    source: str


class GiveUp(NamedTuple):
    """Do not try again; *reason* is one word for the log."""

    reason: str


def decide(
    *,
    tries: int,
    attempts: int,
    repeats_left: float,
    tries_of_rule: int,
    cap_of_rule: int | None,
    phase: Phase,
    repeatable: bool,
    backoff: float,
    hint: float | None,
    max_server_delay: float,
    over_limit: OverLimit,
    draw: float,
    time_left: float,
) -> RetryIn | GiveUp:
    """
    What to do after an attempt that may pass when repeated.

    Args:
        tries: Attempts so far that count, this one included; >= 1.
        attempts: The most that may be made in all; >= 1.
        repeats_left: Repeats that an enclosing call still allows; infinite where there is none.
        tries_of_rule: Those of *tries* that ended in the same rule; >= 1.
        cap_of_rule: The most that may; None for no cap.
        phase: How far the attempt got.
        repeatable: Whether a repeat does no double harm even if the attempt had effects.
        backoff: The schedule's delay, in seconds; finite, >= 0.
        hint: The server's wish, in seconds; finite, >= 0.
        max_server_delay: The longest hint to obey, in seconds; >= 0.
        over_limit: What to do about a longer one: fail, wait as long as the limit says, or wait all the same.
        draw: Uniform sample in [0, 1), for the jitter on a hint.
        time_left: Seconds to the call's deadline; infinite without one.

    Returns:
        The delay, never below an accepted hint and never negative; or why not.
    """
    if tries >= attempts or repeats_left <= 0 or (cap_of_rule is not None and tries_of_rule >= cap_of_rule):
        return GiveUp("attempts")
    if phase is Phase.UNKNOWN and not repeatable:
        return GiveUp("unsafe")
    delay, source = backoff, "backoff"
    if hint is not None:
        ceiling = max_server_delay  # what is accepted within the limit stays within it, spread included
        if hint > max_server_delay:
            if over_limit == "fail":
                return GiveUp("hint")
            if over_limit == "clamp":
                hint = max_server_delay
            else:
                ceiling = math.inf
        spread = min(spread_hint(hint, backoff, draw), ceiling)
        if hint > 0 and spread >= backoff:
            delay, source = spread, "hint"
    if delay >= time_left:
        return GiveUp("deadline")
    return RetryIn(delay, source)


def spread_hint(hint: float, backoff: float, draw: float) -> float:
    """
    A hint and a little more, so that all who were told the same second do not come in the same instant.

    It is hint + draw x min(hint / 10, max(backoff, 0.1)): in [hint, 1.1 x hint].
    """
    return hint + draw * min(hint / 10, max(backoff, 0.1))
