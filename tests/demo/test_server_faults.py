"""Every fault that a scenario can script, seen by a plain client on the other side of the socket."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from resilience.demo.exchange import Exchange
from resilience.demo.faults import Answer, Compress, Drip, Hang, Hold, Honest, Late, Redirect, Reset, Truncate
from resilience.demo.serve import Server

CALLS = "/api/v1/calls"
POST = f"POST {CALLS}"


def place(client: httpx2.Client, *, timeout: float = 5.0, key: str | None = None) -> httpx2.Response:
    return client.post(CALLS, json={"to": "+1"}, timeout=timeout, headers={} if key is None else {"Idempotency-Key": key})


def send_and_leave(server: Server, *lines: str, body: str, missing: int = 0) -> None:
    """Send a request, but for the last *missing* bytes, and close the connection without a look at the answer."""
    host, port = server.url.removeprefix("http://").split(":")
    length = f"Content-Length: {len(body) + missing}"
    head = "\r\n".join([*lines, "Host: x", length])
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(f"{head}\r\n\r\n{body}".encode())


# Which request meets which fault.


def test_faults_are_met_one_by_one_and_then_all_is_well(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Answer(503), Honest(), Answer(500), times=2)
    statuses = [place(client).status_code for _ in range(7)]

    assert [503, 201, 500, 503, 201, 500, 201] == statuses
    assert ["Answer", None, "Answer"] * 2 + [None] == [seen.fault for seen in server.counts().seen]
    assert {"call.placed": 3} == server.counts().effects


def test_a_fault_without_end_lasts_until_it_is_taken_back(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Answer(503), times=None)
    during = [place(client).status_code for _ in range(5)]
    server.unscript()

    assert [503] * 5 + [201] == [*during, place(client).status_code]


def test_only_the_requests_of_its_route_meet_a_fault(server: Server, client: httpx2.Client) -> None:
    server.script("GET /api/v1/bots/*", Answer(500))
    server.script("* /v1/*", Answer(501))
    server.script("*", Answer(503))
    responses = [client.get("/api/v1/bots/bot_1"), client.get("/v1/models"), client.get("/api/v1/bots"), client.get("/api/v1/bots")]

    assert [500, 501, 503, 200] == [response.status_code for response in responses]


def test_what_was_scripted_and_never_met_is_told(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Answer(503), times=3)
    server.script("GET /v1/models", Answer(503), times=None)
    place(client)

    assert 2 == server.counts().unplayed


@pytest.mark.parametrize("route", ["GET /api/v1/bot", "DELETE /api/v1/calls", "/api/v1/calls", "POST", ""])
def test_a_fault_that_no_request_can_meet_is_refused(server: Server, route: str) -> None:
    with pytest.raises(ValueError, match="route"):
        server.script(route, Answer(503))


def test_a_script_says_what_and_how_often(server: Server) -> None:
    with pytest.raises(ValueError, match="fault"):
        server.script(POST)
    with pytest.raises(ValueError, match="times"):
        server.script(POST, Answer(503), times=0)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Answer(99),
        lambda: Answer(503, when="never"),  # type: ignore[arg-type]
        lambda: Hang(-1),
        lambda: Late(float("nan")),
        lambda: Drip(0, size=0),
        lambda: Truncate(1.0),
        lambda: Redirect("elsewhere"),  # type: ignore[arg-type]
        lambda: Redirect(status=304),
        lambda: Reset("later"),  # type: ignore[arg-type]
        lambda: Hold("unread"),  # type: ignore[arg-type]
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(build: object) -> None:
    with pytest.raises(ValueError, match=r"must be|in"):
        build()  # type: ignore[operator]


# Answers.


def test_an_answer_has_the_code_and_the_headers_asked_for(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Answer(429, headers={"Retry-After": "0.25", "X-RateLimit-Remaining": "0"}, message="Slow down."))
    response = place(client)

    assert ("0.25", "0") == (response.headers["Retry-After"], response.headers["X-RateLimit-Remaining"])
    assert {"code": "rate_limit_exceeded", "message": "Slow down.", "type": "rate_limit_error"} == response.json()["error"]
    assert {} == server.counts().effects


def test_a_header_may_repeat_and_the_servers_own_may_be_replaced(server: Server, client: httpx2.Client) -> None:
    date = "Thu, 01 Jan 1970 00:00:00 GMT"
    server.script(POST, Answer(503, headers=[("Retry-After", "1"), ("Retry-After", "2"), ("Date", date)]))
    response = place(client)

    assert ["1", "2"] == response.headers.get_list("Retry-After")
    assert [date] == response.headers.get_list("Date")


def test_a_body_may_be_anything(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Answer(503, body=b"<h1>Bad gateway</h1>", headers={"Content-Type": "text/html"}), Answer(401, body=b""))
    page, nothing = place(client), place(client)

    assert (503, "text/html", "<h1>Bad gateway</h1>") == (page.status_code, page.headers["content-type"], page.text)
    assert (401, b"") == (nothing.status_code, nothing.content)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_an_error_can_be_compressed_so_that_a_client_has_to_decode(server: Server, client: httpx2.Client, encoding: str) -> None:
    server.script(POST, Answer(402, encoding=encoding))  # type: ignore[arg-type]
    with client.stream("POST", CALLS, json={"to": "+1"}) as response:
        raw = b"".join(response.iter_raw())

    assert (402, encoding) == (response.status_code, response.headers["content-encoding"])
    assert b"insufficient_credits" not in raw
    server.script(POST, Answer(402, encoding=encoding))  # type: ignore[arg-type]
    assert "insufficient_credits" == place(client).json()["error"]["code"]


def test_an_honest_answer_can_be_compressed_too(server: Server, client: httpx2.Client) -> None:
    server.script("GET /api/v1/bots/bot_1", Compress())
    with client.stream("GET", "/api/v1/bots/bot_1") as response:
        raw = b"".join(response.iter_raw())

    assert 404 == response.status_code
    assert b"not_found" in gzip.decompress(raw)


def test_an_error_may_come_after_the_work_was_done(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Answer(500, when="after"))

    assert 500 == place(client).status_code
    assert {"call.placed": 1} == server.counts().effects


# Connections that break.


@pytest.mark.parametrize(("when", "effects"), [("unread", {}), ("before", {}), ("after", {"call.placed": 1})])
def test_a_reset_may_come_before_or_after_the_work(server: Server, client: httpx2.Client, when: str, effects: dict[str, int]) -> None:
    """D4: the client sees the same both times, and cannot know."""
    server.script(POST, Reset(when))  # type: ignore[arg-type]
    with pytest.raises(httpx2.TransportError):
        place(client)

    assert effects == server.settle().effects
    assert {None: 1} == server.counts().by_status
    assert 201 == place(client).status_code


def test_a_reset_is_a_real_one(server: Server) -> None:
    """RST on the wire, not the polite end that a closed connection has."""
    server.script("GET /v1/models", Reset())
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            connection.recv(1)


def test_an_answer_may_break_off_in_the_middle_of_its_body(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Truncate(0.5))
    with client.stream("POST", CALLS, json={"to": "+1"}) as response:
        with pytest.raises(httpx2.RemoteProtocolError):
            response.read()

    assert 201 == response.status_code
    assert {"call.placed": 1} == server.counts().effects


def test_a_port_can_be_closed_on_purpose_and_opened_again(server: Server, client: httpx2.Client) -> None:
    """A refused connection was never sent: the one failure after which any request may be repeated."""
    before = place(client)
    with server.down(), pytest.raises(httpx2.ConnectError):
        place(client)
    after = place(client)

    assert [201, 201] == [before.status_code, after.status_code]
    assert 2 == server.counts().requests


def test_going_down_drops_what_is_under_way(server: Server, client: httpx2.Client) -> None:
    hold = Hold("after")
    server.script(POST, hold)
    with ThreadPoolExecutor() as threads:
        pending = threads.submit(place, client)
        hold.wait()
        with server.down(), pytest.raises(httpx2.TransportError):
            pending.result()
    hold.release()

    assert {"call.placed": 1} == server.settle().effects


def test_a_restart_comes_back_by_itself(server: Server, client: httpx2.Client) -> None:
    server.restart(0.05)
    refused = 0
    while True:
        try:
            response = place(client)
        except httpx2.ConnectError:
            refused += 1
            time.sleep(0.005)
        else:
            break

    assert refused
    assert 201 == response.status_code


# Time.


def test_a_hang_lasts_as_long_as_asked_and_ends_in_nothing(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Hang(0.03), Hang(0.03, when="after"))
    began = time.monotonic()
    for _ in range(2):
        with pytest.raises(httpx2.ReadError):
            place(client)

    assert time.monotonic() - began >= 0.06
    assert {"call.placed": 1} == server.counts().effects


def test_a_hang_without_end_is_over_once_the_client_has_left(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Hang(), Hang(3600, when="after"))
    for _ in range(2):
        with pytest.raises(httpx2.ReadTimeout):
            place(client, timeout=0.02)

    assert {"call.placed": 1} == server.settle(timeout=1).effects


def test_a_request_that_never_becomes_whole_is_nobodys_fault(server: Server) -> None:
    server.script(POST, Honest(), Answer(503), Hang())
    for _ in range(3):
        send_and_leave(server, f"{POST} HTTP/1.1", body="{", missing=10)
    counts = server.settle(timeout=1)

    assert ({None: 3}, {}) == (counts.by_status, counts.effects)


def test_a_late_answer_arrives(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Late(0.03), Late(0.03, when="before"))
    began = time.monotonic()
    statuses = [place(client).status_code for _ in range(2)]

    assert [201, 201] == statuses
    assert time.monotonic() - began >= 0.06


@pytest.mark.parametrize("when", ["before", "after"])
def test_the_work_of_a_late_answer_is_done_even_if_nobody_waits_for_it(server: Server, when: str) -> None:
    server.script(POST, Late(0.02, when=when))  # type: ignore[arg-type]
    send_and_leave(server, f"{POST} HTTP/1.1", f"Authorization: Bearer {server.api_key()}", body='{"to": "+1"}')
    counts = server.settle()

    assert {"call.placed": 1} == counts.effects
    assert ["Late"] == [seen.fault for seen in counts.seen]


def test_a_body_may_drip(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Drip(0.003, size=8))
    began = time.monotonic()
    response = place(client)

    assert "queued" == response.json()["status"]
    assert time.monotonic() - began >= 0.003 * (len(response.content) // 8)


def test_the_headers_of_a_dripping_body_come_at_once(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Drip(3600))
    with client.stream("POST", CALLS, json={"to": "+1"}) as response:
        assert 201 == response.status_code

    assert {201: 1} == server.settle().by_status


def test_a_client_that_leaves_a_dripping_body_ends_it(server: Server, client: httpx2.Client) -> None:
    server.script(POST, Drip(0.02))
    with pytest.raises(httpx2.ReadTimeout):
        place(client, timeout=0.01)

    assert {"call.placed": 1} == server.settle(timeout=0.5).effects


def test_a_hold_stops_a_request_where_the_scenario_wants_it(server: Server, client: httpx2.Client) -> None:
    before, after = Hold("before"), Hold("after")
    server.script(POST, before, after)
    effects: list[dict[str, int]] = []
    with ThreadPoolExecutor() as threads:
        for hold in (before, after):
            pending = threads.submit(place, client)
            hold.wait()
            effects.append(dict(server.counts().effects))
            hold.release()
            assert 201 == pending.result().status_code

    assert [{}, {"call.placed": 2}] == effects


def test_a_hold_released_early_holds_nothing(server: Server, client: httpx2.Client) -> None:
    hold = Hold()
    hold.release()
    server.script(POST, hold)

    assert 201 == place(client).status_code
    hold.wait(timeout=0)
    with pytest.raises(TimeoutError):
        hold.wait(timeout=0)


# Redirects.


@pytest.mark.parametrize("status", [307, 308])
def test_a_redirect_to_the_same_origin_is_served_on_the_second_request(server: Server, client: httpx2.Client, status: int) -> None:
    server.script(POST, Redirect(status=status))
    response = client.post(f"{CALLS}?from=here", json={"to": "+1"}, follow_redirects=True)

    assert [status] == [earlier.status_code for earlier in response.history]
    assert (201, f"{server.url}{CALLS}?from=here") == (response.status_code, str(response.url))
    assert [status, 201] == [seen.status for seen in server.counts().seen]


def test_a_redirect_to_another_origin_shows_what_a_client_takes_there(server: Server, client: httpx2.Client) -> None:
    """A plain client strips the Authorization; what others stamp again, or forget to strip, is seen in these headers."""
    server.script(POST, Redirect("other"))
    response = client.post(CALLS, json={"to": "+1"}, headers={"Idempotency-Key": "k1"}, follow_redirects=True)
    counts = server.counts()

    assert f"{server.other_url}{CALLS}" == str(response.url)
    assert {"origin": "other"} == response.json()
    assert ["POST /api/v1/calls"] == [seen.route for seen in counts.elsewhere]
    assert [None, "k1"] == [counts.elsewhere[0].credential, counts.elsewhere[0].key]
    assert (1, {}) == (counts.requests, counts.effects)


def test_a_redirect_may_lead_to_another_path(server: Server, client: httpx2.Client) -> None:
    server.script("GET /api/v1/bots", Redirect(path="/v1/models?page=1", status=302))
    response = client.get("/api/v1/bots", follow_redirects=True)

    assert f"{server.url}/v1/models?page=1" == str(response.url)


# Faults of one's own.


def test_a_scenario_may_bring_a_fault_of_its_own(server: Server, client: httpx2.Client) -> None:
    class Teapot:
        async def play(self, exchange: Exchange) -> None:
            reply = await exchange.work()
            await exchange.answer(reply.adding({"X-Teapot": threading.current_thread().name}))

    server.script(POST, Teapot())
    response = place(client)

    assert "callmissed-stand-in" == response.headers["X-Teapot"]


def test_a_fault_that_fails_itself_is_no_fault() -> None:
    class Broken:
        async def play(self, _exchange: Exchange) -> None:
            raise ZeroDivisionError

    def scenario() -> None:
        with Server() as server, httpx2.Client(base_url=server.url) as client:
            server.script("GET /v1/models", Broken())
            client.get("/v1/models")

    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        scenario()
