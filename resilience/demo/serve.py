"""
The stand-in on a real socket, in a thread of its own, and the handle by which a scenario steers it.

::

    with Server(Settings(address_limit=1_000)) as server:
        server.script("POST /api/v1/calls", Reset("after"), Answer(503, headers={"Retry-After": "0.2"}))
        session = server.sign_in()
        async with httpx2.AsyncClient(base_url=server.url, headers={"Authorization": f"Bearer {session.access_token}"}) as client:
            ...                                         # one POST with an Idempotency-Key, repeated until it succeeds
        counts = server.settle()                        # once nothing is under way

        assert [None, 503, 201] == [seen.status for seen in counts.of("POST /api/v1/calls")]
        assert {"call.placed": 1} == counts.effects     # done once: the answer got lost, the third try was a replay
        assert (1, 0) == (counts.replays, counts.unplayed)

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
  out credentials without passing through an endpoint, so that a scenario need not spend its five.  A hundred calls through one expired
  token are 201 requests: one too many for one address, unless ``address_limit`` is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from starlette.types import Receive, Scope, Send

from resilience.demo.faults import Fault
from resilience.demo.ledger import Counts
from resilience.demo.port import Port
from resilience.demo.server import Settings
from resilience.demo.stage import Stage
from resilience.demo.tokens import ALL_SCOPES, Session, Tenant

__all__ = ["Server"]

T = TypeVar("T")


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
        self._stage = Stage(self._settings, self._crashes)
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
            self._stage = Stage(self._settings if settings is None else settings, self._crashes)

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
        try:
            self._port, other = Port(self._serve, self._report), Port(self._serve_elsewhere, self._report)
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
