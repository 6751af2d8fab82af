"""From a question to an answer, by the code that engines use."""

from __future__ import annotations

import re
import sys
import time
from typing import Any, NoReturn, TypeAlias

import attrs

from resilience.adapters._bodies import decoded
from resilience.call import Plan, begin
from resilience.classify import Rules
from resilience.cli.arguments import Question, UsageError
from resilience.cli.dialects import said
from resilience.env import Env
from resilience.outcome import Action, Failure, Phase, Signal, Verdict
from resilience.reading.headers import header
from resilience.reading.hints import retry_after
from resilience.reading.shape import phase_of, read
from resilience.repeating import repeatable

__all__ = ["explain"]

_REDIRECTS = range(300, 400)
_SUCCESS = 400  # RFC 9110, 15: below it the request was fulfilled, or is to be made elsewhere


Headers: TypeAlias = list[tuple[str, str]]


@attrs.frozen
class Response:
    """A response as it was written down."""

    status_code: int
    headers: Headers
    content: bytes
    history: list[Response] = attrs.field(factory=list["Response"])  # redirects, which tell how far the first request got


def explain(rules: Rules, question: Question) -> dict[str, object]:
    """
    What would happen.

    Raises:
        UsageError: The response cannot be read as one.
    """
    signal = _signal(question) if question.response is None else _of_response(rules, _response(question.response))
    if signal is None:
        return {"action": None, "why": "a success: there is nothing to classify"}
    verdict = rules.classify(signal)
    return {
        **said(verdict),
        "status": signal.status,
        "code": signal.code,
        "kind": signal.kind,
        "retry_after": signal.retry_after,
        "phase": signal.phase.value,
        "should_retry": signal.should_retry,
        "repeated": _repeated(rules, verdict, signal, question),
    }


def _repeated(rules: Rules, verdict: Verdict, signal: Signal, question: Question) -> dict[str, dict[str, object]]:
    """Whether requests would be repeated after this failure: the one asked about, the same with a key, and a GET for comparison."""
    method = question.method
    asked = {method: (method, False), f"{method} with an idempotency key": (method, True), "GET": ("GET", False)}
    return {what: _would(rules, verdict, signal, sent, question.path, keyed=keyed) for what, (sent, keyed) in asked.items()}


def _would(rules: Rules, verdict: Verdict, signal: Signal, method: str, path: str, *, keyed: bool) -> dict[str, object]:
    if verdict.action is Action.FAIL_FAST:
        return {"repeated": False, "why": "repeating cannot cure it"}
    once = "; once, with a new token" if verdict.action is Action.REFRESH_TOKEN else ""
    if signal.phase is not Phase.UNKNOWN:
        sent = "it was never sent" if signal.phase is Phase.NOT_SENT else "the peer did no work"
        return {"repeated": True, "why": f"{sent}{once}"}
    call = begin(Plan(engine=rules.name, env=Env(), rules=rules).but(method=method), _never, (), {}, 0.0)
    call.path, call.key_taken = path, keyed
    if not repeatable(call, Failure(verdict, signal)):
        return {"repeated": False, "why": "it may have done its work, and a repeat might do it again"}
    harmless = "for the peer both are one" if keyed else f"two of this {method} do no more than one"
    return {"repeated": True, "why": f"{harmless}{once}"}


async def _never() -> NoReturn:
    raise AssertionError("nothing is called here")


def _signal(question: Question) -> Signal:
    hint = None if question.retry_after is None else retry_after({"retry-after": question.retry_after}, wall=time.time())
    if question.retry_after is not None and hint is None:
        raise UsageError(f"--retry-after: expected seconds or an HTTP-date, got {question.retry_after!r}")
    native = None if question.status is not None or question.code is None else _native(question.dialect, question.code)
    kind, phase = (None, phase_of(question.status)) if native is None else (native.kind, native.phase)
    return Signal(question.status, question.code, question.kind or kind, question.message, hint, phase)


def _native(dialect: str, code: str) -> Signal | None:
    """A code of a protocol other than HTTP, as its clients' exceptions have it: the protocol may tell how far the attempt got."""
    status = type("StatusCode", (), {"__module__": "grpc", "name": code})
    known: dict[str, tuple[str, str, dict[str, Any]]] = {
        "grpc": ("grpc", "RpcError", {"code": staticmethod(status)}),
        "postgresql": ("asyncpg", "PostgresError", {"sqlstate": code}),
        "redis": ("redis", "ResponseError", {}),
    }
    if dialect not in known:
        return None
    module, name, attributes = known[dialect]
    bases: tuple[type[Exception], ...] = (Exception,)
    if dialect == "redis":
        bases = (type("RedisError", (Exception,), {"__module__": module}),)
    return read(type(name, bases, {"__module__": module, **attributes})(f"{code} as asked"))


def _of_response(rules: Rules, response: Response) -> Signal | None:
    signal = None if rules.by_result is None else rules.by_result(response)
    if signal is None and response.status_code >= _SUCCESS:
        return read(response, wall=time.time())
    return signal


def _response(file: str) -> Response:
    """The response in *file*: a status line, headers, an empty line, a body; of several in a row, as `curl -i -L` prints them, the last."""
    try:
        if file == "-":
            raw = sys.stdin.buffer.read()
        else:
            with open(file, "rb") as opened:  # noqa: PTH123 - a name as the user typed it, in messages too
                raw = opened.read()
    except OSError as error:
        raise UsageError(f"--response: cannot read {file!r}: {error.strerror}") from None
    history: list[Response] = []
    at = 1
    while True:
        response, rest, at = _first_of(raw, file, at)
        if not rest.startswith(b"HTTP/"):
            break
        # An interim response, a proxy's word that there is a tunnel, or a redirect: another comes after it.
        history, raw = [*history, response], rest
    return attrs.evolve(response, history=[one for one in history if one.status_code in _REDIRECTS])


def _first_of(raw: bytes, file: str, at: int) -> tuple[Response, bytes, int]:
    """The first response in *raw*, which begins at line *at*; its body as it came, and the line at which that begins."""
    found = re.search(rb"\r?\n\r?\n", raw)
    head, body = (raw, b"") if found is None else (raw[: found.start()], raw[found.end() :])
    first, *lines = head.decode("latin-1").splitlines() or [""]
    parts = first.split()
    if len(parts) < 2 or not parts[0].startswith("HTTP/") or not parts[1].isdigit() or not 100 <= int(parts[1]) <= 599:  # noqa: PLR2004
        raise UsageError(
            f"--response: {file}, line {at}: expected a status line such as 'HTTP/1.1 429 Too Many Requests', got {first[:80]!r}"
        )
    headers: Headers = []
    for number, line in enumerate(lines, start=at + 1):
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise UsageError(f"--response: {file}, line {number}: expected a header such as 'Retry-After: 3', got {line[:80]!r}")
        headers.append((name, value.strip()))
    return Response(int(parts[1]), headers, decoded(body, header(headers, "content-encoding") or "")), body, at + len(lines) + 2
