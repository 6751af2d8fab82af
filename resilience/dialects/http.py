"""
Plain HTTP: the base of every other dialect.

Sources, as of 2026: RFC 9110 section 15 (statuses), RFC 6585 (428, 429, 431, 511), RFC 8470 (425).  Exceptions are named, not imported: the
class trees are those of CPython, httpx, httpx2, httpcore, aiohttp, requests, urllib3, anyio and trio.
"""

from __future__ import annotations

from typing import Final

from resilience.classify import Rules
from resilience.outcome import Blame, fail_fast, refresh_token, retry

__all__ = ["RULES"]

_ASKED = fail_fast()
_KEY = fail_fast(blames=Blame.CREDENTIAL)
_THEIRS = fail_fast(blames=Blame.PEER)
_BUSY = retry(throttled=True)
_POOL = retry(blames=Blame.CALLER)  # our own is exhausted: that passes, and says nothing about the peer

RULES: Final = Rules("base").extend(
    "http",
    by_code={
        # errno(3) of an OSError that is no ConnectionError: the network is away for the moment.
        "ENETDOWN": retry(),
        "ENETUNREACH": retry(),
        "ENETRESET": retry(),
        "EHOSTDOWN": retry(),
        "EHOSTUNREACH": retry(),
    },
    by_message={
        # OpenSSL's words.  Most clients have one class for every trouble with TLS, or put it with all that goes wrong while connecting.
        "certificate verify failed": _THEIRS,
    },
    by_status={
        # RFC 9110, 15.5: the request is at fault, and stays so however often it is sent.
        "4xx": _ASKED,
        401: refresh_token(),  # with no source of tokens configured nobody acts on it, and it fails fast
        403: _KEY,
        # 408: the server gave up waiting for the request and invites another; 425 (RFC 8470): not as early data, so again.
        408: retry(),
        425: retry(),
        429: _BUSY,  # RFC 6585, 4
        # RFC 9110, 15.6: the server is at fault; an unknown 5xx counts as 500.
        "5xx": retry(),
        501: _THEIRS,
        505: _THEIRS,
        506: _THEIRS,
        508: _THEIRS,
        510: _THEIRS,
        511: _ASKED,  # the network wants a login; the peer was never asked
        529: _BUSY,  # not registered; used for "overloaded" by several APIs
        # A redirect that was not followed comes back as a value.  One raised as an error does not pass by repeating.
        "3xx": _ASKED,
    },
    by_error={
        ConnectionError: retry(),
        TimeoutError: retry(),
        # A certificate that is wrong now will be wrong in a second; a handshake that broke off need not.
        "ssl.SSLCertVerificationError": _THEIRS,
        "ssl.SSLError": retry(),
        "socket.gaierror": retry(),  # resolvers say "unknown" for a while, too
        "builtins.EOFError": retry(),
        "http.BadStatusLine": retry(),  # http.client's, as the next
        "http.IncompleteRead": retry(),
        "asyncio.IncompleteReadError": retry(),
        "anyio.BrokenResourceError": retry(),
        "anyio.EndOfStream": retry(),
        "anyio.IncompleteRead": retry(),
        "anyio.ConnectionFailed": retry(),
        "trio.BrokenResourceError": retry(),
        "trio.TooSlowError": retry(),
        # httpx and its kin: transport errors pass, a request that breaks the protocol does not.
        "httpx.TransportError": retry(),
        "httpx.UnsupportedProtocol": _ASKED,
        "httpx.LocalProtocolError": _ASKED,
        "httpx.PoolTimeout": _POOL,
        "httpx2.TransportError": retry(),
        "httpx2.PoolTimeout": _POOL,
        "httpx2.UnsupportedProtocol": _ASKED,
        "httpx2.LocalProtocolError": _ASKED,
        "httpcore.NetworkError": retry(),
        "httpcore.TimeoutException": retry(),
        "httpcore.PoolTimeout": _POOL,
        "httpcore.RemoteProtocolError": retry(),
        "httpcore2.NetworkError": retry(),
        "httpcore2.TimeoutException": retry(),
        "httpcore2.PoolTimeout": _POOL,
        "httpcore2.RemoteProtocolError": retry(),
        "aiohttp.ClientConnectionError": retry(),
        "aiohttp.ClientPayloadError": retry(),
        "aiohttp.HttpProcessingError": retry(),  # an answer that it could not parse
        "aiohttp.ClientConnectorCertificateError": _THEIRS,
        "requests.ConnectionError": retry(),
        "requests.Timeout": retry(),
        "requests.ChunkedEncodingError": retry(),
        "urllib3.EmptyPoolError": _POOL,
        "urllib3.NewConnectionError": retry(),
        "urllib3.ProtocolError": retry(),
        "urllib3.SSLError": retry(),
        "urllib3.TimeoutError": retry(),
        "openai.APIConnectionError": retry(),
        "anthropic.APIConnectionError": retry(),
    },
)
"""HTTP as the RFCs have it.  Unknown exceptions and programming errors fail fast."""
