"""
An engine around the transactions of psycopg 3, the async half of it.

    from resilience import Engine, Retry
    from resilience.adapters.psycopg import Transactions
    from resilience.dialects import postgresql

    engine = Engine([Retry(attempts=5)], rules=postgresql.RULES)
    transactions = Transactions(engine, pool, isolation="serializable")

    @transactions
    async def transfer(connection, source, target, amount): ...

    await transfer("ada", "bob", 10)

A single statement needs no adapter: a function that takes a connection and runs one, under an engine, is judged like any other call.  It is
repeated even if a connection broke while it ran and nobody knows whether it was done; where that would do harm, say so:
``engine.using(method="POST").call(insert, ...)`` is repeated only if the server did not do it.

Inside a transaction, call the connection itself, not through an engine: after an error the server takes no more statements, and what an
engine has given up, the transaction does not repeat.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, ClassVar, cast

import anyio
import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import PollingStatus, TransactionStatus

from resilience import errors
from resilience.adapters import _transactions
from resilience.adapters._transactions import Isolation, Mode, Session, address
from resilience.adapters._twins import Twins

__all__ = [
    "Isolation",
    "PsycopgAttemptTimedOut",
    "PsycopgCircuitOpen",
    "PsycopgDeadlineExceeded",
    "PsycopgRefreshFailed",
    "PsycopgRejected",
    "Transactions",
]


class PsycopgRejected(errors.Rejected, psycopg.OperationalError):
    """`resilience.Rejected`, as psycopg raises it."""


class PsycopgCircuitOpen(errors.CircuitOpen, psycopg.OperationalError):
    """`resilience.CircuitOpen`, as psycopg raises it."""


class PsycopgDeadlineExceeded(errors.DeadlineExceeded, psycopg.OperationalError):
    """`resilience.DeadlineExceeded`, as psycopg raises it."""

    # As psycopg's constructor would leave them, which that of `TimeoutError` does not call.
    _info = None
    _pgconn = None
    _encoding = "utf-8"


class PsycopgAttemptTimedOut(errors.AttemptTimedOut, psycopg.OperationalError):
    """`resilience.AttemptTimedOut`, as psycopg raises it."""

    _info = None
    _pgconn = None
    _encoding = "utf-8"


class PsycopgRefreshFailed(errors.RefreshFailed, psycopg.OperationalError):
    """`resilience.RefreshFailed`, as psycopg raises it."""


class Transactions(_transactions.Transactions["psycopg.AsyncConnection[Any]"]):
    """
    Runs functions in transactions, each of them one call of an engine: `call` it, or decorate it.

    A transaction that fails is repeated as a whole, on another connection, where its failure may pass: after a serialization failure, a
    deadlock, a connection that broke.  Until COMMIT is sent nothing has been done, whatever the statements were; if its answer is lost,
    nobody knows, and the transaction is repeated only where it is readonly, its idempotency key was taken, or the engine's view says
    ``repeatable=True``.  A failed statement that the function passes over is an error too, 25P02: psycopg would have said nothing when
    COMMIT rolled back.

    An attempt that is cut or cancelled rolls back, for 1 s at most; then its connection is dropped.  One that a limit of ours cuts in the
    middle of a statement is always dropped, and the server is told to cancel the statement.  The function may begin transactions inside,
    as savepoints, but must not end the one around it.

    Args:
        engine: An `Engine` by `resilience.dialects.postgresql.RULES`, or a view of one (``engine.using(...)``).
        source: Where connections are from: a ``psycopg_pool.AsyncConnectionPool``, or an async function that makes one, such as
            ``functools.partial(psycopg.AsyncConnection.connect, conninfo)``, each for one attempt.
        isolation: ``"read_uncommitted"``, ``"read_committed"``, ``"repeatable_read"`` or ``"serializable"``; None as the connection has it.
        readonly: Whether they only read.
        deferrable: Whether they may wait at their beginning for a snapshot with which they cannot fail; readonly and serializable only.
        peer: Whom calls talk to, for a `CircuitBreaker`; ``host:port/database`` by default, as far as *source* tells.

    Raises:
        TypeError: No engine, or nothing that gives connections.
        ValueError: A setting out of its range.
    """

    _twins: ClassVar[Twins] = {
        errors.Rejected: PsycopgRejected,
        errors.CircuitOpen: PsycopgCircuitOpen,
        errors.DeadlineExceeded: PsycopgDeadlineExceeded,
        errors.AttemptTimedOut: PsycopgAttemptTimedOut,
        errors.RefreshFailed: PsycopgRefreshFailed,
    }

    def _check_source(self, source: Any) -> None:
        if _is_pool(source):
            if not inspect.iscoroutinefunction(source.getconn):
                hint = "it is for sync clients, and engines are async only"
                raise TypeError(f"Transactions: source: expected an async pool, got {source!r}; {hint}")
        elif not callable(source):
            raise TypeError(
                f"Transactions: source: expected a psycopg_pool.AsyncConnectionPool or an async function that connects, got {source!r}"
            )

    def _peer_of(self, source: Any) -> str | None:
        if isinstance(source, functools.partial):
            settings: Any = source.keywords
            conninfo: Any = settings.get("conninfo", next(iter(source.args), ""))
        else:  # as psycopg_pool has them; either may be a function
            conninfo, settings = getattr(source, "conninfo", None), getattr(source, "kwargs", None) or {}
        if not isinstance(conninfo, str) or not isinstance(settings, dict):
            return None
        named = {name: value for name, value in cast("dict[str, Any]", settings).items() if name in {"host", "hostaddr", "port", "dbname"}}
        try:
            found = conninfo_to_dict(conninfo, **named)
        except psycopg.Error:
            return None
        return address(found.get("host") or found.get("hostaddr"), found.get("port"), found.get("dbname"))

    async def _take(self, source: Any, mode: Mode) -> Session:
        pool = source if _is_pool(source) else None
        return _Session(await (source() if pool is None else pool.getconn()), pool, mode)


class _Session:
    """One connection, for one attempt."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], pool: Any, mode: Mode) -> None:
        self.connection = connection
        self._pool = pool
        self._mode = mode
        self._before = connection.isolation_level, connection.read_only, connection.deferrable
        self._transaction = psycopg.AsyncTransaction(connection)
        # psycopg tells the server to cancel what runs when its task is cancelled, but a scope that goes on cancelling cuts that short, and
        # the connection is closed.  The server would run the statement, and hold its locks, to the end.
        self._cancel = connection.pgconn.cancel_conn() if psycopg.capabilities.has_cancel_safe() and not connection.closed else None

    async def begin(self) -> None:
        if self._mode.isolation is not None:
            await self.connection.set_isolation_level(psycopg.IsolationLevel[self._mode.isolation.upper()])
        if self._mode.readonly:
            await self.connection.set_read_only(True)
        if self._mode.deferrable:
            await self.connection.set_deferrable(True)
        await self._transaction.__aenter__()

    def ended(self) -> bool:
        return self._status() is TransactionStatus.IDLE

    async def check(self) -> None:
        if self._status() is TransactionStatus.INERROR:
            await self.connection.execute("select 1")

    async def commit(self) -> None:
        await self._transaction.__aexit__(None, None, None)

    async def roll_back(self) -> None:
        if self._transaction.status is self._transaction.Status.ACTIVE:
            await self._transaction.__aexit__(psycopg.Rollback, psycopg.Rollback(), None)
        if self._status() is not TransactionStatus.IDLE:
            raise psycopg.OperationalError("the connection is broken, or busy")

    async def drop(self, *, cut: bool) -> None:
        self.connection.pgconn.finish()
        if cut and self._cancel is not None:
            self._cancel.start()
            while (state := self._cancel.poll()) in {PollingStatus.READING, PollingStatus.WRITING}:
                await (anyio.wait_readable if state is PollingStatus.READING else anyio.wait_writable)(self._cancel.socket)

    async def give_back(self) -> None:
        if self._status() is TransactionStatus.IDLE:
            isolation, read_only, deferrable = self._before
            await self.connection.set_isolation_level(isolation)
            await self.connection.set_read_only(read_only)
            await self.connection.set_deferrable(deferrable)
        if self._pool is None:
            await self.connection.close()
        else:
            await self._pool.putconn(self.connection)

    def _status(self) -> TransactionStatus:
        return self.connection.info.transaction_status


def _is_pool(source: Any) -> bool:
    return callable(getattr(source, "getconn", None)) and callable(getattr(source, "putconn", None))
