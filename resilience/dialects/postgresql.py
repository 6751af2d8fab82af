"""
PostgreSQL, by SQLSTATE.

Sources: the manual's appendix A (error codes, by class) and section 13.5 (serialization failure handling), versions 15 to 18, and
``errcodes.txt`` of the server's source.  What comes with no code, from a connection that cannot be made, is judged by its exception, as in
`resilience.dialects.http`.

Three things are for the user to add, since only the schema or the set-up tells:

* 23505 and 23P01 may be a serialization failure in disguise (13.5), where a transaction looks for a key that is free and takes it.
* 28000 is what a server that checks tokens through PAM, as RDS does, says to one that has expired.
* 42P01 and its kin pass by themselves during some migrations.

All of them alike: ``RULES.extend("ours", by_code={"23505": retry(blames=Blame.CALLER)})``.
"""

from __future__ import annotations

from typing import Final

from resilience.dialects import http
from resilience.outcome import Blame, fail_fast, refresh_token, retry

__all__ = ["RULES"]

_ASKED = fail_fast()
_BROKEN = fail_fast(blames=Blame.PEER)
_BUSY = retry(throttled=True)
_ONCE_MORE = retry(attempts=2)
# Transactions that get in one another's way: they pass when repeated, and say nothing about the server's health.
_CONTENDED = retry(blames=Blame.CALLER)
# Our own connection is not what we took it for; the next one is.
_STALE = retry(attempts=2, blames=Blame.CALLER)

RULES: Final = http.RULES.extend(
    "postgresql",
    by_code={
        # A connection broke, or could not be made.
        "08*": retry(),
        # From a server, a client's mistake.  PgBouncer says it to nearly all that it refuses, most of which passes.
        "08P01": _ONCE_MORE,
        # The transaction was rolled back: 13.5.
        "40*": _CONTENDED,
        "40001": _CONTENDED,  # as the pattern would have it, but rules are counted and logged by name
        "40P01": _CONTENDED,
        "40002": _ASKED,  # by a constraint
        "40003": retry(),  # nobody knows whether it was; only what may be done twice is repeated
        "53*": _BUSY,
        "53300": _BUSY,
        "53100": _BROKEN,  # a full disk does not empty itself in seconds
        "53200": retry(attempts=2, throttled=True),
        "53400": _ASKED,  # a limit that somebody configured, such as temp_file_limit
        "55*": _ASKED,
        "55006": _CONTENDED,  # others are at it
        "55P03": _CONTENDED,  # lock_timeout or NOWAIT: others hold the lock
        # Somebody intervened.  What was cancelled is told below, by who did.
        "57000": _ONCE_MORE,
        "57P01": retry(),
        "57P02": retry(),
        "57P03": retry(),  # it is starting up, shutting down or recovering
        "57P04": _BROKEN,  # the database was dropped
        "57P05": _CONTENDED,  # idle_session_timeout closed a connection that we had left alone
        "25*": _ASKED,  # 25P02: an earlier statement failed, and nobody minded
        "25P03": _STALE,  # idle_in_transaction_session_timeout and transaction_timeout: we took too long
        "25P04": _STALE,
        "28*": fail_fast(blames=Blame.CREDENTIAL),
        "28P01": refresh_token(),  # where passwords are tokens; with no source of them configured it fails fast
        "58*": _ONCE_MORE,  # the operating system
        "58P01": _BROKEN,
        "58P02": _BROKEN,
        "72*": _CONTENDED,  # the snapshot is too old
        "XX*": _BROKEN,  # what was stored is damaged
        "XX000": _ONCE_MORE,  # also what concurrent changes of the catalogue run into: "tuple concurrently updated"
        "F0*": _BROKEN,
        # The server could not reach, or could not use, another one.
        "HV*": _ASKED,
        "HV000": _BROKEN,
        "HV001": retry(attempts=2, throttled=True),
        "HV00L": _BROKEN,
        "HV00M": _BROKEN,
        "HV00N": retry(),
        # Prepared statements that are gone, or are there already: PgBouncer has given us another session.
        "26000": _STALE,
        "42P05": _STALE,
        "42*": _ASKED,
        "42501": fail_fast(blames=Blame.CREDENTIAL),
        # The statement is at fault, or the data is, and stays so.  0A000 and 57014 are told below.
        **dict.fromkeys(
            ("01*", "02*", "03*", "09*", "0B*", "0F*", "0L*", "0P*", "0Z*", "10*", "20*", "21*", "22*", "23*", "24*", "27*", "2B*", "2D*"),
            _ASKED,
        ),
        **dict.fromkeys(("2F*", "34*", "38*", "39*", "3B*", "3D*", "3F*", "44*", "54*", "P0*"), _ASKED),
    },
    by_message={
        # 57014.  Where the server ran out of the time that we allow it, it may be quicker now, as after a 504: once.  Whoever cancels a
        # statement by hand wants it to end.
        "canceling statement due to statement timeout": _ONCE_MORE,
        # 0A000.  The columns have changed since the statement was prepared.
        "cached plan must not change result type": _STALE,
        "cached statement plan is invalid": _STALE,
        # The clients' own words for a connection that is no more.
        "connection is closed": _CONTENDED,
        # How asyncio says that several addresses were tried, in an OSError without a number.
        "connect call failed": retry(),
    },
    by_error={
        "asyncpg.QueryCanceledError": _ASKED,
        "asyncpg.FeatureNotSupportedError": _ASKED,
        "asyncpg.InterfaceError": _ASKED,
        "asyncpg.InternalClientError": _BROKEN,
        "asyncpg.OutdatedSchemaCacheError": _STALE,
        "asyncpg.TargetServerAttributeNotMatched": retry(),  # there is no primary at the moment
        "psycopg.QueryCanceled": _ASKED,
        "psycopg.NotSupportedError": _ASKED,
        "psycopg.OperationalError": retry(),
        "psycopg.PipelineAborted": _ASKED,
        "psycopg.Error": _ASKED,
        # Our own pool is exhausted: that passes, and says nothing about the server.
        "psycopg_pool.PoolTimeout": _CONTENDED,
        "psycopg_pool.TooManyRequests": _CONTENDED,
        "psycopg_pool.PoolClosed": _ASKED,
    },
)
"""PostgreSQL, every class of its error codes."""
