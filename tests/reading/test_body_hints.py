"""How long an error body asks us to wait: D3, B22, B24, B25."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest

from resilience.reading.envelope import read_envelope

RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


def asked(body: object) -> float | None:
    return read_envelope(body).retry_after


def google(*details: object) -> dict[str, Any]:
    return {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": list(details)}}


def delayed(delay: object, name: str = "retryDelay") -> dict[str, Any]:
    return google({"@type": RETRY_INFO, name: delay})


def shopify(requested: object, available: object, rate: object, code: object = "THROTTLED") -> dict[str, Any]:
    status = {"maximumAvailable": 1000.0, "currentlyAvailable": available, "restoreRate": rate}
    return {"errors": [{"extensions": {"code": code}}], "extensions": {"cost": {"requestedQueryCost": requested, "throttleStatus": status}}}


@pytest.mark.parametrize(
    ("delay", "seconds"),
    [
        ("36s", 36.0),
        ("1.5s", 1.5),
        ("0s", 0.0),
        ("0.000340012s", 0.000340012),
        ("315576000000s", 315_576_000_000.0),
        ({"seconds": 36}, 36.0),
        ({"seconds": "36"}, 36.0),
        ({"seconds": "1", "nanos": 500_000_000}, 1.5),
        ({"nanos": 250_000_000}, 0.25),
    ],
)
def test_googles_delay_is_read_in_both_forms_of_a_duration(delay: object, seconds: float) -> None:
    """google/protobuf/duration.proto, "JSON Mapping"; the other form is that of the message, as clients in other languages print it."""
    assert seconds == asked(delayed(delay))
    assert seconds == asked(delayed(delay, "retry_delay"))
    assert seconds == asked([delayed(delay)])


@pytest.mark.parametrize(
    "delay",
    [
        None,
        36,
        "36",
        "36 s",
        "-36s",
        "+36s",
        "1e9s",
        "s",
        ".5s",
        "1.s",
        "36s36s",
        "36m",
        "\u0663s",
        "9999999999999s",
        "0.0000000001s",
        {},
        [],
        {"seconds": -1},
        {"seconds": "-1"},
        {"seconds": 1.5},
        {"seconds": True},
        {"seconds": "1", "nanos": -1},
        {"seconds": "1", "nanos": 1_000_000_000},
        {"seconds": "1", "nanos": "x"},
        {"seconds": 10**400},
        MagicMock(),
    ],
)
def test_what_is_no_duration_is_no_hint(delay: object) -> None:
    assert asked(delayed(delay)) is None


def test_only_retry_info_holds_a_delay() -> None:
    for kind in ("type.googleapis.com/google.rpc.RetryInfos", "RetryInfo", "x/google.rpc.Help", None, 5):
        assert asked(google({"@type": kind, "retryDelay": "36s"})) is None
    assert 36.0 == asked(google({"@type": "google.rpc.RetryInfo", "retryDelay": "36s"}))
    assert 36.0 == asked(google(None, {"@type": RETRY_INFO}, {"@type": RETRY_INFO, "retryDelay": "36s"}))


@pytest.mark.parametrize(
    ("requested", "available", "rate", "seconds"),
    [(252, 2, 50, 5.0), (70, 66.0, 50.0, 0.08), (70, 70, 50, 0.0), (70, 1000, 50, 0.0), (100, -100, 50, 4.0)],
)
def test_shopifys_throttled_query_waits_until_it_can_be_paid_for(
    requested: object, available: object, rate: object, seconds: float
) -> None:
    """shopify.dev, "API limits": restoreRate points come back each second; below the requested cost a query is throttled."""
    assert seconds == asked(shopify(requested, available, rate))


@pytest.mark.parametrize(
    ("requested", "available", "rate"),
    [
        (252, 2, 0),
        (252, 2, -50),
        (252, 2, None),
        (252, None, 50),
        (None, 2, 50),
        ("252", 2, 50),
        (True, 2, 50),
        (math.nan, 2, 50),
        (252, -math.inf, 50),
        (252, 2, math.inf),
        (1e308, -1e308, 1e-308),
        (10**400, 2, 50),
    ],
)
def test_a_cost_that_cannot_be_reckoned_is_no_hint(requested: object, available: object, rate: object) -> None:
    assert asked(shopify(requested, available, rate)) is None


def test_a_cost_is_a_hint_only_where_something_was_throttled() -> None:
    """It stands beside every answer, and says nothing about when another error passes."""
    for code in ("INTERNAL_SERVER_ERROR", None, 5, MagicMock()):
        assert asked(shopify(252, 2, 50, code)) is None
    nothing: list[Any] = [None, [], {"cost": None}, {"cost": {"requestedQueryCost": 5}}, {"cost": {"throttleStatus": []}}]
    for extensions in nothing:
        assert asked({"errors": [{"extensions": {"code": "THROTTLED"}}], "extensions": extensions}) is None


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ({"message": "You are being rate limited.", "retry_after": 64.57, "global": False}, 64.57),
        ({"message": "You are being rate limited.", "retry_after": 1, "global": True, "code": 0}, 1.0),
        ({"ok": False, "error_code": 429, "parameters": {"retry_after": 35}}, 35.0),
        ({"cloudflare_error": True, "retryable": True, "retry_after": 30}, 30.0),
        ({"error": {"retry_after_ms": 1500}}, 1.5),
        ({"error": {"retryAfterMs": 1500.0}}, 1.5),
        ({"retry_after_seconds": 7}, 7.0),
        ({"Error": {"Code": "TooManyRequestsException"}, "retryAfterSeconds": 7}, 7.0),
    ],
)
def test_a_number_counts_where_its_unit_is_certain(body: object, seconds: float) -> None:
    assert seconds == asked(body)


@pytest.mark.parametrize(
    "body",
    [
        # PluralKit, "Rate Limiting": "retry_after: the amount of milliseconds remaining until you can make more requests".
        {"message": "429: too many requests", "retry_after": 19, "code": 0},
        {"error": {"retry_after": 19}},
        {"retry_after": 19, "global": None},
        {"retry_after": 19, "cloudflare_error": False},
        {"ok": True, "parameters": {"retry_after": 19}},
        {"parameters": {"retry_after": 19}},
        {"ok": False, "parameters": 19},
        {"retry_after": "19", "global": False},
        {"retry_after": -19, "global": False},
        {"retry_after": math.nan, "global": False},
        {"retry_after": math.inf, "global": False},
        {"retry_after": True, "global": False},
        {"retry_after": 10**400, "global": False},
        {"retry_after": MagicMock(), "global": False},
        {"retry_after_ms": -1},
    ],
)
def test_a_number_whose_unit_or_value_is_uncertain_is_no_hint(body: object) -> None:
    assert asked(body) is None


class Loading(list[Any]):
    """A list that loads on first use, from a connection that is gone."""

    def __iter__(self) -> Iterator[Any]:
        raise OSError


def test_a_list_that_raises_says_nothing() -> None:
    for body in (Loading([{}]), {"errors": Loading([{}])}, {"error": {"code": 429, "details": Loading([{}])}}):
        assert asked(body) is None


def test_only_the_first_of_many_members_are_looked_at() -> None:
    assert asked(google(*[{}] * 100_000, {"@type": RETRY_INFO, "retryDelay": "36s"})) is None
