"""The deployments on a real Prefect server, from zero and through failures.

The commands are those of docs/operating.md. The server, the worker and their files live in a copy
of the project, whose scoring can be held up after a part by creating a file, so that what happens
in the middle of a run happens there and not a moment earlier or later.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from prefect_server import NO_NAME_IN_PREFECT, ROOT, PrefectServer, kill, until
from recording import Proof

from charrnn.model.version import ModelVersion, save_version, set_alias
from charrnn.runs.verify import verify_run

pytestmark = [pytest.mark.server, pytest.mark.slow]

# After the part of this index is finished: wait while there is a file hold-INDEX.
_HOLD = """
import time
from pathlib import Path

from charrnn.runs import execute

_write_receipt = execute.write_receipt


def _write_and_hold(folder, receipt):
    _write_receipt(folder, receipt)
    while Path(f"hold-{receipt.index}").exists():
        time.sleep(0.1)


execute.write_receipt = _write_and_hold
"""

KILLED = "worker or server killed while a tracked run works: published or gone on with, once"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class Site:
    """A copy of the project with a server and a worker, set up by the page's commands.

    Attributes:
        walk: what the page's last command, which starts a run and watches it, printed.
    """

    def __init__(self, home: Path, folder: Path, version: ModelVersion) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "flows", folder / "flows")
        with (folder / "flows/__init__.py").open("a") as file:
            file.write(_HOLD)
        (folder / "charrnn").symlink_to(ROOT / "charrnn")
        (folder / "data/inbox").mkdir(parents=True)
        for name in ("prefect.yaml", "automations.yaml", "data/example.csv"):
            shutil.copy(ROOT / name, folder / name)
        save_version(folder / "outputs/models", version)
        set_alias(folder / "outputs/models", "champion", "v0001")
        self.server = PrefectServer(home)
        self.server.environment |= {
            "PYTHONPATH": str(folder),
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
            "PREFECT_SERVER_CONCURRENCY_MAXIMUM_CONCURRENCY_SLOT_WAIT_SECONDS": "3",
        }
        self.walk = ""

    def set_up(self) -> None:
        for line in documented_commands():
            self._run_line(line)

    def _run_line(self, line: str) -> None:
        words = shlex.split(line.replace("4200", str(self.server.port)), comments=True)
        while "=" in words[0] or words[0] == "export":
            name, _, value = words.pop(0).partition("=")
            if value:
                self.server.environment[name] = value
            if not words:
                return
        assert words.pop(0) == "prefect", line
        if words[:2] == ["server", "start"]:
            assert words[2:] == ["--host", "127.0.0.1", "--port", str(self.server.port)]
            self.machine = self.server.start()
        elif words[:2] == ["worker", "start"]:
            self.worker = self.server.background(*words, cwd=self.folder)
        else:
            self.walk = self.prefect(*words)

    def prefect(self, *arguments: str) -> str:
        """Run a command of Prefect's to its end and return what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *arguments], cwd=self.folder,
            env=self.server.environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def deployment(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.api(f"/deployments/name/{name}")
        return found

    def start(self, name: str, **parameters: Any) -> str:
        """Start a run of a deployment and return the run's id."""
        path = f"/deployments/{self.deployment(name)['id']}/create_flow_run"
        return str(self.server.api(path, {"parameters": parameters})["id"])

    def state(self, run: str) -> dict[str, Any]:
        found: dict[str, Any] = self.server.api(f"/flow_runs/{run}")["state"]
        return found

    def end_of(self, run: str) -> str:
        """Wait for the end of a run and return the type of its state."""
        until(lambda: self.state(run)["type"] in ENDED, "the run ends")
        return str(self.state(run)["type"])

    def hold(self, index: int) -> Path:
        file = self.folder / f"hold-{index}"
        file.touch()
        return file

    def table(self, name: str, rows: int = 50) -> Path:
        path = self.folder / "data" / name
        names = [f"Canary{i % 7}" for i in range(rows)]
        frame = pl.DataFrame({"id": range(rows), "name": names})
        frame.write_parquet(path, row_group_size=10)
        return path

    def published(self, name: str) -> list[Path]:
        folder = self.folder / "outputs/predictions" / name
        return sorted(p for p in folder.glob("runs/run=2*") if (p / "manifest.json").exists())

    def held_parts(self, name: str, index: int) -> dict[str, int]:
        """Wait until a run has finished the part ``index``; return the inodes of its parts."""
        folder = self.folder / "outputs/predictions" / name
        receipt = f".staging-*/part-{index:05d}.json"
        until(lambda: list(folder.glob(receipt)), "the run reaches the part")
        return inodes(next(folder.glob(".staging-*")))


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.glob("rows/part-*.parquet")}


def documented_commands() -> list[str]:
    text = (ROOT / "docs/operating.md").read_text()
    block = re.search(r"<!-- command: operate -->\n```sh\n([^`]+)```", text)
    assert block
    return block[1].splitlines()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, tiny_version: ModelVersion) -> Iterator[Site]:
    site = Site(tmp_path_factory.mktemp("prefect"), tmp_path_factory.mktemp("site"), tiny_version)
    try:
        site.set_up()
        yield site
    finally:
        site.server.stop()


# Five parts of 50 rows.
PARTS = {"model": "v0001", "compute": {"partition_rows": 10, "workers": 1}}


def test_the_walk_of_the_page_ends_in_a_published_run(site: Site) -> None:
    assert "Flow run finished successfully in 'Completed'." in site.walk
    [run] = [run for run in site.server.runs() if run["name"] == "score example.csv"]
    assert run["state"]["type"] == "COMPLETED"
    [published] = site.published("example")
    assert verify_run(published).rows == 160
    shown = site.server.artifacts(run["id"])
    assert shown["scoring"] == 100
    assert "| rows | 160 |" in shown["score-summary"]
    assert json.loads(shown["label-shares"])[0]["rows"] >= 10
    assert (published / "report.html").as_uri() in shown["run-report"]


def test_the_server_holds_what_prefect_yaml_says(site: Site) -> None:
    listed = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    assert len(listed) == 7
    for entry in listed:
        flow = entry["entrypoint"].split(":")[1]
        held = site.deployment(f"{flow}/{entry['name']}")
        assert held["tags"] == entry["tags"]
        assert held["global_concurrency_limit"]["limit"] == 1
        strategy = entry["concurrency_limit"]["collision_strategy"]
        assert held["concurrency_options"]["collision_strategy"] == strategy
        assert held["job_variables"] == entry["work_pool"]["job_variables"]
        fired = [(s["schedule"] | s) for s in held["schedules"]]
        wanted = entry.get("schedules", [])
        for key in ("cron", "timezone", "active"):
            assert [s[key] for s in fired] == [s[key] for s in wanted]
        form = held["parameter_openapi_schema"]
        groups = [form, *form.get("definitions", {}).values()]
        fields = [(name, field) for group in groups for name, field in group["properties"].items()]
        assert [name for name, field in fields if not field.get("description")] == []
    form = site.deployment("inbox/nightly")["parameter_openapi_schema"]
    names = form["definitions"]["PrivacyOptions"]["properties"]["names"]
    assert (names["enum"], names["default"]) == (["keep", "hash", "omit"], "keep")


def test_an_event_starts_the_inbox(site: Site) -> None:
    site.table("inbox/landed.parquet")
    site.prefect("event", "emit", "charrnn.file.landed", "--resource-id", "charrnn.inbox")
    wanted = site.deployment("inbox/landed")["id"]
    runs = until(
        lambda: [run for run in site.server.runs() if run["deployment_id"] == wanted],
        "the automation starts a run",
    )
    assert site.end_of(runs[0]["id"]) == "COMPLETED"
    assert verify_run(site.published("landed~parquet")[0]).rows == 50


def test_a_schedule_fires(site: Site) -> None:
    poll = site.deployment("inbox/poll")
    schedule = f"/deployments/{poll['id']}/schedules/{poll['schedules'][0]['id']}"
    site.table("inbox/polled.parquet")
    site.server.api(schedule, {"schedule": {"interval": 5}, "active": True}, "PATCH")

    def done() -> bool:
        return any(
            run["deployment_id"] == poll["id"] and run["state"]["type"] == "COMPLETED"
            for run in site.server.runs()
            if run["auto_scheduled"]
        )

    until(done, "a scheduled run is completed")
    site.server.api(schedule, {"active": False}, "PATCH")
    assert len(site.published("polled~parquet")) == 1


def test_the_second_of_two_triggers_waits_and_finds_nothing_to_do(site: Site) -> None:
    source = str(site.table("twice.parquet"))
    hold = site.hold(2)
    first = site.start("score/on-demand", source=source, **PARTS)
    site.held_parts("twice", 2)
    second = site.start("score/on-demand", source=source, **PARTS)
    until(lambda: site.state(second)["name"] == "AwaitingConcurrencySlot", "the second waits")
    hold.unlink()
    assert [site.end_of(first), site.end_of(second)] == ["COMPLETED", "COMPLETED"]
    assert len(site.published("twice")) == 1


def test_a_second_inbox_run_is_cancelled(site: Site) -> None:
    site.table("inbox/night.parquet")
    hold = site.hold(0)
    first = site.start("inbox/nightly", settle_seconds=0)
    site.held_parts("night~parquet", 0)
    second = site.start("inbox/nightly", settle_seconds=0)
    assert site.end_of(second) == "CANCELLED"
    assert site.state(second)["message"] == "Deployment concurrency limit reached."
    hold.unlink()
    assert site.end_of(first) == "COMPLETED"
    assert len(site.published("night~parquet")) == 1


def test_the_automation_tells_a_dead_run_from_a_healthy_one(site: Site, proof: Proof) -> None:
    """Both are started from a terminal and held up for three minutes; one is killed."""
    hold = site.hold(2)

    def start(name: str) -> subprocess.Popen[bytes]:
        source = str(site.table(f"{name}.parquet"))
        command = [sys.executable, "flows/score.py", source, "--model", "v0001", "--workers", "1",
                   "--partition-rows", "10"]  # fmt: skip
        process = subprocess.Popen(command, cwd=site.folder, env=site.server.environment)
        site.server.processes.append(process)
        site.held_parts(name, 2)
        return process

    def state(name: str) -> str:
        runs = [run for run in site.server.runs() if run["name"] == f"score {name}.parquet"]
        return str(runs[0]["state"]["type"])

    begin = time.monotonic()
    healthy, dead = start("healthy"), start("dead")
    kill(dead)
    until(lambda: state("dead") == "CRASHED", "the dead run is marked", seconds=180)
    while time.monotonic() < begin + 190:
        assert state("healthy") == "RUNNING"
        time.sleep(5)
    hold.unlink()
    assert healthy.wait(60) == 0
    assert state("healthy") == "COMPLETED"
    assert len(site.published("healthy")) == 1
    proof("P13", "three minutes of a run from a terminal beside a killed one: one is Crashed", 2)


def test_after_a_killed_worker_the_same_run_goes_on(site: Site, proof: Proof) -> None:
    source = str(site.table("killed.parquet"))
    hold = site.hold(2)
    first = site.start("score/on-demand", source=source, **PARTS)
    parts = site.held_parts("killed", 2)
    assert len(parts) >= 3
    kill(site.worker)
    hold.unlink()
    assert site.published("killed") == []
    assert site.state(first)["type"] == "RUNNING"  # nobody told the server

    site.worker = site.server.background("worker", "start", "--pool", "local", cwd=site.folder)
    dead = {"type": "CRASHED", "message": "as the automation for missing heartbeats says"}
    site.server.api(f"/flow_runs/{first}/set_state", {"state": dead, "force": True})
    assert site.end_of(site.start("score/on-demand", source=source, **PARTS)) == "COMPLETED"
    [published] = site.published("killed")
    assert verify_run(published).rows == 50
    assert parts.items() <= inodes(published).items()
    assert len(inodes(published)) == 5
    proof("P13", KILLED, 1)


def test_a_server_killed_in_the_middle_of_a_run_costs_nothing(site: Site, proof: Proof) -> None:
    source = str(site.table("cut_off.parquet"))
    hold = site.hold(2)
    first = site.start("score/on-demand", source=source, **PARTS)
    parts = site.held_parts("cut_off", 2)
    kill(site.machine)
    hold.unlink()
    published = until(lambda: site.published("cut_off"), "the run is published without a server")
    assert verify_run(published[0]).rows == 50
    assert parts.items() <= inodes(published[0]).items()
    site.machine = site.server.start()
    assert site.end_of(first) in ENDED
    again = site.start("score/on-demand", source=source, **PARTS)
    assert site.end_of(again) == "COMPLETED"
    assert site.published("cut_off") == published
    proof("P13", KILLED, 1)


def test_a_failed_run_sends_a_message(site: Site) -> None:
    """The automation of automations.yaml, switched on as the page says."""
    arrived = list[str]()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.end_headers()

    text = (ROOT / "docs/operating.md").read_text()
    [switch_on] = re.findall(r"```python\n([^`]+Automation[^`]+)```", text)
    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{receiver.server_port}/hook"
        command = [sys.executable, "-c", switch_on.replace("https://example.org/hook", address)]
        subprocess.run(command, env=site.server.environment, check=True, timeout=300)
        assert site.end_of(site.start("score/on-demand", source="data/nowhere.csv")) == "FAILED"
        until(lambda: arrived, "a message arrives")
        receiver.shutdown()
    assert "score nowhere.csv Failed: data/nowhere.csv does not exist" in arrived[0]


def test_no_name_is_kept_by_the_server_or_the_worker(site: Site, proof: Proof) -> None:
    assert site.server.files_with(b"Canary") == []
    proof("P12", NO_NAME_IN_PREFECT, len(site.server.files()))
