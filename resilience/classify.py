"""
From a signal to a verdict, by a table.

A table is data.  Its entries are looked up from the most specific to the least: code under a status, words of the message under a status,
code, words of the message, kind, the peer's own word, status, status class, exception type, default.  The verdict names the entry that made
it.  The peer's own "do not repeat" also ends what code, message or kind would have repeated, and where a protocol lets its servers have the
last word, the peer's own word comes first of all.

A code may be given as a pattern, for families that share a form: ``"08*"`` is PostgreSQL's class of connection exceptions.  A code in full
comes before any pattern, and of the patterns the longest that matches.
"""

from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import attrs

from resilience import settings
from resilience.errors import AttemptTimedOut, ResilienceError, StreamFailed
from resilience.outcome import Action, Blame, Signal, Verdict
from resilience.reading.peek import names as names_of

__all__ = ["CodeKey", "ErrorKey", "MessageKey", "Rules", "StatusKey"]

CodeKey = str | tuple[int, str]
"""
An error code, or a pattern of codes in which ``*`` stands for any characters; (status, code) where the same code means different things
under different statuses.
"""
MessageKey = str | tuple[int, str]
"""Words of the peer's message, in any case, for peers that say it nowhere else; or (status, words)."""
StatusKey = int | str
"""A status, or a whole class of them: ``"5xx"``."""
ErrorKey = type[BaseException] | str
"""An exception class, or ``"package.ClassName"`` for one that is not to be imported."""

_CLASSES = frozenset(f"{hundreds}xx" for hundreds in range(1, 6))
_UNNAMED = attrs.fields(Verdict).rule.default
_MOST = 1024  # verdicts kept: codes and classes that are made as a program goes must not pile up
# Of the leaves of an exception group the gravest decides.
_GRAVITY = {Action.FAIL_FAST: 0, Action.REFRESH_TOKEN: 1, Action.RETRY: 2}


def _fail(field: str, key: object, why: str) -> ValueError:
    return ValueError(f"{field}[{key!r}]: {why}")


def _checked_entry(field: str, key: object, entry: object) -> Verdict:
    if isinstance(entry, str | Action):
        try:
            entry = Verdict(entry if isinstance(entry, Action) else Action(entry))
        except ValueError:
            known = ", ".join(repr(action.value) for action in Action)
            raise _fail(field, key, f"unknown action {entry!r}; known are {known}") from None
    if not isinstance(entry, Verdict) or not isinstance(entry.action, Action):
        raise _fail(field, key, f"expected retry(), fail_fast(), refresh_token() or an action, got {entry!r}")
    return entry


def _status_key(key: object) -> StatusKey:
    """A status, or a class of them in lower case."""
    if isinstance(key, str) and key.lower() in _CLASSES:
        return key.lower()
    return _status("by_status", key)


def _status(field: str, key: object) -> int:
    if isinstance(key, bool) or not isinstance(key, int) or not 100 <= key <= 599:  # noqa: PLR2004 - the range of HTTP statuses
        raise _fail(field, key, "no status; expected 100 to 599, or a class such as '5xx'")
    return int(key)


def _code_key(key: object) -> CodeKey:
    return _text_or_pair("by_code", key, "code")


def _message_key(key: object) -> MessageKey:
    """Words in lower case."""
    found = _text_or_pair("by_message", key, "words of the message")
    return found.lower() if isinstance(found, str) else (found[0], found[1].lower())


def _text_or_pair(field: str, key: object, what: str) -> str | tuple[int, str]:
    if isinstance(key, str) and key.strip(" *"):
        return key
    if issubclass(type(key), tuple):
        parts = cast("tuple[object, ...]", key)
        if len(parts) == 2 and isinstance(parts[1], str) and parts[1].strip(" *"):  # noqa: PLR2004 - a pair
            return _status(field, parts[0]), parts[1]
    raise _fail(field, key, f"expected a {what}, or (status, {what})" if what == "code" else f"expected {what}, or (status, {what})")


def _kind_key(key: object) -> str:
    if isinstance(key, str) and key:
        return key
    raise _fail("by_kind", key, "expected the name of a family of errors")


def _error_key(key: object) -> ErrorKey:
    if isinstance(key, str) and "." in key.strip("."):
        return key
    kind = cast("type[object]", key) if isinstance(key, type) else object
    if issubclass(kind, BaseException):
        if not issubclass(kind, Exception):
            raise _fail("by_error", key, "cancellation and its kin are no outcome, and meet no rule")
        return kind
    raise _fail("by_error", key, "expected an exception class or 'package.ClassName'")


def _names(kind: type[BaseException], family: type[BaseException] = BaseException) -> Iterable[ErrorKey]:
    """The keys under which a class and its bases of one family may stand, nearest first."""
    for base in kind.__mro__:
        if issubclass(base, family):
            if type(base).__hash__ is not None:  # a metaclass that compares its classes in its own way has left them without one
                yield base
            yield from names_of(base)[:1]


_TABLES: Mapping[str, tuple[str, Callable[[object], Any]]] = {
    "by_code": ("code", _code_key),
    "by_message": ("message", _message_key),
    "by_kind": ("kind", _kind_key),
    "by_status": ("status", _status_key),
    "by_error": ("error", _error_key),
}


class _Checked(dict[Any, Verdict]):
    """A table that was checked already: dialects are made while `resilience` is imported, which is to be cheap."""

    __slots__ = ()


def _checked_table(name: str, field: str, table: object, *, anew: bool) -> _Checked:
    """The table with keys in their one form and entries that name their rule; *anew* also where they name one already."""
    if isinstance(table, _Checked) and not anew:
        return table
    if not isinstance(table, Mapping):
        raise ValueError(f"{field}: expected a mapping to verdicts, got {table!r}")  # noqa: TRY004 - one kind of error for one kind of mistake
    word, key_of = _TABLES[field]
    checked = _Checked()
    for key, entry in cast("Mapping[object, object]", table).items():
        verdict = _checked_entry(field, key, entry)
        if anew or verdict.rule == _UNNAMED:
            # By name it would be `attrs.evolve`, which takes twice as long, for 76 entries in a program that knows HTTP only.
            verdict = Verdict(verdict.action, f"{name}: {word} {_shown(key)}", verdict.attempts, verdict.throttled, verdict.blames)
        checked[key_of(key)] = verdict
    return checked


def _parted(key: CodeKey) -> tuple[int | None, str]:
    """The status and the text of a key; no status where it has none."""
    return key if isinstance(key, tuple) else (None, key)


_Pattern = tuple[re.Pattern[str], int | None, Verdict]


def _patterns(table: Table) -> tuple[_Pattern, ...]:
    """The keys of *table* that stand for many codes, the most specific first: those under a status, then the longest."""
    found: list[tuple[tuple[bool, int], _Pattern]] = []
    for key, verdict in table.items():
        under, code = _parted(key)
        if "*" in code:
            pattern = re.compile(".*".join(map(re.escape, code.split("*"))))
            found.append(((under is None, -len(code)), (pattern, under, verdict)))
    return tuple(pattern for _, pattern in sorted(found, key=lambda one: one[0]))


_Phrase = tuple[MessageKey, int | None, str]


def _phrases(table: Table) -> tuple[_Phrase, ...]:
    """The keys of *table* with their parts, the most specific first: those under a status, then the longest."""
    return tuple(sorted(((key, *_parted(key)) for key in table), key=lambda phrase: (phrase[1] is None, -len(phrase[2]))))


def _checked_default(name: str, entry: object, *, anew: bool) -> Verdict:
    verdict = _checked_entry("default", "default", entry)
    return attrs.evolve(verdict, rule=f"{name}: default") if anew or verdict.rule == _UNNAMED else verdict


def _dialect(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:  # noqa: ARG001 - a validator's shape
    if not isinstance(value, str) or not value:
        raise ValueError(f"name: expected the dialect's name, got {value!r}")


def _plain_function(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:  # noqa: ARG001 - a validator's shape
    # Classifying is pure and must not wait: what has to be awaited belongs into the operation.
    if value is not None and (not callable(value) or inspect.iscoroutinefunction(value)):
        raise ValueError(f"{attribute.name}: expected a plain function, not an async one, got {value!r}")


Table = Mapping[Any, Verdict]
Reader = Callable[[object], Signal | None]


@attrs.frozen(eq=False, repr=False)
class Rules:
    """
    A dialect: what each failure of one API calls for.

    Build one from another with `extend`; the constructor makes one that stands on nothing.  The same rules may serve any number of engines.

    Args:
        name: The dialect's name, as verdicts and logs show it.
        by_code: Error code, pattern of codes, or (status, code), to entry.
        by_message: Words of the peer's message, or (status, words), to entry.
        by_kind: Family of error to entry.
        by_status: Status, or status class such as ``"5xx"``, to entry.
        by_error: Exception class, or its ``"package.ClassName"``, to entry; bases match too, the nearest wins.
        default: For what nothing else matches.
        by_result: Reads a returned value that does not look like a response: a `Signal` if it is a failure, else None.
        by_item: Reads an item of a stream: a `Signal` if it reports a failure (an error event), else None.
        creates_nothing: Whether a request, given method and path, may be repeated although its method is not idempotent.
        word_first: Whether the peer's own word on repeating comes before all that the tables say, and not only before the statuses.

    Raises:
        ValueError: An unknown action, a status that is none, a key of the wrong form; the message names field, key and value.
    """

    name: str = attrs.field(validator=_dialect)
    by_code: Table = attrs.field(factory=_Checked)
    by_message: Table = attrs.field(factory=_Checked)
    by_kind: Table = attrs.field(factory=_Checked)
    by_status: Table = attrs.field(factory=_Checked)
    by_error: Table = attrs.field(factory=_Checked)
    default: Verdict = attrs.field(default=Verdict(Action.FAIL_FAST, rule="default", blames=Blame.CALLER))
    by_result: Reader | None = attrs.field(default=None, validator=_plain_function)
    by_item: Reader | None = attrs.field(default=None, validator=_plain_function)
    creates_nothing: Callable[[str, str], bool] | None = attrs.field(default=None, validator=_plain_function)
    word_first: bool = attrs.field(default=False, validator=settings.flag)
    _patterns: tuple[_Pattern, ...] = attrs.field(init=False, default=())
    _phrases: tuple[_Phrase, ...] = attrs.field(init=False, default=())
    _known: dict[tuple[object, ...], Verdict] = attrs.field(init=False, factory=dict[tuple[object, ...], Verdict])

    def __attrs_post_init__(self) -> None:
        for field in _TABLES:
            object.__setattr__(self, field, _checked_table(self.name, field, getattr(self, field), anew=False))
        object.__setattr__(self, "_patterns", _patterns(self.by_code))
        object.__setattr__(self, "_phrases", _phrases(self.by_message))
        object.__setattr__(self, "default", _checked_default(self.name, self.default, anew=False))

    def extend(
        self,
        name: str,
        *,
        by_code: Mapping[CodeKey, Verdict | Action | str] | None = None,
        by_message: Mapping[MessageKey, Verdict | Action | str] | None = None,
        by_kind: Mapping[str, Verdict | Action | str] | None = None,
        by_status: Mapping[StatusKey, Verdict | Action | str] | None = None,
        by_error: Mapping[ErrorKey, Verdict | Action | str] | None = None,
        default: Verdict | Action | str | None = None,
        by_result: Reader | None = None,
        by_item: Reader | None = None,
        creates_nothing: Callable[[str, str], bool] | None = None,
        word_first: bool | None = None,
    ) -> Rules:
        """
        These rules with entries added or replaced; what is not named stays as it is.

        An entry is what `retry`, `fail_fast` or `refresh_token` returns, or just an action or its name.

        Raises:
            ValueError: As for the class.
        """
        given = {"by_code": by_code, "by_message": by_message, "by_kind": by_kind, "by_status": by_status, "by_error": by_error}
        tables: dict[str, Any] = {
            field: _Checked(getattr(self, field) | _checked_table(name, field, {} if table is None else table, anew=True))
            for field, table in given.items()
        }
        return Rules(
            name=name,
            default=self.default if default is None else _checked_default(name, default, anew=True),
            by_result=by_result or self.by_result,
            by_item=by_item or self.by_item,
            creates_nothing=creates_nothing or self.creates_nothing,
            word_first=self.word_first if word_first is None else word_first,
            **tables,
        )

    def classify(self, signal: Signal) -> Verdict:
        """What a failure with this *signal* calls for.  Pure: equal signals meet equal verdicts."""
        if signal.leaves:
            return self._judge(signal)
        message, status = signal.message, signal.status
        phrase = None if message is None or not self._phrases else self._phrase_in(message, status)
        # All that a verdict depends on.  To look it up anew takes one or two microseconds, and what failed once tends to fail again.
        said = (signal.raised, status, signal.code, signal.kind, signal.should_retry, phrase)
        try:
            return self._known[said]
        except Exception:  # noqa: BLE001 - not met before; or a class that hashes and compares as it likes
            verdict = self._judge(signal)
        if len(self._known) >= _MOST:
            self._known.clear()
        with contextlib.suppress(Exception):  # as above
            self._known[said] = verdict
        return verdict

    def _judge(self, signal: Signal) -> Verdict:
        if len(signal.leaves) > 1:
            return min((self.classify(leaf) for leaf in signal.leaves), key=lambda verdict: _GRAVITY[verdict.action])
        own = self._own(signal)
        if own is not None:
            return own
        if self.word_first and signal.should_retry is not None:
            return self._told(signal, attrs.evolve(signal, should_retry=None))
        status = signal.status
        found = self._by_words(signal)
        if found is None and signal.should_retry is not None:
            found = self._told(signal, attrs.evolve(signal, should_retry=None, code=None, kind=None, message=None))
        elif found is not None and found.action is Action.RETRY and signal.should_retry is False:
            # The peer knows more about this one failure than the table about all that share its code.
            found = self._told(signal, attrs.evolve(signal, should_retry=None))
        if found is None and status is not None:
            found = self.by_status.get(status) or self.by_status.get(f"{status // 100}xx")
        if found is None and signal.raised is not None:
            found = self._by_class(signal.raised)
        if found is None and signal.leaves:
            return self.classify(signal.leaves[0])
        return self.default if found is None else found

    def _own(self, signal: Signal) -> Verdict | None:
        """Our own errors are classified by what they say, never as the `TimeoutError` or the client's error that some of them also are."""
        raised = signal.raised
        if raised is None or not issubclass(raised, ResilienceError) or issubclass(raised, StreamFailed):
            return None  # an error event is the peer's word, whoever raises it
        found = next((self.by_error[key] for key in _names(raised, ResilienceError) if key in self.by_error), None)
        if found is not None:
            return found
        if issubclass(raised, AttemptTimedOut):
            return _TIMED_OUT
        return _OWN

    def _by_words(self, signal: Signal) -> Verdict | None:
        """The entry for the code, the message or the kind."""
        code, status = signal.code, signal.status
        found = None if code is None else self.by_code.get((status, code))
        key = None if found is not None or signal.message is None else self._phrase_in(signal.message, status)
        phrase = None if key is None else self.by_message[key]
        if isinstance(key, tuple):  # under a status
            found = phrase
        if found is None and code is not None:
            found = self.by_code.get(code) or self._by_pattern(status, code)
        if found is None:
            found = phrase
        if found is None and signal.kind is not None:
            found = self.by_kind.get(signal.kind)
        return found

    def _told(self, signal: Signal, rest: Signal) -> Verdict:
        """The peer's own word, which keeps what the table knows of the *rest*: the cap, the schedule, the blame."""
        below = self.classify(rest)
        if below.action is Action.REFRESH_TOKEN:
            return below  # the word is about repeating the same request, and this will be another
        action = Action.RETRY if signal.should_retry else Action.FAIL_FAST
        cap = below.attempts if below.action is action else None
        return attrs.evolve(below, action=action, attempts=cap, rule=f"{self.name}: the peer's own word")

    def _by_pattern(self, status: int | None, code: str) -> Verdict | None:
        fits = (verdict for pattern, under, verdict in self._patterns if under in {None, status} and pattern.fullmatch(code))
        return next(fits, None)

    def _phrase_in(self, message: str, status: int | None) -> MessageKey | None:
        """The key of the entry whose words are in *message*, one under a status before one without, then the longest."""
        lowered = message.lower()
        for key, under, words in self._phrases:
            if words in lowered and (under is None or under == status):
                return key
        return None

    def _by_class(self, raised: type[BaseException]) -> Verdict | None:
        return next((self.by_error[key] for key in _names(raised) if key in self.by_error), None)

    def __repr__(self) -> str:
        tables = ((self.by_code, "codes"), (self.by_message, "messages"), (self.by_kind, "kinds"))
        sizes = [f"{len(table)} {word}" for table, word in tables if table or word == "codes"]
        sizes += [f"{len(self.by_status)} statuses", f"{len(self.by_error)} errors"]
        more = [name for name in ("by_result", "by_item", "creates_nothing", "word_first") if getattr(self, name)]
        return f"<Rules {self.name}: {', '.join(sizes + more)}>"


_TIMED_OUT = Verdict(Action.RETRY, rule="resilience: attempt timed out")
_OWN = Verdict(Action.FAIL_FAST, rule="resilience: refused or out of time", blames=Blame.CALLER)


def _shown(key: object) -> str:
    if isinstance(key, tuple):
        return " ".join(str(part) for part in cast("tuple[object, ...]", key))
    return key.__qualname__ if isinstance(key, type) else str(key)
