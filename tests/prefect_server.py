"""A real Prefect server for tests, on a free port and in a home of its own."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
NO_NAME_IN_PREFECT = "files of a Prefect server and its worker (database, logs, results): no name"


class PrefectServer:
    """A server that can be killed and started again; its data stay in ``home``.

    Attributes:
        environment: what a command needs to be tracked by it.
    """

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.home = home
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.environment = {
            **os.environ,
            "PREFECT_HOME": str(home),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": (
                "prefect.server.concurrency.lease_storage.filesystem"
            ),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "200",
        }
        self.processes: list[subprocess.Popen[bytes]] = []

    def background(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[bytes]:
        """Start ``python -m prefect`` in a session of its own; its output goes to a log in home."""
        log = (self.home / f"{arguments[0]}.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", *arguments],
            cwd=cwd, env=self.environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        self.processes.append(process)
        return process

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server and wait until it answers."""
        process = self.background(
            "server", "start", "--host", "127.0.0.1", "--port", str(self.port)
        )

        def healthy() -> bool:
            assert process.poll() is None, (self.home / "server.log").read_text()
            try:
                return bool(self.api("/health"))
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                return False

        until(healthy, "the server answers", seconds=180)
        return process

    def stop(self) -> None:
        """End all that was started here."""
        for process in self.processes:
            kill(process)

    def api(self, path: str, body: Any = None, method: str | None = None) -> Any:
        """Call the API: GET, or POST where there is a body; again where it is busy (503)."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data, {"Content-Type": "application/json"}, method=method
        )
        for last in (False, False, True):
            try:
                with urllib.request.urlopen(request, timeout=60) as response:
                    return json.loads(response.read() or "null")
            except urllib.error.HTTPError as error:
                if error.code != 503 or last:
                    raise
                time.sleep(1)

    def runs(self) -> list[dict[str, Any]]:
        """Return the flow runs, newest first."""
        found: list[dict[str, Any]] = self.api(
            "/flow_runs/filter", {"limit": 200, "sort": "EXPECTED_START_TIME_DESC"}
        )
        return found

    def artifacts(self, run: str) -> dict[str, Any]:
        """Return the data of a flow run's artifacts by key."""
        wanted = {"artifacts": {"flow_run_id": {"any_": [run]}}}
        return {a["key"]: a["data"] for a in self.api("/artifacts/filter", wanted)}

    def files(self) -> list[Path]:
        """Return the files of the home: database, logs, results."""
        kept = [path for path in self.home.rglob("*") if path.is_file()]
        assert any(path.suffix == ".db" for path in kept)
        return kept

    def files_with(self, text: bytes) -> list[Path]:
        """Return the files of the home that hold these bytes."""
        return [path for path in self.files() if text in path.read_bytes()]


def descendants(process: int) -> list[int]:
    """Return the ids of a process's children, their children and so on."""
    parents = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
    children = [child for child, parent in parents.items() if parent == process]
    return children + [pid for child in children for pid in descendants(child)]


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and all that it started, as when a machine loses power."""
    for pid in [process.pid, *descendants(process.pid)]:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def until(condition: Callable[[], Any], what: str, seconds: float = 120) -> Any:
    """Wait until ``condition`` returns something true, and return that."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError(f"waited {seconds:.0f} s until {what}")
