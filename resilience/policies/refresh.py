"""
Renew an expired credential once, for everyone who needs it.

A refresh runs detached from every caller: whoever started it may be cancelled, and the token that the server has already rotated still
arrives. Leader and joiners only wait, each in its own loop, each no longer than its own deadline.
"""

from __future__ import annotations

import inspect
import math
import threading
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, ClassVar, TypeVar

import attrs

from resilience import repeating, settings
from resilience.backend import Waiter, lateness
from resilience.call import Call, forget_running, gave_up, out_of_time
from resilience.decide.credentials import Crash, Credential, Decision, Flight, Held, Join, Lead, Refuse, Use
from resilience.env import Env
from resilience.errors import RefreshFailed, Rejected
from resilience.events import TokenJoined, TokenRefreshed, TokenRefreshFailed
from resilience.outcome import Action, Blame, Failure, Phase, Signal, Verdict
from resilience.policy import FastPath, Handler
from resilience.reading.shape import read

__all__ = ["RefreshToken", "Token"]

T = TypeVar("T")

_FAILED = Verdict(Action.FAIL_FAST, rule="resilience: token refresh failed", blames=Blame.CREDENTIAL)
_GRACE = 1.0  # seconds beyond its timeout that a refresh has to say how it ended, before another may start
_OF_THIS_CALL = frozenset({"unrepeatable", "unsafe"})  # reasons not to repeat that say nothing about the token
_SWITCHES = 3  # times a call takes over tokens that others renewed, before it calls it a day

# Credentials whose refresh is running in this context: what the source itself calls never passes through their policy.
_renewing: ContextVar[tuple[object, ...]] = ContextVar("resilience.renewing", default=())


# No message here quotes what it got: it is a secret, or was meant to be one.


def _sendable(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    where = f"{type(instance).__name__}.{attribute.name}"
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}: expected a non-empty str, got {type(value).__name__}")
    if not (value.isascii() and value.isprintable()) or value != value.strip():
        # A header cannot carry it, and clients that refuse to send it show it in their error: a line break from a file's end is enough.
        raise ValueError(f"{where}: expected printable ASCII without spaces around it, got other characters")


@attrs.frozen(eq=False, repr=False)
class Token(settings.Value):
    """
    A token and how long it lives.

    Args:
        value: The token, as it goes into the header: printable ASCII without spaces around it; never logged.
        expires_in: Seconds it is good for from now on; > 0, None if unknown.
    """

    value: str = attrs.field(repr=False, validator=_sendable)
    expires_in: float | None = attrs.field(default=None, validator=attrs.validators.optional(settings.positive_or_forever))


Source = Callable[[str | None], "Awaitable[str | Token] | str | Token"]


def _callable(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if not callable(value):
        raise settings.fail(instance, attribute, type(value), "an async function from the stale token (or None) to a new one")


def _token(value: str | Token | None) -> Token | None:
    return Token(value) if isinstance(value, str) else value


def _token_or_none(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None and not isinstance(value, Token):
        msg = f"{type(instance).__name__}.{attribute.name}: expected a str, a Token or None, got {type(value).__name__}"
        raise ValueError(msg)


def _origins(value: Iterable[str] | str | None) -> frozenset[str] | None:
    if value is None:
        return None
    return frozenset({value} if isinstance(value, str) else value)


def _no_path(instance: object, attribute: attrs.Attribute[Any], value: frozenset[str] | None) -> None:
    for origin in value or ():
        scheme, _, host = origin.partition("://")
        if not scheme or not host or set("/?#@") & set(host):
            raise settings.fail(instance, attribute, origin, "origins such as 'https://api.example.com'")


@attrs.frozen(eq=False, repr=False)
class RefreshToken(settings.Shown):
    """
    Renew the token when the peer says it has expired, once for all calls that use it, and repeat.

    The source is called with the stale token (None for the first) and returns the new one.  It runs detached from every caller, at most
    once at a time in the whole process, and never through this policy.  A refresh costs no attempt; a call has one, then the 401 is final.

    Args:
        source: Async function from the stale token, or None, to a str or a `Token`.
        token: The token to begin with; None asks the source first.
        early: Seconds ahead of a known expiry at which to renew, in the background; at most half the token's life.
        timeout: Seconds a refresh may take; after that a waiter may start another.
        cooldown: Seconds of rest after a refresh that failed, or one whose token never worked.
        per_minute: The most refreshes that begin in a minute, whatever expires; raise it for tokens that live for less than half a minute.
        origins: The origins the token is for; None means that of the client's base URL, if it has one, else of a call's first request.

    Raises:
        ValueError: A setting out of its range.
    """

    repeats: ClassVar[bool] = True

    source: Source = attrs.field(validator=_callable, repr=False)
    token: Token | None = attrs.field(default=None, kw_only=True, converter=_token, validator=_token_or_none, repr=False)
    early: float = attrs.field(default=60.0, kw_only=True, validator=settings.seconds)
    timeout: float = attrs.field(default=30.0, kw_only=True, validator=settings.positive)
    cooldown: float = attrs.field(default=15.0, kw_only=True, validator=settings.seconds)
    per_minute: int = attrs.field(default=4, kw_only=True, validator=settings.count)
    origins: frozenset[str] | None = attrs.field(default=None, kw_only=True, converter=_origins, validator=_no_path)
    _credential: Credential = attrs.field(init=False, repr=False)
    _lock: threading.Lock = attrs.field(init=False, repr=False, factory=threading.Lock)
    _given: list[Token] = attrs.field(init=False, repr=False, factory=list[Token])

    def __attrs_post_init__(self) -> None:
        credential = Credential(self.timeout + lateness(self.timeout) + _GRACE, self.early, self.cooldown, self.per_minute)
        if self.token is not None:
            credential.held = held = Held(self.token.value, 0, owner=credential)
            if self.token.expires_in is not None:
                # Its life counts from the first call, the first moment with a clock; until then it is always time to look.
                held.renew_at = -math.inf
                self._given.append(self.token)
        object.__setattr__(self, "_credential", credential)

    def bind(self, inner: Handler[Any], env: Env) -> Handler[Any]:
        """Give each attempt of *inner* its token."""
        credential, origins = self._credential, self.origins

        async def refreshing(call: Call[T]) -> T | Failure:
            held = credential.held
            if held is None or credential.flight is not None or call.started >= held.renew_at:
                ready = await self._ready(call, env)
                if type(ready) is Failure:
                    return ready
                if ready is None:
                    return await inner(call)
                held = ready
            call.credential = held
            if origins is not None:
                call.origins = origins
            return await self._settled(call, await inner(call), held, inner, env)

        return refreshing

    def bind_fast(self, path: FastPath, inner: Handler[Any], env: Env) -> FastPath | None:
        """Give the first attempt its token, if that is known to be good."""
        if path.deadline < math.inf:
            return None  # written inside, it does not bound the wait for a login: the call must not have it from its beginning
        credential, origins, further_in, mend = self._credential, self.origins, path.admits, path.failed

        def admits(call: Call[Any]) -> bool:
            held = credential.held
            if held is None or not held.worked or credential.flight is not None or call.started >= held.renew_at:
                return False
            call.credential = held
            if origins is not None:
                call.origins = origins
            return further_in is None or further_in(call)

        async def failed(call: Call[Any], failure: Failure) -> Any:
            held = call.credential
            assert held is not None  # noqa: S101 - it was admitted with one
            outcome = failure if mend is None else await mend(call, failure)
            return await self._settled(call, outcome, held, inner, env)

        return path.but(admits=admits, failed=failed)

    async def _settled(self, call: Call[T], outcome: T | Failure, held: Held, inner: Handler[T], env: Env) -> T | Failure:
        """What becomes of the *outcome* of an attempt that went with *held*."""
        if type(outcome) is not Failure:
            held.worked = True
            return outcome
        if outcome.verdict.action is not Action.REFRESH_TOKEN:
            held.worked = held.worked or _accepted(outcome)
            return outcome
        return await self._repair(call, outcome, held, inner, env)

    async def _ready(self, call: Call[Any], env: Env) -> Held | Failure | None:
        """The token to begin with; None inside our own refresh, which goes without."""
        if self._credential in _renewing.get():
            return None
        if self._given:
            self._date_given(env.now())
        return await self._newer_than(None, call, env)

    def _date_given(self, now: float) -> None:
        with self._lock:
            if self._given:
                token, held = self._given.pop(), self._credential.held
                if held is not None and held.generation == 0 and token.expires_in is not None:
                    held.expires_at = now + token.expires_in
                    held.renew_at = held.expires_at - min(self.early, token.expires_in / 2)

    async def _repair(self, call: Call[T], failure: Failure, held: Held, inner: Handler[T], env: Env) -> T | Failure:
        if call.withheld or self._credential in _renewing.get():
            return failure  # it went without the token, which it says nothing about
        for _ in range(_SWITCHES):
            reason = _barred(call, failure)
            if reason is not None:
                if reason in _OF_THIS_CALL:
                    # The others need the token all the same: a client that only uploads streams would meet this 401 for ever.
                    await self._newer_than(held, call, env, failure)
                return gave_up(call, failure, reason)
            newer = await self._newer_than(held, call, env, failure)
            if type(newer) is Failure:
                return newer
            repeating.remember(call, failure)
            call.credential = held = newer
            call.renewals += 1
            tried = call.attempt
            outcome = await inner(call)
            if type(outcome) is not Failure or outcome.verdict.action is not Action.REFRESH_TOKEN:
                if call.attempt == tried and type(outcome) is Failure and isinstance(outcome.error, Rejected):
                    # Refused by a policy of ours further in: no attempt, and no reason to hide what led there.
                    return gave_up(call, failure, "rejected")
                held.worked = held.worked or _accepted(outcome)
                return outcome
            failure = outcome
        return failure

    async def _newer_than(self, stale: Held | None, call: Call[Any], env: Env, failure: Failure | None = None) -> Held | Failure:
        """A usable token; where none can be had, *failure* as it came, or a failure of our own."""
        generation = None if stale is None else stale.generation
        paid = failure is None
        while True:
            decision, waiter = self._ask(env, generation, may_fly=paid or not _spent(call, self._credential))
            if decision is None or (isinstance(decision, Refuse) and decision.crash is None and failure is not None):
                assert failure is not None  # noqa: S101 - who has no failure may always fly
                return failure
            ours = decision.flight if isinstance(decision, Lead) else decision.renew if isinstance(decision, Use) else None
            if ours is not None:
                # Before anything is awaited: a flight that its leader, cancelled meanwhile, never started would keep all others waiting.
                self._launch(ours, call, env)
            if failure is not None and not paid:
                barred = await call.let_go(failure) if call.holds(failure) else None
                if barred is not None:
                    return gave_up(call, failure, barred)
            if isinstance(decision, Refuse):
                return _refused(call, decision.crash or Crash("cooling_down"), decision.retry_after, fresh=False)
            if isinstance(decision, Use):
                return decision.held
            if failure is not None and not paid:
                paid = True
                _spend(call, self._credential)
            if isinstance(decision, Join):
                call.say(TokenJoined, generation=decision.flight.generation)
            stranded = await self._ride(decision.flight, waiter, call, env)
            if stranded is not None:
                return stranded

    def _ask(self, env: Env, stale: int | None, *, may_fly: bool) -> tuple[Decision | None, Waiter]:
        """What to do, and a place in the flight if there is one to wait for; None if only a refresh would help and the call has had its."""
        credential, waiter = self._credential, env.waiter()
        with self._lock:
            if not may_fly:
                held = credential.usable(env.now(), stale)
                return (None if held is None else Use(held)), waiter
            decision = credential.ask(env.now(), stale)
            if isinstance(decision, Join | Lead):
                # Under the lock, so that the flight cannot end between the question and the waiting.
                decision.flight.waiters.append(waiter)
            return decision, waiter

    async def _ride(self, flight: Flight, waiter: Waiter, call: Call[Any], env: Env) -> Failure | None:
        """Wait for *flight*, no longer than its lease and the call's own time; a failure if it did not get there."""
        try:
            with env.cutoff(max(0.0, min(call.remaining, flight.until - env.now()))):
                await waiter.wait()
        finally:
            with self._lock:
                if waiter in flight.waiters:
                    flight.waiters.remove(waiter)
        if flight.crash is not None:
            return _refused(call, flight.crash, flight.crash.retry_after, fresh=True)
        if not flight.done and call.remaining <= 0:
            return out_of_time(call, "waiting")
        return None

    def _launch(self, flight: Flight, call: Call[Any], env: Env) -> None:
        call.operation  # noqa: B018 - named now: the call may be over, and its function dropped, when the flight lands

        held = [flight]  # its crash holds an error, whose traceback holds the frame below, which is to hold nothing by then

        async def fly() -> None:
            forget_running()
            _renewing.set((*_renewing.get(), self._credential))
            await self._fly(held.pop(), call, env)

        env.detach(fly)

    async def _fly(self, flight: Flight, call: Call[Any], env: Env) -> None:
        token = None
        try:
            with env.cutoff(self.timeout):
                brought = self.source(None if flight.replaces is None else flight.replaces.value)
                token = _checked(await brought if inspect.isawaitable(brought) else brought)
            if token is None:
                self._crash(flight, Crash("timeout"), call, env)
                return
        except Exception as error:  # noqa: BLE001 - whatever the source raises reaches every waiter
            self._crash(flight, _crash_of(error, env.wall()), call, env)
        except BaseException:
            # The loop is ending: the server may have rotated the token all the same, so this counts as failed, not as free.
            self._crash(flight, Crash("cut_short"), call, env)
            raise
        else:
            with self._lock:
                held = self._credential.land(flight, token.value, token.expires_in, env.now())
            if held is not None:
                call.say(TokenRefreshed, generation=held.generation)
            self._wake(flight)
        finally:
            del flight  # it holds the error, whose traceback holds this frame: no cycle

    def _crash(self, flight: Flight, crash: Crash, call: Call[Any], env: Env) -> None:
        with self._lock:
            crash = self._credential.crashed(flight, crash, env.now())
        call.say(
            TokenRefreshFailed,
            reason=crash.reason,
            error=None if crash.error is None else type(crash.error).__name__,
            status=crash.status,
            code=crash.code,
            retry_after=crash.retry_after,
        )
        self._wake(flight)

    def _wake(self, flight: Flight) -> None:
        with self._lock:
            waiters, flight.waiters = flight.waiters, []
        for waiter in waiters:
            waiter.wake()


def _checked(brought: object) -> Token:
    if isinstance(brought, str):
        return Token(brought)
    if isinstance(brought, Token):
        return brought
    msg = f"the token source returned {type(brought).__name__}; expected a str or a Token"
    raise TypeError(msg)


def _crash_of(error: Exception, wall: float) -> Crash:
    signal = read(error, wall=wall)
    said = (type(error).__name__, signal.status, None if signal.code == type(error).__name__ else signal.code)
    detail = " ".join(str(part) for part in said if part is not None)
    return Crash("failed", detail, signal.status, signal.code, signal.retry_after or 0.0, error)


def _refused(call: Call[Any], crash: Crash, retry_after: float, *, fresh: bool) -> Failure:
    error = RefreshFailed(
        operation=call.operation,
        reason=crash.reason if fresh else "cooling_down",
        detail=crash.detail,
        retry_after=retry_after,
        status=crash.status,
        code=crash.code,
    )
    error.__cause__ = crash.error
    signal = Signal(crash.status, crash.code, retry_after=retry_after, phase=Phase.NOT_SENT, raised=RefreshFailed)
    return Failure(_FAILED, signal, error)


def _accepted(outcome: object) -> bool:
    """Whether the peer has taken the token: by a success, or by refusing the request for another reason."""
    if type(outcome) is not Failure:
        return True
    return outcome.signal.status is not None and outcome.verdict.blames is Blame.CALLER


def _barred(call: Call[Any], failure: Failure) -> str | None:
    """Why *call* must not be repeated with a newer token; None if it may."""
    reason = repeating.bar(call, failure)
    if reason is None and repeating.phase_of(call, failure) is Phase.UNKNOWN and not repeating.repeatable(call, failure):
        # A 401 that a redirect led to says nothing about the request before it.
        return "unsafe"
    return reason


def _account(call: Call[Any], credential: Credential) -> Call[Any]:
    """The outermost running call with this credential: nested engines share its one refresh."""
    account, outer = call, call.parent
    while outer is not None:
        if not outer.ended and outer.credential is not None and outer.credential.owner is credential:
            account = outer
        outer = outer.parent
    return account


def _spent(call: Call[Any], credential: Credential) -> bool:
    return id(credential) in _account(call, credential).refreshed


def _spend(call: Call[Any], credential: Credential) -> None:
    account = _account(call, credential)
    account.refreshed |= {id(credential)}
