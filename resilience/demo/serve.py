"""
The stand-in on a real socket, in a thread of its own, and the handle by which a scenario steers it.

::

    with Server() as server:
        server.script("POST /api/v1/calls", Reset("after"), Answer(503, headers={"Retry-After": "0.2"}))
        session = server.sign_in()
        async with httpx2.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {session.access_token}"}) as client:
            ...                                   # whatever a client does; asyncio, trio or threads
        counts = server.settle()                  # once nothing is under way

        assert 1 == counts.effects["call.placed"]
        assert 3 == len(counts.of("POST /api/v1/calls"))
        assert 0 == counts.unplayed

- **Start and stop.**  Entering blocks for some milliseconds until both ports are open; leaving drops every connection, however hung,
  ends the thread and raises if the stand-in itself failed.  A plain ``with`` is right in async code too.  Nothing is printed or logged,
  no signal handler is set, the thread is a daemon: Ctrl-C in the caller is the caller's.
- **One owner.**  All state lives in the server's thread.  The handle's methods run there and wait for the result, so that they may be
  called from any thread or event loop and a count is never torn.
- **Faults** (``faults.py``) are met in front of the API, before any limit or credential; *when* tells whether the work was done.  A
  request that meets none is served honestly.  ``Hold`` stops a request at a known point.  ``down()`` closes the port.
- **Counts** (``ledger.py``) are a frozen snapshot: ``counts()`` at once, ``settle()`` when no request is under way any more.  What was
  answered is counted before the client can read it.
- **Many scenarios** may share one server: ``start_over()`` gives it a new, empty state, new settings if wanted, at the same address.
  Sessions and keys of before are then unknown, and the limits count from nothing.
- **Defaults are the documented API's**: 5 requests a minute to the auth endpoints, 200 an address.  ``sign_in()`` and ``api_key()`` hand
  out credentials without passing through an endpoint, so that a scenario need not spend its five.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from resilience.demo.envelopes import Reply
from resilience.demo.exchange import ClientGone, Exchange
from resilience.demo.faults import Fault, Honest, Script
from resilience.demo.ledger import Counts, Ledger, Seen
from resilience.demo.server import Api, Settings
from resilience.demo.tokens import ALL_SCOPES, Session, Tenant

__all__ = ["Server"]

T = TypeVar("T")

HOST = "127.0.0.1"


class _Stage:
    """What one scenario plays on: an API, the faults in front of it and the counts beside it."""

    def __init__(self, settings: Settings, crashes: list[str]) -> None:
        self.ledger = Ledger(crashes=crashes)
        self.api = Api(settings, self.ledger)
        self.script = Script()
        self._began = time.monotonic()
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def serve(self, scope: Scope, receive: Receive, send: Send, elsewhere: str) -> None:
        """Serve a request to the API, with whatever fault is due."""
        fault: Fault = self.script.take(scope["method"], scope["path"]) or Honest()
        number = self._enter(self.ledger.seen, scope, fault)
        self._under_way += 1
        self._idle.clear()
        try:
            await fault.play(Exchange(scope, receive, send, self.api, self.ledger.seen, number, elsewhere))
        except ClientGone:
            pass
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()

    async def serve_elsewhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request to the other origin, which takes anything."""
        number = self._enter(self.ledger.elsewhere, scope, Honest())
        exchange = Exchange(scope, receive, send, self.api, self.ledger.elsewhere, number, "")
        with contextlib.suppress(ClientGone):
            await exchange.read()
            await exchange.answer(Reply.of(200, {"origin": "other"}))

    def counts(self) -> Counts:
        """Everything counted so far."""
        return self.ledger.snapshot(unplayed=self.script.unplayed)

    async def settle(self, seconds: float) -> Counts:
        """The counts, once nothing is under way; it has *seconds* to get there."""
        for _ in range(10):  # rounds of the loop, in which it takes up what clients sent just before they left
            await asyncio.sleep(0)
        try:
            async with asyncio.timeout(seconds):
                while self._under_way:
                    await self._idle.wait()
        except TimeoutError:
            raise TimeoutError(f"{self._under_way} requests are still under way after {seconds} s") from None
        return self.counts()

    def _enter(self, log: list[Seen], scope: Scope, fault: Fault) -> int:
        """Enter a request in *log*; its number."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        met = None if isinstance(fault, Honest) else type(fault).__name__
        log.append(Seen(len(log) + 1, time.monotonic() - self._began, scope["method"], scope["path"], headers, met))
        return len(log)


class _Errors(logging.Handler):
    """What uvicorn would log as an error is a failure of the stand-in."""

    def __init__(self, report: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        self._report(f"{record.getMessage().strip()}: {error!r}")


class _Connection(H11Protocol):
    """uvicorn's own protocol, except that faults can reach its socket, and that it logs to nobody but us."""

    def __init__(self, config: uvicorn.Config, state: ServerState, logger: logging.Logger) -> None:
        super().__init__(config, state, {})
        self.logger = logger
        self.access_log = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self.app_state["transport"] = transport  # which uvicorn copies into scope["state"]


def _socket() -> socket.socket:
    # The protocol is named because asyncio turns Nagle's algorithm off only where it is; an answer would take 40 ms.
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)


class _Port:
    """
    A port on this machine that stays ours, whether or not anybody listens there.

    Args:
        app: What is served to whoever connects.
        logger: Where uvicorn tells its errors.
    """

    def __init__(self, app: ASGIApp, logger: logging.Logger) -> None:
        self._config = uvicorn.Config(
            app, interface="asgi3", lifespan="off", ws="none", log_config=None, proxy_headers=False, timeout_keep_alive=60
        )
        self._state = ServerState()
        self._logger = logger
        self._listener: asyncio.Server | None = None
        self._socket = _socket()
        self._socket.bind((HOST, 0))
        # Not before bind, which would let two servers draw the same port; but the sockets accepted later have to allow another bind.
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._address: tuple[str, int] = self._socket.getsockname()
        self.url = f"http://{HOST}:{self._address[1]}"

    async def open(self) -> None:
        """Listen.  Without effect where that is done already."""
        if self._listener is None:
            self._listener = await asyncio.get_running_loop().create_server(
                lambda: _Connection(self._config, self._state, self._logger), sock=self._socket
            )

    def shut(self) -> None:
        """Drop every connection and refuse new ones, until opened again."""
        if self._listener is None:
            return
        self._listener.close()  # closes the socket as well
        self._listener = None
        self._drop()
        self._socket = _socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(self._address)  # bound and not listening: refuses, and nobody else can take it

    async def give_up(self) -> None:
        """Drop everything for good, whatever hangs."""
        if self._listener is not None:
            self._listener.close()
        self._socket.close()
        self._drop()
        await asyncio.sleep(0)  # connections hear of their end
        for task in tuple(self._state.tasks):
            task.cancel()
        await asyncio.gather(*self._state.tasks, return_exceptions=True)

    def _drop(self) -> None:
        for connection in tuple(self._state.connections):
            connection.transport.abort()


class Server:
    """
    The stand-in while it runs; see the top of this file.

    Args:
        settings: How the API is set; None for the documented defaults.

    Attributes:
        url: The API's origin, without a slash at its end.
        other_url: The other origin, which takes any request and only counts it.
    """

    url: str
    other_url: str

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = Settings() if settings is None else settings
        self._crashes: list[str] = []
        self._stage = _Stage(self._settings, self._crashes)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __enter__(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("this server was started before; make a new one")
        ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="callmissed-stand-in", daemon=True)
        self._thread.start()
        try:
            ready.result()
        except BaseException:
            self._finish()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._finish()
        if kind is None and self._crashes:
            raise RuntimeError(f"the stand-in itself failed: {self._crashes}")

    # What a scenario asks for.

    def script(self, route: str, *faults: Fault, times: int | None = 1) -> None:
        """
        Let the next requests to *route* meet *faults*, one each, in order.

        Args:
            route: Method and path, ``POST /api/v1/calls``; either may hold ``*``, and ``*`` alone is any request.
            faults: At least one.
            times: How often the sequence is played; None for ever.

        Raises:
            ValueError: The API has no such route; no fault; *times* below 1.
        """

        def add() -> None:
            method, _, path = route.partition(" ")
            if "*" not in route and not self._stage.api.serves(method, path):
                raise ValueError(f"the API has no route {route!r}")
            self._stage.script.add(route, *faults, times=times)

        self._do(add)

    def unscript(self) -> None:
        """Forget the faults that were not played."""
        self._do(self._stage.script.clear)

    def counts(self) -> Counts:
        """Everything counted so far."""
        return self._do(self._stage.counts)

    def settle(self, timeout: float = 5.0) -> Counts:
        """
        Everything counted, once no request is under way: late work is done, and clients that left have been noticed.

        It blocks; a request that waits for its client, in the same event loop, will not end meanwhile.

        Raises:
            TimeoutError: Something is still under way after *timeout* seconds.
        """
        return self._await(self._stage.settle(timeout)) if self._loop is not None else self._stage.counts()

    def start_over(self, settings: Settings | None = None) -> None:
        """
        Begin anew: no bots, results, sessions, keys, faults or counts, nothing used up.  What is under way ends in the old state.

        Args:
            settings: Those to begin with; None for those of the start.
        """

        def begin() -> None:
            self._stage = _Stage(self._settings if settings is None else settings, self._crashes)

        self._do(begin)

    def add_tenant(self, tenant: Tenant) -> None:
        """
        Make a tenant beside ``acme``.

        Raises:
            ValueError: Its name is taken.
        """
        self._do(lambda: self._stage.api.credentials.add_tenant(tenant))

    def sign_in(self, tenant: str = "acme") -> Session:
        """A session, as a login would open it, without one."""
        return self._do(lambda: self._stage.api.credentials.open_session(self._stage.api.credentials.tenant(tenant)))

    def api_key(self, tenant: str = "acme", *, scopes: frozenset[str] = ALL_SCOPES) -> str:
        """A new API key (``cm_...``)."""
        return self._do(lambda: self._stage.api.credentials.add_key(self._stage.api.credentials.tenant(tenant), scopes))

    def revoke(self, key: str) -> None:
        """
        Revoke an API key.

        Raises:
            KeyError: There is no such key.
        """
        self._do(lambda: self._stage.api.credentials.revoke_key(key))

    def expire_tokens(self) -> None:
        """Let every access token issued up to now count as expired.  Refresh tokens and API keys stay good."""
        self._do(self._stage.api.credentials.expire_all)

    @contextlib.contextmanager
    def down(self) -> Generator[None]:
        """Drop every connection and refuse new ones, for as long as the context lasts."""
        self._do(self._port.shut)
        try:
            yield
        finally:
            self._await(self._port.open())

    def restart(self, seconds: float) -> None:
        """Drop every connection, refuse new ones for *seconds*, then serve again; returns at once.  The state is kept."""

        async def away() -> None:
            self._port.shut()
            loop = asyncio.get_running_loop()
            loop.call_later(seconds, lambda: self._errands.add(loop.create_task(self._port.open())))

        self._await(away())

    # The thread.

    def _run(self, ready: Future[None]) -> None:
        # Not whatever loop the process prefers: a reset needs the plain one's socket.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(self._main(ready))

    async def _main(self, ready: Future[None]) -> None:
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._errands: set[asyncio.Task[None]] = set()
        self._stopping = False
        loop.set_exception_handler(lambda _loop, context: self._report(f"{context['message']}: {context.get('exception')!r}"))
        logger = logging.Logger("resilience.demo", logging.ERROR)  # noqa: LOG001 - in no hierarchy, so that nothing is printed anywhere
        logger.addHandler(_Errors(self._report))
        try:
            self._port, other = _Port(self._serve, logger), _Port(self._serve_elsewhere, logger)
            self.url, self.other_url = self._port.url, other.url
            await self._port.open()
            await other.open()
        except Exception as error:  # noqa: BLE001 - it is raised where the server is entered
            ready.set_exception(error)
            return
        self._loop = loop
        ready.set_result(None)
        await self._stop.wait()
        self._stopping = True
        await self._port.give_up()
        await other.give_up()

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stage.serve(scope, receive, send, self.other_url)

    async def _serve_elsewhere(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._stage.serve_elsewhere(scope, receive, send)

    def _report(self, crash: str) -> None:
        if not self._stopping:  # when everything is being cancelled, uvicorn calls that an error
            self._crashes.append(crash)

    def _finish(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(self._stop.set)
        if self._thread is not None:
            self._thread.join()

    def _do(self, action: Callable[[], T]) -> T:
        """Run *action* in the server's thread, or here while there is none."""
        if self._loop is None:
            return action()

        async def acting() -> T:
            return action()

        return self._await(acting())

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        assert self._loop is not None, "the server does not run"  # noqa: S101
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()
