"""
What an error body says: a code, a kind, a message.

One tolerant function for all the envelopes in use, since an API may answer in several of them: its own, that of the API it imitates, that
of the gateway in front.  An error's own fields are looked for inside ``error``, ``Error``, ``detail`` and the members of ``errors``, then
at the top, where SDKs that unwrap put them; a field that is missing in one place is taken from the next.

    CallMissed, OpenAI   {"error": {"code", "type", "message", "param"}}
    Anthropic            {"type": "error", "error": {"type", "message", "details": {"error_code"}}}
    RFC 9457             {"type": "https://...", "title", "detail", "status"} and extensions such as "code"
    Google               {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message"}}; over a stream, a list of those
    AWS                  {"__type": "com.amazon.x#ThrottlingException:http://...", "message"}, {"Error": {"Code", "Message", "Type"}}
    GraphQL              {"errors": [{"message", "extensions": {"code"}}]}
    OAuth (RFC 6749)     {"error": "invalid_grant", "error_description"}
    JSON-RPC             {"error": {"code": -32000, "message"}}

Whatever else a body is, it has no code.  Work is bounded: 64 KiB, 64 levels, and numbers of 20 digits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import attrs

from resilience.reading.peek import is_bytes, is_list, is_mapping, is_text, item, plain_int, word

__all__ = ["LARGEST", "Envelope", "clip", "parsed", "read_envelope"]

LARGEST: Final = 65_536
"""The longest body that is parsed, in bytes or characters."""

_DEEPEST = 64  # levels; envelopes have three
_DIGITS = 20  # of a whole number: parsing thousands of them takes time, and then raises
_ERRORS = 8  # members of a list of errors that are looked at
_CLIP = 500  # characters of a message

# Strings, to be skipped, and what opens or closes a level.  An unfinished string runs to the end, and no character is read twice.
_LEVELS = r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|([\[{])|[\]}]'
# A status says nothing that the response did not, be it a number or, by way of some SDKs, its digits.
_HTTP_STATUS = r"[1-5][0-9]{2}"
_GOOGLE_STATUS = r"[A-Z]+(?:_[A-Z]+)*"
_NO_KINDS = frozenset({"error", "about:blank"})  # Anthropic's wrapper; RFC 9457: "no more than the status says"


@attrs.frozen
class Envelope:
    """
    What was found in an error body.

    Args:
        code: What happened, stable and for machines: printable ASCII, 1 to 128 characters.
        kind: Its type or family, of the same form.
        message: The same for people: at most 500 characters.
    """

    code: str | None = None
    kind: str | None = None
    message: str | None = attrs.field(default=None, repr=False)


def read_envelope(body: object) -> Envelope:
    """
    The code, kind and message of an error body.

    Args:
        body: Bytes (JSON in UTF-8, with or without a byte order mark, UTF-16 or UTF-32), text, or a mapping that was parsed already.

    Returns:
        What was found.  Anything that is none of these, or is broken, or is beyond the bounds, reads as "nothing"; it never raises.
    """
    top: Any = body if is_mapping(body) else parsed(body)
    if is_list(top):
        top = next(filter(is_mapping, top[:_ERRORS]), None)
    if not is_mapping(top):
        return _NOTHING
    code = kind = message = None
    for fields in _places(top):
        code = code or _code(fields)
        kind = kind or _kind(fields)
        message = message or _message(fields)
    return Envelope(code, kind, message)


_NOTHING = Envelope()


def parsed(body: object) -> Any:
    """The JSON value of a body in bytes or text; None if it is no JSON, or not worth the work."""
    try:
        if is_bytes(body):
            if memoryview(body).nbytes > LARGEST:
                return None
            raw = bytes(body)
            text = raw.decode(json.detect_encoding(raw))
        elif is_text(body) and len(body) <= LARGEST:
            text = body
        else:
            return None
        text = text.lstrip("\ufeff \t\r\n")
        if not text.startswith(("{", "[")) or _too_deep(text):
            return None
        return _DECODER.decode(text)
    except (ValueError, RecursionError):  # no such encoding, no JSON, a view that was released; a stack that was nearly full before we came
        return None


def _too_deep(text: str) -> bool:
    """
    Whether *text* nests deeper than envelopes do.

    The parser recurses in C, and what happens at the bottom depends on the version and on the limit somebody set; so it never gets there.
    """
    if text.count("[") + text.count("{") <= _DEEPEST:
        return False
    depth = 0
    for found in re.finditer(_LEVELS, text, re.DOTALL):
        if found[1] is not None:
            depth += 1
            if depth > _DEEPEST:
                return True
        elif found[0] in {"]", "}"}:
            depth -= 1
    return False


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= _DIGITS else None


# Not strict: a raw line break in a message must not hide the code beside it.
_DECODER = json.JSONDecoder(parse_int=_whole, strict=False)


def _places(top: Any) -> Iterator[Any]:
    """The mappings that may hold the error's fields, the most specific first."""
    for name in ("error", "Error", "detail"):
        inner = item(top, name)
        if is_mapping(inner):
            yield inner
    errors = item(top, "errors")
    if is_list(errors):
        yield from filter(is_mapping, islice(errors, _ERRORS))
    yield top


def _code(fields: Any) -> str | None:
    raw = item(fields, "code")
    number = plain_int(raw)
    if number is not None:
        # Google's number is a status or a gRPC code; its name stands beside it.
        named = word(item(fields, "status"))
        raw = named if named is not None and re.fullmatch(_GOOGLE_STATUS, named) else _digits(number)
    candidates = (
        raw,
        item(fields, "Code"),
        _aws_type(item(fields, "__type")),
        _inside(fields, "extensions", "code"),
        _inside(fields, "details", "error_code"),
        _oauth_error(item(fields, "error")),
    )
    found = (code for candidate in candidates if (code := word(candidate)) is not None)
    return next((code for code in found if not re.fullmatch(_HTTP_STATUS, code)), None)


def _digits(number: int) -> str | None:
    return str(number) if number.bit_length() < 64 else None  # noqa: PLR2004 - longer ones are no codes, and str() may refuse them


def _aws_type(value: object) -> str | None:
    """``ThrottlingException`` of ``com.amazon.x#ThrottlingException:http://...``."""
    return value.partition(":")[0].rpartition("#")[2] if is_text(value) else None


def _oauth_error(value: object) -> str | None:
    """A bare ``error`` is a code if it is one word, and else a sentence."""
    text = word(value)
    return None if text is None or " " in text else text


def _inside(fields: Any, name: str, key: str) -> object:
    inner = item(fields, name)
    return item(inner, key) if is_mapping(inner) else None


def _kind(fields: Any) -> str | None:
    for name in ("type", "Type"):
        kind = word(item(fields, name))
        if kind is not None and kind not in _NO_KINDS:
            return kind
    return None


def _message(fields: Any) -> str | None:
    for name in ("message", "Message", "error_description", "detail", "title", "error"):
        text = clip(item(fields, name))
        if text is not None:
            return text
    return None


def clip(text: object) -> str | None:
    """*text* if it is text and not blank: its first 500 characters, fit to be printed anywhere."""
    clipped = text[: 2 * _CLIP].strip()[:_CLIP] if is_text(text) else ""
    # Half a surrogate pair, as JSON may hold, cannot be encoded by whoever shows the message.
    return clipped.encode("utf-8", "replace").decode("utf-8") or None
