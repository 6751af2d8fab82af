"""Requests are copied, and their headers looked at, as the client keeps them; or through what is public, where it is not known how."""

from __future__ import annotations

import types
from typing import Any

import pytest

from resilience.adapters import _copies, _httpx

ANOTHER = {"trace": "t"}


@pytest.fixture(params=["known", "unknown"])
def http(request: pytest.FixtureRequest, lib: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The library, taken for one that is known, and for one that is not."""
    if request.param == "unknown":
        monkeypatch.setattr(_copies, "_OF_A_REQUEST", set[str]())
        monkeypatch.setattr(_copies, "_keeps_rows", lambda http: False)
    return lib.http


# What is known.


def test_the_libraries_are_known(lib: Any) -> None:
    """Else the quick way would be tested nowhere, and nobody would notice that it is not taken."""
    assert _copies.finder(lib.http) is _copies._has_row
    assert _copies.setter(lib.http) is _copies._set_row
    assert _copies.copier(lib.http).__qualname__.startswith(_copies._attribute_by_attribute.__name__)


def test_one_whose_headers_are_kept_otherwise_is_not(lib: Any) -> None:
    class Headers(lib.http.Headers):  # type: ignore[misc]
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            self._list: list[Any] = [(lower, raw, value) for raw, lower, value in self._list]

    other = types.SimpleNamespace(Headers=Headers)

    assert _copies.finder(other) is _copies._has_name
    assert _copies.setter(other) is _copies._set_item
    assert _copies.finder(types.SimpleNamespace(Headers=dict)) is _copies._has_name


def test_nor_is_one_whose_requests_have_an_attribute_more(lib: Any) -> None:
    class Request(lib.http.Request):  # type: ignore[misc]
        def __init__(self, *given: Any, **settings: Any) -> None:
            self.born = True
            super().__init__(*given, **settings)

    other = types.SimpleNamespace(Request=Request, Headers=lib.http.Headers, ByteStream=lib.http.ByteStream)
    copy = _copies.copier(other)(Request("GET", "http://a.example"), ANOTHER)

    assert copy.born


# Requests.


def test_a_copy_is_the_same_request(http: Any) -> None:
    request = http.Request("POST", "http://a.example/b?c", headers={"X-A": "1"}, content=b"body", extensions={"timeout": {}})
    copy = _copies.copier(http)(request, ANOTHER)

    assert http.Request is type(copy)
    assert ("POST", "http://a.example/b?c") == (copy.method, str(copy.url))
    assert request.headers.raw == copy.headers.raw
    assert b"body" == copy.content
    assert request.stream is copy.stream
    assert ANOTHER == copy.extensions


def test_what_is_done_to_a_copy_is_not_done_to_the_request(http: Any) -> None:
    request = http.Request("GET", "http://a.example", headers={"X-A": "1"})
    copy = _copies.copier(http)(request, ANOTHER)
    copy.headers["X-A"] = "2"
    copy.headers["X-B"] = "3"
    copy.method = "PUT"

    assert ["1", None, "GET", {}] == [request.headers.get("X-A"), request.headers.get("X-B"), request.method, request.extensions]


def test_a_copy_has_its_content_even_where_nobody_has_looked_at_it_yet(http: Any) -> None:
    """Redirects make such requests; hooks and stand-in transports look at ``request.content``."""
    request = http.Request("POST", "http://a.example", stream=http.ByteStream(b"body"))
    copy = _copies.copier(http)(request, ANOTHER)

    assert b"body" == copy.content


def test_a_body_that_is_not_in_memory_is_not_read(lib: Any, http: Any) -> None:
    async def parts() -> Any:
        yield b"part"

    request = http.Request("POST", "http://a.example", content=parts())
    copy = _copies.copier(http)(request, ANOTHER)

    assert request.stream is copy.stream
    with pytest.raises(lib.http.RequestNotRead):
        _ = copy.content


# Headers.


@pytest.mark.parametrize(("wanted", "there"), [(b"x-a", True), (b"x-b", True), (b"x-c", False), (b"x", False), (b"1", False)])
def test_a_header_is_found_whatever_its_case(http: Any, wanted: bytes, there: bool) -> None:
    headers = http.Headers([("X-A", "1"), ("x-b", "2"), ("X-Umlaut", "ü".encode("latin-1"))])

    assert there == _copies.finder(http)(headers, wanted)


def test_a_header_is_set_that_was_not_there(http: Any) -> None:
    headers = http.Headers({"X-A": "1"})
    _copies.setter(http)(headers, "Authorization", b"authorization", "Bearer t")

    assert [(b"X-A", b"1"), (b"Authorization", b"Bearer t")] == headers.raw


def test_a_header_that_is_set_takes_the_place_of_all_of_its_name(http: Any) -> None:
    headers = http.Headers([("authorization", "Basic a"), ("X-A", "1"), ("Authorization", "Basic b")])
    _copies.setter(http)(headers, "Authorization", b"authorization", "Bearer t")

    assert {(b"X-A", b"1"), (b"Authorization", b"Bearer t")} == set(headers.raw)
    assert 2 == len(headers.raw)


# Origins.


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example",
        "https://A.Example:443/b",
        "https://a.example:8443",
        "http://[::1]",
        "http://[::1]:8000/b",
        "http://user:word@a.example:80",
        "http://bücher.example:81",
        "http://127.0.0.1:8000",
    ],
)
def test_an_origin_is_what_the_client_makes_of_scheme_host_and_port(lib: Any, url: str) -> None:
    parsed = lib.http.URL(url)

    assert f"{parsed.scheme}://{parsed.netloc.decode()}" == _httpx._origin(parsed)
