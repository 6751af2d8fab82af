"""
Real servers for the tests: each on a free port of this machine, in a folder of its own, gone when the tests are.

A server's program runs under a shell that waits for the end of its own standard input, which this process holds.  So the server ends when
`Process.stop` closes that, and just as well when this process is killed and can close nothing.

Debian's packages bring the programs; `.ci/run` installs them.  Where one is missing, locally, its tests are skipped and say why; in CI they
fail, for nobody reads the skips there.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Self, cast

import pytest

__all__ = ["HOST", "PostgreSQL", "Process", "Redis", "free_port", "missing", "program"]

HOST = "127.0.0.1"
PATIENCE = 60.0  # seconds for a server to come up, or to go: a slow machine is no bug

# The server is "$@".  Its end ends the shell.  The end of the shell's input ends the server, by the signal in $0, and takes the folder
# along unless a word came before: then somebody is left to do that.
_TIED = """
folder=$1; shift
exec 3<&0
"$@" 3<&- </dev/null &
server=$!
{
    read -r word <&3
    kill -s "$0" "$server"
    if [ "$word" != keep ]; then
        while kill -0 "$server"; do sleep 0.1; done
        rm -rf "$folder"
    fi
} 2>/dev/null &
exec 3<&-
wait "$server"
"""


def missing(what: str) -> NoReturn:
    """Skip the test because *what* is not there, or fail it in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and .ci/run should have seen to it")
    pytest.skip(what)


def program(name: str, *places: str) -> str:
    """The program *name*, from the PATH or from a folder that matches one of *places* (newest version last); skips if there is none."""
    found = shutil.which(name)
    if found is not None:
        return found
    for place in places:
        for path in sorted(Path("/").glob(place.lstrip("/")), reverse=True):
            if os.access(path / name, os.X_OK):
                return str(path / name)
    missing(f"there is no {name} on this machine")


def free_port() -> int:
    """A port that nobody listens at, below those that the kernel gives away: it stays ours while the server is down."""
    for _ in range(100):
        port = random.randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
            return port
    raise RuntimeError("no free port")


class Process:
    """
    One run of a server's program.

    Args:
        command: The program and its arguments.
        log: The file for its words, in the folder that is its own.
        signal: What ends it at once, as ``kill -s`` has it.
        user: Whom it runs as; None for ourselves.
    """

    def __init__(self, command: list[str], *, log: Path, signal: str = "TERM", user: str | None = None) -> None:
        self._log = log
        with log.open("ab") as words:
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", _TIED, signal, str(log.parent), *command],
                stdin=subprocess.PIPE,
                stdout=words,
                stderr=words,
                start_new_session=True,  # Ctrl-C is for us, and we pass it on
                **_as_user(user),
            )

    def wait_until(self, ready: Callable[[], bool]) -> None:
        """
        Wait until *ready* says so.

        Raises:
            RuntimeError: It ended instead, or takes too long; with its last words.
        """
        until = time.monotonic() + PATIENCE
        while not ready():
            if self._shell.poll() is not None or time.monotonic() > until:
                self.stop()
                raise RuntimeError(f"{self._shell.args!r} did not start: {self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.005)

    def stop(self) -> None:
        """End it, and wait until it has; its folder stays."""
        if self._shell.stdin is not None and not self._shell.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self._shell.stdin.write(b"keep\n")
                self._shell.stdin.close()
        self._shell.wait(PATIENCE)


def _as_user(user: str | None) -> dict[str, Any]:
    return {} if user is None else {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


class PostgreSQL:
    """
    A PostgreSQL of our own, which starts in a second and forgets everything: nothing of it is ever synced to disk.

    Anybody on this machine may connect as anyone, without a password, but for the members of role ``secured``.

    Attributes:
        port: Where it listens, at `HOST`.
        superuser: Who may do anything, on the connection that is kept free for it too.
        database: The database that is there from the beginning.
        most: How many connections it allows, one of them for the superuser only.
    """

    superuser = "postgres"
    database = "postgres"
    most = 12

    def __init__(self) -> None:
        places = "/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql*/bin"
        initdb, self._postgres = program("initdb", *places), program("postgres", *places)
        self._user = _unprivileged()
        self._folder = Path(tempfile.mkdtemp(prefix="postgresql-"))
        self._data = self._folder / "data"
        self._lock = self._data / "postmaster.pid"
        self._process: Process | None = None
        try:
            if self._user is not None:
                shutil.chown(self._folder, self._user)
            made = subprocess.run(
                [initdb, "-D", str(self._data), "-U", self.superuser, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
                capture_output=True,
                text=True,
                check=False,
                cwd=self._folder,
                **_as_user(self._user),
            )
            if made.returncode != 0:
                raise RuntimeError(f"initdb: {made.stdout}{made.stderr}")
            access = self._data / "pg_hba.conf"
            access.write_text(f"host all +secured {HOST}/32 scram-sha-256\nhost all all {HOST}/32 trust\n", encoding="utf-8")
            self.port = free_port()
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self) -> None:
        """Start it, again after `stop` with all that it held."""
        settings = {
            "listen_addresses": HOST,
            "port": self.port,
            "unix_socket_directories": self._folder,
            "max_connections": self.most,
            "superuser_reserved_connections": 1,
            "max_wal_senders": 0,
            "wal_level": "minimal",
            "shared_buffers": "1MB",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            "jit": "off",
            "deadlock_timeout": "20ms",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._lock.unlink(missing_ok=True)  # left by a run that was killed
        command = [self._postgres, "-D", str(self._data), *options]
        # Nothing to save, nobody to wait for.
        process = Process(command, log=self._folder / "log", signal="QUIT", user=self._user)
        process.wait_until(self._is_ready)
        self._process = process

    def stop(self) -> None:
        """Stop it at once: whoever is connected sees the connection break."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_ready(self) -> bool:
        # storage/postmaster/miscinit: the eighth line of the lock file tells the state.
        with contextlib.suppress(OSError, IndexError):
            return self._lock.read_text(encoding="utf-8").splitlines()[7].strip() == "ready"
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Redis:
    """
    A Redis of our own, which starts in no time, and keeps what it holds only where it is told to ``SAVE``.

    Attributes:
        port: Where it listens, at `HOST`.
        url: The same, for clients.
    """

    def __init__(self) -> None:
        self._server = program("redis-server")
        self._folder = Path(tempfile.mkdtemp(prefix="redis-"))
        self._process: Process | None = None
        self.port = free_port()
        self.url = f"redis://{HOST}:{self.port}"
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self, **settings: object) -> None:
        """
        Start it, again after `stop` with what was saved.

        Args:
            settings: Of its configuration, beside ours; underscores are dashes.
        """
        ours = {"port": self.port, "bind": HOST, "save": "", "appendonly": "no", "dir": self._folder, "rdbcompression": "no"}
        given = {name.replace("_", "-"): value for name, value in settings.items()}
        options = [part for name, value in (ours | given).items() for part in (f"--{name}", str(value))]
        # Killed: no farewell, no saving.
        process = Process([self._server, *options], log=self._folder / "log", signal="KILL")
        process.wait_until(self._is_there)
        self._process = process

    def stop(self) -> None:
        """Stop it at once: whoever is connected sees the connection break."""
        if self._process is not None:
            self._process.stop()
            self._process = None

    def close(self) -> None:
        """Stop it for good."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def ask(self, *command: object) -> Any:
        """What it answers to *command*, on a connection of its own, from a client that repeats nothing."""
        import redis.backoff
        import redis.retry

        once = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
        with redis.Redis(host=HOST, port=self.port, retry=once, decode_responses=True, protocol=2) as client:
            return cast("Any", client).execute_command(*command)

    def calls(self, command: str) -> int:
        """How often it was asked for *command* since ``CONFIG RESETSTAT``, whether it carried it out or refused."""
        stats = self.ask("INFO", "commandstats").get(f"cmdstat_{command.lower()}", {})
        return int(stats.get("calls", 0)) + int(stats.get("rejected_calls", 0))

    def _is_there(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, self.port), timeout=PATIENCE) as connection:
            connection.sendall(b"PING\r\n")
            return bool(connection.recv(64))  # while it loads its data it says so
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _unprivileged() -> str | None:
    """Whom PostgreSQL, which refuses to be root, is to run as; None for ourselves."""
    if os.geteuid() != 0:
        return None
    names = [entry.pw_name for entry in pwd.getpwall()]
    return next((name for name in ("postgres", "nobody") if name in names), None)
