"""The stand-in starts at once, stops at once, leaves nothing behind, and serves any event loop."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import anyio
import httpx2
import pytest

from resilience.demo.faults import Answer, Hang, Hold, Late, Reset
from resilience.demo.serve import Server
from resilience.demo.server import LOGIN, Settings

ROOT = Path(__file__).parents[2]

Connect: TypeAlias = Callable[..., httpx2.Client]


@pytest.mark.anyio
async def test_a_hundred_tasks_at_once_are_served_and_counted() -> None:
    with Server() as server:
        session = server.sign_in()
        headers = {"Authorization": f"Bearer {session.access_token}"}
        statuses: Counter[int] = Counter()

        async def ask(client: httpx2.AsyncClient) -> None:
            statuses[(await client.get("/api/v1/bots")).status_code] += 1

        async with (
            httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=20, verify=False) as client,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(100):
                tasks.start_soon(ask, client)

    assert {200: 100} == statuses == server.counts().by_status
    assert {session.access_token: 100} == server.counts().by_credential


@pytest.mark.anyio
async def test_a_held_request_can_be_cancelled_after_the_work_was_done() -> None:
    """Cancel the leader of a refresh just after the server has rotated its token: the seam for it (D5)."""
    hold = Hold("after")
    with Server() as server:
        session = server.sign_in()
        server.script("POST /api/v1/auth/refresh", hold)
        async with httpx2.AsyncClient(base_url=server.url, verify=False) as client, anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: client.post("/api/v1/auth/refresh", json={"refresh_token": session.refresh_token}))
            await anyio.to_thread.run_sync(hold.wait)
            tasks.cancel_scope.cancel()
        hold.release()

        assert 1 == server.settle().refreshes


def test_a_scenario_reads_as_the_description_says(connect: Connect) -> None:
    """The example at the top of serve.py."""
    with Server(Settings(address_limit=1_000)) as server:
        server.script("POST /api/v1/calls", Reset("after"), Answer(503, headers={"Retry-After": "0.2"}))
        session = server.sign_in()
        with connect(server, session.access_token) as client:
            for _ in range(3):
                with contextlib.suppress(httpx2.TransportError):
                    client.post("/api/v1/calls", json={"to": "+1"}, headers={"Idempotency-Key": "k1"})
        counts = server.settle()

        assert [None, 503, 201] == [seen.status for seen in counts.of("POST /api/v1/calls")]
        assert {"call.placed": 1} == counts.effects
        assert (1, 0) == (counts.replays, counts.unplayed)


def test_it_stops_within_a_moment_whatever_hangs() -> None:
    threads = set(threading.enumerate())
    errors: list[Exception] = []

    def ask(url: str) -> None:
        try:
            httpx2.get(f"{url}/v1/models", timeout=10, verify=False)
        except httpx2.TransportError as error:
            errors.append(error)

    with Server() as server:
        holds = [Hold("before"), Hold("after")]
        server.script("GET /v1/models", *holds, Hang(), Late(60), Late(60, when="before"))
        hung = [threading.Thread(target=ask, args=(server.url,)) for _ in range(5)]
        for thread in hung:
            thread.start()
        while server.counts().requests < 5:
            time.sleep(0.002)
        leaving = time.monotonic()
    left = time.monotonic() - leaving
    for thread in hung:
        thread.join(timeout=5)

    assert left < 0.5
    assert 5 == len(errors)
    assert threads == set(threading.enumerate())


def test_nothing_listens_any_more_once_it_has_stopped() -> None:
    with Server() as server:
        pass

    for url in (server.url, server.other_url):
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(url, verify=False)


def test_two_servers_know_nothing_of_each_other(connect: Connect) -> None:
    with Server() as one, Server() as two:
        with connect(one, one.api_key()) as client:
            client.post("/api/v1/calls", json={"to": "+1"})
        with connect(two, one.api_key()) as client:
            response = client.get("/api/v1/bots")

    assert 401 == response.status_code
    assert ({"call.placed": 1}, {}) == (one.counts().effects, two.counts().effects)


def test_a_server_is_started_once() -> None:
    with Server() as server:
        pass

    with pytest.raises(RuntimeError, match="make a new one"), server:
        pass


def test_the_error_of_a_scenario_comes_out_as_it_is() -> None:
    def scenario() -> None:
        with Server():
            raise LookupError

    with pytest.raises(LookupError):
        scenario()


def test_starting_over_keeps_the_address_and_nothing_else(server: Server, connect: Connect) -> None:
    url, key = server.url, server.api_key()
    server.script("GET /v1/models", Answer(503))
    with connect(server, key) as client:
        for _ in range(6):
            client.post("/api/v1/auth/login", json=dict(LOGIN))
        client.post("/api/v1/bots", json={"name": "Ann"})
        server.start_over(Settings(auth_limit=2))
        empty = server.counts()
        unknown = client.get("/api/v1/bots")
        logins = [client.post("/api/v1/auth/login", json=dict(LOGIN)).status_code for _ in range(3)]
    with connect(server, server.api_key()) as client:
        models, bots = client.get("/v1/models"), client.get("/api/v1/bots")

    assert url == server.url
    assert (0, {}, 0, 0) == (empty.requests, empty.effects, empty.logins, empty.unplayed)
    assert 401 == unknown.status_code
    assert [200, 200, 429] == logins
    assert (200, []) == (models.status_code, bots.json()["data"])


def test_what_an_old_scenario_left_under_way_is_not_counted_in_the_new_one(server: Server, connect: Connect) -> None:
    hold = Hold()
    server.script("POST /api/v1/calls", hold)
    with connect(server, server.api_key()) as client:
        pending = threading.Thread(target=client.post, args=("/api/v1/calls",), kwargs={"json": {"to": "+1"}})
        pending.start()
        hold.wait()
        server.start_over()
        hold.release()
        pending.join(timeout=5)

    assert ({}, 0) == (server.settle().effects, server.counts().requests)


def test_counts_are_a_picture_of_one_moment(server: Server, client: httpx2.Client) -> None:
    client.get("/v1/models")
    early = server.counts()
    client.get("/v1/models")

    assert [1, 2] == [early.requests, server.counts().requests]


def test_counts_can_still_be_read_after_the_end(connect: Connect) -> None:
    with Server() as server, connect(server, server.api_key()) as client:
        client.get("/v1/models")

    assert {"GET /v1/models": 1} == server.counts().by_route == server.settle().by_route


def test_settling_gives_up_on_what_does_not_end(server: Server, connect: Connect) -> None:
    hold = Hold()
    server.script("GET /v1/models", hold)
    with connect(server, server.api_key()) as client:
        pending = threading.Thread(target=client.get, args=("/v1/models",))
        pending.start()
        hold.wait()
        with pytest.raises(TimeoutError, match="1 requests are still under way"):
            server.settle(timeout=0.01)
        hold.release()
        pending.join(timeout=5)

    assert 1 == server.settle().by_status[200]


def test_a_request_remembers_when_and_as_whom_it_came(server: Server, connect: Connect) -> None:
    key = server.api_key()
    with connect(server, key) as client:
        client.get("/v1/models?page=1", headers={"Idempotency-Key": "k1"})
        client.get("/v1/models", headers={"Authorization": "odd"})
    first, second = server.counts().of("GET /v1/models")

    assert (1, "GET", "/v1/models", key, "k1", 200) == (first.number, first.method, first.path, first.credential, first.key, first.status)
    assert (2, "odd", None, 401) == (second.number, second.credential, second.key, second.status)
    assert 0 <= first.at <= second.at < 60
    assert key not in repr(first)


def test_ctrl_c_leaves_no_process_and_not_a_word() -> None:
    """Not even with a request that hangs on the server and a client that waits for it."""
    script = """
import signal
import sys
import httpx2
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are started with it ignored
from resilience.demo.faults import Hang
from resilience.demo.serve import Server
try:
    with Server() as server:
        server.script("GET /v1/models", Hang())
        print("ready", flush=True)
        httpx2.get(server.url + "/v1/models", timeout=30, verify=False)
except KeyboardInterrupt:
    sys.exit(130)
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = process.stdout.readline()
        time.sleep(0.05)  # into the request
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=10)

    assert ("ready\n", "", "") == (first, rest, errors)
    assert 130 == process.returncode


def test_nothing_is_printed_or_logged(
    server: Server, client: httpx2.Client, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    server.script("GET /v1/models", Hang(0))
    with pytest.raises(httpx2.TransportError):
        client.get("/v1/models")
    client.get("/v1/models", headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    server.settle()

    assert ("", "") == capfd.readouterr()
    assert [] == [record for record in caplog.records if not record.name.startswith(("httpx2", "httpcore2"))]
