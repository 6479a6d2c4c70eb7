"""CSV as it is written elsewhere: other delimiters, quotes and encodings, and bad rows left out.

The oracle is Python's csv module, on the text that Python's codecs give.
"""

import csv
import io
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import CANARY
from found import fingerprint_files
from fuzz.csv import difference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nasty import BUDGETS, CSV_EXACT, DAMAGED, LINE_ENDS, NASTY, mutant
from recording import Proof

from charrnn.errors import ConfigError, DataError
from charrnn.tables import csv_staging as staging
from charrnn.tables import csv_structure
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.csv_staging import REJECTS
from charrnn.tables.row_groups import cut, read_groups
from charrnn.tables.source import Source, open_source

Rows = list[list[str | None]]


def source_of(
    folder: Path, content: bytes, form: CsvFormat, max_rejected: str = "1000000000"
) -> Source:
    path = folder / "people.csv"
    path.write_bytes(content)
    return open_source(
        fingerprint_files([path]),
        folder / "staging",
        partition_rows=2**20,
        csv=replace(form, max_rejected=max_rejected),
    )


def rows_of(source: Source) -> Rows:
    table = pa.concat_tables([read_groups(p.groups) for p in cut(source.tables, 2**20)])
    assert table.num_rows == source.rows
    return [list(row) for row in zip(*table.to_pydict().values(), strict=True)]


def rejects_of(source: Source) -> list[tuple[int, int, str]]:
    assert source.rejects.schema == REJECTS
    return [(r["line"], r["record"], r["reason"]) for r in source.rejects.to_pylist()]


def refusal(folder: Path, content: bytes, form: CsvFormat, **options: Any) -> str:
    with pytest.raises(DataError) as caught:
        source_of(folder, content, form, **options)
    assert CANARY not in str(caught.value)
    return str(caught.value)


REJECT = CsvFormat(on_bad_line="reject")

# --- what a format may be -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"delimiter": "::"}, {"delimiter": "é"}, {"delimiter": "\n"}, {"delimiter": '"'},
        {"delimiter": "'", "quote": "'"}, {"quote": ""}, {"quote": "`"}, {"on_bad_line": "skip"},
        {"encoding": "utf-9"}, {"encoding": "base64"}, {"encoding": "rot13"}, {"encoding": "idna"},
        {"encoding": "punycode"}, {"encoding": "unicode_escape"}, {"encoding": "undefined"},
        {"encoding": "a\0b"},
    ],
    ids=str,
)  # fmt: skip
def test_format_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        CsvFormat(**wrong)


def test_names_of_one_encoding_are_one_format() -> None:
    assert CsvFormat(encoding="UTF8").to_json() == CsvFormat(encoding="utf-8-sig").to_json()
    assert CsvFormat(encoding="latin1").to_json() != CsvFormat().to_json()


# --- encodings ----------------------------------------------------------------------------------

SCRIPTS = {
    "utf-8": "Müller Катя 王 😀", "utf-8-sig": "Müller Катя", "utf-16": "Müller Катя 王 😀",
    "utf-16-le": "Müller 😀", "utf-16-be": "Müller 😀", "utf-32": "Müller 😀",
    "latin-1": "Müller é", "cp1252": "Müller “€”", "iso8859-2": "Łukasz Žižka", "cp1251": "Катя",
    "koi8-r": "Катя", "shift_jis": "山田ソ", "gb18030": "王😀", "big5": "王許功", "euc-kr": "김",
    "utf-7": "Müller", "cp037": "ABC",
}  # fmt: skip


@pytest.mark.parametrize("chunk", [1, 7, 2**20])
@pytest.mark.parametrize("encoding", SCRIPTS)
def test_every_encoding_gives_the_text_it_was_written_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, chunk: int
) -> None:
    monkeypatch.setattr(staging, "_CHUNK_BYTES", chunk)
    names = [f"{SCRIPTS[encoding]}{i}" for i in range(12)]
    text = "id,name\n" + "".join(f'{i},"{name}"\n' for i, name in enumerate(names))
    source = source_of(tmp_path, text.encode(encoding), CsvFormat(encoding=encoding))
    assert [row[1] for row in rows_of(source)] == names


def test_mark_at_the_start_is_no_part_of_the_header(tmp_path: Path) -> None:
    for codec in ("utf-16-le", "utf-16-be", "utf-32-le"):
        content = "\ufeffid,name\n1,Müller\n".encode(codec)
        assert rows_of(source_of(tmp_path, content, CsvFormat(encoding=codec))) == [["1", "Müller"]]


@pytest.mark.parametrize(
    ("encoding", "content", "place"),
    [
        ("cp1252", b"id,name\n1,Zanzibarova\n2,\x81\n", "line 3, byte 24 is not cp1252"),
        ("ascii", b"id,name\n1,Zanzibarova\n\n2,\xe9\n", "line 4, byte 25 is not ascii"),
        ("utf-16-le", b"i\0,\0n\0\n\0001\0,\0\0\xd8\n\0", "line 2, byte 12"),
        ("utf-16", "id,name\n1,Zanzibarova\n".encode("utf-16")[:-1], "line 2, byte 44"),
        ("shift_jis", b"id,name\n1,Zanzibarova\n2,\xff\n", "line 3, byte 24"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunk", [1, 3, 2**20])
def test_bytes_that_are_not_in_the_encoding_are_refused_with_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, content: bytes, place: str,
    chunk: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(staging, "_CHUNK_BYTES", chunk)
    assert place in refusal(tmp_path, content, CsvFormat(encoding=encoding))
    assert not list((tmp_path / "staging").glob("*"))


def test_place_of_a_bad_byte_is_found_far_behind_what_is_sniffed(tmp_path: Path) -> None:
    good = f"1,{CANARY}é\n".encode("cp1252")
    content = b"id,name\n" + good * 200_000 + b"2,\x81\n" + good
    message = refusal(tmp_path, content, CsvFormat(encoding="cp1252"))
    assert f"line 200002, byte {8 + len(good) * 200_000 + 2:,} is not cp1252" in message


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_mark_of_another_encoding_is_not_read_as_text(tmp_path: Path, encoding: str) -> None:
    content = b"\xef\xbb\xbfid,name\n1,M\xc3\xbcller\n"
    assert "set the encoding to utf-8" in refusal(tmp_path, content, CsvFormat(encoding=encoding))
    utf16 = "id,name\n1,a\n".encode("utf-16")
    assert "set the encoding to utf-16" in refusal(tmp_path, utf16, CsvFormat(encoding=encoding))


def test_latin1_file_names_both_ways_out(tmp_path: Path) -> None:
    message = refusal(tmp_path, "id,name\n1,Müller\n2,é\n".encode("latin-1"), CsvFormat())
    assert "line 2, byte 11 is not UTF-8 (bad rows: invalid_utf8 2)" in message
    assert "set the encoding, such as latin-1" in message
    assert "iconv -f LATIN1 -t UTF-8 people.csv" in message


# --- delimiters and quotes ----------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", list("^:~ #\x01\x1f-a"))
def test_any_ascii_character_may_be_the_delimiter(tmp_path: Path, delimiter: str) -> None:
    rows = [["1", "Muller,M;x\t|"], ["2", f'"{delimiter}"']]
    quoted = f'2{delimiter}"""{delimiter}"""\n'
    text = f"id{delimiter}n\n1{delimiter}{rows[0][1]}\n{quoted}"
    source = source_of(tmp_path, text.encode(), CsvFormat(delimiter=delimiter))
    assert rows_of(source) == rows


@pytest.mark.parametrize(
    ("content", "delimiter"),
    [
        ("name;a,b\nx;1\ny;2\n", ";"),
        ("name,a;b\nx,1\ny,2\n", ","),
        ("name,a;b\nx,1;1\ny,2\n", ","),
        ('name\ta;b|c\n"x;y|z"\t1\n"x;y"\t2\n', "\t"),
        ("name;a;b,c\n", ";"),
        ('"name,a,b,c";d\n1;2\n', ";"),
        ('name;a,b\n"x\n";1\n"y,\n";2\n', ";"),
    ],
)
def test_records_decide_between_delimiters_of_the_header(
    tmp_path: Path, content: str, delimiter: str
) -> None:
    form = CsvFormat(multiline=True)
    source = source_of(tmp_path, content.encode(), form)
    header = next(csv.reader([content.split("\n")[0]], delimiter=delimiter))
    assert source.schema.names == header


@pytest.mark.parametrize(
    "content", ["a,b;c\n1,2;3\n", "a,b;c\n", "a,b;c\n\n", "a,b,c;d\n1,2,3;4\n"]
)
def test_header_with_two_delimiters_that_both_fit_is_refused(tmp_path: Path, content: str) -> None:
    assert "set the delimiter" in refusal(tmp_path, content.encode(), CsvFormat())
    assert source_of(tmp_path, content.encode(), CsvFormat(delimiter=",")).schema.names[0] == "a"


def test_single_quotes_quote_where_they_are_given(tmp_path: Path) -> None:
    content = b"id,name\n1,'O''Kashi, M'\n2,5\" disk\n3,d'Or\n4,\"x\"\n"
    found = rows_of(source_of(tmp_path, content, CsvFormat(quote="'")))
    assert [row[1] for row in found] == ["O'Kashi, M", '5" disk', "d'Or", '"x"']
    assert "text after a closing quote" in refusal(
        tmp_path, b"id,name\n1,'a'b\n", CsvFormat(quote="'")
    )


def test_no_quotes_means_that_quotes_are_text(tmp_path: Path) -> None:
    content = b'id,name\n1,"a\n2,"b"\n3,"\n4,"x"y\n'
    found = rows_of(source_of(tmp_path, content, CsvFormat(quote="none")))
    assert [row[1] for row in found] == ['"a', '"b"', '"', '"x"y']
    ragged = refusal(tmp_path, content + b'5,"a,b"\n', CsvFormat(quote="none"))
    assert "line 6 has 3 fields" in ragged


# --- rejects ------------------------------------------------------------------------------------


def test_bad_rows_are_left_out_with_line_record_and_reason(tmp_path: Path) -> None:
    content = (
        b"id,name\n0,A\n\n1,B,C\n2\n3,\xff\n4,D\r\n\r\n5,E\rF\n" + b'6,"x,y"\n' + "7,é\n8".encode()
    )
    source = source_of(tmp_path, content, REJECT)
    assert rows_of(source) == [["0", "A"], ["4", "D"], ["6", "x,y"], ["7", "é"]]
    assert rejects_of(source) == [
        (4, 1, "ragged_row"), (5, 2, "ragged_row"), (6, 3, "invalid_utf8"), (9, 5, "bare_return"),
        (12, 8, "ragged_row"),
    ]  # fmt: skip
    assert source.counts["blank_lines"] == 2
    assert source.rejects["file"].to_pylist() == ["people.csv"] * 5


def test_line_of_a_reject_counts_line_breaks_in_cells(tmp_path: Path) -> None:
    content = b'id,name\n0,"a\n\nb"\n1\n2,"\n"\n3,"x\n\xfe"\n'
    form = CsvFormat(on_bad_line="reject", multiline=True)
    source = source_of(tmp_path, content, form)
    assert rows_of(source) == [["0", "a\n\nb"], ["2", "\n"]]
    assert rejects_of(source) == [(5, 1, "ragged_row"), (8, 3, "invalid_utf8")]


def test_blank_lines_of_one_column_are_rows_not_rejects(tmp_path: Path) -> None:
    source = source_of(tmp_path, b"name\n\nA\nb,c\n\n", REJECT)
    assert rows_of(source) == [[None], ["A"], [None]]
    assert rejects_of(source) == [(4, 2, "ragged_row")]


@pytest.mark.parametrize(
    "content",
    [b'id,name\n1,"a\n2,b\n', b'id,name\n1,"a\n2,b"\n3,c\n', b'id,name\n1,"a"b\n2,c\n',
     b"id,name\n1,a\0\n", b"id,name,\xff\n1,a,b\n"],
    ids=["open", "swallows", "behind", "nul", "header"],
)  # fmt: skip
def test_what_could_swallow_rows_is_refused_even_so(tmp_path: Path, content: bytes) -> None:
    refusal(tmp_path, content, REJECT)


def test_nothing_is_rejected_from_a_sound_file(tmp_path: Path) -> None:
    content = b'id,name\n1,"a,b"\n\n2,\n'
    one, two = (source_of(tmp_path, content, form) for form in (CsvFormat(), REJECT))
    assert rows_of(one) == rows_of(two)
    assert rejects_of(two) == []
    assert one.counts == two.counts


@pytest.mark.parametrize(
    ("allowed", "passes"),
    [("2", False), ("3", True), ("0", False), ("29%", False), ("30%", True)],
)
def test_budget_is_over_all_files(tmp_path: Path, allowed: str, passes: bool, proof: Proof) -> None:
    for name, bad in (("a.csv", 1), ("b.csv", 2)):
        lines = ["1,K"] * (5 - bad) + [f"2,{CANARY},x"] * bad
        (tmp_path / name).write_text("id,name\n" + "\n".join(lines) + "\n")

    def opened() -> Source:
        files = fingerprint_files([tmp_path / "a.csv", tmp_path / "b.csv"])
        form = replace(REJECT, max_rejected=allowed)
        return open_source(files, tmp_path / "s", partition_rows=9, csv=form)

    if passes:
        source = opened()
        assert (source.rows, len(source.rejects)) == (7, 3)
        assert source.rejects["input"].to_pylist() == [0, 1, 1]
    else:
        with pytest.raises(DataError) as caught:
            opened()
        message = str(caught.value)
        assert "3 of 10 rows are bad (ragged_row 3)" in message
        assert "first: a.csv line 6 ragged_row, b.csv line 5 ragged_row" in message
        assert CANARY not in message
    proof("P8", BUDGETS, 1)


@pytest.mark.parametrize(
    ("text", "allowed"), [("0", 0), ("20", 20), ("0.1%", 0.001), ("100%", 1.0), ("0%", 0.0)]
)
def test_budget_is_a_number_or_a_share(text: str, allowed: int | float) -> None:
    found = CsvFormat(max_rejected=text).rejects_allowed
    assert (found, type(found)) == (pytest.approx(allowed), type(allowed))


@pytest.mark.parametrize("text", ["", "-1", "-1%", "101%", "nan%", "inf%", "0.5", "many", "%"])
def test_budget_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="max_rejected must be"):
        CsvFormat(max_rejected=text)


def test_over_a_million_bad_rows_are_refused_not_collected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(csv_structure, "_MAX_REJECTED", 10)
    assert "more than 10 rows are bad" in refusal(tmp_path, b"a,b\n" + b"1\n" * 11, REJECT)
    assert len(source_of(tmp_path, b"a,b\n" + b"1\n" * 10, REJECT).rejects) == 10


def test_rejects_do_not_depend_on_where_the_stream_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(40):
        draw = random.Random(seed)
        lines = [b"1,a", b"", b"2", b'3,"x,y"', b"4,\xff", b"5,\xc3\xa9", b"6,a,b", b'7,"a\n\nb"',
                 b"8,x\ry", b"9,\r", b'"",'] * 2  # fmt: skip
        content = b"id,name\n" + b"\n".join(draw.choices(lines, k=draw.randint(1, 60)))
        form = CsvFormat(on_bad_line="reject", multiline=True)
        whole = source_of(tmp_path, content, form)
        found = (rows_of(whole), rejects_of(whole), whole.counts)
        with monkeypatch.context() as patch:
            patch.setattr(csv_structure, "_PIECE_BYTES", draw.choice([1, 8, 64]))
            patch.setattr(staging, "_CHUNK_BYTES", draw.choice([1, 5, 100]))
            pieces = source_of(tmp_path, content, form)
            assert (rows_of(pieces), rejects_of(pieces), pieces.counts) == found, f"seed {seed}"


# --- differential -------------------------------------------------------------------------------


def random_format(draw: random.Random) -> CsvFormat:
    return CsvFormat(
        delimiter=draw.choice(["", "", ",", ";", "\t", "|", ":"]),
        encoding=draw.choice(["utf-8"] * 4 + ["latin-1", "utf-16-le", "gb18030"]),
        quote=draw.choice(['"', '"', "'", "none"]),
        multiline=draw.random() < 0.3,
        on_bad_line=draw.choice(["refuse", "reject"]),
    )


def written(rows: Rows, form: CsvFormat, delimiter: str, draw: random.Random) -> bytes:
    text = io.StringIO(newline="")
    none = form.quote == "none"
    writer = csv.writer(
        text,
        delimiter=delimiter,
        quotechar=None if none else form.quote,
        quoting=csv.QUOTE_NONE if none else draw.choice([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
        escapechar="\x02" if none else None,
        lineterminator=draw.choice(["\n", "\r\n"]),
    )
    writer.writerows([row if row != [""] else ["x"] for row in rows])
    return text.getvalue().replace("\x02", "").encode(form.encoding, "replace")


def differential(folder: Path, seeds: range) -> tuple[list[str], int, int, int]:
    """Return what went wrong, and how many files were accepted, accepted with rejects, refused."""
    wrong: list[str] = []
    accepted = with_rejects = refused = 0
    for seed in seeds:
        draw = random.Random(seed)
        form = random_format(draw)
        columns = draw.choice([1, 2, 3])
        delimiter = form.delimiter or ("," if columns == 1 else draw.choice(",;\t|"))
        alphabet = [*NASTY, *LINE_ENDS] if form.multiline else NASTY
        rows: Rows = [
            [
                "".join(draw.choices(alphabet, k=draw.choice([0, 1, 1, 2, 5])))
                for _ in range(columns)
            ]
            for _ in range(draw.randint(1, 25))
        ]
        header: Rows = [[f"column{i}" for i in range(columns)]]
        first = written(header, form, delimiter, random.Random(0))
        content = mutant(draw, first + written(rows, form, delimiter, draw), len(first))
        (folder / "people.csv").write_bytes(content)
        what, source = difference(folder / "people.csv", form, delimiter)
        if what:
            wrong.append(f"seed {seed}: {what}")
        refused += source is None
        accepted += source is not None
        with_rejects += source is not None and len(source.rejects) > 0
    return wrong, accepted, with_rejects, refused


def test_mutants_in_all_formats_are_read_as_the_oracle_reads_them_or_refused(
    tmp_path: Path, proof: Proof
) -> None:
    wrong, accepted, with_rejects, refused = differential(tmp_path, range(420))
    assert wrong == []
    assert accepted > 100
    assert with_rejects > 20
    assert refused > 100
    proof("P3", DAMAGED, accepted + refused)
    proof(
        "P8",
        "damaged CSV files whose bad rows are left out: all other rows",
        with_rejects,
    )


# --- round trips --------------------------------------------------------------------------------

CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0\r"), max_size=8)


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS), max_size=8),
    delimiter=st.sampled_from(",;\t|:^"),
    quote=st.sampled_from("\"'"),
    encoding=st.sampled_from(["utf-8", "utf-16", "utf-32-be", "gb18030", "utf-7"]),
)
def test_any_cells_in_any_format_come_back_exactly(
    tmp_path: Path,
    proof: Proof,
    rows: list[tuple[str, str]],
    delimiter: str,
    quote: str,
    encoding: str,
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quotechar=quote, quoting=csv.QUOTE_ALL)
    writer.writerows([("id", "name"), *rows])
    form = CsvFormat(delimiter=delimiter, encoding=encoding, quote=quote, multiline=True)
    source = source_of(tmp_path, text.getvalue().encode(encoding), form)
    assert rows_of(source) == [list(row) for row in rows]
    assert source.counts["line_breaks_in_cells"] == sum(c.count("\n") for row in rows for c in row)
    proof("P3", CSV_EXACT, 1)  # of every example that Hypothesis has thought of


TEXT_TYPES = [
    pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_string()),
]  # fmt: skip


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.lists(st.none() | st.text(st.characters(blacklist_categories=["Cs"])), max_size=30),
    kind=st.sampled_from(TEXT_TYPES),
    group=st.sampled_from([1, 3, 100]),
)
def test_text_of_every_arrow_type_comes_through_parquet(
    tmp_path: Path, proof: Proof, names: list[str | None], kind: pa.DataType, group: int
) -> None:
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    column = pa.array(names, text)
    table = pa.table({"name": column.dictionary_encode() if text != kind else column})
    path = tmp_path / "people.parquet"
    pq.write_table(table, path, row_group_size=group)
    source = open_source(
        fingerprint_files([path]), tmp_path / "staging", partition_rows=2, csv=CsvFormat()
    )
    found = pa.concat_tables([read_groups(p.groups) for p in cut(source.tables, 2)])
    assert found["name"].to_pylist() == names
    proof("P3", "Parquet files of nasty names in every text type: back exactly", 1)


# --- the option that would help -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "option"),
    [
        ("id,name\n1,Müller\n".encode("latin-1"), "encoding"),
        ("id,naïve\n1,M\n".encode("latin-1"), "encoding"),
        ("id,name\n1,M\n".encode("utf-16"), "encoding"),
        (b"a,b;c\n1,2;3\n", "delimiter"),
        (b'id,name\n1,"M\nK"\n', "multiline"),
        (b"id,name\n1\n", "on_bad_line"),
        (b"id,name\n1,M\rK\n", "on_bad_line"),
        (b'id,name\n1,"M"K\n', ""),
    ],
)
def test_error_carries_the_option_that_would_help(
    tmp_path: Path, content: bytes, option: str
) -> None:
    with pytest.raises(DataError) as caught:
        source_of(tmp_path, content, CsvFormat())
    assert caught.value.option == option
