"""
What exceptions say that speak no HTTP: a gRPC status, an SQLSTATE, the first word of a Redis reply.

They keep it in places of their own, so each protocol has a module here whose ``read`` makes a `Signal` of an exception, found by the name
of its class; no client is imported.  What it finds comes before what the exception's attributes seem to say in HTTP's terms.
"""

from __future__ import annotations

import importlib
from typing import Final

from resilience.errors import ResilienceError
from resilience.outcome import Signal
from resilience.reading.peek import names

__all__ = ["NATIVE", "read_native"]

NATIVE: Final[dict[str, str]] = {
    "asyncpg.PostgresError": "sqlstate",
    "asyncpg.InterfaceError": "sqlstate",
    "asyncpg.InternalClientError": "sqlstate",
    "psycopg.Error": "sqlstate",
    "grpc.RpcError": "grpc_status",
    "google.GoogleAPICallError": "grpc_status",
    "redis.RedisError": "redis_reply",
}
"""``"package.ClassName"`` of an exception, or of a base of it, to the module here that reads it: loaded when first met."""


def read_native(error: BaseException) -> Signal | None:
    """What *error* says in its own protocol's terms; None if it belongs to none of these, or to us: our own twins say it themselves."""
    if issubclass(type(error), ResilienceError):
        return None
    module = next((NATIVE[name] for name in names(type(error)) if name in NATIVE), None)
    if module is None:
        return None
    signal: Signal | None = importlib.import_module(f"resilience.reading.{module}").read(error)
    return signal
