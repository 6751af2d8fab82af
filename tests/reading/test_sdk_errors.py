"""What slack_sdk, stripe and botocore raise, each by its own parsing of an answer from a real socket, says what the answer said (D28)."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import attrs
import botocore.config
import botocore.exceptions
import botocore.session
import pytest
import slack_sdk
import stripe
from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from resilience import Phase, Signal, read

REFUSED, UNKNOWN = Phase.REFUSED, Phase.UNKNOWN


class Peer(http.server.ThreadingHTTPServer):
    """Gives every request one and the same answer."""

    daemon_threads = True
    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - set by each test
    body = b""

    def answer(self, status: int, body: object, **headers: str) -> str:
        self.status, self.headers = status, {name.replace("_", "-"): value for name, value in headers.items()}
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return f"http://127.0.0.1:{self.server_address[1]}"


class Answering(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Peer

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"] or 0))
        self.send_response(self.server.status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(self.server.body)),
            **self.server.headers,
        }.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(self.server.body)

    do_GET = do_POST  # noqa: N815 - the server looks for these names

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def said(error: BaseException) -> Signal:
    return attrs.evolve(read(error, wall=0), raised=None, message=None)


SLACK = [
    (200, {"ok": False, "error": "token_expired"}, {}, Signal(200, "token_expired", phase=REFUSED)),
    (
        200,
        {"ok": False, "error": "invalid_arguments", "response_metadata": {"messages": ["[ERROR]"]}},
        {},
        Signal(200, "invalid_arguments"),
    ),
    (
        429,
        {"ok": False, "error": "ratelimited"},
        {"Retry_After": "30"},
        Signal(429, "ratelimited", retry_after=30.0, phase=REFUSED),
    ),
    (500, {"ok": False, "error": "internal_error"}, {}, Signal(500, "internal_error")),
    # The SDK puts a sentence in the place of the code.
    (503, b"<html>Service Unavailable</html>", {"Retry_After": "5"}, Signal(503, retry_after=5.0)),
]


@pytest.mark.parametrize(("status", "body", "headers", "expected"), SLACK)
def test_slack_sdk_s_errors_say_what_slack_said(peer: Peer, status: int, body: object, headers: dict[str, str], expected: Signal) -> None:
    client = slack_sdk.WebClient("xoxb-1", base_url=f"{peer.answer(status, body, **headers)}/api/")

    with pytest.raises(SlackApiError) as caught:
        client.chat_postMessage(channel="C1", text="hi")

    assert expected == said(caught.value)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", ("asyncio", {"use_uvloop": True})])
@pytest.mark.parametrize(("status", "body", "headers", "expected"), SLACK)
async def test_those_of_its_async_client_say_the_same(
    peer: Peer, status: int, body: object, headers: dict[str, str], expected: Signal
) -> None:
    client = AsyncWebClient("xoxb-1", base_url=f"{peer.answer(status, body, **headers)}/api/")

    with pytest.raises(SlackApiError) as caught:
        await client.chat_postMessage(channel="C1", text="hi")

    assert expected == said(caught.value)


def test_an_error_of_slack_s_kept_as_a_mapping_says_the_same() -> None:
    error = SlackApiError("No.", {"ok": False, "error": "token_revoked"})  # type: ignore[no-untyped-call]  # slack_sdk's

    assert Signal(code="token_revoked") == said(error)


def stripe_error(peer: Peer, status: int, body: object, **headers: str) -> stripe.StripeError:
    url = peer.answer(status, body, **headers)
    client = stripe.StripeClient("sk_test_1", base_addresses={"api": url}, max_network_retries=0)
    with pytest.raises(stripe.StripeError) as caught:
        client.v1.customers.create({"name": "A"})
    return caught.value


@pytest.mark.parametrize(
    ("status", "error", "kind", "expected"),
    [
        (
            402,
            {"type": "card_error", "code": "card_declined", "decline_code": "insufficient_funds", "message": "No.", "param": ""},
            stripe.CardError,
            Signal(402, "insufficient_funds", "card_error", phase=REFUSED),
        ),
        (
            402,
            {"type": "card_error", "code": "expired_card", "message": "No.", "param": "exp_month"},
            stripe.CardError,
            Signal(402, "expired_card", "card_error", phase=REFUSED),
        ),
        (
            400,
            {"type": "invalid_request_error", "code": "parameter_missing", "message": "No.", "param": "amount"},
            stripe.InvalidRequestError,
            Signal(400, "parameter_missing", "invalid_request_error", phase=REFUSED),
        ),
        (
            400,
            {"type": "idempotency_error", "message": "No."},
            stripe.IdempotencyError,
            Signal(400, None, "idempotency_error", phase=REFUSED),
        ),
        (
            401,
            {"type": "invalid_request_error", "message": "No."},
            stripe.AuthenticationError,
            Signal(401, None, "invalid_request_error", phase=REFUSED),
        ),
        (
            403,
            {"type": "invalid_request_error", "message": "No."},
            stripe.PermissionError,
            Signal(403, None, "invalid_request_error", phase=REFUSED),
        ),
        (
            429,
            {"type": "invalid_request_error", "code": "rate_limit", "message": "No."},
            stripe.RateLimitError,
            Signal(429, "rate_limit", "invalid_request_error", phase=REFUSED),
        ),
        (
            409,
            {"type": "invalid_request_error", "code": "lock_timeout", "message": "No."},
            stripe.APIError,
            Signal(409, "lock_timeout", "invalid_request_error", phase=REFUSED),
        ),
        (500, {"type": "api_error", "message": "No."}, stripe.APIError, Signal(500, None, "api_error")),
    ],
)
def test_stripe_s_errors_say_what_stripe_said(
    peer: Peer, status: int, error: dict[str, str], kind: type[stripe.StripeError], expected: Signal
) -> None:
    """docs.stripe.com, "Errors"."""
    raised = stripe_error(peer, status, {"error": error}, Request_Id="req_1")

    assert kind is type(raised)
    assert expected == said(raised)
    assert "No." == read(raised).message


def test_stripe_s_headers_are_read(peer: Peer) -> None:
    raised = stripe_error(peer, 429, {"error": {"type": "invalid_request_error", "code": "rate_limit"}}, Retry_After="3")

    assert 3.0 == said(raised).retry_after


def test_an_answer_that_stripe_cannot_parse_has_its_status(peer: Peer) -> None:
    assert 502 == said(stripe_error(peer, 502, b"<html>Bad Gateway</html>")).status


def botocore_error(peer: Peer, service: str, call: str, **answer: Any) -> Exception:
    session = botocore.session.Session()
    client = session.create_client(
        service,
        region_name="eu-central-1",
        endpoint_url=peer.answer(**answer),
        aws_access_key_id="k",
        aws_secret_access_key="s",
        config=botocore.config.Config(retries={"total_max_attempts": 1, "mode": "standard"}),
    )
    try:
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            getattr(client, call)()
    finally:
        client.close()
    error: Exception = caught.value
    return error


@pytest.mark.parametrize(
    ("service", "call", "answer", "expected"),
    [
        (
            "dynamodb",
            "list_tables",
            {"status": 400, "body": {"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "Slow down."}},
            Signal(400, "ThrottlingException", phase=REFUSED),
        ),
        (
            "sts",
            "get_caller_identity",
            {
                "status": 403,
                "body": b"<ErrorResponse><Error><Type>Sender</Type><Code>ExpiredToken</Code><Message>Slow down.</Message></Error>"
                b"</ErrorResponse>",
            },
            Signal(403, "ExpiredToken", "Sender", phase=REFUSED),
        ),
        (
            "s3",
            "list_buckets",
            {"status": 503, "body": b"<Error><Code>SlowDown</Code><Message>Slow down.</Message></Error>", "Retry_After": "2"},
            Signal(503, "SlowDown", retry_after=2.0),
        ),
    ],
)
def test_botocore_s_errors_say_what_the_service_said(peer: Peer, service: str, call: str, answer: dict[str, Any], expected: Signal) -> None:
    error = botocore_error(peer, service, call, **answer)

    assert expected == said(error)
    assert "Slow down." == read(error).message
