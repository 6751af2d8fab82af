"""
What one scenario plays on: an API, the faults in front of it and the counts beside it.

A stage is thrown away whole when a scenario starts over; what is still under way on it ends there and is counted nowhere else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

from starlette.types import Receive, Scope, Send

from resilience.demo.envelopes import Reply
from resilience.demo.exchange import ClientGone, Exchange
from resilience.demo.faults import Fault, Honest, Script
from resilience.demo.ledger import Counts, Ledger, Seen
from resilience.demo.server import Api, Settings

__all__ = ["Stage"]


class Stage:
    """
    One scenario's server side.

    Args:
        settings: How the API is set.
        crashes: Where failures of the stand-in itself are told.
    """

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
