"""
How many attempts succeeded and failed lately.

Successes are counted for good, by a counter that needs no lock; what belongs to the window is the difference to where the counter stood
when the oldest slice of time began.  So a success costs one call into C and knows nothing of time, the marks move only when somebody looks
at the clock anyway, and the sum over the window is one subtraction.

`itertools.count` is the counter because stepping it is a single step for every thread, with and without a global lock.  It cannot be looked
at (pickling, which could, is gone in 3.14), so a reader steps it too, and takes its own steps off again.
"""

from __future__ import annotations

import itertools
import math
from typing import Final

__all__ = ["LONG_AGO", "SLICES", "Window"]

LONG_AGO: Final = -math.inf
"""Before any reading of the clock.  Named because each ``-math.inf`` is a float of its own, and there are windows by the thousand."""

SLICES = 20
"""Into so many slices the window is cut: what is counted spans between nine tenths of it and all of it."""

_NOTHING = (LONG_AGO, 0, 0)


class Window:
    """
    Successes and failures of the last *span* seconds.

    An attempt counts at the time it ended: exactly so for a failure, and to within a slice for a success, which falls into the slice of the
    latest `roll`.  Everything but counting a success must be done by one thread at a time.

    Args:
        span: Seconds; finite, > 0.

    Attributes:
        ends: When the present slice is over; who reads the clock from then on must `roll`.
        failures: Those ever counted, of any age.
        successes: ``next(window.successes)`` counts one.  Any thread may, without a lock.
    """

    __slots__ = ("_marks", "_reads", "_span", "ends", "failures", "successes")

    def __init__(self, span: float) -> None:
        self.ends = LONG_AGO
        self.successes = itertools.count()
        self._span = span
        self._reads = 0
        self.failures = 0
        self._marks: list[tuple[float, int, int]] = []  # when each slice began, and successes and failures before it

    def roll(self, now: float) -> None:
        """Begin a new slice if the present one is over, and forget those that may hold something older than the window."""
        if now < self.ends:
            return
        width = self._span / SLICES
        # A slice that began no later than this reaches out of the window before the new one ends.
        horizon = now + width - self._span
        marks = self._marks
        while marks and marks[0][0] <= horizon:
            del marks[0]
        marks.append((now, self._count(), self.failures))
        self.ends = now + width

    def fail(self) -> None:
        """Count one failure, in the present slice."""
        self.failures += 1

    def counts(self) -> tuple[int, int]:
        """Failures, and attempts in all, within the window as of the latest `roll`."""
        _, successes, failures = self._marks[0] if self._marks else _NOTHING
        failures = self.failures - failures
        return failures, failures + self._count() - successes

    def _count(self) -> int:
        """Successes ever, without this very look and those before."""
        successes = next(self.successes) - self._reads
        self._reads += 1
        return successes
