"""Every word that begins an error reply of Redis's, what redis-py says by itself, and which commands may be sent twice."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from redis._parsers.base import BaseParser

from resilience import Action, Blame, Engine, Phase, Retry, Signal, read
from resilience.dialects.redis import CONDITIONS, READS, RULES, SEVERAL, WRITES, may_be_repeated
from resilience.testing import World, script

PARSER: Any = BaseParser
RETRY, FAIL_FAST = Action.RETRY, Action.FAIL_FAST
PEER, CALLER, CREDENTIAL = Blame.PEER, Blame.CALLER, Blame.CREDENTIAL

# The reply, action, throttled, whom it blames.  Replies: server.c, script.c, cluster.c and networking.c of Redis 7.0; meaning: redis.io.
REPLIES = [
    ("LOADING Redis is loading the dataset in memory", RETRY, True, PEER),
    ("BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", RETRY, True, PEER),
    ("ERR max number of clients reached", RETRY, True, PEER),
    ("ERR max number of clients + cluster connections reached", RETRY, True, PEER),
    ("READONLY You can't write against a read only replica.", RETRY, False, PEER),
    ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", RETRY, False, PEER),
    ("NOREPLICAS Not enough good replicas to write.", RETRY, False, PEER),
    ("CLUSTERDOWN Hash slot not served", RETRY, False, PEER),
    ("TRYAGAIN Multiple keys request during rehashing of slot", RETRY, False, PEER),
    ("UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)", RETRY, False, PEER),
    ("UNBLOCKED client unblocked via CLIENT UNBLOCK", FAIL_FAST, False, CALLER),
    ("MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", FAIL_FAST, False, PEER),
    ("DENIED Redis is running in protected mode because protected mode is enabled ...", FAIL_FAST, False, PEER),
    ("OOM command not allowed when used memory > 'maxmemory'.", FAIL_FAST, False, CALLER),
    ("NOAUTH Authentication required.", FAIL_FAST, False, CREDENTIAL),
    ("WRONGPASS invalid username-password pair or user is disabled.", FAIL_FAST, False, CREDENTIAL),
    ("ERR invalid password", FAIL_FAST, False, CREDENTIAL),
    ("NOPERM this user has no permissions to run the 'get' command", FAIL_FAST, False, CREDENTIAL),
    ("MOVED 3999 127.0.0.1:6381", FAIL_FAST, False, CALLER),
    ("ASK 3999 127.0.0.1:6381", FAIL_FAST, False, CALLER),
    ("CROSSSLOT Keys in request don't hash to the same slot", FAIL_FAST, False, CALLER),
    ("EXECABORT Transaction discarded because of previous errors.", FAIL_FAST, False, CALLER),
    ("EXECABORT Transaction discarded because of: LOADING Redis is loading the dataset in memory", RETRY, True, PEER),
    ("NOSCRIPT No matching script. Please use EVAL.", FAIL_FAST, False, CALLER),
    ("WRONGTYPE Operation against a key holding the wrong kind of value", FAIL_FAST, False, CALLER),
    ("NOPROTO unsupported protocol version", FAIL_FAST, False, CALLER),
    ("BUSYKEY Target key name already exists.", FAIL_FAST, False, CALLER),
    ("BUSYGROUP Consumer Group name already exists", FAIL_FAST, False, CALLER),
    ("NOGROUP No such key 'nostream' or consumer group 'g' in XREADGROUP with GROUP option", FAIL_FAST, False, CALLER),
    ("NOTBUSY No scripts in execution right now.", FAIL_FAST, False, CALLER),
    ("UNKILLABLE Sorry the script already executed write commands against the dataset.", FAIL_FAST, False, CALLER),
    ("INVALIDOBJ The value stored at that key is not a valid HyperLogLog", FAIL_FAST, False, CALLER),
    ("IOERR error or timeout reading from target instance", FAIL_FAST, False, CALLER),
    ("ERR value is not an integer or out of range", FAIL_FAST, False, CALLER),
    ("ERR unknown command 'foo', with args beginning with: 'bar' ", FAIL_FAST, False, CALLER),
    ("MYERR of a script's own", FAIL_FAST, False, CALLER),
]


@pytest.mark.parametrize(("reply", "action", "throttled", "blames"), REPLIES)
def test_each_reply_means_what_the_documentation_says(reply: str, action: Action, throttled: bool, blames: Blame) -> None:
    verdict = RULES.classify(read(PARSER.parse_error(reply)))

    assert (action, None, throttled, blames) == (verdict.action, verdict.attempts, verdict.throttled, verdict.blames)
    assert verdict.rule.startswith("redis: ")


def test_each_code_of_the_table_is_one_that_a_server_answers() -> None:
    answered = {read(PARSER.parse_error(reply)).code for reply, *_ in REPLIES}

    assert {code for code in RULES.by_code if isinstance(code, str) and RULES.by_code[code].rule.startswith("redis: ")} - answered == {
        "MaxConnectionsError"
    }


ERRORS: list[tuple[Exception, Action, Blame]] = [
    (redis.ConnectionError("Connection closed by server."), RETRY, PEER),
    (redis.ConnectionError("Error 111 connecting to localhost:6379. Connection refused."), RETRY, PEER),
    (redis.TimeoutError("Timeout reading from localhost:6379"), RETRY, PEER),
    (redis.ConnectionError("Too many connections"), RETRY, CALLER),
    (redis.ConnectionError("No connection available."), RETRY, CALLER),
    (redis.ConnectionError("The previous master is now a slave"), RETRY, PEER),
    (redis.WatchError("Watched variable changed."), RETRY, CALLER),
    (redis.InvalidResponse("Protocol Error: b'HTTP/1.1 400 Bad Request'"), FAIL_FAST, PEER),
    (redis.DataError("Invalid input of type: 'dict'."), FAIL_FAST, CALLER),
    (redis.exceptions.LockError("Cannot release an unlocked lock"), FAIL_FAST, CALLER),
    (redis.PubSubError("pubsub connection not set"), FAIL_FAST, CALLER),
]


@pytest.mark.parametrize(("error", "action", "blames"), ERRORS, ids=lambda value: str(value) if isinstance(value, Exception) else None)
def test_what_redis_py_says_by_itself_is_judged_by_its_class(error: Exception, action: Action, blames: Blame) -> None:
    verdict = RULES.classify(read(error))

    assert (action, blames) == (verdict.action, verdict.blames)


def test_a_code_alone_is_enough_for_a_verdict() -> None:
    assert "redis: code LOADING" == RULES.classify(Signal(code="LOADING")).rule
    assert FAIL_FAST is RULES.classify(Signal(code="ERR")).action


async def asked_twice(world: World, fails: Exception, method: str) -> bool:
    """Whether a call with this method is repeated after *fails*."""
    call = Engine([Retry(attempts=2)], rules=RULES, env=world.env).using(method=method)(script(fails, "ok"))
    try:
        return bool(await call())
    except type(fails):
        return False


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("reply", "get", "incr"),
    [
        ("LOADING Redis is loading the dataset in memory", True, True),
        ("READONLY You can't write against a read only replica.", True, True),
        ("BUSY Redis is busy running a script.", True, True),
        ("LOADING by a script script: 2f165ea2244e3a3f, on @user_script:1.", True, False),
        ("OOM command not allowed when used memory > 'maxmemory'.", False, False),
    ],
)
async def test_a_command_that_was_refused_is_sent_again_whatever_it_does(world: World, reply: str, get: bool, incr: bool) -> None:
    assert get == await asked_twice(world, PARSER.parse_error(reply), "GET")
    assert incr == await asked_twice(world, PARSER.parse_error(reply), "INCR")


# Which commands may be repeated.


@pytest.mark.parametrize(
    "command", ["GET", "HGETALL", "CONFIG GET", "PING", "SET", "DEL", "HSET", "EXPIRE", "SADD", "ZADD", "SORT", "EVAL_RO"]
)
def test_what_has_no_further_effect_may_be_repeated(command: str) -> None:
    assert may_be_repeated(command)


@pytest.mark.parametrize(
    "command",
    "INCR INCRBY HINCRBY ZINCRBY APPEND LPUSH RPUSH LPOP SPOP ZPOPMIN XADD XREADGROUP PUBLISH GETSET GETDEL SETNX HSETNX MSETNX SMOVE "
    "RENAME COPY LMOVE BLPOP EVAL EVALSHA FCALL ZUNIONSTORE BITOP SETBIT LSET LTRIM LREM EXEC CONFIG JSON.SET NOSUCHCOMMAND".split(),
)
def test_what_adds_up_takes_away_or_is_not_known_may_not(command: str) -> None:
    assert not may_be_repeated(command)


@pytest.mark.parametrize(
    ("command", "conditions"),
    [("SET", "NX"), ("SET", "GET"), ("SET", "GET NX"), ("ZADD", "INCR"), ("EXPIRE", "NX"), ("SORT", "STORE"), ("XREAD", "$")],
)
def test_a_condition_may_make_the_difference(command: str, conditions: str) -> None:
    assert set(conditions.split()) <= CONDITIONS[command]
    assert not may_be_repeated(command, conditions)


@pytest.mark.parametrize("command", sorted(SEVERAL))
@pytest.mark.parametrize(
    ("steps", "may"),
    [
        ("GET,HGETALL", True),
        ("SET,HSET,EXPIRE", True),
        ("DEL,SADD,SCARD", True),  # the answers of reads that come last are those of the first time
        ("LRANGE,DEL", False),  # taking a list as a whole: the second time there is none
        ("GETEX,SET", False),
        ("GETEX,GETEX", False),
        ("SET,GETEX,GET", True),
        ("SET,INCR", False),
        ("SET,SET NX", False),
        ("CONFIG GET,GET", True),
        ("", False),
    ],
)
def test_several_commands_may_be_repeated_if_no_read_stands_before_a_write(command: str, steps: str, may: bool) -> None:
    assert may == may_be_repeated(command, steps)


def test_conditions_are_those_of_commands_that_are_known() -> None:
    assert set(CONDITIONS) <= READS | WRITES
    assert not READS & WRITES


def test_rules_of_ones_own_may_say_more() -> None:
    mine = RULES.extend("mine", creates_nothing=lambda command, said: command == "JSON.SET" or may_be_repeated(command, said))

    assert mine.creates_nothing is not None
    assert mine.creates_nothing("JSON.SET", "")
    assert mine.creates_nothing("GET", "")
    assert not mine.creates_nothing("INCR", "")


def test_a_pool_that_is_used_up_was_never_asked() -> None:
    signal = read(redis.ConnectionError("Too many connections"))

    assert (Phase.NOT_SENT, "redis: code MaxConnectionsError") == (signal.phase, RULES.classify(signal).rule)
