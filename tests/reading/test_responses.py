"""Which returned values are responses: the seventh finding of the design's review, and D28."""

from __future__ import annotations

import functools
import http
import http.client
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Optional
from unittest.mock import MagicMock

import anthropic
import attr
import attrs
import httpcore
import httpx
import httpx2
import openai
import pydantic
import pytest
import starlette.responses

from resilience.reading import responses
from resilience.reading.responses import READERS, first_sight, loaded_body, reader_of, response_status


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test meets every type for the first time."""
    READERS.clear()
    yield
    READERS.clear()


def made_by(module: str, name: str, **members: Any) -> Any:
    """An object of a class of that name in that module, with these members set in ``__init__``, as clients do."""

    def init(self: Any) -> None:
        self.__dict__.update(members)

    return type(name, (), {"__module__": module, "__init__": init})()


def streamed(kind: Any) -> Any:
    class Stream(httpx.AsyncByteStream, httpx2.AsyncByteStream):
        pass

    return kind(503, stream=Stream())


class RESPONSES:
    """Built for each test: (a response with status 503, for each client)."""

    all: dict[str, Any] = {  # noqa: RUF012
        "httpx": lambda: httpx.Response(503),
        "httpx, streamed": lambda: streamed(httpx.Response),
        "httpx2": lambda: httpx2.Response(503),
        "httpx2, streamed": lambda: streamed(httpx2.Response),
        "httpcore": lambda: httpcore.Response(503),
        "starlette": lambda: starlette.responses.JSONResponse({}, status_code=503),
        "openai, raw": lambda: openai.APIResponse(
            raw=httpx2.Response(503), cast_to=str, client=MagicMock(), stream=False, stream_cls=None, options=MagicMock()
        ),
        "anthropic, raw": lambda: anthropic.APIResponse(
            raw=httpx2.Response(503), cast_to=str, client=MagicMock(), stream=False, stream_cls=None, options=MagicMock()
        ),
        "requests": lambda: made_by("requests.models", "Response", status_code=503, headers={}),
        "aiohttp": lambda: made_by("aiohttp.client_reqrep", "ClientResponse", status=503),
        "urllib3": lambda: made_by("urllib3.response", "HTTPResponse", status=503, headers={}),
        "urllib3, its base": lambda: made_by("urllib3.response", "BaseHTTPResponse", status=503, headers={}),
        "http.client": lambda: made_by("http.client", "HTTPResponse", status=503, headers={}),
        "curl_cffi": lambda: made_by("curl_cffi.requests.models", "Response", status_code=503, headers={}),
        "tornado": lambda: made_by("tornado.httpclient", "HTTPResponse", code=503, headers={}),
    }


@pytest.mark.parametrize("client", RESPONSES.all)
def test_every_clients_response_is_known(client: str) -> None:
    """D28: whichever client it is."""
    response = RESPONSES.all[client]()

    assert 503 == response_status(response)
    assert 503 == response_status(response)
    assert reader_of(type(response)) is READERS[type(response)]


def test_the_response_of_the_standard_library_is_known() -> None:
    assert reader_of(http.client.HTTPResponse) is not None


def test_a_subclass_of_a_response_is_a_response() -> None:
    class Mine(httpx2.Response):
        pass

    assert 404 == response_status(Mine(404))


def test_a_success_has_its_status_too() -> None:
    assert 200 == response_status(httpx2.Response(200))
    assert 304 == response_status(httpx2.Response(304))


@dataclass
class Data:
    status: int
    headers: dict[str, str]


@attrs.frozen
class Attrs:
    status_code: int
    headers: Mapping[str, str]


@attr.s
class OldAttrs:
    status = attr.ib(type=int)
    headers = attr.ib(type=dict[str, str])


@attr.s(slots=True)
class OldSlots:  # type: ignore[no-untyped-def]  # the point of it: a slot of which no type is known
    status = attr.ib(type=int)
    headers = attr.ib()  # type: ignore[var-annotated]


class Model(pydantic.BaseModel):
    status: int
    headers: dict[str, str]


class Tuple(NamedTuple):
    status: int
    headers: dict[str, str]


class Slots:
    __slots__ = ("headers", "status")

    def __init__(self, status: Any, headers: Any) -> None:
        self.status = status
        self.headers = headers


class Annotated:
    status_code: http.HTTPStatus
    headers: "httpx.Headers"  # noqa: UP037

    def __init__(self, status: Any, headers: Any) -> None:
        self.status_code = status
        self.headers = headers


class Maybe:
    status: int | None = None
    headers: Optional[dict[str, str]] = None  # noqa: UP045

    def __init__(self, status: Any, headers: Any) -> None:
        self.status = status
        self.headers = headers


class Values:
    status = 200
    headers: Any = {}  # noqa: RUF012

    def __init__(self, status: Any, headers: Any) -> None:
        self.status = status
        self.headers = headers


class PlainValues:
    status_code = 200
    headers = {}  # type: ignore[var-annotated]  # noqa: RUF012

    def __init__(self, status: Any, headers: Any) -> None:
        self.status_code = status
        self.headers = headers


class Properties:
    def __init__(self, status: Any, headers: Any) -> None:
        self._it = (status, headers)

    @property
    def status(self) -> int:
        return self._it[0]  # type: ignore[no-any-return]

    @functools.cached_property
    def headers(self) -> Mapping[str, str]:
        return self._it[1]  # type: ignore[no-any-return]


class Inherited(Annotated):
    pass


EVALUATED: dict[str, Any] = {}
exec(  # annotations that are objects, as without the import from __future__
    "import collections.abc, typing, http\n"
    "class Objects:\n"
    "    status: int\n"
    "    headers: dict[str, str]\n"
    "    def __init__(self, status, headers): self.status, self.headers = status, headers\n"
    "class Unions(Objects):\n"
    "    status: typing.Optional[int]\n"
    "    headers: collections.abc.Mapping[str, str] | None\n"
    "class Loose(Objects):\n"
    "    status: int | None\n"
    "    headers: typing.Optional[typing.Dict[str, str]]\n"
    "class Wider(Objects):\n"
    "    status: http.HTTPStatus\n"
    "    headers: typing.Mapping\n",
    EVALUATED,
)

LIKE_RESPONSES = [
    Data,
    Attrs,
    OldAttrs,
    OldSlots,
    Tuple,
    Slots,
    Annotated,
    Maybe,
    PlainValues,
    Properties,
    Inherited,
    *(EVALUATED[name] for name in ("Objects", "Unions", "Loose", "Wider")),
]


@pytest.mark.parametrize("kind", LIKE_RESPONSES, ids=lambda kind: kind.__name__)
def test_a_class_that_declares_a_status_and_headers_is_a_response(kind: Any) -> None:
    assert 503 == response_status(kind(503, {"a": "b"}))
    assert 200 == response_status(kind(200, {"a": "b"}))


def test_a_model_that_declares_a_status_and_headers_is_a_response() -> None:
    assert 503 == response_status(Model(status=503, headers={}))


@pytest.mark.parametrize("kind", [Slots, PlainValues, Annotated], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("headers", [None, 5, "a: b", MagicMock(), object()])
def test_a_failing_value_whose_headers_are_none_is_a_success(kind: Any, headers: Any) -> None:
    assert response_status(kind(503, headers)) is None


@pytest.mark.parametrize(
    "status", [None, True, "503", 503.0, 0, 99, 600, 10**400, MagicMock(), pytest.param(MagicMock(spec=int), id="mock-int")]
)
@pytest.mark.parametrize("kind", [Slots, lambda status, headers: made_by("requests.models", "Response", status_code=status)])
def test_a_status_is_an_int_of_three_digits(kind: Any, status: Any) -> None:
    assert response_status(kind(status, {})) is None


def test_a_member_of_an_enumeration_is_a_status() -> None:
    status = response_status(Slots(http.HTTPStatus.SERVICE_UNAVAILABLE, {}))

    assert 503 == status
    assert type(status) is int


def test_a_response_that_cannot_be_read_has_no_status() -> None:
    assert response_status(made_by("requests.models", "Response")) is None
    assert response_status(Slots.__new__(Slots)) is None


class Touchy:
    """Reports who touches it: a lazy row, a proxy, a remote object."""

    touched: list[str] = []  # noqa: RUF012

    def __getattribute__(self, name: str) -> object:
        Touchy.touched.append(name)
        raise OSError(name)


class Order:
    status: int
    code: int

    def __init__(self, status: int) -> None:
        self.status = status


class Job:
    status: str
    headers: dict[str, str]


class Flag:
    status: bool
    headers: dict[str, str]


class Parcel:
    status: int
    headers: int


class Row:
    """As SQLAlchemy has it: declared as an int, loaded on first use."""

    class Column:
        def __get__(self, holder: object, kind: type) -> Any:
            if holder is None:
                return self
            raise OSError

    status: int = Column()  # type: ignore[assignment]
    headers: dict[str, str] = Column()  # type: ignore[assignment]


class Unsaid:
    def __init__(self) -> None:
        self.status = 503
        self.headers: dict[str, str] = {}


class Mute:
    @property
    def status(self):  # type: ignore[no-untyped-def]
        raise OSError

    @property
    def headers(self):  # type: ignore[no-untyped-def]
        raise OSError


class Methods:
    def status(self) -> int:
        raise OSError

    def headers(self) -> dict[str, str]:
        raise OSError


class Unset:
    status: int
    headers = property()


PLAIN: list[Any] = [
    Order(503),
    Job(),
    Flag(),
    Parcel(),
    Row(),
    Unsaid(),
    Mute(),
    Methods(),
    Unset(),
    {"status": 503, "headers": {}},
    types.SimpleNamespace(status=503, status_code=503, headers={}),
    None,
    503,
    "503",
    b"503",
    [503],
    (503, {}),
    object(),
    int,
    httpx2.Response,
    http.HTTPStatus.SERVICE_UNAVAILABLE,
    httpx2.Request("GET", "https://example.com"),
]


@pytest.mark.parametrize("value", PLAIN, ids=lambda value: type(value).__name__)
def test_any_other_value_is_a_success_and_unread(value: Any) -> None:
    assert response_status(value) is None
    assert first_sight(value) is None
    assert READERS[type(value)] is None


def test_an_attribute_that_may_be_lazy_is_never_touched() -> None:
    value = Touchy()
    Touchy.touched.clear()

    assert response_status(value) is None
    assert response_status(value) is None
    assert [] == Touchy.touched


@pytest.mark.parametrize("lie", [None, httpx2.Response, httpx.Response, Data])
def test_a_stand_in_is_a_success_whatever_it_stands_in_for(lie: type | None) -> None:
    """It has every attribute, and says that it is of any class."""
    stand_in = MagicMock(spec=lie)
    stand_in.status_code = stand_in.status = 503
    stand_in.headers = {}

    assert response_status(stand_in) is None


class Unhashed(type):
    __hash__ = None  # type: ignore[assignment]

    def __eq__(cls, other: object) -> bool:
        return False


class Odd(metaclass=Unhashed):
    status: int
    headers: dict[str, str]


def test_a_type_that_cannot_be_looked_up_is_no_response() -> None:
    """A metaclass that compares its classes in its own way takes their hash away."""
    assert response_status(Odd()) is None
    assert reader_of(Odd) is None


class Shouting(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in {"__mro__", "__module__", "__qualname__"}:
            raise OSError(name)
        return super().__getattribute__(name)


class Loud(metaclass=Shouting):
    pass


def test_a_type_that_cannot_be_judged_is_no_response() -> None:
    assert response_status(Loud()) is None


def test_a_member_of_an_extension_type_is_taken_at_its_word() -> None:
    """Responses made in other languages have members, and no annotations."""

    class Base:
        __slots__ = ("headers", "status_code")

    class Made(Base):
        pass

    made = Made()
    made.status_code = 429  # type: ignore[attr-defined]
    made.headers = {}  # type: ignore[attr-defined]

    assert 429 == response_status(made)


def test_a_slots_annotation_is_believed() -> None:
    class Worded:
        __slots__ = ("headers", "status")
        status: str
        headers: dict[str, str]

    assert reader_of(Worded) is None


def test_each_type_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[type] = []
    monkeypatch.setattr(responses, "_judge", judged.append)

    for _ in range(3):
        response_status(Order(503))
        reader_of(Order)

    assert [Order] == judged


def test_what_is_remembered_is_bounded() -> None:
    """D34: some programs make classes as they go; every stand-in has a class of its own."""
    for _ in range(3000):
        response_status(type("Fresh", (), {})())

    assert len(READERS) <= 1024


def test_a_typed_response_that_cannot_be_evaluated_is_judged_by_its_words() -> None:
    class Later:
        status: int
        headers: NotDefinedHeaders  # type: ignore[name-defined]  # noqa: F821

        def __init__(self) -> None:
            self.status = 502
            self.headers = {}

    assert 502 == response_status(Later())


BODY = b'{"code": "busy"}'


@pytest.mark.parametrize(
    ("response", "body"),
    [
        (httpx.Response(503, content=BODY), BODY),
        (httpx2.Response(503, content=BODY), BODY),
        (httpx2.Response(503), b""),
        (starlette.responses.Response(BODY), BODY),
        (made_by("requests.models", "Response", _content=BODY), BODY),
        (made_by("requests.models", "Response", _content=False), None),
        (made_by("aiohttp.client_reqrep", "ClientResponse", _body=BODY, content=object()), BODY),
        (made_by("aiohttp.client_reqrep", "ClientResponse", content=object()), None),
        (made_by("urllib3.response", "HTTPResponse", _body=None, data=BODY), None),
        (made_by("slack_sdk.web.slack_response", "SlackResponse", data={"ok": False}), {"ok": False}),
        (made_by("mine", "Response", data=5, content="text"), "text"),
        (made_by("mine", "Response", content="text"), "text"),
        (made_by("mine", "Response", body={"code": "busy"}), {"code": "busy"}),
        (made_by("mine", "Response", body=5), None),
        (made_by("mine", "Response"), None),
        ({"body": BODY}, BODY),
        ({"body": 5}, None),
        ({}, None),
        (None, None),
        (MagicMock(), None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_body_is_read_if_it_is_in_memory(response: Any, body: object) -> None:
    """D29: decoding is the client's concern, fetching is nobody's here."""
    assert body == loaded_body(response)


@pytest.mark.parametrize("kind", [httpx.Response, httpx2.Response])
def test_a_streamed_body_is_left_alone(kind: Any) -> None:
    response = streamed(kind)

    assert loaded_body(response) is None
    assert not response.is_stream_consumed


class Fetching:
    """As requests has it: the property reads from the network unless somebody did before."""

    _content: Any = False

    def __init__(self) -> None:
        self._content = False

    @property
    def content(self) -> bytes:
        raise AssertionError("fetched")


class Computing:
    __slots__ = ()

    @property
    def content(self) -> bytes:
        raise OSError

    @property
    def body(self) -> bytes:
        return BODY


def test_a_property_that_may_fetch_is_not_touched() -> None:
    assert loaded_body(Fetching()) is None


def test_a_property_that_raises_is_passed_over() -> None:
    assert BODY == loaded_body(Computing())
