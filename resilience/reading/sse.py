"""
Failures that arrive as items of a stream whose status was 200: error events among server-sent events.

An item is a parsed event, a mapping or an SDK's object, or what parsers of such events make (``event``, ``data``, ``id``), or a line as it
came over the wire.  A dialect that answers so names `error_event` as its ``by_item``; other streams are not looked at, for an item with a
field called "error" may be just what was asked for.

    OpenAI, chat completions    data: {"error": {"message", "type", "code"}}
    OpenAI, responses           data: {"type": "error", "code", "message"} and {"type": "response.failed", "response": {"error": {"code"}}}
    Anthropic                   event: error / data: {"type": "error", "error": {"type": "overloaded_error", "message"}}

Sources: the HTML standard, 9.2 (server-sent events); the providers' public pages on streaming and errors.
"""

from __future__ import annotations

from typing import Any

from resilience.outcome import Phase, Signal
from resilience.reading.envelope import LARGEST, parsed, read_envelope
from resilience.reading.peek import attribute, is_bytes, is_mapping, is_text, item

__all__ = ["error_event", "event_id"]

_FAILED = "response.failed"
_LONGEST = 256  # characters of an event's id


def error_event(event: object) -> Signal | None:
    """
    What an item of a stream says if it is an error event; None if it is any other item.

    The peer began to answer, so that nobody knows what it has done: the phase is unknown.  Never raises.
    """
    said = _content(event)
    if said is None:
        return None
    found = read_envelope(said)
    return Signal(code=found.code, kind=found.kind, message=found.message, retry_after=found.retry_after, phase=Phase.UNKNOWN)


def event_id(event: object) -> str | None:
    """The id of a server-sent event, parsed or as a line of its own; None for what is no event, or has none."""
    if is_text(event) or is_bytes(event):
        line = _line(event)
        # The first line, should there be more: with the rest of the event it could go into no header.
        raw: object = line.splitlines()[0].removeprefix("id:").strip() if line is not None and line.startswith("id:") else None
    elif _is_event(event):
        raw = attribute(event, "id")
    else:
        return None
    return raw if is_text(raw) and 0 < len(raw) <= _LONGEST else None


def _content(event: object) -> Any:
    """The mapping that an error event holds; None for any other item."""
    if is_text(event) or is_bytes(event):
        line = _line(event)
        # Most lines are told by a glance: parsing each would cost more than all else that is done for an item.
        if line is None or not line.startswith("data:") or ('"error"' not in line and _FAILED not in line):
            return None
        return _error_in(parsed(line[5:]))
    if is_mapping(event):
        return _error_in(event)
    kind = attribute(event, "type")
    if kind == "error":
        return {"code": attribute(event, "code"), "message": attribute(event, "message"), "error": _fields(attribute(event, "error"))}
    if kind == _FAILED:
        return _fields(attribute(attribute(event, "response"), "error"))
    if not _is_event(event):
        return None
    named = attribute(event, "event")
    data = attribute(event, "data")
    said = _error_in(parsed(data)) if is_text(data) and (named == "error" or '"error"' in data or _FAILED in data) else None
    return {} if said is None and named == "error" else said


def _error_in(event: object) -> Any:
    if not is_mapping(event):
        return None
    kind = item(event, "type")
    if kind == _FAILED:
        response = item(event, "response")
        return {"error": item(response, "error")} if is_mapping(response) else {}
    return event if kind == "error" or is_mapping(item(event, "error")) else None


def _fields(error: object) -> Any:
    """An SDK's object as the mapping that it was made of."""
    return {name: attribute(error, name) for name in ("code", "type", "message")}


def _is_event(event: object) -> bool:
    """Whether *event* is what parsers of server-sent events make, by its attributes."""
    return is_text(attribute(event, "event")) and is_text(attribute(event, "data"))


def _line(event: str | bytes | bytearray | memoryview) -> str | None:
    if len(event) > LARGEST:
        return None
    text = event if isinstance(event, str) else bytes(event).decode("utf-8", "replace")
    return text.lstrip("\ufeff")
