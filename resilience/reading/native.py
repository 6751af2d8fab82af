"""
What exceptions say that speak no HTTP: a gRPC status, an SQLSTATE, the first word of a Redis reply.

They keep it in places of their own, so each protocol has a reader here, found by the name of the exception's class; no client is imported.
What a reader finds comes before what the exception's attributes seem to say in HTTP's terms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from resilience.outcome import Signal
from resilience.reading.peek import names

__all__ = ["NATIVE", "read_native"]

NATIVE: Final[dict[str, Callable[[BaseException], Signal]]] = {}
"""
``"package.ClassName"`` of an exception, or of a base of it, to its reader.  Readers never raise; what they do not know, they leave out.
"""


def read_native(error: BaseException) -> Signal | None:
    """What *error* says in its own protocol's terms; None if it belongs to none of these."""
    reader = next((NATIVE[name] for name in names(type(error)) if name in NATIVE), None)
    return None if reader is None else reader(error)
