"""What redis-py's exceptions say: the first word of the server's reply, and whether anything was done."""

from __future__ import annotations

import asyncio
import pickle
import socket
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.backoff
import redis.connection
import redis.retry
from redis._parsers.base import BaseParser

from resilience import CircuitOpen, Phase, Signal, read
from resilience.reading.native import read_native
from resilience.reading.redis_reply import POOL_EXHAUSTED

NOT_SENT, REFUSED, UNKNOWN = Phase.NOT_SENT, Phase.REFUSED, Phase.UNKNOWN

PARSER: Any = BaseParser
CONNECTION: Any = redis.connection.Connection


def told(reply: str) -> Any:
    """As redis-py makes it of what the server sends: 8 says in an attribute which word it has dropped."""
    error = PARSER.parse_error(reply)
    word = reply.split(" ", maxsplit=1)[0]
    error.status_code = word if word in PARSER.EXCEPTION_CLASSES else None
    return error


def untold(reply: str) -> Any:
    """As redis-py made it before."""
    error = told(reply)
    del error.status_code
    return error


versions = pytest.mark.parametrize("made", [told, untold])


def test_the_parser_tells_or_does_not_tell_as_these_tests_have_it() -> None:
    for reply in REPLIES:
        error = PARSER.parse_error(reply)
        assert getattr(error, "status_code", told(reply).status_code) == told(reply).status_code


# As Redis 7.0 answers them; those of a cluster as its specification has them.
REPLIES = [
    "LOADING Redis is loading the dataset in memory",
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
    "READONLY You can't write against a read only replica.",
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
    "NOREPLICAS Not enough good replicas to write.",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "NOAUTH Authentication required.",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "NOPERM this user has no permissions to run the 'get' command",
    "DENIED Redis is running in protected mode because protected mode is enabled ...",
    "MOVED 3999 127.0.0.1:6381",
    "ASK 3999 127.0.0.1:6381",
    "TRYAGAIN Multiple keys request during rehashing of slot",
    "CLUSTERDOWN Hash slot not served",
    "CROSSSLOT Keys in request don't hash to the same slot",
    "EXECABORT Transaction discarded because of previous errors.",
    "NOSCRIPT No matching script. Please use EVAL.",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "NOPROTO unsupported protocol version",
    "BUSYKEY Target key name already exists.",
    "BUSYGROUP Consumer Group name already exists",
    "NOGROUP No such key 'nostream' or consumer group 'g' in XREADGROUP with GROUP option",
    "NOTBUSY No scripts in execution right now.",
    "UNKILLABLE Sorry the script already executed write commands against the dataset.",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "ERR unknown command 'foo', with args beginning with: 'bar' ",
    "ERR wrong number of arguments for 'auth' command",
    "ERR Error unloading module: no such module with that name",
    "ERR value is not an integer or out of range",
    "ERR max number of clients reached",
]


@versions
@pytest.mark.parametrize("reply", REPLIES)
def test_the_code_is_the_first_word_of_the_reply_whatever_class_was_made_of_it(reply: str, made: Callable[[str], Any]) -> None:
    """redis-py drops the word where it has a class for it; the command was refused in any case."""
    error = made(reply)

    assert (reply.split(maxsplit=1)[0], REFUSED) == (read(error).code, read(error).phase)
    assert type(error) is read(error).raised


@versions
@pytest.mark.parametrize(
    "reply",
    [
        "ERR invalid password",  # before Redis 6
        "ERR Client sent AUTH, but no password is set",
        "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
    ],
)
def test_a_password_that_is_refused_in_other_words_is_refused(reply: str, made: Callable[[str], Any]) -> None:
    assert ("WRONGPASS", REFUSED) == (read(made(reply)).code, read(made(reply)).phase)


def test_what_redis_py_finds_wrong_with_a_login_by_itself_is_read_alike() -> None:
    assert "WRONGPASS" == read(redis.AuthenticationError("Invalid Username or Password")).code
    assert "NOPERM" == read(redis.exceptions.AuthorizationError("no")).code


@versions
def test_a_word_that_the_server_does_not_know_comes_from_a_script_or_a_module(made: Callable[[str], Any]) -> None:
    """Either may have written before it failed."""
    for reply in ("MYERR done with it", "IOERR error or timeout reading from target instance"):
        assert UNKNOWN is read(made(reply)).phase
    assert "IOERR" == read(made("IOERR error or timeout reading from target instance")).code


def test_a_word_of_a_scripts_own_is_its_code() -> None:
    assert "MYERR" == read(told("MYERR done with it")).code


def test_a_reply_without_a_word_is_read_as_err_and_may_have_done_something() -> None:
    """A script may answer any words."""
    error = told("hello there")

    assert ("ERR", UNKNOWN) == (read(error).code, read(error).phase)


@versions
def test_a_word_in_capitals_is_no_code_where_err_was_dropped_before_it(made: Callable[[str], Any]) -> None:
    error = made("ERR EXEC without MULTI")

    assert ("ERR", REFUSED if hasattr(error, "status_code") else UNKNOWN) == (read(error).code, read(error).phase)


@versions
@pytest.mark.parametrize(
    "reply",
    [
        "WRONGTYPE Operation against a key holding the wrong kind of value script: 2f165ea2244e3a3f, on @user_script:1.",
        "READONLY You can't write against a read only replica. script: ff967d0ae0e68b4f, on @user_script:1.",
        "OOM command not allowed when used memory > 'maxmemory'. script: f, on @user_function:2.",
        "ERR user_script:1: boom script: 82903a0434f1503e, on @user_script:1.",
        "ERR Error running script (call to f_82903a0434f1503e): @user_script:1: boom",  # before 7.0
    ],
)
def test_a_script_that_failed_may_have_written_before(reply: str, made: Callable[[str], Any]) -> None:
    error = made(reply)

    assert (reply.split(maxsplit=1)[0], UNKNOWN) == (read(error).code, read(error).phase)


@versions
def test_a_key_of_several_may_have_migrated_before_the_target_refused_another(made: Callable[[str], Any]) -> None:
    assert UNKNOWN is read(made("ERR Target instance replied with error: BUSYKEY Target key name already exists.")).phase


@versions
def test_a_transaction_that_was_discarded_for_the_servers_state_says_which(made: Callable[[str], Any]) -> None:
    error = made("EXECABORT Transaction discarded because of: LOADING Redis is loading the dataset in memory")

    assert ("LOADING", REFUSED) == (read(error).code, read(error).phase)


# What redis-py says by itself.


def refused_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def off() -> Any:
    return redis.retry.Retry(redis.backoff.NoBackoff(), 0)


def raised(call: Callable[[], object]) -> BaseException:
    with pytest.raises(redis.RedisError) as caught:
        call()
    return caught.value


def test_what_fails_while_the_pool_gets_a_connection_was_never_sent() -> None:
    with redis.Redis(host="127.0.0.1", port=refused_port(), retry=off()) as client:
        error = raised(lambda: client.incr("hits"))

    assert Signal(code="ConnectionError", phase=NOT_SENT, message=str(error), raised=redis.ConnectionError) == read(error)


def test_so_it_is_for_the_async_client() -> None:
    client: Any = redis.asyncio.Redis(host="127.0.0.1", port=refused_port(), retry=redis.asyncio.retry.Retry(redis.backoff.NoBackoff(), 0))

    assert NOT_SENT is read(raised(lambda: asyncio.run(client.incr("hits")))).phase


def test_what_fails_in_the_handshake_was_never_sent() -> None:
    """Whatever the words are, the command comes after."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        with redis.Redis(host="127.0.0.1", port=deaf.getsockname()[1], retry=off(), socket_timeout=0.05, password="MARKER") as client:
            error = raised(lambda: client.incr("hits"))

    assert isinstance(error, redis.TimeoutError)
    assert NOT_SENT is read(error).phase


def test_a_connection_that_could_not_be_made_anew_under_a_command_says_nothing_about_the_command() -> None:
    """redis-py's own retries: the first try may have been carried out, whose connection was lost."""
    connection = CONNECTION(host="127.0.0.1", port=refused_port(), retry=off())

    assert UNKNOWN is read(raised(lambda: connection.send_command("INCR", "hits"))).phase


def test_a_connection_by_itself_is_no_command() -> None:
    connection = CONNECTION(host="127.0.0.1", port=refused_port(), retry=off())

    assert NOT_SENT is read(raised(connection.connect)).phase


@pytest.mark.parametrize(
    ("words", "phase"),
    [
        ("Error 111 connecting to localhost:6379. Connection refused.", NOT_SENT),
        ("Error Multiple exceptions: [Errno 111] ... connecting to localhost:6379.", NOT_SENT),
        ("Error connecting to localhost:6379.", NOT_SENT),
        ("Error 32 while writing to socket. Broken pipe.", UNKNOWN),
        ("Error while reading from localhost:6379 : (104, 'Connection reset by peer')", UNKNOWN),
        ("Connection closed by server.", UNKNOWN),
    ],
)
def test_without_a_traceback_the_words_tell(words: str, phase: Phase) -> None:
    """An error that came through a pickle, say."""
    error = pickle.loads(pickle.dumps(redis.ConnectionError(words)))

    assert ("ConnectionError", phase) == (read(error).code, read(error).phase)


def test_a_timeout_was_never_sent_only_where_it_came_before_the_connection() -> None:
    assert NOT_SENT is read(redis.TimeoutError("Timeout connecting to server")).phase
    assert UNKNOWN is read(redis.TimeoutError("Timeout reading from localhost:6379")).phase
    assert UNKNOWN is read(redis.TimeoutError("Timeout writing to socket")).phase
    assert UNKNOWN is read(redis.TimeoutError()).phase


def test_a_pool_that_is_used_up_says_the_same_whichever_kind_it_is() -> None:
    for error in (redis.ConnectionError("Too many connections"), redis.ConnectionError("No connection available.")):
        assert (POOL_EXHAUSTED, NOT_SENT) == (read(error).code, read(error).phase)
    kind = getattr(redis.exceptions, "MaxConnectionsError", redis.ConnectionError)
    assert (POOL_EXHAUSTED, NOT_SENT) == (read(kind("Too many connections")).code, read(kind("Too many connections")).phase)


def test_a_master_that_was_demoted_is_read_alike_when_sentinels_connection_says_so() -> None:
    """redis-py makes a `ConnectionError` of READONLY there."""
    error = redis.ConnectionError("The previous master is now a slave")

    assert ("READONLY", REFUSED) == (read(error).code, read(error).phase)
    assert NOT_SENT is read(redis.asyncio.sentinel.MasterNotFoundError("No master found for 'mymaster'")).phase


def test_a_value_that_cannot_be_encoded_was_never_sent() -> None:
    assert ("DataError", NOT_SENT) == (read(redis.DataError("Invalid input of type: 'dict'.")).code, read(redis.DataError()).phase)


def test_a_watch_that_came_true_is_no_lost_connection() -> None:
    """
    A transaction that was not carried out, or one of which nobody knows.

    redis-py raises the same class for both, and begins anew in both cases.
    """
    assert ("WatchError", REFUSED) == (
        read(redis.WatchError("Watched variable changed.")).code,
        read(redis.WatchError("Watched variable changed.")).phase,
    )
    assert UNKNOWN is read(redis.WatchError("A ConnectionError occurred while watching one or more keys")).phase


def test_an_answer_that_is_none_of_redis_may_have_followed_anything() -> None:
    assert ("InvalidResponse", UNKNOWN) == (
        read(redis.InvalidResponse("Protocol Error: b'HTTP/1.1 400'")).code,
        read(redis.InvalidResponse()).phase,
    )


def test_an_odd_argument_is_no_words() -> None:
    """`ConnectionError(exc)` holds what was raised while connecting."""
    assert UNKNOWN is read(redis.ConnectionError(OSError(111, "refused"))).phase


# Pipelines.


def annotated(reply: str, *, made: Callable[[str], Any] = told) -> Any:
    """As redis-py's pipelines make it: with the command in front, keys and values included."""
    error = made(reply)
    words = f"Command # 2 (SET MARKER of pipeline caused error: ('LOADING ...) of pipeline caused error: {error.args}"
    error.args = (words,)
    return error


@versions
@pytest.mark.parametrize(
    "reply", ["READONLY You can't write against a read only replica.", "WRONGTYPE Operation against a key", "ERR unknown command 'foo'"]
)
def test_of_a_pipeline_one_command_was_refused_and_the_others_may_have_been_carried_out(reply: str, made: Callable[[str], Any]) -> None:
    error = annotated(reply, made=made)

    assert (reply.split(maxsplit=1)[0], UNKNOWN) == (read(error).code, read(error).phase)


@versions
def test_a_transaction_that_was_discarded_did_nothing(made: Callable[[str], Any]) -> None:
    """redis-py raises the first of its commands' errors from that of EXEC."""
    error = annotated("OOM command not allowed when used memory > 'maxmemory'.", made=made)
    error.__cause__ = made("EXECABORT Transaction discarded because of previous errors.")

    assert ("OOM", REFUSED) == (read(error).code, read(error).phase)


def test_a_pipeline_whose_answers_do_not_add_up_was_carried_out() -> None:
    assert UNKNOWN is read(redis.ResponseError("Wrong number of response items from pipeline execution")).phase


# What it is not.


def test_the_code_is_no_argument_of_the_command() -> None:
    """Words of a message may be data, and codes are logged."""
    odd = redis.ResponseError("MARKER" * 100)

    assert read(odd).code in {None, "ERR", "ResponseError"}


def test_an_attribute_of_another_kind_is_no_code() -> None:
    error = redis.ResponseError("WRONGTYPE Operation against a key")
    error.status_code = 404  # type: ignore[assignment]  # a subclass may do as it likes

    assert "WRONGTYPE" == read(error).code


def test_a_traceback_without_end_is_read_as_far_as_needed() -> None:
    def deep(left: int) -> None:
        if left:
            deep(left - 1)
        raise redis.ConnectionError("Connection closed by server.")

    assert UNKNOWN is read(raised(lambda: deep(300))).phase


def test_exceptions_of_others_and_ours_are_read_as_ever() -> None:
    class Twin(CircuitOpen, redis.ConnectionError):
        pass

    assert read_native(ConnectionError("Error 111 connecting to localhost:6379.")) is None
    assert read_native(Twin()) is None
    assert NOT_SENT is read(Twin()).phase
