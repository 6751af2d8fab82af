"""Events are records: they can be compared, kept in sets and read."""

from __future__ import annotations

import copy
import pickle
from typing import Any

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
    assert minted != KeyTaken(**{**minted.asdict(), "elapsed": 0.5})
    assert minted != "key.taken"


def test_events_of_different_kinds_differ_even_where_their_fields_do_not() -> None:
    assert BreakerHalfOpened(**ABOUT, key="a") != BreakerClosed(**ABOUT, key="a")


def test_an_event_prints_as_it_is_written() -> None:
    said = "engine='acme', operation='pay', call='0000cafe', attempt=1, elapsed=0.25, seconds_left=None"

    assert f"KeyTaken({said}, source='minted')" == repr(KeyTaken(**ABOUT, source="minted"))
    assert f"CallSucceeded({said})" == repr(CallSucceeded(**ABOUT))


KINDS = [getattr(events, name) for name in events.__all__ if name != "Event"]


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_that_was_told_is_the_one_that_its_class_makes(kind: type[Event]) -> None:
    facts: dict[str, Any] = {**ABOUT, **{name: "x" for name in kind.fields if name not in ABOUT}}
    event = events.told(kind, dict(facts))

    assert kind(**facts) == event
    assert repr(kind(**facts)) == repr(event)
    assert type(event) is kind
    with pytest.raises(AttributeError, match="engine: an event cannot be changed"):
        event.engine = "other"  # type: ignore[misc]


def test_what_is_not_told_of_an_event_has_its_default() -> None:
    assert CallSucceeded(**ABOUT) == events.told(CallSucceeded, dict(ABOUT))


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_of_an_event_can_be_changed(kind: type[Event]) -> None:
    """Those without fields of their own are plain subclasses, and frozen all the same."""
    facts: dict[str, Any] = {name: "x" for name in kind.fields if name not in ABOUT}
    event = kind(**ABOUT, **facts)

    with pytest.raises(AttributeError, match="engine: an event cannot be changed"):
        event.engine = "other"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="engine: an event cannot be changed"):
        del event.engine
    assert "acme" == event.engine


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda event: pickle.loads(pickle.dumps(event))])
def test_an_event_can_be_copied_and_sent_to_another_process(copied: Any) -> None:
    event = KeyTaken(**ABOUT, source="minted")

    assert event == copied(event)


def test_an_event_with_a_field_too_few_or_too_many_is_refused() -> None:
    with pytest.raises(TypeError, match=r"KeyTaken: missing \['source'\], unknown \[\]"):
        KeyTaken(**ABOUT)
    with pytest.raises(TypeError, match=r"KeyTaken: missing \[\], unknown \['sauce'\]"):
        KeyTaken(**ABOUT, source="minted", sauce="hot")  # type: ignore[call-arg]
