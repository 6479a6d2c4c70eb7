"""The ingest command: a folder or a zip becomes one table, once, and says what it found."""

import json
import shutil
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import CANARY, Command, commands_of, complaint

import flows.ingest
from charrnn.training.corpus import SCHEMA
from charrnn.training.label_files import content_digest, find_label_files
from flows.ingest import ingest

pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_of(flows.ingest.app, monkeypatch, capsys)


def zipped(folder: Path, archive: Path, inside: str) -> Path:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.iterdir()):
            file.write(path, f"{inside}{path.name}")
    return archive


def test_folder_becomes_one_row_per_line(command: Command, language_folder: Path) -> None:
    code, out, _ = command(language_folder)
    assert code == 0
    table = pq.read_table("data/names.parquet", page_checksum_verification=True)
    assert table.schema.equals(SCHEMA)
    lines = {p.stem: p.read_text().splitlines() for p in language_folder.iterdir()}
    expected = [(name, label) for label in sorted(lines) for name in lines[label]]
    found = list(zip(table["name"].to_pylist(), table["language"].to_pylist(), strict=True))
    assert found == expected
    assert "1,800 under 3 labels" in out
    assert "data/names.parquet\n" in out
    assert "(unchanged)" not in out


def test_second_time_the_table_is_left_as_it_is(command: Command, language_folder: Path) -> None:
    command(language_folder)
    status = Path("data/names.parquet").stat()
    code, out, _ = command(language_folder)
    assert code == 0
    assert "data/names.parquet (unchanged)" in out
    again = Path("data/names.parquet").stat()
    assert (again.st_ino, again.st_mtime_ns) == (status.st_ino, status.st_mtime_ns)


@pytest.mark.parametrize("inside", ["", "names/", "data/names/"])
def test_zip_gives_the_same_table_as_its_folder(
    command: Command, language_folder: Path, tmp_path: Path, inside: str
) -> None:
    command(language_folder)
    archive = zipped(language_folder, tmp_path / f"{language_folder.name}.zip", inside)
    code, out, _ = command(archive)
    assert code == 0
    assert "(unchanged)" in out
    command(archive, "--target", "other/mine.parquet")
    assert pq.read_table("other/mine.parquet").equals(pq.read_table("data/names.parquet"))


def test_changed_folder_replaces_the_table(
    command: Command, language_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(language_folder, folder)
    command(folder)
    with (folder / "Alpha.txt").open("a") as file:
        file.write("Rokata\n")
    _, out, _ = command(folder)
    assert "1,801 under 3 labels" in out
    assert "(unchanged)" not in out
    assert pq.read_table("data/names.parquet").num_rows == 1801


def test_damaged_table_is_replaced(command: Command, language_folder: Path) -> None:
    command(language_folder)
    whole = Path("data/names.parquet").read_bytes()
    Path("data/names.parquet").write_bytes(whole[:-20])
    _, out, _ = command(language_folder)
    assert "(unchanged)" not in out
    assert Path("data/names.parquet").read_bytes() == whole


def test_reports_count_but_hold_no_name(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "Alpha.txt").write_text(f"{CANARY}\n{CANARY}\n\nKatoro\n")
    (folder / "Beta.txt").write_text(f"{CANARY}\n12345\n")
    code, out, error = command(folder)
    assert code == 0
    report = json.loads(Path("data/names.report.json").read_text())
    assert (report["rows"], report["labels"], report["unique_pairs"]) == (6, 2, 3)
    assert (report["duplicate_rows"], report["ambiguous_names"]) == (1, 1)
    assert sum(report["dropped"].values()) == 2
    written = Path("data/names.report.json").read_text() + Path("data/names.report.md").read_text()
    assert CANARY not in (out + error + written)
    assert CANARY.lower() not in (out + error + written)
    assert "data/names.report.md" in out


def test_digest_that_is_expected_is_checked(command: Command, language_folder: Path) -> None:
    digest = content_digest(find_label_files(language_folder)[0])
    assert command(language_folder, "--digest", digest)[0] == 0
    code, _, error = command(language_folder, "--digest", "0" * 64, "--target", "other.parquet")
    assert digest in complaint(code, 65, error)
    assert not Path("other.parquet").exists()


def test_flow_returns_the_path_of_the_table(language_folder: Path) -> None:
    made = ingest(sources=(str(language_folder),), target=Path("here.parquet"))
    assert made == "here.parquet"


def test_missing_folder_exits_66(command: Command) -> None:
    code, _, error = command("nowhere")
    assert "nowhere does not exist" in complaint(code, 66, error)
    assert not Path("data").exists()


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        ({}, "holds no .txt files"),
        ({"Alpha.txt": b"Katoro\n"}, "has 1 language files"),
        ({"Alpha.csv": b"Katoro\n"}, "column 'name' not found"),
        ({"Alpha.txt": CANARY.encode() + b"\nM\xfcller\n", "Beta.txt": b"x\n"}, "Alpha.txt line 2"),
        ({"Alpha.txt": CANARY.encode() + b"\n\0\n", "Beta.txt": b"x\n"}, "Alpha.txt line 2"),
        ({"Alpha.txt": b"12\n", "Beta.txt": b"\n"}, "no usable name"),
        ({"Alpha.txt": b"x\n", "alpha.txt": b"y\n"}, "one label twice"),
    ],
    ids=["empty", "one label", "other files", "latin-1", "nul", "nothing usable", "case"],
)
def test_bad_folder_exits_65(
    command: Command, tmp_path: Path, files: dict[str, bytes], hint: str
) -> None:
    folder = tmp_path / "bad"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    code, _, error = command(folder)
    assert hint in complaint(code, 65, error)
    assert not Path("data/names.parquet").exists()


def test_bad_archive_exits_65(command: Command, language_folder: Path, tmp_path: Path) -> None:
    archive = zipped(language_folder, tmp_path / "names.zip", "")
    whole = archive.read_bytes()
    for content in (b"", b"not a zip", whole[: len(whole) // 2], b"x" * 5000):
        archive.write_bytes(content)
        code, _, error = command(archive)
        assert "names.zip" in complaint(code, 65, error)
    hostile = tmp_path / "hostile.zip"
    with zipfile.ZipFile(hostile, "w") as file:
        file.writestr("../escape.txt", "Katoro\n")
        file.writestr("Alpha.txt", "Katoro\n")
    code, _, error = command(hostile)
    assert "the archive is refused" in complaint(code, 65, error)
    assert not (tmp_path.parent / "escape.txt").exists()


def test_flipped_byte_in_an_archive_exits_65(
    command: Command, language_folder: Path, tmp_path: Path
) -> None:
    archive = zipped(language_folder, tmp_path / "names.zip", "")
    content = bytearray(archive.read_bytes())
    content[120] ^= 0x10
    archive.write_bytes(content)
    code, _, error = command(archive)
    assert "names.zip" in complaint(code, 65, error)


def test_target_that_cannot_be_written_exits_73(command: Command, language_folder: Path) -> None:
    Path("taken").write_text("a file")
    code, _, error = command(language_folder, "--target", "taken/names.parquet")
    complaint(code, 73, error)


def test_address_that_is_not_https_exits_64(command: Command) -> None:
    code, _, error = command("--url", "http://names.invalid/data.zip")
    assert "https" in complaint(code, 64, error)


def test_wrong_flag_exits_2(command: Command) -> None:
    code, _, error = command("--no-such-flag")
    assert code == 2
    assert "--help" in error
