"""What an error body says, and that nothing it may hold is an error of ours."""

from __future__ import annotations

import enum
import json
import math
import random
import string
import time
from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import MagicMock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.reading.envelope import LARGEST, Envelope, clip, read_envelope

NOTHING = Envelope()


def google(*details: object, code: int = 429, status: str = "RESOURCE_EXHAUSTED") -> dict[str, Any]:
    return {"error": {"code": code, "message": "Quota exceeded.", "status": status, "details": list(details)}}


def info(reason: str, **metadata: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com", "metadata": metadata}


def quota(*ids: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaMetric": "x", "quotaId": name} for name in ids]}


ENVELOPES: dict[str, tuple[Any, Envelope]] = {
    "CallMissed": (
        {"error": {"code": "insufficient_credits", "message": "Top up.", "type": "billing_error"}},
        Envelope("insufficient_credits", "billing_error", "Top up."),
    ),
    "OpenAI": (
        {"error": {"message": "Slow down.", "type": "requests", "param": None, "code": "rate_limit_exceeded"}},
        Envelope("rate_limit_exceeded", "requests", "Slow down."),
    ),
    "OpenAI, code null": (
        {"error": {"message": "No.", "type": "insufficient_quota", "param": None, "code": None}},
        Envelope(None, "insufficient_quota", "No."),
    ),
    "OpenAI, code a number": ({"error": {"message": "No.", "type": "x", "code": 1302}}, Envelope("1302", "x", "No.")),
    "OpenAI, code a status": ({"error": {"message": "No.", "type": "x", "code": 429}}, Envelope(None, "x", "No.")),
    "OpenAI, code a status in digits": ({"error": {"message": "No.", "type": "x", "code": "429"}}, Envelope(None, "x", "No.")),
    "Anthropic": (
        {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"},
        Envelope(None, "overloaded_error", "Overloaded"),
    ),
    "Anthropic, with an error code": (
        {"type": "error", "error": {"type": "rate_limit_error", "message": "No.", "details": {"error_code": "credit_exhausted"}}},
        Envelope("credit_exhausted", "rate_limit_error", "No."),
    ),
    "RFC 9457": (
        {
            "type": "https://example.com/probs/out-of-credit",
            "title": "You are out of credit.",
            "status": 403,
            "detail": "30, but that costs 50.",
        },
        Envelope("out-of-credit", "https://example.com/probs/out-of-credit", "30, but that costs 50."),
    ),
    "RFC 9457, with a code": ({"type": "about:blank", "title": "Conflict", "code": "duplicate"}, Envelope("duplicate", None, "Conflict")),
    "Google": (
        {"error": {"code": 429, "message": "Quota exceeded.", "status": "RESOURCE_EXHAUSTED", "details": [{"@type": "x"}]}},
        Envelope("RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "Quota exceeded."),
    ),
    "Google, a gRPC code": (
        {"error": {"code": 14, "message": "Gone.", "status": "UNAVAILABLE"}},
        Envelope("UNAVAILABLE", "UNAVAILABLE", "Gone."),
    ),
    "Google, streamed": (
        [{"error": {"code": 503, "message": "Gone.", "status": "UNAVAILABLE"}}],
        Envelope("UNAVAILABLE", "UNAVAILABLE", "Gone."),
    ),
    "Google, with a reason": (
        google(info("API_DISABLED"), status="PERMISSION_DENIED", code=403),
        Envelope("API_DISABLED", "PERMISSION_DENIED", "Quota exceeded."),
    ),
    "Google, with a quota": (
        google(quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier")),
        Envelope("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", "RESOURCE_EXHAUSTED", "Quota exceeded."),
    ),
    "Google, a reason before a quota of a minute": (
        google(quota("ReadsPerMinutePerUser"), info("RATE_LIMIT_EXCEEDED")),
        Envelope("RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", "Quota exceeded."),
    ),
    "Google, a quota of a day before all others": (
        google(
            quota("GenerateContentInputTokensPerModelPerMinute-FreeTier", "GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
            info("RATE_LIMIT_EXCEEDED"),
        ),
        Envelope("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "RESOURCE_EXHAUSTED", "Quota exceeded."),
    ),
    "Google, a limit of a day named beside the reason": (
        google(info("RATE_LIMIT_EXCEEDED", quota_limit="defaultPerDayPerProject")),
        Envelope("defaultPerDayPerProject", "RESOURCE_EXHAUSTED", "Quota exceeded."),
    ),
    "Google, field names of the proto": (
        google({"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quota_id": "reads_per_day"}]}),
        Envelope("reads_per_day", "RESOURCE_EXHAUSTED", "Quota exceeded."),
    ),
    "Google, with a delay": (
        google({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "36.5s"}),
        Envelope("RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "Quota exceeded.", 36.5),
    ),
    "Google, the older APIs": (
        {
            "error": {
                "errors": [{"domain": "usageLimits", "reason": "userRateLimitExceeded", "message": "User Rate Limit Exceeded"}],
                "code": 403,
                "message": "User Rate Limit Exceeded",
            }
        },
        Envelope("userRateLimitExceeded", None, "User Rate Limit Exceeded"),
    ),
    "Azure OpenAI": (
        {
            "error": {
                "message": "The response was filtered",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}},
            }
        },
        Envelope("content_filter", "ResponsibleAIPolicyViolation", "The response was filtered"),
    ),
    "Azure, the inner code alone": (
        {"error": {"message": "No.", "innererror": {"code": "PasswordTooShort"}}},
        Envelope("PasswordTooShort", None, "No."),
    ),
    "Stripe": (
        {
            "error": {
                "code": "card_declined",
                "decline_code": "insufficient_funds",
                "message": "Your card has insufficient funds.",
                "type": "card_error",
                "payment_intent": {"id": "pi_1", "status": "requires_payment_method"},
            }
        },
        Envelope("insufficient_funds", "card_error", "Your card has insufficient funds."),
    ),
    "Stripe, nothing declined": (
        {"error": {"code": "resource_missing", "message": "No such customer.", "type": "invalid_request_error"}},
        Envelope("resource_missing", "invalid_request_error", "No such customer."),
    ),
    "Shopify": (
        {
            "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED", "documentation": "https://shopify.dev/..."}}],
            "extensions": {
                "cost": {
                    "requestedQueryCost": 252,
                    "actualQueryCost": None,
                    "throttleStatus": {"maximumAvailable": 1000.0, "currentlyAvailable": 2, "restoreRate": 50.0},
                }
            },
        },
        Envelope("THROTTLED", None, "Throttled", 5.0),
    ),
    "Shopify, REST": ({"errors": "Unavailable Shop"}, Envelope(None, None, "Unavailable Shop")),
    "Discord": (
        {"message": "You are being rate limited.", "retry_after": 64.57, "global": False},
        Envelope(None, None, "You are being rate limited.", 64.57),
    ),
    "Telegram": (
        {"ok": False, "error_code": 429, "description": "Too Many Requests: retry after 35", "parameters": {"retry_after": 35}},
        Envelope(None, None, "Too Many Requests: retry after 35", 35.0),
    ),
    "Cloudflare": (
        {
            "type": "https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-1xxx-errors/error-1015/",
            "title": "Error 1015: You are being rate limited",
            "status": 429,
            "cloudflare_error": True,
            "retryable": True,
            "retry_after": 30,
        },
        Envelope(
            "error-1015",
            "https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-1xxx-errors/error-1015/",
            "Error 1015: You are being rate limited",
            30.0,
        ),
    ),
    "AWS JSON": (
        {"__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException", "message": "Rate exceeded"},
        Envelope("ThrottlingException", None, "Rate exceeded"),
    ),
    "AWS JSON, with a URL": (
        {"__type": "com.amazon.coral#ThrottlingException:http://internal.amazon.com/#coral/", "Message": "Rate exceeded"},
        Envelope("ThrottlingException", None, "Rate exceeded"),
    ),
    "AWS JSON, bare": ({"__type": "AccessDeniedException", "Message": "No."}, Envelope("AccessDeniedException", None, "No.")),
    "AWS REST": ({"code": "SlowDown", "message": "Reduce your request rate."}, Envelope("SlowDown", None, "Reduce your request rate.")),
    "botocore": (
        {"Error": {"Code": "Throttling", "Message": "Rate exceeded", "Type": "Sender"}, "ResponseMetadata": {"HTTPStatusCode": 400}},
        Envelope("Throttling", "Sender", "Rate exceeded"),
    ),
    "GraphQL": (
        {"data": None, "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}]},
        Envelope("THROTTLED", None, "Throttled"),
    ),
    "GraphQL, GitHub's": ({"errors": [{"type": "RATE_LIMITED", "message": "No."}]}, Envelope(None, "RATE_LIMITED", "No.")),
    "GraphQL, the second has the code": (
        {"errors": [{"message": "First"}, "junk", {"message": "Second", "extensions": {"code": "LATE"}}]},
        Envelope("LATE", None, "First"),
    ),
    "a list of errors with numbers": ({"success": False, "errors": [{"code": 10000, "message": "Auth"}]}, Envelope("10000", None, "Auth")),
    "OAuth": (
        {"error": "invalid_grant", "error_description": "The refresh token is spent."},
        Envelope("invalid_grant", None, "The refresh token is spent."),
    ),
    "one word": ({"ok": False, "error": "ratelimited"}, Envelope("ratelimited", None, "ratelimited")),
    "one sentence": ({"error": "Something went wrong"}, Envelope(None, None, "Something went wrong")),
    "a sentence, the code beside it": ({"error": "Too Many Requests", "code": "busy"}, Envelope("busy", None, "Too Many Requests")),
    "unwrapped by an SDK": (
        {"code": "context_length_exceeded", "message": "Too long.", "param": "messages", "type": "invalid_request_error"},
        Envelope("context_length_exceeded", "invalid_request_error", "Too long."),
    ),
    "JSON-RPC": ({"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": "Busy"}}, Envelope("-32000", None, "Busy")),
    "FastAPI": ({"detail": {"code": "stale", "message": "Again."}}, Envelope("stale", None, "Again.")),
    "FastAPI, in words": ({"detail": "Not Found"}, Envelope(None, None, "Not Found")),
    "a field missing inside is taken from outside": (
        {"error": {"message": "Inside"}, "code": "outside", "type": "family"},
        Envelope("outside", "family", "Inside"),
    ),
}


@pytest.mark.parametrize("name", ENVELOPES)
def test_every_envelope_in_use_is_read(name: str) -> None:
    """
    D2: the code says more than the status.

    Google: google/rpc/error_details.proto; google-gemini/gemini-cli issue 8437 (three quotas at once, the one of a day last); Drive API,
    "Resolve errors" (older).  Azure: Microsoft Learn, "Content filtering".  Stripe: docs.stripe.com, "Errors".  Shopify: shopify.dev, "API
    limits".  Discord, Telegram, Cloudflare: `resilience.reading.body_hints`.
    """
    body, expected = ENVELOPES[name]

    assert expected == read_envelope(json.dumps(body).encode())
    assert expected == read_envelope(json.dumps(body))
    assert expected == read_envelope(body)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_every_encoding_of_json_is_read(encoding: str) -> None:
    body = '\r\n {"error": {"code": "busy", "message": "G\u00f6tterd\u00e4mmerung"}} \n'.encode(encoding)

    for form in (body, bytearray(body), memoryview(body)):
        assert Envelope("busy", None, "G\u00f6tterd\u00e4mmerung") == read_envelope(form)


def test_text_may_begin_with_a_byte_order_mark() -> None:
    assert "busy" == read_envelope('\ufeff{"code": "busy"}').code


def test_a_line_break_within_a_message_does_not_hide_the_code() -> None:
    assert Envelope("busy", None, "one\ntwo") == read_envelope(b'{"error": {"message": "one\ntwo", "code": "busy"}}')


@pytest.mark.parametrize(
    "body",
    [
        None,
        5,
        object(),
        b"",
        b" ",
        b"\x00",
        b"null",
        b"5",
        b'"busy"',
        b"[]",
        b"[[]]",
        b"{}",
        b"[{}]",
        b'["busy"]',
        b"<html><title>503 Service Unavailable</title></html>",
        b"upstream connect error or disconnect/reset before headers",
        b'{"error": {"code": "busy"',
        b'{"error": {"code": "busy"}}}',
        b'{"error": {"code": "busy"}} trailing',
        b"{'error': {'code': 'busy'}}",
        b'{"error": {"code": "bu\xff\xfesy"}}',
        '{"error": {"code": "busy", "message": "caf\u00e9"}}'.encode("latin-1"),
        '{"error": {"code": "busy"}}'.encode("utf-16")[:-1],
        b'{"error": null}',
        b'{"error": true}',
        b'{"error": []}',
        b'{"error": {}}',
        b'{"errors": {}}',
        b'{"errors": [null, 5, []]}',
        b'{"detail": [{"loc": ["body"], "msg": "field required"}]}',
        b'{"type": "error"}',
        b'{"type": "about:blank"}',
    ],
)
def test_whatever_else_a_body_is_it_says_nothing(body: Any) -> None:
    assert NOTHING == read_envelope(body)


@pytest.mark.parametrize(
    "code",
    [
        None,
        True,
        False,
        1.5,
        [],
        {},
        "",
        " ",
        "x" * 129,
        "b\u00fcsy",
        "bu\nsy",
        "bu\x00sy",
        "bu\x7fsy",
        "\u202ebusy",
        200,
        404,
        "503",
        10**30,
        -(10**30),
    ],
)
def test_what_cannot_be_a_code_is_none(code: Any) -> None:
    """A code ends up in logs and tables: short, printable, and more than the status said already."""
    for body in ({"error": {"code": code, "type": code}}, {"code": code}, {"errors": [{"extensions": {"code": code}}]}):
        assert read_envelope(body).code is None
        assert read_envelope(json.dumps(body)).code is None


def test_a_code_may_be_up_to_128_characters_with_space_around() -> None:
    assert "x" * 128 == read_envelope({"code": f" {'x' * 128}\n"}).code
    assert "a b" == read_envelope({"type": "a b"}).kind


@pytest.mark.parametrize(("code", "expected"), [(0, "0"), (99, "99"), (600, "600"), (-1, "-1"), (50013, "50013")])
def test_a_number_that_is_no_status_is_a_code(code: int, expected: str) -> None:
    assert expected == read_envelope({"error": {"code": code}}).code


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("https://iana.org/assignments/http-problem-types#quota-exceeded", "quota-exceeded"),
        ("https://api.example/problems/out-of-credit/", "out-of-credit"),
        ("https://api.example/problems/out-of-credit?lang=en", "out-of-credit"),
        ("https://docs.example/errors.html#/billing/out-of-credit", "out-of-credit"),
        ("/problems/out-of-credit", "out-of-credit"),
        ("urn:ietf:params:acme:error:rateLimited", "rateLimited"),
        ("tag:example.com,2026:out-of-credit", "out-of-credit"),
        ("error:validation", "validation"),
        ("about:blank", None),
        ("https://api.example", None),
        ("https://api.example/", None),
        ("https://httpstatuses.com/404", None),
        ("https://tools.ietf.org/html/rfc9110#section-15.5.5", None),
        ("https://www.rfc-editor.org/rfc/rfc9110.html#name-404-not-found", None),
        ("https://api.example/problems/" + "x" * 128, None),
        ("#", None),
        (":", None),
        ("out-of-credit", None),
    ],
)
def test_the_last_part_of_a_problems_type_is_its_code(kind: str, code: str | None) -> None:
    """
    RFC 9457, 3.1.1: the type is "the problem type's primary identifier", a URI reference; 4.2.1: "about:blank" says what the status says.

    RFC 8555, 6.7 (ACME), has URNs.  ASP.NET Core gives sections of RFC 9110 for want of a type.
    """
    body = {"type": kind, "title": "Title", "status": 404}

    assert code == read_envelope(body).code
    assert "own" == read_envelope({**body, "code": "own"}).code
    assert read_envelope({"error": body}).code is None


def test_members_of_an_enumeration_are_read_as_their_values() -> None:
    class Code(str, enum.Enum):  # noqa: UP042 - as older code has it
        BUSY = "busy"

    read = read_envelope({"code": Code.BUSY})

    assert "busy" == read.code
    assert type(read.code) is str


def test_a_huge_number_elsewhere_does_not_hide_the_code() -> None:
    """int() refuses more than 4,300 digits, and takes its time below that."""
    assert "busy" == read_envelope(b'{"took": ' + b"7" * 60_000 + b', "code": "busy"}').code
    assert "busy" == read_envelope(b'{"took": [1e999, -1e999, NaN, Infinity], "code": "busy"}').code
    assert read_envelope({"code": 10**6000}).code is None


def nested(levels: int, inner: str = '"x"') -> str:
    return '{"a":' * levels + inner + "}" * levels


@pytest.mark.parametrize("levels", [65, 1_000, 10_000])
def test_deep_nesting_says_nothing(levels: int) -> None:
    for body in ('{"code": "busy", "a": ' + nested(levels) + "}", "[" * levels, "[" * levels + "]" * levels, '{"error":' * levels):
        assert NOTHING == read_envelope(body)
        assert NOTHING == read_envelope(body.encode())


def test_levels_are_counted_not_brackets() -> None:
    flat = '{"code": "busy", "all": [' + ",".join(["{}"] * 1000) + '], "text": "' + "[{" * 1000 + '\\"' + "[" * 1000 + '"}'

    assert "busy" == read_envelope(flat).code
    assert "busy" == read_envelope('{"code": "busy", "a": ' + nested(60) + ', "b": ' + nested(60) + "}").code


def test_a_stack_that_is_nearly_full_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser needs stack of its own, which may be gone where an error is read."""

    class Full:
        def decode(self, text: str) -> object:
            raise RecursionError

    monkeypatch.setattr("resilience.reading.envelope._DECODER", Full())

    assert NOTHING == read_envelope(b"{}")


def test_ten_megabytes_say_nothing_at_once() -> None:
    body = b'{"error": {"code": "busy", "message": "' + b"x" * 10_000_000 + b'"}}'
    text = body.decode()
    started = time.perf_counter()

    for form in (body, bytearray(body), memoryview(body), text):
        assert NOTHING == read_envelope(form)
    assert time.perf_counter() - started < 1.0


def test_the_largest_body_is_still_read() -> None:
    def body(size: int) -> bytes:
        return b'{"code": "busy", "pad": "' + b"x" * (size - 27) + b'"}'

    assert "busy" == read_envelope(body(LARGEST)).code
    assert read_envelope(body(LARGEST + 1)).code is None


@pytest.mark.parametrize("unit", ['\\"', '"', "{", "[", '{"', '"[', "\\", '"\\', "[]", '{"a":[', "]"])
def test_no_body_takes_long(unit: str) -> None:
    """64 KiB of whatever repeats: counting levels must not read any of it twice."""
    for start in ("", "{", '["', '{"a": "'):
        body = start + unit * ((LARGEST - len(start)) // len(unit))
        started = time.perf_counter()

        read_envelope(body)

        assert time.perf_counter() - started < 1.0


class Row(Mapping[str, object]):
    """A mapping that loads on first use, from a connection that is gone."""

    def __getitem__(self, key: str) -> object:
        raise OSError(key)

    def __iter__(self) -> Iterator[str]:
        raise OSError

    def __len__(self) -> int:
        raise OSError


def test_a_mapping_that_raises_says_nothing() -> None:
    assert NOTHING == read_envelope(Row())
    assert Envelope("busy") == read_envelope({"error": Row(), "code": "busy"})


def test_a_view_that_was_released_says_nothing() -> None:
    view = memoryview(b"{}")
    view.release()

    assert NOTHING == read_envelope(view)


@pytest.mark.parametrize("lie", [None, dict, bytes, str, list])
def test_stand_ins_say_nothing(lie: type | None) -> None:
    assert NOTHING == read_envelope(MagicMock(spec=lie))


def test_stand_ins_inside_a_body_say_nothing() -> None:
    for stand_in in (MagicMock(), MagicMock(spec=str), MagicMock(spec=int), MagicMock(spec=list)):
        assert NOTHING == read_envelope(dict.fromkeys(("error", "errors", "code", "type", "message", "__type", "detail"), stand_in))


def test_a_message_is_for_people() -> None:
    """Clipped, fit to be printed, and no part of what gets shown by accident (D17)."""
    read = read_envelope({"message": "\ud800secret " + "x" * 10_000})

    assert read.message is not None
    assert read.message.startswith("?secret")
    assert 500 == len(read.message)
    assert "secret" not in repr(read)
    assert clip(" ") is None
    assert clip(5) is None


NAMES = """error errors code type message status x details @type retryDelay seconds nanos violations quotaId reason metadata quota_limit
extensions cost requestedQueryCost throttleStatus currentlyAvailable restoreRate retry_after retry_after_ms global ok parameters
cloudflare_error innererror decline_code""".split()
WORDS = [
    "THROTTLED",
    "36s",
    "-1s",
    "1.5s",
    "google.rpc.RetryInfo",
    "google.rpc.ErrorInfo",
    "google.rpc.QuotaFailure",
    "https://x/y",
    "1e9s",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(WORDS),
    lambda each: st.lists(each, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | st.text(), each, max_size=5),
    max_leaves=20,
)


def sane(envelope: Envelope) -> bool:
    words = (envelope.code, envelope.kind)
    hint = envelope.retry_after
    return (hint is None or (type(hint) is float and 0 <= hint < math.inf)) and all(
        text is None or (0 < len(text) <= 128 and set(text) <= set(string.printable) - set("\t\n\r\x0b\x0c")) for text in words
    )


@given(st.binary(max_size=300))
def test_random_bytes_say_something_sane(body: bytes) -> None:
    assert sane(read_envelope(body))


@given(JSON)
def test_any_json_says_something_sane(body: Any) -> None:
    text = json.dumps(body)

    assert sane(read_envelope(body))
    assert sane(read_envelope(text))
    assert sane(read_envelope(text.encode()))


@given(st.sampled_from(sorted(ENVELOPES)), st.integers(0, 400), st.integers(0, 2**32))
def test_a_broken_envelope_says_something_sane(name: str, cut: int, seed: int) -> None:
    body = bytearray(json.dumps(ENVELOPES[name][0]).encode())
    dice = random.Random(seed)
    for _ in range(3):
        body[dice.randrange(len(body))] = dice.randrange(256)

    assert sane(read_envelope(bytes(body)))
    assert sane(read_envelope(bytes(body[:cut])))


def test_a_body_with_keys_that_raise_is_read_all_the_same() -> None:
    class Key:
        raising = False

        def __hash__(self) -> int:
            if self.raising:
                raise OSError
            return 1

    key = Key()
    body = {key: 1, "error": {"code": "busy", key: 1}}
    key.raising = True

    assert "busy" == read_envelope(body).code
