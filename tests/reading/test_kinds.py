"""What a class says is found out once, and reads like what is asked of each instance anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilience.outcome import Phase, Signal
from resilience.reading import kinds
from resilience.reading.kinds import ASKED, asked_of, kind_of, stands_alone
from resilience.reading.repeats import repeats_behind
from resilience.reading.request import request_of
from resilience.reading.shape import read


class Response:
    """A client's."""

    def __init__(self, status: Any, headers: Any, body: bytes) -> None:
        self.status_code = status
        self.headers = headers
        self.content = body
        self.history = [Hop()]
        self.request = Request()


class Hop:
    status_code = 302


class Request:
    method = "POST"
    url = "https://api.example/bots"
    headers: ClassVar[dict[str, str]] = {"x-stainless-retry-count": "2"}


VALUES: tuple[Any, ...] = (
    None,
    503,
    "busy",
    "no code at all",
    b'{"error": {"code": "overloaded", "type": "server_error", "message": "busy"}}',
    {"error": {"code": "quota"}},
    {"Retry-After": "7", "x-should-retry": "false", "x-amzn-errortype": "Throttling"},
    {"ResponseMetadata": {"HTTPStatusCode": 400, "RetryAttempts": 3}, "Error": {"Code": "Slow"}},
    Response(429, {"Retry-After": "3"}, b'{"ok": false, "error": "ratelimited"}'),
    Response(200, {}, b'{"ok": false, "error": "ratelimited"}'),
    Request(),
    ConnectionRefusedError("nobody"),
)
NAMES = st.sampled_from(sorted(ASKED))
MEMBERS = st.dictionaries(NAMES, st.sampled_from(VALUES), max_size=3)
CLASSES = (
    ("acme", "Failed"),
    ("builtins", "ConnectionRefusedError"),
    ("httpx", "ConnectError"),
    ("aiohttp", "ClientResponseError"),
    ("aiohttp", "HttpProcessingError"),
    ("urllib", "URLError"),
    ("urllib3", "MaxRetryError"),
    ("requests", "ConnectionError"),
    ("botocore", "EventStreamError"),
    ("websockets", "ConnectionClosed"),
    ("asyncpg", "PostgresError"),
    ("redis", "RedisError"),
)
BASES = (Exception, ConnectionError, TimeoutError, OSError, ValueError, UnicodeDecodeError, ExceptionGroup, SystemExit)


Maker: TypeAlias = Callable[[Callable[[type], type]], BaseException]
"""Makes an exception, of a class that is put through something before."""


def _raises(error: object) -> object:
    raise RuntimeError(error)


@st.composite
def classes(draw: st.DrawFn) -> Maker:
    """What makes an exception of a class of any make."""
    base = draw(st.sampled_from(BASES))
    declared = draw(MEMBERS)
    inherited = draw(MEMBERS)
    slots = draw(st.sets(NAMES, max_size=2)) - declared.keys()
    broken = draw(st.sets(NAMES, max_size=1)) - declared.keys() - slots
    held = draw(MEMBERS) | draw(st.sampled_from([{}, {"__notes__": ["n"]}, {"other": 1}]))
    module, name = draw(st.sampled_from(CLASSES))
    cause = draw(st.sampled_from([None, *(value for value in VALUES if isinstance(value, BaseException))]))
    words = draw(st.sampled_from([(), ("went wrong",), ("übel",), (5,)]))

    mixin_first = draw(st.booleans())

    def make(through: Callable[[type], type]) -> BaseException:
        mixin = type("Mixin", (), dict(inherited))
        space = {**declared, **{name: property(_raises) for name in broken}, "__slots__": tuple(slots)}
        bases = (mixin, base) if mixin_first else (base, mixin)
        kind = through(type(name, bases, {**space, "__module__": module, "__qualname__": name}))
        args: tuple[Any, ...] = words
        if base is UnicodeDecodeError:
            args = ("utf-8", b"\xff", 0, 1, "why")
        elif base is ExceptionGroup:
            args = ("several", [ConnectionError("a"), TimeoutError("b")])
        error: BaseException = kind(*args)
        error.__dict__.update(held)
        error.__cause__ = cause
        return error

    return make


def asked_anew(kind: type) -> type:
    """A class like *kind* that answers for attributes in its own way, so that each of them is asked for."""

    def missing(self: object, name: str) -> object:
        raise AttributeError(name, self)

    like = {"__getattr__": missing, "__module__": kind.__module__, "__qualname__": kind.__qualname__}
    return type(kind.__name__, (kind,), like)


@given(make=classes())
def test_what_is_known_of_a_class_changes_nothing_about_what_its_instances_say(
    make: Callable[[Callable[[type], type]], BaseException],
) -> None:
    plain, wary = make(lambda kind: kind), make(asked_anew)

    assert attrs.evolve(read(wary), raised=None) == attrs.evolve(read(plain), raised=None)
    assert request_of(wary) == request_of(plain)
    assert repeats_behind(wary) == repeats_behind(plain)


def failed(kind: type[Exception], **held: Any) -> Exception:
    error = kind()
    error.__dict__.update(held)
    return error


def test_a_plain_exception_is_asked_for_nothing() -> None:
    error = ConnectionError("gone")

    assert frozenset() == asked_of(error, kind_of(ConnectionError))
    assert read(error) is not read(error)
    assert read(ConnectionError()) is read(ConnectionError())


def test_what_a_class_or_an_instance_has_is_asked_for() -> None:
    class Slotted(Exception):
        __slots__ = ("status",)

    class Declared(Slotted):
        code = "busy"

        @property
        def retry_after(self) -> int:
            return 5

    error = failed(Declared, body=b"{}", other=1)

    assert {"status", "code", "retry_after", "body"} == asked_of(error, kind_of(Declared))


@pytest.mark.parametrize("word", ["a class", "its base"])
def test_an_attribute_that_a_class_is_given_after_its_first_failure_counts(word: str) -> None:
    class Base(Exception):
        pass

    class Late(Base):
        pass

    assert read(Late()).status is None
    changed = Late if word == "a class" else Base
    changed.status = 503  # type: ignore[attr-defined]
    assert 503 == read(Late()).status
    del changed.status  # type: ignore[attr-defined]
    assert read(Late()).status is None


def test_a_class_that_is_given_other_bases_is_another_class() -> None:
    class Plain(Exception):
        pass

    class Telling(Exception):
        status = 503

    class Turncoat(Plain):
        pass

    assert read(Turncoat()).status is None
    Turncoat.__bases__ = (Telling,)
    assert 503 == read(Turncoat()).status


@pytest.mark.parametrize("way", ["__getattr__", "__getattribute__"])
def test_a_class_that_answers_for_attributes_in_its_own_way_is_asked_for_all(way: str) -> None:
    def answer(self: object, name: str) -> object:
        return 503 if name == "status" else object.__getattribute__(self, name)

    odd: type[Exception] = type("Odd", (Exception,), {})
    assert read(odd()).status is None
    setattr(odd, way, answer)

    assert 503 == read(odd()).status
    assert asked_of(odd(), kind_of(odd)) is ASKED


def test_what_a_namespace_of_another_make_holds_is_asked_for() -> None:
    class Hiding(dict[str, Any]):
        def __len__(self) -> int:
            return 0

        def __iter__(self) -> Any:
            return iter(())

    error = ConnectionError()
    error.__dict__ = Hiding(status=503)

    assert 503 == read(error).status


def test_a_namespace_with_keys_that_raise_is_asked_for_all() -> None:
    class Key:
        raising = False

        def __hash__(self) -> int:
            if self.raising:
                raise OSError
            return 1

    key: Any = Key()
    error = failed(ConnectionError, status=503)
    error.__dict__[key] = 1
    key.raising = True

    assert 503 == read(error).status


def test_an_exception_stands_alone_if_nothing_is_behind_it() -> None:
    class Declared(Exception):
        response = None

    class Late(Exception):
        pass

    caused = ConnectionError()
    caused.__cause__ = OSError()
    for error in (ConnectionError(), caused, failed(ConnectionError, other=1), Declared(), Late()):
        kind_of(type(error))  # has been met

    assert stands_alone(ConnectionError())
    assert stands_alone(Late())
    Late.response = None  # type: ignore[attr-defined]
    assert not any(map(stands_alone, [caused, failed(ConnectionError, other=1), Declared(), Late(), BrokenPipeError, "none", None]))


def test_a_class_that_shows_another_namespace_than_it_has_is_asked_for_all() -> None:
    masked: type[Exception] = type("Masked", (Exception,), {"__dict__": {}})
    error = masked()
    object.__setattr__(error, "status", 503)

    assert 503 == read(error).status


def test_an_exception_that_lies_about_its_class_is_asked_for_all() -> None:
    liar: type[Exception] = type("Liar", (ConnectionError,), {"__class__": property(lambda error: TimeoutError)})

    assert asked_of(liar(), kind_of(liar)) is ASKED
    assert Signal(code="Liar", raised=liar) == read(liar())


def test_a_class_that_cannot_be_hashed_is_known_anew_each_time() -> None:
    class Unhashed(type):
        def __eq__(cls, other: object) -> bool:
            return cls is other

        __hash__ = None  # type: ignore[assignment]

    odd: Any = Unhashed("Odd", (ConnectionRefusedError,), {"__module__": "acme"})

    assert ("acme.Odd", "builtins.ConnectionRefusedError") == kind_of(odd).names[:2]
    assert (Phase.NOT_SENT, "Odd") == (read(odd()).phase, read(odd()).code)


def test_a_class_without_a_name_has_none_for_a_code() -> None:
    class Nameless(type):
        @property
        def __name__(cls) -> str:  # type: ignore[override]
            raise LookupError

    odd: Any = Nameless("Odd", (ConnectionError,), {})

    assert read(odd()).code is None


def test_ten_thousand_classes_made_on_the_fly_are_not_remembered_for_ever() -> None:
    for number in range(3000):
        kind: type[Exception] = type(f"E{number}", (ConnectionError,), {"status": 500 + number % 10})
        assert 500 + number % 10 == read(kind()).status

    assert len(kinds._KINDS) <= 1024
