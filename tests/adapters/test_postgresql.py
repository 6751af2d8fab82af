"""Transactions of asyncpg and psycopg as calls of an engine, against a real PostgreSQL: what conflicts, breaks, is cut, or is lost."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import importlib
import inspect
import pickle
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Self, assert_type

import anyio
import asyncpg
import attrs
import psycopg
import pytest

from resilience import (
    AttemptTimedOut,
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Deadline,
    DeadlineExceeded,
    Engine,
    IdempotencyKey,
    Phase,
    RefreshToken,
    Rejected,
    Retry,
    current,
    history,
    read,
)
from resilience.adapters import asyncpg as for_asyncpg
from resilience.adapters import psycopg as for_psycopg
from resilience.dialects import postgresql as dialect
from tests.conftest import ON_ASYNCIO
from tests.servers import HOST, PostgreSQL

pytestmark = pytest.mark.anyio

AsyncConnectionPool: Any = None
with contextlib.suppress(ImportError):  # a package of its own
    AsyncConnectionPool = importlib.import_module("psycopg_pool").AsyncConnectionPool

Run = Callable[..., Awaitable[Any]]


@pytest.fixture(scope="module", params=ON_ASYNCIO)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """Neither client runs on trio."""
    return request.param


# Both clients behind one face.


class Pool:
    """The least that a pool of psycopg's can be, after psycopg_pool's, which is a package of its own."""

    def __init__(self, conninfo: str, *, max_size: int) -> None:
        self.conninfo = conninfo
        self.kwargs: dict[str, Any] = {}
        self._free = asyncio.Semaphore(max_size)
        self._idle: list[psycopg.AsyncConnection[Any]] = []

    async def getconn(self) -> psycopg.AsyncConnection[Any]:
        await self._free.acquire()
        try:
            return self._idle.pop() if self._idle else await psycopg.AsyncConnection.connect(self.conninfo)
        except BaseException:
            self._free.release()
            raise

    async def putconn(self, connection: psycopg.AsyncConnection[Any]) -> None:
        assert connection.info.transaction_status in {psycopg.pq.TransactionStatus.IDLE, psycopg.pq.TransactionStatus.UNKNOWN}
        if not connection.closed:
            self._idle.append(connection)
        self._free.release()

    async def close(self) -> None:
        for connection in self._idle:
            await connection.close()


class Asyncpg:
    adapter: Any = for_asyncpg
    family: Any = asyncpg.PostgresError
    broken: Any = asyncpg.PostgresConnectionError
    unique: Any = asyncpg.UniqueViolationError
    late: Any = TimeoutError

    def __init__(self, port: int) -> None:
        self.port = port

    def connecting(self, user: str = "app", **settings: Any) -> Callable[[], Awaitable[Any]]:
        return functools.partial(asyncpg.connect, host=HOST, port=self.port, user=user, database="postgres", **settings)

    @contextlib.asynccontextmanager
    async def pool(self, size: int = 2, port: int | None = None) -> AsyncIterator[Any]:
        dsn = f"postgresql://app@{HOST}:{port or self.port}/postgres"
        async with asyncpg.create_pool(dsn, min_size=0, max_size=size) as pool:
            yield pool

    async def run(self, connection: Any, sql: str) -> None:
        await connection.execute(sql)

    async def value(self, connection: Any, sql: str) -> Any:
        return await connection.fetchval(sql)

    async def close(self, connection: Any) -> None:
        await connection.close()


class Psycopg:
    adapter: Any = for_psycopg
    family: Any = psycopg.Error
    broken: Any = psycopg.OperationalError
    unique: Any = psycopg.errors.UniqueViolation
    late: Any = psycopg.OperationalError

    def __init__(self, port: int) -> None:
        self.port = port

    def connecting(self, user: str = "app", **settings: Any) -> Callable[[], Awaitable[Any]]:
        conninfo = f"host={HOST} port={self.port} dbname=postgres"
        return functools.partial(psycopg.AsyncConnection.connect, conninfo, user=user, **settings)

    @contextlib.asynccontextmanager
    async def pool(self, size: int = 2, port: int | None = None) -> AsyncIterator[Any]:
        conninfo = f"host={HOST} port={port or self.port} user=app dbname=postgres"
        if AsyncConnectionPool is None:
            pool: Any = Pool(conninfo, max_size=size)
        else:
            pool = AsyncConnectionPool(conninfo, min_size=0, max_size=size, open=False)
            await pool.open()
        try:
            yield pool
        finally:
            await pool.close()

    async def run(self, connection: Any, sql: str) -> None:
        await connection.execute(sql)

    async def value(self, connection: Any, sql: str) -> Any:
        row = await (await connection.execute(sql)).fetchone()
        return row and row[0]

    async def close(self, connection: Any) -> None:
        await connection.close()


@pytest.fixture
async def nothing_goes_wrong_in_the_background() -> AsyncIterator[None]:
    """asyncpg tells the loop of what it finds amiss with a connection that comes back."""
    loop = asyncio.get_running_loop()
    wrong: list[dict[str, Any]] = []
    usual = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: wrong.append(context))
    yield
    loop.set_exception_handler(usual)
    assert [] == wrong


@pytest.fixture(params=[Asyncpg, Psycopg], ids=["asyncpg", "psycopg"])
def client(request: pytest.FixtureRequest, postgresql: PostgreSQL, nothing_goes_wrong_in_the_background: None) -> Any:
    """Everything holds for both."""
    return request.param(postgresql.port)


@pytest.fixture(scope="module", autouse=True)
def roles(postgresql: PostgreSQL) -> None:
    """Who the tests connect as: the superuser may have a connection when nobody else may."""
    with psycopg.connect(host=HOST, port=postgresql.port, user="postgres", dbname="postgres", autocommit=True) as connection:
        for statement in (
            "create role secured",
            "create role app login",
            "create role guarded login password 'right' in role secured",
            "grant create, usage on schema public to app",
            "grant pg_signal_backend to app",
        ):
            with contextlib.suppress(psycopg.errors.DuplicateObject):
                connection.execute(statement)


class Look:
    """A look from outside, and the only one: whoever else is connected is a connection that was left behind."""

    def __init__(self, port: int) -> None:
        self._connection = psycopg.connect(host=HOST, port=port, user="postgres", dbname="postgres", autocommit=True)

    def value(self, sql: str) -> Any:
        row = self._connection.execute(sql).fetchone()
        return row and row[0]

    def run(self, sql: str) -> None:
        self._connection.execute(sql)

    async def until(self, sql: str) -> None:
        """Until *sql* gives true: the server sees some things a moment after we do."""
        while not self.value(sql):
            await asyncio.sleep(0.005)

    def others(self) -> list[Any]:
        """What other sessions there are, and what they do."""
        rows = self._connection.execute(
            "select usename, state, query from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()"
        )
        return rows.fetchall()

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def look(postgresql: PostgreSQL, nothing_goes_wrong_in_the_background: None) -> Iterator[Look]:
    """A table ``t`` with the rows (1, 0) and (2, 0), and a look at it."""
    look = Look(postgresql.port)
    look.run("drop table if exists t; create table t (id int primary key, n int not null default 0); insert into t values (1), (2)")
    look.run("grant all on t to app")
    yield look
    for _ in range(2_000):  # the server sees some things a moment after we do
        if not (left := look.others()):
            break
        time.sleep(0.005)
    look.close()
    assert [] == left


def engine(desk: Any, *policies: Any, **settings: Any) -> Engine:
    return Engine(policies or [Retry(attempts=3)], rules=dialect.RULES, env=desk.env, **settings)


class Meeting:
    """Where two transactions wait for each other; whoever comes later is not held up."""

    def __init__(self) -> None:
        self._there = 0
        self._both = anyio.Event()

    async def meet(self) -> None:
        self._there += 1
        if self._there == 2:
            self._both.set()
        await self._both.wait()


CONFLICT = "do $$ begin raise exception 'conflict' using errcode = '40001'; end $$"
ASLEEP = "exists (select from pg_stat_activity where query like '%pg_sleep(60)%' and state = 'active' and pid <> pg_backend_pid())"
KILL_ME = "select pg_terminate_backend(pg_backend_pid())"


# Conflicts.


async def test_of_two_transactions_that_would_break_a_rule_together_one_is_run_again_as_a_whole(client: Any, desk: Any, look: Look) -> None:
    """Write skew, the manual's 13.2.3: each sees that the other is on call, and both leave."""
    look.run("update t set n = 1")
    runs = []
    both_have_read = Meeting()
    async with client.pool() as pool:

        async def leave(connection: Any, who: int) -> bool:
            runs.append(who)
            on_call = await client.value(connection, "select sum(n) from t")
            await both_have_read.meet()
            if on_call < 2:
                return False
            await client.run(connection, f"update t set n = 0 where id = {who}")
            return True

        transactions = client.adapter.Transactions(engine(desk, Retry(attempts=9)), pool, isolation="serializable")
        async with anyio.create_task_group() as tasks:
            left: list[bool] = []
            for who in (1, 2):

                async def note(who: int = who) -> None:
                    left.append(await transactions.call(leave, who))

                tasks.start_soon(note)

    assert [False, True] == sorted(left)
    assert 1 == look.value("select sum(n) from t")
    assert len(runs) - 2 == len(desk.of("retry.scheduled")) > 0
    assert {"40001"} == {event.code for event in desk.of("attempt.failed")}


async def test_a_conflict_found_only_at_commit_is_repeated_too(client: Any, desk: Any, look: Look) -> None:
    """The server answered, so that it is known that nothing was done."""
    look.run("update t set n = 1")
    runs = []
    both_have_written = Meeting()
    async with client.pool() as pool:

        async def leave(connection: Any, who: int) -> None:
            runs.append(who)
            on_call = await client.value(connection, "select sum(n) from t")
            if on_call == 2:
                await client.run(connection, f"update t set n = 0 where id = {who}")
            await both_have_written.meet()

        transactions = client.adapter.Transactions(engine(desk, Retry(attempts=9)), pool, isolation="serializable")
        async with anyio.create_task_group() as tasks:
            for who in (1, 2):
                tasks.start_soon(transactions.call, leave, who)

    assert 1 == look.value("select sum(n) from t")
    assert {("40001", "refused")} == {(event.code, event.phase) for event in desk.of("attempt.failed")}


@pytest.fixture
def at_commit(look: Look) -> Callable[[str], None]:
    """Let the server run a piece of PL/pgSQL at each COMMIT after a change of ``t``, before it commits: ``at_commit("perform 1")``."""

    def install(code: str) -> None:
        look.run(f"create or replace function at_commit() returns trigger language plpgsql as $$ begin {code}; return null; end $$")
        look.run("create constraint trigger late after update on t deferrable initially deferred for each row execute function at_commit()")

    return install


async def test_a_commit_that_is_refused_has_done_nothing_and_costs_no_connection(
    client: Any, desk: Any, look: Look, at_commit: Callable[[str], None]
) -> None:
    at_commit("raise serialization_failure")
    pids = []

    async def add(connection: Any) -> None:
        pids.append(await client.value(connection, "select pg_backend_pid()"))
        await client.run(connection, "update t set n = n + 1")

    async with client.pool(size=1) as pool:
        with pytest.raises(client.family):
            await client.adapter.Transactions(engine(desk), pool).call(add)
        assert 3 == len(pids)
        # Unless the function has done more than what was rolled back.
        with pytest.raises(client.family):
            await client.adapter.Transactions(engine(desk).using(repeatable=False), pool).call(add)

    assert 4 == len(pids)
    assert 1 == len(set(pids))
    assert 0 == look.value("select sum(n) from t")


async def test_a_commit_that_is_cut_may_have_been_done(client: Any, desk: Any, look: Look, at_commit: Callable[[str], None]) -> None:
    """D4."""
    at_commit("perform pg_sleep(60)")
    async with client.pool(size=1) as pool:
        cut = engine(desk, Retry(), AttemptTimeout(0.1))
        with pytest.raises(AttemptTimedOut):
            await client.adapter.Transactions(cut, pool).call(client.run, "update t set n = n + 1")

        assert 2 == await client.adapter.Transactions(engine(desk), pool).call(client.value, "select n + 2 from t where id = 1 for update")
    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up")]


async def test_of_two_tasks_in_a_deadlock_both_get_through(client: Any, desk: Any, look: Look) -> None:
    runs = []
    both_hold_one = Meeting()
    async with client.pool() as pool:

        async def move(connection: Any, first: int, second: int) -> None:
            runs.append(first)
            await client.run(connection, f"update t set n = n + 1 where id = {first}")
            await both_hold_one.meet()
            await client.run(connection, f"update t set n = n + 1 where id = {second}")

        transactions = client.adapter.Transactions(engine(desk, Retry(attempts=9)), pool)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transactions.call, move, 1, 2)
            tasks.start_soon(transactions.call, move, 2, 1)

    assert 4 == look.value("select sum(n) from t")
    assert len(runs) - 2 == len(desk.of("retry.scheduled")) > 0
    assert {("40P01", "refused")} == {(event.code, event.phase) for event in desk.of("attempt.failed")}


async def test_a_unique_violation_is_the_caller_s_and_final(client: Any, desk: Any, look: Look) -> None:
    breaker = CircuitBreaker(consecutive=1, failure_ratio=1)
    async with client.pool() as pool:
        transactions = client.adapter.Transactions(engine(desk, Retry(), breaker), pool)
        with pytest.raises(client.unique):
            await transactions.call(client.run, "insert into t values (1)")

        assert "closed" == breaker.era(f"{HOST}:{client.port}/postgres")
    assert ["attempt.failed", "call.failed_fast"] == desk.names()
    assert "23505" == desk.events[-1].code


async def test_conflicts_say_nothing_about_the_server_s_health(client: Any, desk: Any, look: Look) -> None:
    breaker = CircuitBreaker(consecutive=1, failure_ratio=1)
    async with client.pool() as pool:
        transactions = client.adapter.Transactions(engine(desk, Retry(), breaker), pool)
        with pytest.raises(client.family):
            await transactions.call(client.run, CONFLICT)

        assert "closed" == breaker.era(f"{HOST}:{client.port}/postgres")
    assert 3 == len(desk.of("attempt.failed"))


async def test_a_statement_that_runs_into_its_timeout_gets_one_more_chance(client: Any, desk: Any, look: Look) -> None:
    async def sleep(connection: Any) -> None:
        await client.run(connection, "set local statement_timeout = 10")
        await client.run(connection, "select pg_sleep(30)")

    async with client.pool() as pool:
        with pytest.raises(client.family):
            await client.adapter.Transactions(engine(desk, Retry(attempts=5)), pool).call(sleep)

    assert ["57014", "57014"] == [event.code for event in desk.of("attempt.failed")]


# Connections that break.


async def test_a_connection_that_breaks_inside_a_transaction_has_done_nothing_and_is_not_used_again(
    client: Any, desk: Any, look: Look
) -> None:
    """57P01: what was lost is unknown, but the server forgets what was not committed.  The next attempt has another connection."""
    pids: list[int] = []

    async def add(connection: Any) -> int:
        pids.append(await client.value(connection, "select pg_backend_pid()"))
        await client.run(connection, "update t set n = n + 1")
        if len(pids) == 1:
            await client.run(connection, KILL_ME)
        return len(pids)

    async with client.pool(size=1) as pool:
        assert 2 == await client.adapter.Transactions(engine(desk), pool, isolation="serializable").call(add)

    assert 2 == len(set(pids))
    assert 2 == look.value("select sum(n) from t")
    assert [("57P01", "refused")] == [(event.code, event.phase) for event in desk.of("attempt.failed")]  # nothing is left of it


async def test_a_connection_that_broke_while_it_was_idle_costs_an_attempt_at_most(client: Any, desk: Any, look: Look) -> None:
    async with client.pool(size=1) as pool:
        transactions = client.adapter.Transactions(engine(desk), pool)
        pid = await transactions.call(client.value, "select pg_backend_pid()")
        look.run(f"select pg_terminate_backend({pid}, 5000)")

        assert pid != await transactions.call(client.value, "update t set n = n + 1 where id = 1 returning pg_backend_pid()")
    assert 1 == look.value("select sum(n) from t")


async def test_outside_a_transaction_the_exceptions_are_read_all_the_same(client: Any, desk: Any, look: Look) -> None:
    """What is not known to do harm is repeated; what is said to do harm is not, unless the server says that it did nothing."""
    asked = []

    async def ask(sql: str) -> Any:
        asked.append(sql)
        connection = await client.connecting()()
        try:
            return await client.value(connection, sql if len(asked) == 1 else "select 1")
        finally:
            await client.close(connection)

    assert 1 == await engine(desk).call(ask, KILL_ME)
    asked.clear()
    with pytest.raises(client.family):
        await engine(desk).using(method="POST").call(ask, KILL_ME)
    assert 1 == len(asked)
    asked.clear()
    assert 1 == await engine(desk).using(method="POST").call(ask, CONFLICT.replace("do $$", "do $x$").replace("end $$", "end $x$"))

    assert ["57P01", "57P01", "40001"] == [event.code for event in desk.of("attempt.failed")]
    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up")]


async def test_asyncpg_s_pool_needs_no_adapter_for_a_single_statement(desk: Any, look: Look, postgresql: PostgreSQL) -> None:
    look.run("create or replace function busy() returns int language plpgsql as $$ begin raise lock_not_available; end $$")
    async with Asyncpg(postgresql.port).pool() as pool:
        assert 2 == await engine(desk).call(pool.fetchval, "select count(*) from t")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await engine(desk).call(pool.fetch, "select busy()")

    assert [("55P03", "refused")] * 3 == [(event.code, event.phase) for event in desk.of("attempt.failed")]


class Proxy:
    """
    A way to the server on which the answer to the first COMMIT is lost, and the connection with it.

    Attributes:
        lost: How many were.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._writers: list[asyncio.StreamWriter] = []
        self.lost = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._listener.close()
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        await self._listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(HOST, self._server_port)
        self._writers += [writer, to_server]
        losing = False

        async def answer() -> None:
            with contextlib.suppress(OSError):
                while (data := await from_server.read(65_536)) and not losing:
                    writer.write(data)
            writer.close()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(answer())
            with contextlib.suppress(OSError):
                while data := await reader.read(65_536):
                    if b"COMMIT" in data and not self.lost:
                        self.lost, losing = 1, True
                    to_server.write(data)
            to_server.close()


async def test_a_transaction_whose_commit_got_no_answer_is_not_repeated(client: Any, desk: Any, look: Look) -> None:
    """D4: it is done, and nobody was told."""
    breaker = CircuitBreaker(consecutive=1, failure_ratio=1)
    async with Proxy(client.port) as proxy, client.pool(port=proxy.port) as pool:
        transactions = client.adapter.Transactions(engine(desk, Retry(), breaker), pool)
        with pytest.raises(client.family) as caught:
            await transactions.call(client.run, "update t set n = n + 1")

        assert "open" == breaker.era(f"{HOST}:{proxy.port}/postgres")
    assert 1 == proxy.lost
    assert 2 == look.value("select sum(n) from t")
    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up")]
    assert ["unknown"] == [tried.phase for tried in history(caught.value)]


async def test_nor_is_it_by_an_engine_around_it(client: Any, desk: Any, look: Look) -> None:
    """D9."""
    async with Proxy(client.port) as proxy, client.pool(port=proxy.port) as pool:
        transactions = client.adapter.Transactions(engine(desk, CircuitBreaker(), name="inner"), pool)
        with pytest.raises(client.family):
            await engine(desk, name="outer").call(transactions.call, client.run, "update t set n = n + 1")

    assert 2 == look.value("select sum(n) from t")
    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up") if event.engine == "outer"]


async def test_the_user_may_say_that_a_repeat_does_no_harm(client: Any, desk: Any, look: Look) -> None:
    async with Proxy(client.port) as proxy, client.pool(port=proxy.port) as pool:
        transactions = client.adapter.Transactions(engine(desk).using(repeatable=True), pool)
        await transactions.call(client.run, "update t set n = 7")

    assert 14 == look.value("select sum(n) from t")
    assert 1 == len(desk.of("retry.scheduled"))


async def test_a_transaction_that_keeps_its_key_is_repeated_and_done_once(client: Any, desk: Any, look: Look) -> None:
    look.run("drop table if exists keys; create table keys (key text primary key); grant all on keys to app")

    async def pay(connection: Any) -> bool:
        key = current().take_key()
        if not await client.value(connection, f"insert into keys values ('{key}') on conflict do nothing returning true"):
            return False
        await client.run(connection, "update t set n = n + 1 where id = 1")
        return True

    async with Proxy(client.port) as proxy, client.pool(port=proxy.port) as pool:
        done = await client.adapter.Transactions(engine(desk, IdempotencyKey(), Retry()), pool).call(pay)

    assert done is False
    assert 1 == look.value("select n from t where id = 1")


async def test_one_that_only_reads_is_repeated(client: Any, desk: Any, look: Look) -> None:
    async with Proxy(client.port) as proxy, client.pool(port=proxy.port) as pool:
        assert 2 == await client.adapter.Transactions(engine(desk), pool, readonly=True).call(client.value, "select count(*) from t")

    assert 1 == proxy.lost


async def test_what_the_function_committed_by_itself_is_not_taken_for_undone(client: Any, desk: Any, look: Look) -> None:
    async def add(connection: Any) -> None:
        await client.run(connection, "update t set n = n + 1")
        await client.run(connection, "commit")
        await client.run(connection, KILL_ME)

    async with client.pool() as pool:
        with pytest.raises(client.family):
            await client.adapter.Transactions(engine(desk), pool).call(add)

        # Once the connection has broken there is nothing to see any more; else the function's own error tells.
        async def add_and_fail(connection: Any) -> None:
            await client.run(connection, "update t set n = n + 1")
            await client.run(connection, "commit")
            raise ConnectionError

        desk.events.clear()
        with pytest.raises(ConnectionError):
            await client.adapter.Transactions(engine(desk), pool).call(add_and_fail)

    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up")]


async def test_a_server_that_is_full_is_asked_again_later(client: Any, desk: Any, look: Look) -> None:
    """53300, which libpq says in words only."""
    held = []
    with contextlib.suppress(asyncpg.TooManyConnectionsError):
        while True:
            held.append(await asyncpg.connect(host=HOST, port=client.port, user="app", database="postgres"))
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await held.pop().close()
        await look.until(f"select count(*) <= {len(held) + 1} from pg_stat_activity where backend_type = 'client backend'")

    busy = Engine([Retry()], rules=dialect.RULES, env=attrs.evolve(desk.env, sleep=sleep))
    assert 2 == await client.adapter.Transactions(busy, client.connecting()).call(client.value, "select count(*) from t")

    for connection in held:
        await connection.close()
    assert [0.5] == slept  # by the schedule for those who are asked for less, which begins at 1 s
    assert [("53300", "refused")] == [(event.code, event.phase) for event in desk.of("attempt.failed")]


async def test_a_server_that_is_gone_opens_the_circuit_and_our_error_is_one_of_the_client_s(
    client: Any, desk: Any, postgresql: PostgreSQL
) -> None:
    breaker = CircuitBreaker(consecutive=2, failure_ratio=1)
    async with client.pool() as pool:
        transactions = client.adapter.Transactions(engine(desk, Retry(attempts=5), breaker), pool)
        assert 1 == await transactions.call(client.value, "select 1")
        postgresql.stop()
        try:
            # The pool's idle connection is dead; whether that shows before or after it is used is a matter of luck.
            with pytest.raises((client.family, OSError)) as first:
                await client.adapter.Transactions(engine(desk, Retry(attempts=5), breaker), client.connecting()).call(
                    client.value, "select 1"
                )
            with pytest.raises(client.broken) as second:
                await transactions.call(client.value, "select 1")
        finally:
            postgresql.start()

        assert [Phase.NOT_SENT.value] * 2 == [tried.phase for tried in history(first.value)]
        assert isinstance(second.value, CircuitOpen)
        assert f"{HOST}:{client.port}/postgres" == second.value.key
        breaker.reset()
        assert 1 == await transactions.call(client.value, "select 1")


async def test_a_wrong_password_blames_the_credential(client: Any, desk: Any, look: Look) -> None:
    breaker = CircuitBreaker(consecutive=1, failure_ratio=1)
    wrong = client.connecting("guarded", password="wrong")
    with pytest.raises(client.family) as caught:
        await client.adapter.Transactions(engine(desk, Retry(), breaker), wrong).call(client.value, "select 1")

    assert [("28P01", "refresh_token", "refused")] == [(tried.code, tried.action, tried.phase) for tried in history(caught.value)]
    assert "closed" == breaker.era(f"{HOST}:{client.port}/postgres")
    assert ["attempt.failed", "call.failed_fast"] == desk.names()


async def test_where_passwords_are_tokens_a_new_one_is_fetched_once(client: Any, desk: Any, look: Look) -> None:
    async def source(stale: str | None) -> str:
        return "right"

    async def connect() -> Any:
        return await client.connecting("guarded", password=current().token)()

    authorised = engine(desk, RefreshToken(source, token="wrong"), Retry())
    who = await client.adapter.Transactions(authorised, connect).call(client.value, "select current_user")

    assert "guarded" == who
    assert 1 == len(desk.of("token.refreshed"))


# Attempts that are cut, and callers that leave.


async def test_a_deadline_cuts_a_transaction_and_the_pool_is_whole(client: Any, desk: Any, look: Look) -> None:
    async def add(connection: Any) -> None:
        await client.run(connection, "update t set n = n + 1")
        await client.run(connection, "select pg_sleep(60)")

    async with client.pool(size=1) as pool:
        with pytest.raises(DeadlineExceeded) as caught:
            await client.adapter.Transactions(engine(desk, Deadline(0.1)), pool).call(add)

        # No lock is held, and the server is not asleep.
        assert 1 == await client.adapter.Transactions(engine(desk), pool).call(
            client.value, "update t set n = n + 1 where id = 1 returning n"
        )
        await look.until(f"select not {ASLEEP}")
    assert 1 == look.value("select sum(n) from t")
    assert isinstance(caught.value, client.late)


async def test_an_attempt_that_was_cut_does_not_stand_in_the_way_of_the_next(client: Any, desk: Any, look: Look) -> None:
    """What it did is undone, so that it may be repeated; its locks are gone, so that it can."""
    runs = []

    async def add(connection: Any) -> None:
        runs.append(1)
        await client.run(connection, "update t set n = n + 1")
        if len(runs) == 1:
            await client.run(connection, "select pg_sleep(60)")

    async with client.pool() as pool:
        await client.adapter.Transactions(engine(desk, Retry(attempts=9), AttemptTimeout(0.2)), pool).call(add)

    assert 2 == look.value("select sum(n) from t")
    assert "AttemptTimedOut" == desk.of("attempt.failed")[0].error


@pytest.mark.parametrize("how", ["scope", "native"])
async def test_a_caller_that_leaves_leaves_nothing_behind(client: Any, desk: Any, look: Look, how: str) -> None:
    """D1."""
    asleep = anyio.Event()

    async def add(connection: Any) -> None:
        await client.run(connection, "update t set n = n + 1")
        asleep.set()
        await client.run(connection, "select pg_sleep(60)")

    async with client.pool(size=1) as pool:
        transactions = client.adapter.Transactions(engine(desk), pool)
        if how == "scope":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(transactions.call, add)
                await asleep.wait()
                await look.until(f"select {ASLEEP}")
                tasks.cancel_scope.cancel()
        else:
            task = asyncio.ensure_future(transactions.call(add))
            await asleep.wait()
            await look.until(f"select {ASLEEP}")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        assert 1 == await transactions.call(client.value, "update t set n = n + 1 where id = 1 returning n")
    assert 1 == look.value("select sum(n) from t")
    assert [] == desk.of("attempt.failed")


async def test_a_caller_that_leaves_while_it_waits_for_a_connection_leaves_the_pool_whole(client: Any, desk: Any, look: Look) -> None:
    holding, let_go = anyio.Event(), anyio.Event()

    async def hold(connection: Any) -> None:
        holding.set()
        await let_go.wait()

    async with client.pool(size=1) as pool:
        transactions = client.adapter.Transactions(engine(desk), pool)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(transactions.call, hold)
            await holding.wait()
            with pytest.raises(DeadlineExceeded):
                await client.adapter.Transactions(engine(desk, Deadline(0.05)), pool).call(client.value, "select 1")
            let_go.set()

        assert 1 == await transactions.call(client.value, "select 1")


async def test_asyncpg_s_own_timeout_rolls_back_and_may_pass(desk: Any, look: Look, postgresql: PostgreSQL) -> None:
    runs = []

    async def add(connection: Any) -> None:
        runs.append(1)
        await connection.execute("update t set n = n + 1")
        if len(runs) == 1:
            await connection.execute("select pg_sleep(60)", timeout=0.05)

    async with Asyncpg(postgresql.port).pool(size=1) as pool:
        await for_asyncpg.Transactions(engine(desk), pool).call(add)

    assert 2 == look.value("select sum(n) from t")
    assert ["TimeoutError"] == [event.code for event in desk.of("attempt.failed")]


# What a transaction is.


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "read committed off off"),
        ({"isolation": "read_uncommitted"}, "read uncommitted off off"),
        ({"isolation": "repeatable_read"}, "repeatable read off off"),
        ({"isolation": "serializable"}, "serializable off off"),
        ({"readonly": True}, "read committed on off"),
        ({"isolation": "serializable", "readonly": True, "deferrable": True}, "serializable on on"),
    ],
)
@pytest.mark.parametrize("source", ["pool", "connecting"])
async def test_a_transaction_is_as_it_was_asked_for_and_the_next_one_as_ever(
    client: Any, desk: Any, settings: dict[str, Any], expected: str, source: str
) -> None:
    names = ", ".join(f"current_setting('transaction_{name}')" for name in ("isolation", "read_only", "deferrable"))
    how = f"select concat_ws(' ', {names})"
    async with client.pool(size=1) as pool:
        given = pool if source == "pool" else client.connecting()
        assert expected == await client.adapter.Transactions(engine(desk), given, **settings).call(client.value, how)
        assert "read committed off off" == await client.adapter.Transactions(engine(desk), given).call(client.value, how)


async def test_a_function_may_begin_transactions_inside(client: Any, desk: Any, look: Look) -> None:
    async def add(connection: Any) -> None:
        await client.run(connection, "insert into t values (3)")
        with contextlib.suppress(client.unique):
            async with connection.transaction():
                await client.run(connection, "insert into t values (4)")
                await client.run(connection, "insert into t values (1)")
        async with connection.transaction():
            await client.run(connection, "insert into t values (5)")

    async with client.pool() as pool:
        await client.adapter.Transactions(engine(desk), pool).call(add)

    assert [1, 2, 3, 5] == look.value("select array_agg(id order by id) from t")


async def test_a_failed_statement_that_the_function_passes_over_is_not_passed_over(client: Any, desk: Any, look: Look) -> None:
    """The server would answer COMMIT with ROLLBACK, and both clients take that for success."""

    async def add(connection: Any) -> str:
        await client.run(connection, "insert into t values (3)")
        with contextlib.suppress(client.unique):
            await client.run(connection, "insert into t values (1)")
        return "done"

    async with client.pool() as pool:
        with pytest.raises(client.family) as caught:
            await client.adapter.Transactions(engine(desk), pool).call(add)

    assert "25P02" == read(caught.value).code
    assert ["attempt.failed", "call.failed_fast"] == desk.names()
    assert 2 == look.value("select count(*) from t")


async def test_the_function_s_own_error_rolls_back_and_arrives_as_it_is(client: Any, desk: Any, look: Look) -> None:
    """D11."""
    mistake = KeyError("amount")

    async def add(connection: Any) -> None:
        await client.run(connection, "insert into t values (3)")
        raise mistake

    async with client.pool(size=1) as pool:
        with pytest.raises(KeyError) as caught:
            await client.adapter.Transactions(engine(desk), pool).call(add)

        assert caught.value is mistake
        assert 2 == await client.adapter.Transactions(engine(desk), pool).call(client.value, "select count(*) from t")


# Among other engines.


async def test_what_was_done_elsewhere_is_not_done_again_for_a_conflict(client: Any, desk: Any, look: Look) -> None:
    """D9: a rollback takes back what was done in the database, no more."""
    charged = []

    async def charge() -> None:
        charged.append(1)

    async def pay(connection: Any) -> None:
        await Engine(name="bank", env=desk.env).using(method="POST").call(charge)
        await client.run(connection, CONFLICT)

    async with client.pool() as pool:
        with pytest.raises(client.family):
            await client.adapter.Transactions(engine(desk), pool).call(pay)

    assert [1] == charged
    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up")]


async def test_a_function_of_which_the_user_says_so_is_never_repeated(client: Any, desk: Any, look: Look) -> None:
    async with client.pool() as pool:
        with pytest.raises(client.family):
            await client.adapter.Transactions(engine(desk).using(repeatable=False), pool).call(client.run, CONFLICT)

    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up")]


@pytest.mark.parametrize("cut", [False, True], ids=["broken", "cut"])
async def test_a_call_around_a_transaction_that_was_undone_may_be_repeated(client: Any, desk: Any, look: Look, cut: bool) -> None:
    runs = []

    async def add(connection: Any) -> None:
        runs.append(1)
        await client.run(connection, "update t set n = n + 1")
        if len(runs) == 1:
            await client.run(connection, "select pg_sleep(60)" if cut else KILL_ME)

    async with client.pool() as pool:
        transactions = client.adapter.Transactions(engine(desk, CircuitBreaker(), name="inner"), pool)
        outer = engine(desk, Retry(attempts=9), AttemptTimeout(0.3 if cut else 60), name="outer")
        await outer.call(transactions.call, add)

    assert 2 == look.value("select sum(n) from t")


async def test_a_call_around_a_transaction_that_was_committed_is_not_repeated(client: Any, desk: Any, look: Look) -> None:
    """D9."""
    async with client.pool() as pool:
        transactions = client.adapter.Transactions(engine(desk, CircuitBreaker(), name="inner"), pool)

        async def outer() -> None:
            await transactions.call(client.run, "update t set n = n + 1")
            raise ConnectionError

        with pytest.raises(ConnectionError):
            await engine(desk, name="outer").call(outer)

    assert 2 == look.value("select sum(n) from t")
    assert ["unsafe"] == [event.reason for event in desk.of("retry.gave_up")]


async def test_events_name_the_function_and_the_engine_says_whom_it_talks_to(client: Any, desk: Any) -> None:
    peers = []

    async def transfer(connection: Any, amount: int) -> int:
        peers.append(current().peer)
        return amount

    async with client.pool() as pool:
        for given in (pool, client.connecting(), client.connecting().__call__):
            await client.adapter.Transactions(engine(desk), given).call(transfer, 1)
        await client.adapter.Transactions(engine(desk), pool, peer="primary").call(transfer, amount=1)
        await client.adapter.Transactions(engine(desk).using(operation="pay"), pool).call(transfer, 1)

    here = f"{HOST}:{client.port}/postgres"
    assert [here, here, None, "primary", here] == peers
    name = transfer.__qualname__
    assert [name] * 4 + ["pay"] == [event.operation for event in desk.of("call.succeeded")]


# The face.


async def test_a_decorated_function_is_called_without_its_connection(client: Any, desk: Any) -> None:
    async with client.pool() as pool:

        async def add(connection: Any, left: int, *, right: int = 1) -> int:
            """Add on the server."""
            return int(await client.value(connection, f"select {left} + {right}"))

        decorated = client.adapter.Transactions(engine(desk), pool)(add)
        assert 5 == await decorated(2, right=3)
    assert ("add", "Add on the server.") == (decorated.__name__, decorated.__doc__)
    assert ["left", "right"] == list(inspect.signature(decorated).parameters)


async def test_types_go_through(postgresql: PostgreSQL) -> None:
    async def with_asyncpg(connection: Any, times: int) -> list[int]:
        return [await connection.fetchval("select 1")] * times

    async def with_psycopg(connection: psycopg.AsyncConnection[Any], times: int) -> list[int]:
        return [len(await (await connection.execute("select 1")).fetchall())] * times

    one = for_asyncpg.Transactions(Engine(), Asyncpg(postgresql.port).connecting())
    other = for_psycopg.Transactions(Engine(), Psycopg(postgresql.port).connecting())

    assert_type(await one.call(with_asyncpg, 1), list[int])
    assert_type(await one(with_asyncpg)(1), list[int])
    assert_type(await other.call(with_psycopg, 1), list[int])
    assert_type(await other(with_psycopg)(times=1), list[int])
    with pytest.raises(TypeError):
        await other.call(with_psycopg, 1, 2)  # type: ignore[call-arg]


async def connect_somewhere(conninfo: object = None) -> None: ...


def sync_function(connection: object) -> None: ...


@pytest.mark.parametrize("adapter", [for_asyncpg, for_psycopg])
def test_mistakes_are_named(adapter: Any) -> None:
    make = functools.partial(adapter.Transactions, Engine(), connect_somewhere)
    mistakes: list[tuple[dict[str, Any], str]] = [
        ({"isolation": "serialisable"}, "isolation: .*'serialisable'"),
        ({"readonly": 1}, "readonly: .*1"),
        ({"deferrable": None}, "deferrable: .*None"),
        ({"deferrable": True}, "deferrable: has an effect"),
        ({"deferrable": True, "readonly": True, "isolation": "repeatable_read"}, "deferrable: has an effect"),
        ({"peer": ""}, "peer: .*''"),
    ]
    for wrong, words in mistakes:
        with pytest.raises(ValueError, match=words):
            make(**wrong)
    with pytest.raises(TypeError, match="engine: .*None"):
        adapter.Transactions(None, connect_somewhere)
    with pytest.raises(TypeError, match="source: .*'postgresql://'"):
        adapter.Transactions(Engine(), "postgresql://")
    with pytest.raises(TypeError, match="is a sync function"):
        make().call(sync_function)
    with pytest.raises(TypeError, match="is a sync function"):
        make()(sync_function)


def test_a_sync_pool_is_refused() -> None:
    class Sync:
        def getconn(self) -> None: ...
        def putconn(self, connection: object) -> None: ...

    with pytest.raises(TypeError, match="engines are async only"):
        for_psycopg.Transactions(Engine(), Sync())


@pytest.mark.parametrize(
    ("source", "peer"),
    [
        (functools.partial(asyncpg.connect, "postgresql://ada:p%40ss@db.example:6432/app?sslmode=require"), "db.example:6432/app"),
        (functools.partial(asyncpg.connect, dsn="postgres://ada:se@cret@db.example/app"), "db.example:5432/app"),
        (functools.partial(asyncpg.connect, "postgresql:///?host=/run/postgresql&dbname=app"), "/run/postgresql:5432/app"),
        (functools.partial(asyncpg.connect, "postgresql://a:1,b:2/app"), "a:1,b:2/app"),
        (functools.partial(asyncpg.connect, host=["a", "b"], port=[1, 2], database="app"), "a,b:1,2/app"),
        (functools.partial(asyncpg.connect, "postgresql://[::1"), None),
        (functools.partial(asyncpg.connect), "localhost:5432/"),
    ],
)
def test_whom_asyncpg_talks_to_is_known_from_its_settings(source: Any, peer: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never who, and never with what password."""
    for name in ("PGHOST", "PGPORT", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)

    assert peer == for_asyncpg.Transactions(Engine(), source)._peer


@pytest.mark.parametrize(
    ("source", "peer"),
    [
        (functools.partial(psycopg.AsyncConnection.connect, "postgresql://ada:secret@db.example:6432/app"), "db.example:6432/app"),
        (functools.partial(psycopg.AsyncConnection.connect, conninfo="host=db.example password=secret dbname=app"), "db.example:5432/app"),
        (functools.partial(psycopg.AsyncConnection.connect, "host=a,b port=1,2", dbname="app", password="secret"), "a,b:1,2/app"),
        (functools.partial(psycopg.AsyncConnection.connect, hostaddr="10.0.0.1"), "10.0.0.1:5432/"),
        (functools.partial(psycopg.AsyncConnection.connect, "host="), "localhost:5432/"),
        (functools.partial(psycopg.AsyncConnection.connect, "nonsense"), None),
        (functools.partial(connect_somewhere, b"host=here"), None),
    ],
)
def test_whom_psycopg_talks_to_is_known_from_its_settings(source: Any, peer: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGPORT", "PGDATABASE"):
        monkeypatch.delenv(name, raising=False)

    assert peer == for_psycopg.Transactions(Engine(), source)._peer


@pytest.mark.parametrize(
    ("kind", "family"),
    [
        (for_asyncpg.AsyncpgRejected, asyncpg.PostgresConnectionError),
        (for_asyncpg.AsyncpgCircuitOpen, asyncpg.PostgresConnectionError),
        (for_asyncpg.AsyncpgRefreshFailed, asyncpg.PostgresConnectionError),
        (for_psycopg.PsycopgRejected, psycopg.OperationalError),
        (for_psycopg.PsycopgCircuitOpen, psycopg.OperationalError),
        (for_psycopg.PsycopgDeadlineExceeded, psycopg.OperationalError),
        (for_psycopg.PsycopgAttemptTimedOut, psycopg.OperationalError),
        (for_psycopg.PsycopgRefreshFailed, psycopg.OperationalError),
    ],
)
def test_our_errors_in_a_client_s_family_are_ours_all_the_same(kind: Any, family: Any) -> None:
    error = kind(operation="transfer", retry_after=2.0)

    assert isinstance(error, family)
    assert error.sqlstate is None
    assert "transfer" in str(error)
    assert isinstance(error, Rejected) == (Phase.NOT_SENT is read(error).phase)
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (kind, "transfer", 2.0, str(error)) == (type(twin), twin.operation, twin.retry_after, str(twin))
    if isinstance(error, psycopg.Error):
        assert (None, None) == (error.diag.sqlstate, error.pgconn)
