"""
What the server saw and did, counted on its own side of the socket.

A client's view of a call can be wrong: an answer that got lost was work all the same.  The tour prints these counts beside what the
client believes, and the acceptance tests hold the client to them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import attrs

__all__ = ["Counts", "Ledger", "Seen"]


@attrs.frozen
class Seen:
    """
    One request, as it arrived.

    Args:
        number: 1 for the first.
        at: Seconds since the count began.
        method: In capitals.
        path: Without the query.
        headers: By lower-case name; of a repeated one, the last.  They hold credentials: not in the repr.
        fault: Name of the scripted fault that it met, or None.
        status: What was answered, or None where nothing was.
        replayed: Whether the answer was a stored one.
    """

    number: int
    at: float
    method: str
    path: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    fault: str | None = None
    status: int | None = None
    replayed: bool = False

    @property
    def route(self) -> str:
        """Method and path: ``GET /api/v1/bots``."""
        return f"{self.method} {self.path}"

    @property
    def credential(self) -> str | None:
        """What stands in ``Authorization``, its scheme taken off, or else in ``x-api-key``."""
        authorization = self.headers.get("authorization")
        return self.headers.get("x-api-key") if authorization is None else authorization.partition(" ")[2].strip() or authorization

    @property
    def key(self) -> str | None:
        """The ``Idempotency-Key``."""
        return self.headers.get("idempotency-key")


@attrs.frozen
class Counts:
    """
    Everything counted up to one moment; it changes no more.

    Args:
        seen: Every request, in order of arrival.
        elsewhere: Every request that reached the other origin.
        effects: Actions that really happened, by name: ``bot.created``, ``bot.updated``, ``bot.deleted``, ``call.placed``,
            ``message.sent``, ``completion.made``, ``tenant.registered``.
        credits: Credits charged, all tenants together.
        logins: Sessions opened at the login endpoint.
        refreshes: Refresh tokens exchanged for new ones.
        revocations: Sessions revoked because a used refresh token came back.
        replays: Stored results given out again.
        unplayed: Scripted faults that no request has met yet; one scripted for ever counts as none.
        crashes: Failures of the stand-in itself, for people.  Never expected.
    """

    seen: tuple[Seen, ...] = ()
    elsewhere: tuple[Seen, ...] = ()
    effects: Mapping[str, int] = attrs.field(factory=dict[str, int])
    credits: int = 0
    logins: int = 0
    refreshes: int = 0
    revocations: int = 0
    replays: int = 0
    unplayed: int = 0
    crashes: tuple[str, ...] = ()

    @property
    def requests(self) -> int:
        """How many requests arrived."""
        return len(self.seen)

    @property
    def by_route(self) -> Counter[str]:
        """Requests by method and path."""
        return Counter(seen.route for seen in self.seen)

    @property
    def by_status(self) -> Counter[int | None]:
        """Requests by what they were answered; None for nothing."""
        return Counter(seen.status for seen in self.seen)

    @property
    def by_credential(self) -> Counter[str | None]:
        """Requests by credential; None for those without."""
        return Counter(seen.credential for seen in self.seen)

    @property
    def by_key(self) -> Counter[str]:
        """Requests by ``Idempotency-Key``; those without are left out."""
        return Counter(seen.key for seen in self.seen if seen.key is not None)

    def of(self, route: str) -> tuple[Seen, ...]:
        """The requests to one *route*: ``POST /api/v1/calls``."""
        return tuple(seen for seen in self.seen if seen.route == route)


@attrs.define(eq=False)
class Ledger:
    """The counts while they grow.  Lives in the server's thread, like all its state."""

    seen: list[Seen] = attrs.field(factory=list[Seen])
    elsewhere: list[Seen] = attrs.field(factory=list[Seen])
    effects: Counter[str] = attrs.field(factory=Counter[str])
    credits: int = 0
    logins: int = 0
    refreshes: int = 0
    revocations: int = 0
    replays: int = 0
    crashes: list[str] = attrs.field(factory=list[str])

    def snapshot(self, *, unplayed: int = 0) -> Counts:
        """The counts as they stand."""
        return Counts(
            seen=tuple(self.seen),
            elsewhere=tuple(self.elsewhere),
            effects=dict(self.effects),
            credits=self.credits,
            logins=self.logins,
            refreshes=self.refreshes,
            revocations=self.revocations,
            replays=self.replays,
            unplayed=unplayed,
            crashes=tuple(self.crashes),
        )
