"""The schedules of delays that few programs ask for, so that the others do not load them; see `resilience.decide.backoff`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import attrs

from resilience.decide.backoff import Jitter, jittered, limited_to, not_below_base
from resilience.settings import Value, fail, seconds

__all__ = ["Constant", "Fibonacci", "Linear", "Listed"]


@attrs.frozen(eq=False, repr=False)
class Constant(Value):
    """
    The same delay each time.

    Args:
        base: The delay or, with jitter, its ceiling, in seconds; >= 0.
        jitter: ``none`` unless you ask for one.
    """

    base: float = attrs.field(default=1.0, validator=seconds)
    jitter: Jitter = attrs.field(default="none", validator=limited_to("full", "equal", "none"), kw_only=True)

    def delay(self, retry: int, draw: float, previous: float | None = None, /) -> float:  # noqa: ARG002 - the shape of Backoff
        """Seconds before the *retry*-th retry; see `Backoff`."""
        return jittered(self.base, draw, self.jitter)


@attrs.frozen(eq=False, repr=False)
class Linear(Value):
    """
    Ceilings base, 2 x base, 3 x base ... up to the cap.

    Args:
        base: Ceiling of the first delay, and the step to each further one, in seconds; >= 0.
        cap: Ceiling of every delay, in seconds; >= base.
        jitter: How a delay is drawn below its ceiling.
    """

    base: float = attrs.field(default=1.0, validator=seconds)
    cap: float = attrs.field(default=20.0, validator=not_below_base, kw_only=True)
    jitter: Jitter = attrs.field(default="full", validator=limited_to("full", "equal", "none"), kw_only=True)

    def delay(self, retry: int, draw: float, previous: float | None = None, /) -> float:  # noqa: ARG002 - the shape of Backoff
        """Seconds before the *retry*-th retry; see `Backoff`."""
        return jittered(min(self.cap, self.base * retry), draw, self.jitter)


@attrs.frozen(eq=False, repr=False)
class Fibonacci(Value):
    """
    Ceilings base x 1, 1, 2, 3, 5, 8 ... up to the cap: gentler than doubling.

    Args:
        base: Ceiling of the first two delays, in seconds; >= 0.
        cap: Ceiling of every delay, in seconds; >= base.
        jitter: How a delay is drawn below its ceiling.
    """

    base: float = attrs.field(default=0.1, validator=seconds)
    cap: float = attrs.field(default=20.0, validator=not_below_base, kw_only=True)
    jitter: Jitter = attrs.field(default="full", validator=limited_to("full", "equal", "none"), kw_only=True)

    def delay(self, retry: int, draw: float, previous: float | None = None, /) -> float:  # noqa: ARG002 - the shape of Backoff
        """Seconds before the *retry*-th retry; see `Backoff`."""
        if not self.base:
            return 0.0
        before, ceiling = 0.0, self.base
        for _ in range(retry - 1):
            if ceiling >= self.cap:  # after about 3,000 steps at most, whatever the number of the retry
                break
            before, ceiling = ceiling, before + ceiling
        return jittered(min(self.cap, ceiling), draw, self.jitter)


def _delays(values: Any) -> tuple[float, ...]:
    # What is no list of numbers goes to the validator as the one delay it is, and is refused there by name.
    listed: tuple[Any, ...] = (values,)
    if not isinstance(values, str):
        with contextlib.suppress(TypeError):
            listed = tuple(values)
    return listed


def _each_is_seconds(instance: object, attribute: attrs.Attribute[Any], value: Sequence[float]) -> None:
    if not value:
        raise fail(instance, attribute, value, "at least one delay")
    for one in value:
        seconds(instance, attribute, one)


@attrs.frozen(eq=False, repr=False)
class Listed(Value):
    """
    The delays you list; the last one repeats.

    Args:
        delays: Seconds before the first, second ... retry; at least one, each >= 0.
        jitter: ``none`` unless you ask for one.
    """

    delays: tuple[float, ...] = attrs.field(converter=_delays, validator=_each_is_seconds)
    jitter: Jitter = attrs.field(default="none", validator=limited_to("full", "equal", "none"), kw_only=True)

    def delay(self, retry: int, draw: float, previous: float | None = None, /) -> float:  # noqa: ARG002 - the shape of Backoff
        """Seconds before the *retry*-th retry; see `Backoff`."""
        return jittered(self.delays[min(retry, len(self.delays)) - 1], draw, self.jitter)
