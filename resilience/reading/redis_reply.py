"""
redis-py's exceptions to a `Signal`, sync and async alike.

A server of Redis's kind answers a command that it refuses with ``-CODE some words``: one word in capitals says why.  redis-py keeps that
word where it makes no class of it, drops it where it does, and drops ``ERR`` in any case; later versions have it in ``status_code``, too.
Here the code is the same whichever way it came.

An error *reply* means that the command did nothing: the server looks before it writes.  The exceptions are scripts and functions, which may
have written before they failed, a pipeline, of which one command was refused and the others were not, and codes that the server does not
know itself, which come from a script or a module.  ``EXECABORT`` is none: the transaction was thrown away as a whole.

Whatever happens while the pool gets a connection, its handshake included, happens before the command is sent: the traceback tells, and
where there is none, redis-py's own words.

Sources: redis-py 6.2 and 8.1 (``_parsers/base.py``, ``exceptions.py``, ``asyncio/client.py``, ``asyncio/connection.py``), and the replies
of Redis 7.0.
"""

from __future__ import annotations

import re
from typing import Final

from resilience.outcome import Phase, Signal
from resilience.reading.peek import attribute, is_text, names, word

__all__ = ["POOL_EXHAUSTED", "read"]

POOL_EXHAUSTED: Final = "MaxConnectionsError"
"""The code where our own pool had no connection left: the class that redis-py has for one of its pools."""

_FRAMES: Final = 128  # of a traceback; redis-py's own go a dozen deep

# Nearest class first.  What is not here keeps its word in the message, or says "ERR".
_BY_CLASS: Final = {
    "redis.BusyLoadingError": "LOADING",
    "redis.ReadOnlyError": "READONLY",
    "redis.OutOfMemoryError": "OOM",
    "redis.NoScriptError": "NOSCRIPT",
    "redis.ExecAbortError": "EXECABORT",
    "redis.NoPermissionError": "NOPERM",
    "redis.AuthorizationError": "NOPERM",
    "redis.AuthenticationError": "WRONGPASS",
    "redis.MasterDownError": "MASTERDOWN",
    "redis.ClusterDownError": "CLUSTERDOWN",
    "redis.ClusterCrossSlotError": "CROSSSLOT",
    "redis.TryAgainError": "TRYAGAIN",
    "redis.MovedError": "MOVED",
    "redis.AskError": "ASK",
}
_IO: Final = "IOERR"  # MIGRATE may have left the key at its target
# After these the server has done nothing.
_REFUSALS: Final = frozenset(
    {
        *_BY_CLASS.values(),
        *("ERR", "WRONGTYPE", "NOAUTH", "DENIED", "NOPROTO", "BUSY", "MISCONF", "NOREPLICAS"),
        *("BUSYKEY", "BUSYGROUP", "NOGROUP", "NOTBUSY", "UNKILLABLE", "UNBLOCKED", "INVALIDOBJ"),
    }
)
_CODE: Final = r"[A-Z][A-Z0-9_]*"
_PIPELINE: Final = " of pipeline caused error: "
_ABORTED: Final = rf"Transaction discarded because of: ({_CODE}) "
# " script: 2f16..., on @user_script:1." since 7.0, "Error running script (call to f_2f16...)" before.
_IN_SCRIPT: Final = r" script: \S+, on @|[Rr]unning script \(call to "
_CONNECTING: Final = r"Error\b.* connecting to |Timeout connecting to server"
_DEMOTED: Final = "The previous master is now a slave"  # Sentinel's connections say so for READONLY
_CLIENTS: Final = "max number of clients"
_LOST_COUNT: Final = "Wrong number of response items"  # redis-py's own ResponseError: the commands were carried out
_ELSEWHERE: Final = "Target instance replied with error"  # MIGRATE, of several keys: some may have moved
_CHANGED: Final = "Watched variable changed."  # EXEC answered nil; any other WatchError is about a lost connection
_BEFORE_SENDING: Final = frozenset(
    {"redis.MaxConnectionsError", "redis.MasterNotFoundError", "redis.SlaveNotFoundError", "redis.DataError"}
)


def read(error: BaseException) -> Signal:
    """
    What a `redis.RedisError` says.

    Args:
        error: The exception, sync or async.

    Returns:
        Code, where the server or the pool gave one, and phase.  The message may hold keys and values; it is left where it is.
    """
    kinds = frozenset(names(type(error)))
    text = error.args[0] if error.args and is_text(error.args[0]) else ""
    before, in_pipeline, rest = text.rpartition(_PIPELINE)
    reply = re.sub(r"""^\(['"]""", "", rest)
    del before  # commands, with keys and values
    code, own = _code(error, kinds, reply)
    way = _way(error)
    if "get_connection" in way or kinds & _BEFORE_SENDING or code == POOL_EXHAUSTED:
        return Signal(code=code, phase=Phase.NOT_SENT)
    if code is None:
        return Signal(phase=_without_reply(kinds, text, way))
    if in_pipeline:
        discarded: object = attribute(error, "__cause__")
        return Signal(code=code, phase=Phase.REFUSED if "redis.ExecAbortError" in names(type(discarded)) else Phase.UNKNOWN)
    did_nothing = own and code in _REFUSALS and re.search(_IN_SCRIPT, reply) is None and not reply.startswith((_LOST_COUNT, _ELSEWHERE))
    return Signal(code=code, phase=Phase.REFUSED if did_nothing else Phase.UNKNOWN)


def _code(error: BaseException, kinds: frozenset[str], reply: str) -> tuple[str | None, bool]:
    """The code of an error reply, None where it was none, and whether the server's own word for it is known."""
    told = attribute(error, "status_code")
    told = word(told) if is_text(told) and re.fullmatch(_CODE, told) is not None else None
    if told == "EXECABORT" or "redis.ExecAbortError" in kinds:
        # Because of the transaction's commands, or because of the server's state, which then is what matters.
        because = re.match(_ABORTED, reply)
        return ("EXECABORT" if because is None else because[1]), True
    if told is not None and told != "ERR":
        return told, True
    if "redis.AuthenticationError" in kinds and reply.startswith("Authentication required"):
        return "NOAUTH", True
    by_class = next((_BY_CLASS[name] for name in names(type(error)) if name in _BY_CLASS), None)
    if by_class is not None:
        return by_class, True
    if told is not None or reply.startswith(_CLIENTS):
        return "ERR", True
    if reply == _DEMOTED:
        return "READONLY", True
    if "redis.MaxConnectionsError" in kinds or reply in {"Too many connections", "No connection available."}:
        return POOL_EXHAUSTED, True
    if "redis.ResponseError" not in kinds:
        return None, False
    first = re.match(rf"({_CODE})\b", reply)
    told_always = hasattr(error, "status_code")
    if first is not None and (told_always or first[1] in _REFUSALS or first[1] == _IO):
        return word(first[1]), True
    # Where redis-py does not tell, "EXEC without MULTI" had ERR in front, and a script's own "MYERR" had not: who can say which it is?
    return "ERR", first is None and not told_always


def _without_reply(kinds: frozenset[str], text: str, way: frozenset[str]) -> Phase:
    if "redis.WatchError" in kinds:
        return Phase.REFUSED if text == _CHANGED else Phase.UNKNOWN
    # A connection that is made anew while a command is under way may follow one that was lost after it was sent.
    if "send_packed_command" not in way and re.match(_CONNECTING, text) is not None:
        return Phase.NOT_SENT
    return Phase.UNKNOWN


def _way(error: BaseException) -> frozenset[str]:
    """The functions of redis-py that *error* came through."""
    way: set[str] = set()
    traceback = error.__traceback__
    for _ in range(_FRAMES):
        if traceback is None:
            break
        frame = traceback.tb_frame
        if str(frame.f_globals.get("__name__")).partition(".")[0] == "redis":
            way.add(frame.f_code.co_name)
        traceback = traceback.tb_next
    return frozenset(way)
