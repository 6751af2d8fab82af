"""Every wrong setting of every policy is refused when it is written, by class, field and value (D36, B54, B58, rivals 6.18)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from resilience import (
    AttemptTimeout,
    CircuitBreaker,
    Constant,
    Deadline,
    Exponential,
    Fibonacci,
    IdempotencyKey,
    Linear,
    Listed,
    RefreshToken,
    Retry,
    StreamTimeout,
    Token,
)

NO_NUMBERS: list[Any] = [math.nan, True, False, "1", b"1", [], (1,), object(), 1j]
NO_SECONDS: list[Any] = [*NO_NUMBERS, -1, -0.001, -math.inf]
NO_COUNT: list[Any] = [*NO_NUMBERS, 0, -1, 1.0, 2.5, math.inf]
NO_FLAG: list[Any] = [0, 1, None, "yes", math.nan]
NO_JITTER: list[Any] = ["", "half", None, True, 1, [], math.nan]
NONE: list[Any] = [None]


async def login(stale: str | None) -> str:
    return "new"


class AsyncSchedule:
    async def delay(self, retry: int, draw: float, previous: float | None = None, /) -> float:
        return 1.0


# Each policy, what it takes besides the field under test, and for each field what it must not be.
TABLE: list[tuple[Callable[..., Any], dict[str, Any], dict[str, list[Any]]]] = [
    (
        Retry,
        {},
        {
            "attempts": NO_COUNT + NONE,
            "backoff": [None, 1, 1.0, "exponential", Exponential, lambda retry: 1.0, AsyncSchedule()],
            "throttled": [None, 1, Constant],
            "max_server_delay": NO_SECONDS + NONE,
            "over_limit": ["", "raise", None, True, 0, [], math.nan],
        },
    ),
    (Deadline, {}, {"seconds": [*NO_SECONDS, 0, 0.0, math.inf, None]}),
    (AttemptTimeout, {}, {"seconds": [*NO_SECONDS, 0, 0.0, math.inf, None]}),
    (StreamTimeout, {"idle": 1}, {"first_item": [*NO_SECONDS, 0, math.inf]}),
    (StreamTimeout, {}, {"idle": [*NO_SECONDS, 0, math.inf, None]}),
    (
        CircuitBreaker,
        {},
        {
            "failure_ratio": [*NO_SECONDS, 0, 1.001, math.inf, None],
            "minimum": NO_COUNT + NONE,
            "window": [*NO_SECONDS, 0, math.inf, None],
            "consecutive": NO_COUNT,
            "slow_after": [*NO_SECONDS, 0, math.inf],
            "cooldown": [*NO_SECONDS, 0, math.inf, None],
            "max_cooldown": [*NO_SECONDS, 0, 4.999, math.inf, None],
            "probes": NO_COUNT + NONE,
            "lease": [*NO_SECONDS, 0, math.inf, None],
            "throttling": NO_FLAG,
            "key": ["host", 5, True],
            "max_keys": NO_COUNT + NONE,
        },
    ),
    (
        RefreshToken,
        {"source": login},
        {
            "source": [None, "token", 5],
            "token": [5, b"token", True],  # "" is refused as what it would become, a Token
            "early": [*NO_SECONDS, math.inf, None],
            "timeout": [*NO_SECONDS, 0, math.inf, None],
            "cooldown": [*NO_SECONDS, math.inf, None],
            "per_minute": NO_COUNT + NONE,
            "origins": ["api.example", "https://", "https://api.example/path", ["https://user@api.example"], ["https://api.example?q"]],
        },
    ),
    (
        IdempotencyKey,
        {},
        {
            "header": ["", None, 5, b"Key", "Idempotency Key", "Key:", "Schlüssel", "new\nline"],
            "methods": ["POST", None, 5, [5], ["PO ST"], [""], [b"POST"]],
        },
    ),
    (Token, {"value": "t"}, {"value": ["", None, 5, b"token", "token\n", " token", "t\u00f6ken"], "expires_in": [*NO_SECONDS, 0]}),
    (
        Exponential,
        {},
        {
            "base": [*NO_SECONDS, math.inf, None],
            "cap": [*NO_SECONDS, 0.01, math.inf, None],
            "factor": [*NO_SECONDS, 0, 0.999, math.inf, None],
            "jitter": NO_JITTER,
        },
    ),
    (Linear, {}, {"base": [*NO_SECONDS, math.inf, None], "cap": [*NO_SECONDS, 0.5, math.inf, None], "jitter": NO_JITTER}),
    (Fibonacci, {}, {"base": [*NO_SECONDS, math.inf, None], "cap": [*NO_SECONDS, 0.01, math.inf, None], "jitter": NO_JITTER}),
    (Constant, {}, {"base": [*NO_SECONDS, math.inf, None], "jitter": NO_JITTER}),
    (Listed, {"delays": [1]}, {"delays": [[], [-1], [math.nan], [1, math.inf], [True], "12", None], "jitter": NO_JITTER}),
]
ROWS = [(kind, given, field, values) for kind, given, fields in TABLE for field, values in fields.items()]


@pytest.mark.parametrize(("kind", "given", "field", "values"), ROWS, ids=[f"{row[0].__name__}.{row[2]}" for row in ROWS])
def test_a_wrong_value_is_refused_by_name(kind: Callable[..., Any], given: dict[str, Any], field: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValueError, match=rf"^{kind.__name__}\.{field}: expected ") as caught:
            kind(**{**given, field: value})

        if field not in {"token", "value"}:  # what nearly was a secret must not be shown
            assert ", got " in str(caught.value)
        if field not in {"token", "value", "source", "origins", "delays", "methods"}:  # of several the wrong one is shown; a token, never
            assert str(caught.value).endswith(f"got {value!r}")


def test_the_table_above_leaves_out_no_field() -> None:
    for kind in (
        Retry,
        Deadline,
        AttemptTimeout,
        StreamTimeout,
        CircuitBreaker,
        RefreshToken,
        IdempotencyKey,
        Token,
        Exponential,
        Linear,
        Fibonacci,
        Constant,
        Listed,
    ):
        tested = {field for row, _, fields in TABLE if row is kind for field in fields}
        assert {field.name for field in attrs.fields(kind) if field.init} == tested


@pytest.mark.parametrize(
    ("make", "field", "numbers"),
    [
        (lambda: Exponential(5, cap=2), "Exponential.cap", "base (5)"),
        (lambda: CircuitBreaker(cooldown=10, max_cooldown=5), "CircuitBreaker.max_cooldown", "cooldown (10)"),
        (lambda: CircuitBreaker(slow_after=60, lease=30), "CircuitBreaker.lease", "slow_after (60)"),
        (lambda: CircuitBreaker(consecutive=1), "CircuitBreaker.consecutive", "failure_ratio=0.5 and minimum=10"),
    ],
)
def test_settings_that_contradict_one_another_are_refused_with_both_numbers(make: Callable[[], Any], field: str, numbers: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(field)}: .*{re.escape(numbers)}"):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: Retry(attempts=1, max_server_delay=0),
        lambda: Retry(max_server_delay=math.inf),
        lambda: Retry(backoff=Constant(0), throttled=Listed([0])),
        lambda: Deadline(1),
        lambda: Deadline(0.001),
        lambda: CircuitBreaker(failure_ratio=1, minimum=1, consecutive=1),
        lambda: CircuitBreaker(consecutive=None, slow_after=None, key=None),
        lambda: RefreshToken(login, early=0, cooldown=0, origins="https://api.example"),
        lambda: Token("t", expires_in=math.inf),
        lambda: Exponential(0, cap=0),
        lambda: IdempotencyKey(methods=["post"]),
    ],
)
def test_zero_one_and_none_are_taken_where_they_mean_something(make: Callable[[], Any]) -> None:
    """B54: neither is another word for "not set"."""
    make()


@pytest.mark.parametrize(
    "policy", [Retry(), Deadline(5), AttemptTimeout(5), StreamTimeout(idle=5), IdempotencyKey(), CircuitBreaker(), RefreshToken(login)]
)
def test_settings_cannot_be_changed_once_they_are_written(policy: Any) -> None:
    """D21, B36."""
    for field in attrs.fields(type(policy)):
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(policy, field.name, 1)
