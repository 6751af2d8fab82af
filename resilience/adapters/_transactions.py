"""
Transactions as calls of an engine: what the adapters for PostgreSQL's clients share.

    Transactions.call ─▶ Engine ─▶ attempt ─▶ a connection ─▶ BEGIN ─▶ your function ─▶ COMMIT

PostgreSQL asks for the whole transaction to be repeated after a serialization failure, "including all logic that decides which SQL to issue
and which values to use" (the manual, 13.5): so an attempt is all of it, on a connection of its own.

Until COMMIT is sent, nothing has been done.  However the attempt ends before that, by an error of the server or of the function, by a
broken connection or by being cut, the server forgets what the transaction did, and it may be repeated, whatever the statements were.  The
same holds where COMMIT itself is answered with an error.  Only if its answer is lost does nobody know; such an attempt is not repeated,
unless the transaction only reads, its idempotency key was taken (``current().take_key()``, which the function is to keep in a table, where
a second run finds it), or the user says that it may be.

What the function does elsewhere is not rolled back.  A call of another engine in it tells by itself whether a repeat would do it again; all
else is for the user to know (``engine.using(repeatable=False)``).
"""

from __future__ import annotations

import abc
import contextlib
import functools
import inspect
import os
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, Concatenate, Final, Generic, Literal, ParamSpec, Protocol, TypeVar, cast, get_args

import anyio
import attrs

from resilience.adapters._engines import checked_engine
from resilience.adapters._twins import Twins, translating
from resilience.call import Call, current
from resilience.callables import operation_name, refuse_sync
from resilience.engine import Engine
from resilience.outcome import Phase
from resilience.reading.shape import read

__all__ = ["Isolation", "Mode", "Session", "Transactions", "address"]

C = TypeVar("C")
P = ParamSpec("P")
T = TypeVar("T")

Isolation = Literal["read_uncommitted", "read_committed", "repeatable_read", "serializable"]

_ROLL_BACK_SECONDS: Final = 1.0  # then the connection is dropped, and the server rolls back by itself
_GIVE_BACK_SECONDS: Final = 1.0


@attrs.frozen
class Mode:
    """How transactions are begun; None and False leave it to the connection."""

    isolation: Isolation | None
    readonly: bool
    deferrable: bool


class Session(Protocol):
    """One connection, for one attempt, as a client library has it."""

    connection: Any

    async def begin(self) -> None:
        """Begin the transaction."""

    def ended(self) -> bool:
        """Whether the function has ended the transaction by itself, as far as can be seen."""
        ...

    async def check(self) -> None:
        """
        Raise what COMMIT would not say: that a statement has failed, so that all would be rolled back instead.

        Raises:
            Exception: The client's error for SQLSTATE 25P02.
        """

    async def commit(self) -> None:
        """Commit."""

    async def roll_back(self) -> None:
        """Roll back; raises where that cannot be done."""

    async def drop(self, *, cut: bool) -> None:
        """Break the connection.  If it was *cut*, the server may not know yet, and goes on with a statement."""

    async def give_back(self) -> None:
        """Put the connection, or what is left of it, back where it is from."""


class Transactions(abc.ABC, Generic[C]):
    """What both adapters' classes of this name are; each says for itself how it is used."""

    _twins: ClassVar[Twins]

    def __init__(
        self,
        engine: Engine,
        source: Any,
        *,
        isolation: Isolation | None = None,
        readonly: bool = False,
        deferrable: bool = False,
        peer: str | None = None,
    ) -> None:
        checked_engine(engine, "Transactions")
        self._check_source(source)
        if isolation is not None and isolation not in get_args(Isolation):
            expected = ", ".join(map(repr, get_args(Isolation)))
            raise ValueError(f"Transactions: isolation: expected one of {expected}, or None, got {isolation!r}")
        for name, flag in (("readonly", readonly), ("deferrable", deferrable)):
            if not isinstance(flag, bool):
                raise ValueError(f"Transactions: {name}: expected True or False, got {flag!r}")  # noqa: TRY004 - as for all settings
        if deferrable and not (readonly and isolation in {None, "serializable"}):
            raise ValueError("Transactions: deferrable: has an effect on transactions only that are readonly and serializable")
        if peer is not None and (not isinstance(peer, str) or not peer):
            raise ValueError(f"Transactions: peer: expected a non-empty str, got {peer!r}")
        self._env = engine.env
        self._source = source
        self._mode = Mode(isolation, readonly, deferrable)
        self._peer = self._peer_of(source) if peer is None else peer
        # Not methods, by which the view would hold us and we the view: there may be one of us for each call.
        prepare = functools.partial(_prepare, self._peer, readonly)
        self._engine = engine.view(prepare=prepare, translate=translating(self._twins))

    def call(self, fn: Callable[Concatenate[C, P], Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]:
        """
        Run ``await fn(connection, *args, **kwargs)`` in a transaction, through the engine's policies.

        Args:
            fn: Takes a connection on which the transaction has begun, and leaves its end to us.  In each attempt it is another.
            *args: Handed to *fn*, in every attempt.
            **kwargs: Likewise.

        Returns:
            What *fn* returned, once the transaction is committed.

        Raises:
            Exception: What *fn* or the client raised last, the same object; or one of ours, as a member of the client's family.
            TypeError: *fn* is no async callable.
        """
        refuse_sync(fn)
        return self._engine.call(self._attempt, fn, args, kwargs)

    def __call__(self, fn: Callable[Concatenate[C, P], Awaitable[T]], /) -> Callable[P, Coroutine[Any, Any, T]]:
        """
        Decorate *fn*: each call of it is a transaction.  Whoever calls it leaves the connection out.

        Raises:
            TypeError: *fn* is no async callable, as far as can be seen without calling it.
        """
        refuse_sync(fn)

        async def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
            return await self.call(fn, *args, **kwargs)

        functools.update_wrapper(wrapper, fn)
        with contextlib.suppress(TypeError, ValueError):
            signature = inspect.signature(fn)
            cast("Any", wrapper).__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
        return wrapper

    # What each client does in its own way.

    @abc.abstractmethod
    def _check_source(self, source: Any) -> None:
        """Raise `TypeError` for what is neither a pool nor a function that connects."""

    @abc.abstractmethod
    def _peer_of(self, source: Any) -> str | None:
        """Which server and database connections from *source* go to, where it tells."""

    @abc.abstractmethod
    async def _take(self, source: Any, mode: Mode) -> Session:
        """A connection from *source*, for one attempt."""

    # One attempt.

    async def _attempt(self, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> T:
        call = current()
        call.undone |= {call.attempt}
        session = await self._take(self._source, self._mode)
        try:
            result = await self._inside(call, session, fn, args, kwargs)
        except BaseException as error:
            await self._take_back(session, cut=not isinstance(error, Exception))
            raise
        # It is committed: whatever becomes of the connection, and whoever cancels, is no failure any more.
        await self._give_back(session)
        return result

    async def _inside(
        self, call: Call[Any], session: Session, fn: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> T:
        this = frozenset({call.attempt})
        await session.begin()
        try:
            result = await fn(session.connection, *args, **kwargs)
        except BaseException:
            if session.ended():
                call.undone -= this
            raise
        if session.ended():
            call.undone -= this
        # If we are to be cut, then better before COMMIT is sent than after.  And what the client tells its listeners has now arrived.
        await anyio.sleep(0)  # noqa: ASYNC115 - anyio.lowlevel would have to be loaded for it
        await session.check()
        before = call.undone
        call.undone -= this
        try:
            await session.commit()
        except Exception as error:
            if read(error).phase is not Phase.UNKNOWN:
                call.undone = before
            raise
        return result

    async def _take_back(self, session: Session, *, cut: bool) -> None:
        """Roll back, or break the connection, and give back what is left; whoever cancels."""
        whole = False
        try:
            with contextlib.suppress(Exception), self._env.cutoff(_ROLL_BACK_SECONDS, shield=True):
                await session.roll_back()
                whole = True
        finally:
            if not whole:
                with contextlib.suppress(Exception), self._env.cutoff(_ROLL_BACK_SECONDS, shield=True):
                    await session.drop(cut=cut)
            await self._give_back(session)

    async def _give_back(self, session: Session) -> None:
        with contextlib.suppress(Exception), self._env.cutoff(_GIVE_BACK_SECONDS, shield=True):
            await session.give_back()


def _prepare(peer: str | None, readonly: bool, call: Call[Any]) -> None:
    call.peer = peer
    call.label = operation_name(call.args[0])
    # To repeat one that has had effects has them twice; one that only reads has none.
    call.method = "GET" if readonly else "POST"


def address(host: object, port: object, database: object) -> str:
    """``host:port/database``, with what libpq takes from the environment where nothing is said; never a user or a password."""
    host = _listed(host) or os.environ.get("PGHOST") or "localhost"
    port = _listed(port) or os.environ.get("PGPORT") or "5432"
    return f"{host}:{port}/{database or os.environ.get('PGDATABASE') or ''}"


def _listed(value: object) -> str:
    """Several hosts, to be tried in turn, with a comma between."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, cast("list[object]", value)))
    return str(value or "")
