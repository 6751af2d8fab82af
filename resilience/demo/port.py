"""
A port to serve on, with uvicorn's own protocol, that can be shut and opened again, and given up at once.

uvicorn's server is left out on purpose.  It waits for clients that hang, minds signals and logs; a stand-in that mistreats its clients
has to be rid of them at once, and to stay silent.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

__all__ = ["Port"]

HOST = "127.0.0.1"


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


class Port:
    """
    A port on this machine that stays ours, whether or not anybody listens there.

    Args:
        app: What is served to whoever connects.
        report: Told of each failure that uvicorn would log.
    """

    def __init__(self, app: ASGIApp, report: Callable[[str], None]) -> None:
        self._config = uvicorn.Config(
            app, interface="asgi3", lifespan="off", ws="none", log_config=None, proxy_headers=False, timeout_keep_alive=60
        )
        self._state = ServerState()
        self._logger = logging.Logger("resilience.demo", logging.ERROR)  # noqa: LOG001 - in no hierarchy: nothing is printed
        self._logger.addHandler(_Errors(report))
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
