"""redis-py's asyncio client with an engine inside, against a real server, and over a wire that loses answers."""

from __future__ import annotations

import contextlib
import copy
import importlib.metadata
import importlib.util
import pickle
import select
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import anyio.to_thread
import attrs
import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
from redis.asyncio.retry import Retry as OwnRetry
from redis.backoff import ConstantBackoff, NoBackoff

from resilience import (
    AttemptTimedOut,
    AttemptTimeout,
    CircuitBreaker,
    CircuitOpen,
    Deadline,
    DeadlineExceeded,
    Engine,
    Phase,
    RefreshFailed,
    Rejected,
    ResilienceError,
    Retry,
    history,
    read,
    retry,
)
from resilience.adapters import redis as adapter
from resilience.adapters.redis import RedisAttemptTimedOut, RedisCircuitOpen, RedisDeadlineExceeded, ResilientPipeline, ResilientRedis
from resilience.dialects import http
from resilience.dialects import redis as dialect
from resilience.dialects.redis import CONDITIONS, READS, RULES, WRITES
from resilience.history import keep_history
from tests.conftest import ON_ASYNCIO
from tests.servers import HOST, Redis

pytestmark = pytest.mark.anyio

CLIENT: Any = ResilientRedis  # redis-py's own types are unfinished
SENTINEL: Any = redis.asyncio.sentinel

# redis-py 6 gives up a subscription where the server is not there yet when it connects anew.
TOO_EARLY = (redis.ConnectionError,) if importlib.metadata.version("redis").startswith("6.") else ()


@pytest.fixture(scope="module", params=ON_ASYNCIO)
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    """What redis-py runs on."""
    return request.param


@pytest.fixture
def server(redis_server: Redis) -> Iterator[Redis]:
    """The server, empty, and afterwards as it was: settings are put back, clients of this test thrown out."""
    redis_server.ask("FLUSHALL")
    redis_server.ask("CONFIG", "RESETSTAT")
    before = redis_server.ask("CONFIG GET", "*")
    yield redis_server
    redis_server.ask("CLIENT", "UNPAUSE")
    for name, value in redis_server.ask("CONFIG GET", "*").items():
        if value != before[name]:
            redis_server.ask("CONFIG", "SET", name, before[name])


class Wire:
    """
    A wire to a server that takes commands there, and can lose what is answered.

    Attributes:
        target: The server's port, for connections to come.
        lose: What is in the commands whose answers get lost, with the connection, and how often.
        sent: All that went through.
        connections: How many were made.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.lose: dict[bytes, int] = {}
        self.sent: list[bytes] = []
        self.connections = 0
        self._listener = socket.create_server((HOST, 0))
        self._over = threading.Event()
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(OSError):
                client, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._carry, args=(client,), daemon=True).start()

    def _carry(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection((HOST, self.target)) as server:
            losing = False
            while not self._over.is_set():
                for ready in select.select([client, server], [], [], 0.1)[0]:
                    data = ready.recv(65_536)
                    if not data or (losing and ready is server):
                        return
                    if ready is client:
                        self.sent.append(data)
                        losing = self._is_lost(data)
                    (server if ready is client else client).sendall(data)

    def _is_lost(self, data: bytes) -> bool:
        for word, left in self.lose.items():
            if left and word in data:
                self.lose[word] = left - 1
                return True
        return False

    def close(self) -> None:
        self._over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def wire(server: Redis) -> Iterator[Wire]:
    wire = Wire(server.port)
    yield wire
    wire.close()


def engine(desk: Any, *policies: Any, **settings: Any) -> Engine:
    return Engine(policies or [Retry()], **{"rules": RULES, "env": desk.env, **settings})


def client(of: Engine, at: Any, **settings: Any) -> Any:
    return CLIENT(of, **{"host": HOST, "port": at.port, "decode_responses": True, **settings})


def meanwhile(desk: Any, *actions: Callable[[], object]) -> Any:
    """An env in which one of these happens in each wait before a repeat."""
    to_do = list(actions)

    async def sleep(seconds: float) -> None:
        await desk.sleep(seconds)
        if to_do:
            await anyio.to_thread.run_sync(to_do.pop(0))

    return attrs.evolve(desk.env, sleep=sleep)


async def in_thread(action: Callable[[], object]) -> None:
    await anyio.to_thread.run_sync(action)


async def seen(server: Redis, command: str) -> str:
    """The id of the client whose *command* is waiting at the server, once it is there."""
    while True:
        for one in server.ask("CLIENT LIST"):
            if one["cmd"] == command and "b" in one["flags"]:
                return str(one["id"])
        await anyio.sleep(0.002)


# One command, one call.


async def test_commands_answer_as_ever(desk: Any, server: Redis) -> None:
    async with client(engine(desk), server) as r:
        assert await r.set("a", 1)
        assert 2 == await r.incr("a")
        assert 1 == await r.hset("h", "f", "1")
        assert {"f": "1"} == await r.hgetall("h")
        assert ["a", "h"] == sorted([key async for key in r.scan_iter()])

    assert [] == desk.of("attempt.failed")


@pytest.mark.parametrize("protocol", [2, 3])
async def test_either_protocol_will_do(desk: Any, server: Redis, protocol: int) -> None:
    async with client(engine(desk), server, protocol=protocol) as r:
        await r.zadd("z", {"m": 1.5})

        assert 1.5 == await r.zscore("z", "m")
        with pytest.raises(redis.ResponseError):
            await r.lpush("z", "x")
    assert [("LPUSH", "WRONGTYPE", "refused")] == [(event.operation, event.code, event.phase) for event in desk.of("attempt.failed")]


async def test_events_name_the_command_and_no_more(desk: Any, server: Redis) -> None:
    """D32: keys and values are data."""
    async with client(engine(desk), server) as r:
        await r.set("MARKER-key", "MARKER-value")
        for args in (
            ("LPUSH", "MARKER-key", "MARKER"),
            ("LPUSH MARKER-key MARKER",),
            ("lpush", "MARKER-key", "MARKER"),
            ("OBJECT", "MARKER"),
            (b"NOSUCH", "MARKER"),
            ("CONFIG", "SET", "MARKER", "MARKER"),
        ):
            with pytest.raises(redis.ResponseError):
                await r.execute_command(*args)
        pipe = r.pipeline()
        pipe.lpush("MARKER-key", "MARKER")
        with pytest.raises(redis.ResponseError, match="MARKER"):
            await pipe.execute()

    names = [event.operation for event in desk.of("attempt.failed")]
    assert ["LPUSH", "LPUSH ...", "LPUSH", "OBJECT", "NOSUCH", "CONFIG SET", "MULTI"] == names
    assert "MARKER" not in repr(desk.events)


@pytest.mark.parametrize(
    ("args", "name", "conditions"),
    [
        (("GET", "a"), "GET", ""),
        (("get", "a"), "GET", ""),
        ((b"get", "a"), "GET", ""),
        (("SET", "a", "1"), "SET", ""),
        (("SET", "a", "1", "NX"), "SET", "NX"),
        (("SET", "a", "1", b"nx", "EX", 10, "GET"), "SET", "GET NX"),
        (("SET a 1 NX",), "SET ...", ""),
        (("ZADD", "z", "INCR", 1, "m"), "ZADD", "INCR"),
        (("ZADD", "z", 1, b"m" * 100), "ZADD", ""),
        (("CONFIG GET", "*"), "CONFIG GET", ""),
        (("CONFIG", "get", "*"), "CONFIG GET", ""),
        (("CLIENT KILL", "1:1"), "CLIENT KILL", ""),
        (("CLIENT", "KILL", "1:1"), "CLIENT", ""),
        (("XGROUP CREATE", "s", "g", "$"), "XGROUP CREATE", ""),
        (("CONFIG",), "CONFIG", ""),
        (("",), "", ""),
        ((7,), "", ""),
        (("N" * 100,), "N" * 64, ""),
    ],
)
def test_a_command_is_known_by_name_and_conditions(args: tuple[Any, ...], name: str, conditions: str) -> None:
    assert (name, conditions) == adapter._asked(args)


async def test_the_peer_is_the_servers_address(desk: Any, server: Redis) -> None:
    """Two servers behind one engine have a circuit each."""
    of = engine(desk, CircuitBreaker(failure_ratio=1, minimum=1), AttemptTimeout(1))
    async with client(of, attrs.make_class("Nowhere", ["port"])(1)) as nowhere:
        for kind in (redis.ConnectionError, RedisCircuitOpen):
            with pytest.raises(kind) as caught:
                await nowhere.get("a")
    async with client(of, server) as r:
        assert await r.ping()

    assert f"{HOST}:1" == getattr(caught.value, "key", None)


async def test_a_socket_and_a_service_of_sentinels_are_peers_too() -> None:
    of = Engine(rules=RULES)
    sentinel = SENTINEL.Sentinel([(HOST, 1)])

    assert "/tmp/r.sock" == CLIENT.from_url(of, "unix:///tmp/r.sock?db=1")._peer
    assert "mymaster" == CLIENT.from_pool(of, SENTINEL.SentinelConnectionPool("mymaster", sentinel))._peer
    assert "localhost:6379" == CLIENT(of)._peer
    assert "example.com:7" == CLIENT.from_url(of, "redis://example.com:7/0")._peer


# redis-py's own retries.


async def test_attempts_are_what_the_server_sees(desk: Any, wire: Wire, server: Redis) -> None:
    """D9: redis-py would repeat each of them up to ten times."""
    wire.lose[b"GET"] = 100
    async with client(engine(desk, Retry(attempts=3)), wire) as r:
        with pytest.raises(redis.ConnectionError) as caught:
            await r.get("a")

    assert 3 == len(history(caught.value)) == server.calls("get") == wire.connections


async def test_a_handshake_that_fails_is_tried_as_often_as_the_engine_says(desk: Any, wire: Wire) -> None:
    wire.lose = {b"HELLO": 100, b"CLIENT": 100}
    async with client(engine(desk, Retry(attempts=4)), wire) as r:
        with pytest.raises(redis.ConnectionError) as caught:
            await r.incr("a")

    assert 4 == wire.connections
    assert ["not_sent"] * 4 == [tried.phase for tried in history(caught.value)]


@pytest.mark.parametrize("settings", [{"retry": OwnRetry(NoBackoff(), 5)}, {"retry_on_error": [redis.ConnectionError]}])
async def test_settings_of_redis_py_do_not_bring_its_retries_back(desk: Any, wire: Wire, server: Redis, settings: dict[str, Any]) -> None:
    wire.lose[b"INCR"] = 100
    async with client(engine(desk, Retry(attempts=3)), wire, **settings) as r:
        with pytest.raises(redis.ConnectionError):
            await r.incr("a")
    async with CLIENT.from_url(engine(desk), f"redis://{HOST}:{wire.port}?retry_on_timeout=yes", **settings) as r:
        with pytest.raises(redis.ConnectionError):
            await r.incr("a")

    assert 2 == server.calls("incrby")
    assert "2" == server.ask("GET", "a")


@pytest.mark.parametrize(
    ("settings", "times"),
    [
        ({"retry": OwnRetry(NoBackoff(), 5)}, "5 times"),
        ({"retry": OwnRetry(NoBackoff(), -1)}, "forever"),
        ({"retry_on_timeout": True}, "1 times"),
    ],
)
@pytest.mark.parametrize("kind", [redis.asyncio.ConnectionPool, redis.asyncio.BlockingConnectionPool])
async def test_a_pool_with_retries_of_its_own_is_refused(desk: Any, kind: Any, settings: dict[str, Any], times: str) -> None:
    with pytest.raises(ValueError, match=rf"ResilientRedis: connection_pool: .*{times}.*retry=Retry\(NoBackoff\(\), 0\)"):
        CLIENT(engine(desk), connection_pool=kind(**settings))


async def test_rules_that_know_nothing_of_redis_are_no_rules_for_it(desk: Any) -> None:
    """Every error would be one that nobody knows, and nothing repeated."""
    with pytest.warns(
        UserWarning, match="ResilientRedis: .* rules 'http' know nothing of redis-py's errors; .* rules=resilience.dialects.redis.RULES"
    ):
        CLIENT(engine(desk, rules=http.RULES))


@pytest.mark.parametrize("no_engine", [None, "engine", http.RULES, Retry()])
async def test_who_gives_no_engine_is_told(no_engine: Any) -> None:
    with pytest.raises(TypeError, match="ResilientRedis: engine: expected an Engine or a view of one"):
        CLIENT(no_engine)
    with pytest.raises(TypeError, match="ResilientRedis: engine: expected an Engine or a view of one"):
        CLIENT.from_url(no_engine, "redis://localhost")


# Answers that get lost.

LOST: list[tuple[str, Callable[[Any], Awaitable[Any]], bool]] = [
    ("GET", lambda r: r.get("a"), True),
    ("HGETALL", lambda r: r.hgetall("h"), True),
    ("SET", lambda r: r.set("a", 1), True),
    ("SET", lambda r: r.set("a", 1, ex=10), True),
    ("SET", lambda r: r.set("a", 1, nx=True), False),
    ("SET", lambda r: r.set("a", 1, get=True), False),
    ("DEL", lambda r: r.delete("a"), True),
    ("HSET", lambda r: r.hset("h", "f", 1), True),
    ("EXPIRE", lambda r: r.expire("a", 10), True),
    ("EXPIRE", lambda r: r.expire("a", 10, nx=True), False),
    ("SADD", lambda r: r.sadd("s", 1), True),
    ("ZADD", lambda r: r.zadd("z", {"m": 1}), True),
    ("ZADD", lambda r: r.zadd("z", {"m": 1}, incr=True), False),
    ("INCRBY", lambda r: r.incr("n"), False),
    ("LPUSH", lambda r: r.lpush("l", 1), False),
    ("XADD", lambda r: r.xadd("x", {"f": 1}), False),
    ("LPOP", lambda r: r.lpop("l"), False),
    ("GETDEL", lambda r: r.getdel("a"), False),
    ("PUBLISH", lambda r: r.publish("c", 1), False),
    ("EVAL", lambda r: r.eval("return 1", 0), False),
]


def whole(command: str) -> bytes:
    """The command as it goes over the wire, and no other whose name has its in it."""
    return f"\r\n{command}\r\n".encode()


def shown(case: tuple[str, Any, bool]) -> str:
    return f"{LOST.index(case)}-{case[0]}"


@pytest.mark.parametrize("case", LOST, ids=shown)
async def test_a_command_whose_answer_got_lost_is_sent_again_only_if_it_does_no_more(
    desk: Any, wire: Wire, server: Redis, case: Any
) -> None:
    command, send, repeated = case
    wire.lose[whole(command)] = 1
    async with client(engine(desk), wire) as r:
        if repeated:
            await send(r)
        else:
            with pytest.raises(redis.ConnectionError):
                await send(r)

    assert (2 if repeated else 1) == server.calls(command)
    assert ["unknown"] == [event.phase for event in desk.of("attempt.failed")]
    assert ([] if repeated else ["unsafe"]) == [event.reason for event in desk.of("retry.gave_up")]


async def test_the_users_word_is_above_the_table(desk: Any, wire: Wire, server: Redis) -> None:
    wire.lose = {b"INCR": 1, b"GET": 1}
    of = engine(desk)
    async with client(of.using(repeatable=True), wire) as may:
        assert 2 == await may.incr("n")
        may_not = CLIENT(of.using(repeatable=False), connection_pool=may.connection_pool)
        with pytest.raises(redis.ConnectionError):
            await may_not.get("n")


async def test_rules_of_ones_own_may_know_more(desk: Any, wire: Wire) -> None:
    wire.lose[b"INCR"] = 1
    rules = RULES.extend("counting", creates_nothing=lambda command, said: command == "INCRBY" or dialect.may_be_repeated(command, said))
    async with client(engine(desk, rules=rules), wire) as r:
        assert 2 == await r.incr("n")


async def test_a_command_killed_at_the_server_is_not_sent_again(desk: Any, server: Redis) -> None:
    async with client(engine(desk), server) as r, anyio.create_task_group() as tasks:
        server.ask("CLIENT", "PAUSE", 60_000, "WRITE")

        async def kill() -> None:
            server.ask("CLIENT", "KILL", "ID", await seen(server, "incrby"))
            server.ask("CLIENT", "UNPAUSE")

        tasks.start_soon(kill)
        with pytest.raises(redis.ConnectionError):
            await r.incr("n")

    assert (0, None) == (server.calls("incrby"), server.ask("GET", "n"))
    assert ["retry.gave_up"] == [name for name in desk.names() if name.startswith("retry")]


async def test_what_an_outer_engine_repeats_is_not_what_was_done_inside(desk: Any, wire: Wire, server: Redis) -> None:
    """D9: the function around an INCR that went well is not repeated for the GET after it."""
    wire.lose[b"GET"] = 100
    of = engine(desk, Retry(attempts=2))
    async with client(engine(desk, Retry(attempts=2), name="inner"), wire) as r:

        @of
        async def count() -> Any:
            await r.incr("n")
            return await r.get("n")

        with pytest.raises(redis.ConnectionError):
            await count()

    assert (1, 2) == (server.calls("incrby"), server.calls("get"))


# The server goes, and comes back.


async def test_a_server_that_is_killed_in_the_middle_of_a_read_is_asked_again(desk: Any, server: Redis) -> None:
    with Redis() as own:
        own.ask("SET", "a", "kept")
        own.ask("SAVE")
        async with client(engine(desk, env=meanwhile(desk, own.start)), own) as r, anyio.create_task_group() as tasks:
            await r.ping()
            own.ask("CLIENT", "PAUSE", 60_000)

            async def kill() -> None:
                await anyio.sleep(0.02)
                await anyio.to_thread.run_sync(own.stop)

            tasks.start_soon(kill)

            assert "kept" == await r.get("a")
    assert ["unknown"] == [event.phase for event in desk.of("attempt.failed")]


async def test_connections_that_died_while_nobody_used_them_cost_nothing(desk: Any) -> None:
    with Redis() as own:
        async with client(engine(desk), own) as r:
            await r.incr("n")
            await anyio.to_thread.run_sync(own.stop)
            await anyio.to_thread.run_sync(own.start)

            assert 1 == await r.incr("n")
    assert [] == desk.of("attempt.failed")


async def test_a_server_that_is_away_is_asked_for_anything_again(desk: Any) -> None:
    """Whatever was never sent may be sent."""
    with Redis() as own:
        own.stop()
        async with client(engine(desk, env=meanwhile(desk, lambda: None, own.start)), own) as r:
            assert 1 == await r.incr("n")
            assert 1 == own.calls("incrby")

    assert ["not_sent"] * 2 == [event.phase for event in desk.of("attempt.failed")]


async def test_a_server_that_stays_away_opens_its_circuit(desk: Any) -> None:
    with Redis() as own:
        own.stop()
        async with client(engine(desk, Retry(attempts=2), CircuitBreaker(failure_ratio=1, minimum=3)), own) as r:
            for _ in range(2):
                with pytest.raises(redis.ConnectionError):
                    await r.get("a")
            with pytest.raises(RedisCircuitOpen) as caught:
                await r.get("a")

    assert f"{HOST}:{own.port}" == caught.value.key
    assert isinstance(caught.value, CircuitOpen)
    assert isinstance(caught.value, redis.ConnectionError)
    assert 1 == len(desk.of("breaker.opened"))
    assert desk.of("breaker.rejected")


# What a server says no with.


async def test_a_server_that_loads_its_data_is_asked_again_later(desk: Any) -> None:
    with Redis() as own:
        for number in range(30):
            own.ask("SET", f"k{number}", "x" * 3_000)
        own.ask("SAVE")
        own.stop()
        own.start(key_load_delay=20_000, loading_process_events_interval_bytes=1_024)
        env = meanwhile(desk, lambda: own.ask("CONFIG", "SET", "key-load-delay", 0))
        async with client(engine(desk, Retry(attempts=50), env=env), own) as r:
            assert 3_000 == len(await r.get("k1") or "")

    first = desk.of("attempt.failed")[0]
    assert ("LOADING", "redis: code LOADING") == (first.code, first.rule)


async def test_a_server_busy_with_a_script_is_asked_again_later(desk: Any, server: Redis) -> None:
    server.ask("CONFIG", "SET", "lua-time-limit", 1)
    async with (
        client(engine(desk, Retry(attempts=1_000), env=meanwhile(desk, lambda: server.ask("SCRIPT", "KILL"))), server) as r,
        anyio.create_task_group() as tasks,
    ):

        async def loop() -> None:
            with pytest.raises(redis.ResponseError, match="killed"):
                await anyio.to_thread.run_sync(server.ask, "EVAL", "while true do end", 0)

        await r.ping()
        tasks.start_soon(loop)
        with contextlib.suppress(redis.ResponseError):
            while True:
                await anyio.to_thread.run_sync(server.ask, "PING")
        assert 1 == await r.incr("n")
    assert {("BUSY", "refused")} == {(event.code, event.phase) for event in desk.of("attempt.failed")}


async def test_a_replica_refuses_a_write_and_takes_it_once_it_is_master(desk: Any, server: Redis) -> None:
    with Redis() as replica:
        replica.ask("REPLICAOF", HOST, server.port)
        async with client(engine(desk, env=meanwhile(desk, lambda: replica.ask("REPLICAOF", "NO", "ONE"))), replica) as r:
            assert 1 == await r.incr("n")

    assert [("READONLY", "refused")] == [(event.code, event.phase) for event in desk.of("attempt.failed")]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("way", ["command", "pipeline", "transaction"])
async def test_after_a_failover_the_new_master_is_found_behind_the_old_address(
    desk: Any, wire: Wire, server: Redis, way: str, single: bool
) -> None:
    """redis-py #935, #1764: a connection to a master that was demoted goes on saying READONLY for as long as it lives."""
    with Redis() as new:

        async def write(r: Any) -> Any:
            if way == "command":
                return await r.incr("n")
            if way == "pipeline":
                return (await r.pipeline().incr("n").execute())[0]
            return (await r.transaction(lambda pipe: pipe.multi() or pipe.incr("n"), "n"))[0]

        async with client(engine(desk), wire, single_connection_client=single) as r:
            assert 1 == await write(r)
            server.ask("REPLICAOF", HOST, new.port)
            wire.target = new.port
            try:
                assert 1 == await write(r)
            finally:
                server.ask("REPLICAOF", "NO", "ONE")
        assert "1" == new.ask("GET", "n")


async def test_a_server_that_is_full_refuses_once_and_keeps_its_circuit_closed(desk: Any, server: Redis) -> None:
    server.ask("SET", "a", "1")
    async with client(engine(desk, Retry(), CircuitBreaker(failure_ratio=1, minimum=1)), server) as r:
        await r.ping()
        server.ask("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")
        with pytest.raises(redis.ResponseError):
            await r.set("b", "2")

        assert "1" == await r.get("a")
    assert [("OOM", "fail_fast")] == [(event.code, event.action) for event in desk.of("attempt.failed")]
    assert 1 == server.calls("set") - 1


async def test_a_server_without_enough_replicas_is_asked_again(desk: Any, server: Redis) -> None:
    server.ask("CONFIG", "SET", "min-replicas-to-write", 1)
    env = meanwhile(desk, lambda: server.ask("CONFIG", "SET", "min-replicas-to-write", 0))
    async with client(engine(desk, env=env), server) as r:
        assert 1 == await r.incr("n")

    assert ["NOREPLICAS"] == [event.code for event in desk.of("attempt.failed")]


@pytest.fixture
def users(server: Redis) -> Iterator[Redis]:
    server.ask("ACL", "SETUSER", "reader", "on", ">secret", "~*", "+get", "+hello", "+client")
    yield server
    server.ask("ACL", "DELUSER", "reader")


async def test_a_credential_that_is_refused_is_tried_once(desk: Any, users: Redis) -> None:
    """An account is locked by trying, and a server is not broken for it."""
    of = engine(desk, Retry(), CircuitBreaker(failure_ratio=1, minimum=1))
    async with client(of, users, username="reader", password="wrong") as r:
        for _ in range(2):
            with pytest.raises(redis.AuthenticationError):
                await r.get("a")
    async with client(of, users, username="reader", password="secret") as r:
        assert await r.get("a") is None
        with pytest.raises(redis.NoPermissionError if hasattr(redis, "NoPermissionError") else redis.ResponseError):
            await r.set("a", 1)

    assert ["WRONGPASS", "WRONGPASS", "NOPERM"] == [event.code for event in desk.of("attempt.failed")]
    assert [] == desk.of("breaker.opened")


async def test_who_says_no_password_is_told_once(desk: Any) -> None:
    with Redis() as own:
        own.stop()
        own.start(requirepass="secret")
        async with client(engine(desk), own, protocol=2) as r:
            with pytest.raises(redis.AuthenticationError):
                await r.get("a")

    assert ["NOAUTH"] == [event.code for event in desk.of("attempt.failed")]


async def test_a_server_with_too_many_clients_is_asked_again_later(desk: Any, server: Redis) -> None:
    """It refuses the connection; the client may not come as far as to read why."""
    most = int(server.ask("CONFIG GET", "maxclients")["maxclients"])
    with socket.create_connection((HOST, server.port)) as held, socket.create_connection((HOST, server.port)) as admin:
        held.sendall(b"PING\r\n")
        held.recv(16)
        admin.sendall(b"CONFIG SET maxclients 1\r\n")
        admin.recv(16)

        def make_room() -> None:
            admin.sendall(b"CONFIG SET maxclients %d\r\n" % most)
            admin.recv(16)

        async with client(engine(desk, env=meanwhile(desk, make_room)), server) as r:
            assert 1 == await r.incr("n")

    assert ["not_sent"] == [event.phase for event in desk.of("attempt.failed")]


@pytest.mark.parametrize("kind", [redis.asyncio.ConnectionPool, redis.asyncio.BlockingConnectionPool])
async def test_our_own_pool_that_is_used_up_is_asked_again_and_blames_nobody(desk: Any, server: Redis, kind: Any) -> None:
    pool = kind(host=HOST, port=server.port, max_connections=1, **({} if kind is redis.asyncio.ConnectionPool else {"timeout": 0.01}))
    of = engine(desk, Retry(), CircuitBreaker(failure_ratio=1, minimum=1), env=meanwhile(desk, lambda: server.ask("RPUSH", "q", "x")))
    async with CLIENT.from_pool(of, pool) as r, anyio.create_task_group() as tasks:
        tasks.start_soon(r.blpop, "q")
        await seen(server, "blpop")

        while await r.get("a") is not None:
            pass
    assert {("MaxConnectionsError", "not_sent")} == {(event.code, event.phase) for event in desk.of("attempt.failed")}
    assert [] == desk.of("breaker.opened")


# Scripts.


async def test_a_script_that_failed_with_words_of_its_own_is_not_run_again(desk: Any, server: Redis) -> None:
    """It may have written before; nothing in the answer tells."""
    rules = RULES.extend("mine", by_code={"MYERR": retry(), "OOM": retry()})
    async with client(engine(desk, rules=rules), server) as r:
        for word in ("MYERR", "OOM"):
            with pytest.raises(redis.ResponseError):
                await r.eval(f"redis.call('INCR', 'n') return redis.error_reply('{word} done')", 0)

    assert ("2", 2) == (server.ask("GET", "n"), server.calls("eval"))


async def test_a_script_that_never_began_is_run_again(desk: Any, server: Redis) -> None:
    server.ask("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")
    rules = RULES.extend("mine", by_code={"NOSCRIPT": retry()})
    script = server.ask("SCRIPT", "LOAD", "return 1")
    server.ask("SCRIPT", "FLUSH")
    env = meanwhile(desk, lambda: server.ask("SCRIPT", "LOAD", "return 1"))
    async with client(engine(desk, rules=rules, env=env), server) as r:
        assert 1 == await r.evalsha(script, 0)


async def test_redis_pys_own_scripts_load_themselves(desk: Any, server: Redis) -> None:
    server.ask("SCRIPT", "FLUSH")
    async with client(engine(desk), server) as r:
        twice = r.register_script("return ARGV[1] * 2")

        assert 42 == await twice(args=[21])
        pipe = r.pipeline()
        await twice(args=[4], client=pipe)
        server.ask("SCRIPT", "FLUSH")
        assert [8] == await pipe.execute()


async def test_redis_pys_locks_hold(desk: Any, wire: Wire, server: Redis) -> None:
    """A lock that was taken while the answer got lost is not taken by asking again."""
    async with client(engine(desk), wire) as r:
        async with r.lock("lock", timeout=10):
            assert not await r.lock("lock", timeout=10, blocking=False).acquire()
        wire.lose[b"NX"] = 1
        with pytest.raises(redis.ConnectionError):
            await r.lock("lock", timeout=10).acquire()

    assert server.ask("EXISTS", "lock")


# Limits.


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("limit", [AttemptTimeout(0.05), Deadline(0.05)])
async def test_nobody_gets_the_answer_to_a_command_that_was_cut(desk: Any, server: Redis, limit: Any, single: bool) -> None:
    """redis-py #2624, #2665: the answers of a connection were off by one, one customer's for the next."""
    server.ask("MSET", "a", "a's", "b", "b's")
    async with client(engine(desk, limit), server, single_connection_client=single, max_connections=1) as r:
        await r.ping()
        server.ask("CLIENT", "PAUSE", 60_000, "WRITE")
        with pytest.raises(RedisAttemptTimedOut if isinstance(limit, AttemptTimeout) else RedisDeadlineExceeded) as caught:
            await r.getdel("a")
        server.ask("CLIENT", "UNPAUSE")

        assert "b's" == await r.getdel("b")
    assert isinstance(caught.value, redis.TimeoutError)
    assert isinstance(caught.value, AttemptTimedOut | DeadlineExceeded)


@pytest.mark.parametrize("kind", [redis.asyncio.ConnectionPool, redis.asyncio.BlockingConnectionPool])
@pytest.mark.parametrize("way", ["command", "pipeline"])
async def test_commands_that_are_cut_use_up_no_pool(desk: Any, server: Redis, kind: Any, way: str) -> None:
    """redis-py #4121."""
    pool = kind(host=HOST, port=server.port, max_connections=2)
    async with CLIENT.from_pool(engine(desk, AttemptTimeout(0.02)), pool) as r:
        server.ask("CLIENT", "PAUSE", 60_000, "WRITE")

        async def cut() -> None:
            with pytest.raises(redis.RedisError):
                await (r.incr("n") if way == "command" else r.pipeline().incr("n").execute())

        for _ in range(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(cut)
                tasks.start_soon(cut)
        server.ask("CLIENT", "UNPAUSE")

        plain = CLIENT(engine(desk), connection_pool=pool)
        assert [1, 2] == [await plain.incr("n"), await plain.incr("n")]


async def test_a_read_that_was_cut_is_sent_again_and_a_write_that_adds_up_is_not(desk: Any, server: Redis) -> None:
    env = meanwhile(desk, lambda: server.ask("CLIENT", "UNPAUSE"))
    async with client(engine(desk, Retry(), AttemptTimeout(0.05), env=env), server) as r:
        await r.ping()
        server.ask("CLIENT", "PAUSE", 60_000, "WRITE")
        assert await r.set("a", 1)
        server.ask("CLIENT", "PAUSE", 60_000, "WRITE")
        with pytest.raises(RedisAttemptTimedOut):
            await r.incr("n")

    assert [("SET", "unknown"), ("INCRBY", "unknown")] == [(event.operation, event.phase) for event in desk.of("attempt.failed")]


async def test_a_pop_gives_up_before_it_is_cut(desk: Any, wire: Wire, server: Redis) -> None:
    """What it took in that moment would be lost."""
    async with client(Engine([AttemptTimeout(0.3)], rules=RULES), wire) as r:
        await r.ping()
        for wait in (0, 30):
            with pytest.raises(RedisAttemptTimedOut):
                await r.blpop("q", timeout=wait)
        assert await r.brpop("q", timeout=0.01) is None
        server.ask("RPUSH", "q", "x", "y")
        assert ("q", "x") == await r.blpop(["q"], timeout=0)
        assert ["q", ["y"]] == await r.blmpop(0, 1, "q", direction="LEFT")
        with pytest.raises(redis.ResponseError, match="wrong number"):
            await r.execute_command("BLPOP")
        with pytest.raises(redis.ResponseError, match="timeout"):
            await r.execute_command("BLPOP", "q", "soon")

    waits = [data.split(b"\r\n")[-2] for data in wire.sent if b"BLPOP" in data or b"BRPOP" in data]
    assert [0.27, 0.27, 0.01, 0.27] == pytest.approx([float(wait) for wait in waits[:4]])


async def test_a_pop_without_a_limit_waits_as_long_as_it_likes(desk: Any, wire: Wire, server: Redis) -> None:
    async with client(engine(desk), wire) as r, anyio.create_task_group() as tasks:

        async def push() -> None:
            await seen(server, "blpop")
            server.ask("RPUSH", "q", "x")

        tasks.start_soon(push)
        assert ("q", "x") == await r.blpop("q")
    assert any(b"BLPOP" in data and data.endswith(b"$1\r\n0\r\n") for data in wire.sent)


# Pipelines.

PIPELINES: list[tuple[str, Callable[[Any], Any], bool]] = [
    ("reads", lambda p: p.get("a").hgetall("h"), True),
    ("writes", lambda p: p.set("a", 1).hset("h", "f", 1).expire("h", 10), True),
    ("writes and then reads", lambda p: p.sadd("s", 1).scard("s"), True),
    ("taking a list as a whole", lambda p: p.lrange("l", 0, -1).delete("l"), False),
    ("counting", lambda p: p.set("a", 1).incr("n"), False),
    ("claiming", lambda p: p.set("a", 1, nx=True).expire("a", 10), False),
]


@pytest.mark.parametrize("transaction", [False, True])
@pytest.mark.parametrize("case", PIPELINES, ids=lambda case: case[0])
async def test_a_pipeline_whose_answers_got_lost_is_sent_again_as_a_whole_or_not_at_all(
    desk: Any, wire: Wire, case: Any, transaction: bool
) -> None:
    _, queue, repeated = case
    async with client(engine(desk), wire) as r:
        await r.ping()
        before = len(wire.sent)
        pipe = r.pipeline(transaction=transaction)
        queue(pipe)
        queued = len(pipe)
        wire.lose[b"\r\n"] = 1
        if repeated:
            assert queued == len(await pipe.execute())
        else:
            with pytest.raises(redis.ConnectionError):
                await pipe.execute()

    operations = wire.sent[before:]
    assert (2 if repeated else 1) == len([data for data in operations if b"CLIENT" not in data and b"HELLO" not in data])
    assert ["MULTI" if transaction else "PIPELINE"] == [event.operation for event in desk.of("attempt.failed")]


async def test_a_pipeline_is_empty_afterwards_however_it_ended(desk: Any, server: Redis) -> None:
    of = engine(desk, CircuitBreaker(failure_ratio=1, minimum=1), Deadline(5))
    async with client(of, server) as r:
        pipe = r.pipeline()
        assert [True, 2] == await pipe.set("a", 1).incr("a").execute()
        assert 0 == len(pipe)
        assert [] == await pipe.execute()
        assert [True] == await pipe.set("b", 1).execute()
        with pytest.raises(redis.ResponseError):
            await pipe.lpush("a", 1).execute()
        assert 0 == len(pipe)
    async with client(of, attrs.make_class("Nowhere", ["port"])(1)) as nowhere:
        pipe = nowhere.pipeline()
        for kind in (redis.ConnectionError, RedisCircuitOpen):
            with pytest.raises(kind):
                await pipe.incr("a").execute()
            assert 0 == len(pipe)


async def test_a_pipeline_that_was_never_sent_is_sent_later(desk: Any) -> None:
    with Redis() as own:
        own.stop()
        async with client(engine(desk, env=meanwhile(desk, own.start)), own) as r:
            assert [1, 2] == await r.pipeline().incr("n").incr("n").execute()


async def test_a_transaction_that_was_discarded_is_sent_again(desk: Any, server: Redis) -> None:
    server.ask("REPLICAOF", HOST, 1)
    env = meanwhile(desk, lambda: server.ask("REPLICAOF", "NO", "ONE"))
    async with client(engine(desk, env=env), server) as r:
        assert [1] == await r.pipeline().incr("n").execute()

    assert [("READONLY", "refused")] == [(event.code, event.phase) for event in desk.of("attempt.failed")]


async def test_a_pipeline_one_command_of_which_was_refused_is_not_sent_again(desk: Any, server: Redis) -> None:
    """The others were carried out."""
    rules = RULES.extend("mine", by_error={"redis.ResponseError": retry()}, by_code={"WRONGTYPE": retry()})
    server.ask("SET", "a", "1")
    async with client(engine(desk, rules=rules), server) as r:
        with pytest.raises(redis.ResponseError):
            await r.pipeline(transaction=False).incr("n").lpush("a", 1).execute()
        answers = await r.pipeline(transaction=False).incr("n").lpush("a", 1).execute(raise_on_error=False)

    assert (2, redis.ResponseError) == (answers[0], type(answers[1]))


async def test_a_pipeline_that_watches_hangs_on_its_connection(desk: Any, server: Redis) -> None:
    """redis-py's own, then."""
    async with client(engine(desk, name="idle"), server) as r:
        async with r.pipeline() as pipe:
            await pipe.watch("n")
            assert await pipe.get("n") is None
            pipe.multi()
            pipe.incr("n")
            assert [1] == await pipe.execute()
            await pipe.watch("n")
            server.ask("INCR", "n")
            pipe.multi()
            pipe.incr("n")
            with pytest.raises(redis.WatchError):
                await pipe.execute()

    assert [] == desk.of("attempt.failed")


# Transactions.


async def test_a_transaction_begins_anew_for_as_long_as_others_are_faster(desk: Any, server: Redis) -> None:
    others = iter([True, True, False])

    async def double(pipe: Any) -> str:
        value = int(await pipe.get("n") or 1)
        if next(others):
            server.ask("INCR", "n")
        pipe.multi()
        pipe.set("n", value * 2)
        return "doubled"

    async with client(engine(desk), server) as r:
        assert "doubled" == await r.transaction(double, "n", value_from_callable=True, watch_delay=0.5)
        assert "4" == await r.get("n")
        assert [True] == await r.transaction(lambda pipe: pipe.set("m", 1))
    assert [0.5, 0.5] == desk.slept


async def test_a_transaction_whose_answer_got_lost_is_no_reason_to_begin_anew(desk: Any, wire: Wire, server: Redis) -> None:
    """redis-py takes a lost connection for a key that was changed."""

    def count(pipe: Any) -> None:
        pipe.multi()
        pipe.incr("n")

    wire.lose[b"EXEC"] = 1
    async with client(engine(desk), wire) as r:
        with pytest.raises(redis.WatchError) as caught:
            await r.transaction(count, "n")

    assert "1" == server.ask("GET", "n")
    assert [("TRANSACTION", "unknown")] == [(event.operation, event.phase) for event in desk.of("attempt.failed")]
    assert isinstance(caught.value.__context__, redis.ConnectionError)


async def test_a_transaction_that_never_began_is_begun_again(desk: Any) -> None:
    with Redis() as own:
        own.stop()
        async with client(engine(desk, env=meanwhile(desk, own.start)), own) as r:
            assert [1] == await r.transaction(lambda pipe: pipe.multi() or pipe.incr("n"), "n")


# What is no call.


async def test_a_subscription_outlives_its_server_by_redis_pys_own_retries(desk: Any) -> None:
    with Redis() as own:
        async with client(engine(desk), own, retry=OwnRetry(ConstantBackoff(0.01), 1_000), max_connections=2) as r:
            async with r.pubsub(ignore_subscribe_messages=True) as pubsub:
                await pubsub.subscribe("news")
                await anyio.to_thread.run_sync(own.stop)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(in_thread, own.start)
                    heard: Any = None
                    while heard is None:
                        with contextlib.suppress(*TOO_EARLY):
                            heard = await pubsub.get_message(timeout=0.05)
                        with contextlib.suppress(redis.ConnectionError):
                            await r.publish("news", "hello")
            assert "hello" == heard["data"]
            back = r.connection_pool._available_connections
    assert {0} == {connection.retry.get_retries() for connection in back}  # in the pool each is one like the others


async def test_a_subscription_at_a_server_that_is_not_there_yet_waits_for_it(desk: Any) -> None:
    with Redis() as own:
        own.stop()
        async with client(engine(desk), own, retry=OwnRetry(ConstantBackoff(0.01), 1_000)) as r, r.pubsub() as pubsub:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(in_thread, own.start)
                await pubsub.subscribe("news")


@pytest.mark.parametrize("made", [CLIENT.from_url, lambda of, url: CLIENT(of, port=1, host=HOST, retry=None)])
async def test_a_subscription_of_a_client_without_retries_tries_once(desk: Any, made: Any) -> None:
    async with made(engine(desk), f"redis://{HOST}:1") as r, r.pubsub() as pubsub:
        with pytest.raises(redis.ConnectionError):
            await pubsub.subscribe("news")


async def test_monitor_goes_to_redis_py(desk: Any, server: Redis) -> None:
    async with client(engine(desk), server) as r, r.monitor() as monitor:
        server.ask("GET", "seen")
        while "GET seen" != (await monitor.next_command())["command"]:
            pass


# Ways to make a client.


async def test_clients_made_of_urls_and_pools_close_them(desk: Any, server: Redis) -> None:
    pool = redis.asyncio.ConnectionPool(host=HOST, port=server.port)
    for made in (
        CLIENT.from_url(engine(desk), server.url + "/0", decode_responses=False),
        CLIENT.from_pool(engine(desk), pool),
    ):
        async with made as r:
            assert await r.set("a", "1")
            assert b"1" == await r.get("a")
            connections = r.connection_pool._available_connections
        assert [False] == [connection.is_connected for connection in connections]


async def test_a_client_of_one_connection_keeps_it(desk: Any, server: Redis) -> None:
    async with client(engine(desk), server) as r:
        async with r.client() as one:
            assert isinstance(one, ResilientRedis)
            assert await one.client_id() == await one.client_id()
            await one.set("a", 1)
            with pytest.raises(redis.ResponseError):
                await one.lpush("a", 1)
        async with CLIENT.from_url(engine(desk), server.url, single_connection_client=True) as one:
            assert await one.client_id() == await one.client_id()

    assert ["LPUSH"] == [event.operation for event in desk.of("attempt.failed")]
    assert isinstance(r.pipeline(), ResilientPipeline)


# The table of commands, and the server's own.


def flags(server: Redis) -> dict[str, set[str]]:
    """What the server says of each command it knows, subcommands included."""
    known: dict[str, set[str]] = {}
    for name, about in server.ask("COMMAND").items():
        known[name.upper()] = {str(flag) for flag in about["flags"]}
        for sub in about.get("subcommands", []):
            known[str(sub[0]).upper().replace("|", " ")] = {str(flag) for flag in sub[2]}
    return known


def test_what_we_take_for_a_read_is_one_to_the_server(server: Redis) -> None:
    known = flags(server)
    stores = {command for command, conditions in CONDITIONS.items() if "STORE" in conditions}

    if server.ask("INFO", "server")["redis_version"].startswith("7."):  # later ones know more
        assert {command for command, told in known.items() if "readonly" in told} <= READS
    assert stores == {command for command in READS & set(known) if "write" in known[command]}
    assert all("write" in known[command] for command in WRITES & set(known) - {"CONFIG SET", "SCRIPT LOAD"})


# Our own errors.

TWINS = {
    "RedisRejected": (Rejected(operation="op", policy="Bulkhead", retry_after=1.5), redis.ConnectionError),
    "RedisCircuitOpen": (CircuitOpen(operation="op", key="k", era="half_open", tripped_by="x", retry_after=3), redis.ConnectionError),
    "RedisDeadlineExceeded": (DeadlineExceeded(operation="op", seconds=30.0, attempts=2, code="LOADING"), redis.TimeoutError),
    "RedisAttemptTimedOut": (AttemptTimedOut(operation="op", seconds=10.0, attempt=3), redis.TimeoutError),
    "RedisRefreshFailed": (RefreshFailed(operation="op", reason="timeout", detail="KeyError"), redis.ConnectionError),
}


@pytest.mark.parametrize("name", TWINS)
def test_a_twin_belongs_to_both_families_and_says_the_same(name: str) -> None:
    plain, family = TWINS[name]
    twin: Any = getattr(adapter, name)(**{fact: getattr(plain, fact) for fact in plain.facts})
    keep_history(twin, ((1, "retry", "rule", "Busy", None, "LOADING", "unknown", None, 0.1),))

    assert isinstance(twin, type(plain))
    assert isinstance(twin, family)
    assert str(plain) == str(twin)
    assert name in repr(twin)
    assert (read(plain).phase, RULES.classify(read(plain))) == (read(twin).phase, RULES.classify(read(twin)))
    for again in (copy.copy(twin), copy.deepcopy(twin), pickle.loads(pickle.dumps(twin))):
        assert (type(twin), str(twin), history(twin)) == (type(again), str(again), history(again))


async def test_the_facts_of_our_errors_survive(desk: Any, server: Redis) -> None:
    async with client(engine(desk, Deadline(0.05)), server) as r:
        await r.ping()
        server.ask("CLIENT", "PAUSE", 60_000, "WRITE")
        with pytest.raises(ResilienceError) as caught:
            await r.incr("MARKER")

    error: Any = caught.value
    assert (0.05, "INCRBY", 1) == (error.seconds, error.operation, error.attempts)
    assert "MARKER" not in str(error)
    assert Phase.UNKNOWN is read(error).phase
