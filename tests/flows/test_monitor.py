"""The history page: every run of every destination, whole, without a name, nothing fetched."""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import commands_of, complaint
from flat import monitor, read_manifest, score_request
from pages import checked, figures

from charrnn.files import json_bytes, write_sums
from charrnn.recipes.runner import Runner
from charrnn.recipes.score import score
from charrnn.reports.history import history_markdown, history_page, read_histories
from flows import monitor as monitor_module

CANARY = "Zanzibarova"
RUNS = 7


@pytest.fixture(scope="module")
def predictions(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven nightly runs of one table, the last of other names, and one run of another table."""
    folder = tmp_path_factory.mktemp("nightly")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for day in range(RUNS):
            draw = np.random.default_rng(day)
            size = (14, 19) if day == RUNS - 1 else (4, 8)
            names = ["".join(draw.choice(list("karomitash"), draw.integers(*size)))
                     for _ in range(300)]  # fmt: skip
            _score_on(day + 1, "people", [*names, CANARY, None], models)
        _score_on(3, "branch", ["Katoro", "Burgmann"], models)
    return folder / "outputs/predictions"


def _score_on(day: int, name: str, names: list[str | None], models: Path) -> None:
    pq.write_table(pa.table({"name": pa.array(names, pa.string())}), f"{name}.parquet")
    request = score_request(
        f"{name}.parquet", model="v0001", models=models, device="cpu", workers=1
    )
    when = datetime(2026, 11, day, 2, 0, 0, tzinfo=UTC)
    score(request, Runner(now=lambda: when, holder="a test"))


def test_page_shows_every_run_with_a_link_to_its_report(predictions: Path) -> None:
    page = Path(monitor(predictions))
    assert page == predictions / "index.html"
    text, found = checked(page.read_bytes(), links=True)
    targets = [a["href"] for tag, a in found if tag == "a"]
    assert len(targets) == RUNS + 2  # and the newest of both tables
    assert all((page.parent / str(target)).is_file() for target in targets)
    assert [d for d in re.findall(r"2026-11-\d\d 02:00", text) if d == "2026-11-07 02:00"]
    for word in (
        "people",
        "branch",
        "7 runs, the newest first",
        "charts are drawn from two runs on",
    ):
        assert word in text
    labels = [a["aria-label"] for a in figures(found)]
    assert labels == [
        "Drift against the last runs (PSI)", "Difference from the model's validation names (PSI)",
        "Share of the rows with each language", "Expected accuracy",
        "Share of the rows without a language, by reason", "Rows",
    ]  # fmt: skip


def test_page_fetches_nothing_and_names_nobody(predictions: Path) -> None:
    source = Path(monitor(predictions)).read_text()
    assert CANARY not in source
    for word in ("http", "<script", "@import", "url(", " src="):
        assert word not in source


def test_drift_of_the_last_run_is_on_the_page_and_in_the_terminal(
    predictions: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path(monitor(predictions / "people"))
    text, found = checked(page.read_bytes(), links=True)
    assert page.parent.name == "people"
    assert "length PSI" in text
    printed = capsys.readouterr().out
    assert "drift: " in printed
    assert "length PSI" in printed
    assert "Names drifted in the newest run of 1 of 1 table: people." in text
    assert ("circle", "calarm") in [(tag, a.get("class")) for tag, a in found]
    targets = [str(a["href"]) for tag, a in found if tag == "a"]
    assert all((page.parent / target).is_file() for target in targets)


def test_the_last_runs_only_are_shown_where_that_is_asked(predictions: Path) -> None:
    text, found = checked(Path(monitor(predictions, last=3)).read_bytes(), links=True)
    assert len([1 for tag, _ in found if tag == "a"]) == 3 + 2
    assert "2026-11-07 02:00" in text
    assert "2026-11-04 02:00" not in text


def test_page_of_one_history_is_the_same_bytes_every_time(predictions: Path) -> None:
    histories, _ = read_histories(predictions, 10)
    assert history_page(histories, "x") == history_page(histories, "x")
    assert "| run (UTC) |" in history_markdown(histories, "x")
    assert CANARY not in history_markdown(histories, "x")


def test_runs_whose_manifest_cannot_be_read_are_passed_over(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for day in (1, 2, 3):
        _score_on(day, "people", ["Katoro"] * (100 + day), models)
    old = min(p for p in Path("outputs/predictions/people/runs").iterdir())
    manifest = read_manifest(old)
    del manifest["profile"]
    (old / "manifest.json").write_bytes(json_bytes(manifest))
    write_sums(old)
    (old.parent / "run=20260101T000000Z-00000000").mkdir()  # not a run: passed over
    text, found = checked(Path(monitor()).read_bytes(), links=True)
    assert "2 runs" in text
    assert len([1 for tag, _ in found if tag == "a"]) == 2


def test_runs_without_a_scored_row_are_drawn(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for day, names in enumerate(([None], [], ["Катя", None]), start=1):
        _score_on(day, "people", names, models)
    text, _ = checked(Path(monitor()).read_bytes(), links=True)
    assert "3 runs" in text
    assert "nan" not in text.lower().split()


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    return commands_of(monitor_module.app, monkeypatch, capsys)


def test_command_refuses_what_holds_no_run(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, predictions: Path
) -> None:
    code, _, error = command(tmp_path / "nowhere")
    assert "nowhere does not exist" in complaint(code, 66, error)
    (tmp_path / "empty").mkdir()
    code, _, error = command(tmp_path / "empty")
    assert "holds no scoring run" in complaint(code, 66, error)
    assert not list((tmp_path / "empty").iterdir())
    code, _, error = command(predictions, "--last", "0")
    complaint(code, 64, error)
    code, out, error = command(predictions)
    assert code == 0, error
    assert "page" in out
