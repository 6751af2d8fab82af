"""
One logical call: what its attempts share, and nothing that outlives it.

Fields stand at class defaults until something needs them: a call in which nothing goes wrong costs little more than the object itself.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Awaitable, Callable, Hashable
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import anyio

from resilience import log
from resilience.callables import operation_name
from resilience.classify import Rules
from resilience.decide.breaker import Circuit, Closed
from resilience.decide.credentials import Held
from resilience.env import Env
from resilience.errors import DeadlineExceeded, ResilienceError
from resilience.events import DeadlineHit, EngineNested, Event, KeyTaken, RetryGaveUp, told
from resilience.outcome import Action, Blame, Failure, Phase, Signal, Verdict
from resilience.reading.kinds import stands_alone
from resilience.reading.shape import RequestFacts

if TYPE_CHECKING:
    from resilience.flow import Flow, Progress

__all__ = ["Call", "Keys", "Plan", "begin", "current", "running"]

T = TypeVar("T")

_NEVER = math.inf


class Plan:
    """
    What an engine, or a view of one, fixes for each of its calls.

    Args:
        engine: The engine's name.
        env: Where readings come from and decisions go.
        rules: The dialect.
        attempts: The most tries in all, as the engine's Retry and its views have it; None without a Retry.
        deadline: Seconds a call may take, from a view.
        operation: The operation's name, from a view; else the callable's own.
        method: The HTTP method, or one that means the same, from a view.
        repeatable: The user's word on whether the operation may be repeated.
        key: The caller's own idempotency key.
        key_from: Business data that an idempotency key is derived from.
        resume: How a stream goes on that broke after its first item: ``"restart"``, or a function from its progress; None: not at all.
        keep_items: Whether that function is to be given all items so far.
        uses: Calls that took the fixed *key*.
        nested: What the engine was found inside of, or around, and has said so.
        prepare: An adapter's way to put on each call what it knows of the request.
        translate: An adapter's way to put an error of ours into its client's family, just before it is raised.
        seconds: From the start of each call to its end, where policies and view fix that from the beginning; else infinite.
        cutoff: Seconds that an attempt may take, likewise.
        keys: What gives idempotency keys, likewise.
    """

    engine: str
    env: Env
    rules: Rules
    attempts: int | None
    nested: set[str]
    deadline: float | None = None
    operation: str | None = None
    method: str | None = None
    repeatable: bool | None = None
    key: str | None = None
    key_from: tuple[object, ...] | None = None
    resume: Callable[[Progress], Any] | str | None = None
    keep_items: bool = False
    uses: int = 0
    prepare: Callable[[Call[Any]], None] | None = None
    translate: Callable[[Call[Any], ResilienceError], ResilienceError] | None = None
    seconds: float = _NEVER
    cutoff: float = _NEVER
    keys: Keys | None = None

    def __init__(self, *, engine: str, env: Env, rules: Rules, attempts: int | None = None) -> None:
        self.engine = engine
        self.env = env
        self.rules = rules
        self.attempts = attempts
        self.nested = set()

    def but(self, **changes: Any) -> Plan:
        """The same with other settings, for a view."""
        if not changes.keys() <= Plan.__annotations__.keys():
            raise TypeError(f"Plan: expected some of {', '.join(Plan.__annotations__)}; got {', '.join(changes)}")
        plan = copy.copy(self)
        vars(plan).update(changes)
        return plan


class Keys(Protocol):
    """What a call asks of the policy that gives it its idempotency key."""

    @property
    def header(self) -> str:
        """The header the key goes into."""
        ...

    @property
    def methods(self) -> frozenset[str]:
        """The methods of requests that are to have one."""
        ...

    def mint(self, call: Call[Any], /) -> tuple[str, str]:
        """A key for *call*, and a word on where it is from."""
        ...


class Sealed:
    """
    What left an engine further in.

    Args:
        came: The error or the response itself.
        attempt: The number of the attempt that it left in.
        decision: Why nobody further out may repeat what led there; empty where that was not decided.
        tries: Rows of `history.Tried`.
    """

    __slots__ = ("attempt", "came", "decision", "tries")

    def __init__(self, came: object, attempt: int, decision: str, tries: tuple[tuple[object, ...], ...]) -> None:
        self.came = came
        self.attempt = attempt
        self.decision = decision
        self.tries = tries


class Call(Generic[T]):
    """
    The call that is running: `current` returns it inside a wrapped function.

    Attributes:
        attempt: The number of the latest attempt started, from 1; 0 before the first.
        started: When the call began, in the engine's monotonic seconds.
        ends: When its time is up, likewise; infinite without a deadline.
        peer: Whom the call talks to (an adapter puts the origin here); the default key of a `CircuitBreaker`.
        method: The HTTP method, where known.
        path: The request's path, where an adapter knows it; never logged.
        replayable: Whether what is sent can be sent again; an adapter clears it for a body that is used up.
    """

    # What most calls write has a slot.  All else stands at a class default, in a dict that is made only for a call that needs it: left to
    # itself CPython would stop sharing the dicts' keys with the first calls that go well, and make every later one pay for a dict.
    __slots__ = (
        "__dict__",
        "__weakref__",
        "args",
        "attempt",
        "cancels",
        "circuit",
        "credential",
        "cutoff",
        "ends",
        "era",
        "eventful",
        "fn",
        "key_taken",
        "kwargs",
        "minted",
        "parent",
        "peer",
        "plan",
        "started",
    )

    limit: float | None = None  # the deadline in seconds, for messages, where it is not the plan's
    given_keys: Keys | None = None  # the idempotency policy, where it is not the plan's
    tries: tuple[tuple[object, ...], ...] = ()  # rows of `history.Tried`
    sealed: tuple[Sealed, ...] = ()  # what left engines further in
    origins: frozenset[str] | None = None  # the token is for these only; None: for the first request's
    withheld: bool = False  # the latest request went to another origin, without the token
    method: str | None = None
    path: str | None = None
    label: str | None = None  # what an adapter calls the operation where the user gave no name
    replayable: bool = True
    previous: Failure | None = None  # the latest failed attempt
    caught: TracebackType | None = None  # the traceback of the latest exception that an attempt caught
    past: tuple[tuple[object, ...], ...] = ()  # what the history tells: *tries*, but engines further in tell theirs themselves
    capped: bool = False  # whether the last failure was the last that its rule allows
    seen: RequestFacts | None = None  # the request that an earlier attempt was about
    final: str | None = None  # why no engine further out may repeat this call
    unsafe_inside: bool = False  # an attempt did something inside that a repeat would do again
    undone: frozenset[int] = frozenset()  # attempts of which an adapter knows that nothing is left: what they did was rolled back
    closer: Callable[[Failure], Awaitable[None]] | None = None  # an adapter's own way to close what is thrown away, shielded for 1 s
    renewals: int = 0  # repeats after a refresh, which cost no attempt
    delays: dict[bool, tuple[int, float]] | None = None  # throttled or not: retries so far, and the latest delay
    repeats: int = 0  # by this call, and by calls inside it that share its allowance
    refreshed: frozenset[int] = frozenset()  # credentials renewed on this call's account, by id
    probing: tuple[object, ...] = ()  # the circuits that its attempt is a probe of
    others: int = 0  # tries that a client made on its own, inside this call or around it
    flow: Flow | None = None  # the account of a stream; None for any other call
    key_told: bool = False  # whether the log knows that the key was taken
    _id: str | None = None
    _operation: str | None = None
    _ordinals: dict[tuple[int, str], tuple[int, int]] | None = None  # the next one, and the task that took the last

    plan: Plan
    fn: Callable[..., Awaitable[T]] | None  # None once the call has ended
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    parent: Call[Any] | None
    started: float
    attempt: int
    eventful: bool  # whether more is to be done at its end than to forget it
    ends: float
    cutoff: float  # seconds one attempt may take
    cancels: int  # native cancellations already asked for when the call began
    peer: Hashable
    credential: Held | None  # the token this attempt goes with
    circuit: Circuit  # the circuit that admitted the first attempt without a handler ...
    era: Closed  # ... and its era then; neither is there otherwise
    key_taken: bool
    minted: tuple[str, str] | None  # the idempotency key and its source, once there is one

    def __repr__(self) -> str:
        return f"<Call {self.operation}: attempt {self.attempt}{', ended' if self.ended else ''}>"

    @property
    def ended(self) -> bool:
        """Whether the call is over."""
        return self.fn is None

    @property
    def bounded(self) -> bool:
        """Whether there is a limit to the time that an attempt may take."""
        return self.ends < _NEVER or self.cutoff < _NEVER

    @property
    def keys(self) -> Keys | None:
        """The idempotency policy, where there is one."""
        return self.given_keys or self.plan.keys

    @property
    def engine(self) -> str:
        """The engine's name."""
        return self.plan.engine

    @property
    def operation(self) -> str:
        """The operation's name: as the user gave it, else the adapter's, else the callable's."""
        if self._operation is None:
            self._operation = self.plan.operation or self.label or operation_name(self.fn)
        return self._operation

    @property
    def token(self) -> str | None:
        """The token for this attempt, where a `RefreshToken` policy holds one."""
        return None if self.credential is None else self.credential.value

    @property
    def id(self) -> str:
        """Eight hex digits, the same in every event of this call."""
        if self._id is None:
            self._id = self.plan.env.unique(4)
        return self._id

    @property
    def remaining(self) -> float:
        """Seconds to the call's deadline; infinite without one, never negative."""
        return self.ends if self.ends == math.inf else max(0.0, self.ends - self.plan.env.now())

    @property
    def idempotency_key(self) -> str | None:
        """The call's idempotency key once it was taken, else None.  Looking takes nothing."""
        return self.minted[0] if self.key_taken and self.minted is not None else None

    @property
    def key_header(self) -> str | None:
        """The header that keys go into, where an `IdempotencyKey` policy says so."""
        return None if self.keys is None else self.keys.header

    @property
    def key_methods(self) -> frozenset[str]:
        """The methods of requests that are to have a key; none without an `IdempotencyKey` policy."""
        return frozenset() if self.keys is None else self.keys.methods

    def take_key(self) -> str:
        """
        The call's idempotency key, the same for every attempt; whoever takes it must send it.

        From now on the call counts as keyed, so that it may be repeated even where nobody knows whether an attempt had effects.

        Raises:
            LookupError: The engine has no `IdempotencyKey` policy.
        """
        minted = self.minted
        if minted is None:
            keys = self.plan.keys
            minted = self.minted = self._mint() if keys is None else keys.mint(self)
        self.key_taken = True
        if self.started >= self.plan.env.quiet.until and not self.key_told:
            self.key_told = True
            self.say(KeyTaken, source=minted[1])
        return minted[0]

    def peek_key(self) -> str:
        """The key without taking it: for deriving the keys of calls further in."""
        return (self.minted or self._mint())[0]

    def _mint(self) -> tuple[str, str]:
        keys = self.plan.keys or self.given_keys
        if keys is None:
            msg = f"{self.operation}: engine {self.engine!r} has no IdempotencyKey policy to take a key from"
            raise LookupError(msg)
        self.minted = minted = keys.mint(self)
        return minted

    def adopt_key(self, key: str) -> None:
        """Count as keyed by *key*, which the caller has put on the request without us."""
        if key != self.idempotency_key:
            self.minted, self.key_taken = (key, "header"), True
            self.say(KeyTaken, source="header")

    def follow(self, earlier: Call[Any]) -> None:
        """
        Go on where *earlier* ended: the next hop of a redirect is the same call to everyone but the engine.

        It has the same id, key, clock and deadline, and what *earlier* left of repeats and refreshes.  The hop itself is no repeat.
        """
        self._id = earlier.id
        self.minted, self.key_told = earlier.minted, earlier.key_told
        self.key_taken = earlier.key_taken
        self.started = earlier.started
        self.end_by(earlier.ends, time_limit(earlier))
        self.attempt = earlier.attempt
        self.renewals = earlier.renewals + 1
        self.repeats = earlier.repeats
        self.refreshed = earlier.refreshed

    def next_ordinal(self, label: str) -> int:
        """
        How many calls called *label* began inside this attempt before; the same again in a repeat.

        Those that several tasks begin come in no certain order.  A repeat might then give one the key of another, so there is to be none.
        """
        if self._ordinals is None:
            self._ordinals = {}
        slot, task = (self.attempt, label), anyio.get_current_task().id
        ordinal, before = self._ordinals.get(slot, (0, task))
        if task != before:
            self.unsafe_inside = True
        self._ordinals[slot] = ordinal + 1, task
        return ordinal

    def end_by(self, ends: float, limit: float | None) -> None:
        """Let the call's time be up at *ends*, which is *limit* seconds from its start, unless it already is up before."""
        if ends < self.ends:
            if not self.bounded:
                self.cancels = self.plan.env.cancel_count()
            self.ends = ends
            self.limit = limit

    def cut_after(self, seconds: float) -> None:
        """Let no attempt take longer than so many seconds."""
        if not self.bounded:
            self.cancels = self.plan.env.cancel_count()
        self.cutoff = min(self.cutoff, seconds)

    def nest(self, *, outer: str, inner: str | None = None) -> None:
        """Say that one has retries of its own that the other does not know of, once a pair."""
        pair = outer if inner is None else inner
        if pair not in self.plan.nested:
            self.plan.nested.add(pair)
            self.say(EngineNested, outer=outer, inner=inner)

    async def discard(self, failure: Failure) -> None:
        """Let go of what *failure* holds, before any wait: close the response, in at most 1 s or what time is left, whoever cancels."""
        try:
            with self.plan.env.cutoff(min(1.0, self.remaining), shield=True):
                await (self.closer or _close)(failure)
        except Exception:  # noqa: BLE001, S110 - it is being thrown away; how it takes that is nobody's business
            pass

    def holds(self, failure: Failure) -> bool:
        """Whether there is anything in *failure* to let go of; not so with most errors."""
        return self.closer is not None or (not stands_alone(failure.error) and _closing(failure) is not None)

    async def let_go(self, failure: Failure) -> str | None:
        """Discard *failure*, and look again: why not to repeat after it all the same, None if nothing speaks against it."""
        await self.discard(failure)
        if self.plan.env.cancellation_pending(self.cancels):
            # Letting go has swallowed a native cancellation.  That of a scope arrives here.
            await anyio.sleep(0)  # noqa: ASYNC115 - anyio.lowlevel would have to be loaded for it
            return "cancelled"
        return None

    def say(self, kind: type[Event], failure: Failure | None = None, **facts: Any) -> None:
        """Emit an event of *kind* about this call, and about *failure* if one is given; at debug level only if anybody wants to hear it."""
        env, ends = self.plan.env, self.ends
        now = env.now()
        if kind.level == "debug" and not env.quiet.wanted(now):
            return
        # All goes into the one dict that the call of this has made already.
        facts["engine"] = self.plan.engine
        facts["operation"] = self._operation or self.operation
        facts["call"] = self._id or self.id
        facts["attempt"] = self.attempt
        facts["elapsed"] = now - self.started
        facts["seconds_left"] = None if ends == _NEVER else ends - now if ends > now else 0.0
        if failure is not None:
            verdict, signal = failure.verdict, failure.signal
            facts["action"] = verdict.action.word
            facts["rule"] = verdict.rule
            facts["status"] = signal.status
            facts["code"] = signal.code
            facts["error"] = type(failure.value if failure.error is None else failure.error).__name__
            facts["phase"] = signal.phase.word
        event = told(kind, facts)
        try:
            heard = env.emit(event)
            if heard is not None and inspect.isawaitable(heard):
                env.detach(functools.partial(_hear, heard, event))
        except Exception:  # noqa: BLE001 - whatever a listener, a processor or a handler raises: a broken log must not break the call
            log.complain(event)


def begin(plan: Plan, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any], started: float) -> Call[T]:
    """
    A call at its beginning.

    It is a function because up to CPython 3.12 an `__init__` is called from outside the interpreter's loop, for the price of a coroutine.
    """
    call: Call[T] = Call()
    call.plan = plan
    call.fn = fn
    call.args = args
    call.kwargs = kwargs
    call.parent = None
    call.started = started
    call.ends = started + plan.seconds
    call.cutoff = plan.cutoff
    call.attempt = call.cancels = 0
    call.peer = call.credential = call.minted = None
    call.key_taken = call.eventful = False
    return call


async def _hear(heard: Awaitable[object], event: Event) -> None:
    """Let an async listener hear of *event* in its own time."""
    try:
        await heard
    except Exception:  # noqa: BLE001 - as above
        log.complain(event)


_OUT_OF_TIME = Verdict(Action.FAIL_FAST, rule="resilience: out of time", blames=Blame.CALLER)


def gave_up(call: Call[Any], failure: Failure, reason: str) -> Failure:
    """Say that *call* is not repeated after *failure*, which is handed back as it came."""
    call.say(RetryGaveUp, failure, reason=reason, retry_after=failure.signal.retry_after)
    call.final = reason
    return failure


def out_of_time(call: Call[Any], where: str, cause: Exception | None = None) -> Failure:
    """
    The failure of a call whose time was up.

    Args:
        call: The call.
        where: ``"before"`` an attempt, during an ``"attempt"``, while ``"waiting"``, or while ``"streaming"`` what came of it.
        cause: What the operation made of being cut; else the previous failure's error is the cause.
    """
    previous = call.previous
    error = DeadlineExceeded(
        operation=call.operation,
        seconds=time_limit(call),
        attempts=call.attempt,
        status=None if previous is None else previous.signal.status,
        code=None if previous is None else previous.signal.code,
    )
    error.__cause__ = cause if cause is not None or previous is None else previous.error
    call.say(DeadlineHit, where=where)
    call.final = "deadline"
    phase = Phase.UNKNOWN if where in {"attempt", "streaming"} else Phase.NOT_SENT
    return Failure(_OUT_OF_TIME, Signal(phase=phase, raised=DeadlineExceeded), error)


def time_limit(call: Call[Any]) -> float | None:
    """The deadline in seconds."""
    seconds = call.plan.seconds
    return call.limit if call.limit is not None or seconds == _NEVER else seconds


async def _close(failure: Failure) -> None:
    close = _closing(failure)
    if callable(close):
        closing = close()
        if isinstance(closing, Awaitable):
            await closing


def _closing(failure: Failure) -> Any:
    """How to close what *failure* holds; None where that has no such thing."""
    held = failure.value if failure.error is None else getattr(failure.error, "response", None)
    return None if held is None else getattr(held, "aclose", None) or getattr(held, "close", None)


_running: ContextVar[Call[Any] | None] = ContextVar("resilience.call", default=None)
get_running = _running.get
set_running = _running.set  # never taken back: a call that has ended is passed over


def running() -> Call[Any] | None:
    """The running call, or None.  A call that has ended is over for the tasks it left behind, too."""
    call = get_running()
    while call is not None and call.ended:
        call = call.parent
    return call


def forget_running() -> None:
    """Begin anew in this context: work that no call waits for is nobody's attempt."""
    set_running(None)


def current() -> Call[Any]:
    """
    The running call.

    Raises:
        LookupError: No engine is running a call here.
    """
    call = get_running()
    while call is not None:
        if call.fn is not None:
            return call
        call = call.parent
    msg = "no engine is running a call here"
    raise LookupError(msg)
