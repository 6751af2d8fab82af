"""Which request a failure is about: D4."""

from __future__ import annotations

import functools
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import httpx
import httpx2
import openai
import pytest

from resilience.reading.request import RequestFacts, request_meant, request_of

URL = "https://user:secret@api.example.com:8443/v1/pay%20now?token=secret#top"


def request(kind: Any = httpx2, method: str = "POST", url: str = URL, **headers: str) -> Any:
    return kind.Request(method, url, headers={name.replace("_", "-"): value for name, value in headers.items()})


def failed(**members: Any) -> Exception:
    error = Exception()
    error.__dict__.update(members)
    return error


@pytest.mark.parametrize("kind", [httpx, httpx2])
def test_a_response_and_an_error_know_their_request(kind: Any) -> None:
    sent = request(kind, idempotency_key="k1")
    response = kind.Response(503, request=sent)

    for outcome in (response, kind.ReadTimeout("x", request=sent), kind.HTTPStatusError("x", request=sent, response=response)):
        facts = request_of(outcome)

        assert RequestFacts("POST", "/v1/pay%20now") == facts
        assert facts is not None
        assert "k1" == facts.header("Idempotency-Key")
        assert facts.header("x-other") is None


@pytest.mark.parametrize("kind", [httpx, httpx2])
def test_a_request_that_was_never_set_is_unknown(kind: Any) -> None:
    """httpx raises RuntimeError when asked for it."""
    assert request_of(kind.Response(503)) is None
    assert request_of(kind.ReadTimeout("x")) is None


def test_an_sdks_error_knows_its_request() -> None:
    error = openai.APIConnectionError(request=request(url="https://api.openai.com/v1/chat/completions"))

    assert RequestFacts("POST", "/v1/chat/completions") == request_of(error)


def test_the_request_of_a_cause_is_the_request() -> None:
    """A wrapper's author forgot it, and a timed-out payment must not pass for harmless because of that."""
    error = ValueError()
    error.__cause__ = KeyError()
    error.__cause__.__cause__ = httpx2.ReadTimeout("x", request=request())

    assert RequestFacts("POST", "/v1/pay%20now") == request_of(error)


def test_after_redirects_it_is_the_first_request() -> None:
    """A repeat of the call sends that one again, not the GET which 303 made of it."""
    hop = httpx2.Response(303, request=request())
    last = httpx2.Response(404, request=request(method="GET"), history=[hop])

    assert "POST" == getattr(request_of(last), "method", None)
    assert "POST" == getattr(request_of(httpx2.HTTPStatusError("x", request=last.request, response=last)), "method", None)


def test_aiohttps_requests_are_found_under_another_name() -> None:
    info = SimpleNamespace(method="patch", url="https://example.com", headers=[("Idempotency-Key", "k1")])
    first = SimpleNamespace(method="POST", url="/pay", headers={})

    facts = request_of(failed(request_info=info, history=()))

    assert RequestFacts("PATCH", "/") == facts
    assert facts is not None
    assert "k1" == facts.header("idempotency-key")
    assert RequestFacts("POST", "/pay") == request_of(failed(request_info=info, history=(SimpleNamespace(request_info=first),)))


def test_of_a_group_the_request_that_may_have_had_effects_counts() -> None:
    """D39."""
    leaves = [ValueError(), *(httpx2.ReadTimeout("x", request=request(method=method)) for method in ("GET", "POST", "HEAD"))]

    assert "POST" == getattr(request_of(ExceptionGroup("", leaves)), "method", None)
    assert "GET" == getattr(request_of(ExceptionGroup("", [*leaves[:2], leaves[3]])), "method", None)
    assert request_of(ExceptionGroup("", leaves[:1])) is None


def test_a_cycle_of_causes_ends() -> None:
    """B53."""
    error = ValueError()
    error.__cause__ = error

    assert request_of(error) is None


@pytest.mark.parametrize("method", [None, 5, b"POST", "", "PO ST", "POST\r\nX: y", "\u017fET", MagicMock()])
def test_what_is_no_method_is_no_request(method: Any) -> None:
    assert request_of(failed(request=SimpleNamespace(method=method, url=URL, headers={}))) is None


class Unprintable:
    def __str__(self) -> str:
        raise OSError


@pytest.mark.parametrize("url", [None, 5, "", "nowhere", "?a=b", "x" * 10_000, "/" * 10_000, Unprintable()])
def test_what_is_no_url_has_no_path(url: Any) -> None:
    assert RequestFacts("GET") == request_of(failed(request=SimpleNamespace(method="get", url=url)))


def test_headers_that_are_none_have_no_values() -> None:
    facts = request_of(failed(request=SimpleNamespace(method="get", headers=MagicMock())))

    assert facts is not None
    assert facts.headers is None
    assert facts.header("x") is None


def test_values_that_are_no_responses_are_not_asked() -> None:
    assert request_of(SimpleNamespace(request=request())) is None
    assert request_of(MagicMock()) is None
    assert request_of(None) is None


def test_neither_origin_nor_query_nor_headers_are_shown() -> None:
    """D17."""
    shown = repr(request_of(httpx2.ReadTimeout("x", request=request(authorization="secret"))))

    assert "secret" not in shown
    assert "example" not in shown


class Client:
    """Methods as clients have them."""

    async def post(self, *args: Any, **kwargs: Any) -> None: ...

    async def get(self, *args: Any, **kwargs: Any) -> None: ...

    async def request(self, *args: Any, **kwargs: Any) -> None: ...

    async def send(self, *args: Any, **kwargs: Any) -> None: ...

    async def fetch(self, *args: Any, **kwargs: Any) -> None: ...


CLIENT = Client()
PAY = RequestFacts("POST", "/v1/pay%20now")


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "facts"),
    [
        (CLIENT.post, (URL,), {}, PAY),
        (CLIENT.post, (), {"url": URL}, PAY),
        (CLIENT.post, (), {}, RequestFacts("POST")),
        (CLIENT.post, (object(),), {}, RequestFacts("POST")),
        (CLIENT.get, ("/bots",), {}, RequestFacts("GET", "/bots")),
        (CLIENT.request, ("post", URL), {}, PAY),
        (CLIENT.request, ("POST",), {"url": URL}, PAY),
        (CLIENT.request, (URL,), {"method": "POST"}, PAY),
        (CLIENT.request, (), {"method": "POST", "url": URL}, PAY),
        (CLIENT.request, (), {}, None),
        (CLIENT.request, ("PROPFIND", URL), {}, None),
        (CLIENT.request, (7, URL), {}, None),
        (CLIENT.send, (request(),), {}, PAY),
        (CLIENT.send, (), {"request": request()}, PAY),
        (CLIENT.send, ("a letter",), {}, None),
        (CLIENT.send, (), {}, None),
        (functools.partial(functools.partial(CLIENT.request, "POST"), URL), (), {}, PAY),
        (functools.partial(CLIENT.request, method="GET"), (), {"method": "POST", "url": URL}, PAY),
        (CLIENT.fetch, ("POST", URL), {}, None),
        (CLIENT, ("POST", URL), {}, None),
        (None, (), {}, None),
        (MagicMock(), (), {}, None),
    ],
)
def test_what_a_clients_method_is_asked_for_is_known_by_its_name(fn: Any, args: Any, kwargs: Any, facts: RequestFacts | None) -> None:
    """D4: a cut attempt leaves no error that knows its request."""
    assert facts == request_meant(fn, args, kwargs)


def test_the_headers_that_a_clients_method_is_given_are_those_of_its_request() -> None:
    keyed = request_meant(CLIENT.post, (URL,), {"headers": {"idempotency-key": "k"}})
    bare = request_meant(CLIENT.post, (URL,), {"headers": None})

    assert keyed is not None
    assert bare is not None
    assert ("k", None) == (keyed.header("Idempotency-Key"), bare.header("Idempotency-Key"))
