"""Discovery: every file is read, named as not read, or refused; and columns in folders' names."""

import datetime
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from recording import Proof

from charrnn.errors import DataError, InputMissingError
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.discovery import Found, discover, discover_each
from charrnn.tables.kinds import path_text
from charrnn.tables.row_groups import cut, read_groups
from charrnn.tables.source import Source, fingerprint, inbox_name, open_source, source_name

READABLE = ("a.csv", "b.CSV", "c.tsv", "d.TSV.GZ", "e.csv.bz2", "f.Csv.Zst", "g.PARQUET", "h.pq")


def fill(folder: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"name\nKatoro{number}\n")


def names(found: Found) -> list[str]:
    return [file.name for file in found.files]


def opened(source: Path, tmp_path: Path) -> Source:
    return open_source(
        fingerprint(discover(str(source))), tmp_path / "staging", partition_rows=99, csv=CsvFormat()
    )


def rows(source: Source) -> pa.Table:
    return pa.concat_tables([read_groups(part.groups) for part in cut(source.tables, 99)])


def test_tables_are_found_by_suffixes_in_any_case(tmp_path: Path) -> None:
    fill(tmp_path, *READABLE)
    found = discover(str(tmp_path))
    assert sorted(names(found)) == sorted(READABLE)
    assert found.skipped.count == 0


def test_other_kinds_are_named_and_counted(tmp_path: Path) -> None:
    fill(tmp_path, "a.csv", "b.XLSX", "deep/c.json", "d.csv.xz", "README", "e.csv.part")
    skipped = discover(str(tmp_path)).skipped
    assert skipped.kinds == {
        "Excel": 1, "JSON": 1, "compressed": 1, "unfinished": 1, "unknown kind": 1,
    }  # fmt: skip
    line = str(skipped)
    assert line.startswith("5 files were not read: ")
    assert "b.XLSX (Excel)" in line
    fill(tmp_path, *(f"{'x' * 200}{i}.pdf" for i in range(500)))
    assert len(str(discover(str(tmp_path)).skipped)) < 500


@pytest.mark.parametrize("pattern", ["", "/*", "/**", "/**/*", "/**/*.csv", "/*/*.csv"])
def test_links_are_followed_once_and_loops_end(tmp_path: Path, pattern: str) -> None:
    data = tmp_path / "data"
    fill(data, "sub/a.csv", "real.csv/part.csv")
    fill(tmp_path, "far/b.csv")
    (data / "0link.csv").symlink_to("sub/a.csv")
    (data / "0more").symlink_to("../far")
    (data / "again").symlink_to(data)
    (data / "root").symlink_to("/")
    (data / "sub/up").symlink_to("..")
    found = discover(f"{data}{pattern}")
    expected = ["0more/b.csv", "real.csv/part.csv", "sub/a.csv"]
    assert names(found) == expected
    assert len({file.path.resolve() for file in found.files}) == 3


def test_what_is_no_file_is_named_and_never_opened(tmp_path: Path) -> None:
    fill(tmp_path, "a.csv")
    os.mkfifo(tmp_path / "fifo.csv")
    (tmp_path / "gone.csv").symlink_to("nowhere.csv")
    (tmp_path / "self.csv").symlink_to("self.csv")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "s.csv"))
        found = discover(str(tmp_path))
    assert names(found) == ["a.csv"]
    assert found.skipped.kinds == {"FIFO": 1, "broken link": 2, "socket": 1}
    with pytest.raises(DataError, match="is a FIFO"):
        discover(str(tmp_path / "fifo.csv"))
    with pytest.raises(InputMissingError, match="is a broken link"):
        discover(str(tmp_path / "gone.csv"))


def test_names_that_look_like_patterns_are_found(tmp_path: Path) -> None:
    odd = ("[1].csv", "*.csv", "a b.csv", "a\nb.csv", "x[1]/y.csv")
    fill(tmp_path, *odd)
    assert sorted(names(discover(str(tmp_path)))) == sorted(odd)
    assert names(discover(str(tmp_path / "x[1]/*.csv"))) == ["y.csv"]


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None, reason="becoming another user needs root"
)
@pytest.mark.parametrize("pattern", ["", "/*/*.csv", "/**/*.csv"])
def test_what_may_not_be_read_is_refused_by_name(
    tmp_path: Path, pattern: str, proof: Proof
) -> None:
    """A process that gives up its rights after the imports looks for the files."""
    data = tmp_path / "data"
    fill(data, "open/a.csv", "locked/b.csv")
    for folder in (data, *tmp_path.parents, tmp_path):
        if folder.stat().st_uid == 0 and folder.is_relative_to("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (data / "locked").chmod(0)
    code = (
        "import os, sys; from charrnn.errors import InputMissingError\n"
        "from charrnn.tables.source import fingerprint\n"
        "from charrnn.tables.discovery import discover, discover_each\n"
        "from pathlib import Path; from charrnn.runs.inbox import inbox_files\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(inbox_files(Path(sys.argv[1].split('/*')[0])))\n"
        "try: fingerprint(discover(sys.argv[1]))\n"
        "except InputMissingError as error: print(error)\n"
    )

    def looked(source: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code, source], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        return done.stdout

    said = looked(f"{data}{pattern}")
    assert f"{data}/locked cannot be read: Permission denied" in said
    assert f"PosixPath('{data}/locked'): []" in said  # an input of the inbox, that will fail
    assert f"PosixPath('{data}/open'): [('{data}/open/a.csv'" in said
    (data / "locked").chmod(0o755)
    (data / "locked/b.csv").chmod(0)
    assert f"{data}/locked/b.csv cannot be read" in looked(f"{data}{pattern}")
    proof("P2", "folders and files without permission below an input: refused by name", 2)


def test_entries_of_an_inbox_are_inputs_or_named(tmp_path: Path) -> None:
    fill(tmp_path, "a.CSV", "many/1.csv", "b.xlsx", "_hidden.csv", "year=2024/x.csv")
    (tmp_path / "link.csv").symlink_to("a.CSV")
    (tmp_path / "same").symlink_to("many")
    inputs, skipped = discover_each(tmp_path)
    assert [path.name for path in inputs] == ["a.CSV", "many", "year=2024"]
    assert skipped.kinds == {"Excel": 1, "duplicate": 2}


# --- columns in names of folders ----------------------------------------------------------------


def test_columns_of_folders_come_back_typed_over_all_files(tmp_path: Path) -> None:
    null = "__HIVE_DEFAULT_PARTITION__"
    fill(
        tmp_path / "data",
        "n=1/day=2024-02-29/city=S%C3%A8te/part.csv",
        f"n=-02/day={null}/city=7/part.csv",
    )
    source = opened(tmp_path / "data", tmp_path)
    assert source.schema.names == ["name", "n", "day", "city"]
    assert rows(source).drop(["name"]).to_pydict() == {
        "n": [-2, 1],
        "day": [None, datetime.date(2024, 2, 29)],
        "city": ["7", "Sète"],
    }
    assert source.schema.field("n").type == pa.int64()
    assert source.schema.field("day").type == pa.date32()
    assert source.folder_columns == ("n", "day", "city")


@pytest.mark.parametrize(
    "given", ["", "/*/*.csv", "/**/*.csv", "/c=FR", "/c=FR/*.csv", "/c=FR/p.csv"]
)
def test_a_column_is_kept_whatever_way_its_folder_is_given(tmp_path: Path, given: str) -> None:
    fill(tmp_path / "data", "c=FR/p.csv")
    assert rows(opened(Path(f"{tmp_path}/data{given}"), tmp_path))["c"].to_pylist() == ["FR"]


@pytest.mark.parametrize(
    ("column", "folder", "same"),
    [
        (pa.array(["FR", "FR"]), "FR", True),
        (pa.array(["FR", "PL"]), "FR", False),
        (pa.array(["FR", None]), "FR", False),
        (pa.array(["01", "01"]), "1", False),
        (pa.array([1, 1], pa.int8()), "01", True),
        (pa.array([1, 1], pa.int8()), "FR", False),
        (pa.array([None, None], pa.int8()), "__HIVE_DEFAULT_PARTITION__", True),
        (pa.array(["FR", "FR"]).dictionary_encode(), "FR", True),
    ],
)
def test_a_column_that_the_file_holds_must_have_the_folders_value(
    tmp_path: Path, column: pa.Array, folder: str, same: bool
) -> None:
    place = tmp_path / "data" / f"c={folder}"
    place.mkdir(parents=True)
    table = pa.table({"c": column, "name": ["Katoro", "Burgmann"]})
    pq.write_table(table, place / "part-0.parquet")
    if same:
        source = opened(tmp_path / "data", tmp_path)
        assert source.schema.names == ["c", "name"]
        assert source.folder_columns == ()
    else:
        with pytest.raises(DataError, match="differs from the value in the name of its folder"):
            opened(tmp_path / "data", tmp_path)


def test_folders_of_one_column_within_each_other_are_refused(tmp_path: Path) -> None:
    fill(tmp_path, "c=1/c=2/p.csv")
    with pytest.raises(DataError, match="rename one of them"):
        discover(str(tmp_path))


# --- names of destinations ----------------------------------------------------------------------


def test_files_of_an_inbox_have_destinations_of_their_own(tmp_path: Path, proof: Proof) -> None:
    long = "x" * 200
    files = (
        "people.csv", "people.CSV", "people.parquet", "people.csv.gz", "people.tsv", "people.pq",
        "People.csv", "M\u00fcller.csv", "Mu\u0308ller.csv", "M\u00f6ller.csv", "M_ller.csv",
        "名.csv", "氏.csv", "a b.csv", "a_b.csv", "a-b.csv", ".csv", "_.csv", "people.parquet.csv",
        "people~parquet.csv", "people~folder.csv", f"{long}1.csv", f"{long}2.csv", "latest.csv",
        "runs.csv", "input.csv", os.fsdecode(b"b\xff.csv"), os.fsdecode(b"b\xfe.csv"),
        r"b\xff.csv", "run=20260101T000000Z-12345678.csv",
    )  # fmt: skip
    fill(tmp_path, *files, "people/a.csv", "many.csv/a.csv", "many/a.csv")
    inputs = [tmp_path / name for name in (*files, "people", "many.csv", "many")]
    destinations = [inbox_name(path) for path in inputs]
    assert len(set(destinations)) == len(inputs)
    assert destinations[:3] == ["people", "people~CSV", "people~parquet"]
    assert all(d.isascii() and len(d) < 120 and d[0] not in "._" for d in destinations)
    assert not {"latest", "runs"} & set(destinations)
    proof("P9", "files of an inbox with names alike: a destination of its own each", len(inputs))


def test_paths_as_text_can_be_told_apart() -> None:
    odd = [os.fsdecode(b"b\xff"), r"b\xff", r"b\\xff", "b\u00ff", "b\udcc3"]
    texts = [path_text(name) for name in odd]
    assert len(set(texts)) == len(odd)
    assert all(text.encode() for text in texts)
    assert path_text("Größe [1].csv") == "Größe [1].csv"


def test_the_runs_of_a_table_have_a_plain_name() -> None:
    assert source_name("data/people.csv") == source_name("people.PARQUET") == "people"
