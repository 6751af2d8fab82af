"""B65: failures inside a stream whose status was 200, in the shapes that OpenAI and Anthropic document."""

from __future__ import annotations

import json
from typing import Any

import attrs
import pytest
from anthropic.types import MessageStopEvent
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses import ResponseErrorEvent, ResponseTextDeltaEvent

from resilience import Phase, Signal
from resilience.reading.sse import error_event, event_id


@attrs.frozen
class Event:
    """As the parsers of server-sent events make them."""

    event: Any
    data: Any
    id: Any = ""


ANTHROPIC = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
CHAT = {"error": {"message": "The server had an error", "type": "server_error", "param": None, "code": None}}
RESPONSES = {"type": "error", "code": "rate_limit_exceeded", "message": "Slow down", "param": None, "sequence_number": 3}
FAILED = {"type": "response.failed", "response": {"id": "r", "status": "failed", "error": {"code": "server_error", "message": "Oh"}}}


def line(event: object) -> str:
    return f"data: {json.dumps(event)}"


class _Fields:
    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


@pytest.mark.parametrize(
    ("said", "code", "kind"),
    [
        (ANTHROPIC, None, "overloaded_error"),
        (CHAT, None, "server_error"),
        (RESPONSES, "rate_limit_exceeded", None),
        (FAILED, "server_error", None),
    ],
    ids=["anthropic", "chat", "responses", "response.failed"],
)
def test_an_error_event_says_its_code_or_kind_in_whatever_form_it_comes(said: dict[str, Any], code: str | None, kind: str | None) -> None:
    forms = [
        said,
        line(said),
        line(said).encode(),
        bytearray(line(said), "utf-8"),
        Event("message", json.dumps(said)),
        Event("error", json.dumps(said)),
    ]

    assert [(code, kind, Phase.UNKNOWN)] * 6 == [
        (signal.code, signal.kind, signal.phase) for form in forms if (signal := error_event(form)) is not None
    ]


def test_an_sdk_s_own_event_is_read_by_its_attributes() -> None:
    error = ResponseErrorEvent(type="error", code="server_error", message="Oh", param=None, sequence_number=1)
    failed = _Fields(type="response.failed", response=_Fields(error=_Fields(code="server_error", message="Oh")))
    nested = _Fields(type="error", error=_Fields(type="overloaded_error", message="Overloaded"))

    assert ["server_error", "server_error", None] == [signal.code for one in (error, failed, nested) if (signal := error_event(one))]
    assert Signal(kind="overloaded_error", message="Overloaded") == error_event(nested)


@pytest.mark.parametrize(
    "item",
    [
        {"choices": [{"delta": {"content": "error"}}]},
        {"error": None, "choices": []},
        {"error": "a field of the user's own"},
        {"type": "response.completed", "response": {"error": None}},
        ResponseTextDeltaEvent(
            type="response.output_text.delta", delta='"error"', content_index=0, item_id="i", output_index=0, sequence_number=1, logprobs=[]
        ),
        MessageStopEvent(type="message_stop"),
        Event("message", "[DONE]"),
        Event("message", '{"delta": "\\"error\\""}'),
        Event("message", b'{"error": {"code": "x"}}'),
        Event(None, None),
        "data: [DONE]",
        'data: {"delta": "\\"error\\""}',
        "event: error",
        ': a comment with an "error"',
        "",
        "data: " + "x" * 70_000,
        b"\xff\xfe",
        42,
        None,
        object(),
    ],
)
def test_any_other_item_is_none(item: object) -> None:
    assert error_event(item) is None


@pytest.mark.parametrize(
    "item",
    [
        Event("error", ""),
        Event("error", "not json"),
        Event("error", "[1]"),
        {"type": "response.failed"},
        {"type": "response.failed", "response": {}},
    ],
)
def test_one_that_is_named_an_error_is_one_even_if_it_says_nothing(item: object) -> None:
    assert Signal() == error_event(item)


@pytest.mark.parametrize(
    ("item", "number"),
    [
        (Event("message", "{}", "7"), "7"),
        ("id: 7", "7"),
        (b"id:7", "7"),
        (b"id: 7\r\n", "7"),
        ("id: 7\nevent: message\ndata: {}\n\n", "7"),
        ("id: ", None),
        ("data: id: 7", None),
        (Event("message", "{}", ""), None),
        (Event("message", "{}", 7), None),
        (Event("message", "{}", "7" * 257), None),
        (Event(None, None, "7"), None),
        ({"id": "7"}, None),
        ("id: " + "x" * 70_000, None),
        (None, None),
    ],
)
def test_the_id_of_an_event_is_told_from_one_of_anything_else(item: object, number: str | None) -> None:
    """A chunk of a completion has an id too, and cannot be resumed by it."""
    assert number == event_id(item)


JUNK = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text() | st.binary(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
)


@given(JUNK | st.builds(Event, JUNK, JUNK, JUNK) | st.builds(lambda junk: f"data: {junk}", st.text()))
def test_anything_at_all_may_be_an_item(item: object) -> None:
    error_event(item)
    event_id(item)


def test_an_error_event_may_ask_for_a_wait() -> None:
    """D3: Google's errors say so in their details, in a stream as anywhere else."""
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"}]
    event = {"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED", "details": details}}

    for item in (event, f"data: {json.dumps(event)}"):
        signal = error_event(item)
        assert signal is not None
        assert ("RESOURCE_EXHAUSTED", 36.0) == (signal.code, signal.retry_after)
