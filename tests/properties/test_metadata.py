"""Names in the metadata of a Parquet file: none of its bytes passes on where names are left out.

Metadata of the file and of columns, what pandas and Polars note (Polars lists the categories of an
Enum), statistics and dictionaries of the name column are searched for a name.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cases.trial import inside, run_command
from recording import Proof

CANARY = "Zanzibarova"
NAMES = [CANARY, "Katoro", None, CANARY]
MODEL = ("--model", "pretrained-tiny", "--workers", "1", "--device", "cpu")


def noted(path: Path) -> None:
    """Write a table with the name in every kind of metadata that Arrow and pandas write."""
    pandas = {"columns": [{"name": "name", "metadata": {"first": CANARY}}], "creator": CANARY}
    field = pa.field("name", pa.dictionary(pa.int8(), pa.string()), metadata={"example": CANARY})
    fields = [
        field,
        pa.field("id", pa.int64(), metadata={"owner": CANARY, "PARQUET:field_id": "7"}),
    ]
    schema = pa.schema(fields, metadata={"pandas": json.dumps(pandas), "note": CANARY, CANARY: "x"})
    names = pa.array(NAMES).dictionary_encode().cast(schema.field("name").type)
    table = pa.Table.from_arrays([names, pa.array([1, 2, 3, 4])], schema=schema)
    pq.write_table(table, path, write_page_index=True, use_dictionary=True)


def enumerated(path: Path) -> None:
    """Write a table whose names are an Enum of Polars."""
    kind = pl.Enum([CANARY, "Katoro"])
    pl.DataFrame({"name": pl.Series(NAMES, dtype=kind), "id": [1, 2, 3, 4]}).write_parquet(path)


def content(path: Path) -> bytes:
    """Return the bytes of a file, and of a Parquet file also all that is packed in it."""
    raw = path.read_bytes()
    if path.suffix != ".parquet":
        return raw
    file = pq.ParquetFile(path)
    footer = file.metadata
    notes = dict(footer.metadata or {})
    raw += repr(notes).encode() + base64.b64decode(notes.get(b"ARROW:schema", b""))
    schema = file.schema_arrow
    raw += repr([schema.metadata, *((f.name, f.metadata) for f in schema)]).encode()
    for group in range(footer.num_row_groups):
        for column in range(footer.num_columns):
            statistics = footer.row_group(group).column(column).statistics
            raw += repr(statistics.to_dict() if statistics else None).encode()
    table = file.read()
    for column in table.columns:
        for chunk in column.chunks:
            dictionary = chunk.dictionary if pa.types.is_dictionary(chunk.type) else chunk
            raw += repr(dictionary.to_pylist()).encode()
    return raw


def run(folder: Path, *arguments: str) -> str:
    """Run ``charrnn`` in a folder; return what it printed."""
    with inside(folder):
        code, out, error = run_command(*arguments, *MODEL)
    assert code == 0, error
    return out + error


@pytest.mark.parametrize("make", [noted, pytest.param(enumerated, marks=pytest.mark.slow)])
def test_metadata_passes_no_name_on_where_names_are_left_out(
    make: Callable[[Path], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    proof: Proof,
) -> None:
    monkeypatch.setenv("CHARRNN_NAME_KEY", "0123456789abcdef")
    (tmp_path / "home").mkdir()
    make(tmp_path / "in.parquet")
    assert content(tmp_path / "in.parquet").count(CANARY.encode()) > 2
    said = ""
    for policy, suffix in (("omit", "parquet"), ("hash", "parquet"), ("omit", "csv")):
        said += run(tmp_path, "score", "in.parquet", "--names", policy,
                    "-o", f"{policy}.{suffix}")  # fmt: skip
    said += run(tmp_path, "challenge", "in.parquet", "--challenger", "pretrained")
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "in.parquet"]
    assert sum(path.suffix == ".parquet" for path in files) >= 4
    assert [p.relative_to(tmp_path) for p in files if CANARY.encode() in content(p)] == []
    assert CANARY not in said
    proof("P12", "names in Parquet metadata, left out or hashed: in no byte of any output", 4)
