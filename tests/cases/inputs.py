"""Inputs of the cases that take more than a line of text. All names are invented."""

import io
import json
import os
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from charrnn.files import write_sums
from charrnn.model.version import PRETRAINED
from charrnn.model.version import __file__ as version_module

SYLLABLES = {
    "Alpha": ["ka", "ro", "mi", "ta", "shi"],
    "Beta": ["stein", "burg", "mann", "hof", "acht"],
    "Gamma": ["ovsk", "iy", "ev", "aro", "nko"],
}
GREEK = ["πα", "δο", "κο", "λι", "νι", "μα", "ρου", "τσι"]
CYRILLIC = ["ива", "пет", "ров", "сид", "кузн", "мал", "ник", "ов"]
Make = Callable[[Path], None]


def names(label: str, count: int, syllables: list[str] | None = None) -> list[str]:
    """Return ``count`` different invented names."""
    draw, found = random.Random(label), dict[str, None]()
    while len(found) < count:
        word = "".join(draw.choices(syllables or SYLLABLES[label], k=draw.randint(2, 4)))
        found.setdefault(word.capitalize())
    return list(found)


def language(label: str, count: int = 20, end: str = "\n") -> str:
    """Return the text of a language file."""
    return end.join(names(label, count)) + end


def languages(*labels: str, count: int = 20) -> dict[str, str | bytes]:
    """Return language files, below the folder ``in``."""
    return {f"in/{label}.txt": language(label, count) for label in labels}


def foreign(folder: Path) -> None:
    """Write language files in two other scripts."""
    for label, syllables in {"Delta": GREEK, "Epsilon": CYRILLIC}.items():
        (folder / "in").mkdir(exist_ok=True)
        (folder / f"in/{label}.txt").write_text("\n".join(names(label, 300, syllables)) + "\n")


def table(
    path: str, columns: dict[str, Any], metadata: dict[str, str] | None = None, required: str = ""
) -> Make:
    """Return a function that writes a Parquet file; ``required`` is a column without null."""

    def make(folder: Path) -> None:
        written = pa.table(columns)
        fields = [field.with_nullable(field.name != required) for field in written.schema]
        written = written.cast(pa.schema(fields))
        if metadata:
            written = written.replace_schema_metadata(metadata)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(written, folder / path)

    return make


def both(*makes: Make) -> Make:
    """Return a function that makes all of these."""

    def make(folder: Path) -> None:
        for one in makes:
            one(folder)

    return make


def int96(folder: Path) -> None:
    """Write a table with dates of the years 9999 and 1 as INT96, which counts days; Arrow writes
    only what fits nanoseconds, so the days are put in by hand."""
    nanoseconds = pa.array([86_400_000_000_000 * day for day in (11, 12, 13)], pa.timestamp("ns"))
    people = pa.table({"name": ["Katoro", "Burgmann", "Tashi"], "valid_to": nanoseconds})
    path = folder / "in.parquet"
    pq.write_table(people, path, use_deprecated_int96_timestamps=True, compression="none",
                   use_dictionary=False, write_statistics=False)  # fmt: skip
    content = path.read_bytes()
    for day, other in ((11, 5_373_484), (12, 1_721_426)):  # of the Julian calendar: 9999, 1
        old, new = (struct.pack("<qI", 0, julian) for julian in (2_440_588 + day, other))
        assert content.count(old) == 1
        content = content.replace(old, new)
    path.write_bytes(content)


def interval(folder: Path) -> None:
    """Write a table with a column of the Parquet type INTERVAL, as DuckDB does."""
    import duckdb

    query = "select 'Katoro' as name, interval 40 days as iv"
    duckdb.sql(f"copy ({query}) to '{folder / 'in.parquet'}' (format parquet)")


def bytes_columns(folder: Path) -> None:
    """Write a table of every flat type that a CSV file has no way to write."""
    columns = {
        "uuid": pa.array([bytes(16), None], pa.uuid()),
        "binary": pa.array([b"\x00\xff", b"a"], pa.binary()),
        "json": pa.array(['{"a": 1}', None], pa.json_()),
        "fixed": pa.array([b"abcd", None], pa.binary(4)),
    }
    for kind, column in columns.items():
        pq.write_table(pa.table({"name": ["Katoro", "Burgmann"], kind: column}),
                       folder / f"{kind}.parquet")  # fmt: skip


def odd_file_name(folder: Path) -> None:
    """Write a table whose name is not UTF-8, as archives of other systems have it."""
    folder.mkdir(exist_ok=True)
    (folder / os.fsdecode(b"b\xff.csv")).write_bytes(b"id,name\n1,Katoro\n2,Burgmann\n")


def workbook() -> bytes:
    """Return what begins like an Excel workbook: a zip archive with these members."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>" * 20)
        archive.writestr("xl/workbook.xml", "<workbook/>" * 20)
    return content.getvalue()


def model(**changes: Any) -> Make:
    """Return a function that makes a version v0001 with other fields in its model.json, and right
    digests. A key with a dot names a field in a field."""

    def make(folder: Path) -> None:
        packaged = Path(version_module).parent / "pretrained" / PRETRAINED["pretrained-tiny"]
        target = folder / "outputs/models/v0001"
        shutil.copytree(packaged, target)
        document = json.loads((target / "model.json").read_bytes())
        for key, value in changes.items():
            *parents, last = key.split("__")
            place = document
            for parent in parents:
                place = place[parent]
            place[last] = value(place[last]) if callable(value) else value
        (target / "model.json").write_text(json.dumps(document))
        write_sums(target)

    return make


def foreign_run(name: str, manifest: str) -> Make:
    """Return a function that puts a folder called like a run, with a manifest, among the runs."""

    def make(folder: Path) -> None:
        for runs in ("outputs/predictions/in", "outputs/predictions/in/runs"):
            run = folder / runs / name
            run.mkdir(parents=True)
            (run / "manifest.json").write_text(manifest)

    return make
