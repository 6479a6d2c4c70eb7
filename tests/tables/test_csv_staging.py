"""CSV to a staged copy: every row once, every cell as it is written, a refusal for all else.

The oracle is Python's csv module in strict mode. A canary in every cell of a refused file shows
that no cell ends up in a message.
"""

import csv
import gzip
import io
import itertools
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import fuzz.csv
import hostile_parquet
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import CANARY
from nasty import CSV_EXACT, DAMAGED, NASTY, mutant
from recording import Proof

from charrnn.errors import DataError
from charrnn.tables import csv_staging as staging
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.csv_staging import stage_csv
from charrnn.tables.csv_structure import MAX_RECORD_BYTES, Structure
from charrnn.tables.parquet_staging import stage_parquet
from charrnn.tables.row_groups import TableFile, open_parquet, read_groups

NULL = "\ue000null"  # stands for a null while Python's csv writes a table; it has none


def staged(
    tmp_path: Path, content: bytes, suffix: str = ".csv", *, multiline: bool = False
) -> tuple[pa.Table, dict[str, int]]:
    source = tmp_path / f"people{suffix}"
    source.write_bytes(content)
    found = stage_csv(source, tmp_path / "staged.arrows", csv=CsvFormat(multiline=multiline))
    return read_groups(found.table.groups), found.counts


def rows_of(table: pa.Table) -> list[list[str | None]]:
    return [list(row) for row in zip(*table.to_pydict().values(), strict=True)]


def oracle(content: bytes, columns: int) -> list[list[str]] | None:
    """The rows below the header as Python's csv reads them strictly; None where it refuses."""
    found = fuzz.csv.oracle(content, CsvFormat(), ",", columns)
    return found and found[0]


def with_empty_for_null(rows: list[list[str | None]]) -> list[list[str]]:
    """Python's csv cannot tell a bare empty field from a quoted one."""
    return [[cell or "" for cell in row] for row in rows]


def refusal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, suffix: str = ".csv"
) -> str:
    """Stage ``content``, which has to be refused; return the message, which holds no cell."""
    source = tmp_path / f"people{suffix}"
    source.write_bytes(content)
    before = set(tmp_path.iterdir())
    with pytest.raises(DataError) as caught:
        stage_csv(source, tmp_path / "staged.arrows", csv=CsvFormat())
    message = str(caught.value)
    printed = capfd.readouterr()
    assert source.name in message
    assert "\n" not in message
    assert CANARY not in message + printed.out + printed.err
    assert set(tmp_path.iterdir()) == before, "a refused file leaves something behind"
    return message


# --- what is accepted ---------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".csv.zst"])
def test_plain_and_compressed_files_give_the_same_table(tmp_path: Path, suffix: str) -> None:
    content = "name,id\nKatoro,1\nÉmi,2\n".encode()
    packed = {
        ".csv": content,
        ".csv.gz": gzip.compress(content),
        ".csv.zst": pa.Codec("zstd").compress(content, asbytes=True),
    }[suffix]
    table, counts = staged(tmp_path, packed, suffix)
    assert table.to_pydict() == {"name": ["Katoro", "Émi"], "id": ["1", "2"]}
    assert counts["blank_lines"] == 0


def test_gzip_of_several_members_is_read_whole(tmp_path: Path) -> None:
    packed = gzip.compress(b"name,id\nA,1\n") + gzip.compress(b"B,2\n")
    assert rows_of(staged(tmp_path, packed, ".csv.gz")[0]) == [["A", "1"], ["B", "2"]]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbfname,id\nA,1\nB,2\n",
        b'\xef\xbb\xbf"name",id\nA,1\nB,2\n',
        b"name,id\r\nA,1\r\nB,2\r\n",
        b"name,id\nA,1\r\nB,2\n",
        b"name,id\r\nA,1\nB,2\r\n",
        b"name,id\nA,1\nB,2",
        b"name,id\r\nA,1\r\nB,2",
        b'"name","id"\n"A","1"\n"B","2"',
    ],
    ids=["bom", "bom quoted", "crlf", "mixed", "mixed2", "no final", "crlf no final", "quoted"],
)
def test_marks_and_line_ends_do_not_matter(tmp_path: Path, content: bytes) -> None:
    table, _ = staged(tmp_path, content)
    assert table.to_pydict() == {"name": ["A", "B"], "id": ["1", "2"]}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_lines_between_columns_are_skipped_and_counted(tmp_path: Path, end: str) -> None:
    content = end.join(["name,id", "", "A,1", "", "", "B,2", "", ""]).encode()
    table, counts = staged(tmp_path, content)
    assert rows_of(table) == [["A", "1"], ["B", "2"]]
    assert counts["blank_lines"] == 4


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blank_lines_of_a_single_column_are_rows_without_a_name(tmp_path: Path, end: str) -> None:
    content = end.join(["name", "", "A", "", "B", "", ""]).encode()
    table, counts = staged(tmp_path, content)
    assert table["name"].to_pylist() == [None, "A", None, "B", None]
    assert counts["blank_lines"] == 0


def test_blank_lines_are_counted_across_reads(tmp_path: Path) -> None:
    """A file of many blocks: the counter sees it in pieces, cut anywhere."""
    draw = random.Random(4)
    parts = [
        draw.choice([b"Katoro katoro katoro katoro,1\n", b"Mi,\r\n", b"\n", b"\r\n"])
        for _ in range(600_000)
    ]
    content = b"name,id\n" + b"".join(parts)
    assert len(content) > 4 * 2**20
    table, counts = staged(tmp_path, content)
    blank = sum(part in (b"\n", b"\r\n") for part in parts)
    assert counts["blank_lines"] == blank
    assert table.num_rows == len(parts) - blank
    expected = [
        "Katoro katoro katoro katoro" if part[0] == ord("K") else "Mi"
        for part in parts
        if len(part) > 2
    ]
    assert table["name"].to_pylist() == expected


def test_quoted_delimiters_and_doubled_quotes_are_text(tmp_path: Path) -> None:
    table, _ = staged(tmp_path, b'name,note\n"Ro, Mi","5"" disk"\n"""",","\n')
    assert rows_of(table) == [["Ro, Mi", '5" disk'], ['"', ","]]


def test_quotes_inside_an_unquoted_cell_are_text(tmp_path: Path) -> None:
    table, _ = staged(tmp_path, b'name,note\nA,5" disk\nB,3" or 5" disk\n')
    assert table["note"].to_pylist() == ['5" disk', '3" or 5" disk']


def test_quoted_empty_is_text_and_bare_empty_is_null(tmp_path: Path) -> None:
    table, _ = staged(tmp_path, b'name,id\n"",\n,""\n')
    assert rows_of(table) == [["", None], [None, ""]]


def test_bare_empty_field_at_the_very_end_is_null_too(tmp_path: Path) -> None:
    table, _ = staged(tmp_path, b'name,id\n"A","1"\n"B",')
    assert rows_of(table) == [["A", "1"], ["B", None]]


def test_cells_are_never_read_as_anything_but_text(tmp_path: Path) -> None:
    cells = ["007", "true", "NA", "null", "NULL", "nan", "1e5", "2020-01-01", " x ", "-0", "N/A"]
    table, _ = staged(tmp_path, ("name,x\n" + "".join(f"{c},{c}\n" for c in cells)).encode())
    assert set(table.schema.types) == {pa.string()}
    assert table["name"].to_pylist() == table["x"].to_pylist() == cells


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_delimiter_is_sniffed_from_the_header(tmp_path: Path, delimiter: str) -> None:
    others = ",;\t|".replace(delimiter, "")
    lines = [["name", "id", "note"], ["A", "1", others], ["B", "2", ""]]
    content = "".join(delimiter.join(line) + "\n" for line in lines)
    table, _ = staged(tmp_path, content.encode())
    assert table.to_pydict() == {"name": ["A", "B"], "id": ["1", "2"], "note": [others, None]}


def test_delimiters_inside_a_quoted_header_name_are_not_sniffed(tmp_path: Path) -> None:
    table, _ = staged(tmp_path, b'name,"a;b;c"\nA,1\n')
    assert table.to_pydict() == {"name": ["A"], "a;b;c": ["1"]}


def test_file_of_one_column_needs_no_delimiter(tmp_path: Path) -> None:
    table, _ = staged(tmp_path, b"name\nA\nB C\n007\n")
    assert table.to_pydict() == {"name": ["A", "B C", "007"]}


@pytest.mark.parametrize("content", [b"name,id\n", b"name,id\r\n", b"name,id\n\n", b'"name",id\n'])
def test_header_alone_gives_no_rows(tmp_path: Path, content: bytes) -> None:
    table, _ = staged(tmp_path, content)
    assert table.num_rows == 0
    assert table.schema == pa.schema([("name", pa.string()), ("id", pa.string())])


@pytest.mark.parametrize("content", [b"name,id", b"name", b"\xef\xbb\xbfname"])
def test_header_alone_without_a_line_end_gives_no_rows(tmp_path: Path, content: bytes) -> None:
    assert staged(tmp_path, content)[0].num_rows == 0


def test_header_longer_than_what_is_sniffed_keeps_every_column_text(tmp_path: Path) -> None:
    columns = [f"column_number_{i}" for i in range(6000)]
    content = ",".join(columns) + "\n" + ",".join(["007"] * 6000) + "\n"
    table, _ = staged(tmp_path, content.encode())
    assert table.column_names == columns
    assert set(table.schema.types) == {pa.string()}
    assert rows_of(table) == [["007"] * 6000]


def test_staged_file_has_bounded_groups(tmp_path: Path) -> None:
    source, rows = tmp_path / "people.csv", 300_000
    source.write_bytes(b"name,id\n" + b"".join(b"Katoro,%d\n" % i for i in range(rows)))
    table = stage_csv(source, tmp_path / "staged.arrows", group_rows=70_000, csv=CsvFormat()).table
    assert len(table.groups) > 4
    assert max(group.rows for group in table.groups) == 70_000
    assert [g.first_row for g in table.groups[1:]] == list(
        itertools.accumulate(g.rows for g in table.groups[:-1])
    )
    for first, last in ((0, len(table.groups)), (1, 3), (len(table.groups) - 1, len(table.groups))):
        groups = table.groups[first:last]
        found = read_groups(groups)["id"].to_pylist()
        start = groups[0].first_row
        assert found == [str(i) for i in range(start, start + sum(g.rows for g in groups))]


def test_any_flipped_bit_of_a_staged_copy_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "people.csv"
    source.write_bytes(b"name,id\n" + b"".join(b"Katoro,%d\n" % i for i in range(50)))
    table = stage_csv(source, tmp_path / "staged.arrows", group_rows=20, csv=CsvFormat()).table
    whole = table.path.read_bytes()
    expected = read_groups(table.groups)
    draw = random.Random(0)
    for bit in draw.sample(range(len(whole) * 8), 400):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        table.path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"staged\.arrows is damaged between rows 0 and 50"):
            read_groups(table.groups)
    table.path.write_bytes(whole[:-1])
    with pytest.raises(DataError, match="is damaged"):
        read_groups(table.groups)
    table.path.write_bytes(whole)
    assert read_groups(table.groups).equals(expected)


def test_staging_again_replaces_what_was_staged(tmp_path: Path) -> None:
    staged(tmp_path, b"name,id\nA,1\n")
    assert rows_of(staged(tmp_path, b"name,id\nB,2\n")[0]) == [["B", "2"]]


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 4, 6])
def test_stray_quotes_never_lose_a_row(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], k: int, proof: Proof
) -> None:
    """The silent loss of CSV readers: quotes that pair up over line ends swallow the rows
    between them."""
    accepted = refused = 0
    for seed in range(20):
        draw = random.Random(1000 * k + seed)
        count = draw.randint(50, 400)
        rows = [[f"{CANARY}{i}", str(i), f"{CANARY} note {i}"] for i in range(count)]
        place = draw.choice(["start", "middle", "end", "any"])
        for i in draw.sample(range(count), k):
            cell = rows[i][2]
            at = {
                "start": 0,
                "middle": draw.randint(1, len(cell) - 1),
                "end": len(cell),
                "any": draw.randint(0, len(cell)),
            }[place]
            rows[i][2] = cell[:at] + '"' + cell[at:]
        content = ("name,id,note\n" + "".join(",".join(r) + "\n" for r in rows)).encode()
        try:
            table, _ = staged(tmp_path, content)
        except DataError:
            refusal(tmp_path, capfd, content)
            refused += 1
        else:
            accepted += 1
            assert table.num_rows == count, f"seed {seed} lost rows in silence"
            assert rows_of(table) == oracle(content, 3), f"seed {seed} changed cells"
        (tmp_path / "staged.arrows").unlink(missing_ok=True)
    assert refused > 2, "no file of the kind that loses rows was tried"
    assert accepted > 2, "harmless quotes are refused as well"
    proof(
        "P3", "CSV files with stray quotes that pair up: every row, or refused", accepted + refused
    )


@pytest.mark.parametrize("extra", [-1, 1])
def test_parser_of_another_count_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, extra: int, proof: Proof
) -> None:
    """A parser that loses or invents a row in silence, where nothing is wrong with the file."""
    write = staging.write_groups

    def written(*arguments: Any) -> TableFile:
        table = write(*arguments)
        (group,) = table.groups
        return replace(table, groups=(replace(group, rows=group.rows + extra),))

    monkeypatch.setattr(staging, "write_groups", written)
    (tmp_path / "people.csv").write_text("name,id\nA,1\nB,2\n")
    with pytest.raises(DataError, match=f"2 records of data parse to {2 + extra} rows"):
        stage_csv(tmp_path / "people.csv", tmp_path / "staged.arrows", csv=CsvFormat())
    assert not (tmp_path / "staged.arrows").exists()
    proof("P3", "parsers that lose or invent a row: found by the second count", 1)


def test_what_the_parser_says_of_a_cell_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], proof: Proof
) -> None:
    def parse(*_: object, **__: object) -> None:
        raise pa.ArrowInvalid(f"CSV parse error: {CANARY}")

    monkeypatch.setattr(staging.pacsv, "open_csv", parse)
    message = refusal(tmp_path, capfd, f"name,id\n{CANARY},1\n".encode())
    assert "cannot be parsed as CSV" in message
    proof("P9", "errors of the CSV parser, which quote cells: not repeated", 1)


def quoted_line(content: str) -> bytes:
    return f"name,note\n{CANARY}1,a\n{content}".encode()


@pytest.mark.parametrize(
    "content",
    [
        quoted_line(f'{CANARY}2,"b\n{CANARY}3,c\n{CANARY}4,d\n'),
        quoted_line(f'"{CANARY}2,b\n{CANARY}3,c\n'),
        quoted_line(f'{CANARY}2,"b\n{CANARY}3,c"\n{CANARY}4,d\n'),
        quoted_line(f'{CANARY}2,"b\r\nc"\r\n{CANARY}4,d\r\n'),
        f'name\n{CANARY}\n"{CANARY}\n{CANARY}"\n'.encode(),
        f'"na\nme",id\n{CANARY},1\n'.encode(),
    ],
    ids=["unclosed", "unclosed first", "line feed", "crlf", "single column", "in the header"],
)
def test_quotes_that_swallow_line_ends_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    assert "quot" in refusal(tmp_path, capfd, content)


@pytest.mark.parametrize(
    "content",
    [
        quoted_line(f'{CANARY}2,"b\n'),
        quoted_line(f'{CANARY}2,"b'),
        quoted_line(f'{CANARY}2,"'),
        f'name\n{CANARY}\n"{CANARY}\n'.encode(),
        f'name\n{CANARY}\n"{CANARY}'.encode(),
    ],
    ids=["multi", "multi cut", "multi bare", "single", "single cut"],
)
def test_unclosed_quote_on_the_last_line_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    """A file that was cut off inside its last, quoted cell looks like this."""
    refusal(tmp_path, capfd, content)


@pytest.mark.parametrize("cell", ['"ab"c', '"ab" ', '"ab"""c', '"a"b"c"'])
def test_text_after_a_closing_quote_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], cell: str
) -> None:
    """Reading it would drop the quotes: the cell would change in silence."""
    refusal(tmp_path, capfd, f"name,note\n{CANARY},{cell}\n".encode())


@pytest.mark.parametrize(
    ("lines", "line", "found"),
    [
        ([f"{CANARY},1", f"{CANARY},2,3"], 3, 3),
        ([f"{CANARY},1", CANARY, f"{CANARY},2"], 3, 1),
        ([f"{CANARY},{CANARY},{CANARY}"], 2, 3),
        ([f"{CANARY},1"] * 998 + [f"{CANARY},2,"], 1000, 3),
        ([f"{CANARY},1"] * 998 + [CANARY[:4]], 1000, 1),
        ([f"{CANARY},1"] * 800_000 + [f"{CANARY},2,3"], 800_002, 3),
    ],
    ids=["long", "short", "first", "trailing delimiter", "cut off", "second block"],
)
def test_ragged_row_is_refused_with_its_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], lines: list[str], line: int, found: int
) -> None:
    message = refusal(tmp_path, capfd, ("name,id\n" + "\n".join(lines) + "\n").encode())
    assert f"line {line} has {found} fields" in message


def test_line_of_a_ragged_row_counts_blank_lines(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = f"name,id\n{CANARY},1\n\n\n{CANARY},2,3\n".encode()
    assert "line 5 " in refusal(tmp_path, capfd, content)


TEXT = f"name,id\n{CANARY},1\nMüllér {CANARY},2\n"
MANY = f"name,id\n{CANARY},1\n".encode() + f"{CANARY},2\n".encode() * 10_000  # more than is sniffed


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (TEXT.encode("utf-16"), "UTF-16"),
        (TEXT.encode("utf-16-le"), "UTF-16"),
        (TEXT.encode("utf-16-be"), "UTF-16"),
        (TEXT.encode("utf-32"), "UTF-32"),
        (TEXT.encode("latin-1"), "UTF-8"),
        (TEXT.encode("cp1252").replace(b"name", b"n\xe4me"), "UTF-8"),
        (MANY + TEXT.encode("latin-1")[8:], "UTF-8"),
        (TEXT.encode() + b"\xed\xa0\x80,1\n", "UTF-8"),
        (TEXT.encode() + b"\xc0\xaf,1\n", "UTF-8"),
        (TEXT.replace("\n", "\r").encode(), "CR"),
        (TEXT.encode() + b"a\0b,3\n", "UTF"),
        (TEXT.encode() + bytes(512), "UTF"),
        (b"", "empty"),
    ],
    ids=["utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "latin-1 header", "latin-1 late",
         "surrogate", "overlong", "cr only", "nul", "nul tail", "nothing"],
)  # fmt: skip
def test_bytes_that_are_not_utf8_text_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, hint: str
) -> None:
    assert hint in refusal(tmp_path, capfd, content)


@pytest.mark.parametrize(
    "content",
    [
        MANY + b"a\0b,3\n",
        MANY + bytes(512),
        b"name\n" + f"{CANARY}\n".encode() * 10_000 + bytes(512),
        b"name\n" + f"{CANARY}\n".encode() * 10_000 + b"a\0b\n",
    ],
    ids=["cell", "tail", "tail of one column", "cell of one column"],
)
def test_nul_bytes_behind_what_is_sniffed_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    """A power cut leaves files with a tail of NUL bytes."""
    refusal(tmp_path, capfd, content)


@pytest.mark.parametrize("content", [b"na\rme,id\nA,1\n", b"name,id\rA,1\nB,2\n"])
def test_carriage_return_in_the_header_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    refusal(tmp_path, capfd, content)


@pytest.mark.parametrize("content", [b"\n", b"\n\n\n", b"\xef\xbb\xbf", b"\nname,id\nA,1\n"])
def test_file_without_a_header_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes
) -> None:
    message = refusal(tmp_path, capfd, content)
    assert "-1 " not in message, "a negative number of lines helps nobody"


def test_single_blank_header_is_refused_even_where_rows_follow(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    refusal(tmp_path, capfd, f"\nname\n{CANARY}\n007\n".encode())


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        ("name,id,name", "repeats"),
        ('"name",id,name', "repeats"),
        ("name,,", "2 of 3 columns unnamed"),
        (",name,", "2 of 3 columns unnamed"),
    ],
)
def test_column_names_that_repeat_or_are_empty_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], header: str, hint: str
) -> None:
    content = f"{header}\n{CANARY},{CANARY},{CANARY}\n".encode()
    message = refusal(tmp_path, capfd, content)
    assert "line 1" in message
    assert hint in message
    assert hint != "repeats" or "'name'" in message


@pytest.mark.parametrize("before", [0, 2_000_000], ids=["first row", "third block"])
def test_line_longer_than_a_block_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], before: int
) -> None:
    content = b"name,id\n" + b"Katoro,1\n" * before + CANARY.encode() * (17 * 2**20 // 11) + b",1\n"
    assert f"line {before + 2} begins a record longer than" in refusal(tmp_path, capfd, content)


@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("end", ["\n", ""])
def test_limit_of_a_line_is_what_the_message_says(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], quote: str, end: str
) -> None:
    start = f"name,id\nKatoro,1\n{quote}".encode()
    for more in (0, 1):
        cell = b"k" * (MAX_RECORD_BYTES - len(f"{quote * 2},1\n") + more)
        content = start + cell + f"{quote},1{end}".encode()
        if more:
            assert f"longer than {MAX_RECORD_BYTES:,} bytes" in refusal(tmp_path, capfd, content)
        else:
            assert len(staged(tmp_path, content)[0]["name"][1].as_py()) == len(cell)
            (tmp_path / "staged.arrows").unlink()


# --- damaged compression ------------------------------------------------------------------------


def numbered(rows: int, seed: int = 7) -> bytes:
    draw = random.Random(seed)
    lines = (f"{CANARY}{draw.getrandbits(40):x},{i}\n" for i in range(rows))
    return ("name,id\n" + "".join(lines)).encode()


def packed(content: bytes, suffix: str) -> bytes:
    if suffix == ".csv.gz":
        return gzip.compress(content, 1)
    return pa.Codec("zstd").compress(content, asbytes=True)  # type: ignore[no-any-return]


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv.zst"])
@pytest.mark.parametrize("rows", [50, 20_000])
def test_truncated_compression_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, rows: int
) -> None:
    whole = packed(numbered(rows), suffix)
    for kept in (1, 5, 20, len(whole) // 3, len(whole) // 2, len(whole) - 8, len(whole) - 1):
        refusal(tmp_path, capfd, whole[:kept], suffix)


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv.zst"])
@pytest.mark.parametrize("damage", ["truncated", "trailing garbage", "flipped"])
def test_compression_damaged_behind_the_first_block_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, damage: str
) -> None:
    """The reader meets it while the staged file is half written; the input is to blame."""
    line = f"{CANARY},12345678\n".encode()
    whole = packed(b"name,id\n" + line * (24 * 2**20 // len(line)), suffix)
    content = {
        "truncated": whole[:-6],
        "trailing garbage": whole + b"garbage",
        "flipped": whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:],
    }[damage]
    if damage == "flipped" and suffix == ".csv.zst":
        content = whole[: len(whole) // 2] + bytes(64) + whole[len(whole) // 2 :]
    refusal(tmp_path, capfd, content, suffix)


@pytest.mark.parametrize("suffix", [".csv.gz", ".csv.zst"])
@pytest.mark.parametrize("content", [CANARY.encode() * 20, b"", b"name,id\nA,1\n"])
def test_garbage_that_is_called_compressed_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, content: bytes
) -> None:
    refusal(tmp_path, capfd, content, suffix)


def test_flipped_bits_in_gzip_are_refused_or_harmless(tmp_path: Path) -> None:
    content = numbered(3000)
    whole = packed(content, ".csv.gz")
    expected = oracle(content, 2)
    draw = random.Random(11)
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        try:
            table, _ = staged(tmp_path, bytes(damaged), ".csv.gz")
        except DataError:
            refused += 1
        else:  # a bit of the gzip header that means nothing
            assert rows_of(table) == expected
    assert refused > 100


# --- differential -------------------------------------------------------------------------------


def random_cell(draw: random.Random) -> str:
    return "".join(draw.choices(NASTY, k=draw.choice([0, 0, 1, 1, 2, 3, 6])))


def written(rows: list[list[str | None]], quoting: int, delimiter: str, end: str) -> bytes:
    """A table as Python's csv writes it, with bare empty fields for nulls."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, delimiter=delimiter, lineterminator=end)
    writer.writerows([[NULL if cell is None else cell for cell in row] for row in rows])
    return text.getvalue().replace(f'"{NULL}"', "").replace(NULL, "").encode()


def test_valid_tables_come_back_exactly(tmp_path: Path, proof: Proof) -> None:
    for seed in range(200):
        draw = random.Random(seed)
        columns = draw.choice([1, 2, 2, 3, 5])
        delimiter = "," if columns == 1 else draw.choice(",;\t|")
        end = draw.choice(["\n", "\r\n"])
        header: list[str | None] = [f"column {i} é" for i in range(columns)]
        quoting = draw.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
        rows: list[list[str | None]] = [
            [None if draw.random() < 0.1 else random_cell(draw) for _ in range(columns)]
            for _ in range(draw.randint(0, 60))
        ]
        content = written([header, *rows], quoting, delimiter, end)
        if draw.random() < 0.2:
            content = b"\xef\xbb\xbf" + content
        if draw.random() < 0.2 and rows and rows[-1] != [None]:
            content = content.removesuffix(end.encode())
        if quoting == csv.QUOTE_MINIMAL and columns > 1:  # it writes an empty text as a bare field
            rows = [[cell or None for cell in row] for row in rows]
        table, _ = staged(tmp_path, content)
        assert table.column_names == header, f"seed {seed}"
        assert rows_of(table) == rows, f"seed {seed}"
    proof("P3", CSV_EXACT, seed + 1)


@pytest.mark.parametrize("multiline", [False, True], ids=["", "line breaks in cells"])
@pytest.mark.parametrize("columns", [1, 3])
def test_damaged_tables_are_read_as_the_oracle_reads_them_or_refused(
    tmp_path: Path, columns: int, multiline: bool, proof: Proof
) -> None:
    wrong: list[str] = []
    accepted = refused = 0
    ends = ["", "", "\n", "\n\n"] if multiline else [""]
    for seed in range(225):
        draw = random.Random(10_000 * columns + seed)
        header: list[str | None] = [f"column{i}" for i in range(columns)]
        rows: list[list[str | None]] = [
            [random_cell(draw) + draw.choice(ends) for _ in range(columns)]
            for _ in range(draw.randint(1, 25))
        ]
        quoting = draw.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL])
        whole = written([header, *rows], quoting, ",", "\n")
        content = mutant(draw, whole, whole.index(b"\n") + 1)
        expected = oracle(content, columns)
        try:
            table, _ = staged(tmp_path, content, multiline=multiline)
        except DataError:
            refused += 1
            continue
        accepted += 1
        if expected is None:
            wrong.append(f"seed {seed}: accepted what the oracle refuses")
        elif with_empty_for_null(rows_of(table)) != expected:
            wrong.append(f"seed {seed}: rows or cells differ from the oracle's")
    assert accepted > 20
    assert refused > 20
    assert wrong == []
    proof("P3", DAMAGED, accepted + refused)


def test_damaged_headers_are_accepted_or_refused_but_nothing_else(tmp_path: Path) -> None:
    outcomes = {True: 0, False: 0}
    for seed in range(200):
        draw = random.Random(seed)
        header = draw.choice(["name,id,note", '"name","id","note"', "name;id;note"])
        content = mutant(draw, header.encode(), 0) + b"\nKatoro,007,x\n"
        try:
            table, _ = staged(tmp_path, content)
        except DataError:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
            assert set(table.schema.types) == {pa.string()}, f"seed {seed}"
    assert min(outcomes.values()) > 10


# --- line breaks in cells -----------------------------------------------------------------------


def test_line_breaks_in_cells_are_kept_where_they_are_asked_for(tmp_path: Path) -> None:
    content = b'name,id\n"A\nB",1\n"C\r\n\r\nD","\n"\n\nE,3\n'
    table, counts = staged(tmp_path, content, multiline=True)
    assert rows_of(table) == [["A\nB", "1"], ["C\r\n\r\nD", "\n"], ["E", "3"]]
    assert (counts["blank_lines"], counts["line_breaks_in_cells"]) == (1, 4)


def test_line_breaks_asked_for_but_absent_change_nothing(tmp_path: Path) -> None:
    content = b'name,id\n"A",1\n\nB,\n'
    assert staged(tmp_path, content, multiline=True)[0].equals(staged(tmp_path, content)[0])


def test_valid_tables_with_line_breaks_come_back_exactly(tmp_path: Path, proof: Proof) -> None:
    for seed in range(150):
        draw = random.Random(seed)
        columns = draw.choice([1, 2, 3])
        end = draw.choice(["\n", "\r\n"])
        header: list[str | None] = [f"column{i}" for i in range(columns)]
        rows: list[list[str | None]] = [
            [
                "".join(draw.choices([*NASTY, "\n", "\r\n", "\n\n"], k=draw.randint(0, 5)))
                for _ in range(columns)
            ]
            for _ in range(draw.randint(1, 30))
        ]
        content = written([header, *rows], csv.QUOTE_ALL, ",", end)
        table, counts = staged(tmp_path, content, multiline=True)
        assert rows_of(table) == rows, f"seed {seed}"
        breaks = sum(cell.count("\n") for row in rows for cell in row if cell)
        assert counts["line_breaks_in_cells"] == breaks
    proof("P3", CSV_EXACT, seed + 1)


def test_line_break_in_a_cell_across_blocks_is_kept(tmp_path: Path) -> None:
    """The cell with the line break lies where one block of the reader ends."""
    row = b"abcdefg\n"
    before = row * ((8 * 2**20 - 100) // len(row))
    cell = "left\n" + "r" * 400
    content = b"name\n" + before + f'"{cell}"\n'.encode() + row * 3
    table, _ = staged(tmp_path, content, multiline=True)
    assert table.num_rows == before.count(b"\n") + 4
    assert table["name"].to_pylist()[-4:] == [cell, "abcdefg", "abcdefg", "abcdefg"]
    with pytest.raises(DataError, match=f"line {before.count(chr(10).encode()) + 2} "):
        staged(tmp_path, content)


# --- the second opinion -------------------------------------------------------------------------


def structure_of(content: bytes, cuts: list[int]) -> Structure:
    structure = Structure(",", multiline=True)
    for start, stop in itertools.pairwise([0, *cuts, len(content)]):
        structure.feed(content[start:stop])
    structure.finish()
    return structure


def test_structure_does_not_depend_on_how_the_bytes_come_in() -> None:
    problems = 0
    for seed in range(400):
        draw = random.Random(seed)
        tokens = [b'"', b'"', b'""', b",", b"\n", b"\n", b"\r\n", b"a", b"b c", b'"x"', b"\xc3\xa9"]
        content = b"name\n" + b"".join(draw.choices(tokens, k=draw.randint(1, 40)))
        if draw.random() < 0.2:
            content = b"\xef\xbb\xbf" + content
        whole = structure_of(content, [])
        cuts = sorted(draw.sample(range(4, len(content)), k=min(6, len(content) - 4)))
        pieces = structure_of(content, draw.choice([cuts, list(range(4, len(content)))]))
        assert pieces.problem == whole.problem, f"seed {seed}: {content!r}"
        problems += bool(whole.problem)
        if not whole.problem:
            found = [(s.records, s.blank, s.line_breaks) for s in (pieces, whole)]
            assert found[0] == found[1], f"seed {seed}: {content!r}"
    assert 50 < problems < 350


def test_structure_finds_the_records_of_the_oracle() -> None:
    agreed = 0
    for seed in range(600):
        draw = random.Random(seed)
        tokens = [b'"', b'""', b'"x"', b",", b",", b"\n", b"\n", b"\r\n", b"a", b"b c"]
        content = b"name\n" + b"".join(draw.choices(tokens, k=draw.randint(1, 25)))
        structure = structure_of(content, [])
        text = io.StringIO(content.decode(), newline="")
        try:
            records = list(csv.reader(text, strict=True))
        except csv.Error:
            assert structure.problem, f"seed {seed}: {content!r}"
            continue
        assert not structure.problem, f"seed {seed}: {content!r}"
        assert structure.records == len(records), f"seed {seed}: {content!r}"
        assert structure.blank == sum(not record for record in records), f"seed {seed}"
        agreed += 1
    assert agreed > 100


# --- Parquet ------------------------------------------------------------------------------------


def test_parquet_with_small_row_groups_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({"name": ["A"] * 100}), path, row_group_size=10)
    assert stage_parquet(path, tmp_path / "staged.parquet", 10).path == path
    assert not (tmp_path / "staged.parquet").exists()


def test_parquet_with_a_huge_row_group_is_copied_whole(tmp_path: Path) -> None:
    path, copy = tmp_path / "people.parquet", tmp_path / "staged.parquet"
    table = pa.table({"name": [f"n{i}" for i in range(300_000)], "id": range(300_000)})
    pq.write_table(table, path, row_group_size=300_000)
    found = stage_parquet(path, copy, 200_000)
    assert (found.path, found.rows, found.schema) == (copy, 300_000, table.schema)
    metadata = pq.ParquetFile(copy).metadata
    assert max(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)) <= 200_000
    assert pq.read_table(copy, page_checksum_verification=True).equals(table)


def test_damaged_page_of_a_huge_row_group_is_blamed_on_the_input(tmp_path: Path) -> None:
    path = tmp_path / "people.parquet"
    pq.write_table(pa.table({"id": range(1000)}), path, write_page_checksum=True)
    damaged = bytearray(path.read_bytes())
    damaged[pq.ParquetFile(path).metadata.row_group(0).column(0).dictionary_page_offset + 60] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"people\.parquet"):
        stage_parquet(path, tmp_path / "staged.parquet", 100)
    assert not (tmp_path / "staged.parquet").exists()


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all" * 10, b"PAR1" * 40])
def test_what_is_not_parquet_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "people.parquet"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"people\.parquet"), open_parquet(path):
        pass


def test_parquet_copy_that_has_other_rows_than_the_footer_is_refused(tmp_path: Path) -> None:
    """The footer claims 2⁶² rows, which readers do not notice at the end of the last page."""
    path = hostile_parquet.CASES["a footer that claims 2⁶² rows"](tmp_path / "people", 1)
    with pytest.raises(DataError, match="123457 rows where its footer says 4611686018427387904"):
        stage_parquet(path, tmp_path / "staged.parquet", 100)
