"""
What an error body says: a code, a kind, a message, and for how long to wait.

One tolerant function for all the envelopes in use, since an API may answer in several of them: its own, that of the API it imitates, that
of the gateway in front.  An error's own fields are looked for inside ``error``, ``Error``, ``detail`` and the members of ``errors``, then
at the top, where SDKs that unwrap put them; a field that is missing in one place is taken from the next.

    CallMissed, OpenAI   {"error": {"code", "type", "message", "param"}}
    Azure OpenAI         {"error": {"code": "content_filter", "message", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}
    Anthropic            {"type": "error", "error": {"type", "message", "details": {"error_code"}}}
    Stripe               {"error": {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds", "message"}}
    RFC 9457             {"type": "https://...", "title", "detail", "status"} and extensions such as "code"
    Google               {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message", "details": [{"@type", "reason"}]}}, in older
                         APIs {"error": {"code": 403, "errors": [{"reason"}]}}; over a stream, a list of those
    AWS                  {"__type": "com.amazon.x#ThrottlingException:http://...", "message"}, {"Error": {"Code", "Message", "Type"}}
    GraphQL              {"errors": [{"message", "extensions": {"code"}}]}
    OAuth (RFC 6749)     {"error": "invalid_grant", "error_description"}
    Slack                {"ok": false, "error": "ratelimited"}
    JSON-RPC             {"error": {"code": -32000, "message"}}

The code is the most telling word for what happened, the kind the family it belongs to, so that a table may name either.

- Google: the reason is the code and the status name the kind; without a reason the quota that was exceeded is the code, and without one
  the status name both.  A quota of a day comes before any reason: it is not back in a minute, as what "RATE_LIMIT_EXCEEDED" may mean is.
- Stripe: the decline code says why; ``card_declined`` says no more than the type, ``card_error``, does.
- Azure OpenAI: the code stays what it is with OpenAI, and the inner error's is the kind, as there is no type.
- RFC 9457: the whole ``type`` is a problem's identity, and so the kind.  Where there is no ``code`` its last part, ``out-of-credit`` of
  ``https://example.com/probs/out-of-credit``, is the code: a table is for one API, and need not spell out where its types are kept.  Types
  that only say the status again, as ``about:blank`` and sections of an RFC do, give no code.

Whatever else a body is, it has no code.  Work is bounded: 64 KiB, 64 levels, and numbers of 20 digits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

import attrs

from resilience.reading.body_hints import body_hint, cost_hint, deep_item, details, members
from resilience.reading.peek import is_bytes, is_list, is_mapping, is_text, item, lacks, plain_int, word
from resilience.settings import Value

__all__ = ["LARGEST", "NOTHING", "Envelope", "clip", "parsed", "read_envelope"]

LARGEST: Final = 65_536
"""The longest body that is parsed, in bytes or characters."""

_DEEPEST = 64  # levels; envelopes have three
_DIGITS = 20  # of a whole number: parsing thousands of them takes time, and then raises
_CLIP = 500  # characters of a message

# Strings, to be skipped, and what opens or closes a level.  An unfinished string runs to the end, and no character is read twice.
_LEVELS = r'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|([\[{])|[\]}]'
# A status says nothing that the response did not, be it a number or, by way of some SDKs, its digits.
_HTTP_STATUS = r"[1-5][0-9]{2}"
_STATUS_DIGITS = 3
_GOOGLE_STATUS = r"[A-Z]+(?:_[A-Z]+)*"
# GenerateRequestsPerDayPerProjectPerModel-FreeTier, defaultPerDayPerProject, and the snake_case of quota metrics.
_DAILY = r"(?i:per_?day|daily)"
_GOOGLES = frozenset({"details", "errors"})
_NO_KINDS = frozenset({"error", "about:blank"})  # Anthropic's wrapper; RFC 9457: "no more than the status says"
# RFC 3986, appendix B, for references that have parts.
_TYPE = r"(?=.*[/:])(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://[^/?#]*)?(?P<path>[^?#]*)(?:\?[^#]*)?(?:#(?P<fragment>.*))?"
_RFC_SECTION = r"(?:section|name)-[0-9].*"  # as frameworks give for want of a type: https://tools.ietf.org/html/rfc9110#section-15.5.5


@attrs.frozen(eq=False, repr=False)
class Envelope(Value):
    """
    What was found in an error body.

    Args:
        code: What happened, stable and for machines: printable ASCII, 1 to 128 characters.
        kind: Its type or family, of the same form.
        message: The same for people: at most 500 characters.
        retry_after: Seconds to wait, as the body asks; finite and >= 0.
    """

    code: str | None = None
    kind: str | None = None
    message: str | None = attrs.field(default=None, repr=False)
    retry_after: float | None = None


def read_envelope(body: object) -> Envelope:
    """
    The code, kind and message of an error body, and how long it asks us to wait.

    Args:
        body: Bytes (JSON in UTF-8, with or without a byte order mark, UTF-16 or UTF-32), text, or what was parsed already: a mapping, or a
            list of them.

    Returns:
        What was found.  Anything that is none of these, or is broken, or is beyond the bounds, reads as "nothing"; it never raises.
    """
    top: Any = body if is_mapping(body) or is_list(body) else parsed(body)
    if is_list(top):
        top = next(iter(members(top)), None)
    if not is_mapping(top):
        return NOTHING
    code = kind = message = None
    asked = cost_hint(top)
    for fields in _places(top):
        code = code or _code(fields)
        kind = kind or _kind(fields)
        message = message or _message(fields)
        asked = body_hint(fields) if asked is None else asked
    return Envelope(code or _problem(top), kind, message, asked)


NOTHING: Final = Envelope()
"""What a body says that is no envelope."""


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
    yield from members(item(top, "errors"))
    yield top


def _code(fields: Any) -> str | None:
    raw = item(fields, "code")
    number = plain_int(raw)
    if number is not None:
        # Google's number is a status or a gRPC code; its name stands beside it.
        raw = _google_status(fields) or _digits(number)
    for candidate in _codes(fields, raw):
        code = word(candidate)
        if code is not None and not (len(code) == _STATUS_DIGITS and re.fullmatch(_HTTP_STATUS, code)):
            return code
    return None


def _codes(fields: Any, raw: object) -> Iterator[object]:
    """What may be the code, the most telling first; *raw* is what the field of that name says."""
    yield from _google_codes(fields)
    yield item(fields, "decline_code")
    yield raw
    yield item(fields, "Code")
    yield _aws_type(item(fields, "__type"))
    yield deep_item(fields, "extensions", "code")
    yield deep_item(fields, "details", "error_code")
    yield deep_item(fields, "innererror", "code")
    yield _oauth_error(item(fields, "error"))


def _google_status(fields: Any) -> str | None:
    """The name of a `google.rpc.Code`, where it stands beside a number."""
    name = word(item(fields, "status")) if plain_int(item(fields, "code")) is not None else None
    return name if name is not None and re.fullmatch(_GOOGLE_STATUS, name) else None


def _google_codes(fields: Any) -> list[object]:
    """What Google's details say happened, the most telling first."""
    if lacks(fields, _GOOGLES):
        return []
    information = details(fields, "ErrorInfo")
    # The older APIs: {"error": {"code": 403, "errors": [{"domain": "usageLimits", "reason": "userRateLimitExceeded"}]}}
    older = members(item(fields, "errors")) if plain_int(item(fields, "code")) is not None else []
    reasons = [item(one, "reason") for one in (*information, *older)]
    violations = [one for failure in details(fields, "QuotaFailure") for one in members(item(failure, "violations"))]
    quotas = [item(one, name) for one in violations for name in ("quotaId", "quota_id")]
    limits = [deep_item(one, "metadata", "quota_limit") for one in information]
    daily = [name for name in (*quotas, *limits) if re.search(_DAILY, word(name) or "")]
    return [*daily, *reasons, *quotas]


def _digits(number: int) -> str | None:
    return str(number) if number.bit_length() < 64 else None  # noqa: PLR2004 - longer ones are no codes, and str() may refuse them


def _aws_type(value: object) -> str | None:
    """``ThrottlingException`` of ``com.amazon.x#ThrottlingException:http://...``."""
    return value.partition(":")[0].rpartition("#")[2] if is_text(value) else None


def _oauth_error(value: object) -> str | None:
    """A bare ``error`` is a code if it is one word, and else a sentence."""
    text = word(value)
    return None if text is None or " " in text else text


def _problem(top: Any) -> str | None:
    """The last part of an RFC 9457 type, if it names a problem."""
    uri = word(item(top, "type"))
    found = None if uri is None or uri in _NO_KINDS else re.fullmatch(_TYPE, uri)
    if found is None:
        return None
    name = re.split("[/:]", found["fragment"] or found["path"].rstrip("/"))[-1]
    return word(name) if re.search("[A-Za-z]", name) and not re.fullmatch(_RFC_SECTION, name) else None


def _kind(fields: Any) -> str | None:
    for candidate in _kinds(fields):
        kind = word(candidate)
        if kind is not None and kind not in _NO_KINDS:
            return kind
    return None


def _kinds(fields: Any) -> Iterator[object]:
    yield item(fields, "type")
    yield item(fields, "Type")
    yield _google_status(fields)
    yield _inner_code(fields)


def _inner_code(fields: Any) -> object:
    """Azure's, where it is not the only code."""
    return deep_item(fields, "innererror", "code") if word(item(fields, "code")) is not None else None


def _message(fields: Any) -> str | None:
    for name in ("message", "Message", "error_description", "detail", "title", "error", "description", "errors"):
        text = clip(item(fields, name))
        if text is not None:
            return text
    return None


def clip(text: object) -> str | None:
    """*text* if it is text and not blank: its first 500 characters, fit to be printed anywhere."""
    clipped = text[: 2 * _CLIP].strip()[:_CLIP] if is_text(text) else ""
    if clipped.isascii():
        return clipped or None
    # Half a surrogate pair, as JSON may hold, cannot be encoded by whoever shows the message.
    return clipped.encode("utf-8", "replace").decode("utf-8") or None
