"""Runs over a column of given names and one of surnames. All names are invented."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from commands import Command, complaint
from flat import challenge, files_of, inbox, read_manifest, score

from charrnn.cli import KEY_VARIABLE
from charrnn.model.version import ModelVersion, load_version, save_version
from charrnn.runs.verify import verify_run
from charrnn.scoring.scorer import Scorer

COLUMNS = {"given_column": "first", "surname_column": "last"}
GIVENS = ["Mirela", None, "Tova", "", "Mirela", None, "Dr. Mira", "Катя"] * 5
SURNAMES = ["Katoro", "Burg", None, "Katoro", "Katoro", None, "van Burg", "Katoro"] * 5
FULL = ["Mirela Katoro", "Burg", "Katoro, Tova", "Dr. M. Burg", None] * 8
BOTH = ("--given-column", "first", "--surname-column", "last")


@pytest.fixture(scope="module")
def models(given_version: ModelVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Version v0001 knows given names; v0002 is more sure of pairs."""
    root = tmp_path_factory.mktemp("models")
    saved = save_version(root, given_version)
    save_version(root, ModelVersion(**{**vars(saved), "pair_exponent": 3.0}))
    return root


@pytest.fixture
def run(models: Path, working_folder: Path) -> Callable[..., Path]:
    """Write the tables into an empty folder, and return the score flow."""
    table = pa.table({"id": range(40), "first": GIVENS, "last": SURNAMES, "name": FULL})
    pq.write_table(table, "people.parquet", row_group_size=8)
    pyarrow.csv.write_csv(table, "people.csv")

    def run(source: str = "people.parquet", **options: Any) -> Path:
        chosen = {"model": "v0001", "models": str(models), "device": "cpu", "workers": 1}
        return Path(score(source, **{**chosen, **options}))

    return run


def rows(folder: Path) -> pl.DataFrame:
    return pl.read_parquet(f"{folder}/rows")


@pytest.mark.parametrize("source", ["people.parquet", "people.csv"])
@pytest.mark.parametrize(
    "columns", [COLUMNS, {"given_column": "first"}, {"surname_column": "last"}]
)
def test_run_has_the_answers_of_the_scorer(
    run: Callable[..., Path], models: Path, source: str, columns: dict[str, str]
) -> None:
    folder = run(source, partition_rows=8, **columns)
    found = rows(folder)
    assert found["first"].to_list() == GIVENS
    assert found["last"].to_list() == SURNAMES
    scorer = Scorer(load_version(models / "v0001"))
    expected = scorer.score_table(found.select("first", "last"), **columns)
    assert found.select(expected.columns).equals(expected)
    manifest = verify_run(folder)
    options = manifest.options.scoring
    assert {f: getattr(options, f) for f in columns} == columns
    missing = sum(all(p is None for p in pair) for pair in zip(*cells(columns), strict=True))
    assert manifest.reasons.get("null_name", 0) == missing  # type: ignore[union-attr]


def cells(columns: dict[str, str]) -> list[list[str | None]]:
    return [{"first": GIVENS, "last": SURNAMES}[column] for column in columns.values()]


def test_one_column_of_full_names_is_split(run: Callable[..., Path]) -> None:
    found = rows(run(details=True, name_order="auto"))
    expected = ["given+surname", "surname", "given+surname", "surname", None] * 8
    assert found["name_parts"].to_list() == expected
    plain = rows(run(details=True, name_order="surname"))
    assert set(plain["name_parts"].to_list()) == {"surname", None}


@pytest.mark.parametrize("policy", ["omit", "hash"])
def test_names_of_both_columns_are_hidden(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "0123456789abcdef")
    table = pq.read_table("people.parquet").drop_columns("name")
    pq.write_table(table, "people.parquet")
    kept, folder = rows(run(**COLUMNS)), run(names=policy, **COLUMNS)
    hidden = rows(folder)
    assert verify_run(folder).rows == 40
    content = b"".join(path.read_bytes() for path in files_of(folder))
    assert not [name for name in (b"Mirela", b"Katoro", b"van Burg") if name in content]
    answers = [c for c in kept.columns if c not in ("first", "last")]
    assert hidden.select(answers).equals(kept.select(answers))
    if policy == "omit":
        assert hidden.columns == answers
        return
    for column in ("first", "last"):
        pairs = set(zip(kept[column], hidden[column], strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})
        assert all((a is None) == (b is None) for a, b in pairs)
        assert all(b is None or len(b) == 32 for _, b in pairs)


def test_columns_and_order_are_part_of_the_fingerprint(run: Callable[..., Path]) -> None:
    runs = [
        run(), run(name_order="surname"), run(name_order="comma"), run(**COLUMNS),
        run(given_column="last", surname_column="first"), run(surname_column="last"),
    ]  # fmt: skip
    assert len({read_manifest(folder)["fingerprint"] for folder in runs}) == len(runs)
    assert run(**COLUMNS) == runs[3]


def test_finished_parts_are_used_again_after_a_stop(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from charrnn.runs import execute

    write, written = execute.write_part, list[int]()

    def stop_at_third(*arguments: Any) -> str:
        if len(written) == 2:
            raise KeyboardInterrupt
        written.append(1)
        return write(*arguments)

    monkeypatch.setattr(execute, "write_part", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        run(partition_rows=8, **COLUMNS)
    monkeypatch.setattr(execute, "write_part", write)
    folder = run(partition_rows=8, **COLUMNS)
    assert read_manifest(folder)["reused_rows"] == 16
    assert rows(folder).height == 40


def test_estimated_prior_reads_both_columns(run: Callable[..., Path]) -> None:
    prior = read_manifest(run(prior="estimate", **COLUMNS))["prior"]
    assert prior["kind"] == "estimate"
    assert prior["names"] == 35


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((*BOTH[:3], "nosuch"), "column 'nosuch' not found"),
        (("--given-column", "nosuch", *BOTH[2:]), "column 'nosuch' not found"),
        (("--surname-column", "id"), "column 'id' is int64, expected text"),
    ],
)
def test_column_at_fault_is_named_with_its_option(
    run: Callable[..., Path], command: Command, models: Path, options: tuple[str, ...], message: str
) -> None:
    wrong = options[[*options].index(message.split("'")[1]) - 1]
    code, _, error = command(
        "people.parquet", *options, "--model", "v0001", "--models", models, "--device", "cpu"
    )
    line = complaint(code, 65, error)
    assert message in line
    assert f"({wrong})" in line


def test_column_in_names_of_folders_holds_no_names(
    run: Callable[..., Path], command: Command, models: Path
) -> None:
    Path("in/last=Katoro").mkdir(parents=True)
    pq.write_table(pa.table({"first": ["Mirela"]}), "in/last=Katoro/a.parquet")
    code, _, error = command("in", *BOTH, "--model", "v0001", "--models", models)
    line = complaint(code, 65, error)
    assert "column 'last' lies in names of folders" in line
    assert "(--surname-column)" in line


def test_input_with_a_column_name_parts_is_refused(
    run: Callable[..., Path], command: Command, models: Path
) -> None:
    pq.write_table(pa.table({"last": ["Katoro"], "name_parts": ["x"]}), "odd.parquet")
    options = ("--surname-column", "last", "--model", "v0001", "--models", models)
    code, _, error = command("odd.parquet", *options)
    assert "already has column 'name_parts'" in complaint(code, 65, error)
    assert command("odd.parquet", *options, "--prefix", "x_")[0] == 0


def test_surname_model_refuses_given_names_before_it_reads_the_table(
    run: Callable[..., Path], command: Command, models: Path, tiny_version: ModelVersion
) -> None:
    save_version(Path("surnames"), tiny_version)
    code, _, error = command(
        "people.parquet", *BOTH[:2], "--model", "v0001", "--models", "surnames"
    )
    assert "knows surnames only" in complaint(code, 64, error)


def test_comparison_reads_both_columns(run: Callable[..., Path], models: Path) -> None:
    options = {"model": "v0001", "challenger": "v0002", "models": str(models), "device": "cpu"}
    manifest = read_manifest(challenge("people.parquet", **options, **COLUMNS))
    assert manifest["compared"] == 40
    assert manifest["distinct"] == 6
    assert manifest["options"]["given_column"] == "first"
    before, after = manifest["mean_confidence"]
    assert after > before
    split = read_manifest(challenge("people.parquet", **options, name_order="comma"))
    assert split["distinct"] == 4


def test_inbox_reads_both_columns(run: Callable[..., Path], models: Path) -> None:
    Path("data/inbox").mkdir(parents=True)
    Path("people.csv").rename("data/inbox/people.csv")
    options = {"model": "v0001", "models": str(models), "device": "cpu", "settle_seconds": 0}
    inbox(**options, **COLUMNS)
    found = rows(Path("outputs/predictions/people/latest"))
    assert found["name_parts"].value_counts().height == 4


def test_run_is_compared_with_one_of_the_same_columns(run: Callable[..., Path]) -> None:
    run(name_order="surname")
    run(**COLUMNS)
    table = pq.read_table("people.parquet")
    pq.write_table(pa.concat_tables([table, table]), "people.parquet")
    manifest = read_manifest(run(**COLUMNS))
    assert manifest["profile"]["pairs"] == 2 * 15
    assert manifest["drift"]["model"]["skipped"] == ["length and confidence: other parts of names"]
    previous = [m["name"] for m in manifest["drift"]["previous"]["measures"]]
    assert {"length", "confidence"} <= {*previous}
