"""What counts as an async callable, what it is called, and what to say to those who bring something else."""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

__all__ = ["coroutine_function", "mentions", "operation_name", "refuse_misuse", "refuse_sync", "refuse_unstreamable", "yields"]

F = TypeVar("F", bound=Callable[..., Any])

_MOST = 512  # things that are looked at


def operation_name(fn: object) -> str:
    """What to call a callable in logs: its qualified name, through partials; a callable object's class."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    name = getattr(fn, "__qualname__", None)
    return name if isinstance(name, str) else type(fn).__qualname__


if sys.version_info >= (3, 12):
    coroutine_function = inspect.markcoroutinefunction
else:

    def coroutine_function(fn: F) -> F:
        """
        Have everybody see a function that returns a coroutine as the coroutine function that it stands for.

        Written as one it would cost a coroutine more, each time.  From 3.12 on there is a mark for that; before, people look at the flag.
        """
        code = fn.__code__
        fn.__code__ = code.replace(co_flags=code.co_flags | inspect.CO_COROUTINE)
        return fn


def mentions(fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], text: str) -> bool:
    """
    Whether *text* is something that a call was given, and not something that was made up under way.

    Looked at are the arguments and what lists and mappings among them hold, the function's constants and defaults and the variables around
    it, and the attributes of its object and of other objects, but nothing that those hold in turn: there an SDK keeps what it has made up.
    """
    try:
        return _held_by([*args, *kwargs.values(), fn], text)
    except Exception:  # noqa: BLE001 - objects of the user's own may raise at any question, and then nothing is known
        return False


def _held_by(todo: list[Any], text: str) -> bool:
    data = text.encode(errors="surrogatepass")
    for _ in range(_MOST):
        if not todo:
            return False
        one: Any = todo.pop(0)
        if isinstance(one, str | bytes):
            if one == (text if isinstance(one, str) else data):
                return True
        elif isinstance(one, Mapping):
            todo.extend(itertools.islice(cast("Mapping[object, object]", one).values(), _MOST))
        elif isinstance(one, list | tuple | set | frozenset):
            todo.extend(itertools.islice(cast("Iterable[object]", one), _MOST))
        elif isinstance(one, functools.partial):
            todo += [one.args, one.keywords, one.func]
        elif isinstance(one, types.MethodType):
            todo += [one.__self__, one.__func__]
        elif isinstance(one, types.FunctionType):
            todo += [one.__code__.co_consts, one.__defaults__, one.__kwdefaults__, _around(one), getattr(one, "__wrapped__", None)]
        elif not isinstance(one, type | types.ModuleType):
            todo += [value for value in _attributes(one) if isinstance(value, str | bytes)]
    return False


def _attributes(one: object) -> list[object]:
    """The values of an object's own attributes, those in slots included."""
    slots = [getattr(kind, "__slots__", ()) for kind in type(one).__mro__]
    names = [name for some in slots for name in ((some,) if isinstance(some, str) else some) if name not in {"__dict__", "__weakref__"}]
    return [*getattr(one, "__dict__", {}).values(), *(getattr(one, name, None) for name in names)]


def _around(fn: types.FunctionType) -> list[Any]:
    """The variables of functions around *fn* that it uses, and that have a value."""
    found: list[Any] = []
    for cell in fn.__closure__ or ():
        with contextlib.suppress(ValueError):
            found.append(cell.cell_contents)
    return found


def yields(fn: object) -> bool:
    """
    Whether *fn* gives its result in items: an async generator function, or one annotated as returning an async iterator.

    Not a function made by `contextlib.asynccontextmanager`, and no class: who calls those wants what they make.
    """
    bare: Any = _bare(fn) if callable(fn) else fn
    if isinstance(bare, type) or _makes_manager(bare):
        return False
    if inspect.isasyncgenfunction(bare) or inspect.isasyncgenfunction(getattr(bare, "__call__", None)):  # noqa: B004 - its code is looked at
        return True
    if not isinstance(bare, types.FunctionType) or inspect.iscoroutinefunction(bare):
        return False
    return _annotated(bare).removeprefix("<class '").partition("[")[0].rpartition(".")[2].strip("'> ") in _ITERATORS


def _bare(fn: Any) -> Any:
    """*fn* without the wrappers and partials around it; what makes a context manager of a generator function is no mere wrapper."""
    bare = inspect.unwrap(fn, stop=_makes_manager)
    while isinstance(bare, functools.partial):
        bare = inspect.unwrap(bare.func, stop=_makes_manager)
    return bare


def _makes_manager(fn: Any) -> bool:
    # Its name and module are those of what it wraps.
    around: object = getattr(fn, "__globals__", None)
    return isinstance(around, dict) and cast("dict[str, object]", around).get("__name__") == "contextlib"


def refuse_sync(fn: object) -> None:
    """
    Refuse what plainly is no async callable, when it is decorated rather than when it is first called.

    Raises:
        TypeError: As the name says; a lambda or a plain callable object may return a coroutine and is taken at its word until it is called.
    """
    if inspect.iscoroutine(fn):
        fn.close()
        msg = "got a coroutine object, which can run only once; decorate or pass the function itself"
        raise TypeError(msg)
    if not callable(fn):
        msg = f"expected an async callable, got {fn!r}"
        raise TypeError(msg)
    bare = _bare(fn)
    name = operation_name(fn)
    if _makes_manager(bare):
        raise TypeError(
            f"{name}: makes a context manager; for the items in there use engine.stream({bare.__name__}), for anything else, call it"
        )
    plain = isinstance(bare, types.FunctionType) and bare.__name__ != "<lambda>" and not inspect.iscoroutinefunction(bare)
    if plain and not _says_awaitable(bare):
        raise TypeError(
            f"{name}: is a sync function; make it async, or run it in a thread: engine.call(anyio.to_thread.run_sync, {bare.__name__}); "
            "if it returns an awaitable, annotate it as doing so"
        )


def refuse_unstreamable(fn: object) -> None:
    """
    Refuse what cannot be called to give a stream.

    Raises:
        TypeError: As the name says; a coroutine or an async generator is what the call of a function has led to already.
    """
    if callable(fn):
        return
    if inspect.iscoroutine(fn):
        fn.close()
    once = inspect.iscoroutine(fn) or inspect.isasyncgen(fn)
    what = "what a call of a function has led to, which can run only once" if once else repr(fn)
    raise TypeError(f"engine.stream: got {what}; pass the function: engine.stream(fn, arg), not fn(arg)")


def _says_awaitable(fn: Callable[..., Any]) -> bool:
    """Whether a plain function is annotated as returning something to await, or marked as one that does, as mocks with a spec are."""
    marked = hasattr(fn, "_is_coroutine_mark") or hasattr(fn, "_is_coroutine")
    return marked or any(name in _annotated(fn) for name in _AWAITABLES)


_AWAITABLES = ("Awaitable", "Coroutine", "Future", "Task")
_ITERATORS = ("AsyncIterator", "AsyncGenerator", "AsyncIterable")


def _annotated(fn: Callable[..., Any]) -> str:
    """What the function is annotated as returning."""
    try:
        return str(fn.__annotations__.get("return", ""))
    except Exception:  # noqa: BLE001 - from 3.14 on annotations are evaluated when they are asked for
        return ""


def refuse_misuse(fn: object, operation: str, error: TypeError, brought: object) -> None:
    """
    Tell a mistake in the use of an engine from a `TypeError` of the operation's own.

    Args:
        fn: What was called.
        operation: Its name.
        error: What came of it.
        brought: What it returned to be awaited; None if it did not get so far.

    Raises:
        TypeError: What was called is no async callable.
    """
    if inspect.iscoroutine(fn):
        fn.close()
        msg = f"{operation}: got a coroutine object, which can run only once; pass the function: engine.call(fn, arg), not fn(arg)"
    elif inspect.isasyncgen(brought):
        msg = f"{operation}: is an async generator function; use engine.stream(fn), or decorate it, and take its items with `async for`"
    elif brought is not None and not inspect.isawaitable(brought):
        msg = (
            f"{operation}: returned {type(brought).__name__}, which cannot be awaited; "
            "make it async, or run it in a thread: engine.call(anyio.to_thread.run_sync, fn)"
        )
    elif brought is None and error.__traceback__ is not None and error.__traceback__.tb_next is None and _sync_none(error):
        msg = (
            f"{operation}: returned None, which cannot be awaited; "
            "make it async, or run it in a thread: engine.call(anyio.to_thread.run_sync, fn)"
        )
    else:
        return
    raise TypeError(msg) from None


def _sync_none(error: TypeError) -> bool:
    return "NoneType" in str(error) and "await" in str(error)
