"""gRPC errors, as grpcio raises them, with details as the servers' own libraries make them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import any_pb2, duration_pb2, message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from resilience import Phase, Signal, read
from resilience.reading.grpc_status import NOT_SENT
from resilience.reading.wire import LONGEST, fields, messages, number, text

StatusCode = grpc.StatusCode
QUOTA = error_details_pb2.QuotaFailure
PUSHBACK = "grpc-retry-pushback-ms"


def details(*held: message.Message, code: int = code_pb2.RESOURCE_EXHAUSTED, words: str = "slow down") -> bytes:
    """The trailing metadata of a server in Python, by grpcio-status."""
    status = status_pb2.Status(code=code, message=words)
    for one in held:
        packed = any_pb2.Any()
        packed.Pack(one)
        status.details.append(packed)
    [(_, value)] = rpc_status.to_status(status).trailing_metadata
    assert isinstance(value, bytes)
    return value


def error(code: Any = StatusCode.RESOURCE_EXHAUSTED, *metadata: tuple[str, Any], words: str | None = "slow down") -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing_metadata=grpc.aio.Metadata(*metadata), details=words)


def detailed(*held: message.Message) -> Signal:
    return read(error(StatusCode.RESOURCE_EXHAUSTED, ("grpc-status-details-bin", details(*held))))


def retry_info(seconds: int = 0, nanos: int = 0) -> Any:
    return error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(seconds=seconds, nanos=nanos))


def reason(name: str, **metadata: str) -> Any:
    return error_details_pb2.ErrorInfo(reason=name, domain="googleapis.com", metadata=metadata)


class TestTheStatus:
    REFUSED = (
        "INVALID_ARGUMENT NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED UNAUTHENTICATED RESOURCE_EXHAUSTED FAILED_PRECONDITION OUT_OF_RANGE "
        "UNIMPLEMENTED"
    ).split()

    @pytest.mark.parametrize("code", StatusCode)
    def test_is_both_code_and_kind_and_tells_whether_work_was_refused(self, code: grpc.StatusCode) -> None:
        phase = Phase.REFUSED if code.name in self.REFUSED else Phase.UNKNOWN

        assert Signal(code=code.name, kind=code.name, message="no", phase=phase, raised=grpc.aio.AioRpcError) == read(
            error(code, words="no")
        )

    def test_of_an_rpc_that_the_adapter_saw_go_nowhere_is_that_of_nothing_sent(self) -> None:
        refused = error(StatusCode.UNAVAILABLE)
        setattr(refused, NOT_SENT, True)

        assert Phase.NOT_SENT is read(refused).phase

    def test_says_nothing_by_words_that_a_server_may_have_passed_on(self) -> None:
        """D4: its own call to somebody else was refused, after it had done its part."""
        assert Phase.UNKNOWN is read(error(StatusCode.UNAVAILABLE, words="failed to connect to all addresses; last error: x")).phase

    @pytest.mark.parametrize(
        "words",
        [
            "CLIENT: Received message larger than max (5242880 vs. 4194304)",
            "grpc: trying to send message larger than max (5 vs. 4)",
            "gRPC message exceeds maximum size 4: 5",
            "Received message exceeds the maximum configured message size.",
        ],
    )
    def test_of_an_answer_that_is_too_large_does_not_say_that_nothing_was_done(self, words: str) -> None:
        assert Phase.UNKNOWN is read(error(words=words)).phase

    @pytest.mark.parametrize("of_old", [False, True])
    def test_is_found_where_the_blocking_api_raises_it(self, of_old: bool) -> None:
        """Its errors are classes of their own, and their metadata plain tuples."""

        class Blocking(grpc.RpcError, grpc.Call if of_old else object):  # type: ignore[misc]
            def code(self) -> grpc.StatusCode:
                return StatusCode.UNAVAILABLE

            def details(self) -> str:
                return "away"

            def trailing_metadata(self) -> tuple[tuple[str, str], ...]:
                return ((PUSHBACK, "1500"),)

        Blocking.__abstractmethods__ = frozenset()
        signal = read(Blocking())

        assert ("UNAVAILABLE", "away", 1.5, True) == (signal.kind, signal.message, signal.retry_after, signal.should_retry)

    @pytest.mark.parametrize("code", [None, 14, "UNAVAILABLE", ValueError("asked too early")])
    def test_that_is_none_is_read_as_any_other_error(self, code: Any) -> None:
        class Bare(grpc.RpcError):  # type: ignore[misc]
            def code(self) -> Any:
                if isinstance(code, Exception):
                    raise code
                return code

        assert ("Bare", None) == (read(Bare()).code, read(Bare()).kind)
        assert "RpcError" == read(grpc.RpcError()).code

    def test_stands_without_metadata_or_words(self) -> None:
        bare = grpc.aio.AioRpcError(StatusCode.INTERNAL, grpc.aio.Metadata(), grpc.aio.Metadata())

        assert ("INTERNAL", str(bare)) == (read(bare).code, read(bare).message)

    @pytest.mark.parametrize("metadata", [None, 5, (1, 2), [("a",)], "ab"])
    def test_stands_whatever_the_metadata_are(self, metadata: Any) -> None:
        class Odd(grpc.RpcError):  # type: ignore[misc]
            def code(self) -> grpc.StatusCode:
                return StatusCode.ABORTED

            def trailing_metadata(self) -> Any:
                return metadata

        assert ("ABORTED", None) == (read(Odd()).code, read(Odd()).retry_after)


class TestPushback:
    """gRFC A6: "if the value for pushback is negative or unparseable, ... the server asking the client not to retry at all"."""

    @pytest.mark.parametrize(("value", "seconds"), [("0", 0.0), ("1", 0.001), ("2500", 2.5), ("2147483647", 2147483.647)])
    def test_says_when(self, value: str, seconds: float) -> None:
        signal = read(error(StatusCode.UNAVAILABLE, (PUSHBACK, value)))

        assert (seconds, True) == (signal.retry_after, signal.should_retry)

    @pytest.mark.parametrize(
        "value",
        ["-1", "-9223372036854775808", "", "soon", "1.5", "007", "+5", " 5", "1e3", "٣", "2147483648", "99999999999999999999999"],
    )
    def test_or_says_never(self, value: str) -> None:
        signal = read(error(StatusCode.UNAVAILABLE, (PUSHBACK, value), ("retry-after", "3")))

        assert (3.0, False) == (signal.retry_after, signal.should_retry)

    def test_said_twice_cannot_be_read(self) -> None:
        assert False is read(error(StatusCode.UNAVAILABLE, (PUSHBACK, "1"), (PUSHBACK, "2"))).should_retry

    def test_not_said_leaves_it_to_the_table(self) -> None:
        assert None is read(error(StatusCode.UNAVAILABLE)).should_retry


class TestHints:
    def test_of_the_details_are_durations(self) -> None:
        assert 3.25 == detailed(retry_info(3, 250_000_000)).retry_after
        assert 0.5 == detailed(retry_info(0, 500_000_000)).retry_after

    @pytest.mark.parametrize("info", [retry_info(-1), retry_info(1, -1), error_details_pb2.RetryInfo(), retry_info(1, 2_000_000_000)])
    def test_that_make_no_sense_are_none(self, info: Any) -> None:
        assert None is detailed(info).retry_after

    @pytest.mark.parametrize(("pushback", "delay", "wait"), [("2000", 5, 5.0), ("7000", 5, 7.0)])
    def test_of_two_kinds_are_both_obeyed(self, pushback: str, delay: int, wait: float) -> None:
        both = error(StatusCode.UNAVAILABLE, (PUSHBACK, pushback), ("grpc-status-details-bin", details(retry_info(delay))))

        assert wait == read(both).retry_after

    def test_of_proxies_come_as_headers(self) -> None:
        assert 4.0 == read(error(StatusCode.UNAVAILABLE, ("retry-after", "4"))).retry_after
        assert 1.0 == read(error(StatusCode.UNAVAILABLE, ("retry-after", "4"), (PUSHBACK, "1000"))).retry_after


class TestTheDetails:
    def test_name_the_reason_as_the_code_and_the_status_stays_the_kind(self) -> None:
        signal = detailed(retry_info(1), reason("RATE_LIMIT_EXCEEDED", service="x"))

        assert ("RATE_LIMIT_EXCEEDED", "RESOURCE_EXHAUSTED", Phase.REFUSED) == (signal.code, signal.kind, signal.phase)

    def test_name_the_quota_where_they_name_no_reason(self) -> None:
        quota = QUOTA(violations=[QUOTA.Violation(subject="project:1", description="Too many"), QUOTA.Violation(quota_id="PerMinute")])

        assert "PerMinute" == detailed(quota).code
        assert "RATE_LIMIT_EXCEEDED" == detailed(quota, reason("RATE_LIMIT_EXCEEDED")).code

    @pytest.mark.parametrize(
        "held",
        [
            [reason("RATE_LIMIT_EXCEEDED", quota_limit="RequestsPerDay")],
            [reason("RATE_LIMIT_EXCEEDED"), QUOTA(violations=[QUOTA.Violation(quota_id="RequestsPerDay")])],
        ],
    )
    def test_name_a_quota_of_a_day_before_all_else(self, held: list[message.Message]) -> None:
        """As in the JSON of the same error: it is not back in a minute."""
        assert "RequestsPerDay" == detailed(*held).code

    def test_of_other_kinds_say_nothing(self) -> None:
        help_page = error_details_pb2.Help(links=[error_details_pb2.Help.Link(description="x", url="https://x")])

        assert detailed() == detailed(help_page, error_details_pb2.DebugInfo(detail="x"), error_details_pb2.BadRequest())

    @pytest.mark.parametrize("name", ["", "two\nlines", "x" * 129, "ü"])
    def test_give_no_code_that_cannot_be_one(self, name: str) -> None:
        assert "RESOURCE_EXHAUSTED" == detailed(reason(name)).code

    @pytest.mark.parametrize("value", ["text", b"", b"\xff", b"\x08", b"\x1a\x7f", b"\x00\x00", b"\x1b\x1c", b"\x0d\x00", None])
    def test_that_are_broken_leave_the_status_standing(self, value: Any) -> None:
        signal = read(error(StatusCode.UNAVAILABLE, ("grpc-status-details-bin", value)))

        assert ("UNAVAILABLE", None) == (signal.code, signal.retry_after)

    @given(st.binary(max_size=200))
    def test_of_any_bytes_leave_the_status_standing(self, value: bytes) -> None:
        signal = read(error(StatusCode.UNAVAILABLE, ("grpc-status-details-bin", value)))

        assert ("UNAVAILABLE", Phase.UNKNOWN) == (signal.kind, signal.phase)

    @given(st.data())
    def test_that_are_damaged_leave_a_status_and_a_wait_that_is_finite(self, data: st.DataObject) -> None:
        whole = bytearray(details(retry_info(3), reason("RATE_LIMIT_EXCEEDED", quota_limit="x"), QUOTA(violations=[QUOTA.Violation()])))
        for _ in range(data.draw(st.integers(1, 4))):
            whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
        signal = read(error(StatusCode.RESOURCE_EXHAUSTED, ("grpc-status-details-bin", bytes(whole))))

        assert "RESOURCE_EXHAUSTED" == signal.kind
        assert signal.retry_after is None or 0 <= signal.retry_after < 1e15


class GoogleAPICallError(Exception):
    """As google-api-core has it: made of an `RpcError`, or of a response over HTTP."""

    __module__ = "google.api_core.exceptions"

    def __init__(self, response: Any, code: int = 503) -> None:
        super().__init__("503 away")
        self.code = code
        self.response = response
        self.errors = [response]
        self.message = "away"
        self.grpc_status_code = response.code() if isinstance(response, grpc.RpcError) else None


class ServiceUnavailable(GoogleAPICallError):
    __module__ = "google.api_core.exceptions"


class TestErrorsOfGoogleApiCore:
    def test_say_what_the_grpc_error_inside_says_and_their_own_status(self) -> None:
        inside = error(StatusCode.UNAVAILABLE, (PUSHBACK, "-1"), ("grpc-status-details-bin", details(retry_info(2), reason("REBALANCING"))))
        signal = read(ServiceUnavailable(inside))

        assert (503, "REBALANCING", "UNAVAILABLE") == (signal.status, signal.code, signal.kind)
        assert (2.0, False, ServiceUnavailable) == (signal.retry_after, signal.should_retry, signal.raised)

    @pytest.mark.parametrize("response", [None, "a body", ValueError("x")])
    def test_that_came_over_http_are_read_by_their_attributes(self, response: Any) -> None:
        signal = read(ServiceUnavailable(response))

        assert (503, "away") == (signal.status, signal.message)


class TestTheWireFormat:
    @given(
        st.builds(
            QUOTA.Violation,
            subject=st.text(max_size=20),
            quota_id=st.text(max_size=20),
            quota_value=st.integers(-(2**63), 2**63 - 1),
            quota_dimensions=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
        )
    )
    def test_is_read_as_its_own_library_wrote_it(self, sent: Any) -> None:
        found = fields(sent.SerializeToString())

        assert [sent.subject, sent.quota_id] == [text(found, 1) or "", text(found, 5) or ""]
        assert sent.quota_value == number(found, 7)
        assert dict(sent.quota_dimensions) == {text(entry, 1) or "": text(entry, 2) or "" for entry in messages(found, 6)}

    @pytest.mark.parametrize(
        ("raw", "found"),
        [
            (b"\x08\x96\x01", [(1, 150)]),
            (b"\x09\x01\x00\x00\x00\x00\x00\x00\x00", [(1, 1)]),
            (b"\x0d\x00\x01\x00\x00", [(1, 256)]),
            (b"\x12\x03abc\x12\x00", [(2, b"abc"), (2, b"")]),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", [(1, 2**64 - 1)]),
            (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", [(1, 2**64 - 1)]),  # bits beyond 64 are dropped, as everywhere
        ],
    )
    def test_has_numbers_of_three_kinds_and_bytes(self, raw: bytes, found: list[Any]) -> None:
        assert found == fields(raw)

    @pytest.mark.parametrize(
        "raw",
        [
            b"\x08",  # no value
            b"\x08\x80",  # no end of a number
            b"\x08" + b"\x80" * 10 + b"\x01",  # a number of more than 64 bits
            b"\x0d\x00\x01\x00",  # 3 bytes of 4
            b"\x12\x03ab",  # 2 bytes of 3
            b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # ... of 2^64
            b"\x0b\x0c",  # a group, which proto3 has not
            b"\x0e",  # a kind that there is none of
            b"\x08\x01\x00\x01",  # the field of number 0
            b"\x08\x01\x08",  # a good beginning
            b"\x08\x01" * (LONGEST // 2) + b"\x08\x01",
            "\x08\x01",
            None,
        ],
    )
    def test_is_not_read_at_all_where_it_is_broken_or_too_long(self, raw: Any) -> None:
        assert [] == fields(raw)

    def test_is_read_as_far_as_512_fields(self) -> None:
        assert [(1, 1)] * 512 == fields(b"\x08\x01" * 1000)

    @given(st.binary(max_size=100))
    def test_of_any_bytes_is_some_fields_or_none(self, raw: bytes) -> None:
        assert all(place > 0 and (isinstance(value, bytes) or 0 <= value < 2**64) for place, value in fields(raw))

    @pytest.mark.parametrize(
        ("ask", "value"), [(number, -1), (text, "b\ufffd"), (messages, [[], []])], ids=lambda one: getattr(one, "__name__", "")
    )
    def test_takes_the_last_of_a_field_that_is_not_repeated(self, ask: Callable[..., Any], value: Any) -> None:
        found = fields(b"\x08\x05\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01" if ask is number else b"\x0a\x01a\x0a\x02b\xff")

        assert value == ask(found, 1)

    def test_is_a_number_of_zero_and_no_text_where_a_field_is_not_there(self) -> None:
        assert (0, None, []) == (number([], 1), text([], 1), messages([], 1))
        assert (0, None, []) == (number([(1, b"x")], 1), text([(1, 5)], 1), messages([(1, 5)], 1))
