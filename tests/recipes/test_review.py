"""The command review: names to look at, filled in as in a spreadsheet, are labels to learn from."""

import csv
import json
import random
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from commands import CANARY, Command, commands_of
from conftest import SYLLABLES
from flat import score

from charrnn import cli
from charrnn.cli import console_runner
from charrnn.errors import CharrnnError, ConfigError, DataError
from charrnn.recipes.evaluate import evaluate_version
from charrnn.recipes.ingest import ingest
from charrnn.recipes.requests import EvaluateRequest, IngestRequest, ReviewRequest
from charrnn.recipes.review import Reviewed, review
from charrnn.training.corpus import load_corpus


@pytest.fixture
def run(working_folder: Path) -> Path:
    """A run of invented names: one is frequent, one would be run by a spreadsheet."""
    draw = random.Random(2)
    names = ["".join(draw.choices(SYLLABLES["Beta"], k=3)).title() for _ in range(150)]
    table = pl.DataFrame({"name": [*names, *["Karomita"] * 60, f"=1+1 {CANARY}", None]})
    table.with_row_index("id").write_parquet("people.parquet")
    return Path(score("people.parquet", model="pretrained-tiny", device="cpu", details=True))


def select(run: Path, rows: int = 40) -> tuple[Reviewed, list[dict[str, str]]]:
    found = review(ReviewRequest(run=run, rows=rows))
    with found.path.open(newline="") as file:
        return found, list(csv.DictReader(file))


def test_names_are_chosen_for_reasons_filled_in_and_learned_from(run: Path) -> None:
    found, rows = select(run)
    assert found.names == len(rows) == 40
    assert found.path == Path("outputs/review/people.csv")
    frequent = next(row for row in rows if row["name"] == "Karomita")
    assert frequent["rows"] == "60"
    assert "matters" in frequent["reasons"]
    assert sum("drawn" in row["reasons"] for row in rows) >= 8
    assert all(row["reasons"] for row in rows)
    assert CANARY not in "\n".join(found.lines())
    for number, row in enumerate(rows):
        finnish = row["name"] == "Karomita" or number % 2
        row["language"] = "Finnish " if finnish else "German"
    rows[-1]["language"] = ""
    with Path("filled.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0])[::-1], delimiter=";")  # as spreadsheets do
        writer.writeheader()
        writer.writerows(rows)
    labels = review(ReviewRequest(apply=Path("filled.csv")))
    assert labels.names == 39
    read = pl.read_parquet(labels.path)
    assert read.filter(name="Karomita").select("language", "rows").rows() == [("Finnish", 60)]
    measured = evaluate_version(EvaluateRequest(version="pretrained-tiny", on=str(labels.path)))
    assert measured.parts[0].metrics.count == 39
    corpus = ingest(
        IngestRequest(
            sources=(str(labels.path),), weight_column="rows", target=Path("new.parquet")
        ),
        console_runner(),
    )
    assert set(load_corpus(corpus.table).labels) == {"Finnish", "German"}


def test_a_name_that_a_spreadsheet_would_run_comes_back_as_it_was(run: Path) -> None:
    found, rows = select(run, 1000)
    odd = next(row for row in rows if CANARY in row["name"])
    assert odd["name"] == f"'=1+1 {CANARY}"
    lines = [line[:-2] + '"German"' if CANARY in line else line
             for line in found.path.read_text().splitlines()]  # fmt: skip
    found.path.write_text("\n".join(lines) + "\n")
    labels = review(ReviewRequest(apply=found.path))
    assert pl.read_parquet(labels.path)["name"].to_list() == [f"=1+1 {CANARY}"]


def test_what_cannot_be_reviewed_is_refused(run: Path) -> None:
    select(run, 5)
    with pytest.raises(DataError, match=r"no row has a label; fill in the column 'language'"):
        review(ReviewRequest(apply=Path("outputs/review/people.csv")))
    with pytest.raises(DataError, match="is no reviewed table: expected a column of names"):
        review(ReviewRequest(apply=run / "rows"))
    with pytest.raises(ConfigError, match="needs a run to write names of, or a filled in file"):
        ReviewRequest()
    hidden = Path(score("people.parquet", model="pretrained-tiny", names="omit"))
    with pytest.raises(CharrnnError, match="does not keep its names"):
        review(ReviewRequest(run=hidden))


@pytest.mark.slow
def test_the_loop_of_review_ends_in_a_better_model(
    working_folder: Path,
    language_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Names of Gamma that its list lacks: scored, reviewed, learned and measured."""
    command: Command = commands_of(
        cli.console(), monkeypatch, capsys, lambda app: cli.run(app, sys.argv[1:])
    )

    def answer(*arguments: str) -> dict[str, Any]:
        code, out, error = command(*arguments, "--json")
        assert code == 0, error
        document: dict[str, Any] = json.loads(out)
        return document

    def measured(version: str) -> float:
        result = answer("evaluate", version, "--on", labels)
        return float(result["parts"][0]["metrics"]["accuracy"])

    fit = ("train", "--preset", "seed", "--epochs", "8", "--seeds", "0", "--no-baselines")
    lists, labels = str(language_folder), "outputs/review/people.labels.parquet"
    answer("ingest", lists)
    answer(*fit)
    draw = random.Random(3)
    names = {"".join(draw.choices(["quld", "zumf", "wexp", "jyck"], k=3)) for _ in range(90)}
    pl.DataFrame({"name": sorted(names) * 3}).write_csv("people.csv")
    answer("score", "people.csv", "--model", "v0001")
    answer("review", "outputs/predictions/people", "--rows", "100")
    table = pl.read_csv("outputs/review/people.csv")
    table.with_columns(language=pl.lit("Gamma")).write_csv("outputs/review/people.csv")
    answer("review", "--apply", "outputs/review/people.csv")
    before = measured("v0001")
    answer("ingest", lists, labels, "--weight-column", "rows")
    answer(*fit)
    assert before < 0.5 < 0.9 < measured("v0002")
