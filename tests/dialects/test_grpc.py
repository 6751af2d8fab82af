"""gRPC: what each status calls for, by the notes on it in google/rpc/code.proto and gRPC's doc/statuscodes.md."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest

from resilience import Action, Blame, Engine, RefreshToken, Retry, Signal, fail_fast, history, read
from resilience.dialects import grpc as dialect
from resilience.testing import World, script

RETRY, FAIL, REFRESH = Action.RETRY, Action.FAIL_FAST, Action.REFRESH_TOKEN
PEER, CALLER, CREDENTIAL = Blame.PEER, Blame.CALLER, Blame.CREDENTIAL

# Action, blame, cap.  The quotations are code.proto's.
STATUSES: dict[str, tuple[Action, Blame, int | None]] = {
    "CANCELLED": (FAIL, CALLER, None),  # "typically by the caller"
    "UNKNOWN": (RETRY, PEER, 2),  # HTTP mapping: 500 Internal Server Error
    "INVALID_ARGUMENT": (FAIL, CALLER, None),  # "problematic regardless of the state of the system"
    "DEADLINE_EXCEEDED": (RETRY, PEER, None),  # HTTP mapping: 504 Gateway Timeout
    "NOT_FOUND": (FAIL, CALLER, None),
    "ALREADY_EXISTS": (FAIL, CALLER, None),
    "PERMISSION_DENIED": (FAIL, CREDENTIAL, None),  # "the caller does not have permission"
    "RESOURCE_EXHAUSTED": (RETRY, CALLER, None),  # "perhaps a per-user quota"; HTTP mapping: 429 Too Many Requests
    "FAILED_PRECONDITION": (FAIL, CALLER, None),  # "should not retry until the system state has been explicitly fixed"
    "ABORTED": (RETRY, CALLER, None),  # "should retry at a higher level"
    "OUT_OF_RANGE": (FAIL, CALLER, None),
    "UNIMPLEMENTED": (FAIL, CALLER, None),
    "INTERNAL": (RETRY, PEER, 2),  # HTTP mapping: 500 Internal Server Error
    "UNAVAILABLE": (RETRY, PEER, None),  # "most likely a transient condition"
    "DATA_LOSS": (FAIL, PEER, None),  # "unrecoverable"
    "UNAUTHENTICATED": (REFRESH, CREDENTIAL, None),  # "does not have valid authentication credentials"
}

pytestmark = pytest.mark.anyio


def error(code: Any, words: str = "no", *metadata: tuple[str, Any]) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing_metadata=grpc.aio.Metadata(*metadata), details=words)


@pytest.mark.parametrize("code", [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK])
def test_each_status_calls_for_what_its_note_says(code: Any) -> None:
    verdict = dialect.RULES.classify(read(error(code)))

    assert STATUSES[code.name] == (verdict.action, verdict.blames, verdict.attempts)
    assert (code.name == "RESOURCE_EXHAUSTED") == verdict.throttled
    assert f"grpc: kind {code.name}" == verdict.rule


def test_a_reason_that_no_table_names_is_judged_by_its_status() -> None:
    assert RETRY is dialect.RULES.classify(Signal(code="REBALANCING", kind="UNAVAILABLE")).action


def test_a_reason_that_a_table_names_comes_before_its_status() -> None:
    rules = dialect.RULES.extend("acme", by_code={"OUT_OF_STOCK": fail_fast()})

    assert FAIL is rules.classify(Signal(code="OUT_OF_STOCK", kind="UNAVAILABLE")).action


@pytest.mark.parametrize(
    "words",
    [
        "CLIENT: Received message larger than max (5242880 vs. 4194304)",
        "SERVER: Received message larger than max (5242880 vs. 4194304)",
        "grpc: trying to send message larger than max (5242880 vs. 4194304)",
        "gRPC message exceeds maximum size 4194304: 5242880",
        "Received message exceeds the maximum configured message size.",
        "received metadata size exceeds hard limit (value length 20000 vs. 16384)",
    ],
)
def test_what_is_too_large_is_not_sent_again(words: str) -> None:
    """It has the status of an exceeded quota, and no other mark than its words."""
    verdict = dialect.RULES.classify(read(error(grpc.StatusCode.RESOURCE_EXHAUSTED, words)))

    assert (FAIL, CALLER) == (verdict.action, verdict.blames)


class TestPushback:
    """gRFC A6: the server's own word on repeating."""

    @pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL])
    def test_ends_what_the_status_would_repeat(self, code: Any) -> None:
        verdict = dialect.RULES.classify(read(error(code, "no", ("grpc-retry-pushback-ms", "-1"))))

        assert (FAIL, STATUSES[code.name][1]) == (verdict.action, verdict.blames)

    def test_ends_what_an_entry_of_the_user_s_would_repeat(self) -> None:
        rules = dialect.RULES.extend("acme", by_code={"NOT_FOUND": "retry"}, by_message={"no": "retry"})

        assert FAIL is rules.classify(read(error(grpc.StatusCode.NOT_FOUND, "no", ("grpc-retry-pushback-ms", "-1")))).action

    def test_repeats_what_the_status_would_end(self) -> None:
        """A6 counts "retry in n ms" as an answer of its own, beside those that are judged by their status."""
        verdict = dialect.RULES.classify(read(error(grpc.StatusCode.NOT_FOUND, "no", ("grpc-retry-pushback-ms", "100"))))

        assert (RETRY, "grpc: the peer's own word") == (verdict.action, verdict.rule)

    def test_does_not_keep_an_expired_token_from_being_renewed(self) -> None:
        assert (
            REFRESH is dialect.RULES.classify(read(error(grpc.StatusCode.UNAUTHENTICATED, "no", ("grpc-retry-pushback-ms", "-1")))).action
        )


async def test_an_engine_around_a_stub_needs_no_adapter(world: World) -> None:
    """What is awaited may be an RPC of any kind of stub; its timeout and its connection are then grpc's own business."""

    async def login(stale: str | None) -> str:
        return "new"

    ask = script(error(grpc.StatusCode.UNAVAILABLE, "no", ("grpc-retry-pushback-ms", "3000")), error(grpc.StatusCode.UNAUTHENTICATED), "ok")
    engine = Engine([RefreshToken(login, token="old"), Retry()], rules=dialect.RULES, env=world.env)

    assert "ok" == await engine.call(ask)
    assert 3 == ask.calls
    assert 3.0 <= world.slept[0] <= 3.3


async def test_a_transaction_that_was_aborted_is_made_again_as_a_whole(world: World) -> None:
    aborted = error(grpc.StatusCode.ABORTED)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await Engine([Retry(attempts=2)], rules=dialect.RULES, env=world.env).call(script(aborted, aborted))

    assert caught.value is aborted
    assert [1, 2] == [tried.attempt for tried in history(aborted)]
