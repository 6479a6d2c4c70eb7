"""The flows on a real Prefect server, started here on a port and in a home of its own."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _api(url: str, path: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read() or "null")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a command that is to be tracked by a server of our own."""
    home, port = tmp_path_factory.mktemp("prefect"), _free_port()
    url = f"http://127.0.0.1:{port}/api"
    environment = {
        **os.environ,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_API_URL": url,
    }
    log = (home / "server.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "prefect", "server", "start",
         "--host", "127.0.0.1", "--port", str(port)],
        env=environment, stdout=log, stderr=log,
    )  # fmt: skip
    try:
        for _ in range(180):
            try:
                _api(url, "/health")
                break
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                assert process.poll() is None, (home / "server.log").read_text()
                time.sleep(1)
        else:
            pytest.fail("the server did not come up:\n" + (home / "server.log").read_text())
        yield environment
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        log.close()


def _command(environment: dict[str, str], folder: Path, script: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "flows" / script), *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "untracked" not in done.stderr


@pytest.mark.server
def test_ingest_train_and_score_are_completed_flow_runs(
    server: dict[str, str], language_folder: Path, tmp_path: Path
) -> None:
    people = tmp_path / "people.csv"
    people.write_text("id,name\n1,Canaryname\n2,Burghof\n3,\n")
    _command(server, tmp_path, "ingest.py", str(language_folder))
    _command(server, tmp_path, "train.py", "--epochs", "1", "--no-baselines")
    _command(server, tmp_path, "score.py", str(people), "--model", "champion")

    url = server["PREFECT_API_URL"]
    runs = _api(url, "/flow_runs/filter", {"limit": 50})
    states = {run["name"]: run["state"]["type"] for run in runs}
    assert states == {
        "ingest": "COMPLETED",
        "train default": "COMPLETED",
        "promote v0001": "COMPLETED",
        f"score {people}": "COMPLETED",
    }
    keys = {artifact["key"] for artifact in _api(url, "/artifacts/filter", {})}
    assert keys == {"data-report", "model-card", "score-summary"}
    assert (tmp_path / "outputs/predictions/people/latest/manifest.json").exists()


@pytest.mark.server
def test_no_name_reaches_the_server(server: dict[str, str], tmp_path: Path) -> None:
    people = tmp_path / "people.csv"
    people.write_text("id,name\n1,Canaryname\n2,Canaryother\n")
    _command(server, tmp_path, "score.py", str(people))
    kept = [p for p in Path(server["PREFECT_HOME"]).rglob("*") if p.is_file()]
    assert any(p.suffix == ".db" for p in kept)
    assert not [p for p in kept if b"Canary" in p.read_bytes()]


@pytest.mark.server
def test_a_failed_run_is_failed_on_the_server_and_says_why(
    server: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "flows" / "score.py"), "nowhere.csv"],
        cwd=tmp_path, env=server, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 66
    runs = _api(server["PREFECT_API_URL"], "/flow_runs/filter", {"limit": 50})
    failed = [run["state"] for run in runs if run["name"] == "score nowhere.csv"]
    assert [state["type"] for state in failed] == ["FAILED"]
    assert "does not exist" in failed[0]["message"]
