"""The start of CSV files as other programs write it, and what errors say of a header."""

import gzip
import io
import unicodedata
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest
from commands import CANARY
from found import fingerprint_files
from recording import Proof

from charrnn.errors import DataError
from charrnn.tables.columns import check_name_column, differences
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.csv_header import MAX_COLUMNS, MAX_HEADER_BYTES
from charrnn.tables.row_groups import read_groups
from charrnn.tables.source import Source, open_source

REJECT = CsvFormat(on_bad_line="reject", max_rejected="100%")


def opened(folder: Path, *contents: bytes, form: CsvFormat | None = None, name: str = "") -> Source:
    paths = []
    for number, content in enumerate(contents):
        paths.append(folder / (name or f"people{number}.csv"))
        paths[-1].write_bytes(content)
    return open_source(
        fingerprint_files(paths), folder / "s", partition_rows=99, csv=form or CsvFormat()
    )


def rows_of(source: Source) -> list[list[str]]:
    tables = [read_groups(table.groups).to_pydict().values() for table in source.tables]
    return [list(row) for table in tables for row in zip(*table, strict=True)]


def refusal(folder: Path, content: bytes, form: CsvFormat | None = None, name: str = "") -> str:
    with pytest.raises(DataError) as caught:
        check_name_column(opened(folder, content, form=form, name=name).schema, "name")
    assert CANARY not in str(caught.value)
    return str(caught.value)


# --- what other programs put above or below the rows --------------------------------------------


@pytest.mark.parametrize("delimiter", [";", ",", "\t", "|", "^"])
@pytest.mark.parametrize("line", ["sep={}\r\n", '"sep={}"\n', "SEP={}\n", "\ufeffsep={}\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le"])
def test_delimiter_is_taken_from_the_line_that_excel_writes(
    tmp_path: Path, line: str, delimiter: str, encoding: str, proof: Proof
) -> None:
    text = line.format(delimiter) + f"id{delimiter}name\n1{delimiter}A\n2{delimiter}\n"
    source = opened(tmp_path, text.encode(encoding), form=CsvFormat(encoding=encoding))
    assert source.schema.names == ["id", "name"]
    assert rows_of(source) == [["1", "A"], ["2", None]]
    proof("P3", "CSV files with an Excel line above the header: rows and cells exactly", 1)


def test_lines_are_counted_from_the_excel_line(tmp_path: Path) -> None:
    assert "line 4 has 3 fields" in refusal(tmp_path, b"sep=;\nid;name\n1;A\n2;B;C\n")
    assert "line 3 has a line break" in refusal(tmp_path, b'sep=;\nid;name\n1;"A\n')


@pytest.mark.parametrize("end", [b"\x1a", b"\x1a\x1a\x1a"])
@pytest.mark.parametrize("last", [b"2,B\r\n", b"2,B"])
def test_ctrl_z_at_the_end_is_the_end_of_the_file(tmp_path: Path, last: bytes, end: bytes) -> None:
    source = opened(tmp_path, b"id,name\r\n1,A\r\n" + last + end)
    assert rows_of(source) == [["1", "A"], ["2", "B"]]


def test_one_column_may_be_without_a_name_as_pandas_writes_its_index(tmp_path: Path) -> None:
    source = opened(tmp_path, b",id,name\n0,17,A\n")
    assert source.schema.names == ["", "id", "name"]
    assert rows_of(source) == [["0", "17", "A"]]
    assert "2 of 4 columns unnamed" in refusal(tmp_path, b"id,name,,\n1,A,,\n")


def test_empty_file_beside_others_is_passed_over_and_counted(tmp_path: Path) -> None:
    source = opened(tmp_path, b"", b"id,name\n1,A\n", b"")
    assert rows_of(source) == [["1", "A"]]
    assert source.counts["empty_files"] == 2
    with pytest.raises(DataError, match="is empty"):
        opened(tmp_path, b"", b"")


@pytest.mark.parametrize("typed", ["\\t", "tab", "\t", "\\x09", "\\u0009"])
def test_tab_may_be_typed_as_shells_pass_it_on(tmp_path: Path, typed: str) -> None:
    form = CsvFormat(delimiter=typed)
    assert form == CsvFormat(delimiter="\t")
    assert rows_of(opened(tmp_path, b"id\tname\n1\tA\n", form=form)) == [["1", "A"]]


# --- what is wrong, and a remedy that loses no row ----------------------------------------------


@pytest.mark.parametrize("form", [CsvFormat(), REJECT], ids=["refuse", "reject"])
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("id;name\n1;{0};\n2;{0};\n", "every row ends with a delimiter that the header"),
        ("Export 2026-01-31\nid,name\n1,{0}\n2,{0}\n", "tail -n +2"),
        ("Export of {0}, 2026\nid;name\n1;{0}\n2;{0}\n", "tail -n +2"),
        ("Export {0}\n\nid\tname\n1\t{0}\n2\t{0}\n", "tail -n +3"),
        ("Export {0};;\nid;name;town\n1;{0};K\n2;{0};G\n", "tail -n +2"),
        ('"name","id"\n"1","{0}","7"\n"2","{0}","8"\n', "as R writes it"),
    ],
)
def test_what_is_wrong_with_every_row_is_said_and_no_row_rejected(
    tmp_path: Path, content: str, says: str, form: CsvFormat
) -> None:
    message = refusal(tmp_path, content.format(CANARY).encode(), form)
    assert says in message
    assert "reject" not in message


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize(
    "row", ["1,qA \\qb\\qq,x\n", "1,q5\\qq,x\n2,qaq,x\n", "1,x,q\\qq", "1,qa,\\qb\\q,cq,x\n"]
)
def test_quotes_escaped_by_backslashes_are_named(tmp_path: Path, quote: str, row: str) -> None:
    content = "id,name,note\n" + row.replace("q", quote)
    message = refusal(tmp_path, content.encode(), CsvFormat(quote=quote))
    assert "quotes escaped by a backslash" in message
    assert "perl -pe" in message


@pytest.mark.parametrize("content", [b"id,name\r1,A\r2,B", b"id,name\r1,A\r2,B\n"])
def test_lines_that_end_with_cr_alone_are_named_with_a_command(
    tmp_path: Path, content: bytes
) -> None:
    message = refusal(tmp_path, content, name="my people.csv")
    assert "tr '\\r' '\\n' < 'my people.csv' > 'fixed-my people.csv'" in message


def zipped(member: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(member, CANARY)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (zipped("xl/workbook.xml"), "Excel"), (zipped("word/document.xml"), "Word"),
        (zipped("people.csv"), "zip"), (b"PAR1\x15\x04", "Parquet"), (b"ARROW1\0\0", "Arrow IPC"),
        (b"%PDF-1.7\n%\xe2", "PDF"), (b"SQLite format 3\0", "SQLite"),
        (b"\n<!DOCTYPE html>", "HTML"),
        (b'{"name": "Zanzibarova"}', "JSON"), (b'[{"name": 1}]', "JSON"), (b"<a>\n", "XML"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "Excel"), (b"BZh91AY&SY\x80", "bzip2"),
        (b"Obj\x01\x02", "Avro"),
        (gzip.compress(b"id,name\n1,A\n"), "gzip"), (b"\x80\x04\x95\0", "pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_file_that_is_no_csv_is_named_by_its_bytes(
    tmp_path: Path, content: bytes, kind: str, encoding: str
) -> None:
    message = refusal(tmp_path, content, CsvFormat(encoding=encoding))
    assert kind in message
    assert "set the encoding" not in message


def test_name_that_says_compressed_of_a_plain_file_is_named(tmp_path: Path) -> None:
    assert "rename it to p.csv" in refusal(tmp_path, b"id,name\n1,A\n", name="p.csv.gz")
    twice = gzip.compress(gzip.compress(b"id,name\n1,A\n"))
    assert "compressed twice" in refusal(tmp_path, twice, name="p.csv.gz")


@pytest.mark.parametrize("header", ["PAR1,name", "ORC,name", "BZh,name", "PK,name", "[id],name"])
def test_text_that_begins_like_another_kind_is_read(tmp_path: Path, header: str) -> None:
    assert rows_of(opened(tmp_path, f"{header}\n1,A\n".encode())) == [["1", "A"]]


# --- names of columns ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first",
    ["P0001,{},Athens", "{}", "{},{}", "1,{}", "{} Name,a@b.example,1987", "id,{},7,8", "7,{},,"],
)
def test_first_row_of_a_file_without_header_is_not_shown(
    tmp_path: Path, first: str, proof: Proof
) -> None:
    line = first.format(CANARY, CANARY)
    message = refusal(tmp_path, f"{line}\n{line}\n".encode())
    assert "header line is missing" in message or "unnamed" in message or "other" in message
    with pytest.raises(DataError) as caught:
        check_name_column(pa.schema([(cell, pa.string()) for cell in line.split(",")]), "name")
    assert CANARY not in str(caught.value)
    one, two = (pa.schema([(cell, pa.string()) for cell in row]) for row in (["id"], [CANARY]))
    assert CANARY not in differences(one, two)
    proof("P9", "files without a header: no cell of their first row in a message", 3)


def test_names_that_are_usual_are_shown_and_others_counted() -> None:
    schema = pa.schema([(name, pa.string()) for name in ("id", "nom_famille", CANARY, "birthDate")])
    with pytest.raises(DataError, match="columns: id, nom_famille, birthDate and 1 other"):
        check_name_column(schema, "name")


def test_name_that_differs_from_the_request_only_in_case_is_suggested() -> None:
    with pytest.raises(DataError, match="did you mean 'Kunden Rufname'"):
        check_name_column(pa.schema([("Kunden Rufname", pa.string())]), "kunden_rufname")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_column_is_found_in_another_unicode_form(form: str) -> None:
    other = "NFD" if form == "NFC" else "NFC"
    asked, there = (unicodedata.normalize(f, "nom_de_famílle") for f in (form, other))  # type: ignore[arg-type]
    assert check_name_column(pa.schema([("id", pa.string()), (there, pa.string())]), asked) == there
    both = pa.schema([(there, pa.string()), (asked, pa.string())])
    assert check_name_column(both, asked) == asked


def test_header_has_bounds(tmp_path: Path) -> None:
    many = ",".join(f"c{i}" for i in range(MAX_COLUMNS + 1))
    assert f"at most {MAX_COLUMNS:,} are read" in refusal(tmp_path, many.encode() + b"\n")
    for end in (b"\n1\n", b""):
        assert f"{MAX_HEADER_BYTES:,}" in refusal(
            tmp_path, b"x" * (MAX_HEADER_BYTES + 70_000) + end
        )


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"id,name\n1,Zanzibarova\n", "text"),
        (b"[{}]", "JSON"),
        (zipped("xl/workbook.xml"), "Excel"),
    ],
)
def test_file_that_is_called_parquet_is_named_by_its_bytes(
    tmp_path: Path, content: bytes, kind: str
) -> None:
    assert f"is not Parquet but {kind}" in refusal(tmp_path, content, name="p.parquet").replace(
        "an Excel", "Excel"
    )
