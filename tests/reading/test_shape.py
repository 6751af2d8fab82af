"""Any result or exception to a signal: D2, D4, D28, D39, B53, B65."""

from __future__ import annotations

import datetime
import email.message
import http
import io
import json
import math
import urllib.error
import warnings
from typing import Any
from unittest.mock import MagicMock, PropertyMock

import anthropic
import attrs
import httpx
import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.errors import AttemptTimedOut, CircuitOpen, DeadlineExceeded, RefreshFailed
from resilience.outcome import Phase, Signal
from resilience.reading.shape import phase_of, read, reader_of, request_of, response_status

WALL = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
REFUSED, UNKNOWN, NOT_SENT = Phase.REFUSED, Phase.UNKNOWN, Phase.NOT_SENT
CALLMISSED = {"error": {"code": "rate_limit_exceeded", "message": "Slow down.", "type": "rate_limit_error"}}


def seen(outcome: object, **more: Any) -> Signal:
    return read(outcome, wall=WALL, **more)


def failed(kind: type[Exception] = Exception, *args: Any, **members: Any) -> Exception:
    error = kind(*args)
    error.__dict__.update(members)
    return error


class Sdk(Exception):
    """Somebody's own exception."""


BUSY = Signal(
    status=429,
    code="rate_limit_exceeded",
    kind="rate_limit_error",
    message="Slow down.",
    retry_after=7.0,
    phase=REFUSED,
    should_retry=False,
)
HEADERS = {"Retry-After": "7", "X-Should-Retry": "false"}


def httpx2_response(**changes: Any) -> httpx2.Response:
    return httpx2.Response(429, headers=HEADERS, json=CALLMISSED, request=httpx2.Request("POST", "https://example.com/v1/x"), **changes)


def botocore_error() -> Exception:
    error = failed(Sdk)
    error.response = {  # type: ignore[attr-defined]
        "Error": {"Code": "rate_limit_exceeded", "Message": "Slow down.", "Type": "rate_limit_error"},
        "ResponseMetadata": {"HTTPStatusCode": 429, "HTTPHeaders": {"retry-after": "7", "x-should-retry": "false"}, "RetryAttempts": 0},
    }
    return error


def urllib_error() -> Exception:
    headers = email.message.Message()
    for name, value in HEADERS.items():
        headers[name] = value
    error = urllib.error.HTTPError("https://example.com", 429, "Slow down.", headers, io.BytesIO())
    error.body = json.dumps(CALLMISSED)  # type: ignore[attr-defined]
    return error


def openai_error() -> Exception:
    response = httpx2_response()
    return openai.RateLimitError("Error code: 429", response=response, body=response.json()["error"])


def anthropic_error() -> Exception:
    response = httpx2_response()
    return anthropic.RateLimitError("Error code: 429", response=response, body=response.json())


SAME: dict[str, Any] = {
    "httpx2": httpx2_response,
    "httpx": lambda: httpx.Response(429, headers=HEADERS, json=CALLMISSED),
    "httpx2, raised": lambda: httpx2.HTTPStatusError("x", request=httpx2_response().request, response=httpx2_response()),
    "openai": openai_error,
    "anthropic": anthropic_error,
    "botocore": botocore_error,
    "urllib": urllib_error,
    "own attributes": lambda: failed(
        Sdk, status=429, code="rate_limit_exceeded", type="rate_limit_error", message="Slow down.", headers=HEADERS
    ),
    "own attributes, other names": lambda: failed(
        Sdk, http_status=http.HTTPStatus.TOO_MANY_REQUESTS, body=json.dumps(CALLMISSED).encode(), headers=list(HEADERS.items())
    ),
    "a response that is a dict": lambda: failed(Sdk, response={"status_code": 429, "headers": HEADERS, "body": CALLMISSED}),
    "a response of an unknown client": lambda: failed(Sdk, response=failed(Sdk, status=429, headers=HEADERS, body=CALLMISSED)),
}


@pytest.mark.parametrize("client", SAME)
def test_the_same_failure_says_the_same_through_every_client(client: str) -> None:
    """D28."""
    signal = seen(SAME[client]())

    assert BUSY == attrs.evolve(signal, raised=None)


def test_an_exceptions_type_is_told_always() -> None:
    assert httpx2.ReadTimeout is seen(httpx2.ReadTimeout("x")).raised
    assert openai.RateLimitError is seen(openai_error()).raised
    assert seen(httpx2_response()).raised is None


def test_an_openai_error_without_a_code_has_its_type() -> None:
    """D2: 429 for want of credit is not 429 for haste."""
    body = {"message": "You exceeded your current quota.", "type": "insufficient_quota", "param": None, "code": None}
    response = httpx2.Response(429, json={"error": body}, request=httpx2.Request("POST", "https://example.com"))

    signal = seen(openai.RateLimitError("x", response=response, body=body))

    assert (None, "insufficient_quota") == (signal.code, signal.kind)


def test_a_status_in_the_place_of_a_code_is_no_code() -> None:
    """Several servers put it there, and openai makes a str of it."""
    body = {"message": "No.", "type": "", "code": 429}
    response = httpx2.Response(429, json={"error": body}, request=httpx2.Request("POST", "https://example.com"))

    for outcome in (response, openai.RateLimitError("x", response=response, body=body)):
        assert (None, None) == (seen(outcome).code, seen(outcome).kind)


def test_an_error_in_the_middle_of_a_stream_is_told_by_its_kind() -> None:
    """B65: anthropic raises it with the status of the stream, which was 200."""
    body = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    response = httpx2.Response(200, request=httpx2.Request("POST", "https://example.com"))

    signal = seen(anthropic.APIStatusError("Overloaded", response=response, body=body))

    assert (200, "overloaded_error", UNKNOWN) == (signal.status, signal.kind, signal.phase)


@pytest.mark.parametrize(
    ("cause", "phase"),
    [
        (httpx2.ConnectError("refused"), NOT_SENT),
        (httpx2.ConnectTimeout("slow"), NOT_SENT),
        (httpx2.PoolTimeout("full"), NOT_SENT),
        (httpx2.ReadTimeout("slow"), UNKNOWN),
        (httpx2.RemoteProtocolError("gone"), UNKNOWN),
    ],
)
def test_what_an_sdk_wraps_tells_how_far_it_got(cause: Exception, phase: Phase) -> None:
    """D4: through the real SDK, over a transport that fails."""

    def fail(request: httpx2.Request) -> httpx2.Response:
        raise cause

    client = openai.OpenAI(api_key="k", max_retries=0, http_client=httpx2.Client(transport=httpx2.MockTransport(fail)))
    with client, pytest.raises(openai.APIConnectionError) as caught:
        client.models.list()

    signal = seen(caught.value)
    assert phase is signal.phase
    assert type(caught.value).__name__ == signal.code
    assert "GET" == getattr(request_of(caught.value), "method", None)


def test_grpc_and_others_whose_code_is_a_method_are_not_called() -> None:
    class Rpc(Exception):
        def code(self) -> int:
            raise AssertionError("called")

        def headers(self) -> dict[str, str]:
            raise AssertionError("called")

        status = code
        response = code

    assert Signal(code="Rpc", message="busy", raised=Rpc) == seen(Rpc("busy"))


def test_an_exception_that_carries_nothing_is_told_by_its_name() -> None:
    assert Signal(code="ReadTimeout", message="slow", raised=httpx2.ReadTimeout) == seen(httpx2.ReadTimeout("slow"))
    assert Signal(code="ValueError", raised=ValueError) == seen(ValueError())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(101, "Network is unreachable"), "ENETUNREACH"),
        (OSError(113, "No route to host"), "EHOSTUNREACH"),
        (OSError("no number"), "OSError"),
        (OSError(99_999, "no such number"), "OSError"),
        (OSError([1], "odd"), "OSError"),
        (OSError(111, "refused"), "ConnectionRefusedError"),
    ],
)
def test_a_plain_os_error_is_told_by_its_number(error: OSError, code: str) -> None:
    assert code == seen(error).code


@pytest.mark.parametrize("more", [{"status_code": 503}, {"code": "busy"}, {"type": "busy"}])
def test_an_exception_that_says_anything_needs_no_name(more: dict[str, Any]) -> None:
    assert "Exception" != seen(failed(**more)).code


def test_a_name_that_is_no_code_is_none() -> None:
    assert seen(type("Stra\u00dfe", (Exception,), {})()).code is None


def test_the_peers_envelope_comes_before_an_sdks_own_attributes() -> None:
    signal = seen(failed(status_code=400, code="E42", type="mine", body=CALLMISSED, message="SDK says no"))

    assert ("rate_limit_exceeded", "rate_limit_error", "Slow down.") == (signal.code, signal.kind, signal.message)


def test_what_one_place_lacks_another_adds() -> None:
    signal = seen(failed(body={"message": "No."}, response=httpx2.Response(403, json={"error": {"code": "denied"}}), type="auth"))

    assert (403, "denied", "auth", "No.") == (signal.status, signal.code, signal.kind, signal.message)


def test_googles_exceptions_carry_number_and_name() -> None:
    signal = seen(failed(code=429, status="RESOURCE_EXHAUSTED", message="Quota"))

    assert (429, "RESOURCE_EXHAUSTED", REFUSED) == (signal.status, signal.code, signal.phase)


DETAILS = [
    {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED"},
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36s"},
]


@pytest.mark.parametrize(
    "members",
    [
        # google-genai: errors.APIError.details is the whole body; google-api-core: GoogleAPICallError.details is the list in it.
        {"details": {"error": {"code": 429, "message": "Quota", "status": "RESOURCE_EXHAUSTED", "details": DETAILS}}},
        {"details": DETAILS, "status": "RESOURCE_EXHAUSTED"},
    ],
)
def test_googles_clients_keep_the_details(members: dict[str, Any]) -> None:
    signal = seen(failed(code=429, message="Quota", **members))

    assert (429, "RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", 36.0) == (signal.status, signal.code, signal.kind, signal.retry_after)


def test_a_graphql_clients_error_carries_the_answers_errors() -> None:
    """gql's TransportQueryError: errors, data and extensions of the answer; graphql-core's GraphQLError: the extensions of one error."""
    cost = {"requestedQueryCost": 252, "throttleStatus": {"currentlyAvailable": 2, "restoreRate": 50}}
    answer = failed(errors=[{"message": "Throttled", "extensions": {"code": "THROTTLED"}}], data=None, extensions={"cost": cost})

    assert ("THROTTLED", 5.0) == (seen(answer).code, seen(answer).retry_after)
    assert "FORBIDDEN" == seen(failed(message="No.", extensions={"code": "FORBIDDEN"})).code


def test_an_sdks_own_number_is_a_code_if_it_is_no_status() -> None:
    signal = seen(failed(status=403, code=50013))

    assert (403, "50013") == (signal.status, signal.code)


@pytest.mark.parametrize(
    "status", [True, False, "503", 503.0, 0, 99, 600, -1, 10**400, None, MagicMock(), MagicMock(spec=int), b"503", [503]]
)
def test_what_is_no_status_is_none(status: Any) -> None:
    for name in ("status", "status_code", "http_status", "code"):
        signal = seen(failed(**{name: status}))

        assert signal.status is None
    assert seen(failed(response={"status": status})).status is None


def test_the_first_status_that_is_one_counts() -> None:
    assert 503 == seen(failed(status_code=0, status=503)).status
    assert 503 == seen(failed(status_code=None, response=httpx2.Response(503), code=400)).status


def test_an_attribute_that_raises_is_absent() -> None:
    class Hostile(Exception):
        def __getattr__(self, name: str) -> Any:
            raise OSError(name)

        def __str__(self) -> str:
            raise OSError

        @property
        def response(self) -> Any:
            raise RuntimeError

    assert Signal(code="Hostile", raised=Hostile) == seen(Hostile())


@pytest.mark.parametrize("lie", [None, httpx2.Response, dict, Exception, int, str])
def test_an_exception_full_of_stand_ins_says_nothing(lie: type | None) -> None:
    names = (
        "status",
        "status_code",
        "code",
        "type",
        "body",
        "headers",
        "response",
        "message",
        "retry_after",
        "history",
        "request",
        "errno",
    )
    error = failed(**{name: MagicMock(spec=lie) for name in names})

    assert Signal(code="Exception", raised=Exception) == seen(error)
    assert request_of(error) is None


def test_a_stand_in_for_an_exception_is_a_value_and_says_nothing() -> None:
    assert Signal() == seen(MagicMock(spec=Exception))
    assert Signal() == seen(MagicMock())


def test_a_response_that_is_false_is_a_response() -> None:
    """requests: a failed response is false."""

    class Falsy:
        status_code = 503
        headers = {"retry-after": "5"}  # noqa: RUF012
        content = b""

        def __bool__(self) -> bool:
            return False

    signal = seen(failed(response=Falsy()))

    assert (503, 5.0) == (signal.status, signal.retry_after)


@pytest.mark.parametrize("module", ["aiohttp.client_exceptions.ClientResponseError", "websockets.exceptions.ConnectionClosed"])
def test_a_deprecated_attribute_is_not_touched(module: str) -> None:
    """aiohttp warns when `code` is read, and a warning may be an error."""
    path, _, name = module.rpartition(".")
    code = PropertyMock(return_value=429)
    kind = type(name, (Exception,), {"__module__": path, "code": code})
    error = failed(type("Mine", (kind,), {}), status=429)

    assert 429 == seen(error).status
    assert 0 == code.call_count


def test_the_status_of_what_aiohttp_could_not_parse_is_nobodys_answer() -> None:
    """Its 400 is of its own making: the peer may have done anything."""
    module = "aiohttp.http_exceptions"
    unread: Any = type(
        "HttpProcessingError", (Exception,), {"__module__": module, "code": 400, "message": "Bad status line", "headers": None}
    )
    line: Any = type("BadStatusLine", (unread,), {"__module__": module})
    raised: Any = type(
        "ClientResponseError", (Exception,), {"__module__": "aiohttp.client_exceptions", "status": 400, "message": "Bad status line"}
    )
    error = raised("400")
    error.__cause__ = line("bad")

    inside = Signal(code="BadStatusLine", message="Bad status line", raised=line)
    assert inside == seen(error.__cause__)
    assert Signal(code="ClientResponseError", message="Bad status line", raised=raised, leaves=(inside,)) == seen(error)
    assert 400 == seen(raised("a refusal")).status


def test_reading_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        for make in SAME.values():
            seen(make())


@pytest.mark.parametrize("hint", [3, 3.0, datetime.timedelta(seconds=3)])
def test_a_hint_may_be_an_attribute(hint: Any) -> None:
    assert 3.0 == seen(failed(retry_after=hint)).retry_after


@pytest.mark.parametrize("hint", [-1, math.nan, math.inf, True, "soon", 10**400, None, MagicMock(), MagicMock(spec=float)])
def test_an_attribute_that_is_no_sane_hint_is_none(hint: Any) -> None:
    """B22, B24, B25."""
    assert seen(failed(retry_after=hint)).retry_after is None


def test_a_header_comes_before_an_attribute_and_the_response_before_the_exception() -> None:
    assert 5.0 == seen(failed(retry_after=3, headers={"Retry-After": "5"})).retry_after
    assert 3.0 == seen(failed(retry_after=3, headers={"Retry-After": "soon"})).retry_after
    assert 7.0 == seen(failed(headers={"Retry-After": "5"}, response=httpx2.Response(429, headers={"Retry-After": "7"}))).retry_after


def test_a_header_comes_before_the_body_and_the_body_before_an_attribute() -> None:
    """D3: a header's unit is the standard's, and a gateway in front can say nothing elsewhere."""
    asking = {"error": {"details": DETAILS}}

    for client in (httpx, httpx2):
        assert 36.0 == seen(client.Response(429, json=asking)).retry_after
        assert 7.0 == seen(client.Response(429, json=asking, headers={"Retry-After": "7"})).retry_after
        assert 0.0 == seen(client.Response(429, json=asking, headers={"Retry-After": "0"})).retry_after
        assert 36.0 == seen(client.Response(429, json=asking, headers={"Retry-After": "soon"})).retry_after
    assert 36.0 == seen(failed(body=asking, retry_after=3)).retry_after
    assert 7.0 == seen(failed(body=asking, retry_after=3, headers={"Retry-After": "7"})).retry_after
    assert 0.0 == seen(failed(body={"retry_after_ms": 0}, response=httpx.Response(429, json=asking))).retry_after
    assert 36.0 == seen(asking).retry_after


def test_a_reset_is_a_hint_under_a_429_as_a_value_and_as_an_error() -> None:
    """B27: under any other status it says when a quota is renewed that is not spent."""
    headers = {"x-ratelimit-reset-requests": "6m0s"}

    for status, expected in ((429, 360.0), (500, None)):
        response = httpx2.Response(status, headers=headers, request=httpx2.Request("POST", "https://example.com"))
        assert expected == seen(response).retry_after
        assert expected == seen(httpx2.HTTPStatusError("x", request=response.request, response=response)).retry_after
        assert expected == seen(failed(status=status, headers=headers)).retry_after


def test_dates_in_hints_are_compared_with_the_time_given() -> None:
    assert 120.0 == seen(httpx2.Response(503, headers={"Retry-After": "Sun, 06 Nov 1994 08:51:37 GMT"})).retry_after


def test_our_own_errors_are_read_like_any_other() -> None:
    assert Signal(code="CircuitOpen", retry_after=2.5, phase=NOT_SENT, raised=CircuitOpen) == attrs.evolve(
        seen(CircuitOpen(retry_after=2.5)), message=None
    )
    assert Signal(code="AttemptTimedOut", raised=AttemptTimedOut) == attrs.evolve(seen(AttemptTimedOut(seconds=3)), message=None)
    assert Signal(status=429, code="busy", raised=DeadlineExceeded) == attrs.evolve(
        seen(DeadlineExceeded(status=429, code="busy")), message=None
    )
    assert Signal(status=503, retry_after=9.0, phase=REFUSED, raised=RefreshFailed) == attrs.evolve(
        seen(RefreshFailed(status=503, retry_after=9)), message=None
    )


def test_a_body_that_was_drained_by_the_caller_is_read() -> None:
    """D29: an adapter puts the bytes back in front of the stream, so the response does not hold them."""

    class Stream(httpx2.AsyncByteStream):
        pass

    response = httpx2.Response(429, stream=Stream())
    drained = json.dumps(CALLMISSED).encode()

    assert seen(response).code is None
    assert "rate_limit_exceeded" == seen(response, body=drained).code
    error = httpx2.HTTPStatusError("x", request=httpx2.Request("GET", "https://example.com"), response=response)
    assert "rate_limit_exceeded" == seen(error, body=drained).code


@pytest.mark.parametrize(("hop", "phase"), [(301, UNKNOWN), (302, UNKNOWN), (303, UNKNOWN), (307, REFUSED), (308, REFUSED)])
def test_a_refusal_behind_a_redirect_may_not_speak_for_the_first_request(hop: int, phase: Phase) -> None:
    """D4: the POST was answered with "see other", perhaps after it was carried out; only the GET for that was refused."""
    response = httpx2.Response(404, history=[httpx2.Response(hop)], request=httpx2.Request("GET", "https://example.com"))

    assert phase is seen(response).phase
    assert phase is seen(httpx2.HTTPStatusError("x", request=response.request, response=response)).phase
    assert phase is seen(failed(status=404, history=(httpx2.Response(hop),))).phase
    assert UNKNOWN is seen(httpx2.Response(503, history=[httpx2.Response(hop)])).phase


def test_a_value_that_is_no_response_is_not_read_unless_it_is_a_mapping() -> None:
    """An error inside a 200, for a dialect that asks (D2)."""
    assert Signal() == seen(failed)
    assert Signal() == seen(503)
    assert Signal() == seen(None)
    assert Signal(code="ratelimited", message="ratelimited") == seen({"ok": False, "error": "ratelimited"})


def test_slack_refuses_with_a_status_of_200() -> None:
    """D4: a message that was refused may be posted again, whoever says that a call must not be repeated."""
    for status in (None, 200):
        for code in ("token_expired", "ratelimited", "invalid_auth"):
            assert REFUSED is seen(failed(status=status, body={"ok": False, "error": code})).phase
        for code in ("internal_error", "fatal_error", "overloaded_error"):
            assert UNKNOWN is seen(failed(status=status, body={"ok": False, "error": code})).phase
    assert UNKNOWN is seen(failed(status=500, body={"ok": False, "error": "ratelimited"})).phase
    assert UNKNOWN is seen(DeadlineExceeded(code="ratelimited")).phase


def test_the_words_of_slacks_refusals_are_another_apis_failures() -> None:
    """D4: OpenAI's agents say request_timeout when a turn took too long."""
    for status in (None, 200):
        for error in (failed(status=status, code="request_timeout"), failed(status=status, body={"error": {"code": "request_timeout"}})):
            assert ("request_timeout", UNKNOWN) == (seen(error).code, seen(error).phase)
    for body in (b'{"ok": false, "error": "request_timeout"}', '{"ok": false, "error": "request_timeout"}'):
        assert REFUSED is seen(failed(body=body)).phase


AMAZON = "https://lambda.eu-west-1.amazonaws.com/"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("ThrottlingException", "ThrottlingException"),
        ("ThrottlingException:http://internal.amazon.com/coral/com.amazon.coral.availability/", "ThrottlingException"),
        ("aws.protocoltests.restjson#FooError", "FooError"),
        ("aws.protocoltests.restjson#FooError:http://internal.amazon.com/coral/com.amazon.coral.validate/", "FooError"),
        (" ThrottlingException ", "ThrottlingException"),
        ("", None),
        (":http://internal.amazon.com/", None),
        ("com.amazon#", None),
        ("x" * 129, None),
        ("Br\u00fcckenfehler", None),
    ],
)
def test_amazons_rest_protocol_has_the_code_in_a_header(value: str, code: str | None) -> None:
    """Forms: "AWS restJson1 protocol", Operation error serialization (smithy.io); botocore's parser takes them apart likewise."""
    headers = [(b"X-Amzn-ErrorType", value.encode("latin-1"))]
    response = httpx2.Response(429, headers=headers, json={"message": "Rate exceeded"}, request=httpx2.Request("POST", AMAZON))

    assert code == seen(response).code
    assert code == seen(httpx2.HTTPStatusError("x", request=response.request, response=response)).code
    assert code == seen(failed(status=429, headers={"x-amzn-errortype": value})).code


def test_a_code_in_the_body_comes_before_one_in_a_header() -> None:
    response = httpx2.Response(429, headers={"x-amzn-errortype": "Other"}, json={"__type": "com.amazon#ThrottlingException"})

    assert "ThrottlingException" == seen(response).code
    assert "ThrottlingException" == seen(httpx2.HTTPStatusError("x", request=httpx2.Request("POST", AMAZON), response=response)).code


def test_what_only_wraps_another_exception_holds_what_that_says() -> None:
    """urllib's and urllib3's ``reason``."""
    refused = ConnectionRefusedError("no")
    retried = failed(type("MaxRetryError", (Exception,), {"__module__": "urllib3.exceptions"}), "Max retries exceeded", reason=refused)

    for error in (urllib.error.URLError(refused), retried):
        assert (type(error).__name__, NOT_SENT, (seen(refused),)) == (seen(error).code, seen(error).phase, seen(error).leaves)
    assert () == seen(urllib.error.URLError("no host given")).leaves
    assert () == seen(failed(reason=refused)).leaves
    assert () == seen(urllib.error.HTTPError("u", 503, "busy", email.message.Message(), None)).leaves


def test_a_wrapper_in_a_wrapper_is_not_opened() -> None:
    """B53: nor one that holds itself."""
    error = urllib.error.URLError("x")
    error.reason = error

    assert () == seen(error).leaves
    assert () == seen(urllib.error.URLError(urllib.error.URLError("x"))).leaves


def test_a_response_that_says_nothing_says_nothing() -> None:
    assert Signal(status=500) == seen(httpx2.Response(500))
    assert Signal(status=500) == seen(httpx2.Response(500, content=b"<html>"))


def test_a_message_is_clipped_and_kept_out_of_sight() -> None:
    """D17."""
    signal = seen(ValueError("secret " * 1000))

    assert 500 == len(signal.message or "")
    assert "secret" not in repr(signal)


def test_one_leaf_of_a_group_speaks_for_it() -> None:
    """D39."""
    error = httpx2.ConnectError("refused")

    assert seen(error) == seen(ExceptionGroup("tasks", [error]))
    assert seen(error) == seen(ExceptionGroup("tasks", [ExceptionGroup("more", [error, error]), error]))


def test_leaves_that_differ_are_all_told() -> None:
    """D39: the worst phase, the longest hint, and whatever each says."""
    refused = failed(status=429, code="busy", headers={"Retry-After": "7"})
    refused_longer = failed(status=429, code="busy", headers={"Retry-After": "9"})
    unsent = ConnectionRefusedError()

    signal = seen(ExceptionGroup("tasks", [unsent, ExceptionGroup("more", [refused, refused_longer])]))

    assert (seen(unsent), seen(refused), seen(refused_longer)) == signal.leaves
    assert (9.0, REFUSED, ExceptionGroup) == (signal.retry_after, signal.phase, signal.raised)
    assert (None, None, None) == (signal.status, signal.code, signal.kind)
    assert UNKNOWN is seen(ExceptionGroup("tasks", [unsent, refused, ValueError()])).phase
    assert seen(ExceptionGroup("tasks", [unsent, ValueError()])).retry_after is None


def test_a_hundred_equal_leaves_are_one() -> None:
    assert seen(TimeoutError()) == seen(ExceptionGroup("tasks", [TimeoutError() for _ in range(200)]))


def test_more_leaves_than_are_read_make_nothing_look_better() -> None:
    """D39: a fail-fast leaf may be among the rest."""
    signal = seen(ExceptionGroup("tasks", [ConnectionRefusedError() for _ in range(5000)]))

    assert ["ConnectionRefusedError", "ExceptionGroup"] == [leaf.code for leaf in signal.leaves]
    assert UNKNOWN is signal.phase


def test_a_group_nested_ten_thousand_deep_is_read() -> None:
    group: ExceptionGroup[Any] = ExceptionGroup("", [ConnectionRefusedError()])
    for _ in range(10_000):
        group = ExceptionGroup("", [group])

    assert UNKNOWN is seen(group).phase


def test_other_than_ordinary_exceptions_are_read_too() -> None:
    """Nobody classifies them, but a group may hold one."""
    assert Signal(code="KeyboardInterrupt", raised=KeyboardInterrupt) == seen(KeyboardInterrupt())
    assert 2 == len(seen(BaseExceptionGroup("", [SystemExit(404), ValueError()])).leaves)


def test_a_cycle_of_causes_is_read_at_once() -> None:
    """B53."""
    error = ValueError()
    error.__cause__ = error

    assert UNKNOWN is seen(error).phase


def test_the_public_names_of_reading_are_here() -> None:
    """`read` for users, the rest for the engine and its adapters."""
    assert all(callable(name) for name in (phase_of, read, reader_of, request_of, response_status))


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.builds(MagicMock)
    | st.builds(object),
    lambda each: (
        st.lists(each, max_size=3) | st.dictionaries(st.sampled_from(["error", "code", "Retry-After", "status", "type"]), each, max_size=4)
    ),
    max_leaves=6,
)
NAMES = """status status_code code type body headers response retry_after history request reason message errors extensions details json_body
data""".split()


@given(st.dictionaries(st.sampled_from(NAMES), ANYTHING), st.floats())
def test_whatever_an_exception_carries_it_is_read(members: dict[str, Any], wall: float) -> None:
    for error in (failed(**members), failed(response=failed(**members)), ExceptionGroup("", [failed(**members)])):
        signal = read(error, wall=wall)

        assert signal.status is None or 100 <= signal.status <= 599
        assert signal.retry_after is None or 0 <= signal.retry_after < math.inf
        assert all(word is None or (0 < len(word) <= 128 and word.isascii() and word.isprintable()) for word in (signal.code, signal.kind))
        assert signal.message is None or len(signal.message) <= 500
        request_of(error)


def test_without_a_clock_a_date_is_a_hint_only_beside_the_responses_own_date() -> None:
    """D3: reading is pure, and asks no clock of its own."""
    later = {"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}
    both = {**later, "Date": "Sun, 06 Nov 1994 08:49:07 GMT"}

    assert None is read(httpx.Response(503, headers=later)).retry_after
    assert 30.0 == read(httpx.Response(503, headers=both)).retry_after
    assert 7.0 == read(httpx.Response(503, headers={"Retry-After": "7"})).retry_after
