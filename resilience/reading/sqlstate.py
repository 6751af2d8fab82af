"""
What a PostgreSQL client's exception says: its SQLSTATE, and whether anything was done.

A statement of PostgreSQL is done as a whole or not at all, so one that was answered with an ERROR has done nothing.  FATAL ends the
session instead, and may strike between the work and the word that it was done; so may a connection that breaks.  Those are unknown, but for
the codes by which a newcomer is turned away before it may ask for anything.

The code comes from asyncpg's and psycopg's ``sqlstate``.  Two things are told otherwise:

* asyncpg reports a broken connection as an error of its own, code 08003, and what the server said before is its cause.
* libpq has no code for what a server says to a connection that is being made, only its words; psycopg keeps the connection on the error
  then, and on no other.  The words are the server's own English ones; in any other language there is no code.

Sources: the manual's appendix A and its chapter on the frontend/backend protocol (fields of an error); ``postmaster.c``, ``postinit.c``,
``auth.c``, ``proc.c`` and ``miscinit.c``, and one message of PgBouncer's, for the words; asyncpg 0.32 ``protocol.pyx`` and psycopg 3.3
``generators.py``.
"""

from __future__ import annotations

import re
from typing import Final

from resilience.outcome import Phase, Signal
from resilience.reading.peek import attribute, is_error, names, word
from resilience.reading.phase import phase_of

__all__ = ["read"]

_FORM = r"[0-9A-Z]{5}"
_SEVERITIES = ("severity_en", "severity_nonlocalized", "severity")
_FATAL = frozenset({"FATAL", "PANIC"})
# Whether the work was done, nobody knows: the connection, the session or the server broke.
_UNKNOWN_CLASSES = frozenset({"08", "XX"})
_UNKNOWN_CODES = frozenset({"40003", "57P01", "57P02", "57P05"})
# Said to a connection that is being made.
_TURNED_AWAY = frozenset({"08001", "08004", "28000", "28P01", "3D000", "53300", "57P03"})

_WORDS: Final = (
    ("password authentication failed|no password supplied", "28P01"),
    (r"authentication failed for user|no pg_hba\.conf entry|pg_hba\.conf rejects", "28000"),
    ('role ".*" does not exist|role ".*" is not permitted to log in', "28000"),
    ('database ".*" does not exist', "3D000"),
    ("too many clients already|too many connections for|connection slots are reserved|no more connections allowed", "53300"),
    ("the database system is (?:starting up|shutting down|in recovery mode|not yet accepting|not accepting)", "57P03"),
    ("is not currently accepting connections", "55000"),
    ("permission denied for database", "42501"),
)
# What the clients themselves say before they send anything.
_UNSENT = "connection is closed|pool is clos|pool is not initialized|another operation is in progress|failed to resolve host"
_MOST = 4096  # characters of a message that are looked at


def read(error: BaseException) -> Signal:
    """
    What *error* says.  Never raises.

    Args:
        error: One of asyncpg's, psycopg's or psycopg_pool's.

    Returns:
        The SQLSTATE as code, where there is one, and the phase.
    """
    code = _code(error)
    if code is not None:
        cause = error.__cause__
        # asyncpg's own word for a broken connection; the server's last one says why.
        if _severity(error) is None and is_error(cause) and _severity(cause) is not None and "asyncpg.PostgresError" in names(type(cause)):
            return Signal(code=_code(cause) or code, phase=Phase.UNKNOWN)
        return Signal(code=code, phase=_phase(code, _severity(error)))
    words = _message(error)
    if attribute(error, "pgconn") is not None:
        code = next((code for pattern, code in _WORDS if re.search(pattern, words) is not None), None)
        return Signal(code=code, phase=Phase.NOT_SENT if code is None else Phase.REFUSED)
    return Signal(phase=phase_of(None, error) if re.search(_UNSENT, words) is None else Phase.NOT_SENT)


def _phase(code: str, severity: str | None) -> Phase:
    if code in _TURNED_AWAY:
        return Phase.REFUSED
    unknown = severity in _FATAL or code[:2] in _UNKNOWN_CLASSES or code in _UNKNOWN_CODES
    return Phase.UNKNOWN if unknown else Phase.REFUSED


def _code(error: BaseException) -> str | None:
    code = word(attribute(error, "sqlstate"))
    return code if code is not None and re.fullmatch(_FORM, code) is not None else None


def _severity(error: BaseException) -> str | None:
    """How grave the server calls it, in English; None for what the client says by itself."""
    for holder in (error, attribute(error, "diag")):
        for name in _SEVERITIES:
            said = word(attribute(holder, name))
            if said is not None:
                return said
    return None


def _message(error: BaseException) -> str:
    try:
        return str(error)[:_MOST].partition("\nMultiple connection attempts failed")[0]
    except Exception:  # noqa: BLE001 - an exception's __str__ may raise anything
        return ""
