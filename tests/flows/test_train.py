"""The train and pipeline commands: a version with its aliases, or one readable line."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from commands import Command, commands_of, complaint
from safetensors.torch import load

import flows.pipeline
import flows.train
from charrnn.errors import ModelError
from charrnn.files import check_sums, hold
from charrnn.model.version import aliases, list_versions, load_version, set_alias
from charrnn.runs.verify import verify_run
from flows.train import promote_version

ROOT = Path(__file__).parents[2]
MODELS = Path("outputs/models")


@pytest.fixture(autouse=True)
def _working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, corpus_path: Path) -> None:
    """A folder in which ingest has been."""
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/names.parquet").write_bytes(corpus_path.read_bytes())


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_of(flows.train.app, monkeypatch, capsys)


QUICK = ("--epochs", "1", "--seeds", "1", "--no-baselines", "--device", "cpu")


def test_first_training_publishes_a_version_and_both_aliases(
    command: Command, corpus_path: Path
) -> None:
    code, out, error = command(*QUICK)
    assert code == 0, error
    assert list_versions(MODELS) == ["v0001"]
    assert aliases(MODELS) == {"candidate": "v0001", "champion": "v0001"}
    files = {p.name for p in (MODELS / "v0001").iterdir()}
    assert files >= {"SHA256SUMS", "model.json", "report.html", "weights.safetensors"}
    check_sums(MODELS / "v0001")
    version = load_version(MODELS / "v0001")
    assert version.labels == ("Alpha", "Beta", "Gamma")
    assert version.facts.data_digest
    assert len(version.facts.metrics.seed) == 1
    assert "version     v0001, preset default" in out
    assert "champion    v0001" in out
    assert "Gamma" in out
    assert not (MODELS / ".training").exists()
    names = pq.read_table(corpus_path)["name"].to_pylist()
    report = (MODELS / "v0001/report.html").read_text()
    model = (MODELS / "v0001/model.json").read_text()
    for name in names:
        if len(name) > 8:
            assert name not in out + report + model


def test_second_training_publishes_the_next_version_and_keeps_the_first(command: Command) -> None:
    command(*QUICK)
    before = {p.name: p.read_bytes() for p in (MODELS / "v0001").iterdir()}
    code, _, error = command(*QUICK, "--seed", "5", "--promote", "never")
    assert code == 0, error
    assert list_versions(MODELS) == ["v0001", "v0002"]
    assert aliases(MODELS) == {"candidate": "v0002", "champion": "v0001"}
    assert {p.name: p.read_bytes() for p in (MODELS / "v0001").iterdir()} == before
    code, out, error = command(*QUICK, "--seed", "6", "--promote", "always")
    assert code == 0, error
    assert aliases(MODELS) == {"candidate": "v0003", "champion": "v0003"}
    assert "champion    v0003 (was v0001)" in out


def test_same_seed_gives_the_same_weights_and_another_seed_others(command: Command) -> None:
    for seed in ("3", "3", "4"):
        command("--epochs", "1", "--seeds", "0", "--no-baselines", "--seed", seed)
    one, two, three = ((MODELS / f"v000{i}/weights.safetensors").read_bytes() for i in (1, 2, 3))
    assert one == two
    assert one != three
    assert load_version(MODELS / "v0001").facts.metrics.seed == ()


def test_gate_promotes_what_is_not_worse_and_says_why_it_does_not(command: Command) -> None:
    options = ("--preset", "seed", "--seeds", "0", "--no-baselines")
    command(*options, "--epochs", "10")
    code, out, _ = command(*options, "--epochs", "1", "--learning-rate", "1e-7")
    assert code == 0
    assert "not promoted: v0002 may not replace v0001" in out
    assert aliases(MODELS) == {"candidate": "v0002", "champion": "v0001"}
    assert not promote_version(version="candidate").promoted
    set_alias(MODELS, "champion", "v0002")
    assert promote_version(version="v0001").promoted
    assert aliases(MODELS)["champion"] == "v0001"


def test_baselines_are_measured_under_both_protocols(command: Command) -> None:
    code, out, error = command("--epochs", "1", "--seeds", "1", "--promote", "never")
    assert code == 0, error
    compared = load_version(MODELS / "v0001").facts.baselines
    assert set(compared) == {"honest", "seed"}
    for found in compared.values():
        assert len(found) >= 2
        for name in found:
            assert name in out


def test_preset_of_the_seed_notebook_can_be_trained(command: Command) -> None:
    code, _, error = command("--preset", "seed", *QUICK)
    assert code == 0, error
    version = load_version(MODELS / "v0001")
    assert version.facts.preset == "seed"
    assert version.config.hidden_size == 128
    assert version.vocabulary.size == 58


def test_pipeline_goes_from_language_files_to_predictions(
    command: Command, language_folder: Path
) -> None:
    Path("data/names.parquet").unlink()
    Path("people.csv").write_text("id,surname\n1,Katoro\n2,\n3,Burghof\n")
    code, out, error = command(
        "people.csv", "--sources", language_folder, "--name-column", "surname", "--epochs", "4",
        app=flows.pipeline.app,
    )  # fmt: skip
    assert code == 0, error
    assert aliases(MODELS) == {"candidate": "v0001", "champion": "v0001"}
    assert "1,800 under 3 labels" in out
    assert "3: 2 scored" in out
    frame = pl.read_parquet("outputs/predictions/people/latest/rows")
    assert frame["id"].to_list() == ["1", "2", "3"]
    assert verify_run(Path("outputs/predictions/people/latest")).model.name == "v0001"


def test_interrupted_training_goes_on_where_it_stopped(command: Command, tmp_path: Path) -> None:
    options = ("--preset", "seed", "--epochs", "10", "--seeds", "0", "--no-baselines")
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "flows/train.py"), *options, "--models", "stopped"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={"PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "OMP_NUM_THREADS": "1",
             "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    try:
        while not list(Path("stopped/.training").glob("*.safetensors")):
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.005)  # the checkpoint itself is the signal
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130, error
    assert out == ""
    assert "Traceback" not in error
    assert list_versions(Path("stopped")) == []
    assert aliases(Path("stopped")) == {}
    (checkpoint,) = Path("stopped/.training").glob("*.safetensors")
    done = len(json.loads(_state(checkpoint))["history"])
    assert 1 <= done < 10

    assert command(*options, "--models", "stopped", "--resume")[0] == 0
    assert command(*options, "--models", "whole")[0] == 0
    assert not Path("stopped/.training").exists()
    resumed, whole = (load_version(Path(folder, "v0001")) for folder in ("stopped", "whole"))
    assert resumed.temperature == whole.temperature
    assert resumed.facts.metrics == whole.facts.metrics
    for name, tensor in whole.weights.items():
        assert torch.equal(resumed.weights[name], tensor), name


def _state(checkpoint: Path) -> str:
    tensors = load(checkpoint.read_bytes()[32:])  # behind the digest
    return bytes(tensors["state"].tolist()).decode()


def test_resume_without_a_checkpoint_starts_from_the_beginning(command: Command) -> None:
    assert command(*QUICK, "--resume")[0] == 0
    assert list_versions(MODELS) == ["v0001"]


# --- what goes wrong ----------------------------------------------------------------------------


def test_missing_table_exits_66_and_says_how_to_make_it(command: Command) -> None:
    Path("data/names.parquet").unlink()
    code, _, error = command(*QUICK)
    assert "run ingest first" in complaint(code, 66, error)
    assert not MODELS.exists()


@pytest.mark.parametrize("content", [b"", b"not parquet", None], ids=["empty", "other", "columns"])
def test_table_that_ingest_did_not_write_exits_65(command: Command, content: bytes | None) -> None:
    if content is None:
        pq.write_table(pa.table({"name": ["Katoro"]}), "data/names.parquet")
    else:
        Path("data/names.parquet").write_bytes(content)
    code, _, error = command(*QUICK)
    assert "run ingest again" in complaint(code, 65, error)


@pytest.mark.parametrize(
    "arguments",
    [("--epochs", "0"), ("--epochs", "-1"), ("--batch-size", "0"), ("--learning-rate", "-1"),
     ("--learning-rate", "nan"), ("--device", "gpu"), ("--seeds", "-1")],
    ids=" ".join,
)  # fmt: skip
def test_option_that_makes_no_sense_exits_64(command: Command, arguments: tuple[str, ...]) -> None:
    code, _, error = command(*arguments)
    complaint(code, 64, error)
    assert list_versions(MODELS) == []


@pytest.mark.parametrize("arguments", [("--nope",), ("--preset", "best"), ("--promote", "maybe")])
def test_wrong_command_line_exits_2(command: Command, arguments: tuple[str, ...]) -> None:
    code, _, error = command(*arguments)
    assert code == 2
    assert "--help" in error


def test_models_folder_that_is_a_file_exits_73(command: Command) -> None:
    Path("taken").write_text("a file")
    code, _, error = command(*QUICK, "--models", "taken")
    complaint(code, 73, error)


def test_second_training_at_once_exits_75(command: Command) -> None:
    with hold(MODELS / ".lock", "training on elsewhere"):
        code, _, error = command(*QUICK)
    assert "being written by training on elsewhere" in complaint(code, 75, error)
    assert list_versions(MODELS) == []


def test_promoting_what_does_not_exist_is_refused() -> None:
    with pytest.raises(ModelError, match="there is no model 'v0009'"):
        promote_version(version="v0009")
