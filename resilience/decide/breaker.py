"""
The circuit breaker's machine.

Theory of operation
===================

A circuit is always in one era.  An era is an object: one stay in one state, with everything that is only known during that stay.  When
the state changes, the era is replaced, never altered, and nothing but the cause is carried over.

    Closed ──too many failures──▶ Open ──cooldown over, somebody asks──▶ HalfOpen ──all probes succeed──▶ Closed
                                   ▲                                        │
                                   └───────────first probe that fails───────┘

    Isolated: entered and left by hand, from any of them.

Rule 1: a permit belongs to the era that gave it.  `Circuit.settle` looks it up in the present era and nowhere else, so that news of an
attempt from an earlier era, good, bad or none, finds nothing to change.  In a closed era nothing has to be known of a single attempt, and
the era itself is everybody's permit; otherwise each attempt has a `Permit`, and the era holds those that are out, oldest first.

Rule 2: there are three votes.  True speaks for the peer, False against it, None is no vote: the attempt was cancelled, or refused further
in.  A closed era ignores the third; a half-open one takes the permit back and gives it to the next who asks.

Rule 3: in a half-open era, probes left + out + passed = probes allowed, after every step.  Opening the era and giving its first permit is
one step.  No probe's fate can hold the circuit up: a permit is a lease, and when it has run out its place goes to the next who asks.

Rule 4: nothing happens by itself.  There are no timers; what is due is done by the next admission that finds it due.  Attempts that hang
are noticed this way too (where `slow_after` is set): who comes in ages those that are out, oldest first, and each that is found overdue
votes against the peer at once, and never again.

Rule 5: a stream is slow or not by its first item (`Circuit.opened`), and votes at its end.  In between nothing has to be known of it in a
closed era, where the era becomes its permit.  As a probe it keeps its place, and its lease counts from its latest item.

When a closed era trips
-----------------------

It does when, within the window,

    failures / attempts >= failure_ratio  and  attempts >= minimum

or with `consecutive` failures in a row.  This is asked after every vote, successes included: the one that completes the volume may be the
last straw.  But a success is to cost next to nothing and take no lock, so most are not asked.  `Closed.suspect` says whether one of the
successes to come could trip the circuit as things stand.  With f failures in n attempts, k more successes make it f / (n + k), which is
largest for the smallest k >= 1 with n + k >= minimum; so none of them can while

    f / max(minimum, n + 1) < failure_ratio

and that changes only with a failure, or when the window moves on (old successes leave it, and the ratio rises).  A success that tallies
itself just before a failure is looked at is counted with it; one that does so just after finds `suspect` as the failure left it.  Either
way the last to come decides with the knowledge of both.

How long it stays open
----------------------

`cooldown` seconds, and twice as long each time it opens again, up to `max_cooldown`, until it has been closed for one whole window.
A peer that passes its probes and falls over under the load that follows has not recovered, so closing alone does not start afresh.

Many circuits
-------------

`Circuits` keeps one for each key, a bounded number.  It throws out only what would not be missed: circuits that are closed, have nothing
counted against them, have been so for a window if they were ever open, and were not used since it last looked (a second chance; the ones
in use are never reordered, only flagged).  For each newcomer it looks at `LOOKS` of them at most, and goes on from there for the next, so
that nobody has to wait for a hundred thousand to be looked at.  Calls that are out keep a circuit alive even so: whoever asks for its key
in the meantime gets the same one, and a failure brings it back among those that are kept.  If nothing can be thrown out, a newcomer's
circuit lives just as long as its calls, and remembers nothing beyond them.

All of this takes readings of a clock (`now`, monotonic seconds), and none of it waits or locks: whoever shares circuits between threads
holds a lock around every step, but for those that are said to need none.

Reference:
    Nygard, "Release It!", 2nd ed., 2018, "Circuit Breaker".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import ClassVar, TypeAlias
from weakref import WeakValueDictionary, ref

import attrs

from resilience.decide.window import LONG_AGO, SLICES, Window
from resilience.outcome import Failure
from resilience.settings import Record, Value

__all__ = ["LOOKS", "Cause", "Circuit", "Circuits", "Closed", "Era", "HalfOpen", "Isolated", "Leave", "Limits", "Open", "Permit"]

LOOKS = 128
"""So many circuits are looked at, at most, to make room for one: about 0.1 ms where each has to be asked."""


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Limits(Value):
    """
    A breaker's settings, as far as they decide anything; `CircuitBreaker` checks and explains them.

    Args:
        failure_ratio: In (0, 1].
        minimum: Attempts in the window; >= 1.
        window: Seconds; > 0.
        consecutive: Failures in a row; >= 1, None for no matter how many.
        slow_after: Seconds; > 0, None for no matter how slow.
        cooldown: Seconds; > 0.
        max_cooldown: Seconds; >= cooldown.
        probes: Attempts in a half-open era; >= 1.
        lease: Seconds; > 0, and >= slow_after.
    """

    failure_ratio: float = 0.5
    minimum: int = 10
    window: float = 30.0
    consecutive: int | None = None
    slow_after: float | None = None
    cooldown: float = 5.0
    max_cooldown: float = 60.0
    probes: int = 1
    lease: float = 30.0

    @property
    def ratio_can_trip(self) -> bool:
        """
        Whether the ratio can be reached where *consecutive* is not.

        Of n attempts without c failures in a row at least floor(n / c) succeed.  What that leaves to failures is the largest share where n
        is one less than a multiple of c, and of these for the smallest n, so that the first such n from *minimum* on tells.
        """
        c = self.consecutive
        if c is None:
            return True
        n = self.minimum + (c - 1 - self.minimum) % c
        return (n - n // c) / n >= self.failure_ratio


class Cause(Record):
    """
    What tripped a circuit, in words and numbers: the failure itself, with all that hangs on it, is not kept alive.

    Args:
        rule: What decided that it was one.
        status: Its status, if it had one.
        code: Its error code, likewise.
    """

    __slots__ = ("code", "rule", "status")

    def __init__(self, rule: str, status: int | None = None, code: str | None = None) -> None:
        self.rule = rule
        self.status = status
        self.code = code

    @classmethod
    def of(cls, failure: Failure) -> Cause:
        """What is worth remembering of *failure*."""
        return cls(failure.verdict.rule, failure.signal.status, failure.signal.code)

    @property
    def text(self) -> str:
        """One line, in which nothing is said twice."""
        status = "" if self.status is None or str(self.status) in self.rule else f", status {self.status}"
        code = "" if self.code is None or self.code in self.rule else f", code {self.code}"
        return f"{self.rule}{status}{code}"


class Permit:
    """
    Leave to start one attempt.

    Attributes:
        since: When it was given, in monotonic seconds; for a stream that has begun, when its latest item came.
        flows: Whether it is that of a stream that has begun.
    """

    __slots__ = ("flows", "since")

    def __init__(self, since: float) -> None:
        self.since = since
        self.flows = False

    def renew(self, now: float) -> None:
        """Note that another item of the stream has come."""
        self.since = now


class Era:
    """
    One stay in one state.

    Attributes:
        name: The state, as users and logs have it.
        cause: The latest that spoke against the peer, or what opened the circuit.
        clear_until: An attempt that starts before this time needs no leave, if none that is out has to be known.
    """

    __slots__ = ()

    name: ClassVar[str]
    cause: Cause | None = None
    clear_until: float = LONG_AGO

    def wait(self, now: float) -> float | None:  # noqa: ARG002 - most eras have no end that is known
        """Seconds until an attempt may be admitted that is refused now; >= 0, None where nobody knows."""
        return None


class Closed(Era):
    """
    Attempts pass, and are counted.

    Args:
        limits: The settings.
        since: When it began; minus infinity for a circuit that was never open.

    Attributes:
        window: What counts.
        successes: Those of the window; one may tally itself here, without a lock, if `suspect` is looked at afterwards.
        suspect: Whether such a success must be told to `Circuit.succeeded`, too.
        clear_until: The end of the window's present slice, unless successes are suspect.
        flight: The attempts that are out, oldest first, if they are watched for being slow; else nothing.
        due: When somebody has to look for overdue ones, or move the window on.  Before that, one that is watched may `depart` by itself.
        run: The latest failures in a row, where that matters.
    """

    __slots__ = ("cause", "clear_until", "due", "flight", "limits", "run", "since", "successes", "suspect", "window")

    name = "closed"

    def __init__(self, limits: Limits, since: float = LONG_AGO) -> None:
        self.limits = limits
        self.since = since
        self.window = window = Window(limits.window)
        self.successes = window.successes
        self.clear_until = LONG_AGO
        self.flight: dict[Permit, bool] = {}
        self.due = LONG_AGO
        self.run = 0
        self.suspect = False
        self.cause = None

    def roll(self, now: float) -> None:
        """Move the window on if it is time, and then ask anew whether successes may pass unseen."""
        window = self.window
        if now >= window.ends:
            window.roll(now)
            if window.failures:
                self._doubt()
            else:
                self.clear_until = window.ends  # nothing was ever suspected

    def depart(self, now: float) -> Permit:
        """A permit for an attempt that is watched.  Any thread may, without a lock, before `due`."""
        permit = Permit(now)
        self.flight[permit] = True
        return permit

    def arrive(self, permit: Permit, now: float) -> bool:
        """Take a quick success out, and count it; False for anything else.  Any thread may, without a lock, but see `suspect`."""
        slow_after = self.limits.slow_after
        if slow_after is None or now - permit.since >= slow_after or not self.flight.pop(permit, False):
            return False
        next(self.successes)
        return True

    def count(self, healthy: bool, now: float) -> bool:
        """Count one vote; whether the circuit trips."""
        self.window.roll(now)
        if healthy:
            next(self.successes)
        else:
            self.window.fail()
            if self.limits.consecutive is not None:
                self.run += 1
        return self.judge(healthy)

    def judge(self, healthy: bool) -> bool:
        """Whether the circuit trips, now that a vote has been counted."""
        if healthy:
            self.run = 0
        failures, attempts = self._doubt()
        limits = self.limits
        return (attempts >= limits.minimum and failures / attempts >= limits.failure_ratio) or self.run == limits.consecutive

    def clean(self, now: float) -> bool:
        """Whether nothing that is remembered here speaks against the peer, so that forgetting it would change nothing."""
        if self.run:
            return False
        if not self.window.failures:
            return True
        self.roll(now)
        return not self.window.counts()[0]

    def _doubt(self) -> tuple[int, int]:
        failures, attempts = counts = self.window.counts()
        limits = self.limits
        self.suspect = self.run > 0 or failures / max(limits.minimum, attempts + 1) >= limits.failure_ratio
        self.clear_until = LONG_AGO if self.suspect else self.window.ends
        return counts


class Open(Era):
    """
    Nothing passes until the cooldown is over.

    Args:
        cooldown: Its length in seconds.
        now: When it begins.
        cause: What tripped the circuit.
    """

    __slots__ = ("cause", "cooldown", "until")

    name = "open"

    def __init__(self, cooldown: float, now: float, cause: Cause | None) -> None:
        self.cooldown = cooldown
        self.until = now + cooldown
        self.cause = cause

    def wait(self, now: float) -> float:
        """Seconds left of the cooldown."""
        return max(0.0, self.until - now)


class HalfOpen(Era):
    """
    So many probes pass, and nothing else.

    Args:
        limits: The settings.
        cause: What tripped the circuit.

    Attributes:
        left: Probes that may still start.
        flight: Probes that are out.
        passed: Probes that succeeded.
    """

    __slots__ = ("cause", "flight", "left", "limits", "passed")

    name = "half_open"

    def __init__(self, limits: Limits, cause: Cause | None) -> None:
        self.limits = limits
        self.cause = cause
        self.left = limits.probes
        self.flight: dict[Permit, bool] = {}
        self.passed = 0

    def wait(self, now: float) -> float:
        """Seconds until the oldest probe's lease runs out, or it is overdue; 0 while there are probes left."""
        if self.left or not self.flight:
            return 0.0
        limits = self.limits
        held = limits.lease if limits.slow_after is None else min(limits.lease, limits.slow_after)
        ends = min(probe.since + (limits.lease if probe.flows else held) for probe in self.flight)
        return max(0.0, ends - now)

    def oldest(self, *, waiting: bool = False) -> Permit | None:
        """The probe that was heard of the longest ago; of those only that are *waiting* for their first item, if so asked."""
        return min((probe for probe in self.flight if not (waiting and probe.flows)), key=lambda probe: probe.since, default=None)


class Isolated(Era):
    """Nothing passes until somebody says so."""

    __slots__ = ()

    name = "isolated"


Leave: TypeAlias = Permit | Closed
"""What `Circuit.admit` gives: leave to start one attempt, to be settled."""


class Circuit:
    """
    One circuit: to be asked before an attempt, and told after.

    Args:
        limits: The settings.
        key: Under which `Circuits` keeps it.

    Attributes:
        era: The present era; compare it before and after a step to learn whether the state changed.
        closed: The same, if it is a closed one: what a call that is in a hurry looks at.
        used: Whether somebody asked for it lately.
    """

    __slots__ = ("__weakref__", "_openings", "closed", "era", "key", "limits", "used")

    def __init__(self, limits: Limits, key: Hashable = None) -> None:
        self.limits = limits
        self.key = key
        self.used = False
        self.reset()

    def admit(self, now: float) -> Leave | None:
        """
        Ask for leave to start an attempt.

        Returns:
            A permit, which must be settled whatever becomes of the attempt; None if it must not start.
        """
        slow_after = self.limits.slow_after
        if slow_after is not None:
            self._age(now, slow_after)
        era = self.era
        if isinstance(era, Closed):
            era.roll(now)
            if slow_after is None:
                return era
            permit = era.depart(now)
            oldest = _oldest(era.flight)
            era.due = min(era.window.ends, (permit if oldest is None else oldest).since + slow_after)
            return permit
        if isinstance(era, Open) and now >= era.until:
            era = HalfOpen(self.limits, era.cause)
            self._begin(era)
        if not isinstance(era, HalfOpen):
            return None
        if not era.left:
            oldest = era.oldest()
            if oldest is None or now - oldest.since < self.limits.lease:
                return None
            del era.flight[oldest]
            era.left += 1
        era.left -= 1
        probe = Permit(now)
        era.flight[probe] = True
        return probe

    def opened(self, permit: Leave, now: float) -> Leave:
        """Note that an attempt has the first item of its stream; what to settle at its end."""
        era, slow_after = self.era, self.limits.slow_after
        if not isinstance(permit, Permit) or not isinstance(era, Closed | HalfOpen) or permit not in era.flight:
            return permit
        if slow_after is not None and now - permit.since >= slow_after:
            self.settle(permit, None, now)  # as slow; the rest of it is late news
            return permit
        if isinstance(era, Closed):
            del era.flight[permit]
            return era
        permit.since, permit.flows = now, True
        return permit

    def settle(self, permit: Leave, healthy: bool | None, now: float, failure: Failure | None = None) -> None:
        """
        Hand a permit back, with a vote.  News from an earlier era changes nothing.

        Args:
            permit: What `admit` gave.
            healthy: Whether the attempt speaks for the peer (True), against it (False) or neither (None).
            now: Monotonic seconds.
            failure: What speaks against it, to remember in words.
        """
        era = self.era
        cause = None if failure is None else Cause.of(failure)
        if isinstance(permit, Closed):
            # Nothing was noted of the attempt, so there is nothing to take back.
            if permit is era and healthy is not None:
                self._vote(permit, healthy, now, cause)
            return
        if not isinstance(era, Closed | HalfOpen) or not era.flight.pop(permit, False):
            return
        if isinstance(era, HalfOpen):
            era.left += 1
        slow_after = self.limits.slow_after
        if slow_after is not None and healthy is not False and not permit.flows and now - permit.since >= slow_after:
            # However it ended: it must make no difference whether a newcomer saw it hanging before.
            healthy, cause = False, Cause(f"resilience: slower than {slow_after:g} s")
        if healthy is not None:
            self._vote(era, healthy, now, cause)

    def succeeded(self, era: Closed, now: float) -> None:
        """Settle a success of *era* that has tallied itself already; needed only if the era is `suspect`."""
        if era is self.era:
            era.window.roll(now)
            if era.judge(True):
                self._open(now, era.cause)

    def isolate(self) -> None:
        """Let nothing pass until `reset`."""
        self._begin(Isolated())

    def reset(self) -> None:
        """Close, and forget everything."""
        self._openings = 0  # since it was last closed for one whole window
        self._begin(Closed(self.limits))

    def idle(self, now: float) -> bool:
        """Whether a new circuit would do as well."""
        era = self.era
        return isinstance(era, Closed) and era.clean(now) and (not self._openings or now - era.since >= self.limits.window)

    def _age(self, now: float, slow_after: float) -> None:
        """Let the attempts that are out for too long vote, oldest first."""
        era = self.era
        if not isinstance(era, Closed | HalfOpen):
            return
        while self.era is era:
            oldest = _oldest(era.flight) if isinstance(era, Closed) else era.oldest(waiting=True)
            if oldest is None or now - oldest.since < slow_after:
                return
            self.settle(oldest, None, now)

    def _vote(self, era: Closed | HalfOpen, healthy: bool, now: float, cause: Cause | None) -> None:
        if not healthy:
            era.cause = cause
        if isinstance(era, Closed):
            if era.count(healthy, now):
                self._open(now, era.cause)
        elif not healthy:
            self._open(now, era.cause)
        else:
            era.left -= 1
            era.passed += 1
            if era.passed == self.limits.probes:
                self._begin(Closed(self.limits, since=now))

    def _begin(self, era: Era) -> None:
        self.era: Era = era
        self.closed = era if isinstance(era, Closed) else None

    def _open(self, now: float, cause: Cause | None) -> None:
        limits, era = self.limits, self.era
        if isinstance(era, Closed) and now - era.since >= limits.window:
            self._openings = 0
        # 2.0 ** 1024 overflows a float.
        cooldown = min(limits.cooldown * 2.0 ** min(self._openings, 1023), limits.max_cooldown)
        self._openings += 1
        self._begin(Open(cooldown, now, cause))


class Circuits:
    """
    A circuit for each key, of which a bounded number is kept.

    Args:
        limits: The settings of each.
        bound: The most that are kept; >= 1.

    Attributes:
        kept: Those that are kept; look here first, and set `Circuit.used` on what is found.
        isolated: Whether all are isolated, those that do not exist yet included.
    """

    __slots__ = ("_barren", "_bound", "_limits", "_out", "_ring", "_vain", "isolated", "kept")

    def __init__(self, limits: Limits, bound: int) -> None:
        self.kept: dict[Hashable, Circuit] = {}
        self.isolated = False
        self._limits = limits
        self._bound = bound
        self._ring: deque[Circuit] = deque()  # the same as in `kept`, next to be looked at first
        self._out: WeakValueDictionary[Hashable, Circuit] = WeakValueDictionary()  # not kept, but calls of theirs are out
        self._vain = 0  # circuits that were looked at since the last one that could be thrown out
        self._barren = LONG_AGO  # until when nothing can be thrown out, as far as we know

    def find(self, key: Hashable, now: float) -> Circuit:
        """The circuit of *key*, made and kept if need be and if there is room."""
        circuit = self._living(key)
        if circuit is None:
            circuit = self._new(key)
            if circuit.closed is not None:
                circuit.closed.roll(now)  # or the attempt that asks for it would have to come back at once
        self.keep(circuit, now)
        return circuit

    def keep(self, circuit: Circuit, now: float) -> None:
        """Keep *circuit* if it is not kept yet and if there is room, or can be made."""
        if self.kept.get(circuit.key) is circuit:
            return
        while len(self.kept) >= self._bound:
            if not self._make_room(now):
                self._out[circuit.key] = circuit
                return
        self._add(circuit)

    def remember(self, circuit: Circuit, now: float) -> None:
        """Keep *circuit* again if it was thrown out while a call of its was out, and would be missed now."""
        if self.kept.get(circuit.key) is not circuit and not circuit.idle(now):
            self.keep(circuit, now)

    def isolate(self, key: Hashable = None) -> None:
        """Let nothing pass for *key*, or, without one, for any key at all, until `reset`."""
        if key is None:
            self.isolated = True
            for circuit in self._all():
                circuit.isolate()
        else:
            self._pinned(key).isolate()

    def reset(self, key: Hashable = None) -> None:
        """Close, and forget everything of, the circuit of *key*, or of all."""
        if key is None:
            self.isolated = False
            for circuit in self._all():
                circuit.reset()
        elif self.isolated or self._living(key) is not None:
            self._pinned(key).reset()

    def era(self, key: Hashable = None) -> str:
        """The name of the present era for *key*."""
        circuit = self._living(key)
        if circuit is not None:
            return circuit.era.name
        return Isolated.name if self.isolated else Closed.name

    def _living(self, key: Hashable) -> Circuit | None:
        # Nothing is out as a rule, and a miss in a weak dictionary is dear.
        return self.kept.get(key) or (self._out.get(key) if self._out else None)

    def _new(self, key: Hashable) -> Circuit:
        circuit = Circuit(self._limits, key)
        if self.isolated:
            circuit.isolate()
        return circuit

    def _pinned(self, key: Hashable) -> Circuit:
        """The circuit of *key*, kept even above the bound: what was set by hand must last."""
        circuit = self._living(key) or self._new(key)
        if key not in self.kept:
            self._add(circuit)
        return circuit

    def _all(self) -> list[Circuit]:
        return [*self.kept.values(), *self._out.values()]

    def _add(self, circuit: Circuit) -> None:
        if self._out:
            self._out.pop(circuit.key, None)
        self.kept[circuit.key] = circuit
        self._ring.append(circuit)

    def _make_room(self, now: float) -> bool:
        """Throw out the next circuit that would not be missed; whether there was one among those that are looked at."""
        if self.isolated or now < self._barren:
            # While all are isolated, one that was reset by hand must not come back as a new, isolated one.
            return False
        ring = self._ring
        twice = 2 * len(ring)
        for _ in range(min(LOOKS, twice)):
            circuit = ring.popleft()
            if not circuit.used and circuit.idle(now):
                self._vain = 0
                key, living = circuit.key, ref(circuit)
                del self.kept[key], circuit
                out = living()
                # As a rule no call of it is out, and it is gone: an entry in a weak dictionary would cost more than all the rest.
                if out is not None:
                    self._out[key] = out
                return True
            circuit.used = False
            ring.append(circuit)
            self._vain += 1
        if self._vain >= twice:
            # All were looked at in vain, which took a while; little can change before a slice of the window is over.
            self._vain = 0
            self._barren = now + self._limits.window / SLICES
        return False


def _oldest(flight: dict[Permit, bool]) -> Permit | None:
    while True:
        try:
            return next(iter(flight), None)
        except RuntimeError:
            # Attempts come and go without a lock: one did between the two steps of looking.
            continue
