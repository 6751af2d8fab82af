"""
The first result of every idempotency key, kept for whoever asks again.

- Keys are scoped to the tenant: two tenants may use the same one.
- The same key with the same request replays the first result, and the action runs once.
- The same key with another method, path or body is a 409.
- A duplicate that arrives while the first is still at work waits for it.  (Refusing it with a 409 would tell a client to give up on an
  action that is about to succeed.)
- Only results are kept.  A request that was refused (402, 404, 422, 429 ...) or failed left nothing behind, and frees its key: what
  waited for it, or comes later, runs in its stead.
- A key expires a fixed time after its result; whoever uses it then acts anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import attrs

from resilience.demo.envelopes import Problem, Reply

__all__ = ["Replays"]


@attrs.define(eq=False)
class _Record:
    """What one key stands for."""

    fingerprint: bytes
    done: asyncio.Event = attrs.field(factory=asyncio.Event)
    reply: Reply | None = None
    expires: float = 0.0


class Replays:
    """
    The results that are kept, and the actions at work.

    Args:
        seconds: How long a result is kept; > 0.
        clock: Seconds that never go back.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self._seconds = seconds
        self._clock = clock
        self._records: dict[tuple[str, str], _Record] = {}

    async def once(self, tenant: str, key: str, fingerprint: bytes, run: Callable[[], Awaitable[Reply]]) -> tuple[Reply, bool]:
        """
        Run the action, unless its key has a result.

        Args:
            tenant: Whose key it is.
            key: The ``Idempotency-Key``.
            fingerprint: Digest of method, path and body.
            run: The action.  What it raises is passed on and not kept.

        Returns:
            The result, and whether it is a replay.

        Raises:
            Problem: 409, where the key stands for another request.
        """
        while (record := self._find(tenant, key)) is not None:
            if record.fingerprint != fingerprint:
                raise Problem(409, "idempotency_conflict", "This Idempotency-Key was used with another request.")
            await record.done.wait()
            if record.reply is not None:
                return record.reply, True
        record = self._records[tenant, key] = _Record(fingerprint)
        try:
            record.reply = reply = await run()
            record.expires = self._clock() + self._seconds
        finally:
            if record.reply is None:
                del self._records[tenant, key]
            record.done.set()
        return reply, False

    def _find(self, tenant: str, key: str) -> _Record | None:
        record = self._records.get((tenant, key))
        if record is not None and record.reply is not None and record.expires <= self._clock():
            del self._records[tenant, key]
            return None
        return record
