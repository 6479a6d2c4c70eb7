"""Appending to a Delta table: every run once, whatever is killed, rerun or done twice at once."""

import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flat import read_manifest, score

from charrnn.errors import DataError, StorageError
from charrnn.integrations.delta import RUN_COLUMN, append_run
from charrnn.runs.folders import run_name

deltalake = pytest.importorskip(
    "deltalake", reason="the extra charrnn-names[delta] is not installed"
)

Run = Callable[..., Path]


@pytest.fixture
def run_score(models: Path, tmp_path: Path) -> Run:
    def run(table: pa.Table, **options: Any) -> Path:
        source = tmp_path / "people.parquet"
        pq.write_table(table, source, row_group_size=4)
        chosen = {"model": "v0001", "models": str(models), "device": "cpu", "workers": 1}
        chosen |= {"output": str(tmp_path / "runs"), "partition_rows": 4}
        return Path(score(str(source), **{**chosen, **options}))

    return run


def rows_of(table: str) -> pl.DataFrame:
    """The rows of a Delta table, which has no order, by number."""
    return pl.read_delta(table).sort("id", maintain_order=True)


def expected(run: Path) -> pl.DataFrame:
    """The rows of a run, text as text."""
    parts = [run / part["name"] for part in read_manifest(run)["parts"]]
    frame = pl.read_parquet(parts, glob=False)
    texts = [name for name, kind in frame.schema.items() if isinstance(kind, pl.Categorical)]
    return frame.with_columns(
        pl.col(texts).cast(pl.String), pl.lit(run_name(run)).alias(RUN_COLUMN)
    )


def test_the_rows_of_a_run_are_read_back_by_polars_and_duckdb(
    run_score: Run, names_table: pa.Table, tmp_path: Path
) -> None:
    duckdb = pytest.importorskip("duckdb")
    table = str(tmp_path / "table")
    run = run_score(names_table, delta=table)
    assert rows_of(table).equals(expected(run))
    dataset = deltalake.DeltaTable(table).to_pyarrow_dataset()
    assert dataset.count_rows() == 12
    counted = duckdb.sql("select status, count(*) from dataset group by 1 order by 1").fetchall()
    assert counted == [(s, n) for s, n in sorted(read_manifest(run)["statuses"].items()) if n]


def test_a_run_is_appended_once_and_another_run_beside_it(
    run_score: Run, names_table: pa.Table, tmp_path: Path
) -> None:
    table = str(tmp_path / "table")
    first = run_score(names_table)
    assert append_run(first, table)
    assert not append_run(first, table)
    run_score(names_table, delta=table, force=True)  # the same work in another folder
    assert rows_of(table).equals(expected(first))
    second = run_score(names_table.slice(0, 5), delta=table)
    both = rows_of(table)
    assert both.filter(pl.col(RUN_COLUMN) == run_name(second)).equals(expected(second))
    assert both.height == 17


@pytest.mark.parametrize("after", [False, True], ids=["before the commit", "after the commit"])
def test_a_kill_and_a_rerun_leave_the_rows_once(
    after: bool, run_score: Run, names_table: pa.Table, tmp_path: Path
) -> None:
    table, run = str(tmp_path / "table"), run_score(names_table)
    program = (
        "import os, signal, sys, deltalake\n"
        "from pathlib import Path\n"
        "from charrnn.integrations.delta import append_run\n"
        "write = deltalake.write_deltalake\n"
        "def killed(table, data, **options):\n"
        f"    if {after}: write(table, data, **options)\n"
        "    else: data.read_next_batch()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "deltalake.write_deltalake = killed\n"
        "append_run(Path(sys.argv[1]), sys.argv[2])\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(run), table], check=False)
    assert done.returncode == -signal.SIGKILL
    assert append_run(run, table) is not after
    assert rows_of(table).equals(expected(run))


@pytest.mark.slow
def test_processes_at_once_append_a_run_once(
    run_score: Run, names_table: pa.Table, tmp_path: Path
) -> None:
    table = str(tmp_path / "table")
    runs = [run_score(names_table), run_score(names_table.slice(0, 7))]
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from charrnn.integrations.delta import append_run\n"
        "sys.stdin.readline()\n"
        "print(append_run(Path(sys.argv[1]), sys.argv[2]))\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(run), table],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for run in runs * 3
    ]  # fmt: skip
    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
    answers = [writer.communicate()[0].strip() for writer in writers]
    assert sorted(answers) == ["False"] * 4 + ["True"] * 2
    assert pl.read_delta(table).height == 19


def test_a_writer_that_was_overtaken_looks_again(
    run_score: Run, names_table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Delta would let the second append through: it does not look at transactions itself."""
    table, run = str(tmp_path / "table"), run_score(names_table)
    write, calls = deltalake.write_deltalake, []

    def overtaken(*arguments: Any, **options: Any) -> None:
        calls.append(1)
        if len(calls) == 1:
            assert append_run(run, table)  # somebody else, between our look and our write
        write(*arguments, **options)

    for create in (True, False):
        calls.clear()
        monkeypatch.setattr(deltalake, "write_deltalake", overtaken)
        assert not append_run(run, table)
        monkeypatch.undo()
        assert pl.read_delta(table).filter(pl.col(RUN_COLUMN) == run_name(run)).height == 12
        if create:
            run = run_score(names_table, top_k=3, min_confidence=0.1)


def test_a_damaged_part_appends_nothing(
    run_score: Run, names_table: pa.Table, tmp_path: Path
) -> None:
    table, run = str(tmp_path / "table"), run_score(names_table)
    part = run / "rows/part-00001.parquet"
    names = pq.ParquetFile(part).metadata.row_group(0).column(1)
    content = bytearray(part.read_bytes())
    content[names.data_page_offset + names.total_compressed_size // 2] ^= 1
    part.write_bytes(content)
    with pytest.raises(DataError, match=r"part-00001.parquet is damaged.*nothing was appended"):
        append_run(run, table)
    assert not deltalake.DeltaTable.is_deltatable(table)


def test_every_type_that_delta_can_hold_comes_back(run_score: Run, tmp_path: Path) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    given = pa.table(
        {
            "name": pa.array(["Katoro", None]).dictionary_encode(),
            "u8": pa.array([255, None], pa.uint8()),
            "u32": pa.array([2**32 - 1, None], pa.uint32()),
            "u64": pa.array([2**63 - 1, None], pa.uint64()),
            "half": pa.array([0.5, None], pa.float16()),
            "zoned": pa.array([moment, None], pa.timestamp("ns", "Europe/Berlin")),
            "local": pa.array([moment.replace(tzinfo=None), None], pa.timestamp("ms")),
            "day": pa.array([date(2026, 1, 2), None], pa.date32()),
            "money": pa.array([Decimal("1.25"), None], pa.decimal128(9, 2)),
            "nothing": pa.array([None, None], pa.null()),
            "bytes": pa.array([b"ab", None], pa.large_binary()),
            "list": pa.array([[1, 2], None], pa.list_(pa.int64())),
            "large": pa.array(["x", None], pa.large_string()),
        }
    )
    table = str(tmp_path / "table")
    run_score(given, delta=table)
    found = pl.read_delta(table).select(given.column_names).to_dicts()
    wanted = given.to_pylist()
    wanted[0]["zoned"] = moment
    assert found == wanted


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (pa.time64("us"), 1, "column 'x' is time64.us., which Delta does not support"),
        (pa.uint64(), 2**63, "has a value that Delta does not support"),
        (pa.timestamp("ns"), 1, "has a value that Delta does not support"),
    ],
)
def test_what_delta_cannot_hold_is_refused(
    kind: pa.DataType, value: int, message: str, run_score: Run, tmp_path: Path
) -> None:
    table = str(tmp_path / "table")
    given = pa.table({"name": ["Katoro"], "x": pa.array([value], kind)})
    with pytest.raises(DataError, match=message):
        run_score(given, delta=table)
    assert not deltalake.DeltaTable.is_deltatable(table)


def test_a_table_with_other_columns_is_left_alone(
    run_score: Run, names_table: pa.Table, tmp_path: Path
) -> None:
    table = str(tmp_path / "table")
    run_score(names_table, delta=table)
    with pytest.raises(DataError, match=r"'born' is float in the table and absent in the run"):
        run_score(names_table.drop_columns("born"), delta=table)
    assert pl.read_delta(table).height == 12


def test_an_empty_input_makes_an_empty_table(
    run_score: Run, names_table: pa.Table, tmp_path: Path
) -> None:
    table = str(tmp_path / "table")
    run = run_score(names_table.slice(0, 0), delta=table)
    assert pl.read_delta(table).height == 0
    assert not append_run(run, table)


def test_a_folder_that_cannot_be_written_is_one_line(
    run_score: Run, names_table: pa.Table, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    run = run_score(names_table)
    with pytest.raises(StorageError) as caught:
        append_run(run, str(tmp_path / "file" / "table"))
    assert "\n" not in str(caught.value)


def test_a_log_that_cannot_be_read_is_one_line(
    run_score: Run, names_table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table reads its log when it is first asked, not when it is opened."""
    run = run_score(names_table)

    def interrupted(table: object, application: str) -> None:
        raise deltalake.exceptions.DeltaError("Interrupted system call")

    append_run(run_score(names_table.slice(0, 5)), str(tmp_path / "table"))
    monkeypatch.setattr(deltalake.DeltaTable, "transaction_version", interrupted)
    with pytest.raises(StorageError, match="cannot be read: DeltaError: Interrupted"):
        append_run(run, str(tmp_path / "table"))
