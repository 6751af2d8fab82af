"""
An engine around asyncpg's transactions.

    from resilience import Engine, Retry
    from resilience.adapters.asyncpg import Transactions
    from resilience.dialects import postgresql

    engine = Engine([Retry(attempts=5)], rules=postgresql.RULES)
    transactions = Transactions(engine, pool, isolation="serializable")

    @transactions
    async def transfer(connection, source, target, amount): ...

    await transfer("ada", "bob", 10)

A single statement needs no adapter: ``engine.call(pool.fetch, "select ...")`` is read and judged like any other call.  It is repeated even
if a connection broke while it ran and nobody knows whether it was done; where that would do harm, say so:
``engine.using(method="POST").call(pool.execute, "insert ...")`` is repeated only if the server did not do it.

Inside a transaction, call the connection itself, not through an engine: after an error the server takes no more statements, and what an
engine has given up, the transaction does not repeat.
"""

from __future__ import annotations

import functools
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

import asyncpg  # pyright: ignore[reportMissingTypeStubs]  # ships no types

from resilience import errors
from resilience.adapters import _transactions
from resilience.adapters._transactions import Isolation, Mode, Session, address
from resilience.adapters._twins import Twins

__all__ = ["AsyncpgCircuitOpen", "AsyncpgRefreshFailed", "AsyncpgRejected", "Isolation", "Transactions"]

_asyncpg: Final[Any] = asyncpg
# What asyncpg raises where no connection can be had.  Out of time is a `TimeoutError` to asyncpg, as to us.
if TYPE_CHECKING:
    _Family = Exception
else:
    _Family = asyncpg.PostgresConnectionError


class AsyncpgRejected(errors.Rejected, _Family):
    """`resilience.Rejected`, as asyncpg raises it."""

    sqlstate: str | None = None


class AsyncpgCircuitOpen(errors.CircuitOpen, _Family):
    """`resilience.CircuitOpen`, as asyncpg raises it."""

    sqlstate: str | None = None


class AsyncpgRefreshFailed(errors.RefreshFailed, _Family):
    """`resilience.RefreshFailed`, as asyncpg raises it."""

    sqlstate: str | None = None


class Transactions(_transactions.Transactions[Any]):
    """
    Runs functions in transactions, each of them one call of an engine: `call` it, or decorate it.

    A transaction that fails is repeated as a whole, on another connection, where its failure may pass: after a serialization failure, a
    deadlock, a connection that broke.  Until COMMIT is sent nothing has been done, whatever the statements were; if its answer is lost,
    nobody knows, and the transaction is repeated only where it is readonly, its idempotency key was taken, or the engine's view says
    ``repeatable=True``.  A failed statement that the function passes over is an error too, 25P02: asyncpg would have said nothing when
    COMMIT rolled back.

    An attempt that is cut or cancelled rolls back, for 1 s at most; then its connection is dropped.  The function may begin transactions
    inside, as savepoints, but must not end the one around it.

    Args:
        engine: An `Engine` by `resilience.dialects.postgresql.RULES`, or a view of one (``engine.using(...)``).
        source: Where connections are from: an `asyncpg.Pool`, or an async function that makes one, such as
            ``functools.partial(asyncpg.connect, dsn)``, each for one attempt.
        isolation: ``"read_uncommitted"``, ``"read_committed"``, ``"repeatable_read"`` or ``"serializable"``; None for the server's default.
        readonly: Whether they only read.
        deferrable: Whether they may wait at their beginning for a snapshot with which they cannot fail; readonly and serializable only.
        peer: Whom calls talk to, for a `CircuitBreaker`; ``host:port/database`` by default, as far as *source* tells.

    Raises:
        TypeError: No engine, or nothing that gives connections.
        ValueError: A setting out of its range.
    """

    _twins: ClassVar[Twins] = {
        errors.Rejected: AsyncpgRejected,
        errors.CircuitOpen: AsyncpgCircuitOpen,
        errors.RefreshFailed: AsyncpgRefreshFailed,
    }

    def _check_source(self, source: Any) -> None:
        if not _is_pool(source) and not callable(source):
            raise TypeError(f"Transactions: source: expected an asyncpg.Pool or an async function that connects, got {source!r}")

    def _peer_of(self, source: Any) -> str | None:
        names = ("args", "keywords") if isinstance(source, functools.partial) else ("_connect_args", "_connect_kwargs")
        args, settings = (getattr(cast("Any", source), name, None) for name in names)
        if args is None or settings is None:
            return None
        return _peer(settings.get("dsn") or next(iter(args), None), settings)

    async def _take(self, source: Any, mode: Mode) -> Session:
        pool = source if _is_pool(source) else None
        return _Session(await (source() if pool is None else pool.acquire()), pool, mode)


class _Session:
    """One connection, for one attempt."""

    def __init__(self, connection: Any, pool: Any, mode: Mode) -> None:
        self.connection = connection
        self._pool = pool
        self._failed = False
        self._begun = self._over = False
        self._transaction = connection.transaction(isolation=mode.isolation, readonly=mode.readonly, deferrable=mode.deferrable)

    async def begin(self) -> None:
        self.connection.add_query_logger(self._heard)
        await self._transaction.__aenter__()  # not start(): a pool complains about transactions that nobody manages
        self._begun = True

    def ended(self) -> bool:
        return not self._is_closed() and not self.connection.is_in_transaction()

    async def check(self) -> None:
        # The state that the server reports is not to be had.  A statement that failed may have been rolled back to a savepoint.
        if self._failed and not self.ended():
            await self.connection.execute("select 1")

    async def commit(self) -> None:
        self._begun = False
        try:
            await self._transaction.__aexit__(None, None, None)
        except _asyncpg.PostgresError:
            self._over = True
            raise

    async def roll_back(self) -> None:
        if self._over or self._is_closed():
            return
        if self._begun:
            await self._transaction.__aexit__(Exception, None, None)
        else:  # cut in the middle of BEGIN or COMMIT.  asyncpg has the server cancel that, and waits for its word first.
            await self.connection.execute("rollback")

    async def drop(self, *, cut: bool) -> None:  # noqa: ARG002 - asyncpg has told the server already
        if not self._is_closed():
            self.connection.terminate()

    async def give_back(self) -> None:
        if not self._is_closed():
            self.connection.remove_query_logger(self._heard)
        if self._pool is not None:
            await self._pool.release(self.connection)
        else:
            await self.connection.close()

    def _heard(self, query: Any) -> None:
        self._failed = self._failed or query.exception is not None

    def _is_closed(self) -> bool:
        try:
            return bool(self.connection.is_closed())
        except _asyncpg.InterfaceError:  # it has left the pool already
            return True


def _is_pool(source: Any) -> bool:
    return callable(getattr(source, "acquire", None)) and callable(getattr(source, "release", None))


def _peer(dsn: object, settings: Mapping[str, Any]) -> str | None:
    """As the settings have it, else as the DSN does."""
    try:
        parts = urllib.parse.urlsplit(dsn if isinstance(dsn, str) else "")
    except ValueError:
        return None
    asked = dict(urllib.parse.parse_qsl(parts.query))
    netloc = parts.netloc.rpartition("@")[2]
    host, _, port = netloc.rpartition(":")
    if not port.isdigit():
        host, port = netloc, ""
    return address(
        settings.get("host") or host or asked.get("host"),
        settings.get("port") or port or asked.get("port"),
        settings.get("database") or asked.get("dbname") or asked.get("database") or parts.path.lstrip("/"),
    )
