"""Runs: what is published is whole, equals its input, and says so; nothing else is visible."""

import csv
import dataclasses
import datetime
import decimal
import json
import os
import random
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from commands import CANARY, Command
from flat import FACTS, TRAIN, files_of, key_of, publish_parts, read_manifest, score_request
from recording import Proof

from charrnn.cli import console_runner, show
from charrnn.errors import BusyError, CharrnnError, DataError, InputMissingError, StorageError
from charrnn.files import entries_of, hold, write_sums
from charrnn.model.version import ModelVersion, save_version
from charrnn.recipes.published import Published
from charrnn.recipes.score import score as score_recipe
from charrnn.runs.execute import score_partition, score_partitions
from charrnn.runs.export import export
from charrnn.runs.folders import run_name
from charrnn.runs.manifest import RunOptions, newest_first, read_run
from charrnn.runs.parts import read_receipt
from charrnn.runs.plan import RunPlan, plan_run
from charrnn.runs.publish import finished_run, manifest_of
from charrnn.runs.verify import verify_run
from charrnn.scoring.options import ComputeOptions, DeliveryOptions, ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.csv_staging import stage_csv
from charrnn.tables.row_groups import read_groups

ADDED = ["language", "confidence", "language_2", "confidence_2", "language_3", "confidence_3",
         "status", "reason"]  # fmt: skip


pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture
def scorer(models: Path) -> Scorer:
    return Scorer.load("v0001", models=models)


def output(run: Path) -> pa.Table:
    parts = sorted(run.glob("rows/part-*.parquet"))
    tables = [pq.read_table(part, page_checksum_verification=True) for part in parts]
    return pa.concat_tables([table.replace_schema_metadata(None) for table in tables])


@pytest.fixture
def score_at(models: Path) -> Callable[..., Path]:
    """The recipe ``score`` on the tiny model, at a given time; it prints its lines."""

    def run(time: datetime.datetime, source: Path, **options: Any) -> Path:
        chosen = {"model": "v0001", "models": models, "device": "cpu", "workers": 1}
        runner = dataclasses.replace(console_runner(), now=lambda: time)
        published = score_recipe(score_request(str(source), **{**chosen, **options}), runner)
        show(published.lines())
        return published.folder

    return run


def visible(destination: Path) -> list[str]:
    """What a person sees of a destination: everything but hidden names."""
    if not destination.is_dir():
        return []
    return sorted(p.name for p in destination.iterdir() if not p.name.startswith("."))


def numbered(rows: int) -> pa.Table:
    names = [f"{'kato'[: i % 5]}{'ro' * (i % 3)}x" for i in range(rows)]
    return pa.table({"id": pa.array(range(rows), pa.int32()), "name": names})


# --- what a run is ------------------------------------------------------------------------------


def test_run_folder_holds_parts_manifest_report_and_digests(
    people: Path, run_score: Callable[..., Path], tmp_path: Path
) -> None:
    run = run_score(people, partition_rows=4)
    assert run.parent == Path("outputs/predictions/people/runs")
    assert sorted(entries_of(run)) == [
        "SHA256SUMS", "datapackage.json", "manifest.json", "report.html", "rows/part-00000.parquet",
        "rows/part-00001.parquet", "rows/part-00002.parquet",
    ]  # fmt: skip
    destination = run.parents[1]
    assert visible(destination) == ["latest", "runs"]
    assert visible(run.parent) == [run.name]
    assert (destination / "latest").readlink() == Path("runs", run.name)
    assert not list(destination.glob(".staging-*"))
    checked = subprocess.run(
        ["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=run, capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr


def test_input_columns_come_back_unchanged_and_in_order(
    people: Path, run_score: Callable[..., Path]
) -> None:
    whole = pq.read_table(people)
    found = output(run_score(people, partition_rows=4))
    assert found.column_names == [*whole.column_names, *ADDED]
    kept = found.select(whole.column_names)
    assert kept.schema.equals(whole.schema)
    assert kept.equals(whole)
    assert str(found.schema.field("country").type).startswith("dictionary")


def test_every_type_of_column_passes_through_unchanged(
    tmp_path: Path, run_score: Callable[..., Path]
) -> None:
    stamp = datetime.datetime(2020, 2, 29, 12, 30)
    table = pa.table(
        {
            "name": pa.array(["Katoro", None, "Burg"] * 10, pa.large_string()),
            "int16": pa.array([1, None, -3] * 10, pa.int16()),
            "float32": pa.array([1.5, None, float("nan")] * 10, pa.float32()),
            "float64": pa.array([0.1, None, -0.0] * 10),
            "float16": pa.array([1.5, None, 2.5] * 10, pa.float16()),
            "dictionary": pa.array(["DE", None, "FR"] * 10).dictionary_encode(),
            "list": pa.array([[1, None], None, []] * 10, pa.list_(pa.int32())),
            "nested": pa.array([[[1.5]], None, [[], [2.5, None]]] * 10,
                               pa.list_(pa.list_(pa.float32()))),
            "struct": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}] * 10),
            "map": pa.array([[("k", 1)], None, []] * 10, pa.map_(pa.string(), pa.int32())),
            "stamp": pa.array([stamp, None, stamp] * 10, pa.timestamp("us", "Europe/Berlin")),
            "nanos": pa.array([1000, None, 3000] * 10, pa.timestamp("ns")),
            "date": pa.array([stamp.date(), None, stamp.date()] * 10),
            "decimal": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-9.99")] * 10,
                                pa.decimal128(9, 2)),
            "view": pa.array(["q", None, ""] * 10, pa.string_view()),
            "binary": pa.array([b"\xff", None, b""] * 10),
            "null": pa.nulls(30),
            "a.b": pa.array([1.5, None, 2.5] * 10, pa.float32()),
            "bool": pa.array([True, None, False] * 10),
        }
    )  # fmt: skip
    pq.write_table(table.replace_schema_metadata({"owner": "x"}), tmp_path / "wide.parquet")
    whole = pq.read_table(tmp_path / "wide.parquet")
    for partition_rows in (2**20, 7):
        found = output(run_score(tmp_path / "wide.parquet", partition_rows=partition_rows))
        kept = found.select(whole.column_names)
        assert kept.schema.equals(whole.schema)
        for name in whole.column_names:
            same = kept[name].combine_chunks().to_pylist()
            assert repr(same) == repr(whole[name].to_pylist()), name


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(),
                                  pa.dictionary(pa.int32(), pa.string())], ids=str)  # fmt: skip
def test_any_kind_of_text_column_can_be_the_names(
    tmp_path: Path, run_score: Callable[..., Path], kind: pa.DataType
) -> None:
    names = ["Katoro", None, "Burghof", ""]
    pq.write_table(pa.table({"name": pa.array(names).cast(kind)}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"name": pa.array(names)}), tmp_path / "b.parquet")
    found, plain = (output(run_score(tmp_path / f"{x}.parquet")) for x in "ab")
    assert found["name"].type == pq.read_table(tmp_path / "a.parquet")["name"].type
    for column in ADDED:
        assert found[column].to_pylist() == plain[column].to_pylist()


def test_csv_cells_come_back_as_they_were(tmp_path: Path, run_score: Callable[..., Path]) -> None:
    (tmp_path / "people.csv").write_text('id,name,x\n007,Katoro,\n\n8,"",""\n9,,true\n')
    run = run_score(tmp_path / "people.csv")
    found = output(run).select(["id", "name", "x", "reason"])
    assert [list(r.values()) for r in found.to_pylist()] == [
        ["007", "Katoro", None, None],
        ["8", "", "", "empty_name"],
        ["9", None, "true", "null_name"],
    ]
    assert read_manifest(run)["input_counts"]["blank_lines"] == 1


def test_many_files_and_partitions_give_one_table_in_order(
    tmp_path: Path, run_score: Callable[..., Path]
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    whole = numbered(500)
    for number, (start, rows) in enumerate([(0, 120), (120, 0), (120, 1), (121, 379)]):
        path = folder / f"{number}.parquet"
        pq.write_table(whole.slice(start, rows), path, row_group_size=50)
    run = run_score(folder, partition_rows=60)
    manifest = read_manifest(run)
    assert len(manifest["parts"]) > 6
    assert [p["first_row"] for p in manifest["parts"]] == list(
        np.cumsum([0, *(p["rows"] for p in manifest["parts"][:-1])])
    )
    assert output(run).select(["id", "name"]).equals(whole)


def test_partition_size_does_not_change_a_result(
    tmp_path: Path, run_score: Callable[..., Path]
) -> None:
    pq.write_table(numbered(300), tmp_path / "people.parquet", row_group_size=10)
    one, many = (output(run_score(tmp_path / "people.parquet", partition_rows=n))
                 for n in (2**20, 10))  # fmt: skip
    for column in one.column_names:
        if pa.types.is_floating(one[column].type):
            np.testing.assert_allclose(one[column].to_numpy(), many[column].to_numpy(), atol=1e-5)
        else:
            assert one[column].to_pylist() == many[column].to_pylist()


def test_several_workers_give_the_same_run(tmp_path: Path, run_score: Callable[..., Path]) -> None:
    pq.write_table(numbered(400), tmp_path / "people.parquet", row_group_size=20)
    one, four = (run_score(tmp_path / "people.parquet", partition_rows=20, workers=n,
                           output=str(tmp_path / f"out{n}")) for n in (1, 4))  # fmt: skip
    assert one != four
    assert output(one).equals(output(four))
    assert read_manifest(one)["parts"] == read_manifest(four)["parts"]


def test_manifest_accounts_for_every_row(people: Path, run_score: Callable[..., Path]) -> None:
    run = run_score(people, partition_rows=4, min_confidence=0.5)
    manifest, found = read_manifest(run), output(run)

    def count(column: str) -> dict[str, int]:
        entries = found[column].drop_null().value_counts().to_pylist()
        return {entry["values"]: entry["counts"] for entry in entries}

    assert manifest["rows"] == found.num_rows == 12
    assert sum(manifest["statuses"].values()) == 12
    assert {k: n for k, n in manifest["statuses"].items() if n} == count("status")
    assert manifest["reasons"] == count("reason")
    assert manifest["labels"] == count("language")
    assert sum(part["rows"] for part in manifest["parts"]) == 12
    confidence = [c for c, s in zip(found["confidence"].to_pylist(),
                                    found["status"].to_pylist(), strict=True)
                  if s == "scored"]  # fmt: skip
    if confidence:
        assert manifest["mean_confidence"] == pytest.approx(np.mean(confidence))
    assert [i["size"] for i in manifest["inputs"]] == [people.stat().st_size]
    assert manifest["model"]["name"] == "v0001"
    assert manifest["options"]["min_confidence"] == 0.5
    assert verify_run(run).to_json() == manifest


def test_manifest_holds_no_name(tmp_path: Path, run_score: Callable[..., Path]) -> None:
    (tmp_path / "people.csv").write_text(f"name,note\n{CANARY},{CANARY}\n")
    run = run_score(tmp_path / "people.csv")
    for path in files_of(run):
        if path.suffix != ".parquet":
            assert CANARY not in path.read_text(), path.name


def test_part_says_in_its_footer_what_it_holds(
    people: Path, run_score: Callable[..., Path]
) -> None:
    run = run_score(people, partition_rows=4)
    manifest = read_manifest(run)
    for number, part in enumerate(manifest["parts"]):
        metadata = pq.read_schema(run / part["name"]).metadata
        assert metadata[b"charrnn.fingerprint"].decode() == manifest["fingerprint"]
        assert metadata[b"charrnn.part"] == str(number).encode()
        assert metadata[b"charrnn.first_row"] == str(part["first_row"]).encode()


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_empty_input_publishes_a_run_of_the_full_schema(
    tmp_path: Path, run_score: Callable[..., Path], names_table: pa.Table, suffix: str
) -> None:
    source = tmp_path / f"people{suffix}"
    if suffix == ".csv":
        source.write_text("id,name\n")
        whole = pa.table({"id": pa.array([], pa.string()), "name": pa.array([], pa.string())})
    else:
        pq.write_table(names_table.slice(0, 0), source)
        whole = pq.read_table(source)
    run = run_score(source, probabilities=True, output=str(tmp_path / "out.csv"))
    found = output(run)
    assert found.num_rows == 0
    assert found.column_names == [*whole.column_names, *ADDED, "probability_Alpha",
                                  "probability_Beta", "probability_Delta",
                                  "probability_Gamma"]  # fmt: skip
    assert found.select(whole.column_names).schema.equals(whole.schema)
    assert verify_run(run).rows == 0
    (header,) = csv.reader((tmp_path / "out.csv").read_text().splitlines())
    assert header == found.column_names


def test_names_without_a_single_usable_one_publish_a_run(
    tmp_path: Path, run_score: Callable[..., Path]
) -> None:
    pq.write_table(pa.table({"name": pa.array([None, ""], pa.string())}), tmp_path / "n.parquet")
    run = run_score(tmp_path / "n.parquet")
    assert verify_run(run).statuses == {"scored": 0, "abstained": 0, "unscored": 2}
    assert read_manifest(run)["mean_confidence"] is None


def test_a_pattern_over_the_runs_of_a_destination_reads_each_row_once(
    people: Path, run_score: Callable[..., Path]
) -> None:
    run_score(people)
    run_score(people, force=True)
    left_over = Path("outputs/predictions/people/.purged-run=20261124T020000Z-1f3a9c4e")
    (left_over / "rows").mkdir(parents=True)
    pq.write_table(numbered(3), left_over / "rows/part-00000.parquet")
    everything = pl.scan_parquet("outputs/predictions/people/runs/*/rows/*.parquet")
    assert everything.collect().height == 2 * 12


def test_tables_for_prefect_show_names_of_folders_as_text(
    people: Path, score_at: Callable[..., Path]
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    run = score_at(now, people, output="a|b`c<d>[e](javascript:f)")
    published = Published(run, read_run(run), DeliveryOptions(), reused=False)
    (line,) = [line for line in published.markdown().splitlines() if "result" in line]
    assert line == r"| result | a\|b\`c\<d>\[e](javascript:f)/runs/" + f"{run.name} |"


# --- the same work twice ------------------------------------------------------------------------


def test_finished_run_is_not_done_again_and_latest_stays_at_the_newest(
    people: Path,
    run_score: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    proof: Proof,
) -> None:
    first = run_score(people)
    before = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in files_of(first)}
    other = run_score(people, top_k=1)
    assert (first.parents[1] / "latest").resolve() == other.resolve()
    capsys.readouterr()
    assert run_score(people) == first
    printed = capsys.readouterr().out
    assert "nothing to do" in printed
    assert f"latest      stays at runs/{other.name}, which is newer than {first.name}" in printed
    proof("P13", "commands repeated after a newer run: latest stays at the newest, and says so", 1)
    assert {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in files_of(first)} == before
    assert (first.parents[1] / "latest").resolve() == other.resolve()
    assert visible(first.parent) == sorted([first.name, other.name])
    assert not list(first.parents[1].glob(".staging-*"))


@pytest.mark.parametrize("seconds", [0, 1])
def test_the_newest_of_two_runs_is_the_later_one(
    people: Path, seconds: int, score_at: Callable[..., Path]
) -> None:
    """Runs of one second are numbered."""
    noon = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
    for options in ({"top_k": 1}, {"top_k": 2}, {"top_k": 1, "force": True}):
        newest = score_at(noon, people, **options)
        assert (newest.parents[1] / "latest").resolve() == newest.resolve()
        noon += datetime.timedelta(seconds=seconds)
    assert next(newest_first(newest.parents[1], []))[0] == newest


@pytest.mark.parametrize("ahead", [True, False])
def test_a_run_dated_later_than_now_is_neither_the_newest_nor_the_one_before(
    people: Path,
    ahead: bool,
    score_at: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    proof: Proof,
) -> None:
    """A clock that was ahead, or is set back, costs a line and nothing else."""
    right = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
    wrong = datetime.datetime(2040, 1, 1, tzinfo=datetime.UTC)
    if not ahead:
        right, wrong = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), right
    rows = pq.read_table(people)

    def score_rows(time: datetime.datetime, first: int) -> Path:
        pq.write_table(rows.slice(first), people)
        return score_at(time, people)

    before = score_rows(right, 0)
    of_later, earlier = score_rows(wrong, 1), [run_name(before)]
    assert (before.parents[1] / "latest").resolve() == of_later.resolve()
    for day in (1, 2):
        capsys.readouterr()
        run = score_rows(right + datetime.timedelta(days=day), 1 + day)
        assert f"{of_later}: dated later than now" in capsys.readouterr().out
        assert (before.parents[1] / "latest").resolve() == run.resolve()
        drift = verify_run(run).drift
        assert drift.previous.against in earlier
        earlier.append(run_name(run))
    proof("P13", "clocks ahead or set back: the run is published, compared with one before it", 1)


def test_latest_leads_to_the_run_just_published_also_where_it_cannot_be_read_again(
    people: Path, run_score: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_score(people, top_k=1)
    monkeypatch.setattr("charrnn.runs.publish._own", lambda run: None)
    run = run_score(people)
    assert (run.parents[1] / "latest").resolve() == run.resolve()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_latest_that_is_no_link_costs_a_line_and_nothing_else(
    people: Path,
    kind: str,
    run_score: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    proof: Proof,
) -> None:
    latest = Path("outputs/predictions/people/latest")
    latest.parent.mkdir(parents=True)
    latest.mkdir() if kind == "folder" else latest.write_text("mine")
    run = run_score(people, output="out.csv")
    assert f"latest      does not lead to runs/{run.name}: " in capsys.readouterr().out
    assert verify_run(run).rows == len(pacsv.read_csv("out.csv"))
    assert latest.is_dir() if kind == "folder" else latest.read_text() == "mine"
    proof("P13", "latest is a folder or a file: the run is published, and a line says so", 1)


def test_force_makes_another_run_and_leaves_the_first(
    people: Path, run_score: Callable[..., Path]
) -> None:
    first = run_score(people)
    before = {p.name: p.read_bytes() for p in files_of(first)}
    second = run_score(people, force=True)
    third = run_score(people, force=True)
    assert len({first, second, third}) == 3
    assert output(first).equals(output(second))
    assert {p.name: p.read_bytes() for p in files_of(first)} == before
    assert (first.parents[1] / "latest").resolve() == third.resolve()
    for run in (first, second, third):
        verify_run(run)


def test_same_bytes_in_another_folder_are_the_same_work(
    people: Path, run_score: Callable[..., Path], tmp_path: Path
) -> None:
    copy = tmp_path / "elsewhere" / people.name
    copy.parent.mkdir()
    copy.write_bytes(people.read_bytes())
    assert run_score(copy) == run_score(people)


def test_one_changed_byte_of_the_input_is_other_work(
    tmp_path: Path, run_score: Callable[..., Path]
) -> None:
    path = tmp_path / "people.csv"
    path.write_text("name,id\nKatoro,1\n")
    first = run_score(path)
    path.write_text("name,id\nKatoro,2\n")
    second = run_score(path)
    assert read_manifest(first)["fingerprint"] != read_manifest(second)["fingerprint"]
    assert output(second)["id"].to_pylist() == ["2"]


def test_every_option_and_the_model_count_in_the_fingerprint(
    people: Path, scorer: Scorer, tmp_path: Path, tiny_version: ModelVersion
) -> None:
    def digest(version: ModelVersion = scorer.version, rows: int = 4, **options: Any) -> str:
        chosen = ScoreOptions(**options)
        return key_of(people, version, chosen, rows).fingerprint

    changes: list[dict[str, Any]] = [
        {"top_k": 2}, {"probabilities": True}, {"prefix": "x_"}, {"min_confidence": 0.1},
        {"max_length": 99}, {"max_unknown": 0.5}, {"rows": 5}, {"label_as": "country"},
    ]  # fmt: skip
    every = {field.name for field in dataclasses.fields(ScoreOptions)}
    document = RunOptions(ScoreOptions(), CsvFormat(), 4).to_json()
    assert every - {"label_as"} <= set(document), "an option that would not count"
    warmer = dataclasses.replace(tiny_version, temperature=0.21)
    digests = [digest(), *(digest(**change) for change in changes)]
    digests.append(digest(version=save_version(tmp_path / "models", warmer)))
    assert len(set(digests)) == len(digests)
    assert digest() == digests[0]


def test_fingerprint_knows_names_and_content_of_the_inputs(
    tiny_version: ModelVersion, tmp_path: Path
) -> None:
    def digest(**files: str) -> str:
        folder = tmp_path / "-".join([*files, *files.values()])
        folder.mkdir()
        for name, content in files.items():
            (folder / f"{name}.csv").write_text(content)
        return key_of(folder, tiny_version, ScoreOptions(), 4).fingerprint

    digests = [digest(a="x"), digest(b="y"), digest(c="x"), digest(a="x", b="y")]
    assert len(set(digests)) == 4


def test_left_over_staging_of_other_work_is_removed(
    people: Path, run_score: Callable[..., Path]
) -> None:
    left_over = Path("outputs/predictions/people/.staging-0123456789abcdef")
    (left_over / "rows").mkdir(parents=True)
    (left_over / "rows/part-00000.parquet").write_bytes(b"x")
    run_score(people)
    assert not left_over.exists()


# --- going on where a run stopped ---------------------------------------------------------------


@pytest.fixture
def half_done(people: Path, scorer: Scorer, tmp_path: Path) -> tuple[RunPlan, Scorer]:
    """A plan whose parts are all staged, as they are when a run dies before publishing."""
    key = key_of(people, scorer.version, ScoreOptions(), 4)
    plan = plan_run(key, tmp_path / "out", [])
    score_partitions(plan, scorer, ScoreOptions(), ComputeOptions(workers=1))
    assert len(plan.partitions) == 3
    return plan, scorer


def inodes(plan: RunPlan) -> list[int]:
    return [p.stat().st_ino for p in sorted(plan.staging.glob("rows/part-*.parquet"))]


def test_finished_parts_are_reused(half_done: tuple[RunPlan, Scorer]) -> None:
    plan, scorer = half_done
    before = inodes(plan)
    assert all(read_receipt(plan, partition) for partition in plan.partitions)
    score_partitions(plan, scorer, ScoreOptions(), ComputeOptions(workers=2))
    assert inodes(plan) == before


def test_a_device_without_memory_is_told_with_the_rows(
    people: Path, scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    def without_memory(self: Scorer, *arguments: Any) -> Any:
        raise StorageError("the device has no memory for a single name")

    monkeypatch.setattr(Scorer, "answers", without_memory)
    key = key_of(people, scorer.version, ScoreOptions(), 4)
    plan = plan_run(key, tmp_path / "out", [])
    with pytest.raises(StorageError, match=r"^rows 4 to 7: the device has no memory"):
        score_partition(plan.partitions[1], plan, scorer, ScoreOptions())
    proof("P14", "a device without memory for one name: one line says so", 1)


def test_workers_take_turns_with_the_devices(
    people: Path, scorer: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = key_of(people, scorer.version, ScoreOptions(), 4)
    plan = plan_run(key, tmp_path / "out", [])
    replicas = [Scorer(scorer.version) for _ in range(3)]
    monkeypatch.setattr(Scorer, "replicas", lambda self: replicas)
    used, all_at_once = [], threading.Barrier(3, timeout=30)
    answers = Scorer.answers

    def together(self: Scorer, *arguments: Any) -> Any:
        used.append(replicas.index(self))
        all_at_once.wait()
        return answers(self, *arguments)

    monkeypatch.setattr(Scorer, "answers", together)
    receipts = score_partitions(plan, scorer, ScoreOptions(), ComputeOptions(workers=3))
    assert [receipt.index for receipt in receipts] == [0, 1, 2]
    assert sorted(used) == [0, 1, 2]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_page(path: Path) -> None:
    """Flip a bit in the middle of the page that holds the names."""
    column = pq.ParquetFile(path).metadata.row_group(0).column(1)
    start = column.dictionary_page_offset or column.data_page_offset
    content = bytearray(path.read_bytes())
    content[start + column.total_compressed_size // 2] ^= 1
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "part flipped": lambda s: flip(s / "rows/part-00001.parquet"),
    "part truncated": lambda s: os.truncate(s / "rows/part-00001.parquet", 100),
    "part missing": lambda s: (s / "rows/part-00001.parquet").unlink(),
    "part of another": lambda s: (s / "rows/part-00001.parquet").write_bytes(
        (s / "rows/part-00000.parquet").read_bytes()
    ),
    "receipt missing": lambda s: (s / "part-00001.json").unlink(),
    "receipt empty": lambda s: (s / "part-00001.json").write_text(""),
    "receipt garbage": lambda s: (s / "part-00001.json").write_text("[1]"),
    "receipt not utf-8": lambda s: (s / "part-00001.json").write_bytes(b"\xff"),
    "receipt short": lambda s: (s / "part-00001.json").write_text('{"index": 1}'),
    "receipt with other counts": lambda s: (s / "part-00001.json").write_text(
        (s / "part-00001.json").read_text().replace('"labels": {', '"labels": {"x": 1,', 1)
    ),
    "receipt of another": lambda s: (s / "part-00001.json").write_bytes(
        (s / "part-00000.json").read_bytes()
    ),
    "both of another": lambda s: (
        [
            (s / x.format(1)).write_bytes((s / x.format(0)).read_bytes())
            for x in ("part-0000{}.json", "rows/part-0000{}.parquet")
        ]
        and None
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_part_is_done_again_and_the_others_are_not(
    half_done: tuple[RunPlan, Scorer], damage: str
) -> None:
    plan, scorer = half_done
    before = inodes(plan)
    whole = output(plan.staging)
    DAMAGE[damage](plan.staging)
    assert read_receipt(plan, plan.partitions[1]) is None
    run = publish_parts(plan, scorer, ScoreOptions())
    after = [p.stat().st_ino for p in sorted(run.glob("rows/part-*.parquet"))]
    assert (after[0], after[2]) == (before[0], before[2])
    assert output(run).equals(whole)
    assert verify_run(run).rows == 12


def test_left_over_temporary_files_are_not_published(half_done: tuple[RunPlan, Scorer]) -> None:
    plan, scorer = half_done
    (plan.staging / "rows/part-00001.parquet.999.tmp").write_bytes(b"half a part")
    (plan.staging / "input-00000.arrows").write_bytes(b"a staged input")
    run = publish_parts(plan, scorer, ScoreOptions())
    names = {f"rows/part-0000{i}.parquet" for i in range(3)}
    assert entries_of(run) == names | {"manifest.json", "SHA256SUMS"}


def test_parts_that_do_not_account_for_every_row_are_not_published(
    half_done: tuple[RunPlan, Scorer],
) -> None:
    plan, scorer = half_done
    receipts = score_partitions(plan, scorer, ScoreOptions(), ComputeOptions(workers=1))
    with pytest.raises(CharrnnError, match="12 rows were read, 8 written"):
        manifest_of(plan, receipts[:2], FACTS, TRAIN)
    short = dataclasses.replace(receipts[0], statuses={"scored": 1})
    with pytest.raises(CharrnnError, match="have a status"):
        manifest_of(plan, [short, *receipts[1:]], FACTS, TRAIN)


# --- refusals -----------------------------------------------------------------------------------


def test_added_column_that_clashes_is_refused_before_scoring(
    tmp_path: Path, run_score: Callable[..., Path]
) -> None:
    (tmp_path / "people.csv").write_text("name,confidence,status\nKatoro,1,2\n")
    with pytest.raises(DataError) as caught:
        run_score(tmp_path / "people.csv")
    assert "'confidence', 'status'" in str(caught.value)
    assert caught.value.option == "prefix"
    assert visible(Path("outputs/predictions/people")) == []
    run = run_score(tmp_path / "people.csv", prefix="charrnn_")
    found = output(run)
    assert found["confidence"].to_pylist() == ["1"]
    assert found["charrnn_status"].to_pylist() == ["scored"]
    assert verify_run(run).rows == 1


def test_probability_column_that_clashes_is_refused_where_it_is_asked_for(
    tmp_path: Path, run_score: Callable[..., Path]
) -> None:
    (tmp_path / "people.csv").write_text("name,probability_Alpha\nKatoro,1\n")
    assert output(run_score(tmp_path / "people.csv"))["probability_Alpha"].to_pylist() == ["1"]
    with pytest.raises(DataError, match="probability_Alpha"):
        run_score(tmp_path / "people.csv", probabilities=True)


def test_damaged_page_leaves_no_run(people: Path, run_score: Callable[..., Path]) -> None:
    pq.write_table(numbered(5000), people, write_page_checksum=True, use_dictionary=False)
    flip(people)
    with pytest.raises(DataError, match=r"people\.parquet"):
        run_score(people)
    assert visible(Path("outputs/predictions/people")) == []


def test_second_writer_is_told_that_the_destination_is_busy(
    people: Path, run_score: Callable[..., Path]
) -> None:
    destination = Path("outputs/predictions/people")
    with (
        hold(destination / ".lock", "the nightly run"),
        pytest.raises(BusyError, match="being written by the nightly run"),
    ):
        run_score(people)
    assert visible(destination) == []
    assert verify_run(run_score(people)).rows == 12


# --- verify -------------------------------------------------------------------------------------


@pytest.fixture
def published(people: Path, run_score: Callable[..., Path]) -> Path:
    return run_score(people, partition_rows=4)


def test_every_flipped_bit_of_the_digests_is_found(published: Path) -> None:
    path = published / "SHA256SUMS"
    whole = path.read_bytes()
    ends = [i for i, byte in enumerate(whole) if byte == 10]
    draw = random.Random(3)
    unnoticed: list[str] = []
    for at in {*ends, *draw.sample(range(len(whole)), 20)}:
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                verify_run(published)
                unnoticed.append(f"byte {at} ({whole[at]}) became {damaged[at]}")
            except DataError:
                pass
    assert unnoticed == []


def test_missing_part_extra_file_and_missing_manifest_are_found(published: Path) -> None:
    extra = published / "rows/part-00009.parquet"
    extra.write_bytes(b"x")
    with pytest.raises(DataError, match=r"part-00009\.parquet is not listed"):
        verify_run(published)
    extra.unlink()
    part = published / "rows/part-00001.parquet"
    content = part.read_bytes()
    part.unlink()
    with pytest.raises(DataError, match=r"part-00001\.parquet is missing"):
        verify_run(published)
    part.write_bytes(content)
    verify_run(published)
    (published / "manifest.json").unlink()
    with pytest.raises(InputMissingError, match="is not a run"):
        verify_run(published)


def tampered(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the manifest and make the digests fit, as somebody would who wants to hide it."""
    manifest = json.loads((run / "manifest.json").read_text())
    change(manifest)
    (run / "manifest.json").write_text(json.dumps(manifest))
    write_sums(run)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(rows=m["rows"] - 1),
        lambda m: m["statuses"].update(scored=m["statuses"]["scored"] + 1),
        lambda m: m["statuses"].update(scored=0, unscored=m["rows"]),
        lambda m: m["parts"][1].update(rows=m["parts"][1]["rows"] + 1),
        lambda m: m["parts"][1].update(first_row=0),
        lambda m: m["parts"].pop(),
        lambda m: m["parts"].reverse(),
        lambda m: m["reasons"].update(null_name=99),
        lambda m: m["labels"].update(Alpha=99),
        lambda m: m["parts"][0].update(sha256="0" * 64),
        lambda m: m["parts"][0].update(size=1),
    ],
    ids=["rows", "scored", "swapped", "part rows", "first row", "part left out", "part order",
         "reasons", "labels", "part digest", "part size"],
)  # fmt: skip
def test_manifest_that_does_not_fit_its_parts_is_found(
    published: Path, change: Callable[[dict[str, Any]], Any], proof: Proof
) -> None:
    tampered(published, change)
    with pytest.raises(DataError):
        verify_run(published)
    proof(
        "P15", "manifests that do not fit their parts, digests made right again: found by verify", 1
    )


@pytest.mark.parametrize("key", ["parts", "options", "rows", "statuses"])
def test_manifest_that_lacks_something_is_refused_as_damaged(published: Path, key: str) -> None:
    tampered(published, lambda manifest: manifest.pop(key))
    with pytest.raises(DataError):
        verify_run(published)


def test_a_part_that_the_manifest_does_not_list_is_found(published: Path, proof: Proof) -> None:
    """A pattern over the parts would read it."""
    (published / "rows/part-00009.parquet").write_bytes(
        (published / "rows/part-00000.parquet").read_bytes()
    )
    write_sums(published)
    with pytest.raises(DataError, match=r"part-00009\.parquet is no part that the manifest lists"):
        verify_run(published)
    proof("P15", "a part too many, digests made right again: found by verify", 1)


@pytest.mark.parametrize("latest", ["kept", "missing", "dangling", "folder"])
def test_verify_of_a_destination_proves_its_newest_run(
    people: Path, latest: str, run_score: Callable[..., Path], command: Command, proof: Proof
) -> None:
    run_score(people)
    newest = run_score(people, top_k=1)
    link = newest.parents[1] / "latest"
    if latest != "kept":
        link.unlink()
    if latest == "dangling":
        link.symlink_to("runs/run=20010101T000000Z-00000000")
    elif latest == "folder":
        link.mkdir()
    for given in (link.parent, f"{link.parent}/", newest, f"{newest}/"):
        code, out, error = command("verify", given)
        assert (code, out) == (0, f"{newest} is whole: 12 rows in 1 parts\n"), error
    (newest / "report.html").write_text("x")
    assert command("verify", link.parent)[0] == 65
    proof("P15", "forms of a destination and a run: its newest run is verified", 4)


def test_damaged_manifest_of_an_earlier_run_does_not_stop_the_next(
    people: Path, run_score: Callable[..., Path]
) -> None:
    """Its message says to score the input again; so that has to work."""
    run = run_score(people)
    (run / "manifest.json").write_text("{")
    assert verify_run(run_score(people)).rows == 12


def test_finished_run_is_found_by_its_whole_fingerprint(published: Path) -> None:
    digest = read_manifest(published)["fingerprint"]
    assert finished_run(published.parents[1], digest) == published
    other = digest[:8] + ("0" if digest[8] != "0" else "1") + digest[9:]
    assert finished_run(published.parents[1], other) is None
    assert finished_run(published.parents[1] / "nowhere", digest) is None


# --- export -------------------------------------------------------------------------------------


def test_export_to_parquet_equals_the_parts(published: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "all.parquet"
    assert export(published, path) == (12, 0)
    found, whole = pq.read_table(path, page_checksum_verification=True), output(published)
    assert found.schema.equals(whole.schema)
    assert found.to_pylist() == whole.to_pylist()


def test_export_to_csv_equals_the_parts(published: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    assert export(published, path) == (12, 0)
    whole = output(published)
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file, strict=True)
    assert header == whole.column_names
    assert len(rows) == 12
    for row, expected in zip(rows, whole.to_pylist(), strict=True):
        for text, (name, value) in zip(row, expected.items(), strict=True):
            if isinstance(value, float):
                assert float(text) == pytest.approx(value, rel=1e-6), name
            else:
                assert text == ("" if value is None else str(value)), name


def test_export_to_csv_keeps_null_apart_from_empty(published: Path, tmp_path: Path) -> None:
    """Staging it again reads a bare field as null and a quoted one as text."""
    path = tmp_path / "all.csv"
    export(published, path)
    table = stage_csv(path, tmp_path / "again.arrows", csv=CsvFormat()).table
    again, whole = read_groups(table.groups), output(published)
    for name in ("name", "country", "language", "status", "reason"):
        assert again[name].to_pylist() == whole[name].to_pylist(), name


def test_export_of_awkward_cells_to_csv_is_exact(
    tmp_path: Path, run_score: Callable[..., Path]
) -> None:
    cells = ['a"b', ",", "x\ny", " pad ", "Катя", "007", "NA", "=1+1", "'", "a;b\tc"]
    pq.write_table(pa.table({"name": cells, "stamp": pa.array([0] * 10, pa.timestamp("us", "UTC")),
                             "decimal": pa.array([decimal.Decimal("1.50")] * 10),
                             "bool": [True] * 10}), tmp_path / "p.parquet")  # fmt: skip
    run_score(tmp_path / "p.parquet", output=str(tmp_path / "out.csv"), keep_formulas=True)
    with (tmp_path / "out.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, strict=True))
    assert [row["name"] for row in rows] == cells
    assert {row["decimal"] for row in rows} == {"1.50"}
    assert {row["bool"] for row in rows} == {"true"}
    assert {row["stamp"] for row in rows} == {"1970-01-01 00:00:00.000000Z"}


def test_export_to_csv_of_columns_csv_cannot_hold_is_refused_by_name(
    tmp_path: Path, run_score: Callable[..., Path]
) -> None:
    pq.write_table(pa.table({"name": ["A"], "tags": [["x", "y"]]}), tmp_path / "p.parquet")
    with pytest.raises(CharrnnError, match="tags"):
        run_score(tmp_path / "p.parquet", output=str(tmp_path / "out.csv"))
    assert not (tmp_path / "out.csv").exists()
    assert list(tmp_path.glob("out.csv*")) == []


def test_export_that_fails_leaves_the_old_file(published: Path, tmp_path: Path) -> None:
    path = tmp_path / "all.parquet"
    export(published, path)
    whole = path.read_bytes()
    flip_page(published / "rows/part-00002.parquet")
    with pytest.raises(CharrnnError):
        export(published, path)
    assert path.read_bytes() == whole
    assert [p.name for p in tmp_path.glob("all.parquet*")] == ["all.parquet"]


def test_export_of_a_damaged_run_blames_the_run(published: Path, tmp_path: Path) -> None:
    flip_page(published / "rows/part-00002.parquet")
    with pytest.raises(DataError, match=r"part-00002\.parquet"):
        export(published, tmp_path / "all.parquet")


def test_output_to_a_file_also_publishes_the_run(
    people: Path, run_score: Callable[..., Path], tmp_path: Path
) -> None:
    run = run_score(people, output=str(tmp_path / "out.csv"))
    assert run.parent == Path("outputs/predictions/people/runs")
    assert pacsv.read_csv(tmp_path / "out.csv").num_rows == 12
    again = run_score(people, output=str(tmp_path / "out.parquet"))
    assert again == run
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == output(run).to_pylist()


# --- how parts are written ------------------------------------------------------------------------


def test_parts_hold_dictionaries_where_values_repeat_and_statistics_of_the_input(
    tmp_path: Path, run_score: Callable[..., Path]
) -> None:
    rows = 3000
    table = pa.table(
        {
            "id": pa.array(range(rows), pa.int64()),
            "town": [f"town {i % 9}" for i in range(rows)],
            "tags": [[i % 3] for i in range(rows)],
            "name": ["Kato"] * rows,
        }
    )
    pq.write_table(table, tmp_path / "people.parquet")
    footer = pq.ParquetFile(run_score("people.parquet") / "rows/part-00000.parquet").metadata
    columns = {c.path_in_schema: c for c in map(footer.row_group(0).column, range(12))}
    assert not columns["id"].has_dictionary_page
    assert columns["town"].has_dictionary_page
    assert columns["language"].has_dictionary_page
    assert "BYTE_STREAM_SPLIT" in columns["confidence"].encodings
    assert columns["id"].statistics.max == rows - 1
    assert columns["confidence"].statistics is None
