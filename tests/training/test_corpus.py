"""Language files, archives of them, the table and its splits."""

import codecs
import errno
import io
import json
import os
import random
import stat
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from real_data import real_names
from recording import Proof

from charrnn.errors import DataError, InputMissingError, OutputError, StorageError
from charrnn.model.normalise import normalise
from charrnn.training import archive
from charrnn.training.corpus import (
    SCHEMA,
    Corpus,
    build_table,
    load_corpus,
    with_metadata,
    write_parts,
    write_table,
)
from charrnn.training.corpus_report import corpus_report, report_markdown
from charrnn.training.label_files import (
    TUTORIAL,
    TUTORIAL_DIGEST,
    LabelFile,
    check_digest,
    content_digest,
    find_label_files,
)
from charrnn.training.name_keys import FOLDS, key_hashes
from charrnn.training.splits import honest_split, seed_split

HOSTILE_ARCHIVES = "hostile archives: refused whole, no file written, caps hold"
GREEK, CZECH = "Nikos\nÉleni\n".encode(), "Novák\nDvořák\n".encode()
GOOD = [("data/names/Greek.txt", GREEK), ("data/names/Czech.txt", CZECH)]
FOLD_GOLDEN = {
    "katoro": 0,
    "burgmann": 8,
    "o'neill": 4,
    "dvorak": 5,
    "lee": 7,
    "катя": 4,
    "van der berg": 3,
}
Members = list[tuple[str | zipfile.ZipInfo, bytes]]


def zip_bytes(members: Members, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def with_mode(name: str, mode: int, content: bytes = b"Greek.txt") -> tuple[zipfile.ZipInfo, bytes]:
    """Return a member with a Unix file type."""
    member = zipfile.ZipInfo(name)
    member.create_system = 3
    member.external_attr = (mode | 0o644) << 16
    return member, content


def patched(data: bytes, old: bytes, new: bytes) -> bytes:
    assert old in data
    assert len(old) == len(new)
    return data.replace(old, new)


def flagged(bit: int) -> bytes:
    """A good archive whose members have a general-purpose flag set, in both of their headers."""
    data = bytearray(zip_bytes(GOOD))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + offset] |= bit
            at = data.find(signature, at + 1)
    return bytes(data)


def damaged(method: int) -> bytes:
    """An archive with a member whose compressed bytes are nonsense."""
    content = "".join(random.Random(0).choices("abcdefgh\n", k=4000)).encode()
    data = bytearray(zip_bytes([GOOD[0], ("data/names/Czech.txt", content)], method))
    start = data.rfind(b"Czech.txt", 0, data.find(b"PK\x01\x02")) + len("Czech.txt")
    data[start + 40 : start + 240] = b"\xff" * 200
    return bytes(data)


def add(name: str, content: bytes = b"Zorba\n") -> Callable[[], bytes]:
    return lambda: zip_bytes([*GOOD, (name, content)])


def in_utf16() -> bytes:
    return zip_bytes([GOOD[0], ("data/names/Czech.txt", "Novak\n".encode("utf-16-le"))])


# name → (the archive's bytes, what the message must say)
HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "parent folder": (add("../Evil.txt"), "leaves the archive"),
    "parent folder inside": (add("data/names/../../../Evil.txt"), "leaves the archive"),
    "parent folder, not text": (add("../../root/.profile"), "leaves the archive"),
    "absolute": (add("/etc/cron.d/Evil.txt"), "leaves the archive"),
    "absolute, two slashes": (add("//host/Evil.txt"), "leaves the archive"),
    "backslash": (add("data\\names\\Evil.txt"), "backslash"),
    "backslash parent": (add("..\\Evil.txt"), "backslash"),
    "drive": (add("C:Evil.txt"), "colon"),
    "drive and slash": (add("C:/Evil.txt"), "colon"),
    "stream": (add("data/names/Evil.txt:stream"), "colon"),
    "control character": (add("data/names/Ev\x01il.txt"), "control character"),
    "escape sequence": (add("data/names/\x1b[2JEvil.txt"), "control character"),
    "line feed": (add("data/names/Ev\nil.txt"), "control character"),
    "delete character": (add("data/names/Ev\x7fil.txt"), "control character"),
    "NUL in a name": (
        lambda: patched(add("data/names/Evil.txt~.sh")(), b"Evil.txt~", b"Evil.txt\0"),
        "control character",
    ),
    "symbolic link": (
        lambda: zip_bytes([*GOOD, with_mode("data/names/Evil.txt", stat.S_IFLNK)]),
        "not a regular file",
    ),
    "character device": (
        lambda: zip_bytes([*GOOD, with_mode("data/names/Evil.txt", stat.S_IFCHR)]),
        "not a regular file",
    ),
    "block device": (
        lambda: zip_bytes([*GOOD, with_mode("data/names/Evil.txt", stat.S_IFBLK)]),
        "not a regular file",
    ),
    "pipe": (
        lambda: zip_bytes([*GOOD, with_mode("data/names/Evil.txt", stat.S_IFIFO)]),
        "not a regular file",
    ),
    "socket": (
        lambda: zip_bytes([*GOOD, with_mode("data/names/Evil.txt", stat.S_IFSOCK)]),
        "not a regular file",
    ),
    "case-fold clash": (add("data/names/GREEK.TXT"), "appears twice"),
    "case-fold clash of labels": (add("data/names/GREEK.txt"), "appears twice"),
    "case-fold clash of ß": (
        lambda: zip_bytes([*GOOD, ("names/Großen.txt", b"a"), ("names/GROSSEN.txt", b"b")]),
        "appears twice",
    ),
    "one label twice": (add("data/names/Greek .txt"), "one label twice"),
    "one path twice": (add("data/./names/Greek.txt"), "one label twice"),
    "blank label": (add("data/names/ .txt"), "label"),
    "encrypted": (lambda: flagged(0x01), "encrypted"),
    "strongly encrypted": (lambda: flagged(0x40), "not a readable zip"),
    "patch data": (lambda: flagged(0x20), "not a readable zip"),
    "ratio bomb": (add("data/names/Evil.txt", b"a" * 5_000_000), "ratio above 200:1"),
    "ratio bomb, not text": (add("Evil.bin", b"\0" * 5_000_000), "ratio above 200:1"),
    "truncated": (lambda: zip_bytes(GOOD)[:-30], "not a readable zip"),
    "half": (lambda: zip_bytes(GOOD)[: len(zip_bytes(GOOD)) // 2], "not a readable zip"),
    "beginning lost": (lambda: zip_bytes(GOOD)[40:], "not a readable zip"),
    "content changed": (
        lambda: patched(zip_bytes(GOOD, zipfile.ZIP_STORED), b"Nikos", b"Mikos"),
        "not a readable zip",
    ),
    "name differs in the directory": (
        lambda: zip_bytes(GOOD)[::-1].replace(b"Greek.txt"[::-1], b"Grees.txt"[::-1], 1)[::-1],
        "not a readable zip",
    ),
    "size understated": (
        lambda: patched(
            zip_bytes(GOOD, zipfile.ZIP_STORED),
            len(GREEK).to_bytes(4, "little") * 2,
            (len(GREEK) - 6).to_bytes(4, "little") * 2,
        ),
        "not a readable zip",
    ),
    "deflate stream damaged": (lambda: damaged(zipfile.ZIP_DEFLATED), "not a readable zip"),
    "bzip2": (lambda: zip_bytes(GOOD, zipfile.ZIP_BZIP2), "by another method than deflate"),
    "lzma": (lambda: zip_bytes(GOOD, zipfile.ZIP_LZMA), "by another method than deflate"),
    "not a zip": (lambda: b"These are not the names you are looking for.", "not a readable zip"),
    "page instead of a zip": (lambda: b"<!DOCTYPE html><p>404</p>", "not a readable zip"),
    "no bytes": (lambda: b"", "not a readable zip"),
    "no members": (lambda: zip_bytes([]), "no .txt files"),
    "folders only": (lambda: zip_bytes([("data/", b""), ("data/names/", b"")]), "no .txt files"),
    "nested zip only": (lambda: zip_bytes([("names.zip", zip_bytes(GOOD))]), "no .txt files"),
    "hidden only": (lambda: zip_bytes([("__MACOSX/._Greek.txt", b"x")]), "no .txt files"),
    "two names folders": (add("old/names/Irish.txt"), "several folders are called names"),
    "one language": (lambda: zip_bytes(GOOD[:1]), "1 language files"),
    "NUL bytes in a file": (add("data/names/Irish.txt", b"Ana\nBo\0\n"), "line 2 holds a NUL"),
    "UTF-16": (in_utf16, "iconv -f UTF-16LE"),
    "latin-1": (add("data/names/Irish.txt", "Ana\nRenée\n".encode("latin-1")), "line 2 is not"),
    "no usable name": (lambda: zip_bytes([("a.txt", b"\n\n"), ("b.txt", b"1\n2\n")]), "no usable"),
    "no names at all": (lambda: zip_bytes([("a.txt", b""), ("b.txt", b"")]), "no usable"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_archive_is_refused(case: str, tmp_path: Path, proof: Proof) -> None:
    make, message = HOSTILE[case]
    source = tmp_path / "inside" / "names.zip"
    source.parent.mkdir()
    source.write_bytes(make())
    with pytest.raises(DataError, match=message):
        build_table(find_label_files(source)[0])
    assert list(tmp_path.rglob("*")) == [source.parent, source]
    proof("P11", HOSTILE_ARCHIVES, 1)


def test_duplicate_member_is_refused(tmp_path: Path, proof: Proof) -> None:
    with pytest.warns(UserWarning, match="Duplicate name"):
        (tmp_path / "names.zip").write_bytes(zip_bytes([*GOOD, GOOD[0]]))
    with pytest.raises(DataError, match=r"'data/names/Greek\.txt' appears twice"):
        find_label_files(tmp_path / "names.zip")[0]
    proof("P11", HOSTILE_ARCHIVES, 1)


def test_archive_with_too_many_members_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    (tmp_path / "names.zip").write_bytes(zip_bytes([*GOOD, ("README", b"")]))
    monkeypatch.setattr(archive, "MAX_ARCHIVE_MEMBERS", 3)
    assert len(find_label_files(tmp_path / "names.zip")[0]) == 2
    monkeypatch.setattr(archive, "MAX_ARCHIVE_MEMBERS", 2)
    with pytest.raises(DataError, match="3 members; at most 2"):
        find_label_files(tmp_path / "names.zip")[0]
    proof("P11", HOSTILE_ARCHIVES, 1)


def test_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    (tmp_path / "names.zip").write_bytes(zip_bytes([*GOOD, ("other.bin", b"0" * 5000)]))
    monkeypatch.setattr(archive, "MAX_ARCHIVE_BYTES", 5000)
    with pytest.raises(DataError, match="at most 5,000 are read"):
        find_label_files(tmp_path / "names.zip")[0]
    proof("P11", HOSTILE_ARCHIVES, 1)


def test_archive_that_lies_about_a_size_takes_no_more_memory_than_it_says(
    tmp_path: Path, proof: Proof
) -> None:
    size = 100 * 2**20
    honest = zip_bytes([*GOOD, ("data/names/Evil.txt", b"a" * size)])
    lying = honest.replace(size.to_bytes(4, "little"), (1000).to_bytes(4, "little"))
    assert len(lying) < 2**20
    (tmp_path / "names.zip").write_bytes(lying)
    tracemalloc.start()
    with pytest.raises(DataError, match="not a readable zip"):
        find_label_files(tmp_path / "names.zip")[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * 2**20
    proof("P11", HOSTILE_ARCHIVES, 1)


def test_archive_with_a_changed_byte_is_refused_or_reads_the_same(
    tmp_path: Path, proof: Proof
) -> None:
    whole = zip_bytes([(f"names/{c}{c}.txt", c.encode() * 40 + b"\n") for c in "abc"])
    source = tmp_path / "names.zip"
    contents = {f"{c}{c}": c.encode() * 40 + b"\n" for c in "abc"}
    draw = random.Random(1)
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        source.write_bytes(data)
        try:
            files = find_label_files(source)[0]
        except DataError:
            refused += 1
        else:
            assert all(file.content == contents[file.label] for file in files)
    assert refused > 150
    proof("P11", "flipped bits of an archive: refused, or the same files", 400)


def test_nothing_at_the_source_is_missing_input(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="does not exist"):
        find_label_files(tmp_path / "nowhere")[0]


def test_folder_without_language_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.md").write_text("nothing")
    with pytest.raises(DataError, match=r"no \.txt files"):
        find_label_files(tmp_path)[0]


def zip_of_folder(folder: Path, target: Path, inside: str, *more: tuple[str, bytes]) -> Path:
    members = [(f"{inside}{p.name}", p.read_bytes()) for p in sorted(folder.iterdir())]
    target.write_bytes(zip_bytes([*more, *members]))
    return target


@pytest.mark.parametrize(
    ("inside", "more"),
    [
        ("", ()),
        ("names/", ()),
        ("data/names/", ()),
        (
            "data/names/",
            (("data/", b""), ("data/names/", b""), ("data/eng-fra.txt", b"Go.\tVa.\n")),
        ),
        ("data/names/", (("__MACOSX/data/names/._Alpha.txt", b"\0\5\x16\7"),)),
        ("names-main/", (("names-main/README.md", b"# Names"),)),
    ],
    ids=["flat", "names", "tutorial", "tutorial whole", "from a Mac", "other folder"],
)
def test_folder_and_archive_give_the_same_digest_and_table(
    inside: str, more: tuple[tuple[str, bytes], ...], language_folder: Path, tmp_path: Path
) -> None:
    archive = zip_of_folder(language_folder, tmp_path / "names.zip", inside, *more)
    expected, found = find_label_files(language_folder)[0], find_label_files(archive)[0]
    assert found == expected
    assert content_digest(found) == content_digest(expected)
    assert build_table(found).equals(build_table(expected), check_metadata=True)


@pytest.mark.parametrize("inside", ["", "names", "data/names"])
def test_folder_may_have_the_tutorials_layout(
    inside: str, language_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / inside).mkdir(parents=True, exist_ok=True)
    for path in language_folder.iterdir():
        (tmp_path / inside / path.name).write_bytes(path.read_bytes())
    (tmp_path / inside / "._Alpha.txt").write_bytes(b"\0\5\x16\7")
    assert find_label_files(tmp_path)[0] == find_label_files(language_folder)[0]


@pytest.mark.parametrize("inside", ["names", "data/names"])
def test_text_beside_the_names_folder_is_no_language_in_folder_or_archive(
    inside: str, language_folder: Path, tmp_path: Path
) -> None:
    expected = find_label_files(language_folder)[0]
    readme = ("README.txt", b"not a language\n")
    archive = zip_of_folder(language_folder, tmp_path / "names.zip", f"{inside}/", readme)
    assert find_label_files(archive)[0] == expected
    folder = tmp_path / "folder"
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    assert find_label_files(folder)[0] == expected


def test_table_has_one_row_per_line(language_folder: Path) -> None:
    table = build_table(find_label_files(language_folder)[0])
    assert table.num_rows == 1800
    assert table.schema.equals(SCHEMA)
    assert table["line"].to_pylist() == [*range(1, 601)] * 3
    assert sorted(set(table["language"].to_pylist())) == ["Alpha", "Beta", "Gamma"]
    folds = table["fold"].to_pylist()
    assert set(folds) == set(range(FOLDS))


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (b"Ana\nBo\n", ["Ana", "Bo"]),
        (b"Ana\nBo", ["Ana", "Bo"]),
        (b"Ana\r\nBo\r\n", ["Ana", "Bo"]),
        (b"\xef\xbb\xbfAna\nBo\n", ["Ana", "Bo"]),
        (b"Ana\n\nBo\n\n", ["Ana", "", "Bo", ""]),
        (b"\n", [""]),
        (b"", []),
        (b"Ana\rBo\r", ["Ana", "Bo"]),
        (b"Ana\rBo\nCy\r\nDi", ["Ana", "Bo", "Cy", "Di"]),
        ("Ana\nBé\n".encode("utf-16"), ["Ana", "Bé"]),
        ("Ana\nBé\n".encode("utf-32"), ["Ana", "Bé"]),
        (codecs.BOM_UTF16_BE + "Ana\r\n".encode("utf-16-be"), ["Ana"]),
    ],
    ids=[
        "plain",
        "no final newline",
        "CRLF",
        "BOM",
        "blank lines",
        "newline",
        "empty",
        "CR",
        "mixed",
        "UTF-16",
        "UTF-32",
        "UTF-16-BE",
    ],
)
def test_lines_end_at_lf_crlf_or_cr(content: bytes, names: list[str]) -> None:
    table = build_table([LabelFile("A", "A.txt", content), LabelFile("B", "B.txt", b"Zed\n")])
    assert table["name"].to_pylist() == [*names, "Zed"]


def test_a_file_that_is_not_utf8_is_named_with_its_line() -> None:
    content = "Ana\nBo\nJosé\n".encode("latin-1")
    with pytest.raises(DataError, match=r"^Spanish\.txt line 3 is not UTF-8") as caught:
        build_table([LabelFile("Spanish", "Spanish.txt", content)])
    assert "Jos" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "empty"),
        (" \u200b", "empty"),
        ("To The First Page", "page_furniture"),
        ("Smith1", "stray_character"),
        ("a/b", "stray_character"),
        ("@", "stray_character"),
        ("-", "stray_character"),
        ("O'Neill", None),
        ("Van der Berg", None),
        ("Saint-Exupéry, de", None),
        ("'t Hooft", None),
        ("Катя", None),
    ],
)
def test_junk_is_kept_without_a_fold_and_with_a_reason(name: str, reason: str | None) -> None:
    files = [LabelFile("A", "A.txt", f"{name}\n".encode()), LabelFile("B", "B.txt", b"Zed\n")]
    row = build_table(files).to_pylist()[0]
    assert row["name"] == name
    assert row["dropped"] == reason
    assert (row["fold"] is None) == (reason is not None)


def folds_of(keys: Iterable[str]) -> list[int]:
    return (key_hashes(pa.array(keys, pa.large_string())) % FOLDS).tolist()


def test_folds_do_not_move_between_releases() -> None:
    assert dict(zip(FOLD_GOLDEN, folds_of(FOLD_GOLDEN), strict=True)) == FOLD_GOLDEN


def test_spellings_of_one_name_share_a_fold() -> None:
    for spellings in (
        ("Dvořák", "dvorak", "DVOŘÁK"),
        ("O’Neill", "o'neill"),
        ("Strauß", "STRAUSS"),
    ):
        assert len(set(folds_of(map(normalise, spellings)))) == 1


def test_folds_are_of_similar_size() -> None:
    counts = np.bincount(folds_of(f"name{i}" for i in range(5000)), minlength=FOLDS)
    assert counts.min() > 400
    assert counts.max() < 600


def test_no_name_is_on_two_sides_of_the_honest_split(corpus: Corpus) -> None:
    split = honest_split(corpus)
    parts = (split.train, split.validation, split.test)
    sides = [{normalise(name) for name in part.names.to_pylist()} for part in parts]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    pairs = [
        (normalise(name), int(label))
        for part in parts
        for name, label in zip(part.names.to_pylist(), part.label_ids, strict=True)
    ]
    usable = corpus.folds >= 0
    everything = zip(corpus.normalised.to_pylist(), corpus.label_ids.tolist(), usable, strict=True)
    assert len(pairs) == len(set(pairs))
    assert set(pairs) == {(name, label) for name, label, usable in everything if usable}


def test_an_ambiguous_name_keeps_all_its_labels_on_one_side(tmp_path: Path) -> None:
    files = [LabelFile(label, f"{label}.txt", "Lee\nLeé\nLEE\n7\n".encode()) for label in "ABC"]
    write_table(build_table(files), tmp_path / "names.parquet")
    split = honest_split(load_corpus(tmp_path / "names.parquet"))
    sizes = sorted(len(part.names) for part in (split.train, split.validation, split.test))
    assert sizes == [0, 0, 3]


@pytest.mark.parametrize("seed", [0, 1])
def test_seed_split_takes_a_fifth_of_all_rows_for_testing(corpus: Corpus, seed: int) -> None:
    split = seed_split(corpus, seed)
    assert (len(split.train.names), len(split.validation.names), len(split.test.names)) == (
        1440, 0, 360,
    )  # fmt: skip
    assert sorted([*split.train.names.to_pylist(), *split.test.names.to_pylist()]) == sorted(
        corpus.names.to_pylist()
    )
    assert split.train.names == seed_split(corpus, seed).train.names
    assert split.train.names != seed_split(corpus, seed + 1).train.names
    by_name = dict(zip(corpus.names.to_pylist(), corpus.label_ids.tolist(), strict=True))
    assert {by_name[name] for name in split.test.names.to_pylist()} == {0, 1, 2}


def test_written_table_is_read_back(language_folder: Path, corpus: Corpus) -> None:
    table = build_table(find_label_files(language_folder)[0])
    assert corpus.names.to_pylist() == table["name"].to_pylist()
    assert corpus.normalised.to_pylist() == table["name_normalised"].to_pylist()
    assert [corpus.labels[i] for i in corpus.label_ids] == table["language"].to_pylist()
    assert corpus.labels == ("Alpha", "Beta", "Gamma")
    assert corpus.digest == content_digest(find_label_files(language_folder)[0])
    assert (corpus.folds.dtype, corpus.label_ids.dtype) == (np.int8, np.int32)


def test_writing_the_same_table_again_writes_nothing(language_folder: Path, tmp_path: Path) -> None:
    table = build_table(find_label_files(language_folder)[0])
    path = tmp_path / "data" / "names.parquet"
    assert write_table(table, path)
    before = (path.stat().st_ino, path.stat().st_mtime_ns)
    assert not write_table(table, path)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == before
    fewer = build_table(find_label_files(language_folder)[0][1:])
    assert write_table(fewer, path)
    assert pq.read_table(path).num_rows == fewer.num_rows < table.num_rows


def test_an_unreadable_table_is_replaced(language_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "names.parquet"
    path.write_bytes(b"PAR1 no longer")
    assert write_table(build_table(find_label_files(language_folder)[0]), path)
    assert load_corpus(path).labels == ("Alpha", "Beta", "Gamma")


def test_a_failing_write_leaves_the_old_table(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = build_table(find_label_files(language_folder)[0])
    path = tmp_path / "names.parquet"
    write_table(table, path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        write_table(build_table(find_label_files(language_folder)[0][1:]), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_cannot_be_written_over_a_folder(language_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "names.parquet").mkdir()
    with pytest.raises(OutputError, match="cannot write"):
        write_table(build_table(find_label_files(language_folder)[0]), tmp_path / "names.parquet")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"name,language\nAna,Greek\n"])
def test_a_file_that_is_no_table_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "names.parquet").write_bytes(content)
    with pytest.raises(DataError, match="not a readable Parquet file"):
        load_corpus(tmp_path / "names.parquet")


def test_a_table_with_a_changed_page_is_refused(corpus_path: Path, tmp_path: Path) -> None:
    data = bytearray(corpus_path.read_bytes())
    data[200] ^= 0x10
    (tmp_path / "names.parquet").write_bytes(data)
    with pytest.raises(DataError, match="run ingest again"):
        load_corpus(tmp_path / "names.parquet")


def test_a_table_of_something_else_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"name": ["a"]}), tmp_path / "names.parquet")
    with pytest.raises(DataError, match="has columns name; a corpus table has name, name_norm"):
        load_corpus(tmp_path / "names.parquet")


def test_a_missing_table_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="run ingest first"):
        load_corpus(tmp_path / "names.parquet")


def test_digest_depends_on_labels_and_contents_only() -> None:
    first, second = LabelFile("A", "A.txt", b"x\n"), LabelFile("B", "B.txt", b"y\n")
    digest = content_digest([first, second])
    assert content_digest([second, first]) == digest
    assert content_digest([LabelFile("A", "else.txt", b"x\n"), second]) == digest
    assert content_digest([LabelFile("C", "A.txt", b"x\n"), second]) != digest
    assert content_digest([LabelFile("A", "A.txt", b"x"), second]) != digest


def test_another_digest_than_the_expected_one_is_refused() -> None:
    files = [LabelFile("A", "A.txt", b"x\n")]
    check_digest(files, content_digest(files))
    check_digest(files, "")
    with pytest.raises(DataError, match=f"content digest {content_digest(files)}, expected"):
        check_digest(files, TUTORIAL_DIGEST)


def report_files() -> list[LabelFile]:
    first = "Canaryana\nCanaryàna\nCanary7\nCanarŷ\n\nCanaryshared\nCanary|µ\n"
    return [
        LabelFile("Greek", "Greek.txt", first.encode()),
        LabelFile("Irish", "Irish.txt", b"Canaryshared\nO'Canary\n"),
    ]


def test_report_counts_what_is_in_the_table() -> None:
    report = corpus_report(build_table(report_files()))
    expected = {
        "rows": 9,
        "labels": 2,
        "unique_pairs": 5,
        "duplicate_rows": 1,
        "ambiguous_names": 1,
        "ambiguous_rows": 2,
        "dropped": {"empty": 1, "stray_character": 2},
        "non_ascii_rows": 3,
        "unusual_characters": {"7": 1, "|": 1},
        "longest": 12,
        "outliers": 0,
        "overlaps": [{"one": "Greek", "other": "Irish", "names": 1, "share": 0.5}],
        "per_label": {
            "Greek": {
                "rows": 7,
                "unique": 3,
                "surnames": 3,
                "given_names": 0,
                "scripts": {"Latin": 6, "Other": 1},
            },
            "Irish": {
                "rows": 2,
                "unique": 2,
                "surnames": 2,
                "given_names": 0,
                "scripts": {"Latin": 2},
            },
        },
    }
    document = asdict(report)
    assert {key: document[key] for key in expected} == expected
    assert report.largest_label_share == pytest.approx(7 / 9)
    shares = np.array([7 / 9, 2 / 9])
    assert report.label_entropy_nats == pytest.approx(-(shares * np.log(shares)).sum())


def test_reports_hold_no_name() -> None:
    report = corpus_report(build_table(report_files()))
    page = report_markdown(report, "Names")
    assert page.startswith("# Names\n")
    assert "canar" not in normalise(page)
    assert "canar" not in normalise(json.dumps(asdict(report), ensure_ascii=False))


def test_report_page_stays_a_table_whatever_the_characters() -> None:
    report = corpus_report(build_table(report_files()))
    page = report_markdown(report, "Names")
    first = page.split("\n\n")[1].splitlines()
    assert len(first) > 8
    assert {row.replace("\\|", "").count("|") for row in first} == {3}


@pytest.fixture(scope="module")
def real_files() -> list[LabelFile]:
    folder = real_names()
    if folder is None:
        pytest.skip("the real names are not on this machine; set CHARRNN_NAMES to their folder")
    return find_label_files(folder)[0]


@pytest.mark.corpus
def test_the_tutorials_data_set_is_the_known_one(real_files: list[LabelFile]) -> None:
    assert content_digest(real_files) == TUTORIAL_DIGEST
    assert len(real_files) == 18
    check_digest(real_files, TUTORIAL_DIGEST)


@pytest.mark.corpus
def test_the_tutorials_table_has_a_row_for_every_line(real_files: list[LabelFile]) -> None:
    table = build_table(real_files)
    assert table.num_rows == 20_074
    assert len(set(table["language"].to_pylist())) == 18
    report = corpus_report(table)
    assert report.unique_pairs + report.duplicate_rows + sum(report.dropped.values()) == 20_074


@pytest.mark.corpus
def test_the_tutorials_honest_split_shares_no_name(
    real_files: list[LabelFile], tmp_path: Path
) -> None:
    write_table(build_table(real_files), tmp_path / "names.parquet")
    corpus = load_corpus(tmp_path / "names.parquet")
    split = honest_split(corpus)
    sides = [
        {normalise(name) for name in part.names.to_pylist()}
        for part in (split.train, split.validation, split.test)
    ]
    assert not (sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2])
    assert len(corpus.labels) == 18
    assert 0.09 < len(split.test.names) / sum(map(len, sides)) < 0.11
    assert len(seed_split(corpus, 0).test.names) == 4014


DISCOVERED = "kinds of language files, folders and labels: read, or named and counted"


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_language_files_of_any_case_and_in_subfolders_are_read_and_others_named(
    tmp_path: Path, proof: Proof
) -> None:
    files = {
        "Greek.txt": b"Zorba\n", "Polish.TXT": b"Nowak\n", "more/Irish.Txt": b"Byrne\n",
        "notes.csv": b"x", "more/eng.md": b"x", ".hidden.txt": b"x", "_draft/Dutch.txt": b"x",
    }  # fmt: skip
    folder = write_files(tmp_path / "in", files)
    archive = tmp_path / "in.zip"
    archive.write_bytes(zip_bytes(list(files.items())))
    for source in (folder, archive):
        found, left_out = find_label_files(source)
        assert [file.label for file in found] == ["Greek", "Irish", "Polish"]
        assert left_out == ["more/eng.md", "notes.csv"]
    proof("P1", DISCOVERED, 2 * len(files))


def test_linked_folders_are_read_once_and_a_fifo_is_named(tmp_path: Path, proof: Proof) -> None:
    folder = write_files(tmp_path / "in", {"Greek.txt": b"Zorba\n"})
    other = write_files(tmp_path / "other", {"Polish.txt": b"Nowak\n"})
    (folder / "linked").symlink_to(other)
    (folder / "loop").symlink_to(folder)
    assert [file.label for file in find_label_files(folder)[0]] == ["Greek", "Polish"]
    os.mkfifo(folder / "Irish.txt")
    with pytest.raises(DataError, match=r"Irish\.txt cannot be read: not a regular file"):
        find_label_files(folder)[0]
    proof("P1", DISCOVERED, 3)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["Fran\u00e7ais.txt", "Franc\u0327ais.txt"], "one label twice"),
        (["Greek.txt", "greek.TXT"], "one label twice"),
        (["a/Greek.txt", "b/Greek.txt"], "one label twice"),
        (["a|b.txt", "c.txt"], "separates the labels of a set"),
        (["a\nb.txt", "c.txt"], "not visible"), (["a\tb.txt", "c.txt"], "not visible"),
        (["a\x1b[1m.txt", "c.txt"], "not visible"), ([" .txt", "c.txt"], "is empty"),
        (["a\u200bb.txt", "c.txt"], "not visible"), ([b"\xff.txt", "c.txt"], "not visible"),
        (["x" * 101 + ".txt", "c.txt"], "at most 100"),
    ],
)  # fmt: skip
def test_a_file_name_that_is_no_label_is_refused(
    names: list[str | bytes], message: str, tmp_path: Path, proof: Proof
) -> None:
    write_files(tmp_path, {os.fsdecode(name): b"Zorba\n" for name in names})
    with pytest.raises(DataError, match=message):
        find_label_files(tmp_path)[0]
    proof("P1", DISCOVERED, 1)


@pytest.mark.parametrize("end", "\v\f\x1c\x1d\x1e\x85\u2028\u2029")
def test_a_line_end_that_is_not_read_is_refused(end: str, proof: Proof) -> None:
    content = f"Ana{end}Bo\n".encode()
    with pytest.raises(DataError, match=rf"line 1 holds U\+{ord(end):04X}") as caught:
        build_table([LabelFile("A", "A.txt", content)])
    assert "Ana" not in str(caught.value)
    proof("P1", DISCOVERED, 1)


def test_names_in_one_long_line_are_refused_or_dropped() -> None:
    with pytest.raises(DataError, match="line 1 has 20,000 characters"):
        build_table([LabelFile("A", "A.txt", b"a" * 20_000)])
    table = build_table([LabelFile("A", "A.txt", b"a" * 300), LabelFile("B", "B.txt", b"Zed\n")])
    assert table["dropped"].to_pylist() == ["too_long", None]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"name,language\nAna,Greek\n", "not a zip archive; expected a folder"),
        ("x.parquet", b"PAR1", "not a zip archive"), ("x.zip", b"no", "download it again"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_archive_says_what_is_expected(
    name: str, content: bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        find_label_files(tmp_path / name)[0]
    assert "Ana" not in str(caught.value)


def test_a_crafted_training_table_is_refused(
    corpus_path: Path, tmp_path: Path, proof: Proof
) -> None:
    path = tmp_path / "names.parquet"
    with pytest.raises(DataError, match="no corpus"):
        load_corpus(tmp_path)
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a file"):
        load_corpus(path)
    path.unlink()
    table = pq.read_table(corpus_path)
    for digest in (b"\xff", b"x", b""):
        crafted = table.replace_schema_metadata(
            {**table.schema.metadata, b"charrnn.content_sha256": digest}
        )
        pq.write_table(crafted, path)
        with pytest.raises(DataError, match="damaged"):
            load_corpus(path)
    one = build_table([LabelFile("A", "A.txt", b"Ana\n")])
    pq.write_table(one, path)
    with pytest.raises(DataError, match="labels must be 2 to 10000, got 1"):
        load_corpus(path)
    proof("P10", "crafted training tables: refused", 6)


def test_a_corpus_of_several_parts_is_read_as_one(language_folder: Path, tmp_path: Path) -> None:
    files = find_label_files(language_folder)[0]
    whole, target = build_table(files), tmp_path / "names.parquet"
    write_table(whole, target)
    expected = load_corpus(target)
    halves = [whole.slice(0, 700), whole.slice(700)]
    parts = [with_metadata(t, "0" * 64, [TUTORIAL], (i, 2)) for i, t in enumerate(halves)]
    for written in (True, False):  # over a file, then over the same parts
        (tmp_path / "staging").mkdir(exist_ok=True)
        assert write_parts(parts, target, tmp_path / "staging") == written
    corpus = load_corpus(target)
    for field in ("names", "normalised", "outliers", "labels"):
        assert getattr(corpus, field) == getattr(expected, field)
    for field in ("label_ids", "folds", "weights", "outlier_folds"):
        assert np.array_equal(getattr(corpus, field), getattr(expected, field))
    (target / "part-00001.parquet").unlink()
    with pytest.raises(DataError, match="not a whole corpus"):
        load_corpus(target)
    assert write_table(whole, target)
    assert load_corpus(target).digest == expected.digest
