"""The command shares: tables and a page of label shares by group, which name nobody."""

import random
import sys
from datetime import date
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from commands import CANARY, Command, commands_of, complaint
from conftest import SYLLABLES
from flat import score
from pages import checked

from charrnn import cli
from charrnn.cli import console_runner
from charrnn.recipes.requests import SharesRequest
from charrnn.recipes.shares import SharesFound, shares

GROUPS = {"Nord": 200, "Sued": 120, "Klein": 9, "Wenig": 20}


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    """Invented names in three countries and two months, with the number of customers of each."""
    draw = random.Random(1)
    rows = [
        {
            "name": "".join(draw.choices(SYLLABLES["Beta" if i % 3 else "Gamma"], k=3)).title(),
            "country": country,
            "day": date(2026, 9 + i % 2, 1 + i % 28),
            "n": 1 + i % 4,
        }
        for country, count in GROUPS.items()
        for i in range(count)
    ]
    rows[0]["name"] = CANARY
    empty = [{**rows[1], "name": None, "country": "Leer"}] * 12
    return pl.DataFrame([*rows, {**rows[1], "name": None}, *empty])


@pytest.fixture(scope="module")
def run(table: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shares")
    table.write_parquet(folder / "people.parquet")
    options: dict[str, Any] = {"model": "pretrained-tiny", "device": "cpu", "workers": 1}
    return Path(score(str(folder / "people.parquet"), output=str(folder / "people"), **options))


def found(run: Path, **options: Any) -> SharesFound:
    request = SharesRequest(run=run, output=run.parents[2] / "out", device="cpu", **options)
    return shares(request, console_runner())


def test_shares_by_country_are_counted_corrected_and_suppressed(
    run: Path, table: pl.DataFrame
) -> None:
    result = found(run, by=("country",))
    shown = pl.read_parquet(result.folder / "shares.parquet")
    north = shown.filter(pl.col("country") == "Nord")
    assert north["rows"].unique().to_list() == [201]
    assert north["scored"].unique().to_list() == [
        pl.read_parquet(run / "rows").filter(country="Nord", status="scored").height
    ]
    assert north["raw"].sum() == pytest.approx(1)
    assert north["share"].sum() == pytest.approx(1, abs=0.01)
    assert (north["low"] <= north["share"]).all()
    assert (north["share"] <= north["high"]).all()
    small = shown.filter(pl.col("country") == "Klein")
    assert small.drop("country").rows() == [(*[None] * 9, "fewer than 10 rows")]
    assert result.lines()[0] == "groups      5, 1 of under 10 rows are left out"
    few = shown.filter(country="Wenig")  # labels counted, by their counts: no estimate leaks
    assert few["raw"].is_sorted(descending=True)
    assert few["raw"].min() > 0  # type: ignore[operator]
    assert few["share"].null_count() == few.height
    nobody = shown.filter(country="Leer")
    assert nobody.select("label", "rows", "scored", "refused").rows() == [
        (None, 12, 0, "no row has a name that the model knows")
    ]
    text, _ = checked((result.folder / "shares.html").read_bytes())
    assert "Where the data cannot say, bars are the plain counts." in text
    assert "12 rows, 0 scored. The data cannot say: no row has a name" in text
    for path in result.folder.iterdir():
        assert CANARY.encode() not in path.read_bytes()


def test_months_and_runs_are_compared_and_rows_weighted(
    run: Path, table: pl.DataFrame, working_folder: Path
) -> None:
    result = found(run, by=("day",), weight="n")
    changes = pl.read_parquet(result.folder / "changes.parquet")
    assert set(changes.select("from", "to").rows()) == {("2026-09", "2026-10")}
    assert (changes["low"] <= changes["change"]).all()
    assert (changes["change"] <= changes["high"]).all()
    table.write_csv("people.csv")  # days are text in it
    text_run = score("people.csv", model="pretrained-tiny", device="cpu", workers=1)
    same = shares(SharesRequest(run=Path(text_run), by=("day",), device="cpu"), console_runner())
    assert same.tables.changes is not None
    assert same.tables.changes["to"].unique().to_list() == ["2026-10"]
    content = (result.folder / "shares.html").read_bytes()
    text, elements = checked(content)
    assert "weighted by n" in text
    assert sum("bars" in (a["class"] or "") for tag, a in elements if tag == "table") >= 2
    rows = pl.read_parquet(run / "rows").filter(status="scored")
    rows = rows.filter(pl.col("day").dt.month() == 9)
    label, total = rows["language"][0], rows["n"].sum()
    counted = rows.filter(language=label)["n"].sum() / total
    shown = result.tables.shares.filter(day="2026-09", label=label)
    assert shown["raw"].to_list() == [pytest.approx(counted)]
    other = run.parents[2] / "more.parquet"
    table.head(150).write_parquet(other)
    later = score(str(other), output=str(other.with_suffix("")), model="pretrained-tiny")
    against = found(Path(later), against=run)
    assert against.tables.changes is not None
    assert against.tables.shares.columns[0] == "run"


def test_a_run_without_names_says_why_it_has_no_shares(table: pl.DataFrame, tmp_path: Path) -> None:
    table.write_parquet(tmp_path / "people.parquet")
    run = score(str(tmp_path / "people.parquet"), output=str(tmp_path / "people"),
                model="pretrained-tiny", names="omit")  # fmt: skip
    result = found(Path(run), by=("country",))
    north = result.tables.shares.filter(country="Nord")
    assert north["share"].null_count() == north.height > 0
    assert "no share    the run does not keep its names" in "\n".join(result.lines())
    assert north["raw"].sum() == pytest.approx(1)


def test_columns_that_cannot_group_or_weigh_are_refused(
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    working_folder: Path,
) -> None:
    console = cli.console()
    command: Command = commands_of(
        console, monkeypatch, capsys, lambda app: cli.run(app, sys.argv[1:])
    )
    for arguments, code, expected in [
        (("--by", "name"), 64, "rows cannot be grouped by 'name', which is a column of names"),
        (("--by", "contry"), 65, "column 'contry' not found; columns: "),
        (("--by", "confidence"), 65, "column 'confidence' is float, expected text, whole"),
        (("--weight", "country"), 65, "column 'country' is large_string, expected numbers"),
        (("--against", run), 64, "against is the run itself; name another"),
    ]:
        got, _, error = command("shares", run, *arguments)
        assert expected in complaint(got, code, error)
