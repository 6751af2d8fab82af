"""
One request and the socket it came on, as a fault gets hold of them.

The API behind never sees a socket; an exchange reads the whole request, lets the API work on it, and holds the reply, so that a fault
may send it, delay it, cut it short or lose it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import struct
from email.utils import formatdate

import attrs
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from resilience.demo.envelopes import Reply
from resilience.demo.ledger import Seen

__all__ = ["ClientGone", "Exchange"]


class ClientGone(Exception):
    """The client left before its request was read."""


@attrs.define(eq=False)
class Exchange:
    """
    A request under way.

    Args:
        scope: As ASGI has it; ``scope["state"]["transport"]`` is the connection's transport.
        receive: As ASGI has it.
        send: As ASGI has it.
        api: The honest application behind.
        log: Where the request was entered, and its answer will be.
        number: Which of the log's requests this is.
        elsewhere: The other origin, without a slash at its end.
    """

    scope: Scope
    receive: Receive
    send: Send
    api: ASGIApp
    log: list[Seen]
    number: int
    elsewhere: str
    _body: bytes | None = attrs.field(default=None, init=False)

    @property
    def seen(self) -> Seen:
        """The request, as the log has it."""
        return self.log[self.number - 1]

    @property
    def target(self) -> str:
        """Path and query, as the client wrote them."""
        path, query = self.scope["raw_path"].decode("ascii"), self.scope["query_string"].decode("ascii")
        return f"{path}?{query}" if query else path

    async def read(self) -> bytes:
        """
        The request's whole body.

        Raises:
            ClientGone: It will never be whole.
        """
        if self._body is None:
            body, more = bytearray(), True
            while more:
                message = await self.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                more = message.get("more_body", False)
            self._body = bytes(body)
        return self._body

    async def work(self) -> Reply:
        """Let the API do what the request asks, and keep its reply from the client for now."""
        body = await self.read()
        start: Message = {}
        parts: list[bytes] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                parts.append(message.get("body", b""))

        with contextlib.suppress(Exception):  # the API has answered 500 and entered its bug in the ledger
            await self.api(self.scope, receive, send)
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in start["headers"]]
        replayed = any(name.lower() == "idempotent-replayed" for name, _ in headers)
        self._note(replayed=replayed)
        return Reply(start["status"], b"".join(parts), [(name, value) for name, value in headers if name.lower() != "content-length"])

    async def answer(self, reply: Reply) -> None:
        """Send all of *reply*."""
        await self.begin(reply)
        await self.write(reply.body, more=False)

    async def begin(self, reply: Reply) -> None:
        """Send status and headers; they promise the whole body, unless they name a ``content-length`` of their own."""
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in reply.headers]
        given = {name for name, _ in headers}
        own = {b"date": formatdate(usegmt=True).encode(), b"content-type": b"application/json"}
        if reply.status not in {204, 304}:
            own[b"content-length"] = str(len(reply.body)).encode()
        if not reply.body:
            del own[b"content-type"]
        headers += [(name, value) for name, value in own.items() if name not in given]
        self._note(status=reply.status)
        await self.send({"type": "http.response.start", "status": reply.status, "headers": headers})

    async def write(self, chunk: bytes, *, more: bool) -> None:
        """Send the next part of the body."""
        await self.send({"type": "http.response.body", "body": chunk, "more_body": more})

    async def gone(self) -> None:
        """Wait until the connection is no more, or the answer complete."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def wait(self, seconds: float) -> bool:
        """Wait for *seconds*, which may be infinite, or until the client has left; whether it has."""
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                await self.gone()
        except TimeoutError:
            return False
        return True

    async def reset(self) -> None:
        """Drop the connection so that the client's next read or write fails (RST)."""
        connection: socket.socket = self._transport.get_extra_info("socket")
        # No linger: what was not sent is thrown away, and closing sends a reset instead of a polite end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()
        await self.gone()

    async def hang_up(self) -> None:
        """Close the connection politely (FIN), after what was written."""
        self._transport.close()
        await self.gone()

    @property
    def _transport(self) -> asyncio.Transport:
        transport: asyncio.Transport = self.scope["state"]["transport"]
        return transport

    def _note(self, *, status: int | None = None, replayed: bool | None = None) -> None:
        seen = self.seen
        self.log[self.number - 1] = attrs.evolve(
            seen,
            status=seen.status if status is None else status,
            replayed=seen.replayed if replayed is None else replayed,
        )
