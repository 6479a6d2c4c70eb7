"""Every script in examples/ runs, from a folder with the example table and two runs of it."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from charrnn.cli import console

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PRINTS = {
    "read_with_polars.py": ["language", "scored"],
    "read_with_pandas.py": ["null_name", "run"],
    "read_with_pyarrow.py": ["rows with a confidence above 0.9", "language: the most probable"],
    "query_with_duckdb.py": ["Papadopoulos", "Greek"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the example table and two runs of it."""
    place = tmp_path_factory.mktemp("examples")
    (place / "data").mkdir()
    shutil.copy(ROOT / "data/example.csv", place / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for more in ([], ["--force"]):
            console()(["score", "data/example.csv", "--model", "pretrained-tiny", *more])
    return place


@pytest.mark.parametrize("script", PRINTS)
def test_the_script_prints_what_it_says(
    script: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    runpy.run_path(str(EXAMPLES / script), run_name="__main__")
    printed = capsys.readouterr().out
    assert [text for text in PRINTS[script] if text not in printed] == []


@pytest.mark.slow  # Prefect starts a server for it
def test_the_flow_scores_as_a_subflow(folder: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "subflow.py"],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PREFECT_HOME": str(tmp_path),
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"160: 1\d\d scored", done.stdout + done.stderr)


@pytest.mark.slow
def test_the_questions_are_answered_as_the_customers_were_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("faker")
    monkeypatch.chdir(tmp_path)
    found = runpy.run_path(str(EXAMPLES / "questions.py"), run_name="__main__")
    drawn = {("DE", "Polish"): 0.5, ("DE", "German"): 0.5, ("FR", "French"): 0.8}
    rows = found["october"].select("country", "label", "low", "high").rows()
    held = {(c, label) for c, label, low, high in rows if low <= drawn.get((c, label), -1) <= high}
    assert held == drawn.keys()
    changed = {(row["country"], row["label"]) for row in found["changed"].to_dicts()}
    assert ("DE", "Polish") in changed
    assert not changed & {("FR", "French"), ("FR", "Spanish")}
    assert found["review"].height == 20


def test_every_script_is_tried() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        *PRINTS,
        "subflow.py",
        "questions.py",
    }


def test_the_commands_of_the_crontab_can_be_given() -> None:
    lines = re.findall(r"\.venv/bin/(charrnn .*)", (EXAMPLES / "crontab").read_text())
    assert len(lines) == 2
    for line in lines:
        console().parse_args(shlex.split(line.split(" 2>>")[0])[1:], print_error=False)


def test_the_dbt_model_scores_the_table_that_it_refers_to() -> None:
    import pyarrow as pa

    class Project:
        """What dbt hands to a model."""

        def config(self, **_: object) -> None: ...

        def ref(self, name: str) -> "Project":
            assert name == "people"
            return self

        def to_arrow_table(self) -> pa.Table:
            return pa.table({"surname": ["Katoro", None]})

    model = runpy.run_path(str(EXAMPLES / "dbt/origins.py"))["model"]
    assert model(Project(), None)["status"].to_pylist() == ["scored", "unscored"]
