"""What Prefect records of a run, on a real server and in this process."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from commands import complaint
from flat import score
from prefect_server import NO_NAME_IN_PREFECT, ROOT, PrefectServer, until
from recording import Proof

from charrnn.errors import DataError
from charrnn.recipes import score as score_recipe
from charrnn.recipes.published import label_shares
from charrnn.scoring.options import DeliveryOptions
from flows import tracking

# --- without a server: Prefect is imported late, since flows are tracked once it is there -------


def test_progress_moves_and_ends_at_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[float] = []
    moved = threading.Event()

    def update(artifact_id: str, progress: float) -> None:
        sent.append(progress)
        moved.set()

    monkeypatch.setattr(tracking, "TRACKED", True)
    monkeypatch.setattr(tracking, "_PROGRESS_SECONDS", 0.01)
    monkeypatch.setattr("prefect.artifacts.create_progress_artifact", lambda **_: "id")
    monkeypatch.setattr("prefect.artifacts.update_progress_artifact", update)
    with tracking.note_progress("scoring", 8, "of 8 rows") as advance:
        advance(2)
        assert moved.wait(30)
        for _ in range(6):
            advance(1)
    assert sent[0] == 25.0
    assert sent[-1] == 100.0
    assert sent == sorted(set(sent))


def test_progress_of_a_server_that_is_away_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    def away(**_: Any) -> None:
        raise ConnectionError

    monkeypatch.setattr(tracking, "TRACKED", True)
    monkeypatch.setattr("prefect.artifacts.create_progress_artifact", away)
    monkeypatch.setattr("prefect.artifacts.create_markdown_artifact", away)
    with tracking.note_progress("scoring", 8, "of 8 rows") as advance:
        advance(8)
    tracking.note("key", "text", "description")
    proof("P13", "artifacts for a Prefect server that is away: the work goes on", 2)


@pytest.mark.parametrize(
    ("description", "key"),
    [("scoring", "scoring"), ("honest protocol, seed 0", "honest-protocol-seed-0")],
)
def test_progress_has_a_key_that_prefect_takes(
    monkeypatch: pytest.MonkeyPatch, description: str, key: str
) -> None:
    created: list[dict[str, Any]] = []
    monkeypatch.setattr(tracking, "TRACKED", True)
    monkeypatch.setattr("prefect.artifacts.create_progress_artifact", lambda **a: created.append(a))
    with tracking.show_progress(description, 8, "rows") as advance:
        advance(8)
    assert [artifact["key"] for artifact in created] == [key]
    assert created[0]["description"] == f"{description} 8 rows, in per cent"


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (DataError("row 3 is damaged"), 65, "row 3 is damaged"),
        (KeyError("Canaryfault"), 70, "unexpected KeyError at test_tracking.py:"),
        (MemoryError("Canaryfault"), 70, "out of memory"),
        (OSError("Canaryfault"), 74, "the disk: reading failed"),
        (OSError(28, "No space left", "people.csv"), 74, "people.csv: No space left"),
    ],
)
def test_only_our_own_messages_are_shown(error: Exception, code: int, words: str) -> None:
    with pytest.raises(type(error)) as raised:
        raise error
    shown = tracking.redact(raised.value)
    assert shown.exit_code == code
    assert words in str(shown)
    assert "Canaryfault" not in str(shown)


def test_an_untracked_run_needs_no_slot_and_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "TRACKED", False)
    monkeypatch.setattr("prefect.artifacts.create_markdown_artifact", pytest.fail)
    with tracking.device_slot("cuda"), tracking.note_progress("scoring", 1, "") as advance:
        advance(1)
    tracking.note("key", "text", "description")


def test_scoring_holds_a_slot_of_its_device(
    monkeypatch: pytest.MonkeyPatch, models: Path, tmp_path: Path
) -> None:
    happened: list[str] = []
    score_partitions = score_recipe.score_partitions

    @contextmanager
    def slot(device: str) -> Iterator[None]:
        happened.append(f"{device} held")
        yield
        happened.append(f"{device} free")

    def recorded(*arguments: Any) -> Any:
        happened.append("scored")
        return score_partitions(*arguments)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking, "device_slot", slot)
    monkeypatch.setattr(score_recipe, "score_partitions", recorded)
    Path("people.csv").write_text("id,name\n1,Burghof\n")
    score("people.csv", model="v0001", models=models, device="cpu")
    assert happened == ["cpu held", "scored", "cpu free"]


def test_labels_of_few_rows_are_shown_together() -> None:
    labels = {"Russian": 20, "Greek": 10, "Thai": 9, "Irish": 1}
    options = SimpleNamespace(scoring=SimpleNamespace(label_name="language"))
    manifest: Any = SimpleNamespace(rows=40, labels=labels, options=options)  # all that is read
    assert label_shares(manifest) == [
        {"language": "Russian", "rows": 20, "share": "50.0 %"},
        {"language": "Greek", "rows": 10, "share": "25.0 %"},
        {"language": "under 10 rows each", "rows": 10, "share": "25.0 %"},
    ]
    manifest = SimpleNamespace(rows=0, labels={}, options=options)
    assert label_shares(manifest) == []


_SERVED = """
import json
from flows.deployments import deployments
print(json.dumps([
    {
        "flow": d.flow_name,
        "name": d.name,
        "description": d.description,
        "tags": d.tags,
        "concurrency_limit": {
            "limit": d.concurrency_limit,
            "collision_strategy": d.concurrency_options.collision_strategy.value,
        },
        "schedules": [
            {"cron": s.schedule.cron, "timezone": s.schedule.timezone, "slug": s.slug,
             "active": s.active} for s in d.schedules
        ],
        "expect": [event for trigger in d.triggers for event in sorted(trigger.expect)],
    }
    for d in deployments()
]))
"""


def test_what_is_served_is_what_prefect_yaml_says(tmp_path: Path) -> None:
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", _SERVED],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = [
        {
            "flow": entry["entrypoint"].split(":")[1],
            **{key: entry[key] for key in ("name", "description", "tags", "concurrency_limit")},
            "schedules": entry.get("schedules", []),
            "expect": [
                event for trigger in entry.get("triggers", []) for event in trigger["expect"]
            ],
        }
        for entry in yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    ]
    assert json.loads(done.stdout.splitlines()[-1]) == expected


def test_an_api_that_does_not_answer_is_said_and_nothing_is_written(
    tmp_path: Path, proof: Proof
) -> None:
    (tmp_path / "people.csv").write_text("id,name\n1,Canaryname\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "flows/score.py"), "people.csv"], cwd=tmp_path, text=True,
        env={**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api", "PYTHONPATH": str(ROOT),
             "PREFECT_HOME": str(tmp_path / "home")}, capture_output=True, timeout=300,
    )  # fmt: skip
    line = complaint(done.returncode, 70, done.stderr)
    assert "the Prefect API does not answer" in line
    assert not (tmp_path / "outputs").exists()
    proof("P13", "commands for a Prefect server that does not answer: one line says so", 1)


# --- on a server --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    server = PrefectServer(tmp_path_factory.mktemp("prefect"))
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _command(server: PrefectServer, folder: Path, script: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "flows" / script), *arguments],
        cwd=folder, env=server.environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "untracked" not in done.stderr


@pytest.mark.slow
@pytest.mark.server
def test_ingest_train_and_score_are_completed_flow_runs(
    server: PrefectServer, language_folder: Path, tmp_path: Path
) -> None:
    people = tmp_path / "people.csv"
    people.write_text("id,name\n1,Canaryname\n2,Burghof\n3,\n")
    _command(server, tmp_path, "ingest.py", str(language_folder))
    _command(server, tmp_path, "train.py", "--epochs", "1", "--no-baselines")
    _command(server, tmp_path, "score.py", str(people), "--model", "champion")

    runs = {run["name"]: run for run in server.runs()}
    assert {name: run["state"]["type"] for name, run in runs.items()} == {
        "ingest": "COMPLETED",
        "train default": "COMPLETED",
        "promote v0001": "COMPLETED",
        "score people.csv": "COMPLETED",
    }
    asked = {"flow_runs": {"id": {"any_": [runs["score people.csv"]["id"]]}}}
    tasks = server.api("/task_runs/filter", asked)
    assert sorted(task["name"] for task in tasks) == [
        "fetch", "plan", "publish", "score partitions", "settle prior"
    ]  # fmt: skip
    published = (tmp_path / "outputs/predictions/people/latest").resolve()
    shown = server.artifacts(runs["score people.csv"]["id"])
    assert set(shown) == {"score-summary", "label-shares", "run-report", "scoring"}
    assert shown["scoring"] == 100
    assert "| rows | 3 |" in shown["score-summary"]
    assert "null_name 1" in shown["score-summary"]
    assert json.loads(shown["label-shares"]) == [
        {"language": "under 10 rows each", "rows": 2, "share": "66.7 %"}
    ]
    assert (published / "report.html").as_uri().replace("/latest/", "/") in shown["run-report"]
    trained = server.artifacts(runs["train default"]["id"])
    assert "# Model report: v0001" in trained["model-card"]
    assert trained["honest-protocol-seed-0"] == 100
    assert set(server.artifacts(runs["ingest"]["id"])) == {"data-report"}
    log = _log(server, runs["score people.csv"]["id"], "rows        3: 2 scored")
    assert [line for line in log if line.startswith("Finished in state")] == [log[-1]]
    log = _log(server, runs["train default"]["id"], "champion    v0001")
    assert any("honest protocol, seed 0, epoch 1: loss " in line for line in log)
    wanted = {"filter": {"event": {"name": [tracking.PUBLISHED]}}}
    [event] = until(lambda: server.api("/events/filter", wanted)["events"], "the event is there")
    assert event["resource"]["prefect.resource.id"] == "charrnn.destination.people"
    assert event["payload"].items() >= {"path": str(published), "rows": 3, "unscored": 1}.items()


def _log(server: PrefectServer, run: str, begin: str) -> list[str]:
    """Wait for an entry of a flow run's log that begins so; return all up to the run's end."""
    wanted = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}

    def entries() -> list[str]:
        found = [str(log["message"]) for log in server.api("/logs/filter", wanted)]
        ended = any(line.startswith("Finished in state") for line in found[-1:])
        return found if ended and any(line.startswith(begin) for line in found) else []

    found: list[str] = until(entries, f"{begin!r} is in the run's log", seconds=30)
    return found


_SAVE_KEY = """
from prefect.blocks.system import Secret
from flows.tracking import KEY_BLOCK
Secret(value="CanaryKey0123456789").save(KEY_BLOCK)
"""


@pytest.mark.slow
@pytest.mark.server
def test_neither_names_nor_their_key_reach_the_server(
    server: PrefectServer, tmp_path: Path, proof: Proof
) -> None:
    """The key is in a Secret block, which the server encrypts."""
    people = tmp_path / "people.csv"
    people.write_text("id,name\n1,Canaryname\n2,Canaryother\n")
    save = [sys.executable, "-c", _SAVE_KEY]
    subprocess.run(save, cwd=tmp_path, env=server.environment, check=True, timeout=300)
    _command(server, tmp_path, "score.py", str(people), "--names", "hash")
    assert server.files_with(b"Canary") == []
    proof("P12", NO_NAME_IN_PREFECT, len(server.files()))


@pytest.mark.slow
@pytest.mark.server
def test_a_tracked_run_gives_the_same_bytes(
    server: PrefectServer, tmp_path: Path, proof: Proof
) -> None:
    rows = "".join(f"{i},Canary{'abcdefg'[i % 7]}\n" for i in range(50))
    (tmp_path / "people.csv").write_text(f"id,name\n{rows}")
    options = ("people.csv", "--partition-rows", "10", "-o")
    _command(server, tmp_path, "score.py", *options, "tracked")
    bare = {k: v for k, v in server.environment.items() if not k.startswith("PREFECT_API")}
    command = [sys.executable, str(ROOT / "flows/score.py"), *options, "bare"]
    subprocess.run(command, cwd=tmp_path, env=bare, check=True, capture_output=True, timeout=300)
    tracked, untracked = (
        {path.name: path.read_bytes() for path in (tmp_path / run / "latest").glob("rows/part-*")}
        for run in ("tracked", "bare")
    )
    assert tracked == untracked
    assert json.loads((tmp_path / "tracked/latest/manifest.json").read_bytes())["tracked"]
    assert not json.loads((tmp_path / "bare/latest/manifest.json").read_bytes())["tracked"]
    proof("P13", "parts of a run with and without Prefect: the same bytes", len(tracked))


@pytest.mark.slow
@pytest.mark.server
def test_a_failed_run_is_failed_on_the_server_and_says_why(
    server: PrefectServer, tmp_path: Path
) -> None:
    (tmp_path / "failing.csv").write_text("id,name\n1,Canaryname\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "flows/score.py"), "failing.csv", "--name-column", "nmae"],
        cwd=tmp_path, env=server.environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    reason = "column 'nmae' not found; columns: id, name; did you mean 'name'?"
    assert done.returncode == 65
    assert f"error: {reason} (--name-column)" in done.stderr
    assert "Traceback" not in done.stderr
    [run] = [run for run in server.runs() if run["name"] == "score failing.csv"]
    assert run["state"]["type"] == "FAILED"
    in_form = f"{reason} (in the form: scoring, Name Column)"
    assert run["state"]["message"] == in_form
    log = _log(server, run["id"], "A run with the same parameters goes on")
    assert [line for line in log if "Beginning flow run" not in line] == [
        in_form, tracking._GO_ON, f"Finished in state Failed({in_form!r})"
    ]  # fmt: skip
    # As a form hands them over: options that exclude each other are refused in the same words.
    exclusive = {"name_column": "a", "surname_column": "b"}
    script = f"from flows.score import score\nscore(source='other.csv', scoring={exclusive!r})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path, env=server.environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert "ConfigError: name_column and surname_column are both given" in done.stderr
    [run] = [run for run in server.runs() if run["name"] == "score other.csv"]
    reason = run["state"]["message"]
    assert reason.startswith("name_column and surname_column are both given; the names are in")
    assert reason.endswith(" (in the form: scoring, Surname Column)")
    assert reason in _log(server, run["id"], "A run with the same parameters goes on")


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("kind", ["KeyError", "PanicException"])
def test_the_message_of_a_fault_is_not_recorded(
    server: PrefectServer, tmp_path: Path, kind: str
) -> None:
    script = tmp_path / "flows/faulty.py"  # a place is named where it is in code of ours
    script.parent.mkdir()
    script.write_text(
        "from charrnn.recipes.requests import MonitorRequest\n"
        "from flows.tracking import as_task, flow\n"
        "class PanicException(BaseException): pass\n"
        f"def look_up(name): raise {kind}(name)\n"
        f"@flow(MonitorRequest, name='faulty', flow_run_name='{kind}')\n"
        "def faulty(request): as_task('look up', look_up, 'Canary' + 'fault')\n"
        "faulty()\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path, env=server.environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert "Canaryfault" not in done.stdout + done.stderr
    [run] = [run for run in server.runs() if run["name"] == kind]
    assert run["state"]["type"] == "FAILED"
    assert f"unexpected {kind} at faulty.py:4" in run["state"]["message"]
    assert server.files_with(b"Canaryfault") == []


_HOLD = """
import sys, time
from pathlib import Path
from flows.tracking import device_slot
who, log = sys.argv[1], Path("log")
def note(what):
    with log.open("a") as file: file.write(f"{who} {what}\\n")
note("tries")
with device_slot("cuda"):
    note("in")
    while Path("hold").exists(): time.sleep(0.1)
    note("out")
"""


@pytest.mark.slow
@pytest.mark.server
def test_two_runs_never_hold_the_gpu_at_once(server: PrefectServer, tmp_path: Path) -> None:
    script = tmp_path / "hold.py"
    script.write_text(_HOLD)
    log = tmp_path / "log"

    def start(who: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, str(script), who], cwd=tmp_path, env=server.environment
        )

    def lines() -> list[str]:
        return log.read_text().splitlines() if log.exists() else []

    # Without the limit on the server nothing is held, and nothing fails.
    assert start("free").wait(120) == 0
    assert lines() == ["free tries", "free in", "free out"]

    server.api("/v2/concurrency_limits/", {"name": tracking.GPU_LIMIT, "limit": 1})
    log.unlink()
    (tmp_path / "hold").touch()
    first = start("a")
    until(lambda: "a in" in lines(), "the first is in")
    second = start("b")
    until(lambda: "b tries" in lines(), "the second tries")
    with pytest.raises(subprocess.TimeoutExpired):
        second.wait(4)
    (tmp_path / "hold").unlink()
    assert (first.wait(120), second.wait(120)) == (0, 0)
    assert lines() == ["a tries", "a in", "b tries", "a out", "b in", "b out"]


def test_paths_that_are_not_utf8_survive_as_parameters() -> None:
    odd = os.fsdecode(b"/data/b\xff [1].csv")
    delivery = DeliveryOptions(output=os.fsdecode(b"/o\xfe/"))
    for value in (odd, Path(odd), delivery, "/data/b%FF.csv", r"b\xff.csv", "Größe.csv", "", 3):
        parameter = tracking._with_texts(value, tracking._as_parameter)
        for text in (parameter, getattr(parameter, "output", "")):
            str(text).encode()
        back = tracking._with_texts(parameter, tracking._from_parameter)
        assert back == (str(value) if isinstance(value, Path) else value)
