"""Both client libraries, a real server behind a real socket, one that does odd things, and an env in which waits are only noted."""

from __future__ import annotations

import contextlib
import importlib
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import attrs
import pytest

from resilience import Engine, Env, backend
from resilience.demo.serve import Server
from resilience.demo.server import Settings
from resilience.events import Event
from tests.servers import PostgreSQL, Redis


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """
    Leave out combinations that say nothing new.

    asyncio runs both libraries over both seams, trio each library and each seam once, and uvloop, which is asyncio to all but the sockets,
    one of each.
    """
    ours = [item for item in items if item.path.is_relative_to(pathlib.Path(__file__).parent)]
    spared = {item for item in ours if _says_nothing_new(getattr(getattr(item, "callspec", None), "params", {}))}
    if spared:
        config.hook.pytest_deselected(items=list(spared))
        items[:] = [item for item in items if item not in spared]


def _says_nothing_new(given: dict[str, Any]) -> bool:
    backend_name, options = given.get("anyio_backend", ("", {}))
    lib, over = given.get("lib", "httpx2"), given.get("over", "client")
    if options.get("use_uvloop"):
        return (lib, over) != ("httpx2", "client")
    return backend_name == "trio" and "over" in given and (lib, over) not in {("httpx2", "client"), ("httpx", "transport")}


@attrs.frozen
class Lib:
    """A client library and its adapter."""

    http: Any
    adapter: Any

    def client(self, engine: Engine, **settings: Any) -> Any:
        """A `ResilientClient` that loads no certificates and heeds no proxies."""
        return self.adapter.ResilientClient(engine, **{"verify": False, "trust_env": False, "timeout": 5, **settings})

    def over_transport(self, engine: Engine, transport: Any = None, **settings: Any) -> Any:
        """A plain client over a `ResilientTransport`."""
        inner = self.http.AsyncHTTPTransport(verify=False, trust_env=False) if transport is None else transport
        return self.http.AsyncClient(transport=self.adapter.ResilientTransport(engine, inner), **{"timeout": 5, **settings})


@pytest.fixture(params=["httpx2", "httpx"])
def lib(request: pytest.FixtureRequest) -> Lib:
    """Everything holds for both."""
    return Lib(importlib.import_module(request.param), importlib.import_module(f"resilience.adapters.{request.param}"))


@pytest.fixture(params=["client", "transport"])
def over(request: pytest.FixtureRequest, lib: Lib) -> Callable[..., Any]:
    """A client of either seam: ``over(engine, base_url=...)``."""
    return lib.client if request.param == "client" else lib.over_transport


class Desk:
    """Real time, but waits are noted instead of waited for, and events kept."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self.events: list[Event] = []
        self.env: Env = attrs.evolve(Env(), sleep=self.sleep, emit=self.events.append, draw=lambda: 0.5)

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        await anyio.lowlevel.checkpoint()

    def sped_up(self, times: float) -> Env:
        """An env in which all limits of ours come so many times sooner; the server and the client's own timeouts take as long as ever."""

        def cutoff(seconds: float, *, shield: bool = False) -> Any:
            return backend.cutoff(seconds / times, shield=shield)

        return attrs.evolve(self.env, now=lambda: time.monotonic() * times, cutoff=cutoff)

    def stopped(self) -> Env:
        """An env whose time is `now`, and only moves when a test moves it; limits run from there in real time."""
        return attrs.evolve(self.env, now=lambda: self.now)

    def names(self) -> list[str]:
        return [event.name for event in self.events]

    def of(self, name: str) -> list[Any]:
        return [event for event in self.events if event.name == name]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture(scope="module")
def stand_in() -> Iterator[Server]:
    with Server() as server:
        yield server


GENEROUS = Settings(address_limit=100_000, key_limits=dict.fromkeys(["free", "starter", "pro", "enterprise"], 100_000))


@pytest.fixture
def server(stand_in: Server) -> Server:
    """The stand-in for CallMissed, begun anew, with room for many requests."""
    stand_in.start_over(GENEROUS)
    return stand_in


# A server for what the stand-in is too well-bred to do.


class Peer:
    """One connection of the odd server, and what was read from it."""

    def __init__(self, connection: socket.socket, odd: Odd) -> None:
        self.connection = connection
        self.odd = odd

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.connection.sendall(data)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """A whole answer; underscores in names are dashes."""
        named = {"content-length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
        head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        self.send(f"HTTP/1.1 {status} Odd\r\n{head}\r\n".encode() + body)

    def gone(self) -> bool:
        """Wait until the client has left, or the test is over."""
        with contextlib.suppress(OSError):
            return not self.connection.recv(1)
        return True


class Odd:
    """
    A server that does what a test's function says.

    Attributes:
        url: Its origin.
        requests: The head and body of every request so far.
        connections: How many connections were made.
    """

    def __init__(self, play: Callable[[Peer, bytes], None]) -> None:
        self.play = play
        self.requests: list[bytes] = []
        self.connections = 0
        self.over = threading.Event()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def arrived(self, at_least: int) -> int:
        """How many requests arrived, once so many have: a client may leave before the server has looked."""
        for _ in range(1_000):
            if len(self.requests) >= at_least:
                break
            time.sleep(0.001)
        return len(self.requests)

    def close(self) -> None:
        self.over.set()
        for one in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            peer = Peer(connection, self)
            left = b""
            while True:
                request, left = _request(connection, left)
                if not request:
                    return
                self.requests.append(request)
                self.play(peer, request)


def _request(connection: socket.socket, data: bytes) -> tuple[bytes, bytes]:
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])}
    if fields.get(b"transfer-encoding") == b"chunked":
        while not (b"\r\n" + rest).endswith(b"\r\n0\r\n\r\n"):
            rest += connection.recv(65_536)
        return head + b"\r\n\r\n" + rest, b""
    length = int(fields.get(b"content-length", b"0"))
    while len(rest) < length:
        rest += connection.recv(65_536)
    return head + b"\r\n\r\n" + rest[:length], rest[length:]


@pytest.fixture
def odd() -> Iterator[Callable[[Callable[[Peer, bytes], None]], Odd]]:
    """Start an odd server: ``odd(play)``, where ``play(peer, request)`` serves one request."""
    servers: list[Odd] = []

    def start(play: Callable[[Peer, bytes], None]) -> Odd:
        servers.append(Odd(play))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL of the tests' own; what one test leaves in it, the next one finds."""
    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis of the tests' own; what one test leaves in it, the next one finds."""
    with Redis() as server:
        yield server
