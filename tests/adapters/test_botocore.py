"""
botocore, whole and real, against a server on loopback: its exceptions are read, its own retries are off.

It is sync, so each attempt runs in a thread; an engine's `current()` reaches there.  Answers are what AWS sends: JSON with ``__type`` from
DynamoDB, JSON and ``x-amzn-query-error`` from SQS, XML from S3, binary events from Bedrock.
"""

from __future__ import annotations

import contextlib
import functools
import json
import re
import socket
import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import anyio.to_thread
import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    EndpointConnectionError,
)
from botocore.loaders import create_loader

from resilience import Engine, IdempotencyKey, RefreshToken, Retry, current, history
from resilience.dialects import aws

pytestmark = pytest.mark.anyio

ITEM = {"pk": {"S": "1"}}
FOUND = b'{"Item": {"pk": {"S": "1"}}}'
PUT = {"Put": {"TableName": "t", "Item": ITEM}}


MODELS: Any = create_loader()  # of services: reading one takes longer than most tests


class Aws:
    """Clients of one server, closed at the end."""

    def __init__(self) -> None:
        self._session = botocore.session.Session()
        self._session.register_component("data_loader", MODELS)
        self._clients: list[Any] = []

    def client(self, service: str, url: str, *, mode: str = "standard", token: str | None = None) -> Any:
        config = Config(
            retries={"total_max_attempts": 1, "mode": mode}, proxies={}, s3={"addressing_style": "path"}, connect_timeout=5, read_timeout=5
        )
        keys = {"aws_access_key_id": "id", "aws_secret_access_key": "secret", "aws_session_token": token}
        client = self._session.create_client(service, "eu-west-1", endpoint_url=url, config=config, **keys)
        self._clients.append(client)
        return client

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    for name in ("AWS_PROFILE", "AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    clouds = Aws()
    yield clouds
    clouds.close()


def engine(desk: Any, *policies: Any) -> Engine:
    return Engine(policies or [Retry()], rules=aws.RULES, env=desk.env)


async def in_thread(method: Callable[..., Any], **parameters: Any) -> Any:
    return await anyio.to_thread.run_sync(functools.partial(method, **parameters))


def in_turn(*answers: Callable[[Any], None]) -> Callable[[Any, bytes], None]:
    """Play each of *answers* to one request, the last to all others."""
    left = list(answers)

    def play(peer: Any, _request: bytes) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(peer)

    return play


def typed(status: int, code: str, **headers: str) -> Callable[[Any], None]:
    """DynamoDB's envelope."""
    body = json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "for people"}).encode()
    return lambda peer: peer.answer(status, body, content_type="application/x-amz-json-1.0", **headers)


def xml(status: int, code: str, **headers: str) -> Callable[[Any], None]:
    """S3's."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>...</Message></Error>'.encode()
    return lambda peer: peer.answer(status, body, content_type="application/xml", **headers)


def plain(body: bytes = FOUND, **headers: str) -> Callable[[Any], None]:
    return lambda peer: peer.answer(200, body, **headers)


def event(payload: bytes, **headers: str) -> bytes:
    """One message of ``application/vnd.amazon.eventstream``: lengths, headers of type 7 (string), payload, two checksums."""
    fields = b"".join(
        bytes([len(name)]) + name + b"\x07" + struct.pack("!H", len(value)) + value
        for name, value in ((f":{key.replace('_', '-')}".encode(), text.encode()) for key, text in headers.items())
    )
    prelude = struct.pack("!II", 16 + len(fields) + len(payload), len(fields))
    message = prelude + struct.pack("!I", zlib.crc32(prelude)) + fields + payload
    return message + struct.pack("!I", zlib.crc32(message))


def sent(server: Any, header: str) -> list[str]:
    """The header, or the field of the JSON body, in each request."""
    return [re.findall(rf'(?i)"?{header}"?: ?"?([^"\r]+)', request.decode())[0] for request in server.requests]


@pytest.mark.parametrize("mode", ["standard", "legacy"])
async def test_throttling_is_asked_again_by_the_slower_schedule(cloud: Aws, desk: Any, odd: Any, mode: str) -> None:
    """Attempts equal requests: botocore's own retries are off, in either mode."""
    server = odd(in_turn(typed(400, "ProvisionedThroughputExceededException"), typed(400, "ThrottlingException"), plain()))
    client = cloud.client("dynamodb", server.url, mode=mode)

    answer = await engine(desk).call(in_thread, client.get_item, TableName="t", Key=ITEM)

    assert ITEM == answer["Item"]
    assert (3, [0.5, 1.0]) == (len(server.requests), desk.slept)
    assert ["attempt=1"] * 3 == [one.partition(";")[0] for one in sent(server, "amz-sdk-request")]


async def test_what_may_pass_is_asked_again_soon(cloud: Aws, desk: Any, odd: Any) -> None:
    server = odd(in_turn(typed(500, "InternalServerError"), typed(503, "ServiceUnavailable"), plain()))
    client = cloud.client("dynamodb", server.url)

    await engine(desk).call(in_thread, client.get_item, TableName="t", Key=ITEM)

    assert (3, [0.025, 0.05]) == (len(server.requests), desk.slept)


@pytest.mark.parametrize("hint", [{"x_amz_retry_after": "7000"}, {"retry_after": "7"}])
async def test_the_wait_that_the_service_asks_for_is_kept(cloud: Aws, desk: Any, odd: Any, hint: dict[str, str]) -> None:
    server = odd(in_turn(typed(400, "ThrottlingException", **hint), plain()))
    client = cloud.client("dynamodb", server.url)

    await engine(desk).call(in_thread, client.get_item, TableName="t", Key=ITEM)

    assert 2 == len(server.requests)
    assert ["hint"] == [said.delay_source for said in desk.of("retry.scheduled")]
    assert desk.slept[0] >= 7


async def test_what_is_wrong_with_the_request_is_one_request(cloud: Aws, desk: Any, odd: Any) -> None:
    server = odd(in_turn(typed(400, "ValidationException")))
    client = cloud.client("dynamodb", server.url)

    with pytest.raises(ClientError) as caught:
        await engine(desk).call(in_thread, client.get_item, TableName="t", Key=ITEM)

    assert (1, []) == (len(server.requests), desk.slept)
    assert "ValidationException" == caught.value.response["Error"]["Code"]
    assert ["call.failed_fast"] == desk.names()[-1:]


async def test_attempts_equal_requests_when_nothing_helps(cloud: Aws, desk: Any, odd: Any) -> None:
    server = odd(in_turn(typed(400, "ThrottlingException")))
    client = cloud.client("dynamodb", server.url)

    with pytest.raises(ClientError) as caught:
        await engine(desk, Retry(attempts=5)).call(in_thread, client.get_item, TableName="t", Key=ITEM)

    assert 5 == len(server.requests) == len(history(caught.value))


async def test_credentials_that_expired_are_renewed_once(cloud: Aws, desk: Any, odd: Any) -> None:
    server = odd(in_turn(typed(400, "ExpiredTokenException"), plain()))
    clients = {token: cloud.client("dynamodb", server.url, token=token) for token in ("old", "new")}
    renewed = []

    async def login(stale: str | None) -> str:
        renewed.append(stale)
        return "new"

    async def get() -> Any:
        token = current().token
        assert token is not None
        return await in_thread(clients[token].get_item, TableName="t", Key=ITEM)

    await engine(desk, RefreshToken(login, token="old"), Retry()).call(get)

    assert (["old"], []) == (renewed, desk.slept)
    assert ["old", "new"] == sent(server, "x-amz-security-token")


async def test_without_a_source_of_credentials_it_is_final_at_once(cloud: Aws, desk: Any, odd: Any) -> None:
    server = odd(in_turn(xml(403, "InvalidAccessKeyId")))
    client = cloud.client("s3", server.url)

    with pytest.raises(ClientError):
        await engine(desk).call(in_thread, client.get_object, Bucket="b", Key="k")

    assert 1 == len(server.requests)


async def test_s3_asks_for_less_in_xml(cloud: Aws, desk: Any, odd: Any) -> None:
    """The reader parses JSON only; botocore parses XML itself."""
    server = odd(in_turn(xml(503, "SlowDown"), xml(400, "RequestTimeout"), plain(b"data", content_type="text/plain")))
    client = cloud.client("s3", server.url)

    answer = await engine(desk).call(in_thread, client.get_object, Bucket="b", Key="k")

    answer["Body"].close()
    assert (3, [0.5, 0.025]) == (len(server.requests), desk.slept)


async def test_an_error_inside_a_200_is_one(cloud: Aws, desk: Any, odd: Any) -> None:
    """S3 answers a long copy before it knows how that will end."""
    copied = b"<CopyObjectResult><ETag>1</ETag></CopyObjectResult>"
    server = odd(in_turn(xml(200, "InternalError"), plain(copied, content_type="application/xml")))
    client = cloud.client("s3", server.url)

    answer = await engine(desk).call(in_thread, client.copy_object, Bucket="b", Key="k", CopySource="b/old")

    assert "1" == answer["CopyObjectResult"]["ETag"]
    assert (2, ["InternalError"]) == (len(server.requests), [failed.code for failed in desk.of("attempt.failed")])


async def test_what_answers_head_has_a_status_only(cloud: Aws, desk: Any, odd: Any) -> None:
    server = odd(in_turn(lambda peer: peer.answer(404)))
    client = cloud.client("s3", server.url)

    with pytest.raises(ClientError):
        await engine(desk).call(in_thread, client.head_object, Bucket="b", Key="k")

    assert (1, [(404, None)]) == (len(server.requests), [(failed.status, failed.code) for failed in desk.of("attempt.failed")])


async def test_sqs_says_it_in_a_header(cloud: Aws, desk: Any, odd: Any) -> None:
    """Under the JSON protocol the code of the query protocol stands in the header, and botocore takes that."""
    body = b'{"__type": "com.amazonaws.sqs#RequestThrottled", "message": "..."}'
    throttled = functools.partial(_answer, 403, body, x_amzn_query_error="RequestThrottled;Sender")
    server = odd(in_turn(throttled, plain(b"{}")))
    client = cloud.client("sqs", server.url)

    await engine(desk).call(in_thread, client.receive_message, QueueUrl=f"{server.url}/1/q")

    assert (2, [0.5]) == (len(server.requests), desk.slept)


def _answer(status: int, body: bytes, peer: Any, **headers: str) -> None:
    peer.answer(status, body, content_type="application/x-amz-json-1.0", **headers)


async def test_a_refused_connection_is_repeated_even_for_a_write(cloud: Aws, desk: Any) -> None:
    """D4: nothing was sent."""
    with contextlib.closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound, but it does not listen
        client = cloud.client("dynamodb", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        with pytest.raises(EndpointConnectionError):
            await engine(desk).using(method="POST").call(in_thread, client.put_item, TableName="t", Item=ITEM)

    assert [0.025, 0.05] == desk.slept
    assert ["not_sent"] * 3 == [failed.phase for failed in desk.of("attempt.failed")]


async def test_a_connection_that_broke_after_a_write_is_repeated_on_your_word_only(cloud: Aws, desk: Any, odd: Any) -> None:
    """D4: the item may be there.  This error of botocore's knows its request, and under a JSON protocol all are POSTs."""
    server = odd(lambda peer, _request: peer.connection.shutdown(socket.SHUT_RDWR))
    client = cloud.client("dynamodb", server.url)
    writing = engine(desk)

    with pytest.raises(ConnectionClosedError):
        await writing.call(in_thread, client.put_item, TableName="t", Item=ITEM)
    assert 1 == server.arrived(1)
    assert ["unsafe"] == [said.reason for said in desk.of("retry.gave_up")]

    with pytest.raises(ConnectionClosedError):
        await writing.using(repeatable=True).call(in_thread, client.put_item, TableName="t", Item=ITEM)
    assert 4 == server.arrived(4)


async def test_a_token_of_one_s_own_is_the_same_on_every_attempt(cloud: Aws, desk: Any, odd: Any) -> None:
    """Each call of a method makes up another, which would protect nothing."""
    server = odd(in_turn(typed(500, "InternalServerError"), plain(b"{}")))
    client = cloud.client("dynamodb", server.url)

    async def pay() -> Any:
        return await in_thread(client.transact_write_items, TransactItems=[PUT], ClientRequestToken=current().take_key()[:36])

    await engine(desk, IdempotencyKey(), Retry()).using(method="POST").call(pay)
    mine = sent(server, "ClientRequestToken")

    other = odd(in_turn(typed(500, "InternalServerError"), plain(b"{}")))
    made_up = cloud.client("dynamodb", other.url)
    await engine(desk).call(in_thread, made_up.transact_write_items, TransactItems=[PUT])

    assert (2, 1) == (len(mine), len(set(mine)))
    assert 2 == len(set(sent(other, "ClientRequestToken")))


async def test_an_error_in_the_middle_of_a_stream_is_known_by_the_name_of_its_member(cloud: Aws, desk: Any, odd: Any) -> None:
    """Bedrock spells it in lower camel case there, and botocore gives it the status 400, of which the peer knows nothing."""
    started = event(b'{"role": "assistant"}', event_type="messageStart", message_type="event", content_type="application/json")
    broken = event(b'{"message": "..."}', exception_type="throttlingException", message_type="exception", content_type="application/json")
    stopped = event(b'{"stopReason": "end_turn"}', event_type="messageStop", message_type="event", content_type="application/json")
    stream = "application/vnd.amazon.eventstream"
    server = odd(in_turn(plain(started + broken, content_type=stream), plain(started + stopped, content_type=stream)))
    client = cloud.client("bedrock-runtime", server.url)

    def converse() -> list[str]:
        return [name for part in client.converse_stream(modelId="m")["stream"] for name in part]

    names = await engine(desk).call(in_thread, converse)

    assert ["messageStart", "messageStop"] == names
    assert (2, [0.5]) == (len(server.requests), desk.slept)
    assert [("throttlingException", "unknown")] == [(failed.code, failed.phase) for failed in desk.of("attempt.failed")]
