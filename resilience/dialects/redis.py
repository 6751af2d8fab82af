"""
Redis, Valkey and what else answers as they do: what each word that begins an error reply calls for, and which commands may be repeated.

Sources, as of 2026: the shared error replies in the server's ``server.c`` and ``script.c`` (7.0); redis.io's pages on replication, memory
optimization, security, ``CLIENT PAUSE``, ``SCRIPT KILL``, the cluster specification and each command; the flags that ``COMMAND`` tells.
The codes are as `resilience.reading.redis_reply` reads them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from resilience.dialects import http
from resilience.outcome import Blame, fail_fast, retry

__all__ = ["CONDITIONS", "READS", "RULES", "SEVERAL", "WRITES", "may_be_repeated"]

_ASKED = fail_fast()
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_THEIRS = fail_fast(blames=Blame.PEER)
_BUSY = retry(throttled=True)
_POOL = retry(blames=Blame.CALLER)  # redis-py's own is used up: that passes, and says nothing about the peer

# Which commands may be repeated where nobody knows whether they were carried out.

READS: Final = frozenset(
    # Flagged "readonly": strings, keys, bits ...
    "GET MGET GETRANGE SUBSTR STRLEN LCS EXISTS TYPE TTL PTTL EXPIRETIME PEXPIRETIME DUMP TOUCH KEYS SCAN RANDOMKEY DBSIZE SORT_RO "
    "GETBIT BITCOUNT BITPOS BITFIELD_RO LOLWUT "
    # ... hashes, lists, sets ...
    "HGET HMGET HGETALL HKEYS HVALS HLEN HSTRLEN HEXISTS HRANDFIELD HSCAN HTTL HPTTL HEXPIRETIME HPEXPIRETIME "
    "LINDEX LLEN LPOS LRANGE SCARD SISMEMBER SMISMEMBER SMEMBERS SRANDMEMBER SSCAN SDIFF SINTER SINTERCARD SUNION "
    # ... sorted sets, HyperLogLog, places, streams, scripts that only read.
    "ZCARD ZCOUNT ZLEXCOUNT ZSCORE ZMSCORE ZRANK ZREVRANK ZRANDMEMBER ZSCAN ZDIFF ZINTER ZINTERCARD ZUNION "
    "ZRANGE ZRANGEBYSCORE ZRANGEBYLEX ZREVRANGE ZREVRANGEBYSCORE ZREVRANGEBYLEX PFCOUNT "
    "GEODIST GEOHASH GEOPOS GEOSEARCH GEORADIUS_RO GEORADIUSBYMEMBER_RO XLEN XRANGE XREVRANGE XREAD XPENDING "
    "EVAL_RO EVALSHA_RO FCALL_RO "
    # Flagged "write", since they can store what they find.
    "SORT GEORADIUS GEORADIUSBYMEMBER "
    # About the server: they have no such flag, and change nothing.
    "PING ECHO TIME INFO LASTSAVE ROLE COMMAND".split()
) | frozenset(
    (
        *("ACL CAT", "ACL GETUSER", "ACL LIST", "ACL LOG", "ACL USERS", "ACL WHOAMI"),
        *("CLIENT GETNAME", "CLIENT ID", "CLIENT INFO", "CLIENT LIST", "CLIENT TRACKINGINFO"),
        *("CLUSTER INFO", "CLUSTER KEYSLOT", "CLUSTER MYID", "CLUSTER NODES", "CLUSTER SHARDS", "CLUSTER SLOTS"),
        *("COMMAND COUNT", "COMMAND DOCS", "COMMAND GETKEYS", "COMMAND INFO", "COMMAND LIST", "CONFIG GET"),
        *("FUNCTION DUMP", "FUNCTION LIST", "FUNCTION STATS", "LATENCY HISTORY", "LATENCY LATEST", "MEMORY STATS", "MEMORY USAGE"),
        *("MODULE LIST", "OBJECT ENCODING", "OBJECT FREQ", "OBJECT IDLETIME", "OBJECT REFCOUNT"),
        *("PUBSUB CHANNELS", "PUBSUB NUMPAT", "PUBSUB NUMSUB", "PUBSUB SHARDCHANNELS", "PUBSUB SHARDNUMSUB"),
        *("SCRIPT EXISTS", "SLOWLOG GET", "SLOWLOG LEN", "XINFO CONSUMERS", "XINFO GROUPS", "XINFO STREAM"),
    )
)
"""Commands that change nothing."""

WRITES: Final = frozenset(
    (
        *"SET MSET SETEX PSETEX SETRANGE GETEX DEL UNLINK EXPIRE PEXPIRE EXPIREAT PEXPIREAT PERSIST".split(),
        *"HSET HMSET HDEL HSETEX HGETEX HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HPERSIST".split(),
        *"SADD SREM ZADD ZREM ZREMRANGEBYSCORE ZREMRANGEBYLEX PFADD GEOADD XACK XDEL".split(),
        *("CONFIG SET", "SCRIPT LOAD"),
    )
)
"""
Commands after which things are as their arguments say, whatever was before: sent twice, they have done no more than sent once.

What they *answer* may be about the repeat: a ``DEL`` that is repeated removes nothing the second time, and says 0.  Who takes such a count
for a claim ("I removed it, so it is mine") is better off with an error: ``engine.using(repeatable=False)``.

Left out are those whose effect adds up (INCR, LPUSH, XADD, PUBLISH), takes something away (LPOP, GETDEL, ZREMRANGEBYRANK), depends on
what is there (APPEND, RENAME, COPY, BITOP, ZUNIONSTORE, LSET) or wins a race by its answer (SETNX, SMOVE); scripts and functions; and
whatever is not known here, commands of modules included.
"""

_FIRST = frozenset({"NX"})  # "only if nobody was before us": the repeat meets ourselves
_STORE = frozenset({"STORE", "STOREDIST"})
CONDITIONS: Final[Mapping[str, frozenset[str]]] = {
    # GET answers what was there before; IFEQ and its kin compare with it (Valkey 8.1, Redis 8.4).
    "SET": _FIRST | {"GET", "IFEQ", "IFNE", "IFDEQ", "IFDNE"},
    "ZADD": _FIRST | {"INCR"},
    "GEOADD": _FIRST,
    **dict.fromkeys("EXPIRE PEXPIRE EXPIREAT PEXPIREAT HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT".split(), _FIRST),
    "HSETEX": frozenset({"FNX"}),
    **dict.fromkeys("SORT GEORADIUS GEORADIUSBYMEMBER".split(), _STORE),
    "XREAD": frozenset({"$"}),  # "from now on": the repeat's now is later
}
"""Commands of `READS` and `WRITES`, and the words among their arguments with which they belong to neither."""

SEVERAL: Final = frozenset({"MULTI", "PIPELINE"})
"""What an adapter calls several commands sent at once, in a transaction or not."""


def may_be_repeated(command: str, conditions: str = "") -> bool:
    """
    Whether *command* may be sent again where nobody knows whether it was carried out.

    Of several commands sent at once each must be of that kind, and no read may stand before a write: answered again, ``LRANGE`` and then
    ``DEL`` would find nothing.

    Args:
        command: Its name in capitals, with that of the subcommand: ``"CONFIG GET"``.  One of `SEVERAL` for several.
        conditions: Which of its `CONDITIONS` were among its arguments, separated by spaces.  For several commands one entry for each in its
            order, separated by commas: ``"SET,SET NX,CONFIG GET"``.
    """
    if command not in SEVERAL:
        return not conditions and (command in READS or command in WRITES)
    return _in_order(conditions.split(","))


def _in_order(steps: Iterable[str]) -> bool:
    """An entry with a condition is no command's name, and so in neither table."""
    read = False
    for step in steps:
        if step in WRITES and not read:
            read = step in _ANSWERING
        elif step in READS:
            read = True
        else:
            return False
    return True


_ANSWERING = frozenset({"GETEX", "HGETEX"})  # writes that answer what they found


RULES: Final = http.RULES.extend(
    "redis",
    by_code={
        # The server is there, but not yet, or not now, for commands: asking again in a few milliseconds helps nobody.
        "LOADING": _BUSY,  # reads its data set into memory after a start
        "BUSY": _BUSY,  # runs a script for longer than busy-reply-threshold
        # Replication.  A master that was demoted says READONLY to whoever is still connected to it after a failover: the adapter connects
        # anew, which asks for the address anew.
        "READONLY": retry(),
        "MASTERDOWN": retry(),  # replica-serve-stale-data no, and the link to the master is down
        "NOREPLICAS": retry(),  # min-replicas-to-write
        # Cluster.  A slot is uncovered, or on its way; the client that follows MOVED and ASK is redis-py's RedisCluster.
        "CLUSTERDOWN": retry(),
        "TRYAGAIN": retry(),
        "MOVED": _ASKED,
        "ASK": _ASKED,
        "CROSSSLOT": _ASKED,
        # Writes are refused, and reads are not.  Memory is a quota, and full for everybody's reason (maxmemory-policy noeviction); a disk
        # that cannot be written to is the server's own trouble.  Neither passes in seconds.
        "OOM": _ASKED,
        "MISCONF": _THEIRS,
        # Security.  A connection that is made anew asks a credential provider anew; that is redis-py's business.
        "NOAUTH": _KEY,
        "WRONGPASS": _KEY,
        "NOPERM": _KEY,
        "DENIED": _THEIRS,  # protected mode: nobody from another machine may do anything
        # The command itself.
        "WRONGTYPE": _ASKED,
        "NOSCRIPT": _ASKED,  # redis-py's Script loads it and asks again
        "EXECABORT": _ASKED,
        "NOPROTO": _ASKED,
        "BUSYKEY": _ASKED,
        "BUSYGROUP": _ASKED,
        "NOGROUP": _ASKED,
        "NOTBUSY": _ASKED,
        "UNKILLABLE": _ASKED,
        "INVALIDOBJ": _ASKED,
        "IOERR": _ASKED,  # MIGRATE and its target
        "MaxConnectionsError": _POOL,
    },
    by_message={
        # An ERR among many.  The connection was refused, not the command: there are too many clients.
        "max number of clients": _BUSY,
        # UNBLOCKED, said to blocking commands: the server has become a replica; somebody has sent CLIENT UNBLOCK ... ERROR.
        "instance state changed": retry(),
        "unblocked via client unblock": _ASKED,
    },
    by_error={
        "redis.ConnectionError": retry(),
        "redis.TimeoutError": retry(),
        "redis.ResponseError": _ASKED,  # ERR, and what only a module or a script knows
        "redis.InvalidResponse": _THEIRS,  # whatever answers there does not speak the protocol
        "redis.WatchError": retry(blames=Blame.CALLER),  # somebody else was faster: read anew, and so repeat the function as a whole
    },
    creates_nothing=may_be_repeated,
)
"""Redis's error replies, and redis-py's exceptions without one.  A command of neither table is repeated only if it did nothing."""
