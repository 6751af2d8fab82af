"""What asyncpg's and psycopg's exceptions say: the SQLSTATE, and whether anything was done."""

from __future__ import annotations

import pickle
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg.pq import DiagnosticField

from resilience import CircuitOpen, Phase, Signal, read
from resilience.reading.native import read_native

NOT_SENT, REFUSED, UNKNOWN = Phase.NOT_SENT, Phase.REFUSED, Phase.UNKNOWN


def of_asyncpg(code: str, severity: str = "ERROR", message: str = "said") -> Any:
    """As asyncpg makes it of what the server sends."""
    return asyncpg.PostgresError.new({"C": code, "M": message, "S": "FEHLER", "V": severity})


def of_psycopg(code: str, severity: str = "ERROR", message: str = "said") -> Any:
    """As psycopg makes it of what the server sends."""
    fields = {
        DiagnosticField.SEVERITY: "FEHLER",
        DiagnosticField.SEVERITY_NONLOCALIZED: severity,
        DiagnosticField.SQLSTATE: code,
        DiagnosticField.MESSAGE_PRIMARY: message,
    }
    info: Any = {field: text.encode() for field, text in fields.items()}
    try:
        kind = psycopg.errors.lookup(code)
    except KeyError:
        kind = psycopg.DatabaseError
    return kind(message, info=info)


def while_connecting(words: str) -> psycopg.OperationalError:
    """As psycopg makes it where libpq gives no code."""
    return psycopg.OperationalError(f"connection failed: {words}", pgconn=psycopg.errors.FinishedPGconn())


clients = pytest.mark.parametrize("made", [of_asyncpg, of_psycopg])


@clients
@pytest.mark.parametrize(
    ("code", "severity", "phase"),
    [
        # A statement is done as a whole or not at all: what is answered with an ERROR has done nothing.
        ("40001", "ERROR", REFUSED),
        ("40P01", "ERROR", REFUSED),
        ("23505", "ERROR", REFUSED),
        ("57014", "ERROR", REFUSED),
        ("55P03", "ERROR", REFUSED),
        ("53100", "ERROR", REFUSED),
        # FATAL may come between the work and the word that it was done.
        ("57P01", "FATAL", UNKNOWN),
        ("57P02", "FATAL", UNKNOWN),
        ("57P05", "FATAL", UNKNOWN),
        ("25P04", "FATAL", UNKNOWN),
        ("42501", "FATAL", UNKNOWN),
        ("53200", "PANIC", UNKNOWN),
        # But not to a newcomer.
        ("53300", "FATAL", REFUSED),
        ("57P03", "FATAL", REFUSED),
        ("28P01", "FATAL", REFUSED),
        ("28000", "FATAL", REFUSED),
        ("3D000", "FATAL", REFUSED),
        ("08004", "FATAL", REFUSED),
        ("08001", "ERROR", REFUSED),
        # The code says that nobody knows, or does not know it itself.
        ("40003", "ERROR", UNKNOWN),
        ("08006", "ERROR", UNKNOWN),
        ("08P01", "FATAL", UNKNOWN),
        ("XX000", "ERROR", UNKNOWN),
        ("XX001", "ERROR", UNKNOWN),
        # A code of somebody's own: RAISE ... USING ERRCODE.
        ("ZZ9ZZ", "ERROR", REFUSED),
    ],
)
def test_the_code_and_how_grave_it_is_tell_whether_anything_was_done(made: Any, code: str, severity: str, phase: Phase) -> None:
    """D4."""
    error = made(code, severity)

    assert Signal(code=code, message="said", phase=phase, raised=type(error)) == read(error)


@clients
def test_a_code_without_a_severity_is_enough(made: Any) -> None:
    """As where somebody else raises the class, or an old server says its severity in no English."""
    codes = ("40001", REFUSED), ("57P01", UNKNOWN)
    classes = (asyncpg.SerializationError, asyncpg.AdminShutdownError), (psycopg.errors.SerializationFailure, psycopg.errors.AdminShutdown)

    for (code, phase), kind in zip(codes, classes[made is of_psycopg], strict=True):
        signal = read(kind("said"))
        assert (code, phase) == (signal.code, signal.phase)


def test_what_the_server_said_last_is_the_reason_why_asyncpg_s_connection_broke() -> None:
    broken = asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    assert ("08003", UNKNOWN) == (read(broken).code, read(broken).phase)
    broken.__cause__ = ConnectionResetError()
    assert ("08003", UNKNOWN) == (read(broken).code, read(broken).phase)
    broken.__cause__ = of_asyncpg("57P01", "FATAL")
    assert ("57P01", UNKNOWN) == (read(broken).code, read(broken).phase)
    # A newcomer's code would not make it one: the connection had been in use.
    broken.__cause__ = of_asyncpg("53300", "FATAL")
    assert ("53300", UNKNOWN) == (read(broken).code, read(broken).phase)
    # No other error is replaced by its cause.
    later = of_asyncpg("25P02")
    later.__cause__ = of_asyncpg("40001")
    assert "25P02" == read(later).code
    told = asyncpg.ConnectionDoesNotExistError("x")
    told.__cause__ = of_psycopg("40001")
    assert "08003" == read(told).code
    broken.__cause__ = of_asyncpg("junk!")
    assert "08003" == read(broken).code


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ('FATAL:  password authentication failed for user "ada"', "28P01"),
        ("fe_sendauth: no password supplied", "28P01"),
        ('FATAL:  PAM authentication failed for user "ada"', "28000"),
        ('FATAL:  no pg_hba.conf entry for host "10.0.0.1", user "ada", database "app", no encryption', "28000"),
        ('FATAL:  pg_hba.conf rejects connection for host "10.0.0.1", user "ada", database "app", no encryption', "28000"),
        ('FATAL:  role "ada" does not exist', "28000"),
        ('FATAL:  role "ada" is not permitted to log in', "28000"),
        ('FATAL:  database "app" does not exist', "3D000"),
        ("FATAL:  sorry, too many clients already", "53300"),
        ('FATAL:  too many connections for role "ada"', "53300"),
        ('FATAL:  too many connections for database "app"', "53300"),
        ("FATAL:  remaining connection slots are reserved for non-replication superuser connections", "53300"),
        ("FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute", "53300"),
        ("FATAL:  no more connections allowed (max_client_conn)", "53300"),  # PgBouncer's
        ("FATAL:  the database system is starting up", "57P03"),
        ("FATAL:  the database system is shutting down", "57P03"),
        ("FATAL:  the database system is in recovery mode", "57P03"),
        ("FATAL:  the database system is not yet accepting connections", "57P03"),
        ("FATAL:  the database system is not accepting connections", "57P03"),
        ('FATAL:  database "app" is not currently accepting connections', "55000"),
        ('FATAL:  permission denied for database "app"', "42501"),
    ],
)
def test_what_libpq_gives_no_code_for_is_known_by_the_server_s_words(words: str, code: str) -> None:
    signal = read(while_connecting(f'connection to server at "10.0.0.2", port 5432 failed: {words}'))

    assert (code, REFUSED) == (signal.code, signal.phase)


def test_of_several_hosts_the_last_one_is_told_first() -> None:
    words = (
        "Connection refused\nMultiple connection attempts failed. All failures were:\n- host: 'a': FATAL:  sorry, too many clients already"
    )

    assert NOT_SENT is read(while_connecting(words)).phase
    assert "OperationalError" == read(while_connecting(words)).code


@pytest.mark.parametrize(
    ("error", "code", "phase"),
    [
        (while_connecting("Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?"), None, NOT_SENT),
        (while_connecting("SCHWERWIEGEND:  tut mir leid, schon zu viele Verbindungen"), None, NOT_SENT),
        (psycopg.OperationalError("failed to resolve host 'db': [Errno -2] Name or service not known"), None, NOT_SENT),
        (psycopg.errors.ConnectionTimeout("connection timeout expired"), None, NOT_SENT),
        (psycopg.OperationalError("the connection is closed"), None, NOT_SENT),
        (psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly"), None, UNKNOWN),
        (psycopg.OperationalError("sending query failed: another command is already in progress"), None, UNKNOWN),
        # The words mean something only while connecting.
        (psycopg.OperationalError("the database system is starting up"), None, UNKNOWN),
        (psycopg.InterfaceError("the cursor is closed"), None, UNKNOWN),
        (asyncpg.InterfaceError("cannot perform operation: connection is closed"), None, NOT_SENT),
        (asyncpg.InterfaceError("cannot perform operation: another operation is in progress"), None, NOT_SENT),
        (asyncpg.InterfaceError("pool is closing"), None, NOT_SENT),
        (asyncpg.InterfaceError("the server expects 1 argument for this query, 2 were passed"), None, UNKNOWN),
        (asyncpg.TargetServerAttributeNotMatched("None of the hosts match"), None, NOT_SENT),
        (asyncpg.InternalClientError("what?"), None, UNKNOWN),
        (asyncpg.exceptions.DataError("invalid input for query argument $1"), "22000", REFUSED),
    ],
)
def test_what_the_clients_say_by_themselves_has_their_class_for_a_code(error: Exception, code: str | None, phase: Phase) -> None:
    signal = read(error)

    assert (code or type(error).__name__, phase) == (signal.code, signal.phase)


@pytest.mark.parametrize("name", ["PoolTimeout", "PoolClosed", "TooManyRequests"])
def test_what_never_got_a_connection_from_its_pool_was_never_sent(name: str) -> None:
    error = type(name, (psycopg.OperationalError,), {"__module__": "psycopg_pool.errors"})("couldn't get a connection after 1.0 sec")

    assert (name, NOT_SENT) == (read(error).code, read(error).phase)


def test_an_error_that_went_through_pickle_is_still_read() -> None:
    """It has lost its connection, by which it was known to have come while connecting."""
    assert "40001" == read(pickle.loads(pickle.dumps(of_psycopg("40001")))).code
    assert UNKNOWN is read(pickle.loads(pickle.dumps(while_connecting("Connection refused")))).phase


class Odd(asyncpg.PostgresError):  # type: ignore[misc]  # asyncpg ships no types
    """Everything about it is wrong."""

    sqlstate: object = 40001
    severity_en = property(lambda self: 1 / 0)

    def __str__(self) -> str:
        raise ValueError


@pytest.mark.parametrize("code", [40001, b"40001", "4000", "400011", "4000x", "40 01", "", None])
def test_what_is_no_sqlstate_is_none(code: object) -> None:
    """It never raises."""
    error = Odd("x")
    error.sqlstate = code

    assert Signal(code="Odd", raised=Odd) == read(error)


def test_our_own_errors_in_a_client_s_family_speak_for_themselves() -> None:
    class Twin(CircuitOpen, psycopg.OperationalError):
        pass

    assert read_native(Twin()) is None
    assert NOT_SENT is read(Twin()).phase
