"""Failures inside a 200 (D2): GraphQL's and Slack's, through clients' responses and as clients' parsed values."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest.mock import MagicMock

import attrs
import httpx
import httpx2
import pytest
import requests
import starlette.responses
from hypothesis import given
from hypothesis import strategies as st

from resilience.outcome import Phase, Signal
from resilience.reading.envelope import LARGEST
from resilience.reading.inside import graphql_errors, slack_error

Reader = Callable[[object], Signal | None]
READERS: list[Reader] = [graphql_errors, slack_error]


def as_requests(body: object, status: int = 200) -> Any:
    response = requests.Response()
    response.status_code = status
    response._content = json.dumps(body).encode()
    return response


WAYS: dict[str, Callable[[Any], Any]] = {
    "a mapping": lambda body: body,
    "text": json.dumps,
    "bytes": lambda body: json.dumps(body).encode(),
    "a bytearray": lambda body: bytearray(json.dumps(body).encode()),
    "a view": lambda body: memoryview(json.dumps(body, separators=(",", ":")).encode()),
    "httpx": lambda body: httpx.Response(200, json=body),
    "httpx2": lambda body: httpx2.Response(200, json=body),
    "requests": as_requests,
    "starlette": starlette.responses.JSONResponse,
}


def error(code: str | None = None, **more: Any) -> dict[str, Any]:
    return {"message": "No.", **({} if code is None else {"extensions": {"code": code}}), **more}


def coded(signal: Signal | None) -> tuple[str | None, str | None] | None:
    return None if signal is None else (signal.code, signal.kind)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_answer_without_data_is_a_failure_however_it_is_returned(way: Callable[[Any], Any]) -> None:
    answer = {"data": None, "errors": [error("INTERNAL_SERVER_ERROR")]}
    signal = graphql_errors(way(answer))

    assert signal is not None
    assert ("INTERNAL_SERVER_ERROR", "No.", Phase.UNKNOWN) == (signal.code, signal.message, signal.phase)
    assert signal.status in {None, 200}
    assert "channel_not_found" == getattr(slack_error(way({"ok": False, "error": "channel_not_found"})), "code", None)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_success_is_a_success_however_it_is_returned(way: Callable[[Any], Any]) -> None:
    graphql: list[Any] = [{"data": {"me": 1}}, {"data": {"me": 1}, "errors": []}, {"data": {"me": {"errors": [error("THROTTLED")]}}}, {}]
    slack: list[Any] = [{"ok": True, "error": "x"}, {"ok": True, "file": {"ok": False}}, {"ok": None}, {"ok": 0}, {}]

    assert [None] * 4 == [graphql_errors(way(answer)) for answer in graphql]
    assert [None] * 5 == [slack_error(way(answer)) for answer in slack]


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    "value",
    [None, 5, "ok", b"", [], [{"errors": [error()]}], object(), MagicMock(), MagicMock(spec=dict), MagicMock(spec=httpx.Response), int],
    ids=lambda value: type(value).__name__,
)
def test_any_other_value_is_a_success_and_unread(reader: Reader, value: object) -> None:
    assert reader(value) is None


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_a_response_that_failed_by_its_status_is_left_to_the_ordinary_reading(reader: Reader, status: int) -> None:
    body = {"ok": False, "error": "ratelimited", "errors": [error("THROTTLED")]}

    for client in (httpx, httpx2):
        assert reader(client.Response(status, json=body)) is None
        assert reader(client.Response(200, json=body)) is not None
    assert reader(as_requests(body, status)) is None


class Streaming(httpx.AsyncByteStream):
    async def __aiter__(self) -> Any:
        raise AssertionError("read")
        yield


@pytest.mark.parametrize("reader", READERS)
def test_a_body_that_is_not_in_memory_is_not_fetched(reader: Reader) -> None:
    assert reader(httpx.Response(200, stream=Streaming())) is None


@pytest.mark.parametrize(
    "data",
    [{"me": {"id": 1}}, {"me": None, "you": 0}, {"me": False}, [1], "junk", 0],
)
def test_partial_data_is_a_success(data: Any) -> None:
    """GraphQL specification, 7.1.2 and 6.4: errors were raised in fields, and execution succeeded."""
    assert graphql_errors({"data": data, "errors": [error("INTERNAL_SERVER_ERROR"), error("UNAUTHENTICATED")]}) is None


@pytest.mark.parametrize("data", [None, {}, {"me": None}, {"me": None, "you": None}])
def test_data_that_holds_nothing_is_no_data(data: Any) -> None:
    signal = graphql_errors({"data": data, "errors": [error("UNAUTHENTICATED", path=["me"])]})

    assert signal is not None
    assert ("UNAUTHENTICATED", Phase.UNKNOWN) == (signal.code, signal.phase)


SLOWER = [
    "THROTTLED",
    "RATE_LIMITED",
    "RATELIMITED",
    "RATE_LIMIT_EXCEEDED",
    "REQUEST_RATE_LIMITED",
    "TOO_MANY_REQUESTS",
    "rate-limit-exceeded",
]


@pytest.mark.parametrize("code", SLOWER)
def test_partial_data_is_a_failure_if_it_asks_to_slow_down(code: str) -> None:
    """The next call would run into the same limit; GitHub has the word as the error's type."""
    for asking, expected in ((error(code), (code, None)), (error(type=code), (None, code))):
        signal = graphql_errors({"data": {"me": {"id": 1}}, "errors": [error("NOT_FOUND", type="X"), asking]})

        assert expected == coded(signal)
        assert signal is not None
        assert Phase.UNKNOWN is signal.phase


def test_of_several_errors_the_one_that_asks_to_slow_down_speaks_and_else_the_first_with_a_code() -> None:
    assert ("THROTTLED", None) == coded(graphql_errors({"errors": [error("NOT_FOUND"), error("THROTTLED")]}))
    assert ("NOT_FOUND", None) == coded(graphql_errors({"errors": [error(), error("NOT_FOUND"), error("FORBIDDEN")]}))
    assert (None, None) == coded(graphql_errors({"errors": [error()]}))


@pytest.mark.parametrize(
    ("answer", "phase"),
    [
        ({"errors": [error("THROTTLED")]}, Phase.REFUSED),
        ({"errors": [error(type="RATE_LIMITED")]}, Phase.REFUSED),
        ({"errors": [error("UNAUTHENTICATED")]}, Phase.REFUSED),
        # It says that it began.
        ({"data": None, "errors": [error("THROTTLED")]}, Phase.UNKNOWN),
        ({"data": None, "errors": [error("UNAUTHENTICATED")]}, Phase.UNKNOWN),
        # Shopify says this of mutations that were carried out.
        ({"errors": [error("INTERNAL_SERVER_ERROR")]}, Phase.UNKNOWN),
        ({"errors": [error()]}, Phase.UNKNOWN),
    ],
)
def test_a_refusal_before_execution_did_no_work(answer: Any, phase: Phase) -> None:
    """D4: GraphQL specification, 7.1: a request error is raised before execution, and there is no entry ``data``."""
    signal = graphql_errors(answer)

    assert signal is not None
    assert phase is signal.phase


@pytest.mark.parametrize(
    ("code", "phase"),
    [
        ("ratelimited", Phase.REFUSED),
        ("rate_limited", Phase.REFUSED),
        ("token_expired", Phase.REFUSED),
        ("invalid_auth", Phase.REFUSED),
        ("not_authed", Phase.REFUSED),
        ("request_timeout", Phase.REFUSED),
        ("internal_error", Phase.UNKNOWN),
        ("fatal_error", Phase.UNKNOWN),
        ("service_unavailable", Phase.UNKNOWN),
    ],
)
def test_slack_says_which_errors_may_have_had_effects(code: str, phase: Phase) -> None:
    """docs.slack.dev: of internal_error and fatal_error, "some aspect of the operation succeeded before the error was raised"."""
    signal = slack_error({"ok": False, "error": code})

    assert signal == Signal(code=code, message=code, phase=phase)


@pytest.mark.parametrize(("hop", "phase"), [(303, Phase.UNKNOWN), (307, Phase.REFUSED)])
def test_a_refusal_behind_a_redirect_may_not_speak_for_the_first_request(hop: int, phase: Phase) -> None:
    """D4: "see other" may answer a request that was carried out."""
    for reader, body in ((graphql_errors, {"errors": [error("THROTTLED")]}), (slack_error, {"ok": False, "error": "ratelimited"})):
        signal = reader(httpx2.Response(200, json=body, history=[httpx2.Response(hop)]))

        assert signal is not None
        assert phase is signal.phase


def test_a_hint_is_read_from_the_headers_and_from_the_body() -> None:
    """D3: GitHub answers 200 with RATE_LIMITED and says in the headers when the window ends."""
    cost = {"cost": {"requestedQueryCost": 252, "throttleStatus": {"currentlyAvailable": 2, "restoreRate": 50}}}
    throttled = {"errors": [error("THROTTLED")], "extensions": cost}

    for client in (httpx, httpx2):
        assert Signal(200, "THROTTLED", None, "No.", 5.0, Phase.REFUSED) == graphql_errors(client.Response(200, json=throttled))
        answer = client.Response(200, json=throttled, headers={"Retry-After": "7"})
        assert 7.0 == attrs.asdict(graphql_errors(answer) or Signal())["retry_after"]
        answer = client.Response(200, json={"ok": False, "error": "ratelimited"}, headers={"Retry-After": "7"})
        assert Signal(200, "ratelimited", None, "ratelimited", 7.0, Phase.REFUSED) == slack_error(answer)
        window = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "784111807", "Date": "Sun, 06 Nov 1994 08:49:37 GMT"}
        answer = client.Response(200, json={"errors": [error(type="RATE_LIMITED")]}, headers=window)
        assert 30.0 == attrs.asdict(graphql_errors(answer) or Signal())["retry_after"]
    assert 5.0 == attrs.asdict(graphql_errors(throttled) or Signal())["retry_after"]


def padded(answer: dict[str, Any], size: int) -> bytes:
    """*answer* as JSON of *size* bytes."""
    text = json.dumps({**answer, "pad": ""}, separators=(",", ":"))
    return (text[:-2] + "x" * (size - len(text)) + '"}').encode()


@pytest.mark.parametrize("answer", [{"errors": [error("THROTTLED")]}, {"ok": False, "error": "ratelimited"}])
def test_a_body_beyond_the_bound_is_a_success_unread(answer: dict[str, Any]) -> None:
    reader = graphql_errors if "errors" in answer else slack_error
    short, long = padded(answer, LARGEST), padded(answer, LARGEST + 1)

    assert (LARGEST, LARGEST + 1) == (len(short), len(long))
    for form in (bytes, bytearray, memoryview, bytes.decode):
        assert reader(form(short)) is not None
        assert reader(form(long)) is None
    assert reader(httpx.Response(200, content=short)) is not None
    assert reader(httpx.Response(200, content=long)) is None


def test_nothing_is_parsed_unless_the_name_is_in_the_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words in a string have their quotes escaped."""

    def parsed(body: object) -> object:
        raise AssertionError(body)

    monkeypatch.setattr("resilience.reading.inside.parsed", parsed)
    speaking = {"data": {"post": 'On "errors": [] and "ok":false', "userErrors": []}, "ok": True}

    for way in WAYS.values():
        assert graphql_errors(way(speaking)) is None
        assert slack_error(way(speaking)) is None


@pytest.mark.parametrize(
    "body", [b'{"errors": [{}]', b'"errors"', b'["errors"]', b'[{"errors": [{}]}]', b'"ok":false', b'{"ok":false', b"\xff"]
)
def test_what_cannot_be_parsed_is_a_success(body: bytes) -> None:
    for reader in READERS:
        assert reader(body) is None
        assert reader(httpx.Response(200, content=body)) is None


def test_a_view_that_was_released_is_a_success() -> None:
    view = memoryview(b'{"errors": [{}]}')
    view.release()

    for reader in READERS:
        assert reader(view) is None


class Gone(Mapping[str, Any]):
    """A mapping that loads on first use, from a connection that is gone."""

    def __getitem__(self, key: str) -> Any:
        raise OSError(key)

    def __iter__(self) -> Iterator[str]:
        raise OSError

    def __len__(self) -> int:
        raise OSError


class Partly(Gone):
    """Likewise, but for what is given."""

    def __init__(self, **given: Any) -> None:
        self.given = given

    def __getitem__(self, key: str) -> Any:
        return self.given[key]

    def __contains__(self, key: object) -> bool:
        raise OSError


def test_a_mapping_that_raises_is_a_success_or_says_what_it_can() -> None:
    assert graphql_errors(Gone()) is None
    assert slack_error(Gone()) is None
    assert graphql_errors({"data": Gone(), "errors": [error("NOT_FOUND")]}) is None
    assert Signal(code="THROTTLED", message="No.") == graphql_errors(Partly(errors=[error("THROTTLED")]))


NAMES = "ok error errors data extensions code type message cost requestedQueryCost throttleStatus currentlyAvailable restoreRate".split()
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["THROTTLED", "ratelimited", "x"]) | st.builds(MagicMock),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(NAMES), each, max_size=5),
    max_leaves=15,
)


def dumped(value: Any) -> bytes:
    return json.dumps(value, default=str).encode()


@given(JUNK)
def test_whatever_comes_back_something_sane_is_said(value: Any) -> None:
    for reader in READERS:
        for form in (value, dumped(value), dumped(value).decode(), httpx.Response(200, content=dumped(value))):
            signal = reader(form)

            if signal is not None:
                assert signal.status in {None, 200}
                assert signal.retry_after is None or 0 <= signal.retry_after < math.inf
                assert all(word is None or (0 < len(word) <= 128 and word.isascii()) for word in (signal.code, signal.kind))
