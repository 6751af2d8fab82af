"""
Who renews a credential, who waits, who goes on with what there is: a machine without I/O.

Everyone who was refused says which generation of the token they used.  Whoever holds a stale one uses the newer; otherwise one flight
renews it and all others join.  A flight is a lease: one that has not landed when its time is over no longer keeps others from starting.  A
failed flight cools down, a renewed token that never worked is not renewed again at once, and a minute sees only so many flights, so that an
endpoint which allows a handful of logins a minute is never hammered, whatever goes wrong.

The machine is not safe for threads by itself; its owner holds a lock around each method, never across an await.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any, TypeAlias

from resilience.settings import Record

__all__ = ["Credential", "Decision", "Flight", "Held", "Join", "Lead", "Refuse", "Use"]

_MINUTE = 60.0  # seconds
_LONGEST_REST = 3600.0  # seconds that a hint of the source is obeyed; a longer one would be an outage of our own making

# Held, Flight and Crash are no records, which would show what they hold: a token, or an error whose words may quote one.


class Held:
    """
    A token as it is held.

    Args:
        value: The token itself.
        generation: Its serial number: 0 for the one given at the start, then counting.
        renew_at: When to renew it ahead of its expiry, in monotonic seconds; infinite if the expiry is unknown.
        expires_at: When it expires, likewise.
        owner: Whose it is, so that nested calls can tell whether they share it.
        renewed: Whether it came in exchange for another; a first one may well be a stale one out of some cache.
        worked: Whether an attempt with it ever succeeded.
    """

    __slots__ = ("expires_at", "generation", "owner", "renew_at", "renewed", "value", "worked")

    def __init__(
        self,
        value: str,
        generation: int,
        renew_at: float = math.inf,
        expires_at: float = math.inf,
        owner: object = None,
        *,
        renewed: bool = False,
        worked: bool = False,
    ) -> None:
        self.value = value
        self.generation = generation
        self.renew_at = renew_at
        self.expires_at = expires_at
        self.owner = owner
        self.renewed = renewed
        self.worked = worked


class Flight:
    """
    One refresh under way.

    Args:
        replaces: The token it replaces; None for the first of all.
        until: When its lease ends, in monotonic seconds.
        early: Whether the old token still serves meanwhile.

    Attributes:
        waiters: Whom to wake when it has landed or crashed; opaque to the machine.
        done: Whether it has.
        crash: Why it failed; None if it landed.
    """

    __slots__ = ("crash", "done", "early", "replaces", "until", "waiters")

    def __init__(self, replaces: Held | None, until: float, *, early: bool) -> None:
        self.replaces = replaces
        self.until = until
        self.early = early
        self.waiters: list[Any] = []
        self.done = False
        self.crash: Crash | None = None

    @property
    def generation(self) -> int:
        """The serial number of the token that it will bring."""
        return 1 if self.replaces is None else self.replaces.generation + 1


class Crash:
    """
    Why a refresh failed.

    Args:
        reason: One word.
        detail: What is known of the source's error, in words.
        status: Its status, if it had one.
        code: Its error code, likewise.
        retry_after: Seconds to leave the source alone.
        error: The error itself.
    """

    __slots__ = ("code", "detail", "error", "reason", "retry_after", "status")

    def __init__(  # noqa: PLR0917 - in the order in which they are told
        self,
        reason: str,
        detail: str | None = None,
        status: int | None = None,
        code: str | None = None,
        retry_after: float = 0.0,
        error: Exception | None = None,
    ) -> None:
        self.reason = reason
        self.detail = detail
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.error = error

    def kept(self, retry_after: float, error: Exception | None) -> Crash:
        """The same, with another rest and error."""
        return Crash(self.reason, self.detail, self.status, self.code, retry_after, error)


class Use(Record):
    """Go on with this token; *renew* is a flight to start in the background, where its expiry is near."""

    __slots__ = ("held", "renew")

    def __init__(self, held: Held, renew: Flight | None = None) -> None:
        self.held = held
        self.renew = renew


class Join(Record):
    """Wait for the flight that is under way."""

    __slots__ = ("flight",)

    def __init__(self, flight: Flight) -> None:
        self.flight = flight


class Lead(Record):
    """Start this flight, and wait for it like everyone else."""

    __slots__ = ("flight",)

    def __init__(self, flight: Flight) -> None:
        self.flight = flight


class Refuse(Record):
    """No refresh for now; *crash* is the failure that still cools down, None if the token itself is what does not help."""

    __slots__ = ("crash", "retry_after")

    def __init__(self, crash: Crash | None, retry_after: float) -> None:
        self.crash = crash
        self.retry_after = retry_after


Decision: TypeAlias = Use | Join | Lead | Refuse


class Credential:
    """
    The machine.

    Args:
        lease: Seconds a flight may take.
        early: Seconds ahead of a known expiry at which to renew; at most half the token's life.
        cooldown: Seconds of rest after a flight that failed, or whose token never worked.
        per_minute: The most flights that may start in any minute.

    Attributes:
        held: The token, if there is one yet.
        flight: The refresh under way, if there is one.
    """

    __slots__ = ("_crash", "_flown", "_rests_until", "_since", "cooldown", "early", "flight", "held", "lease", "per_minute")

    def __init__(self, lease: float, early: float, cooldown: float, per_minute: int) -> None:
        self.lease = lease
        self.early = early
        self.cooldown = cooldown
        self.per_minute = per_minute
        self.held: Held | None = None
        self.flight: Flight | None = None
        self._crash: Crash | None = None
        self._rests_until = -math.inf
        self._since = -math.inf
        self._flown: deque[float] = deque(maxlen=per_minute)

    def ask(self, now: float, stale: int | None = None) -> Decision:
        """
        What a call is to do that needs a token newer than generation *stale*; None if any valid one will do.

        Args:
            now: Monotonic seconds.
            stale: The generation that was refused.
        """
        held = self.usable(now, stale)
        flight = self.flight if self.flight is not None and now < self.flight.until else None
        if held is not None:
            if flight is not None:
                return Use(held) if flight.early else Join(flight)
            if now >= held.renew_at and self._rest(now) is None:
                return Use(held, self._start(now, early=True))
            return Use(held)
        if flight is not None:
            return Join(flight)
        rest = self._rest(now)
        if rest is not None:
            return rest
        return Lead(self._start(now, early=False))

    def usable(self, now: float, stale: int | None = None) -> Held | None:
        """The token, if it has not expired and is newer than generation *stale*."""
        held = self.held
        if held is not None and now < held.expires_at and (stale is None or held.generation > stale):
            return held
        return None

    def land(self, flight: Flight, value: str, expires_in: float | None, now: float) -> Held | None:
        """
        Take the token that *flight* brought.

        Args:
            flight: The flight.
            value: The token.
            expires_in: Seconds of life; None if unknown.
            now: Monotonic seconds.

        Returns:
            The token as held from now on; None where a newer one has landed since: late news replaces nothing.
        """
        flight.done = True
        base = -1 if flight.replaces is None else flight.replaces.generation
        if self.flight is flight:
            self.flight = None
        if self.held is not None and self.held.generation > base:
            return None
        life = math.inf if expires_in is None else expires_in
        self.held = Held(
            value=value,
            generation=flight.generation,
            renew_at=now + life - min(self.early, life / 2) if life < math.inf else math.inf,
            expires_at=now + life,
            owner=self,
            renewed=flight.replaces is not None,
        )
        self._since = now
        self._crash = None
        self._rests_until = -math.inf
        return self.held

    def crashed(self, flight: Flight, crash: Crash, now: float) -> Crash:
        """Note that *flight* failed; everyone rests for the cooldown, or for as long as the source's own hint says, at most an hour."""
        flight.done = True
        rest = max(self.cooldown, min(crash.retry_after, _LONGEST_REST))
        flight.crash = crash.kept(rest, crash.error)
        if self.flight is flight:
            self.flight = None
            # The error itself is for those who wait now; kept for longer it would keep its frames alive.
            self._crash = crash.kept(rest, None)
            self._rests_until = now + rest
        return flight.crash

    def _start(self, now: float, *, early: bool) -> Flight:
        self._flown.append(now)
        self.flight = Flight(self.held, now + self.lease, early=early)
        return self.flight

    def _rest(self, now: float) -> Refuse | None:
        if now < self._rests_until:
            return Refuse(self._crash, self._rests_until - now)
        held = self.held
        if held is not None and held.renewed and not held.worked and now < self._since + self.cooldown:
            return Refuse(None, self._since + self.cooldown - now)
        if len(self._flown) == self.per_minute and now < self._flown[0] + _MINUTE:
            return Refuse(None, self._flown[0] + _MINUTE - now)
        return None
