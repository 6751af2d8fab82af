"""Every class of PostgreSQL's error codes, and every code by name that differs from its class: the manual, appendix A and section 13.5."""

from __future__ import annotations

import re
from typing import Any

import asyncpg
import psycopg
import pytest
from psycopg.pq import DiagnosticField

from resilience import Action, Blame, Verdict, read, retry
from resilience.dialects import postgresql

RETRY, FAIL_FAST, REFRESH = Action.RETRY, Action.FAIL_FAST, Action.REFRESH_TOKEN
PEER, CALLER, CREDENTIAL = Blame.PEER, Blame.CALLER, Blame.CREDENTIAL


def judge(error: Exception) -> Verdict:
    return postgresql.RULES.classify(read(error))


def parts(verdict: Verdict) -> tuple[object, ...]:
    return verdict.action, verdict.attempts, verdict.throttled, verdict.blames


def of_asyncpg(code: str, message: str = "said") -> Exception:
    error: Exception = asyncpg.PostgresError.new({"C": code, "M": message, "S": "ERROR", "V": "ERROR"})
    return error


def of_psycopg(code: str, message: str = "said") -> Exception:
    info: Any = {DiagnosticField.SQLSTATE: code.encode(), DiagnosticField.SEVERITY_NONLOCALIZED: b"ERROR"}
    try:
        kind = psycopg.errors.lookup(code)
    except KeyError:
        kind = psycopg.DatabaseError
    return kind(message, info=info)


clients = pytest.mark.parametrize("made", [of_asyncpg, of_psycopg])

# For each class one code that stands for it: action, attempts in all, throttled, whom it blames.
CLASSES = [
    ("01000", (FAIL_FAST, None, False, CALLER)),  # warning
    ("02000", (FAIL_FAST, None, False, CALLER)),  # no data
    ("03000", (FAIL_FAST, None, False, CALLER)),  # SQL statement not yet complete
    ("08006", (RETRY, None, False, PEER)),  # connection exception
    ("09000", (FAIL_FAST, None, False, CALLER)),  # triggered action exception
    ("0A000", (FAIL_FAST, None, False, CALLER)),  # feature not supported
    ("0B000", (FAIL_FAST, None, False, CALLER)),  # invalid transaction initiation
    ("0F001", (FAIL_FAST, None, False, CALLER)),  # locator exception
    ("0LP01", (FAIL_FAST, None, False, CALLER)),  # invalid grantor
    ("0P000", (FAIL_FAST, None, False, CALLER)),  # invalid role specification
    ("0Z002", (FAIL_FAST, None, False, CALLER)),  # diagnostics exception
    ("10608", (FAIL_FAST, None, False, CALLER)),  # XQuery error, since 17
    ("20000", (FAIL_FAST, None, False, CALLER)),  # case not found
    ("21000", (FAIL_FAST, None, False, CALLER)),  # cardinality violation
    ("22012", (FAIL_FAST, None, False, CALLER)),  # data exception
    ("23505", (FAIL_FAST, None, False, CALLER)),  # integrity constraint violation
    ("24000", (FAIL_FAST, None, False, CALLER)),  # invalid cursor state
    ("25P02", (FAIL_FAST, None, False, CALLER)),  # invalid transaction state
    ("26000", (RETRY, 2, False, CALLER)),  # invalid SQL statement name
    ("27000", (FAIL_FAST, None, False, CALLER)),  # triggered data change violation
    ("28000", (FAIL_FAST, None, False, CREDENTIAL)),  # invalid authorization specification
    ("2BP01", (FAIL_FAST, None, False, CALLER)),  # dependent privilege descriptors still exist
    ("2D000", (FAIL_FAST, None, False, CALLER)),  # invalid transaction termination
    ("2F002", (FAIL_FAST, None, False, CALLER)),  # SQL routine exception
    ("34000", (FAIL_FAST, None, False, CALLER)),  # invalid cursor name
    ("38001", (FAIL_FAST, None, False, CALLER)),  # external routine exception
    ("39P01", (FAIL_FAST, None, False, CALLER)),  # external routine invocation exception
    ("3B001", (FAIL_FAST, None, False, CALLER)),  # savepoint exception
    ("3D000", (FAIL_FAST, None, False, CALLER)),  # invalid catalog name
    ("3F000", (FAIL_FAST, None, False, CALLER)),  # invalid schema name
    ("40000", (RETRY, None, False, CALLER)),  # transaction rollback
    ("42601", (FAIL_FAST, None, False, CALLER)),  # syntax error or access rule violation
    ("44000", (FAIL_FAST, None, False, CALLER)),  # WITH CHECK OPTION violation
    ("53000", (RETRY, None, True, PEER)),  # insufficient resources
    ("54001", (FAIL_FAST, None, False, CALLER)),  # program limit exceeded
    ("55000", (FAIL_FAST, None, False, CALLER)),  # object not in prerequisite state
    ("57000", (RETRY, 2, False, PEER)),  # operator intervention
    ("58030", (RETRY, 2, False, PEER)),  # system error
    ("72000", (RETRY, None, False, CALLER)),  # snapshot failure, up to 16
    ("F0001", (FAIL_FAST, None, False, PEER)),  # configuration file error
    ("HV005", (FAIL_FAST, None, False, CALLER)),  # foreign data wrapper error
    ("P0001", (FAIL_FAST, None, False, CALLER)),  # PL/pgSQL error
    ("XX001", (FAIL_FAST, None, False, PEER)),  # internal error
]

# Those that differ from their class, or are named by the manual's section 13.5.
CODES = [
    ("08P01", (RETRY, 2, False, PEER)),  # protocol_violation, and PgBouncer's one code
    ("25P03", (RETRY, 2, False, CALLER)),  # idle_in_transaction_session_timeout
    ("25P04", (RETRY, 2, False, CALLER)),  # transaction_timeout
    ("28P01", (REFRESH, None, False, CREDENTIAL)),  # invalid_password
    ("40001", (RETRY, None, False, CALLER)),  # serialization_failure
    ("40002", (FAIL_FAST, None, False, CALLER)),  # transaction_integrity_constraint_violation
    ("40003", (RETRY, None, False, PEER)),  # statement_completion_unknown
    ("40P01", (RETRY, None, False, CALLER)),  # deadlock_detected
    ("42501", (FAIL_FAST, None, False, CREDENTIAL)),  # insufficient_privilege
    ("42P05", (RETRY, 2, False, CALLER)),  # duplicate_prepared_statement
    ("53100", (FAIL_FAST, None, False, PEER)),  # disk_full
    ("53200", (RETRY, 2, True, PEER)),  # out_of_memory
    ("53300", (RETRY, None, True, PEER)),  # too_many_connections
    ("53400", (FAIL_FAST, None, False, CALLER)),  # configuration_limit_exceeded
    ("55006", (RETRY, None, False, CALLER)),  # object_in_use
    ("55P03", (RETRY, None, False, CALLER)),  # lock_not_available
    ("57014", (FAIL_FAST, None, False, CALLER)),  # query_canceled, by somebody
    ("57P01", (RETRY, None, False, PEER)),  # admin_shutdown
    ("57P02", (RETRY, None, False, PEER)),  # crash_shutdown
    ("57P03", (RETRY, None, False, PEER)),  # cannot_connect_now
    ("57P04", (FAIL_FAST, None, False, PEER)),  # database_dropped
    ("57P05", (RETRY, None, False, CALLER)),  # idle_session_timeout
    ("58P01", (FAIL_FAST, None, False, PEER)),  # undefined_file
    ("58P02", (FAIL_FAST, None, False, PEER)),  # duplicate_file
    ("HV000", (FAIL_FAST, None, False, PEER)),  # fdw_error
    ("HV001", (RETRY, 2, True, PEER)),  # fdw_out_of_memory
    ("HV00L", (FAIL_FAST, None, False, PEER)),  # fdw_unable_to_create_execution
    ("HV00M", (FAIL_FAST, None, False, PEER)),  # fdw_unable_to_create_reply
    ("HV00N", (RETRY, None, False, PEER)),  # fdw_unable_to_establish_connection
    ("XX000", (RETRY, 2, False, PEER)),  # internal_error
]


@clients
@pytest.mark.parametrize(("code", "expected"), [*CLASSES, *CODES])
def test_each_class_of_codes_has_its_verdict_and_some_codes_another(made: Any, code: str, expected: tuple[object, ...]) -> None:
    assert expected == parts(judge(made(code)))


def test_every_code_that_either_client_knows_is_in_one_of_these_classes_and_judged_like_it() -> None:
    """Both take their codes from the server's own list, of all versions."""
    groups = {code[:2]: expected for code, expected in CLASSES}
    others = dict(CODES)
    known = {*psycopg.errors._sqlcodes, *filter(None, type(asyncpg.PostgresError)._message_map)}
    codes = sorted(str(code) for code in known if re.fullmatch("[0-9A-Z]{5}", str(code)))

    assert 250 < len(codes)
    assert {code: others.get(code, groups[code[:2]]) for code in codes} == {code: parts(judge(of_asyncpg(code))) for code in codes}
    assert {code: others.get(code, groups[code[:2]]) for code in codes} == {code: parts(judge(of_psycopg(code))) for code in codes}


@clients
def test_a_statement_that_ran_into_its_timeout_is_tried_once_more_but_not_one_that_somebody_cancelled(made: Any) -> None:
    """One code, 57014, for both."""
    timed_out = judge(made("57014", "canceling statement due to statement timeout"))
    cancelled = judge(made("57014", "canceling statement due to user request"))

    assert (RETRY, 2, PEER) == (timed_out.action, timed_out.attempts, timed_out.blames)
    assert (FAIL_FAST, CALLER) == (cancelled.action, cancelled.blames)


@pytest.mark.parametrize(
    ("error", "action", "attempts", "blames"),
    [
        (of_psycopg("0A000", "cached plan must not change result type"), RETRY, 2, CALLER),
        (asyncpg.InvalidCachedStatementError("cached statement plan is invalid due to a database schema change"), RETRY, 2, CALLER),
        (asyncpg.OutdatedSchemaCacheError("unexpected number of attributes"), RETRY, 2, CALLER),
        (asyncpg.InterfaceError("the server expects 1 argument for this query, 2 were passed"), FAIL_FAST, None, CALLER),
        (asyncpg.InterfaceError("cannot perform operation: connection is closed"), RETRY, None, CALLER),
        (asyncpg.InternalClientError("what?"), FAIL_FAST, None, PEER),
        (asyncpg.TargetServerAttributeNotMatched("no primary"), RETRY, None, PEER),
        (psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly"), RETRY, None, PEER),
        (psycopg.OperationalError("the connection is closed"), RETRY, None, CALLER),
        (psycopg.errors.ConnectionTimeout("connection timeout expired"), RETRY, None, PEER),
        (psycopg.errors.PipelineAborted("pipeline aborted"), FAIL_FAST, None, CALLER),
        (psycopg.InterfaceError("the cursor is closed"), FAIL_FAST, None, CALLER),
        (psycopg.ProgrammingError("the query has 1 placeholder but 2 parameters were passed"), FAIL_FAST, None, CALLER),
        # asyncpg lets pass what the loop says.
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 5432)"), RETRY, None, PEER),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 5432, 0, 0), [Errno 111] ..."), RETRY, None, PEER),
        (TimeoutError(), RETRY, None, PEER),
        # A transaction is a function of the caller's, too.
        (KeyError("amount"), FAIL_FAST, None, CALLER),
        (FileNotFoundError(2, "No such file or directory"), FAIL_FAST, None, CALLER),
    ],
)
def test_what_has_no_code_is_judged_by_its_words_or_its_class(
    error: Exception, action: Action, attempts: int | None, blames: Blame
) -> None:
    verdict = judge(error)

    assert (action, attempts, blames) == (verdict.action, verdict.attempts, verdict.blames)


@pytest.mark.parametrize(("name", "action"), [("PoolTimeout", RETRY), ("TooManyRequests", RETRY), ("PoolClosed", FAIL_FAST)])
def test_a_pool_of_ours_that_is_exhausted_says_nothing_about_the_server(name: str, action: Action) -> None:
    error = type(name, (psycopg.OperationalError,), {"__module__": "psycopg_pool.errors"})("the pool 'pool-1' ...")

    assert (action, CALLER) == (judge(error).action, judge(error).blames)


def test_whoever_takes_free_keys_says_that_a_unique_violation_is_a_conflict() -> None:
    """Section 13.5: in some cases 23505 and 23P01 are serialization failures in disguise."""
    rules = postgresql.RULES.extend("ours", by_code={"23505": retry(blames=Blame.CALLER)})

    assert RETRY is rules.classify(read(of_asyncpg("23505"))).action
    assert FAIL_FAST is rules.classify(read(of_asyncpg("23514"))).action
