"""
How far a failed attempt got, which decides whether repeating it is safe.

A status tells: 4xx says that the peer did no work, but for three of them; anything else says nothing.  Without one it is the exception's
class, known by its name, so that no client is imported.  A class is listed only if its client raises it before the first byte of a request
is written, or where the peer's refusal comes before any work; "probably never sent" is not listed.  A wrapper is as certain as what it says
it was caused by.

This is the word of the *last* thing that was tried.  A client that repeats or redirects on its own may have done more before that: turn its
retries off, and see `resilience.reading.shape.read` for redirects.

Sources, as installed and read in 2026: httpcore's and httpcore2's backends and pools, httpx ``_transports/default.py``, aiohttp
``client.py`` and ``connector.py``, requests ``adapters.py``, urllib3 ``connectionpool.py``, botocore ``httpsession.py`` and
``eventstream.py``, psycopg ``connection_async.py``, asyncpg ``exceptions``, CPython's socket and ssl.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from resilience.errors import RefreshFailed, Rejected, ResilienceError
from resilience.outcome import Phase
from resilience.reading.kinds import Kind, kind_of
from resilience.reading.peek import attribute, is_error, is_group

__all__ = ["STEPS", "keeps_causes", "leaves_of", "listed", "phase_of", "worst"]

STEPS: Final = 16
"""How far a chain of causes is followed; a cycle ends there too."""
_LEAVES = 256  # of an exception group that are read ...
_NODES = 4 * _LEAVES  # ... and what is looked at to find them

_NOT_SENT = frozenset(
    {
        "builtins.ConnectionRefusedError",
        "socket.gaierror",
        "ssl.SSLCertVerificationError",  # raised by the handshake only
        "anyio.ConnectionFailed",
        # Connecting covers the name, the socket, the handshake and a proxy's tunnel; the pool comes before all of them.
        *(
            f"{client}.{name}"
            for client in ("httpx", "httpx2", "httpcore", "httpcore2")
            for name in ("ConnectError", "ConnectTimeout", "PoolTimeout", "UnsupportedProtocol", "ProxyError")
        ),
        "aiohttp.ClientConnectorError",  # with its whole family: DNS, proxy, TLS, certificate, Unix socket
        "aiohttp.ConnectionTimeoutError",
        "aiohttp.ServerFingerprintMismatch",
        "aiohttp.ClientHttpProxyError",  # has a status, but of the proxy's answer to CONNECT
        "urllib3.ConnectTimeoutError",  # and NewConnectionError, NameResolutionError
        "urllib3.NewConnectionError",  # urllib3 1 did not derive it from the other
        "urllib3.ProxyError",
        "urllib3.EmptyPoolError",
        "requests.ConnectTimeout",
        "requests.ProxyError",
        # botocore hides what urllib3 raised.  A timeout of the TLS handshake is a ReadTimeoutError there, so that one is not listed.
        "botocore.EndpointConnectionError",
        "botocore.ConnectTimeoutError",
        "botocore.ProxyConnectionError",
        "botocore.CredentialRetrievalError",  # comes before the request is signed
        "asyncpg.TargetServerAttributeNotMatched",  # by all the hosts that were asked
        "psycopg.ConnectionTimeout",
        "psycopg_pool.PoolTimeout",
        "psycopg_pool.PoolClosed",
        "psycopg_pool.TooManyRequests",
    }
)
# PostgreSQL, 53300 and 57P03: said to a new connection, before it may ask for anything.
_REFUSED = frozenset(
    {"asyncpg.TooManyConnectionsError", "asyncpg.CannotConnectNowError", "psycopg.TooManyConnections", "psycopg.CannotConnectNow"}
)
# An error in the middle of an answer that began as a success.  The 400 is botocore's own; the peer sends no status there.
_UNKNOWN = frozenset({"botocore.EventStreamError"})
_LISTED: Final[dict[str, Phase]] = {
    **dict.fromkeys(_NOT_SENT, Phase.NOT_SENT),
    **dict.fromkeys(_REFUSED, Phase.REFUSED),
    **dict.fromkeys(_UNKNOWN, Phase.UNKNOWN),
}
# These keep what happened in an attribute or argument: urllib.error.URLError.reason, urllib3's MaxRetryError.reason, requests' args[0].
_WRAPPERS = frozenset({"urllib", "urllib3", "requests"})
# Client errors that may come in the middle of the work.  408: to RFC 9110 the request did not arrive in time, but Bedrock ("processing time
# exceeded the model timeout length"), Lambda and Azure OpenAI say it of their own time.  424: something behind the peer failed, and others
# may have done their part; so Stripe, and Azure OpenAI of tools.  499: the client has gone, in the words of nginx; Google's CANCELLED.
_IN_THE_MIDDLE = frozenset({408, 424, 499})
_ORDER = (Phase.NOT_SENT, Phase.REFUSED, Phase.UNKNOWN)


def phase_of(status: int | None, error: BaseException | None = None) -> Phase:
    """
    How far an attempt got that ended in *status*, in *error*, or in both.

    Args:
        status: The status that the response, or the exception, carries.
        error: The exception, if one was raised.  Its causes (``__cause__``, not the context in which it happened to be raised) are followed
            for at most 16 steps.
    """
    told = None if error is None else _by_class(error)
    if told is None and status is not None:
        refused = 400 <= status < 500 and status not in _IN_THE_MIDDLE  # noqa: PLR2004 - the client errors of RFC 9110, 15.5
        told = Phase.REFUSED if refused else Phase.UNKNOWN
    if told is not None:
        return told
    for _ in range(STEPS):
        if error is None:
            break
        if is_group(error):
            # Happy eyeballs: several addresses were tried, and each failed in its own way.
            return worst(_by_class(leaf) or Phase.UNKNOWN for leaf in leaves_of(error))
        told = _by_class(error)
        if told is not None:
            return told
        error = _cause(error)
    return Phase.UNKNOWN


def worst(phases: Iterator[Phase]) -> Phase:
    """Of several phases the one that forbids most: unknown before refused before not sent."""
    return max(phases, key=_ORDER.index)


def leaves_of(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """
    The leaves of *group*, left to right, at any depth.

    At most 256 leaves; where that is not all of them, *group* itself comes last: an exception that no table knows, so that what was not
    read makes nothing look better.
    """
    todo: list[BaseException] = [group]
    read = 0
    for _ in range(_NODES):
        if not todo:
            return
        error = todo.pop()
        if is_group(error):
            todo.extend(reversed(error.exceptions))
        elif read < _LEAVES:
            read += 1
            yield error
        else:
            break
    yield group


def _by_class(error: BaseException) -> Phase | None:
    return _of_ours(error) if isinstance(error, ResilienceError) else listed(kind_of(type(error)))


def listed(known: Kind) -> Phase | None:
    """How far an attempt got that ended in an exception of this class, as far as its names tell, or those of its bases."""
    try:
        return known.phase
    except AttributeError:
        known.phase = next((_LISTED[name] for name in known.names if name in _LISTED), None)
        return known.phase


def _of_ours(error: ResilienceError) -> Phase:
    """Ours say it themselves; their status, code and cause are those of an earlier failure."""
    if isinstance(error, Rejected):
        return Phase.NOT_SENT
    # A refresh follows a 401, or comes before the attempt: the attempt itself did no work.
    return Phase.REFUSED if isinstance(error, RefreshFailed) else Phase.UNKNOWN


def _cause(error: BaseException) -> BaseException | None:
    if keeps_causes(kind_of(type(error))):
        for held in (attribute(error, "reason"), *error.args[:1]):
            if is_error(held):
                return held
    return error.__cause__


def keeps_causes(known: Kind) -> bool:
    """Whether exceptions of this class may keep what caused them in a place of their own."""
    return any(name.partition(".")[0] in _WRAPPERS for name in known.names)
