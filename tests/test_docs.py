"""The pages under docs/ do what they say; see `tests.pages` for how."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psycopg
import pytest
from slack_sdk.web.async_base_client import AsyncBaseClient

from resilience.classify import Rules
from resilience.cli.dialects import named, rules_of
from tests.adapters.conftest import Odd, Peer
from tests.pages import ROOT, WIDTH, Page, run
from tests.servers import HOST, PostgreSQL, Redis

DIALECTS, STREAMS, CLIENTS = (Page(f"docs/{name}.md") for name in ("dialects", "streams", "clients"))
PAGES = [Page("README.md"), DIALECTS, STREAMS, CLIENTS]


# What holds for all of them.


def test_every_page_is_looked_at() -> None:
    assert {"docs/dialects.md", "docs/streams.md", "docs/clients.md"} == {f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}


@pytest.mark.parametrize("page", PAGES, ids=repr)
def test_no_block_is_in_a_guise_that_nobody_checks(page: Page) -> None:
    """A print without its comment would be checked against nothing."""
    prints = [line for block in page.blocks("python") for line in block.code.splitlines() if re.match(r" *print\(", line)]

    assert set() == page.languages - {"python", "console", "sh", "text"}
    assert len(prints) == sum(len(block.expected) for block in page.blocks("python"))


@pytest.mark.parametrize("page", PAGES, ids=repr)
def test_no_line_of_code_is_wider_than_a_page(page: Page) -> None:
    lines = [line for language in page.languages for block in page.blocks(language) for line in block.code.splitlines()]

    assert [] == [line for line in lines if len(line) > WIDTH]


LINKS = [pytest.param(page, link, id=f"{page} {link}") for page in PAGES for link in dict.fromkeys(page.links)]


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_a_link_leads_somewhere(page: Page, link: str) -> None:
    if "://" in link:
        return
    path, _, anchor = link.partition("#")
    target = (page.path.parent / path).resolve() if path else page.path

    assert target.exists()
    assert not anchor or anchor in Page(str(target.relative_to(ROOT))).anchors


@pytest.mark.parametrize("page", PAGES, ids=repr)
def test_the_command_line_answers_as_shown(page: Page, tmp_path: Path) -> None:
    files = {block.file: block.code for block in page.blocks("python") if block.file}
    for name, code in files.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    sessions = [exchange for block in page.blocks("console") for exchange in block.session]
    for command, answer in sessions:
        settings = dict(word.split("=", 1) for word in itertools.takewhile(lambda word: "=" in word, command))
        words = command[len(settings) :]
        assert "resilience" == words[0]
        code = "import sys; from resilience.cli import main; sys.exit(main())"
        env = {**os.environ, **settings, "COLUMNS": str(WIDTH), "TERM": "dumb"}
        ran = subprocess.run(
            [sys.executable, "-P", "-c", code, *words[1:]], capture_output=True, text=True, cwd=tmp_path, env=env, check=False
        )

        assert [line.rstrip() for line in answer] == [line.rstrip() for line in (ran.stdout + ran.stderr).splitlines()], shlex.join(words)


# Dialects.


def test_the_dialect_and_the_test_of_it_work_as_shown(tmp_path: Path) -> None:
    files = {block.file: block.code for block in DIALECTS.blocks("python") if block.file}
    for name, code in files.items():
        (tmp_path / name).write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_acme.py"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    assert ["acme.py", "test_acme.py"] == list(files)
    assert (0, "3 passed") == (ran.returncode, ran.stdout.splitlines()[-1].partition(" in ")[0]), ran.stdout


def test_a_dialect_and_its_test_are_shown_in_under_40_lines() -> None:
    assert 40 > len(DIALECTS.section("One file and one test").rstrip().splitlines())


def test_every_dialect_that_comes_along_is_listed() -> None:
    assert [f"`{name}`" for name in named()] == [row[0] for row in DIALECTS.table("Dialects that come along")]


@pytest.mark.parametrize("name", named())
def test_the_list_of_dialects_says_what_each_is_built_on_and_has_beside_its_tables(name: str) -> None:
    rows = {row[0].strip("`"): row[1:] for row in DIALECTS.table("Dialects that come along")}
    rules = rules_of(name)
    has = [what for what in ("by_item", "by_result", "creates_nothing", "word_first") if getattr(rules, what)]
    chain, below = {name}, rows[name][1].strip("`")
    while below:
        chain.add(below)
        below = rows[below][1].strip("`")

    assert chain == _sources(rules)
    assert ", ".join(f"`{what}`" for what in has) == rows[name][2]


def _sources(rules: Rules) -> set[str]:
    tables = (rules.by_code, rules.by_message, rules.by_kind, rules.by_status, rules.by_error)
    return {entry.rule.partition(":")[0] for table in tables for entry in table.values()}


@pytest.mark.anyio
@pytest.mark.parametrize("page", [DIALECTS, STREAMS], ids=repr)
async def test_the_blocks_of_a_page_follow_one_another_and_print_what_they_say(page: Page) -> None:
    await run([block for block in page.blocks("python") if block.is_at_the_prompt], {})


# Clients.  Each section is by itself, and has a real server: the stand-in that the block starts, or one of these.

SECTIONS = list(dict.fromkeys(block.section for block in CLIENTS.blocks("python")))


def sse(*events: dict[str, Any]) -> bytes:
    named = (b"event: %s\n" % str(event["type"]).encode() if "type" in event else b"" for event in events)
    return b"".join(name + b"data: " + json.dumps(event).encode() + b"\n\n" for name, event in zip(named, events, strict=True))


def chunk(**delta: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    return {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


DELTA = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Nobody."}}
MESSAGE = {"id": "1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}
COMPLETION = {
    "id": "1",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Nobody."}, "finish_reason": "stop"}],
}
CUT = None
Reply = tuple[int, Any] | bytes | None
# What each API says first, and then.
REPLIES: dict[str, tuple[Reply, Reply]] = {
    "/v1/chat/completions": ((500, {"error": {"code": "server_error"}}), (200, COMPLETION)),
    "/v1/chat/completions, streamed": (sse(chunk(role="assistant")), sse(chunk(role="assistant"), chunk(content="Nobody."))),
    "/v1/messages": (
        (500, {"type": "error", "error": {"type": "api_error"}}),
        (200, {**MESSAGE, "content": [{"type": "text", "text": "Nobody."}]}),
    ),
    "/v1/messages, streamed": (
        sse({"type": "message_start", "message": MESSAGE}, {"type": "error", "error": {"type": "api_error", "message": "No."}}),
        sse({"type": "message_start", "message": MESSAGE}, DELTA, {"type": "message_stop"}),
    ),
    "/": ((500, {"__type": "InternalServerError"}), (200, {"Item": {"id": {"S": "1"}}})),
    "/v1/refunds": (CUT, (200, {"id": "re_1", "object": "refund"})),
    "/api/conversations.list": ((200, {"ok": False, "error": "service_unavailable"}), (200, {"ok": True, "channels": []})),
}


class Apis(Odd):
    """All those APIs; what they were asked, by what."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.asked: dict[str, list[bytes]] = {}

    def _answer(self, peer: Peer, request: bytes) -> None:
        what = request.split()[1].decode() + (", streamed" if b'"stream":true' in request.replace(b" ", b"") else "")
        self.asked.setdefault(what, []).append(request)
        reply = REPLIES[what][min(len(self.asked[what]), 2) - 1]
        if isinstance(reply, tuple):
            peer.answer(reply[0], json.dumps(reply[1]).encode(), content_type="application/json")
            return
        if reply is not None:
            cut = len(self.asked[what]) == 1
            length = b"content-length: %d\r\n" % (len(reply) + cut)
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n" + length + b"\r\n" + reply)
            if not cut:
                return
        with contextlib.suppress(OSError):
            peer.connection.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def apis(monkeypatch: pytest.MonkeyPatch) -> Iterator[Apis]:
    """Where the clients find them: by their environment variables, and where there are none, by their defaults."""
    server = Apis()
    monkeypatch.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", server.url)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "-")
    monkeypatch.setattr("stripe._stripe_client.DEFAULT_API_BASE", server.url)
    defaults = [f"{server.url}/api/" if one == AsyncBaseClient.BASE_URL else one for one in AsyncBaseClient.__init__.__defaults__ or ()]
    monkeypatch.setattr(AsyncBaseClient.__init__, "__defaults__", tuple(defaults))
    yield server
    server.close()


@pytest.fixture
def databases(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A PostgreSQL with three bots, or a Redis, for the section that is about it."""
    section = request.getfixturevalue("section")
    with contextlib.ExitStack() as servers:
        if section in {"asyncpg", "psycopg"}:
            postgresql = servers.enter_context(PostgreSQL())
            settings = {"HOST": HOST, "PORT": str(postgresql.port), "USER": postgresql.superuser, "DATABASE": postgresql.database}
            for name, value in settings.items():
                monkeypatch.setenv(f"PG{name}", value)
            with psycopg.connect("", autocommit=True) as connection:
                connection.execute("create table bots as select generate_series(1, 3) as number")
        if section == "redis.asyncio":
            monkeypatch.setenv("REDIS_URL", servers.enter_context(Redis()).url)
        yield


class Bots(grpc.GenericRpcHandler):  # type: ignore[misc]  # whose type nobody knows
    """A gRPC service that is unavailable at first."""

    def __init__(self) -> None:
        self.asked = 0

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self.count)

    async def count(self, request: bytes, context: Any) -> bytes:
        self.asked += 1
        if self.asked == 1:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not now")
        return b"3"


@pytest.fixture
async def target(section: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    if section != "grpc.aio":
        yield
        return
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Bots()])
    monkeypatch.setenv("TARGET", f"{HOST}:{server.add_insecure_port(f'{HOST}:0')}")
    await server.start()
    yield
    await server.stop(None)


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:Use .content=:DeprecationWarning")  # stripe, of httpx
@pytest.mark.usefixtures("databases", "target")
@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # half of the clients know no other
@pytest.mark.parametrize("section", SECTIONS)
async def test_a_client_s_block_runs_against_a_real_server(section: str, apis: Apis) -> None:
    await run([block for block in CLIENTS.blocks("python") if block.section == section], {})

    assert all(2 == len(requests) for requests in apis.asked.values())
    for requests in apis.asked.values():
        keys = {tuple(re.findall(rb"(?i)\r\nidempotency-key: *([^\r]+)", request)) for request in requests}
        assert 1 == len(keys)


def test_every_client_has_its_section() -> None:
    linked = [link.removeprefix("#") for link in CLIENTS.links if link.startswith("#")]

    assert [re.sub(r"[^\w\- ]", "", section.lower()).replace(" ", "-") for section in SECTIONS] == linked
    assert {path.stem for path in (ROOT / "resilience" / "adapters").glob("[a-z]*.py")} <= set(re.findall(r"\w+", " ".join(SECTIONS)))
