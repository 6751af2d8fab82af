"""What an engine leaves behind on an outcome: the attempts in brief, wherever the outcome goes (D11, D34)."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import attrs
import pytest

from resilience import DeadlineExceeded, Engine, Retry, Tried, history
from resilience.history import behind_of, keep_history
from resilience.testing import World, script

pytestmark = pytest.mark.anyio

ROWS = (
    (1, "retry", "http: status 503", "Response", 503, "busy", "unknown", 2.5, 0.1),
    (2, "fail_fast", "default", "ValueError", None, "ValueError", "unknown", None, 3.2),
)
TRIED = (
    Tried(1, "retry", "http: status 503", "Response", 503, "busy", "unknown", 2.5, 0.1),
    Tried(2, "fail_fast", "default", "ValueError", None, "ValueError", "unknown", None, 3.2),
)


def marked(error: Exception) -> Exception:
    keep_history(error, ROWS)
    return error


def raised_from(cause: BaseException | None, context: BaseException | None = None) -> Exception:
    error = RuntimeError("wrapper")
    error.__cause__, error.__context__ = cause, context
    return error


class WithResponse(Exception):
    def __init__(self, response: object) -> None:
        super().__init__("failed")
        self.response = response


class Plain:
    """Something that takes attributes."""


def plain() -> Plain:
    response = Plain()
    keep_history(response, ROWS)
    return response


class TestWhereItIsFound:
    @pytest.mark.parametrize(
        "outcome",
        [
            marked(ValueError()),
            raised_from(marked(ValueError())),
            raised_from(None, marked(ValueError())),
            raised_from(raised_from(None, marked(ValueError()))),
            ExceptionGroup("group", [KeyError(), marked(ValueError())]),
            ExceptionGroup("group", [KeyError(), ExceptionGroup("nested", [raised_from(marked(ValueError()))])]),
            plain(),
            WithResponse(plain()),
            raised_from(WithResponse(plain())),
        ],
        ids=["itself", "cause", "context", "context of a cause", "group", "nested group", "response", "response of an error", "all of it"],
    )
    def test_on_the_outcome_or_behind_it(self, outcome: object) -> None:
        assert TRIED == history(outcome)

    def test_the_nearest_counts(self) -> None:
        outer = ValueError()
        outer.__cause__ = marked(KeyError())
        keep_history(outer, ROWS[1:])

        assert TRIED[1:] == history(outer)

    @pytest.mark.parametrize(
        "outcome", [ValueError(), None, 5, "text", {"_resilience_history": ROWS}, object(), ExceptionGroup("g", [KeyError()])]
    )
    def test_nowhere_else(self, outcome: object) -> None:
        assert () == history(outcome)

    def test_a_chain_that_bites_its_tail_ends(self) -> None:
        """B53."""
        one, other = ValueError(), KeyError()
        one.__cause__, other.__cause__, one.__context__ = other, one, one

        assert () == history(one)
        assert [one, other] == [found for found in behind_of(one) if found is not None]

    def test_a_chain_of_ten_thousand_is_not_followed_to_its_end(self) -> None:
        error: Exception = marked(ValueError())
        for _ in range(10_000):
            error = raised_from(error)

        assert () == history(error)
        assert 64 >= sum(1 for _ in behind_of(error))
        while error.__cause__ is not None:  # taken apart from the outside, for the interpreter would do it recursively
            error.__cause__, error = None, error.__cause__  # type: ignore[assignment]  # only Exceptions were put there

    def test_a_response_that_raises_when_it_is_looked_at_is_none(self) -> None:
        class Lazy(Exception):
            @property
            def response(self) -> object:
                raise RuntimeError("not yet")

        assert () == history(Lazy())


class TestWhereItIsKept:
    @pytest.mark.parametrize("frozen", [True, False])
    def test_on_any_exception(self, frozen: bool) -> None:
        kind = attrs.make_class("Mine", ["value"], bases=(Exception,), frozen=frozen, slots=False)
        error = kind(5)
        keep_history(error, ROWS)

        assert TRIED == history(error)

    @pytest.mark.parametrize("outcome", [5, "text", {}, [], None, object(), attrs.make_class("Slotted", ["value"], slots=True)(5)])
    def test_what_takes_no_attributes_is_left_as_it_is(self, outcome: object) -> None:
        keep_history(outcome, ROWS)

        assert () == history(outcome)


class TestTravelling:
    @pytest.mark.parametrize(
        "way", [copy.copy, copy.deepcopy, *(lambda error, p=p: pickle.loads(pickle.dumps(error, p)) for p in range(6))]
    )
    @pytest.mark.parametrize(
        "error", [ValueError("mine"), OSError(2, "no"), DeadlineExceeded(), ExceptionGroup("g", [ValueError()])], ids=repr
    )
    def test_it_survives(self, way: Any, error: Exception) -> None:
        keep_history(error, ROWS)

        assert TRIED == history(way(error))

    def test_it_is_made_of_what_opens_where_this_library_is_not_installed(self) -> None:
        pickled = pickle.dumps(marked(ValueError()))

        assert b"_resilience_history" in pickled
        assert b"Tried" not in pickled
        assert b"attr" not in pickled

    async def test_it_comes_along_with_an_error_from_an_engine(self, world: World) -> None:
        with pytest.raises(ConnectionError) as caught:
            await Engine([Retry()], env=world.env).call(script(*[ConnectionError] * 3))

        copied = pickle.loads(pickle.dumps(caught.value))
        assert history(caught.value) == history(copied)
        assert [1, 2, 3] == [tried.attempt for tried in history(copied)]
        assert [0.0, 0.025, 0.075] == pytest.approx([tried.elapsed for tried in history(copied)])


async def test_a_later_call_that_succeeds_or_fails_elsewhere_leaves_it_alone(world: World) -> None:
    error = ConnectionError()
    engine = Engine([Retry(attempts=2)], env=world.env)
    with pytest.raises(ConnectionError):
        await engine.call(script(error, error))
    await engine.call(script("ok"))
    with pytest.raises(ValueError):
        await engine.call(script(ValueError))

    assert 2 == len(history(error))
