"""An input may not move while it is read, also when it moves and comes back."""

import os
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from found import fingerprint_files

from charrnn.errors import DataError
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.row_groups import cut, read_groups
from charrnn.tables.source import Source, check_unchanged, open_source
from tests.recording import Proof


def write(path: Path, name: str) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"name": [name] * 10}), path, row_group_size=5)
    else:
        path.write_text("name,id\n" + f"{name},1\n" * 10)


def swap(path: Path) -> Callable[[], None]:
    other, kept = path.with_name("other"), path.with_name("kept")
    path.rename(kept)
    other.rename(path)
    return lambda: (path.rename(other), kept.rename(path))[0]


def swap_folders(path: Path) -> Callable[[], None]:
    here, away, other = path.parent, path.parent.with_name("away"), path.parent.with_name("second")
    here.rename(away)
    other.rename(here)
    return lambda: (here.rename(other), away.rename(here))[0]


def overwrite(path: Path) -> Callable[[], None]:
    status, content = path.stat(), path.read_bytes()
    path.write_bytes(path.with_name("other").read_bytes())

    def restore() -> None:
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    return restore


def opened(path: Path, tmp_path: Path) -> Source:
    files = fingerprint_files([path])
    return open_source(files, tmp_path / "staging", partition_rows=5, csv=CsvFormat())


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        for suffix in ("parquet", "csv"):
            write(tmp_path / folder / f"in.{suffix}", "Alpha" if folder == "first" else "Other")
    return tmp_path / "first"


@pytest.mark.parametrize("attack", [swap, swap_folders, overwrite])
def test_parquet_that_is_another_while_a_part_is_read_is_refused(
    attack: Callable[[Path], Callable[[], None]], folders: Path, proof: Proof
) -> None:
    path = folders / "in.parquet"
    source = opened(path, folders.parent)
    write(folders / "other.parquet", "Other")
    (folders / "other.parquet").rename(folders / "other")
    first, second = cut(source.tables, 5)
    assert read_groups(first.groups)["name"].to_pylist() == ["Alpha"] * 5
    come_back = attack(path)
    with pytest.raises(DataError, match="changed during the run"):
        read_groups(second.groups)
    come_back()
    assert read_groups(second.groups)["name"].to_pylist() == ["Alpha"] * 5  # the bytes are proven
    proof("P6", "inputs that are another while a part is read, and come back", 1)


@pytest.mark.parametrize("attack", [swap, swap_folders, overwrite])
def test_csv_that_is_another_while_it_is_staged_is_refused(
    attack: Callable[[Path], Callable[[], None]], folders: Path, proof: Proof
) -> None:
    path = folders / "in.csv"
    files = fingerprint_files([path])
    write(folders / "other.csv", "Other")
    (folders / "other.csv").rename(folders / "other")
    come_back = attack(path)
    with pytest.raises(DataError, match="changed during the run"):
        open_source(files, folders / "staging", partition_rows=5, csv=CsvFormat())
    come_back()
    proof("P6", "inputs that are another while a part is read, and come back", 1)


def test_other_times_of_the_same_bytes_are_the_same_file(folders: Path) -> None:
    path = folders / "in.parquet"
    source = opened(path, folders.parent)
    path.chmod(0o600)
    for partition in cut(source.tables, 5):
        assert read_groups(partition.groups).num_rows == 5
    check_unchanged(source.files)


def test_no_descriptor_stays_open(folders: Path) -> None:
    source = opened(folders / "in.parquet", folders.parent)
    before = len(os.listdir("/dev/fd"))  # noqa: PTH208
    for partition in cut(source.tables, 5):
        read_groups(partition.groups)
    assert len(os.listdir("/dev/fd")) == before  # noqa: PTH208
