"""What values and records share instead of having attrs write it for each class."""

from __future__ import annotations

import copy
import pickle
import typing
from typing import Any

import attrs
import pytest

from resilience import Retry, Signal, Verdict
from resilience.settings import Record, Shown, Value


@attrs.frozen(eq=False, repr=False)
class Ours(Value):
    name: str
    token: str = attrs.field(default="secret", repr=False)
    seen: int = attrs.field(default=0, eq=False)
    _inner: tuple[int, ...] = ()


@attrs.frozen(eq=False, repr=False)
class Nearer(Ours):
    more: float = 0.5


@attrs.frozen
class Theirs:
    """The same as `Ours`, as attrs would have it."""

    name: str
    token: str = attrs.field(default="secret", repr=False)
    seen: int = attrs.field(default=0, eq=False)
    _inner: tuple[int, ...] = ()


@attrs.frozen(eq=False, repr=False)
class Alone(Shown):
    name: str


class Pair(Record):
    __slots__ = ("left", "right")

    def __init__(self, left: object, right: object = None) -> None:
        self.left = left
        self.right = right


class Other(Pair):
    __slots__ = ()


ARGUMENTS: list[dict[str, Any]] = [
    {"name": "a"},
    {"name": "b"},
    {"name": "a", "seen": 5},
    {"name": "a", "token": "other"},
    {"name": "a", "inner": (1, 2)},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_a_value_is_shown_as_attrs_shows_it(arguments: dict[str, Any]) -> None:
    assert repr(Theirs(**arguments)).replace("Theirs", "Ours") == repr(Ours(**arguments))


@pytest.mark.parametrize("one", ARGUMENTS, ids=str)
@pytest.mark.parametrize("two", ARGUMENTS, ids=str)
def test_values_are_equal_and_hash_alike_where_those_of_attrs_do(one: dict[str, Any], two: dict[str, Any]) -> None:
    alike = Theirs(**one) == Theirs(**two)

    assert alike == (Ours(**one) == Ours(**two))
    assert alike != (Ours(**one) != Ours(**two))
    assert alike == (hash(Ours(**one)) == hash(Ours(**two)))


def test_a_value_equals_nothing_of_another_class() -> None:
    assert Ours("a") != Nearer("a")
    assert Ours("a") != "a"
    assert 2 == len({Ours("a"), Nearer("a"), Ours("a")})


def test_a_value_that_builds_on_another_has_the_fields_of_both() -> None:
    assert "Nearer(name='a', seen=0, _inner=(), more=0.5)" == repr(Nearer("a"))
    assert Nearer("a") != Nearer("a", more=1.0)


def test_a_value_stays_what_attrs_makes_of_it() -> None:
    value = Ours("a", inner=(1,))

    assert value == copy.deepcopy(value) == pickle.loads(pickle.dumps(value)) == attrs.evolve(value)
    assert not hasattr(value, "__dict__")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        value.name = "b"  # type: ignore[misc]  # the subject


def test_what_is_only_shown_equals_nothing_but_itself() -> None:
    alone = Alone("a")

    assert "Alone(name='a')" == repr(alone)
    assert alone == alone  # noqa: PLR0124 - the subject
    assert alone != Alone("a")
    assert 2 == len({alone, Alone("a")})


def test_a_record_is_shown_and_compared_by_its_slots() -> None:
    assert "Pair(left=1, right=None)" == repr(Pair(1))
    assert Pair(1) == Pair(1, None)
    assert Pair(1) != Pair(1, 2)
    assert Pair(1) != Other(1)
    assert Pair(1) != (1, None)


def test_a_record_may_change_and_so_has_no_hash() -> None:
    with pytest.raises(TypeError, match="unhashable"):
        hash(Pair(1))


@pytest.mark.parametrize("kind", [Retry, Signal, Verdict])
def test_its_type_hints_can_be_resolved(kind: type) -> None:
    attrs.resolve_types(kind)

    assert {field.name for field in attrs.fields(kind)} <= typing.get_type_hints(kind).keys()
