"""How far a failed attempt got: D4, B53, and the sixth line of the rivals' list."""

from __future__ import annotations

import asyncio
import socket
import ssl
import urllib.error
from typing import Any

import anyio
import httpcore
import httpcore2
import httpx
import httpx2
import pytest

from resilience.errors import AttemptTimedOut, CircuitOpen, DeadlineExceeded, RefreshFailed, Rejected, ResilienceError
from resilience.outcome import Phase
from resilience.reading.phase import leaves_of, phase_of


def named(path: str, *bases: type, **members: Any) -> Any:
    """A stand-in class for a client that is not installed here: only its name and its bases matter."""
    module, _, name = path.rpartition(".")
    return type(name, bases or (Exception,), {"__module__": module, **members})


def caused(error: BaseException, *causes: BaseException) -> BaseException:
    """*error*, from each of *causes* in turn."""
    one = error
    for cause in causes:
        one.__cause__ = cause
        one = cause
    return error


# The class trees as the clients have them.
AIOHTTP_CONNECTOR = named("aiohttp.client_exceptions.ClientConnectorError", named("aiohttp.client_exceptions.ClientOSError", OSError))
URLLIB3_CONNECT = named("urllib3.exceptions.ConnectTimeoutError")
URLLIB3_MAX_RETRY = named("urllib3.exceptions.MaxRetryError")
URLLIB3_PROTOCOL = named("urllib3.exceptions.ProtocolError")
URLLIB3_SSL = named("urllib3.exceptions.SSLError")
REQUESTS_CONNECTION = named("requests.exceptions.ConnectionError", OSError)
OPENAI_CONNECTION = named("openai.APIConnectionError")
BOTOCORE_CONNECTION = named("botocore.exceptions.ConnectionError")
BOTOCORE_HTTP = named("botocore.exceptions.HTTPClientError")


def max_retry(reason: object) -> BaseException:
    error: BaseException = URLLIB3_MAX_RETRY("Max retries exceeded")
    error.reason = reason  # type: ignore[attr-defined]
    return error


NOT_SENT: list[BaseException] = [
    ConnectionRefusedError(),
    socket.gaierror(-2, "Name or service not known"),
    ssl.SSLCertVerificationError("certificate has expired"),
    anyio.ConnectionFailed(),
    *(
        kind("x")
        for client in (httpx, httpx2, httpcore, httpcore2)
        for kind in (client.ConnectError, client.ConnectTimeout, client.PoolTimeout)
    ),
    *(kind("x") for client in (httpx, httpx2, httpcore, httpcore2) for kind in (client.ProxyError, client.UnsupportedProtocol)),
    AIOHTTP_CONNECTOR(),
    named("aiohttp.client_exceptions.ClientConnectorDNSError", AIOHTTP_CONNECTOR)(),
    named("aiohttp.client_exceptions.ClientConnectorSSLError", AIOHTTP_CONNECTOR)(),
    named("aiohttp.client_exceptions.ClientProxyConnectionError", AIOHTTP_CONNECTOR)(),
    named("aiohttp.client_exceptions.ConnectionTimeoutError", TimeoutError)(),
    named("aiohttp.client_exceptions.ServerFingerprintMismatch")(),
    named("urllib3.exceptions.NewConnectionError", URLLIB3_CONNECT)(),
    named("urllib3.exceptions.NameResolutionError", URLLIB3_CONNECT)(),
    named("requests.exceptions.ConnectTimeout", REQUESTS_CONNECTION)(),
    named("requests.exceptions.ProxyError", REQUESTS_CONNECTION)(),
    named("psycopg.errors.ConnectionTimeout")(),
    named("botocore.exceptions.EndpointConnectionError", BOTOCORE_CONNECTION)(),
    named("botocore.exceptions.ConnectTimeoutError", BOTOCORE_CONNECTION)(),
    named("botocore.exceptions.ProxyConnectionError", BOTOCORE_CONNECTION)(),
    named("botocore.exceptions.CredentialRetrievalError")(),
    # Wrapped, as each client wraps.
    max_retry(URLLIB3_CONNECT()),
    REQUESTS_CONNECTION(max_retry(URLLIB3_CONNECT())),
    REQUESTS_CONNECTION(max_retry(URLLIB3_SSL(ssl.SSLCertVerificationError()))),
    urllib.error.URLError(ConnectionRefusedError()),
    urllib.error.URLError(socket.gaierror(-3, "Temporary failure in name resolution")),
    caused(OPENAI_CONNECTION(), httpx2.ConnectError("x")),
    caused(OPENAI_CONNECTION(), httpx2.PoolTimeout("x"), httpcore2.PoolTimeout(), TimeoutError()),
    caused(OSError("All connection attempts failed"), ExceptionGroup("", [ConnectionRefusedError(), ConnectionRefusedError()])),
    caused(RuntimeError(), ValueError(), KeyError(), ConnectionRefusedError()),
    Rejected(),
    CircuitOpen(status=503),
    caused(OPENAI_CONNECTION(), CircuitOpen()),
]

UNKNOWN: list[BaseException] = [
    Exception(),
    ValueError(),
    OSError(101, "Network is unreachable"),
    TimeoutError(),
    ConnectionResetError(),
    BrokenPipeError(),
    ConnectionAbortedError(),
    ConnectionError(),
    ssl.SSLError("alert"),
    asyncio.IncompleteReadError(b"", 5),
    anyio.EndOfStream(),
    anyio.BrokenResourceError(),
    *(kind("x") for client in (httpx, httpx2, httpcore, httpcore2) for kind in (client.ReadError, client.WriteError, client.ReadTimeout)),
    *(kind("x") for client in (httpx, httpx2, httpcore, httpcore2) for kind in (client.RemoteProtocolError, client.LocalProtocolError)),
    named("aiohttp.client_exceptions.ServerDisconnectedError")(),
    named("aiohttp.client_exceptions.ClientOSError", OSError)(),
    named("aiohttp.client_exceptions.SocketTimeoutError", TimeoutError)(),
    named("requests.exceptions.ReadTimeout", OSError)(),
    named("redis.exceptions.ConnectionError")(),
    BOTOCORE_CONNECTION(),
    named("botocore.exceptions.SSLError", BOTOCORE_CONNECTION)(),
    named("botocore.exceptions.ConnectionClosedError", BOTOCORE_HTTP)(),
    named("botocore.exceptions.ReadTimeoutError", BOTOCORE_HTTP)(),
    REQUESTS_CONNECTION(),
    REQUESTS_CONNECTION(URLLIB3_PROTOCOL("Connection aborted.", ConnectionResetError())),
    REQUESTS_CONNECTION(max_retry(URLLIB3_PROTOCOL("Connection aborted.", ConnectionResetError()))),
    max_retry("too many 503 error responses"),
    max_retry(None),
    urllib.error.URLError("unknown url type"),
    urllib.error.URLError(TimeoutError()),
    caused(OPENAI_CONNECTION(), httpx2.ReadTimeout("x"), httpcore2.ReadTimeout(), TimeoutError()),
    caused(OSError("All connection attempts failed"), ExceptionGroup("", [ConnectionRefusedError(), OSError(101, "unreachable")])),
    named("mine.ConnectError")(),
    named("mine.httpx.ConnectError")(),
    ResilienceError(),
    # Their cause is an earlier failure, or what was cut off.
    caused(DeadlineExceeded(status=429, code="busy"), ConnectionRefusedError()),
    caused(AttemptTimedOut(), httpx2.ConnectError("x")),
]

REFUSED: list[BaseException] = [
    named("asyncpg.exceptions.TooManyConnectionsError")(),
    named("asyncpg.exceptions.CannotConnectNowError")(),
    named("psycopg.errors.TooManyConnections")(),
    caused(RuntimeError(), named("psycopg.errors.CannotConnectNow")()),
    RefreshFailed(status=503),
]


def label(error: object) -> str:
    return type(error).__qualname__


@pytest.mark.parametrize("error", NOT_SENT, ids=label)
def test_what_failed_before_the_first_byte_was_never_sent(error: BaseException) -> None:
    """D4: any call may be repeated then, a payment too."""
    assert Phase.NOT_SENT is phase_of(None, error)


@pytest.mark.parametrize("error", UNKNOWN, ids=label)
def test_what_may_have_been_sent_is_unknown(error: BaseException) -> None:
    """D4: what is not certain is not assumed."""
    assert Phase.UNKNOWN is phase_of(None, error)


@pytest.mark.parametrize("error", REFUSED, ids=label)
def test_what_the_peer_turned_away_did_no_work(error: BaseException) -> None:
    assert Phase.REFUSED is phase_of(None, error)


@pytest.mark.parametrize(
    ("status", "phase"),
    [
        (None, Phase.UNKNOWN),
        (200, Phase.UNKNOWN),
        (302, Phase.UNKNOWN),
        (400, Phase.REFUSED),
        (401, Phase.REFUSED),
        (408, Phase.UNKNOWN),
        (409, Phase.REFUSED),
        (424, Phase.UNKNOWN),
        (425, Phase.REFUSED),
        (429, Phase.REFUSED),
        (499, Phase.UNKNOWN),
        (500, Phase.UNKNOWN),
        (503, Phase.UNKNOWN),
        (504, Phase.UNKNOWN),
        (529, Phase.UNKNOWN),
    ],
)
def test_a_status_tells_whether_the_peer_did_any_work(status: int | None, phase: Phase) -> None:
    """
    D4: 429 is safe to repeat, 504 is not.

    Three client errors are about work under way: Bedrock and Azure OpenAI say 408 to their own processing time, Azure OpenAI and Stripe 424
    when something behind them failed, and 499 is how Google's APIs and nginx note that the client was gone before the answer was there.
    """
    assert phase is phase_of(status)
    assert phase is phase_of(status, ValueError())


def test_a_proxys_refusal_was_never_sent_whatever_its_status() -> None:
    refused = named("aiohttp.client_exceptions.ClientHttpProxyError", named("aiohttp.client_exceptions.ClientResponseError"))()

    assert Phase.NOT_SENT is phase_of(502, refused)


def test_an_error_in_the_middle_of_a_stream_had_effects_perhaps_whatever_status_the_client_gives_it() -> None:
    """botocore calls every event that reports an error a 400; the function that was streaming has long run."""
    broken_off = named("botocore.exceptions.EventStreamError", named("botocore.exceptions.ClientError"))()

    assert Phase.UNKNOWN is phase_of(400, broken_off)


def test_ours_go_by_their_class_not_by_the_status_of_an_earlier_failure() -> None:
    assert Phase.UNKNOWN is phase_of(429, DeadlineExceeded(status=429))
    assert Phase.NOT_SENT is phase_of(500, CircuitOpen(status=500))


def test_a_status_says_more_than_a_cause() -> None:
    assert Phase.UNKNOWN is phase_of(503, caused(ValueError(), ConnectionRefusedError()))


def test_the_context_says_nothing() -> None:
    """It is what happened to be handled at the time: a log that was down while a payment failed."""
    error = ValueError()
    error.__context__ = ConnectionRefusedError()

    assert Phase.UNKNOWN is phase_of(None, error)


def test_a_cycle_of_causes_ends() -> None:
    """B53."""
    one, two = ValueError(), KeyError()
    one.__cause__, two.__cause__ = two, one
    itself = RuntimeError()
    itself.__cause__ = itself
    retried = URLLIB3_MAX_RETRY()
    retried.reason = retried

    assert {Phase.UNKNOWN} == {phase_of(None, error) for error in (one, two, itself, retried)}


def test_a_long_chain_of_causes_is_followed_for_a_while() -> None:
    assert Phase.UNKNOWN is phase_of(None, caused(ValueError(), *(ValueError() for _ in range(5000)), ConnectionRefusedError()))


class Shouting(type):
    def __getattribute__(cls, name: str) -> Any:
        if name == "__qualname__":
            raise OSError(name)
        return super().__getattribute__(name)


def test_a_class_that_hides_its_name_is_unknown() -> None:
    class Loud(Exception, metaclass=Shouting):
        pass

    assert Phase.UNKNOWN is phase_of(None, Loud())


def test_the_leaves_of_a_group_come_in_order_from_any_depth() -> None:
    one, two, three, four = (ValueError(number) for number in range(4))

    group = ExceptionGroup("", [one, ExceptionGroup("", [two, ExceptionGroup("", [three])]), four])

    assert [one, two, three, four] == list(leaves_of(group))


def test_a_group_with_too_many_leaves_ends_in_itself() -> None:
    """D39: what was not read could be anything."""
    group = ExceptionGroup("", [ValueError() for _ in range(1000)])

    leaves = list(leaves_of(group))

    assert 257 == len(leaves)
    assert group is leaves[-1]


def test_a_group_that_is_too_deep_ends_in_itself() -> None:
    group: ExceptionGroup[Any] = ExceptionGroup("", [ValueError()])
    for _ in range(5000):
        group = ExceptionGroup("", [group])

    assert [group] == list(leaves_of(group))
