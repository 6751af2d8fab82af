"""
How long to wait before the n-th retry.

A schedule is a function of the retry's number, a draw in [0, 1) and, for decorrelated jitter, the delay before.  Every delay is finite,
never negative and never above the cap, for any number of retries.

Reference:
    Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import attrs

from resilience.settings import Value, fail, seconds

__all__ = ["Backoff", "Exponential", "Jitter"]

Jitter = Literal["full", "equal", "decorrelated", "none"]

_JITTERS = get_args(Jitter)


@runtime_checkable
class Backoff(Protocol):
    """A schedule of delays; one of the user's own needs only this."""

    def delay(self, retry: int, draw: float, previous: float | None = None, /) -> float:
        """
        Seconds before the *retry*-th retry.

        Args:
            retry: 1 for the first retry.
            draw: Uniform sample in [0, 1).
            previous: The delay before, in the same schedule of the same call; None for the first.
        """
        ...


def limited_to(*allowed: str) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
        if value not in allowed:
            raise fail(instance, attribute, value, f"one of {', '.join(map(repr, allowed))}")

    return check


def not_below_base(instance: Any, attribute: attrs.Attribute[Any], value: float) -> None:
    seconds(instance, attribute, value)
    if value < instance.base:
        raise fail(instance, attribute, value, f">= base ({instance.base!r})")


def _factor(instance: object, attribute: attrs.Attribute[Any], value: float) -> None:
    seconds(instance, attribute, value)
    if value < 1:
        raise fail(instance, attribute, value, ">= 1")


def jittered(ceiling: float, draw: float, jitter: str) -> float:
    """
    A delay below *ceiling*: all of it (``none``), its upper half (``equal``) or anywhere in it (``full``), as *draw* has it.

    Non-decreasing in *draw*; in [0, ceiling].
    """
    if jitter == "none":
        return ceiling
    if jitter == "equal":
        return (0.5 + draw / 2) * ceiling
    return draw * ceiling


@attrs.frozen(eq=False, repr=False)
class Exponential(Value):
    """
    Ceilings base, base x factor, base x factor^2 ... up to the cap, and a delay drawn below each.

    ``decorrelated`` draws between *base* and three times the delay before instead, or the cap where that is less.

    Args:
        base: Ceiling of the first delay, in seconds; >= 0.
        cap: Ceiling of every delay, in seconds; >= base.
        factor: Growth from one ceiling to the next; >= 1.
        jitter: How a delay is drawn below its ceiling.
    """

    base: float = attrs.field(default=0.05, validator=seconds)
    cap: float = attrs.field(default=20.0, validator=not_below_base, kw_only=True)
    factor: float = attrs.field(default=2.0, validator=_factor, kw_only=True)
    jitter: Jitter = attrs.field(default="full", validator=limited_to(*_JITTERS), kw_only=True)

    def delay(self, retry: int, draw: float, previous: float | None = None, /) -> float:
        """Seconds before the *retry*-th retry; see `Backoff`."""
        if self.jitter == "decorrelated":
            # The range is cut at the cap, not what is drawn from it: else most draws near the cap would be the cap itself.
            ceiling = min(self.cap, 3 * (self.base if previous is None else previous))
            return min(self.cap, self.base + draw * max(0.0, ceiling - self.base))
        if not self.base:
            return 0.0
        try:
            # In floats: a power of whole numbers is exact, and a million digits long.
            ceiling = min(self.cap, self.base * float(self.factor) ** (retry - 1))
        except OverflowError:  # 2.0 ** 1024
            ceiling = self.cap
        return jittered(ceiling, draw, self.jitter)
