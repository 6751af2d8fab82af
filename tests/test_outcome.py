"""What the engine makes for less is what users make."""

from __future__ import annotations

import copy
import pickle
import weakref
from typing import Any

import attrs
import pytest

from resilience import Action, Failure, Phase, Signal, Verdict
from resilience.outcome import new_failure, new_signal

FACTS: tuple[Any, ...] = (429, "busy", "family", "Slow down.", 7.0, Phase.REFUSED, False, OSError, (Signal(503),))
VERDICT = Verdict(Action.RETRY)


def test_a_signal_made_for_less_is_a_signal_like_any_other() -> None:
    made, written = new_signal(*FACTS), Signal(*FACTS)

    assert type(made) is Signal
    assert (written, hash(written), repr(written)) == (made, hash(made), repr(made))
    assert attrs.asdict(written, recurse=False) == attrs.asdict(made, recurse=False)
    assert attrs.evolve(written, status=None) == attrs.evolve(made, status=None)
    assert weakref.ref(made)() is made


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_it_can_be_copied_and_sent_to_another_process(copied: Any) -> None:
    assert Signal(*FACTS) == copied(new_signal(*FACTS))


def test_a_failure_made_for_less_is_a_failure_like_any_other() -> None:
    error, signal = ConnectionError(), Signal(503)
    made = new_failure(VERDICT, signal, error, "value")

    assert type(made) is Failure
    assert repr(Failure(VERDICT, signal, error, "value")) == repr(made)
    assert (VERDICT, signal, error, "value") == (made.verdict, made.signal, made.error, made.value)
    assert made != new_failure(VERDICT, signal, error, "value")
    assert weakref.ref(made)() is made


@pytest.mark.parametrize("made", [new_signal(*FACTS), new_failure(VERDICT, Signal(503), None, None)])
def test_neither_can_be_changed(made: Any) -> None:
    for name in type(made).__slots__:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            setattr(made, name, None)
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            delattr(made, name)
    with pytest.raises(AttributeError):
        made.other = 1


@pytest.mark.parametrize("member", [*Phase, *Action])
def test_a_member_has_its_value_as_a_word(member: Phase | Action) -> None:
    assert member.value == member.word
    assert member is type(member)(member.word)
    assert member is pickle.loads(pickle.dumps(member))
