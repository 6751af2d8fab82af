"""
An engine inside httpx.

    from resilience import callmissed
    from resilience.adapters.httpx import ResilientClient

    http = ResilientClient(callmissed.engine(login), base_url="https://api.example.com")
    response = await http.get("/api/v1/bots")

Retries, refreshes and all the rest happen inside; what comes out is httpx's own: its responses, its exceptions, and our errors as members
of its family.  SDKs take the client as ``http_client=``; set their ``max_retries=0``, or theirs multiply ours.  Sync clients are not
served: engines are async only.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any, NoReturn, Self

import httpx

from resilience import errors
from resilience.adapters import _httpx
from resilience.adapters._engines import signed_as, takes_engine
from resilience.engine import Engine

__all__ = [
    "HttpxAttemptTimedOut",
    "HttpxCircuitOpen",
    "HttpxDeadlineExceeded",
    "HttpxRefreshFailed",
    "HttpxRejected",
    "ResilientClient",
    "ResilientTransport",
]


class HttpxRejected(errors.Rejected, httpx.TransportError):
    """`resilience.Rejected`, as httpx raises it."""


class HttpxCircuitOpen(errors.CircuitOpen, httpx.TransportError):
    """`resilience.CircuitOpen`, as httpx raises it."""


class HttpxDeadlineExceeded(errors.DeadlineExceeded, httpx.TimeoutException):
    """`resilience.DeadlineExceeded`, as httpx raises it."""

    _request: httpx.Request | None = None


class HttpxAttemptTimedOut(errors.AttemptTimedOut, httpx.TimeoutException):
    """`resilience.AttemptTimedOut`, as httpx raises it."""

    _request: httpx.Request | None = None


class HttpxRefreshFailed(errors.RefreshFailed, httpx.TransportError):
    """`resilience.RefreshFailed`, as httpx raises it."""


_LIBRARY = _httpx.Library(
    httpx,
    {
        errors.Rejected: HttpxRejected,
        errors.CircuitOpen: HttpxCircuitOpen,
        errors.DeadlineExceeded: HttpxDeadlineExceeded,
        errors.AttemptTimedOut: HttpxAttemptTimedOut,
        errors.RefreshFailed: HttpxRefreshFailed,
    },
)


class ResilientClient(httpx.AsyncClient):
    """
    An `httpx.AsyncClient` each of whose requests is one call of an engine, redirects and auth included.

    The body of a response is read inside the attempt, so that one cut short counts as a failure, unless the caller streams it.  A streamed
    body goes on being bounded by the call's deadline.  A failing response is returned as it came, once no attempt is left.
    Of its body 16 MiB are kept, and one that would unpack to more stays packed; who wants it whole streams it.

    The request goes out as a copy.  It carries the call's idempotency key, where its method asks for one and it has none of its own, and
    the token of a `RefreshToken`, in place of any ``Authorization`` of the client's or the caller's: a credential that the policy renews is
    the one that counts.  No origin but that of the first request gets them, redirects included; a token is for the origin of ``base_url``,
    where there is one, unless `RefreshToken.origins` says otherwise.  A body that can be read only once, such as an async generator, is
    sent once; after that the call is not repeated.

    Events name a request by method and host; a path may hold secrets.

    Args:
        engine: An `Engine`, or a view of one (``engine.using(...)``).
        settings: Those of `httpx.AsyncClient`.

    Raises:
        TypeError: No engine, or a sync transport.
    """

    @takes_engine(httpx.AsyncClient.__init__)
    def __init__(self, engine: Engine, **settings: Any) -> None:
        self._adapter = _httpx.Adapter(engine, _LIBRARY, "ResilientClient")
        if settings.get("transport") is not None:
            self._adapter.checked_transport(settings["transport"])
        super().__init__(**settings)

    @signed_as(httpx.AsyncClient.send)
    async def send(self, request: httpx.Request, *, stream: bool = False, **how: Any) -> httpx.Response:
        """
        Send a request as one call of the engine.

        Raises:
            httpx.TransportError: What the last attempt raised, or one of ours: `HttpxCircuitOpen`, `HttpxDeadlineExceeded` ...
        """
        adapter = self._adapter
        ride = adapter.ride(request, self.base_url)
        response: httpx.Response = await adapter.engine.call(adapter.attempt, ride, request, super().send, how, stream)
        if stream or response.status_code >= _httpx.FAILED:
            await adapter.settle(response, ride, request, stream=stream)
        return response

    def _transport_for_url(self, url: httpx.URL) -> httpx.AsyncBaseTransport:
        return self._adapter.through(super()._transport_for_url(url))


class ResilientTransport(httpx.AsyncBaseTransport):
    """
    An engine as a transport, under a client that one cannot choose: ``httpx.AsyncClient(transport=ResilientTransport(engine))``.

    **It judges at the headers.**  Redirects, auth and the reading of the body happen above it: a body that is cut short after a 200 is no
    failure here, is not repeated and trips no breaker, and a limit to each attempt ends with the headers.  The deadline goes on bounding
    the body.  Where you can choose, use `ResilientClient`.

    A redirect to the same origin belongs to the call of the request before it: same key, same deadline, same allowance of repeats.  Any
    other origin gets neither key nor token.  All else is as `ResilientClient` says.

    Args:
        engine: An `Engine`, or a view of one.
        transport: What really sends; `httpx.AsyncHTTPTransport` by default.  A client that is given a transport heeds no proxies of the
            environment: give it here with its ``proxy``.

    Raises:
        TypeError: No engine, or a sync transport.
    """

    def __init__(self, engine: Engine, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._adapter = _httpx.Adapter(engine, _LIBRARY, "ResilientTransport")
        self._transport = httpx.AsyncHTTPTransport() if transport is None else self._adapter.checked_transport(transport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request as one call of the engine, or as the next hop of one."""
        response: httpx.Response = await self._adapter.handle(request, self._transport)
        return response

    def handle_request(self, request: httpx.Request) -> NoReturn:  # noqa: ARG002 - what a sync client calls
        """
        Refuse to serve a sync client.

        Raises:
            TypeError: Always.
        """
        self.__enter__()

    def __enter__(self) -> NoReturn:
        raise TypeError("ResilientTransport: engines are async only; use it in an httpx.AsyncClient")

    async def __aenter__(self) -> Self:
        await self._transport.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None = None, error: BaseException | None = None, traceback: TracebackType | None = None
    ) -> None:
        await self._transport.__aexit__(kind, error, traceback)

    async def aclose(self) -> None:
        """Close the transport inside."""
        await self._transport.aclose()
