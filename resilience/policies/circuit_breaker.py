"""
Stop asking a peer that fails, and find out carefully when it is back.

What trips a circuit and who may probe is decided in `resilience.decide.breaker`.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeAlias, TypeVar

import attrs

from resilience import settings
from resilience.call import Call
from resilience.decide.breaker import Cause, Circuit, Circuits, Closed, Era, HalfOpen, Leave, Limits, Open, Permit
from resilience.env import Env
from resilience.errors import CircuitOpen
from resilience.events import BreakerClosed, BreakerHalfOpened, BreakerOpened, BreakerRejected
from resilience.outcome import Action, Blame, Failure, Phase, Signal, Verdict
from resilience.policies.guard import Vote, guard, guard_stream, health
from resilience.policy import FastPath, Handler

__all__ = ["CircuitBreaker"]

T = TypeVar("T")

_REFUSED = Verdict(Action.FAIL_FAST, rule="resilience: circuit open", blames=Blame.CALLER)

_optional = attrs.validators.optional


def _row(instance: CircuitBreaker, attribute: attrs.Attribute[Any], value: int | None) -> None:
    if value is None:
        return
    settings.count(instance, attribute, value)
    ratio, minimum = instance.failure_ratio, instance.minimum
    # A ratio of 1 is how one says that only failures in a row are to count.
    if ratio < 1 and not Limits(failure_ratio=ratio, minimum=minimum, consecutive=value).ratio_can_trip:
        expected = f"more, or failure_ratio=1: failure_ratio={ratio!r} and minimum={minimum!r} can never matter beside it"
        raise settings.fail(instance, attribute, value, expected)


def _longest(breaker: CircuitBreaker) -> float:
    # A cooldown that is no number is for its own validator to refuse.
    return max(60.0, breaker.cooldown) if isinstance(breaker.cooldown, int | float) else 60.0


def _max_cooldown(instance: CircuitBreaker, attribute: attrs.Attribute[Any], value: float) -> None:
    settings.positive(instance, attribute, value)
    if value < instance.cooldown:
        raise settings.fail(instance, attribute, value, f">= cooldown ({instance.cooldown!r})")


def _lease(instance: CircuitBreaker, attribute: attrs.Attribute[Any], value: float) -> None:
    settings.positive(instance, attribute, value)
    if instance.slow_after is not None and value < instance.slow_after:
        # A probe would be given up before it could even be called slow.
        raise settings.fail(instance, attribute, value, f">= slow_after ({instance.slow_after!r})")


def _key(instance: CircuitBreaker, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not callable(value):
        raise settings.fail(instance, attribute, value, "a function from the Call to something hashable, or None")


def _born(breaker: CircuitBreaker) -> Circuits:
    return Circuits(Limits(**{limit.name: getattr(breaker, limit.name) for limit in attrs.fields(Limits)}), breaker.max_keys)


@attrs.frozen(kw_only=True, eq=False, repr=False)
class CircuitBreaker(settings.Shown):
    """
    Let no attempt start while its peer is failing; after a cooldown, let a few probes find out whether it is back.

    Only the peer's own faults count: not the caller's, not those of a credential, no cancellation and nothing that our own policies
    refused.  There is a circuit for each peer, or for whatever *key* tells apart.  The state belongs to this object: listed in two engines
    it is shared by both, and two breakers with the same settings share nothing.  Any number of tasks, loops and threads may use it.

    Args:
        failure_ratio: Open when this share of the attempts in the window failed, in (0, 1] ...
        minimum: ... and there were at least so many; >= 1.
        window: Seconds that the window spans; > 0.  What is counted spans nine tenths of it at least.
        consecutive: Open after so many failures in a row, too, however far apart; >= 1.  None: a row alone opens nothing.
        slow_after: Count an attempt that takes so many seconds as a failure, however it ends, and as soon as anybody else comes to see it
            still hanging; > 0.  None: any duration will do.
        cooldown: Seconds to stay open before the first probe; > 0.  Each time the circuit opens again they double, until it has been
            closed for a whole window.
        max_cooldown: What they never exceed; >= cooldown.  60, or *cooldown* where that is longer.
        probes: Attempts let through to find out; all must succeed to close the circuit, the first failure opens it again; >= 1.
        lease: Seconds after which a probe that has not ended no longer holds its place; > 0, and not below *slow_after*.
        throttling: Whether failures by which the peer asks for less count, a 429 among them.  Without it only those count that are
            blamed on the peer and have no 4xx status: a rate limit is the caller's own.
        key: Which circuit an attempt belongs to: a function from the `Call` to something hashable.  None: `Call.peer`, which adapters set
            to the request's origin.  All for whom it is None share a circuit.
        max_keys: Circuits that are kept at most; >= 1.  A newcomer takes the place of one that nobody would miss.  If all would be missed,
            its attempts pass, and what they have shown is forgotten when the last of them has ended.

    Raises:
        ValueError: A setting out of its range, or one that contradicts another.
    """

    failure_ratio: float = attrs.field(default=0.5, validator=settings.ratio)
    minimum: int = attrs.field(default=10, validator=settings.count)
    window: float = attrs.field(default=30.0, validator=settings.positive)
    consecutive: int | None = attrs.field(default=None, validator=_row)
    slow_after: float | None = attrs.field(default=None, validator=_optional(settings.positive))
    cooldown: float = attrs.field(default=5.0, validator=settings.positive)
    max_cooldown: float = attrs.field(default=attrs.Factory(_longest, takes_self=True), validator=_max_cooldown)
    probes: int = attrs.field(default=1, validator=settings.count)
    lease: float = attrs.field(default=30.0, validator=_lease)
    throttling: bool = attrs.field(default=False, validator=settings.flag)
    key: Callable[[Call[Any]], Hashable] | None = attrs.field(default=None, validator=_key)
    max_keys: int = attrs.field(default=1024, validator=settings.count)
    _circuits: Circuits = attrs.field(init=False, repr=False, default=attrs.Factory(_born, takes_self=True))
    # Re-entrant: the garbage collector may close a coroutine that holds a permit at any moment, one at which this very thread
    # holds the lock included.  All such a coroutine does is to hand its permit back.
    _lock: threading.RLock = attrs.field(init=False, repr=False, factory=threading.RLock)

    def isolate(self, key: Hashable = None) -> None:
        """
        Hold the circuit of *key* open by hand until `reset`; without a key, every circuit, those that do not exist yet included.

        Attempts that have started go on, and change nothing when they end.  Emits no event: no call made the decision.
        """
        with self._lock:
            self._circuits.isolate(key)

    def reset(self, key: Hashable = None) -> None:
        """Close the circuit of *key* by hand and forget all that was counted; without a key, every circuit."""
        with self._lock:
            self._circuits.reset(key)

    def era(self, key: Hashable = None) -> str:
        """
        The state of the circuit of *key*: ``"closed"``, ``"open"``, ``"half_open"`` or ``"isolated"``.

        An open circuit whose cooldown is over stays open until an attempt comes to probe.
        """
        with self._lock:
            return self._circuits.era(key)

    def bind(self, inner: Handler[T], env: Env) -> Handler[T]:
        """Ask before each attempt of *inner*, and count how it ended."""
        vote: Vote = functools.partial(health, throttling=self.throttling)
        gate = _Gate(self._circuits, self._lock, self.key, env)
        guarded = guard(inner, gate, vote)
        if self.slow_after is not None:
            # Every attempt must be known while it is out.
            return guarded
        key, now, kept = self.key, env.now, self._circuits.kept

        async def breaking(call: Call[T]) -> T | Failure:
            # While the circuit is closed no attempt holds anything, so there is nothing to hand back.
            try:
                circuit = kept[call.peer if key is None else key(call)]
                circuit.used = True
            except KeyError:
                circuit = gate.find(call)
            era = circuit.closed
            if era is None:
                return await guarded(call)
            window = era.window
            # A first attempt follows closely on the start of its call; reading the clock again would cost as much as all the rest.
            if (call.started if call.attempt == 0 else now()) >= window.ends:
                gate.roll(era)
            outcome = await inner(call)
            if type(outcome) is not Failure:
                next(era.successes)
                if era.suspect:
                    gate.succeeded(call, circuit, era)
                return outcome
            healthy = vote(outcome)
            if healthy is not None:
                gate.settle(call, (circuit, era, None), healthy, outcome)
            return outcome

        return breaking

    def bind_fast(self, path: FastPath, inner: Handler[Any], env: Env) -> FastPath | None:  # noqa: ARG002 - the shape of Policy
        """Admit the first attempt while the circuit is closed and no success can trip it."""
        if self.slow_after is not None or path.succeeded is not None:
            return None  # every attempt must be known while it is out; or another breaker has its place on the call
        vote: Vote = functools.partial(health, throttling=self.throttling)
        gate = _Gate(self._circuits, self._lock, self.key, env)
        key, kept, further_in, mend = self.key, self._circuits.kept, path.admits, path.failed

        def admits(call: Call[Any]) -> bool:
            try:
                circuit = kept[call.peer if key is None else key(call)]
                circuit.used = True
            except KeyError:
                circuit = gate.find(call)
            era = circuit.era
            if call.started >= era.clear_until:
                if not isinstance(era, Closed):
                    return False
                gate.roll(era)  # as a rule nothing is wrong but that the window has to move on
                if call.started >= era.clear_until:
                    return False
            call.circuit = circuit
            call.era = era  # type: ignore[assignment]  # one that is clear until some time is closed
            return further_in is None or further_in(call)

        def succeeded(call: Call[Any]) -> None:
            era = call.era
            next(era.successes)
            if era.suspect:  # somebody else's attempt has failed in the meantime
                gate.succeeded(call, call.circuit, era)

        async def failed(call: Call[Any], failure: Failure) -> Any:
            outcome = failure if mend is None else await mend(call, failure)
            if type(outcome) is Failure:
                healthy = vote(outcome)
                if healthy is not None:
                    gate.settle(call, (call.circuit, call.era, None), healthy, outcome)
            else:
                succeeded(call)
            return outcome

        return path.but(admits=admits, succeeded=succeeded, failed=failed)

    def bind_stream(self, inner: Handler[T], env: Env) -> Handler[T]:
        """Ask before each attempt to open a stream, and count how the stream ended; slow is what is slow to its first item."""
        vote: Vote = functools.partial(health, throttling=self.throttling)
        return guard_stream(inner, _Gate(self._circuits, self._lock, self.key, env), vote)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy is another breaker: it takes the settings along, and neither the state nor the lock.
        return functools.partial(
            type(self), **{field.name: getattr(self, field.name) for field in attrs.fields(type(self)) if field.init}
        ), ()


_Passage: TypeAlias = tuple[Circuit, Leave, Era | None]
"""A permit on its way: the circuit that gave it, and the era that began with it, if one did."""


class _Gate:
    """The machine as the shell sees it: under the lock, with the clock read inside it, and with events for the eras that begin."""

    __slots__ = ("_circuits", "_key", "_lock", "_now")

    def __init__(self, circuits: Circuits, lock: threading.RLock, key: Callable[[Call[Any]], Hashable] | None, env: Env) -> None:
        self._circuits = circuits
        self._lock = lock
        self._key = key
        self._now = env.now

    def find(self, call: Call[Any]) -> Circuit:
        """The circuit of a key that is not kept."""
        key = call.peer if self._key is None else self._key(call)
        with self._lock:
            return self._circuits.find(key, self._now())

    def admit(self, call: Call[Any]) -> _Passage | Failure:
        key = call.peer if self._key is None else self._key(call)
        circuit = self._circuits.kept.get(key)
        if circuit is not None:
            circuit.used = True
            closed = circuit.closed
            if closed is not None and (now := self._now()) < closed.due:
                return circuit, closed.depart(now), None
        with self._lock:
            now = self._now()
            if circuit is None:
                circuit = self._circuits.find(key, now)
            before = circuit.era
            permit = circuit.admit(now)
            era = circuit.era
            wait = era.wait(now)
        begun = None if era is before else era
        if permit is not None:
            return circuit, permit, begun
        if begun is not None:
            _tell(call, circuit, begun)
        if _is_probe(call.parent, circuit):
            return circuit, Permit(now), None  # part of the probe, whose vote is the probe's; this one is nobody's
        return _rejection(call, circuit, era, wait)

    def begin(self, call: Call[Any], passage: _Passage) -> None:
        circuit, permit, begun = passage
        if isinstance(circuit.era, HalfOpen) and permit in circuit.era.flight:
            call.probing = (*call.probing, circuit)
        if begun is not None:
            _tell(call, circuit, begun)

    def opened(self, call: Call[Any], passage: _Passage) -> _Passage:
        circuit, permit, begun = passage
        if isinstance(permit, Closed):
            return passage
        with self._lock:
            before = circuit.era
            leave = circuit.opened(permit, self._now())
            era = circuit.era
        if era is not before:
            _tell(call, circuit, era)
        return circuit, leave, begun

    def beat(self, passage: _Passage) -> Callable[[float], None] | None:
        permit = passage[1]
        return permit.renew if isinstance(permit, Permit) else None

    def settle(self, call: Call[Any], passage: _Passage, healthy: bool | None, failure: Failure | None) -> None:
        circuit, permit, _ = passage
        if call.probing:
            call.probing = tuple(probed for probed in call.probing if probed is not circuit)
        closed = circuit.closed
        if healthy and closed is not None and isinstance(permit, Permit) and closed.arrive(permit, self._now()):
            # As nearly all that are watched: quick and well.
            if closed.suspect:
                self.succeeded(call, circuit, closed)
            return
        with self._lock:
            now = self._now()
            before = circuit.era
            circuit.settle(permit, healthy, now, failure)
            era = circuit.era
            self._circuits.remember(circuit, now)
        if era is not before:
            _tell(call, circuit, era)

    def succeeded(self, call: Call[Any], circuit: Circuit, era: Closed) -> None:
        """Look closer at a success that has tallied itself."""
        with self._lock:
            before = circuit.era
            circuit.succeeded(era, self._now())
            after = circuit.era
        if after is not before:
            _tell(call, circuit, after)

    def roll(self, era: Closed) -> None:
        """Move the era's window on."""
        with self._lock:
            era.roll(self._now())


def _is_probe(call: Call[Any] | None, circuit: Circuit) -> bool:
    """Whether *call*, or one around it, is a probe of *circuit*: what it does inside must not wait for itself."""
    while call is not None:
        if not call.ended and circuit in call.probing:
            return True
        call = call.parent
    return False


def _rejection(call: Call[Any], circuit: Circuit, era: Era, wait: float | None) -> Failure:
    key, cause = _words(circuit.key), era.cause or Cause("")
    tripped_by = cause.text or None
    call.say(BreakerRejected, key=key, era=era.name, retry_after=wait, tripped_by=tripped_by)
    error = CircuitOpen(
        operation=call.operation,
        retry_after=wait,
        status=cause.status,
        code=cause.code,
        key=key,
        era=era.name,
        tripped_by=tripped_by,
    )
    return Failure(_REFUSED, Signal(phase=Phase.NOT_SENT, retry_after=wait, raised=CircuitOpen), error)


def _tell(call: Call[Any], circuit: Circuit, era: Era) -> None:
    """Emit the event of an era that begins."""
    key = _words(circuit.key)
    if isinstance(era, Open):
        call.say(BreakerOpened, key=key, tripped_by=None if era.cause is None else era.cause.text, cooldown=era.cooldown)
    elif isinstance(era, HalfOpen):
        call.say(BreakerHalfOpened, key=key)
    else:
        call.say(BreakerClosed, key=key)


def _words(key: Hashable) -> str | None:
    return None if key is None else str(key)
