"""The engine: folds policies into one handler, once, and runs calls through it."""

from __future__ import annotations

import functools
import warnings
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeAlias, TypeVar, cast, overload

import attrs

from resilience import attempt, review
from resilience.call import Plan
from resilience.callables import coroutine_function, operation_name, refuse_sync, yields
from resilience.classify import Rules
from resilience.dialects import http
from resilience.env import Env
from resilience.policies.idempotency import IdempotencyKey
from resilience.policies.retry import Retry
from resilience.policy import FastPath, Handler, Policy
from resilience.runner import runner

if TYPE_CHECKING:
    from resilience.flow import Progress
    from resilience.stream import Stream, Streaming

__all__ = ["Engine"]

P = ParamSpec("P")
T = TypeVar("T")

Streamable: TypeAlias = (
    AsyncIterable[T]
    | Awaitable[AsyncIterable[T] | AbstractAsyncContextManager[AsyncIterable[T]]]
    | AbstractAsyncContextManager[AsyncIterable[T]]
)
"""What yields items, or leads to what does."""


class Engine:
    """
    Runs async callables through policies, outermost first, exactly as written.

    An engine is built once, at module level if you like, and used from any task, loop or thread.

    Args:
        policies: The policies; the first is the outermost.
        rules: The dialect that outcomes are judged by.
        name: The engine's name in events; the dialect's by default.
        env: Time, chance and the log; the real ones by default.

    Raises:
        TypeError: What is no policy, no `Rules`, no `Env`.
        ValueError: An order that cannot work; the message says why.

    Warns:
        UserWarning: An order that works, but hardly as meant.

    Example:
        >>> engine = Engine([Deadline(30), Retry(attempts=4), CircuitBreaker(), AttemptTimeout(10)])
        >>> bots = await engine.call(client.get, "/api/v1/bots")
    """

    __slots__ = ("_handler", "_path", "_plan", "_repeats", "_run", "_streaming", "env", "policies", "rules")

    def __init__(
        self, policies: Sequence[Policy] = (), *, rules: Rules = http.RULES, name: str | None = None, env: Env | None = None
    ) -> None:
        self.policies: tuple[Policy, ...] = _checked_policies(policies)
        self.rules = _checked("rules", rules, Rules)
        self.env: Env = _checked("env", Env() if env is None else env, Env)
        if name is not None and (not isinstance(name, str) or not name):
            msg = f"Engine.name: expected a non-empty str, got {name!r}"
            raise ValueError(msg)
        retry = next((policy for policy in self.policies if isinstance(policy, Retry)), None)
        self._plan = Plan(engine=name or rules.name, env=self.env, rules=rules, attempts=None if retry is None else retry.attempts)
        handler: Handler[Any] = attempt.bind(rules, self.env)
        path: FastPath | None = FastPath()
        for policy in reversed(self.policies):
            path = None if path is None or not _has_fast_path(policy) else cast("Any", policy).bind_fast(path, handler, self.env)
            handler = policy.bind(handler, self.env)
        self._handler = handler
        self._path = path
        self._repeats = any(getattr(policy, "repeats", False) for policy in self.policies)
        self._plan = self._fixed(self._plan)
        self._run = self._runner()
        self._streaming: Streaming | None = None

    @property
    def name(self) -> str:
        """The engine's name in events."""
        return self._plan.engine

    def __repr__(self) -> str:
        return f"<Engine {self.name}: {' > '.join(type(policy).__name__ for policy in self.policies) or 'no policies'}>"

    def call(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """
        Run ``await fn(*args, **kwargs)`` through the policies.

        Args:
            fn: Any async callable: function, method, partial, callable object, lambda that returns a coroutine.
            *args: Handed to *fn*, in every attempt.
            **kwargs: Likewise.

        Returns:
            What *fn* returned; a response that reports a failure comes back as it came when no further attempt is made.

        Raises:
            Exception: What *fn* raised last, the same object; see `history` for the attempts behind it.
            ResilienceError: On our own behalf: an open circuit, an exceeded deadline, a failed refresh.
            TypeError: *fn* is a sync function or a coroutine object.
        """
        return self._run(fn, args, kwargs)

    def stream(self, fn: Callable[P, Streamable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        """
        The items of ``fn(*args, **kwargs)``, through the policies.

        Args:
            fn: An async generator function, or a function that gives an async iterable, or an async context manager around one, at once or
                when awaited: ``sdk.chat.completions.create``, ``sdk.messages.stream``.
            *args: Handed to *fn*, in every attempt.
            **kwargs: Likewise.

        Returns:
            A `Stream`.  Nothing is called before its first item is asked for.

        Example:
            >>> async with engine.stream(sdk.chat.completions.create, model="m", messages=[], stream=True) as chunks:
            ...     async for chunk in chunks:
            ...         print(chunk)
        """
        from resilience.stream import Stream  # noqa: PLC0415 - most programs have none: 1.5 ms of the import

        return Stream(self._streams(), fn, args, kwargs)

    @overload
    def __call__(self, fn: Callable[P, AsyncIterator[T]], /) -> Callable[P, Stream[T]]: ...

    @overload
    def __call__(self, fn: Callable[P, Awaitable[T]], /) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __call__(self, fn: Callable[P, Any], /) -> Callable[P, Any]:
        """
        Decorate *fn*: each call of it runs through the policies.  Name, signature and types survive.

        An async generator function becomes a function that returns a `Stream`.

        Raises:
            TypeError: *fn* is no async callable, as far as can be seen without calling it.
        """
        held: Any = fn
        if type(held) in {classmethod, staticmethod}:  # written above @classmethod instead of below it
            return cast("Callable[P, Any]", type(held)(self(held.__func__)))
        wrapper: Any = self._wrapped_stream(fn) if yields(fn) else self._wrapped(fn)
        functools.update_wrapper(wrapper, fn)
        if not hasattr(fn, "__qualname__"):  # a partial or a callable object
            wrapper.__qualname__ = operation_name(fn)
            wrapper.__name__ = wrapper.__qualname__.rpartition(".")[2]
        return cast("Callable[P, Any]", wrapper)

    def _wrapped(self, fn: Callable[..., Awaitable[T]]) -> Callable[..., Coroutine[Any, Any, T]]:
        refuse_sync(fn)
        run: Any = self._runner()
        # Coroutines have the name of the function that made them: in warnings, in tasks and in their stacks it is to be the user's.
        run.__qualname__ = operation_name(fn)
        run.__name__ = run.__qualname__.rpartition(".")[2]

        @coroutine_function
        def wrapper(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, T]:
            return run(fn, args, kwargs)  # type: ignore[no-any-return]  # the coroutine of fn's value

        return wrapper

    def _wrapped_stream(self, fn: Callable[..., Any]) -> Callable[..., Stream[Any]]:
        from resilience.stream import Stream  # noqa: PLC0415 - as above

        streaming = self._streams()

        def wrapper(*args: Any, **kwargs: Any) -> Stream[Any]:
            return Stream(streaming, fn, args, kwargs)

        return wrapper

    def using(
        self,
        *,
        deadline: float | None = None,
        attempts: int | None = None,
        key: str | None = None,
        key_from: Sequence[object] | None = None,
        method: str | None = None,
        repeatable: bool | None = None,
        operation: str | None = None,
        resume: Callable[[Progress], Any] | Literal["restart"] | None = None,
        keep_items: bool | None = None,
    ) -> Engine:
        """
        A view of this engine with settings for some of its calls.  It calls and decorates like the engine, and shares all its state.

        Settings only tighten: of two deadlines or two numbers of attempts the smaller holds.  Views merge, the later wins.

        Args:
            deadline: Seconds a call may take; > 0.  Holds without a `Deadline` policy too.
            attempts: Tries in all; >= 1.  Needs a `Retry`.
            key: The idempotency key to send, for one call.  Needs an `IdempotencyKey`.
            key_from: Business data to derive the key from, the same in every process.  Likewise.
            method: The operation's HTTP method, or the one that means the same, to tell whether it may be repeated.
            repeatable: Your word on that, above all else.
            operation: The operation's name, in events and in keys derived from data.
            resume: How a stream is to go on that breaks after its first item: ``"restart"`` from the beginning, so that items come twice,
                or a function from its `Progress` to what yields the rest, such as a request with ``Last-Event-ID``.  Needs a `Retry`,
                whose attempts are those of the whole stream.
            keep_items: Whether that function is to be given all items so far, which are kept for it.

        Raises:
            ValueError: A setting out of its range, or without the policy that it is for.
        """
        from resilience.using import Using  # noqa: PLC0415 - most programs have no views: 0.6 ms of the import

        wanted = Using(
            deadline=deadline,
            attempts=attempts,
            key=key,
            key_from=key_from,
            method=method,
            repeatable=repeatable,
            operation=operation,
            resume=self._plan.resume if resume is None and keep_items else resume,
            keep_items=keep_items,
        )
        changes = {name: value for name, value in attrs.asdict(wanted, recurse=False).items() if value is not None}
        if attempts is not None:
            changes["attempts"] = min(attempts, self._own("attempts", Retry).attempts)
        if resume is not None:
            self._own("resume", Retry)
        if key is not None:
            self._own("key", IdempotencyKey)
            changes |= {"key_from": None, "uses": 0}
        if key_from is not None:
            self._own("key_from", IdempotencyKey)
            changes["key"] = None
        return self.view(**changes)

    def view(self, **changes: Any) -> Engine:
        """A view with other fields of `Plan`, unchecked: the seam for adapters."""
        view = object.__new__(type(self))
        for slot in Engine.__slots__:
            setattr(view, slot, getattr(self, slot))
        view._plan = view._fixed(self._plan.but(**changes))
        view._run = view._runner()
        view._streaming = None
        return view

    def describe(self) -> str:
        """The order, the settings and what looks wrong with them, for people."""
        plan = self._plan
        lines = [f"engine {plan.engine} by rules {plan.rules!r}"]
        for depth, policy in enumerate(self.policies):
            lines.append(f"{'  ' * depth}{'└ ' if depth else ''}{policy!r}")
        lines.append(f"{'  ' * len(self.policies)}{'└ ' if self.policies else ''}your coroutine")
        viewed = {name: getattr(plan, name) for name in ("deadline", "attempts", "operation", "method", "repeatable")}
        if any(isinstance(policy, Retry) and policy.attempts == plan.attempts for policy in self.policies):
            del viewed["attempts"]  # nobody's view, but the policy's own
        said = ", ".join(f"{name}={value!r}" for name, value in viewed.items() if value is not None)
        if said:
            lines.append(f"for this view: {said}")
        lines.extend(f"doubtful: {doubt}" for doubt in review.doubts(self.policies))
        return "\n".join(lines)

    def _fixed(self, plan: Plan) -> Plan:
        """*plan* with what its calls have from their beginning: of their view, and of policies that need no handler for it."""
        path = self._path or FastPath()
        plan.seconds = path.deadline if plan.deadline is None else min(plan.deadline, path.deadline)
        plan.cutoff = path.cutoff
        plan.keys = path.keys
        return plan

    def _own(self, setting: str, kind: type[T]) -> T:
        for policy in self.policies:
            if isinstance(policy, kind):
                return policy
        msg = f"using: {setting} needs {kind.__name__} among the engine's policies, and there is none"
        raise ValueError(msg)

    def _streams(self) -> Streaming:
        """What each stream of this view begins with; bound when first asked for, since most engines never are."""
        if self._streaming is None:
            from resilience.stream import Streaming  # noqa: PLC0415 - as above

            handler = attempt.bind_stream(self.rules, self.env)
            for policy in reversed(self.policies):
                handler = getattr(policy, "bind_stream", policy.bind)(handler, self.env)
            self._streaming = Streaming(self._plan, handler)
        return self._streaming

    def _runner(self) -> Callable[[Callable[..., Awaitable[T]], tuple[Any, ...], dict[str, Any]], Coroutine[Any, Any, T]]:
        return runner(self._plan, self._handler, self._path, repeats=self._repeats)


def _has_fast_path(policy: Policy) -> bool:
    """Whether *policy* has a fast path that belongs to its `bind`: a subclass that has its own `bind` alone means that one to be used."""
    for kind in type(policy).__mro__:
        if "bind_fast" in vars(kind):
            return True
        if "bind" in vars(kind):
            return False
    return False


def _checked_policies(policies: Sequence[Policy]) -> tuple[Policy, ...]:
    if isinstance(policies, str | bytes) or not isinstance(policies, Sequence):
        msg = f"Engine.policies: expected a sequence of policies, got {policies!r}"
        raise TypeError(msg)
    for index, policy in enumerate(policies):
        if isinstance(policy, type) or not isinstance(policy, Policy):
            hint = f"; write {policy.__name__}(...)" if isinstance(policy, type) else ""
            msg = f"Engine.policies[{index}]: expected a policy, got {policy!r}{hint}"
            raise TypeError(msg)
    wrong = review.refusals(policies)
    if wrong:
        raise ValueError("Engine.policies: " + "; ".join(wrong))
    for doubt in review.doubts(policies):
        warnings.warn(doubt, UserWarning, stacklevel=3)
    return tuple(policies)


def _checked(field: str, value: T, kind: type[T]) -> T:
    if not isinstance(value, kind):
        msg = f"Engine.{field}: expected {kind.__name__}, got {value!r}"
        raise TypeError(msg)
    return value
