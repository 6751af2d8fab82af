"""Fields out of whatever a client calls headers."""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from typing import Any
from unittest.mock import MagicMock

import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from resilience.reading.headers import header, header_fields, header_values, is_headers, picked

PAIRS = [("X-One", "1"), ("X-Two", "a"), ("x-two", "b")]


def message() -> http.client.HTTPMessage:
    made = http.client.HTTPMessage()
    for name, value in PAIRS:
        made[name] = value
    return made


ALL: list[Any] = [
    PAIRS,
    tuple(PAIRS),
    [list(pair) for pair in PAIRS],
    [(name.encode(), value.encode()) for name, value in PAIRS],
    message(),
    Headers(raw=[(name.lower().encode(), value.encode()) for name, value in PAIRS]),
]


@pytest.mark.parametrize("headers", ALL, ids=lambda headers: type(headers).__name__)
def test_repeats_are_kept_in_order_whatever_their_case(headers: Any) -> None:
    assert is_headers(headers)
    assert ["a", "b"] == header_values(headers, "X-TWO")
    assert ["1"] == header_values(headers, "x-one")
    assert "a" == header(headers, "x-two")
    assert header(headers, "x-three") is None


@pytest.mark.parametrize("kind", [httpx.Headers, httpx2.Headers])
def test_a_client_that_joins_repeats_gives_them_joined(kind: Any) -> None:
    assert ["a, b"] == header_values(kind(PAIRS), "x-two")


def test_a_plain_dict_need_not_be_written_in_lower_case() -> None:
    assert "5" == header({"RETRY-AFTER": "5"}, "retry-after")


def test_a_number_in_a_dict_is_read_as_written() -> None:
    """Nobody's server sends one, but many a test does."""
    assert ["5", "1.5"] == header_values([("a", 5), ("a", 1.5), ("a", True), ("a", None), ("a", [5])], "a")


def test_bytes_are_latin_1() -> None:
    assert "\u00e9" == header({b"a": bytearray(b"\xe9")}, "A")


@pytest.mark.parametrize("value", [None, 5, "a: b", b"a: b", object(), {"a"}, ["a"], [("a", "b", "c")]])
def test_what_are_no_headers_have_no_values(value: Any) -> None:
    assert not is_headers(value)
    assert [] == header_values(value, "a")


@pytest.mark.parametrize("lie", [None, dict, list, http.client.HTTPMessage])
def test_stand_ins_are_no_headers(lie: type | None) -> None:
    assert not is_headers(MagicMock(spec=lie))


class Broken(Mapping[str, str]):
    """Like a row that was to be loaded on first use, from a connection that is gone."""

    def __getitem__(self, key: str) -> str:
        if key == "second":
            raise LookupError(key)
        return "1"

    def __iter__(self) -> Iterator[str]:
        return iter(["first", "second", "third"])

    def __len__(self) -> int:
        raise OSError


def test_what_came_before_an_error_stands() -> None:
    assert ["1"] == header_values(Broken(), "first")
    assert [] == header_values(Broken(), "third")


def test_endless_headers_are_read_for_a_while() -> None:
    assert [] == header_values([("a", "1")] * 100_000 + [("b", "2")], "b")


@pytest.mark.parametrize("headers", ALL, ids=lambda headers: type(headers).__name__)
def test_one_walk_finds_all_that_is_wanted(headers: Any) -> None:
    assert {"x-one": ["1"], "x-two": ["a", "b"]} == header_fields(headers, {"x-one", "x-two", "x-three"}, most=9)
    assert {"x-one": ["1"]} == header_fields(headers, {"x-one"}, most=9)
    assert {} == header_fields(headers, set(), most=9)


def test_no_more_values_are_taken_than_are_worth_the_work() -> None:
    headers = [("a", "1"), ("a", "2, 3, 4, 5"), ("b", "6, 7"), ("c", "8"), ("a", "9")]

    assert {"a": ["1"], "b": ["6, 7"], "c": ["8"]} == header_fields(headers, {"a", "b", "c"}, most=4)
    assert {} == header_fields(headers, {"a", "b", "c"}, most=0)


def test_a_list_with_something_else_among_its_pairs_is_no_headers() -> None:
    assert {} == header_fields([("a", "1"), "bc"], {"a", "b"}, most=9)
    assert {} == header_fields([("a", "1"), ("b",)], {"a", "b"}, most=9)


FIELDS = st.tuples(st.sampled_from(["a", "A", b"b", "c", 5]), st.sampled_from(["1", "2, 3", b"4", 5, None]))
LISTED = st.lists(st.one_of(FIELDS, st.sampled_from(["ab", ("a",), None])), max_size=6)


@given(headers=st.one_of(LISTED, LISTED.map(tuple), st.lists(FIELDS, max_size=6).map(dict), st.none()), most=st.integers(0, 4))
def test_of_what_was_picked_from_headers_the_same_is_made_as_of_them_all(headers: Any, most: int) -> None:
    kept = picked(headers, {"a", "b"})

    for wanted in ({"a"}, {"b"}, {"a", "b"}):
        assert header_fields(headers, wanted, most=most) == header_fields(kept, wanted, most=most)


def test_what_was_picked_before_headers_broke_stands() -> None:
    class Broken(dict[str, str]):
        def items(self) -> Any:
            yield "a", "1"
            raise OSError

    assert [("a", "1")] == picked(Broken(a="1"), {"a"})


class Unhashed(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        return True


class Odd(metaclass=Unhashed):
    pass


def test_a_class_without_a_hash_is_no_kind_of_headers() -> None:
    """Abstract classes look classes up by their hash, and raise where there is none."""
    assert not is_headers(Odd())
