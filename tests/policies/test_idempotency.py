"""One key per call: the same on every attempt, another for the next call, and none that nobody sends."""

from __future__ import annotations

import contextlib
import datetime as dt
import decimal
import hashlib
import uuid
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience import Engine, Exponential, IdempotencyKey, RefreshToken, Retry, current
from resilience.dialects import callmissed
from resilience.events import KeyTaken
from resilience.policies.idempotency import derived_key
from resilience.testing import World, script

pytestmark = pytest.mark.anyio


class Payments:
    """A service that sends its key along, and fails as told."""

    def __init__(self, *outcomes: object) -> None:
        self.play = script(*outcomes)
        self.keys: list[str] = []

    async def pay(self) -> object:
        self.keys.append(current().take_key())
        return await self.play()


def engine(world: World, *more: Any, **settings: Any) -> Engine:
    return Engine([IdempotencyKey(**settings), *more, Retry(attempts=4, backoff=Exponential(1))], rules=callmissed.RULES, env=world.env)


async def test_one_key_goes_with_every_attempt_of_a_call_and_another_with_the_next_call(world: World) -> None:
    """D4, B47."""
    payments = Payments(TimeoutError(), ConnectionError(), "paid", TimeoutError(), "paid")
    e = engine(world).using(method="POST")

    assert ["paid", "paid"] == [await e.call(payments.pay), await e.call(payments.pay)]
    first, second = set(payments.keys[:3]), set(payments.keys[3:])
    assert 1 == len(first) == len(second)
    assert first != second


async def test_the_key_stays_the_same_after_a_refresh(world: World) -> None:
    """B47."""

    class Expired(Exception):
        status_code = 401
        code = "token_expired"

    payments = Payments(Expired(), TimeoutError(), "paid")
    e = engine(world, RefreshToken(lambda stale: "new", token="old")).using(method="POST")

    assert "paid" == await e.call(payments.pay)
    assert 1 == len(set(payments.keys))


async def test_a_post_is_repeated_after_a_timeout_only_if_its_key_was_taken(world: World) -> None:
    """D4: a key that nobody sends protects nobody."""
    unkeyed = script(TimeoutError("lost"), "paid twice")
    with pytest.raises(TimeoutError, match="lost"):
        await engine(world).using(method="POST").call(unkeyed)

    assert 1 == unkeyed.calls
    assert ["unsafe"] == [event.reason for event in world.events if event.name == "retry.gave_up"]  # type: ignore[attr-defined]


async def test_looking_at_the_key_takes_nothing(world: World) -> None:
    seen: list[str | None] = []

    async def pay() -> None:
        seen.append(current().idempotency_key)
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await engine(world).using(method="POST").call(pay)

    assert [None] == seen
    assert [] == world.told(KeyTaken)


async def test_taking_a_key_is_said_once_and_the_key_itself_never(world: World) -> None:
    """D16, D17."""
    payments = Payments(TimeoutError(), "paid")
    await engine(world).using(method="POST", key="s3cret-key").call(payments.pay)

    assert ["given"] == [event.source for event in world.told(KeyTaken)]
    assert "s3cret-key" not in repr(world.events)


async def test_the_callers_own_key_goes_out_as_it_is(world: World) -> None:
    payments = Payments("paid")
    await engine(world).using(key="order-42").call(payments.pay)

    assert ["order-42"] == payments.keys


async def test_a_fixed_key_that_serves_a_second_call_is_warned_of(world: World) -> None:
    payments = Payments("paid", "paid")
    view = engine(world).using(key="order-42")
    await view.call(payments.pay)
    assert [] == world.names("key.reused")

    await view.call(payments.pay)
    assert ["key.reused"] == world.names("key.reused")


async def test_a_fixed_key_sent_again_by_a_repeat_of_the_call_around_is_in_order(world: World) -> None:
    payments = Payments("paid", "paid")
    view = engine(world).using(key="order-42")
    outcomes = script(ConnectionError(), "done")

    async def pay_and_tell() -> object:
        await view.call(payments.pay)
        return await outcomes()

    assert "done" == await Engine([Retry()], env=world.env, name="outer").call(pay_and_tell)
    assert ["order-42", "order-42"] == payments.keys
    assert [] == world.names("key.reused")


async def test_a_key_from_business_data_is_the_same_in_every_process(world: World) -> None:
    payments = Payments("paid")
    await engine(world).using(operation="charge", key_from=("order", 42)).call(payments.pay)

    # Written out, for a release that encodes differently would charge everyone in flight a second time.
    assert [hashlib.sha256(b"str:6:chargestr:5:orderint:2:42").hexdigest()] == payments.keys


async def test_charge_and_refund_of_one_order_have_different_keys(world: World) -> None:
    """Design-review 17."""
    payments = Payments("paid", "back")
    for operation in ("charge", "refund"):
        await engine(world).using(operation=operation, key_from=("order", 42)).call(payments.pay)

    assert 2 == len(set(payments.keys))


async def test_a_key_from_data_needs_a_name_for_what_is_done_to_it(world: World) -> None:
    """A function's own name may change in a rolling deployment, and then charges twice."""
    payments = Payments("paid")
    with pytest.raises(ValueError, match="key_from needs operation="):
        await engine(world).using(key_from=("order", 42)).call(payments.pay)

    assert 0 == payments.play.calls


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_repeat_never_gives_one_inner_call_the_key_of_another(world: World, at_once: bool) -> None:
    """Tasks come in no certain order, so what several of them began is not repeated; what one task began in turn is, with the same keys."""
    sent: list[tuple[str, str]] = []
    inner = engine(world).using(operation="pay", method="POST")

    async def pay(whom: str, after: float) -> None:
        async def post() -> None:
            sent.append((whom, current().take_key()))

        await world.sleep(after)
        await inner.call(post)

    async def pay_all() -> None:
        first = not sent
        if at_once:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pay, "ann", 1 if first else 3)
                tasks.start_soon(pay, "bob", 2)
        else:
            await pay("ann", 0)
            await pay("bob", 0)
        if first:
            raise ConnectionError

    with contextlib.suppress(ConnectionError):
        await engine(world).call(pay_all)

    assert ["ann", "bob"] * (1 if at_once else 2) == [whom for whom, _ in sent]
    assert 2 == len({key for _, key in sent}) == len(set(sent))


async def test_without_the_policy_there_is_no_key_to_take(world: World) -> None:
    payments = Payments("paid")
    with pytest.raises(LookupError, match="has no IdempotencyKey policy"):
        await Engine([Retry()], env=world.env).call(payments.pay)

    assert 0 == payments.play.calls


PARTS = st.lists(
    st.one_of(
        st.text(max_size=5),
        st.integers(),
        st.booleans(),
        st.binary(max_size=5),
        st.uuids(),
        st.dates(),
        st.decimals(allow_nan=False, allow_infinity=False, places=2),
    ),
    max_size=4,
)


def _same(one: list[Any], other: list[Any]) -> bool:
    return [(type(part), part) for part in one] == [(type(part), part) for part in other]


@given(PARTS, PARTS)
def test_no_two_tuples_of_data_share_a_key(one: list[Any], other: list[Any]) -> None:
    assert _same(one, other) == (derived_key("scope", one) == derived_key("scope", other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("ab", "c"), ("a", "bc")),
        ((1,), ("1",)),
        ((1,), (True,)),
        (("1",), (b"1",)),
        ((dt.date(2026, 1, 1),), ("2026-01-01",)),
        ((uuid.UUID(int=1),), (uuid.UUID(int=1).bytes,)),
        ((decimal.Decimal(1),), (1,)),
        ((), ("",)),
        (("str:1:a",), ("a",)),
    ],
)
def test_parts_are_told_apart_by_type_and_length(one: tuple[object, ...], other: tuple[object, ...]) -> None:
    assert derived_key("scope", one) != derived_key("scope", other)


def test_equal_amounts_written_differently_have_one_key() -> None:
    assert derived_key("pay", [decimal.Decimal("1.0")]) == derived_key("pay", [decimal.Decimal("1.00")])


@pytest.mark.parametrize("precision", [2, 28])
def test_amounts_are_told_apart_to_the_last_digit_whatever_the_precision_of_the_present_context(precision: int) -> None:
    with decimal.localcontext(prec=precision):
        one = derived_key("pay", [decimal.Decimal("123.451")])
        other = derived_key("pay", [decimal.Decimal("123.452")])

    assert one != other
    assert one == derived_key("pay", [decimal.Decimal("123.4510")])


def test_a_float_is_no_part_of_a_key() -> None:
    with pytest.raises(TypeError, match="key_from: expected str, int, bool, bytes, UUID, Decimal or date, got float"):
        derived_key("pay", [0.1 + 0.2])


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("", "using.key: expected 1 to 255 characters, got 0"),
        ("k" * 256, "using.key: expected 1 to 255 characters, got 256"),
        ("ключ", "using.key: expected printable ASCII"),
        ("a\r\nX-Evil: 1", "using.key: expected printable ASCII"),
        (" a", "using.key: expected printable ASCII without spaces around it"),
        (42, "using.key: expected a str, got int"),
    ],
)
def test_a_key_that_no_header_can_carry_is_refused_at_once(key: Any, message: str) -> None:
    """D36."""
    with pytest.raises(ValueError) as caught:
        Engine([IdempotencyKey()]).using(key=key)

    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: IdempotencyKey(header=""), "IdempotencyKey.header: expected the name of a header, got ''"),
        (lambda: IdempotencyKey(header="a b"), "IdempotencyKey.header: expected the name of a header, got 'a b'"),
        (lambda: IdempotencyKey(methods="POST"), "IdempotencyKey.methods: expected a set of HTTP methods, got 'POST'"),
        (lambda: IdempotencyKey(methods={"PO ST"}), "IdempotencyKey.methods: expected a set of HTTP methods, got frozenset({'PO ST'})"),
        (lambda: Engine([IdempotencyKey()]).using(key="a", key_from=("b",)), "using.key_from: expected key or key_from, not both"),
        (lambda: Engine([IdempotencyKey()]).using(key_from="order"), "using.key_from: expected a tuple of business data"),
        (lambda: Engine([IdempotencyKey()]).using(key_from=("order", 0.5)), "using.key_from: expected parts that are str, int"),
        (lambda: Engine().using(key="a"), "using: key needs IdempotencyKey among the engine's policies"),
        (lambda: Engine().using(key_from=("a",)), "using: key_from needs IdempotencyKey among the engine's policies"),
    ],
)
def test_a_wrong_setting_is_refused_by_name_and_value(build: Callable[[], object], message: str) -> None:
    """D36."""
    with pytest.raises(ValueError) as caught:
        build()

    assert str(caught.value).startswith(message)


async def test_methods_may_be_written_in_any_case(world: World) -> None:
    assert frozenset({"POST"}) == IdempotencyKey(methods={"post"}).methods
