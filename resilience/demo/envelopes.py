"""
What the stand-in answers: plain replies, and problems in the envelope of the endpoint's family.

Three families share one server.  Native endpoints (``/api/v1/*``) name code, message and type; OpenAI-compatible ones (``/v1/*``) may
leave the code null, and then the type serves; the Anthropic-compatible one (``/v1/messages``) has a type alone, in that API's own words.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

__all__ = ["DEFAULT_CODES", "Encoding", "Family", "Headers", "Problem", "Reply", "encode", "envelope", "family_of", "pairs"]

Family: TypeAlias = Literal["native", "openai", "anthropic"]
Encoding: TypeAlias = Literal["gzip", "deflate"]
Headers: TypeAlias = Mapping[str, str] | tuple[tuple[str, str], ...] | list[tuple[str, str]]

DEFAULT_CODES: Mapping[int, str] = {
    400: "invalid_request",
    401: "invalid_api_key",
    402: "insufficient_credits",
    403: "permission_denied",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    422: "validation_failed",
    429: "rate_limit_exceeded",
    500: "internal_error",
    501: "not_implemented",
    503: "provider_error",
}
"""The code of a status for which none was named."""

KINDS: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    422: "validation_error",
    429: "rate_limit_error",
    500: "server_error",
    501: "not_implemented_error",
    503: "provider_error",
}
"""The type, or family of errors, of a status, for native and OpenAI-compatible endpoints."""

ANTHROPIC_KINDS: Mapping[int, str] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    500: "api_error",
    501: "api_error",
    503: "api_error",
}
"""The same in Anthropic's words; what is not listed is an ``invalid_request_error``."""


def pairs(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Headers as a tuple of pairs, in order; a name may repeat."""
    return tuple(headers) if isinstance(headers, (tuple, list)) else tuple(headers.items())


@attrs.frozen
class Reply:
    """
    An answer before it meets a socket.

    Args:
        status: 200 to 599.
        body: The bytes to send; what they are is up to the headers.
        headers: Sent as they are; a name given here replaces the server's own (``content-type``, ``date``).
    """

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=pairs)

    @classmethod
    def of(cls, status: int, content: object, headers: Headers = ()) -> Reply:
        """A reply whose body is *content* as JSON."""
        return cls(status, json.dumps(content).encode(), headers)

    def adding(self, headers: Headers) -> Reply:
        """The same reply with further headers."""
        return attrs.evolve(self, headers=(*self.headers, *pairs(headers)))


class Problem(Exception):
    """A request refused or failed: raised by whoever finds out, answered in the envelope of the endpoint's family."""

    def __init__(self, status: int, code: str, message: str, headers: Headers = ()) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = pairs(headers)

    def reply(self, path: str) -> Reply:
        """The answer that the endpoint at *path* gives."""
        challenge = (("WWW-Authenticate", "Bearer"),) if self.status == 401 else ()
        return Reply.of(self.status, envelope(family_of(path), self.status, self.code, self.message), (*challenge, *self.headers))


def family_of(path: str) -> Family:
    """Which family of endpoints *path* belongs to."""
    if path == "/v1/messages":
        return "anthropic"
    return "openai" if path.startswith("/v1/") else "native"


def envelope(family: Family, status: int, code: str, message: str) -> dict[str, object]:
    """
    The JSON object with which *family* answers an error.

    OpenAI-compatible endpoints leave the code null for the server's own failures (500 and above) and name it as the type, as the
    page allows; a client that reads only codes learns nothing there.
    """
    if family == "anthropic":
        return {"type": "error", "error": {"type": ANTHROPIC_KINDS.get(status, "invalid_request_error"), "message": message}}
    kind = KINDS.get(status, "invalid_request_error")
    if family == "native":
        return {"error": {"code": code, "message": message, "type": kind}}
    if status >= 500:
        return {"error": {"message": message, "type": code, "param": None, "code": None}}
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def encode(reply: Reply, encoding: Encoding) -> Reply:
    """The same reply with its body compressed, as a client that accepts *encoding* has to expect."""
    body = gzip.compress(reply.body) if encoding == "gzip" else zlib.compress(reply.body)
    return attrs.evolve(reply, body=body).adding({"Content-Encoding": encoding, "Vary": "Accept-Encoding"})
