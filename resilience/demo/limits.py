"""
How many requests anybody may make: exact sliding windows.

At most ``limit`` requests of one holder are admitted in *any* stretch of ``seconds``, not merely in each calendar minute: a fixed window
would let ten through around its edge, and "5 a minute" is to mean five.  A refused request uses nothing up.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque

import attrs

__all__ = ["Room", "SlidingWindow"]


@attrs.frozen
class Room:
    """
    What one holder has left.

    Args:
        limit: Ceiling of the window.
        remaining: Requests left in it, this one taken off.
        retry_after: Seconds until one would be admitted; None when this one was.
    """

    limit: int
    remaining: int
    retry_after: float | None = None

    def headers(self) -> dict[str, str]:
        """The headers that tell a client; ``Retry-After`` in whole seconds, rounded up, so that whoever waits is admitted."""
        told = {"X-RateLimit-Limit": str(self.limit), "X-RateLimit-Remaining": str(self.remaining)}
        if self.retry_after is not None:
            told["Retry-After"] = str(max(1, math.ceil(self.retry_after)))
        return told


class SlidingWindow:
    """
    Admissions within the last *seconds*, holder by holder.

    Args:
        seconds: Length of the window; > 0.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._admitted: defaultdict[str, deque[float]] = defaultdict(deque)

    def take(self, holder: str, limit: int, now: float) -> Room:
        """
        Admit one request of *holder*, or say how long until that is possible.

        Args:
            holder: An address, a key: whatever is counted.
            limit: Ceiling of this holder's window; >= 1.
            now: Seconds on a clock that never goes back.
        """
        admitted = self._admitted[holder]
        while admitted and admitted[0] + self._seconds <= now:
            admitted.popleft()
        if len(admitted) >= limit:
            return Room(limit, 0, admitted[-limit] + self._seconds - now)
        admitted.append(now)
        return Room(limit, limit - len(admitted))
