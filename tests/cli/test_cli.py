"""The command line answers what would happen, by the code that engines use, and says in one line what it does not understand."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from resilience import Rules, retry
from resilience.cli import main
from resilience.cli.dialects import named
from resilience.dialects import callmissed

OWN = callmissed.RULES.extend("own", by_code={"busy": retry(attempts=7)})


def silent(method: str, path: str) -> bool:
    return bool(method and path)


ORDERED = Rules("ordered").extend(
    "ordered",
    by_error={ValueError: "retry"},
    by_status={"4xx": "retry", 429: "retry"},
    by_kind={"family": "retry"},
    by_message={"words": "retry", "longer words": "retry", (429, "words"): "retry"},
    by_code={"b*": "retry", "bus*": "retry", "busy": "retry", (429, "b*"): "retry", (429, "busy"): "retry"},
    creates_nothing=silent,
)


def asked(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    """The answer in JSON."""
    status = main([*argv, "--json"])
    said = capsys.readouterr()
    assert (0, "") == (status, said.err)
    return json.loads(said.out)


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line on stderr."""
    status = main(argv)
    said = capsys.readouterr()
    assert (2, "") == (status, said.out)
    line, end = said.err.split("\n")
    assert "" == end
    return line


class TestClassify:
    def test_names_action_rule_cap_hint_and_phase(self, capsys: pytest.CaptureFixture[str]) -> None:
        answer = asked(capsys, "classify", "--dialect", "callmissed", "500", "--retry-after", "3")

        assert {
            "action": "retry",
            "attempts": 2,
            "throttled": False,
            "blames": "peer",
            "rule": "callmissed: status 500",
            "status": 500,
            "code": None,
            "kind": None,
            "retry_after": 3.0,
            "phase": "unknown",
            "should_retry": None,
        } == {name: value for name, value in answer.items() if name != "repeated"}

    @pytest.mark.parametrize("words", [["401", "token_expired"], ["token_expired", "401"]])
    def test_takes_status_and_code_in_either_order(self, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
        answer = asked(capsys, "classify", "--dialect", "callmissed", *words)

        assert ("refresh_token", 401, "token_expired") == (answer["action"], answer["status"], answer["code"])

    @pytest.mark.parametrize(
        ("argv", "repeated"),
        [
            (["503"], {"POST": False, "POST with an idempotency key": True, "GET": True}),
            (["429"], {"POST": True, "POST with an idempotency key": True, "GET": True}),
            (["404"], {"POST": False, "POST with an idempotency key": False, "GET": False}),
            (["503", "--method", "delete"], {"DELETE": True, "DELETE with an idempotency key": True, "GET": True}),
            (
                ["--dialect", "openai", "503", "--path", "/v1/chat/completions"],
                {"POST": True, "POST with an idempotency key": True, "GET": True},
            ),
        ],
    )
    def test_tells_whether_a_request_would_be_repeated(self, capsys: pytest.CaptureFixture[str], argv: list[str], repeated: Any) -> None:
        """D4."""
        answer = asked(capsys, "classify", *argv)

        assert repeated == {what: told["repeated"] for what, told in answer["repeated"].items()}
        assert all(told["why"] for told in answer["repeated"].values())

    def test_kind_and_message_count_like_the_peer_s(self, capsys: pytest.CaptureFixture[str]) -> None:
        by_kind = asked(capsys, "classify", "--dialect", "anthropic", "--kind", "overloaded_error")
        by_message = asked(capsys, "classify", "--dialect", "github", "403", "--message", "You have exceeded a secondary rate limit")

        assert [("retry", True), ("retry", True)] == [(answer["action"], answer["throttled"]) for answer in (by_kind, by_message)]

    def test_a_command_of_redis_is_asked_about_like_a_method(self, capsys: pytest.CaptureFixture[str]) -> None:
        repeated = [
            next(iter(asked(capsys, "classify", "--dialect", "redis", "503", "--method", name)["repeated"].items()))
            for name in ("config get", "DEL", "INCR")
        ]

        assert [("CONFIG GET", True), ("DEL", True), ("INCR", False)] == [(name, told["repeated"]) for name, told in repeated]

    @pytest.mark.parametrize(
        ("dialect", "code", "action", "phase"),
        [
            ("grpc", "UNAVAILABLE", "retry", "unknown"),
            ("grpc", "UNAUTHENTICATED", "refresh_token", "refused"),
            ("postgresql", "40001", "retry", "refused"),
            ("postgresql", "08006", "retry", "unknown"),
            ("redis", "READONLY", "retry", "refused"),
            ("redis", "WRONGTYPE", "fail_fast", "refused"),
        ],
    )
    def test_a_protocol_s_own_codes_tell_how_far_it_got(
        self, capsys: pytest.CaptureFixture[str], dialect: str, code: str, action: str, phase: str
    ) -> None:
        answer = asked(capsys, "classify", "--dialect", dialect, code)

        assert (action, code, phase) == (answer["action"], answer["code"], answer["phase"])

    def test_one_s_own_rules_are_named_by_their_module(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "own_rules", sys.modules[__name__])

        assert 7 == asked(capsys, "classify", "--dialect", "own_rules:OWN", "busy")["attempts"]

    def test_people_get_lines(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        assert 0 == main(["classify", "--dialect", "callmissed", "503"])
        lines = dict(line.rstrip().split("  ", 1) for line in capsys.readouterr().out.splitlines())

        assert ["read", "action", "rule", "hint", "phase", "blames", "POST", "POST with an idempotency key", "GET"] == list(lines)
        assert "retry, 3 at most" == lines["action"].strip()
        assert lines["POST"].strip().startswith("not repeated: ")


class TestResponse:
    BODY = b'{"error": {"code": "rate_limit_exceeded", "type": "rate_limit", "message": "Slow down"}}'

    @pytest.mark.parametrize("line", [b"\r\n", b"\n"])
    @pytest.mark.parametrize("version", [b"HTTP/1.1", b"HTTP/2"])
    def test_a_whole_one_is_read_as_a_client_s_would_be(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, line: bytes, version: bytes
    ) -> None:
        file = tmp_path / "failed.http"
        file.write_bytes(
            line.join([version + b" 429 Too Many Requests", b"Retry-After: 7", b"Content-Type: application/json", b"", self.BODY])
        )
        answer = asked(capsys, "classify", "--dialect", "callmissed", "--response", str(file))

        assert ("retry", "rate_limit_exceeded", 7.0, "refused") == tuple(
            answer[name] for name in ("action", "code", "retry_after", "phase")
        )

    def test_a_packed_body_is_unpacked(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        file = tmp_path / "failed.http"
        file.write_bytes(b"HTTP/1.1 429 Slow\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(self.BODY))

        assert "rate_limit_exceeded" == asked(capsys, "classify", "--response", str(file))["code"]

    @pytest.mark.parametrize(
        ("first", "status", "phase"),
        [
            (b"HTTP/1.1 100 Continue", 404, "refused"),
            (b"HTTP/1.1 200 Connection established", 404, "refused"),
            (b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /there", 404, "refused"),
            (b"HTTP/1.1 303 See Other\r\nLocation: /there", 404, "unknown"),
        ],
    )
    def test_of_several_the_last_is_read(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, first: bytes, status: int, phase: str
    ) -> None:
        """As `curl -i -L` prints them; D4: after "see other" the last says nothing of the first request."""
        file = tmp_path / "failed.http"
        file.write_bytes(first + b"\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n")
        answer = asked(capsys, "classify", "--response", str(file))

        assert (status, phase) == (answer["status"], answer["phase"])

    def test_a_line_that_is_none_is_counted_from_the_top(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        file = tmp_path / "odd.http"
        file.write_bytes(b"HTTP/1.1 100 Continue\r\nA: 1\r\n\r\nHTTP/1.1 404 Not Found\r\nodd\r\n\r\n")

        assert "line 5: expected a header" in refused(capsys, "classify", "--response", str(file))

    def test_it_may_come_from_a_pipe(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"HTTP/1.1 503 Busy\n\n")))

        assert 503 == asked(capsys, "classify", "--response", "-")["status"]

    def test_a_failure_inside_a_200_is_one(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        file = tmp_path / "failed.http"
        file.write_bytes(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"ok": false, "error": "ratelimited"}')
        answer = asked(capsys, "classify", "--dialect", "slack", "--response", str(file))

        assert ("retry", "ratelimited") == (answer["action"], answer["code"])

    def test_a_success_is_none(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        file = tmp_path / "fine.http"
        file.write_bytes(b"HTTP/1.1 200 OK\r\n\r\nfine")

        assert asked(capsys, "classify", "--response", str(file))["action"] is None
        assert 0 == main(["classify", "--response", str(file)])
        assert "a success: there is nothing to classify\n" == capsys.readouterr().out

    @pytest.mark.parametrize(
        ("content", "line"),
        [
            (b"", "line 1: expected a status line such as 'HTTP/1.1 429 Too Many Requests', got ''"),
            (b'{"error": 1}', "line 1: expected a status line such as 'HTTP/1.1 429 Too Many Requests', got '{\"error\": 1}'"),
            (b"HTTP/1.1\r\n\r\n", "line 1: expected a status line such as 'HTTP/1.1 429 Too Many Requests', got 'HTTP/1.1'"),
            (
                b"HTTP/1.1 999 Odd\r\n\r\n",
                "line 1: expected a status line such as 'HTTP/1.1 429 Too Many Requests', got 'HTTP/1.1 999 Odd'",
            ),
            (b"HTTP/1.1 429 Slow\r\nRetry-After 3\r\n\r\n", "line 2: expected a header such as 'Retry-After: 3', got 'Retry-After 3'"),
            (b"HTTP/1.1 429 Slow\r\nA: 1\r\n folded\r\n\r\n", "line 3: expected a header such as 'Retry-After: 3', got ' folded'"),
        ],
    )
    def test_what_is_none_is_refused_by_its_line(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes, line: str
    ) -> None:
        file = tmp_path / "odd.http"
        file.write_bytes(content)

        assert f"resilience: --response: {file}, {line}" == refused(capsys, "classify", "--response", str(file))

    def test_a_file_that_is_not_there_is_named(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        file = str(tmp_path / "none.http")

        assert f"resilience: --response: cannot read {file!r}: No such file or directory" == refused(capsys, "classify", "--response", file)


class TestDialects:
    def test_all_of_them_are_printed(self, capsys: pytest.CaptureFixture[str]) -> None:
        tables = asked(capsys, "dialects")

        assert {"http", "callmissed", "openai", "anthropic", "grpc", "postgresql", "redis", "stripe", "github"} <= set(tables)
        assert set(named()) == set(tables)

    @pytest.mark.parametrize("name", named())
    def test_each_is_found_by_its_name_and_said_in_full(self, capsys: pytest.CaptureFixture[str], name: str) -> None:
        said = asked(capsys, "dialects", name)[name]

        assert {"entries", "word_first", "by_result", "by_item", "creates_nothing"} == set(said)
        assert {"by", "key", "action", "attempts", "throttled", "blames", "rule"} == set(said["entries"][0])
        assert "default" == said["entries"][-1]["by"]
        assert 0 == main(["dialects", name])
        assert name == capsys.readouterr().out.splitlines()[0].strip()

    @pytest.mark.parametrize("name", named())
    def test_each_fits_on_a_terminal_of_80_columns_with_all_its_words(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        rows = asked(capsys, "dialects", name)[name]["entries"]
        assert 0 == main(["dialects", name])
        lines = capsys.readouterr().out.splitlines()
        head = next(line for line in lines if line.startswith("by "))
        at = [head.index(column) for column in ("by", "key", "action", "blames", "from")]
        cells = [[line[start:end].strip() for start, end in zip(at, [*at[1:], 80], strict=True)] for line in lines]

        assert max(map(len, lines)) <= 80
        assert len(rows) == len([row for row in cells if row[3] in {"peer", "caller", "credential"}])
        assert {row["rule"].partition(":")[0] for row in rows} <= {row[4] for row in cells}
        assert 25 < at[2] - at[1]  # wide enough for most keys to stand on one line

    def test_entries_come_in_the_order_in_which_they_are_asked(self, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
        monkeypatch.setitem(sys.modules, "own_rules", sys.modules[__name__])
        rows = asked(capsys, "dialects", "own_rules:ORDERED")["own_rules:ORDERED"]["entries"]

        asked_in_turn = ["429 busy", "429 words", "busy", "429 b*", "bus*", "b*", "longer words", "words", "family", "429", "4xx"]
        assert [*asked_in_turn, "builtins.ValueError", ""] == [row["key"] for row in rows]

    def test_what_a_table_has_beside_its_entries_is_told(self, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
        monkeypatch.setenv("COLUMNS", "200")
        slack, grpc, openai = (asked(capsys, "dialects", name)[name] for name in ("slack", "grpc", "openai"))

        assert (True, False) == (grpc["word_first"], slack["word_first"])
        assert slack["by_result"].startswith("The failure that an answer of Slack's holds")
        assert (None, None) == (slack["by_item"], grpc["creates_nothing"])
        assert openai["by_item"].startswith("What an item of a stream says if it is an error event")
        assert 0 == main(["dialects", "grpc"]) == main(["dialects", "openai"])
        lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert "word_first: The peer's own word comes before all entries." in lines
        assert f"creates_nothing: {openai['creates_nothing']}" in lines

    def test_a_function_that_says_nothing_of_itself_is_named(self, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
        monkeypatch.setitem(sys.modules, "own_rules", sys.modules[__name__])

        assert "silent" == asked(capsys, "dialects", "own_rules:ORDERED")["own_rules:ORDERED"]["creates_nothing"]

    def test_an_entry_is_told_with_the_table_it_is_from(self, capsys: pytest.CaptureFixture[str]) -> None:
        rows = asked(capsys, "dialects", "callmissed")["callmissed"]["entries"]
        entry = next(row for row in rows if (row["by"], row["key"]) == ("code", "provider_error"))

        assert {
            "by": "code",
            "key": "provider_error",
            "action": "retry",
            "attempts": 3,
            "throttled": False,
            "blames": "peer",
            "rule": "callmissed: code provider_error",
        } == entry


class TestRefused:
    @pytest.mark.parametrize(
        ("argv", "line"),
        [
            ([], "the following arguments are required: {classify,dialects}; see resilience --help"),
            (["frob"], "argument {classify,dialects}: invalid choice: 'frob'"),
            (["classify"], "expected a failure to classify: a status, a code, or --response FILE"),
            (["classify", "--retry-after", "3"], "expected a failure to classify: a status, a code, or --response FILE"),
            (["classify", "999"], "expected a status of 100 to 599, or an error code, got '999'"),
            (["classify", "99"], "expected a status of 100 to 599, or an error code, got '99'"),
            (["classify", ""], "code: expected 1 to 128 printable characters of ASCII, got ''"),
            (["classify", "503", "--kind", "Br\u00fccke"], "--kind: expected 1 to 128 printable characters of ASCII, got 'Br\u00fccke'"),
            (["classify", "503", "a", "b"], "expected a status and a code, got '503 a b'"),
            (["classify", "503", "504", "505"], "expected a status and a code, got '503 504 505'"),
            (["classify", "503", "--response", "x"], "--response says all there is to say; expected no status beside it"),
            (["classify", "503", "--retry-after", "soon"], "--retry-after: expected seconds or an HTTP-date, got 'soon'"),
            (["classify", "503", "--method", "P0ST"], "--method: expected an HTTP method, got 'P0ST'"),
            (["classify", "503", "--frob"], "unrecognized arguments: --frob"),
            (["classify", "503", "--dialect", "nope"], "unknown dialect 'nope'; known are anthropic, aws, "),
            (["dialects", "../http"], "unknown dialect '../http'; known are "),
            (["dialects", "http:"], "unknown dialect 'http:'; known are "),
            (["dialects", ":RULES"], "unknown dialect ':RULES'; known are "),
            (
                ["classify", "503", "--dialect", "nope:RULES"],
                "cannot load dialect 'nope:RULES': ModuleNotFoundError: No module named 'nope'",
            ),
            (["classify", "503", "--dialect", "json:RULES"], "cannot load dialect 'json:RULES': AttributeError: "),
            (["classify", "503", "--dialect", "json:dumps"], "dialect 'json:dumps': expected Rules, got function"),
        ],
    )
    def test_what_makes_no_sense_gets_one_line(self, capsys: pytest.CaptureFixture[str], argv: list[str], line: str) -> None:
        assert refused(capsys, *argv).startswith(f"resilience: {line}")

    def test_without_rich_there_is_json_all_the_same(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delitem(sys.modules, "resilience.cli.screen", raising=False)
        monkeypatch.delattr("resilience.cli.screen", raising=False)
        monkeypatch.setitem(sys.modules, "rich", None)

        assert "resilience: this needs rich: pip install 'resilience-engine[cli]', or ask for --json" == refused(capsys, "classify", "503")
        assert "retry" == asked(capsys, "classify", "503")["action"]


COMMAND = Path(sys.executable).parent / "resilience"


@pytest.mark.parametrize("how", [["--json"], []])
def test_a_reader_that_has_seen_enough_is_no_accident(how: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([COMMAND, "dialects", *how], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)

    assert "" == done.stderr


def test_it_is_installed_as_a_command() -> None:
    command = COMMAND
    done = subprocess.run([command, "classify", "frob", "503", "x"], capture_output=True, text=True, check=False)

    assert (2, "resilience: expected a status and a code, got 'frob 503 x'\n") == (done.returncode, done.stderr)
