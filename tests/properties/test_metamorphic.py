"""The same names, told differently: file kind, partitions, threads and order change no prediction.

All through the score command, with the packaged tiny model.
"""

import gzip
import random
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import Command
from recording import Proof

ROWS = 400


pytestmark = pytest.mark.usefixtures("working_folder")


def people() -> pa.Table:
    """Names of all lengths, some odd, some equal, some missing, with an id each."""
    draw = random.Random(17)
    alphabet = "abcdefghijklmnopqrstuvwxyz" * 6 + "ABCé 'ß-.øñЖ1"
    names: list[str | None] = [
        "".join(draw.choices(alphabet, k=draw.choice([0, 1, 2, 5, 7, 9, 12, 30])))
        for _ in range(ROWS)
    ]
    names[1::17] = ["Katoro"] * len(names[1::17])
    names[2::31] = [None] * len(names[2::31])
    return pa.table({"id": [str(i) for i in range(ROWS)], "name": pa.array(names, pa.string())})


def csv_of(table: pa.Table) -> bytes:
    rows = zip(*table.to_pydict().values(), strict=True)
    lines = [f"{i}," + ("" if name is None else f'"{name}"') for i, name in rows]
    return "\n".join(["id,name", *lines, ""]).encode()


def scored(command: Command, table: pa.Table, kind: str, **options: int) -> pl.DataFrame:
    """Score ``table`` from a file of this kind; return the result, sorted by id."""
    path = Path(f"people.{kind}")
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=options.get("partition_rows", 2**20))
    else:
        pack = {"csv": bytes, "csv.gz": gzip.compress, "csv.zst": pa.Codec("zstd").compress}[kind]
        path.write_bytes(bytes(pack(csv_of(table))))
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    code, _, error = command(path, "--model=pretrained-tiny", "-o=scored", "--force", *given)
    assert code == 0, error
    frame = pl.read_parquet("scored/latest/rows")
    assert frame["id"].to_list() == table["id"].to_pylist(), "the rows come out in another order"
    return frame.sort(pl.col("id").cast(pl.Int64))


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    assert found.columns == expected.columns
    for name in found.columns:
        one, two = found[name], expected[name]
        if one.dtype == pl.Float32:
            np.testing.assert_allclose(one.to_numpy(), two.to_numpy(), atol=1e-5, rtol=0)
        else:
            assert one.cast(pl.String).to_list() == two.cast(pl.String).to_list(), name


def test_prediction_does_not_depend_on_file_kind_partitions_threads_or_order(
    command: Command, proof: Proof
) -> None:
    table = people()
    expected = scored(command, table, "parquet", workers=1)
    assert expected["status"].n_unique() == 3
    for kind in ("csv", "csv.gz", "csv.zst"):
        assert_same(scored(command, table, kind, workers=1), expected)
    for kind, rows, workers, batch in [
        ("csv", 50, 4, 7), ("parquet", 50, 4, 1), ("csv", 7, 2, 64), ("parquet", 399, 2, 3),
    ]:  # fmt: skip
        found = scored(command, table, kind, partition_rows=rows, workers=workers, batch_size=batch)
        parts = len(list(Path("scored/latest").glob("rows/part-*")))
        assert parts == -(-ROWS // rows)
        assert_same(found, expected)
    order = list(range(ROWS))
    random.Random(5).shuffle(order)
    assert_same(scored(command, table.take(order), "csv", partition_rows=97), expected)
    proof(
        "P2", "one table told in other ways (file kind, partitions, workers, order): one answer", 8
    )
