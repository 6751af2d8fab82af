"""
Bodies that can be read once, and failed ones that are read ahead of whoever wants them.

What is read ahead is bounded in bytes and in seconds, is put back in front of the stream, and is unpacked as far as an error envelope
reaches.
"""

from __future__ import annotations

import contextlib
import zlib
from collections.abc import Callable
from typing import Any, Final, cast

from resilience.env import Env
from resilience.history import behind_of
from resilience.reading.envelope import LARGEST

__all__ = ["DRAIN_SECONDS", "DRAIN_SHARE", "Drained", "Once", "close_both", "decoded"]

DRAIN_SECONDS: Final = 1.0
"""The longest that a failed response is drained for."""
DRAIN_SHARE: Final = 0.9
"""And the largest part of the time left: a known status must not be lost to a body that hangs."""

_CODINGS = 4  # content codings on top of one another that are undone


class Once:
    """
    A request body that can be read only once.

    It lets itself be read once, so that what is left of a body is never taken for all of it.  A request that failed before its body was
    touched may still be repeated.
    """

    def __init__(self, stream: Any, consumed: type[Exception]) -> None:
        self.stream = stream
        self.touched = False
        self._consumed = consumed

    def __aiter__(self) -> Any:
        if self.touched:
            raise self._consumed
        self.touched = True
        return self.stream.__aiter__()


class Drained:
    """
    The body of a failed response: what was read of it, then the rest.

    Attributes:
        parts: What was read, as it came over the wire.
        over: Whether there is no more to come.
        error: What reading on ends in, once; None for the body's own end.
    """

    def __init__(self, stream: Any, env: Env) -> None:
        self.parts: list[bytes] = []
        self.over = False
        self.error: Exception | None = None
        self._stream = stream
        self._rest: Any = stream.__aiter__()
        self._env = env
        self._next = 0
        self._closed = False

    async def fill(self, most: float, seconds: float, closing: float, late: Callable[[], Exception]) -> None:
        """
        Read on until there are *most* bytes, for at most *seconds*, and close what is over.

        A failure to do so is kept for whoever reads on.  Closing may take as long as *closing*, whoever cancels.
        """
        if self.over:
            return
        size = sum(map(len, self.parts))
        scope = self._env.cutoff(seconds)
        try:
            with scope:
                while size < most:
                    part = await anext(self._rest)
                    self.parts.append(part)
                    size += len(part)
                return
        except StopAsyncIteration:
            pass
        except Exception as error:  # noqa: BLE001 - the status stands, whatever became of the body
            for one in behind_of(error):
                if isinstance(one, BaseException):
                    one.__traceback__ = None  # it holds this frame, which holds us, and from CPython 3.12 on those around it
            self.error = error
        if scope.cancelled_caught:
            self.error = late()
        self.over = True
        with contextlib.suppress(Exception), self._env.cutoff(closing, shield=True):
            await self.aclose()

    async def let_go(self, lost: Callable[[], Exception]) -> None:
        """Free the connection; what was read stays."""
        if not self.over:
            self.over = True
            self.error = lost()
        await self.aclose()

    def __aiter__(self) -> Drained:
        return self

    async def __anext__(self) -> bytes:
        if self._next < len(self.parts):
            self._next += 1
            return self.parts[self._next - 1]
        if self.error is not None:
            error, self.error = self.error, None  # raised and kept, it would hold this frame, which holds us
            try:
                raise error
            finally:
                del error
        if self.over:
            raise StopAsyncIteration
        return cast("bytes", await anext(self._rest))

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        await close_both(self._rest, self._stream)


async def close_both(rest: Any, stream: Any) -> None:
    """Close an iterator, where it is one that can be closed, and the stream that it came from."""
    close = getattr(rest, "aclose", None)
    if close is not None:
        await close()
    await stream.aclose()


def decoded(raw: bytes, header: str, most: int = LARGEST) -> bytes:
    """
    A body with its content codings undone, as far as *most* bytes and one: enough to be read, or to be seen to be too long for that.

    A coding that is not known here, or was not applied as the header claims, is left as it is.
    """
    codings = [coding for part in header.lower().split(",") if (coding := part.strip()) not in {"", "identity"}]
    for coding in reversed(codings[-_CODINGS:]):
        for window in _WINDOWS.get(coding, ()):
            with contextlib.suppress(zlib.error):
                raw = zlib.decompressobj(window).decompress(raw, most + 1)
                break
        else:
            break
    return raw


# RFC 9110, 8.4.1: "deflate" is the zlib format, and by a widespread mistake the bare one.
_WINDOWS: Final[dict[str, tuple[int, ...]]] = {"gzip": (31,), "deflate": (15, -15)}
