"""
An engine inside redis-py's asyncio client.

    from resilience import AttemptTimeout, CircuitBreaker, Deadline, Engine, Retry
    from resilience.adapters.redis import ResilientRedis
    from resilience.dialects.redis import RULES

    engine = Engine([Deadline(5), Retry(attempts=4), CircuitBreaker(), AttemptTimeout(1)], rules=RULES)
    client = ResilientRedis.from_url(engine, "redis://localhost:6379/0")
    await client.set("greeting", "hello")

    execute_command ─┐
    pipeline.execute ┼▶ Engine ─▶ attempt ─▶ redis-py's own: pool, handshake, command, reply
    transaction ─────┘

One command is one call, and so is one pipeline.  redis-py repeats commands on its own, by default up to ten times and whatever they do:
that is off here.  A command whose connection was lost is repeated only if the dialect knows that it does no more when it is sent twice.

What is no call of its own goes to redis-py as it is: Pub/Sub and ``monitor``, which are streams, and a pipeline from its ``WATCH`` on,
which hangs on its one connection (`ResilientRedis.transaction` makes one call of the whole).  ``RedisCluster`` is another client, and not
served.

Read in redis-py 6.2 and 8.1: ``asyncio/client.py`` (a pipeline is emptied however its ``execute`` ends; a connection lost under ``WATCH``
becomes a `WatchError`), ``asyncio/connection.py`` (a read that is cancelled closes its connection, so that nobody gets the answer to a
command that was given up), ``asyncio/retry.py``.
"""

# redis-py's own types are unfinished:
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import math
import warnings
from collections.abc import Awaitable, Callable
from typing import Any, Final, Self, TypeAlias, cast

import redis.asyncio
from redis.asyncio.client import Pipeline, PubSub
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from resilience import errors
from resilience.adapters._engines import checked_engine, takes_engine
from resilience.adapters._twins import Twins, translating
from resilience.call import Call, current
from resilience.dialects.redis import CONDITIONS, READS, WRITES
from resilience.engine import Engine
from resilience.outcome import Phase
from resilience.reading import redis_reply

__all__ = [
    "RedisAttemptTimedOut",
    "RedisCircuitOpen",
    "RedisDeadlineExceeded",
    "RedisRefreshFailed",
    "RedisRejected",
    "ResilientPipeline",
    "ResilientRedis",
]


# Our own errors, in redis-py's family.

# redis-py's __repr__ asks every error for it, and sets it in an __init__ that ours, being an OSError first, never comes to.
_FAMILY: Final[Any] = getattr(redis.TimeoutError(), "error_type", None)


class RedisRejected(errors.Rejected, redis.ConnectionError):
    """`resilience.Rejected`, as redis-py raises it."""


class RedisCircuitOpen(errors.CircuitOpen, redis.ConnectionError):
    """`resilience.CircuitOpen`, as redis-py raises it."""


class RedisDeadlineExceeded(errors.DeadlineExceeded, redis.TimeoutError):
    """`resilience.DeadlineExceeded`, as redis-py raises it."""

    error_type = _FAMILY
    status_code = None


class RedisAttemptTimedOut(errors.AttemptTimedOut, redis.TimeoutError):
    """`resilience.AttemptTimedOut`, as redis-py raises it."""

    error_type = _FAMILY
    status_code = None


class RedisRefreshFailed(errors.RefreshFailed, redis.ConnectionError):
    """`resilience.RefreshFailed`, as redis-py raises it."""


_TWINS: Final[Twins] = {
    errors.Rejected: RedisRejected,
    errors.CircuitOpen: RedisCircuitOpen,
    errors.DeadlineExceeded: RedisDeadlineExceeded,
    errors.AttemptTimedOut: RedisAttemptTimedOut,
    errors.RefreshFailed: RedisRefreshFailed,
}


# What is asked of the server.

_Asked: TypeAlias = tuple[str, str]
"""A command's name, and the conditions among its arguments as the dialect takes them: all that anybody outside learns of a command."""

_KNOWN: Final = READS | WRITES
_CONTAINERS: Final = frozenset(
    "ACL CLIENT CLUSTER COMMAND CONFIG DEBUG FUNCTION LATENCY MEMORY MODULE OBJECT PUBSUB SCRIPT SLOWLOG XGROUP XINFO".split()
)
_LONGEST: Final = 64  # characters of a command's name
_WORD: Final = 16  # characters of a condition; what is longer is data
# A script may have written before it answers an error, and its author may choose any code.  These come before it starts.
_SCRIPTS: Final = frozenset({"EVAL", "EVALSHA", "FCALL"})
_BEFORE_SCRIPTS: Final = frozenset({"NOSCRIPT", "BUSY", "LOADING", "NOAUTH", "MASTERDOWN"})
# Where commands that take something away have the seconds for which they wait for it.
_POPS: Final = {**dict.fromkeys("BLPOP BRPOP BLMOVE BRPOPLPUSH BZPOPMIN BZPOPMAX".split(), -1), "BLMPOP": 1, "BZMPOP": 1}
_HEADWAY: Final = 0.9  # of the time left: the server is to give up before we do


def _asked(args: tuple[Any, ...]) -> _Asked:
    name = _name(args[0], args[1] if len(args) > 1 else None)
    conditions = CONDITIONS.get(name)
    if conditions is None:
        return name, ""
    words = {_upper(part) for part in args[1:]}
    return name, " ".join(sorted(conditions & words))


def _name(first: object, second: object) -> str:
    """
    The command's name in capitals, with that of the subcommand.  Never an argument: a name is logged.

    redis-py splits what is given as one string: ``execute_command("GET key")``.
    """
    if type(first) is str and first in _KNOWN:
        return first
    words = _text(first).upper().split(maxsplit=2)
    name = words[0][:_LONGEST] if words else ""
    if name not in _CONTAINERS:
        # With arguments in the same string: nobody has looked for conditions among them.
        return f"{name} ..." if words[1:] else name
    whole = f"{name} {words[1] if words[1:] else _text(second).upper()}"
    return whole[:_LONGEST] if whole in _KNOWN or words[1:] else name


def _upper(part: object) -> str:
    return _text(part).upper() if isinstance(part, str | bytes) and len(part) <= _WORD else ""


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("ascii", "replace")
    return value if isinstance(value, str) else ""


def _asked_of_several(commands: list[Any], *, in_transaction: bool) -> _Asked:
    steps: list[str] = []
    for args, _ in commands:
        step = " ".join(_asked(args)).rstrip()
        if not steps or steps[-1] != step:
            steps.append(step)
    return "MULTI" if in_transaction else "PIPELINE", ",".join(steps)


# The seams of an engine.


def _prepare(call: Call[Any]) -> None:
    client: Any = cast("Any", call.fn).__self__
    call.method, call.path = call.args[0]
    call.label = call.method
    call.peer = client._peer  # noqa: SLF001 - either class of ours has one


def _inside(engine: Engine, owner: str) -> Engine:
    checked_engine(engine, owner)
    if "redis.ConnectionError" not in engine.rules.by_error:
        warnings.warn(
            f"{owner}: the engine's rules {engine.rules.name!r} know nothing of redis-py's errors; make it with "
            f"rules=resilience.dialects.redis.RULES, or extend those",
            UserWarning,
            stacklevel=3,
        )
    return engine.view(prepare=_prepare, translate=translating(_TWINS))


async def _connect_anew(client: redis.asyncio.Redis) -> None:
    """
    Close the connections that nobody uses: a master that was demoted goes on refusing writes on them.

    A new one may find the new master behind the same address.
    """
    with contextlib.suppress(Exception):
        await client.connection_pool.disconnect(inuse_connections=False)
        if client.connection is not None:
            await client.connection.disconnect()


async def _drop_dead(client: Any) -> None:
    """
    Close the next connection if the server has closed it in the meantime, so that the command goes out on a new one.

    redis-py 8.1 looks, but not on RESP3 (its issue 4252): the command would be sent into nowhere, and nobody could tell.
    """
    free = getattr(client.connection_pool, "_available_connections", None)
    connection: Any = client.connection or (free[-1] if free else None)
    reader = getattr(connection, "_reader", None)
    if reader is not None and reader.at_eof():
        await connection.disconnect(nowait=True)


def _peer_of(pool: Any) -> str:
    """Host and port, the path of a socket, or the name by which Sentinel knows the service."""
    settings = pool.connection_kwargs
    named = settings.get("path") or getattr(pool, "service_name", None)
    return str(named) if named else f"{settings.get('host', 'localhost')}:{settings.get('port', 6379)}"


# redis-py's own retries.


def _none() -> Retry:
    return Retry(NoBackoff(), 0)


def _check_retries(pool: Any) -> None:
    """
    Refuse a pool whose connections repeat on their own.

    Raises:
        ValueError: They do.
    """
    own = pool.make_connection().retry.get_retries()
    if own:
        times = "forever" if own < 0 else f"up to {own} times"
        raise ValueError(
            f"ResilientRedis: connection_pool: repeats commands on its own, {times}, which would multiply the engine's repeats and repeat "
            f"what must not be; make the pool with retry=Retry(NoBackoff(), 0) and without retry_on_timeout and retry_on_error"
        )


class _PubSub(PubSub):
    """Pub/Sub as redis-py has it: its connection is the only one that goes on repeating on its own, for no engine repeats around it."""

    own_retry: Retry

    async def connect(self) -> None:
        if self.connection is not None:
            await super().connect()
            return
        await self.own_retry.call_with_retry(super().connect, _go_on)
        cast("Any", self.connection).retry = self.own_retry

    async def aclose(self) -> None:
        if self.connection is not None:
            self.connection.retry = _none()  # back in the pool it is one like the others
        close: Any = super().aclose
        await close()


async def _go_on(error: Exception) -> None:
    """What `Retry` is to do between two tries of a connection that was never made."""


# The clients.


class ResilientRedis(redis.asyncio.Redis):
    """
    A `redis.asyncio.Redis` each of whose commands is one call of an engine.

    redis-py's own retries are off for whatever an engine runs; Pub/Sub alone keeps those that ``retry`` asks for.  A command that was cut
    costs its connection, so that no other command gets its answer.  After ``READONLY`` the idle connections are closed, so that a repeat
    finds the new master behind the same address.

    A repeat needs a command that is known to do no more when it is sent twice, or one that did nothing; the tables are in
    `resilience.dialects.redis`.  For others say so, on the same pool: ``ResilientRedis(engine.using(repeatable=True),
    connection_pool=client.connection_pool)``.

    A command that waits for something to take away (``BLPOP`` and its kin) is told to give up shortly before a limit of the engine would
    cut it, so that nothing is taken in that moment and lost.  redis-py's ``socket_timeout`` cuts it all the same, after 5 s by default.

    Events name a command by its name alone, and the server as ``host:port``.

    Args:
        engine: An `Engine`, or a view of one (``engine.using(...)``), with the rules of `resilience.dialects.redis`.
        settings: Those of `redis.asyncio.Redis`.

    Raises:
        TypeError: No engine.
        ValueError: A ``connection_pool`` that repeats commands on its own.
    """

    @takes_engine(redis.asyncio.Redis.__init__)
    def __init__(self, engine: Engine, **settings: Any) -> None:
        self._engine = _inside(engine, "ResilientRedis")
        pool = settings.get("connection_pool")
        retry: Retry | None = settings.get("retry", _default_retry() if pool is None else None)
        self._streams_retry = _none() if retry is None else copy.deepcopy(retry)
        if pool is None:
            settings["retry"] = _none()
        else:
            _check_retries(pool)
        super().__init__(**settings)
        self._peer = _peer_of(self.connection_pool)

    @classmethod
    def from_url(cls, engine: Engine, url: str, single_connection_client: bool = False, **settings: Any) -> Self:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # the engine comes first
        """
        A client for the server at *url*, as `redis.asyncio.Redis.from_url` makes one.

        Args:
            engine: As for the class.
            url: ``redis://``, ``rediss://`` or ``unix://``.
            single_connection_client: Whether all commands take one connection.
            settings: Those of `redis.asyncio.ConnectionPool`.
        """
        pool = ConnectionPool.from_url(url, **{**settings, "retry": _none()})
        retry: Retry = settings.get("retry") or _none()
        client = cls(engine, connection_pool=pool, retry=retry, single_connection_client=single_connection_client)
        client.auto_close_connection_pool = True
        return client

    @classmethod
    def from_pool(cls, engine: Engine, connection_pool: ConnectionPool) -> Self:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # the engine comes first
        """
        A client that owns *connection_pool*, and closes it when it is closed: one of Sentinel's, say.

        Raises:
            ValueError: The pool repeats commands on its own.
        """
        client = cls(engine, connection_pool=connection_pool)
        client.auto_close_connection_pool = True
        return client

    def client(self) -> Self:
        """A client that takes one connection of the same pool for all its commands."""
        return type(self)(self._engine, connection_pool=self.connection_pool, single_connection_client=True, retry=self._streams_retry)

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """
        Send a command as one call of the engine.

        Raises:
            redis.RedisError: What the last attempt raised, or one of ours: `RedisCircuitOpen`, `RedisDeadlineExceeded` ...
        """
        return await self._engine.call(self._once, _asked(args), args, options)

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> ResilientPipeline:
        """A pipeline whose ``execute`` is one call of the engine."""
        return ResilientPipeline(self._engine, self._peer, self.connection_pool, self.response_callbacks, transaction, shard_hint)

    async def transaction(
        self,
        func: Callable[[Pipeline], Any | Awaitable[Any]],
        *watches: Any,
        shard_hint: str | None = None,
        value_from_callable: bool = False,
        watch_delay: float | None = None,
    ) -> Any:
        """
        Run *func* and what it puts into the pipeline, watching some keys, as one call of the engine.

        Begun anew for as long as somebody else changes those keys, as redis-py does it.  Where a connection is lost instead redis-py begins
        anew, too, although the transaction may have been carried out; here that is an error, and repeated only if it did nothing.

        Args:
            func: Takes the pipeline, reads from it, calls its ``multi()`` and adds commands.  It may be called several times.
            *watches: The keys.
            shard_hint: As redis-py has it.
            value_from_callable: Whether to return what *func* returned, rather than the answers.
            watch_delay: Seconds to wait before beginning anew.
        """
        settings = shard_hint, value_from_callable, watch_delay
        return await self._engine.call(self._transact, ("TRANSACTION", ""), func, watches, settings)

    def pubsub(self, **settings: Any) -> PubSub:
        """Pub/Sub as redis-py has it, outside the engine: it is a stream, and repeats by its client's ``retry``."""
        pubsub = _PubSub(self.connection_pool, event_dispatcher=cast("Any", self._event_dispatcher), **settings)
        pubsub.own_retry = copy.deepcopy(self._streams_retry)
        return pubsub

    # One attempt.

    async def _once(self, asked: _Asked, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        await _drop_dead(self)
        name = asked[0]
        send: Any = super().execute_command
        if name in _POPS:
            return await self._pop(send, _POPS[name], args, options)
        try:
            return await send(*args, **options)
        except redis.ReadOnlyError:
            await _connect_anew(self)
            raise
        except redis.ResponseError as error:
            if name in _SCRIPTS and redis_reply.read(error).code not in _BEFORE_SCRIPTS:
                current().unsafe_inside = True
            raise

    async def _pop(self, send: Any, place: int, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Wait for something to take away, but no longer than there is time."""
        call = current()
        left = min(call.cutoff, call.remaining)
        wanted = _seconds(args[place]) if len(args) > 1 else None
        if left == math.inf or wanted is None or 0 < wanted <= _HEADWAY * left:
            return await send(*args, **options)
        shortened: list[Any] = list(args)
        shortened[place] = max(0.001, _HEADWAY * left)  # 0 would be forever
        found = await send(*shortened, **options)
        if found is None:
            # It would have gone on waiting.  So do we, with nothing under way that could be lost, until we are cut.
            await self._engine.env.sleep(left)
        return found

    async def _transact(
        self,
        asked: _Asked,  # noqa: ARG002 - for `_prepare`
        func: Callable[[Pipeline], Any | Awaitable[Any]],
        watches: tuple[Any, ...],
        settings: tuple[str | None, bool, float | None],
    ) -> Any:
        await _drop_dead(self)
        try:
            return await self._transact_while_watched(func, watches, *settings)
        except redis.ReadOnlyError:
            await _connect_anew(self)
            raise

    async def _transact_while_watched(
        self,
        func: Callable[[Pipeline], Any | Awaitable[Any]],
        watches: tuple[Any, ...],
        shard_hint: str | None,
        value_from_callable: bool,
        delay: float | None,
    ) -> Any:
        async with Pipeline(self.connection_pool, self.response_callbacks, True, shard_hint) as pipe:
            while True:
                try:
                    if watches:
                        await pipe.watch(*watches)
                    value = func(pipe)
                    if inspect.isawaitable(value):
                        value = await value
                    answers = await pipe.execute()
                except redis.WatchError as error:
                    if redis_reply.read(error).phase is not Phase.REFUSED:
                        raise
                    if delay is not None and delay > 0:
                        await self._engine.env.sleep(delay)
                else:
                    return value if value_from_callable else answers


class ResilientPipeline(Pipeline):
    """
    A pipeline whose ``execute`` is one call of the engine; `ResilientRedis.pipeline` makes it.

    It is repeated as a whole: where the connection was lost, only if all its commands may be repeated and none of them writes after another
    has read.  A pipeline that has begun to ``WATCH`` hangs on its connection, and goes to redis-py as it is.
    """

    def __init__(self, engine: Engine, peer: str, *settings: Any) -> None:
        self._engine = engine
        self._peer = peer
        super().__init__(*settings)

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """
        Send what was queued, as one call of the engine.

        Raises:
            redis.RedisError: What the last attempt raised, or one of ours.
        """
        if self.watching or not self.command_stack:
            return await super().execute(raise_on_error)
        held = list(self.command_stack), set(self.scripts), self.explicit_transaction
        asked = _asked_of_several(held[0], in_transaction=self.is_transaction or self.explicit_transaction)
        try:
            return await self._engine.call(self._once, asked, held, raise_on_error)
        finally:
            empty: Any = self.reset
            await empty()  # an attempt has done that; where none was made nobody has

    async def _once(self, asked: _Asked, held: tuple[list[Any], set[Any], bool], raise_on_error: bool) -> list[Any]:  # noqa: ARG002 - for `_prepare`
        # Each attempt empties the pipeline.
        self.command_stack, self.scripts, self.explicit_transaction = list(held[0]), set(held[1]), held[2]
        await _drop_dead(self)
        try:
            return await super().execute(raise_on_error)
        except redis.ReadOnlyError:
            await _connect_anew(self)
            raise


@functools.cache
def _default_retry() -> Retry | None:
    retry: Retry | None = inspect.signature(redis.asyncio.Redis.__init__).parameters["retry"].default
    return retry


def _seconds(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
