"""Events are records: they can be compared, kept in sets and read."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from resilience import events
from resilience.events import BreakerClosed, BreakerHalfOpened, CallSucceeded, Event, KeyTaken

ABOUT: dict[str, Any] = {"engine": "acme", "operation": "pay", "call": "0000cafe", "attempt": 1, "elapsed": 0.25}


def test_two_events_that_say_the_same_are_equal() -> None:
    one, other = KeyTaken(**ABOUT, source="minted"), KeyTaken(**ABOUT, source="minted")

    assert one == other
    assert 1 == len({one, other})


def test_events_that_say_different_things_are_not() -> None:
    minted = KeyTaken(**ABOUT, source="minted")

    assert minted != KeyTaken(**ABOUT, source="derived")
    assert minted != attrs.evolve(minted, elapsed=0.5)
    assert minted != "key.taken"


def test_events_of_different_kinds_differ_even_where_their_fields_do_not() -> None:
    assert BreakerHalfOpened(**ABOUT, key="a") != BreakerClosed(**ABOUT, key="a")


def test_an_event_prints_as_it_is_written() -> None:
    said = "engine='acme', operation='pay', call='0000cafe', attempt=1, elapsed=0.25, seconds_left=None"

    assert f"KeyTaken({said}, source='minted')" == repr(KeyTaken(**ABOUT, source="minted"))
    assert f"CallSucceeded({said})" == repr(CallSucceeded(**ABOUT))


@pytest.mark.parametrize("kind", [getattr(events, name) for name in events.__all__ if name != "Event"])
def test_no_field_of_an_event_can_be_changed(kind: type[Event]) -> None:
    """Those without fields of their own are plain subclasses, and frozen all the same."""
    facts: dict[str, Any] = {field.name: "x" for field in attrs.fields(kind) if field.name not in ABOUT}
    event = kind(**ABOUT, **facts)

    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        event.engine = "other"  # type: ignore[misc]
    assert "acme" == event.engine
