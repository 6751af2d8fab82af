"""Whatever can be called and then awaited can be run; whatever cannot is refused with a word on what to do instead (D24, B40)."""

from __future__ import annotations

import asyncio
import functools
import inspect
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any
from unittest import mock

import anyio
import attrs
import pytest

from resilience import AttemptTimeout, Constant, Deadline, Engine, Retry, Stream
from resilience.callables import mentions
from resilience.testing import World

pytestmark = pytest.mark.anyio


# trio knows no tasks to wait for.
natively = pytest.mark.parametrize("anyio_backend", [pytest.param(("asyncio", {}), id="asyncio")], scope="module")


@pytest.fixture(params=[[], [Deadline(60), Retry(backoff=Constant(0)), AttemptTimeout(30)]], ids=["bare", "bounded"])
def engine(request: pytest.FixtureRequest, world: World) -> Engine:
    return Engine(request.param, env=world.env)


async def function(value: str, *, twice: bool = False) -> str:
    """Doc of the function."""
    return value * 2 if twice else value


class Client:
    """Everything a class can hold."""

    async def method(self, value: str) -> str:
        return value

    @classmethod
    async def class_method(cls, value: str) -> str:
        return value

    @staticmethod
    async def static_method(value: str) -> str:
        return value

    async def __call__(self, value: str) -> str:
        return value


class Inherited(Client):
    pass


@attrs.frozen
class Awaited:
    """An awaitable that is no coroutine."""

    value: str

    def __await__(self) -> Generator[Any, None, str]:
        yield from anyio.sleep(0).__await__()
        return self.value


def logged(fn: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """A decorator as people write them: plain, but with its manners."""

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Awaitable[Any]:
        return fn(*args, **kwargs)

    return wrapper


@functools.singledispatch
async def dispatched(value: object) -> str:
    raise NotImplementedError


@dispatched.register
async def _(value: str) -> str:
    return value


def annotated(value: str) -> Coroutine[Any, Any, str]:
    return function(value)


CALLABLES: dict[str, Callable[[str], Any]] = {
    "function": function,
    "bound method": Client().method,
    "inherited method": Inherited().method,
    "class method": Client.class_method,
    "static method": Client.static_method,
    "callable object": Client(),
    "partial": functools.partial(function, twice=False),
    "nested partial": functools.partial(functools.partial(function), twice=False),
    "partial of a method": functools.partial(Client().method),
    "partial of a callable object": functools.partial(Client()),
    "lambda that returns a coroutine": lambda value: function(value),  # noqa: PLW0108 - the subject
    "lambda that returns another awaitable": lambda value: Awaited(value),  # noqa: PLW0108 - the subject
    "class that is its own awaitable": Awaited,
    "single dispatch": dispatched,
    "decorated with manners": logged(function),
    "annotated plain function": annotated,
    "mock": mock.AsyncMock(return_value="ok"),
    "mock with a spec": mock.create_autospec(function, return_value="ok"),
}
every = pytest.mark.parametrize("fn", CALLABLES.values(), ids=CALLABLES)


class TestWhatCanBeAwaited:
    @every
    async def test_is_called_and_decorated(self, engine: Engine, fn: Callable[[str], Any]) -> None:
        assert "ok" == await engine.call(fn, "ok")
        wrapped: Any
        for wrapped in (engine(fn), engine.using(operation="it")(fn)):
            assert inspect.iscoroutinefunction(wrapped)
            assert "ok" == await wrapped("ok")
            assert "ok" == await wrapped("ok")

    @every
    async def test_is_repeated(self, world: World, fn: Callable[[str], Any]) -> None:
        """B40: being misjudged shows in nothing being retried."""
        left = [ConnectionError, ConnectionError]

        def flaky(value: str) -> Awaitable[str]:
            if left:
                raise left.pop()
            return fn(value)  # type: ignore[no-any-return]  # whichever of them it is

        assert "ok" == await Engine([Retry()], env=world.env).call(functools.partial(flaky), "ok")
        assert 2 == len(world.slept)

    @natively
    async def test_a_task_or_future_will_do(self, engine: Engine) -> None:
        assert "ok" == await engine.call(lambda: asyncio.ensure_future(function("ok")))


class TestDecorating:
    async def test_keeps_name_signature_and_documentation(self, engine: Engine) -> None:
        wrapped = engine(function)

        assert ("function", "function", "Doc of the function.") == (wrapped.__name__, wrapped.__qualname__, wrapped.__doc__)
        assert inspect.signature(function) == inspect.signature(wrapped)
        assert function is inspect.unwrap(wrapped)

    @pytest.mark.parametrize(
        ("fn", "name"),
        [
            (functools.partial(function, twice=True), "function"),
            (functools.partial(Client().method), "Client.method"),
            (Client(), "Client"),
            (mock.AsyncMock(), "AsyncMock"),
        ],
        ids=lambda value: type(value).__name__,
    )
    async def test_what_has_no_name_is_called_by_what_it_is_made_of(self, engine: Engine, fn: Any, name: str) -> None:
        wrapped = engine(fn)

        assert (name.rpartition(".")[2], name) == (wrapped.__name__, wrapped.__qualname__)

    async def test_works_inside_a_class(self, engine: Engine) -> None:
        class Bots:
            prefix = "bot "

            @engine
            async def method(self, value: str) -> str:
                return self.prefix + value

            @classmethod
            @engine
            async def class_method(cls, value: str) -> str:
                return cls.prefix + value

            @staticmethod
            @engine
            async def static_method(value: str) -> str:
                return value

            @engine
            @classmethod
            async def above_a_class_method(cls, value: str) -> str:
                return cls.prefix + value

            @engine
            @staticmethod
            async def above_a_static_method(value: str) -> str:
                return value

        bots: Any = Bots()
        for held in (bots, Bots):
            assert "bot ok" == await held.class_method("ok")
            assert "ok" == await held.static_method("ok")
            assert "bot ok" == await held.above_a_class_method("ok")
            assert "ok" == await held.above_a_static_method("ok")
        assert "bot ok" == await bots.method("ok")

    async def test_each_call_starts_anew(self, world: World) -> None:
        calls = []

        @Engine([Retry(attempts=2)], env=world.env)
        async def fetch() -> None:
            calls.append(1)
            raise ConnectionError

        for _ in range(3):
            with pytest.raises(ConnectionError):
                await fetch()

        assert 6 == len(calls)

    async def test_operations_are_named_after_what_they_are(self, world: World) -> None:
        engine = Engine(env=world.env)
        for fn in (function, Client().method, Client(), functools.partial(Client.class_method)):
            await engine.call(fn, "ok")
            await engine(fn)("ok")

        names = ["function", "Client.method", "Client", "Client.class_method"]
        assert [name for name in names for _ in range(2)] == [event.operation for event in world.events]


async def agen(value: str) -> AsyncIterator[str]:
    yield value


class Streaming:
    async def stream(self, value: str) -> AsyncIterator[str]:
        yield value

    async def __call__(self, value: str) -> AsyncIterator[str]:
        yield value


def plain(value: str = "") -> str:
    return value


def nothing() -> None:
    return None


def generator() -> Generator[int, None, None]:
    yield 1


class Plain:
    def __call__(self, value: str) -> str:
        return value


class TestWhatCannot:
    @pytest.mark.parametrize(
        "fn",
        [agen, Streaming().stream, Streaming(), functools.partial(agen), functools.partial(Streaming()), logged(agen)],  # type: ignore[arg-type]
        ids=["function", "method", "object", "partial", "partial of an object", "decorated"],
    )
    async def test_an_async_generator_becomes_a_stream_when_it_is_decorated(self, engine: Engine, fn: Any) -> None:
        """B37, B38, rivals 6.17: neither inert, nor started anew when the reader has half of it."""
        wrapped: Any = engine(fn)

        assert isinstance(wrapped("ok"), Stream)

    @pytest.mark.parametrize(
        "fn",
        [agen, Streaming().stream, Streaming(), lambda value: agen(value)],  # noqa: PLW0108 - the subject
        ids=["function", "method", "object", "lambda"],
    )
    async def test_an_async_generator_is_refused_when_it_is_called(self, world: World, engine: Engine, fn: Any) -> None:
        with pytest.raises(TypeError, match=r"is an async generator function; use engine.stream\(fn\), or decorate it"):
            await engine.call(fn, "ok")
        assert [] == world.events

    @pytest.mark.parametrize(
        ("fn", "name"),
        [(plain, "plain"), (functools.partial(plain, "x"), "plain"), (generator, "generator"), (nothing, "nothing")],
        ids=["function", "partial", "generator", "None"],
    )
    async def test_a_sync_function_is_refused_when_it_is_decorated(self, engine: Engine, fn: Any, name: str) -> None:
        with pytest.raises(
            TypeError, match=rf"^{name}: is a sync function; make it async, or run it in a thread: engine\.call\(anyio\.to_thread"
        ):
            engine(fn)

    @pytest.mark.parametrize(
        ("fn", "returned"),
        [
            (plain, "str"),
            (lambda: 5, "int"),
            (nothing, "None"),
            (lambda: None, "None"),
            (generator, "generator"),
            (functools.partial(Plain(), "x"), "str"),
        ],
        ids=["function", "lambda", "None", "lambda None", "generator", "object"],
    )
    async def test_a_sync_function_is_refused_when_it_is_called(self, world: World, engine: Engine, fn: Any, returned: str) -> None:
        with pytest.raises(
            TypeError, match=rf"returned {returned}, which cannot be awaited; make it async, or run it in a thread"
        ) as caught:
            await engine.call(fn)

        assert [] == world.events
        assert (None, True) == (caught.value.__cause__, caught.value.__suppress_context__)

    async def test_what_it_returned_does_not_show_in_the_message(self, engine: Engine) -> None:
        """D17."""
        with pytest.raises(TypeError) as caught:
            await engine.call(plain, "cm_live_marker")  # type: ignore[arg-type]  # the mistake
        assert "cm_live_marker" not in str(caught.value)

    async def test_a_coroutine_object_is_refused_and_closed(self, world: World, engine: Engine) -> None:
        called: Any = function("once")
        with pytest.raises(TypeError, match=r"got a coroutine object, which can run only once; pass the function: engine\.call\(fn, arg\)"):
            await engine.call(called)
        decorated: Any = function("once")
        with pytest.raises(TypeError, match=r"got a coroutine object, which can run only once; decorate or pass the function itself"):
            engine(decorated)

        assert [inspect.CORO_CLOSED] * 2 == [inspect.getcoroutinestate(one) for one in (called, decorated)]
        assert [] == world.events

    @pytest.mark.parametrize("fn", [5, "name", None, object()], ids=lambda value: type(value).__name__)
    async def test_what_is_not_even_callable_is_refused(self, engine: Engine, fn: Any) -> None:
        with pytest.raises(TypeError, match="expected an async callable, got"):
            engine(fn)
        with pytest.raises(TypeError, match="not callable"):
            await engine.call(fn)

    async def test_wrong_arguments_are_the_callers_own_type_error(self, engine: Engine) -> None:
        with pytest.raises(TypeError, match=r"function\(\) missing 1 required positional argument: 'value'"):
            await engine.call(function)  # type: ignore[call-arg]  # the mistake

    @pytest.mark.parametrize("message", ["object NoneType can't be used in 'await' expression", "mine"])
    async def test_a_type_error_out_of_the_operation_is_the_operations(self, engine: Engine, message: str) -> None:
        mine = TypeError(message)

        async def fetch() -> None:
            raise mine

        def at_once() -> Awaitable[None]:
            raise mine

        for fn in (fetch, at_once):
            with pytest.raises(TypeError) as caught:
                await engine.call(fn)
            assert mine is caught.value

    async def test_an_operation_that_awaits_a_wrong_thing_itself_keeps_its_own_error(self, engine: Engine) -> None:
        async def fetch() -> None:
            await nothing()  # type: ignore[misc, func-returns-value]  # the mistake

        with pytest.raises(TypeError, match="await") as caught:
            await engine.call(fetch)
        assert "make it async" not in str(caught.value)


async def test_a_call_that_nobody_awaits_is_told_by_the_interpreter_and_by_nobody_else() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        Engine().call(function, "never")  # type: ignore[unused-coroutine]  # the mistake

    assert [RuntimeWarning] == [warning.category for warning in said]


class Holder:
    def __init__(self, key: str) -> None:
        self.key = key

    async def send(self) -> None: ...


@attrs.define
class Slotted:
    key: str


class OneSlot:
    __slots__ = "key"  # noqa: PLC0205 - allowed, and so met

    def __init__(self, key: str) -> None:
        self.key = key


def around(key: str) -> Callable[[], Awaitable[str]]:
    async def inside() -> str:
        return await function(key)

    return inside


class TestMentions:
    """What the caller gave is told from what was made up under way: only the former is the same in the next attempt."""

    @pytest.mark.parametrize(
        ("fn", "args", "kwargs"),
        [
            (function, ("KEY",), {}),
            (function, (b"KEY",), {}),
            (function, ({"headers": {"Idempotency-Key": "KEY"}},), {}),
            (function, (), {"headers": [("Idempotency-Key", "KEY")]}),
            (functools.partial(function, "KEY"), (), {}),
            (functools.partial(function, value="KEY"), (), {}),
            (lambda: function("KEY"), (), {}),
            (lambda key="KEY": function(key), (), {}),
            (around("KEY"), (), {}),
            (Holder("KEY").send, (), {}),
            (function, (Holder("KEY"),), {}),
            (function, (Slotted("KEY"),), {}),
            (function, (OneSlot("KEY"),), {}),
        ],
    )
    def test_what_was_given_is_found(self, fn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert mentions(fn, args, kwargs, "KEY")
        assert not mentions(fn, args, kwargs, "other")

    def test_what_an_object_holds_further_in_was_not(self) -> None:
        """There an SDK keeps what it has made up."""
        holder = Holder("KEY")
        holder.inner = Holder("made up")  # type: ignore[attr-defined]

        assert not mentions(function, (holder,), {}, "made up")

    def test_what_goes_round_in_circles_or_on_for_ever_comes_to_an_end(self) -> None:
        circle: list[Any] = [1]
        circle.append(circle)

        assert not mentions(function, (circle, [0] * 10_000), {}, "KEY")

    def test_what_may_not_be_asked_mentions_nothing(self) -> None:
        """A proxy outside of its context raises at every question."""

        class Proxy:
            def __getattribute__(self, name: str) -> Any:
                raise RuntimeError("no context")

        assert not mentions(function, (Proxy(), "KEY"), {}, "KEY")

    def test_a_text_that_is_no_unicode_is_looked_for_all_the_same(self) -> None:
        """As headers decoded with surrogates are."""
        assert mentions(function, ("\udcff",), {}, "\udcff")
