"""Write the golden inputs beside this file; run it again only to add one.

    python tests/golden/inputs/make.py

The files are committed, so that what is tested does not change with the libraries that wrote them;
a file that exists is left alone. Every refused file holds the canary, to show that no message
repeats a cell.
"""

import base64
import gzip
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as encryption

HERE = Path(__file__).parent
CANARY = "Zanzibarova"
ROWS = [f"{i},{CANARY}{i},note {i}\n" for i in range(60)]
HEADER = "id,name,note\n"
PLAIN = (HEADER + "".join(ROWS)).encode()
ACCENTS = f"id,name,note\n1,Müllér,a\n2,{CANARY},b\n"


def with_rows(changes: dict[int, str]) -> bytes:
    """The plain table with some of its rows written differently."""
    rows = [changes.get(i, row) for i, row in enumerate(ROWS)]
    return (HEADER + "".join(rows)).encode()


def zstd(content: bytes) -> bytes:
    """A zstd file without a checksum, as Arrow writes it."""
    return bytes(pa.Codec("zstd").compress(content, asbytes=True))


def zstd_checked(content: bytes) -> bytes:
    """A zstd file with a checksum, as the command writes it."""
    command = ["zstd", "-q", "-c", "--check"]
    return subprocess.run(command, input=content, capture_output=True, check=True).stdout


def gzip_of(content: bytes) -> bytes:
    return gzip.compress(content, 9, mtime=0)


CSV: dict[str, bytes] = {
    # S1, S2, S4: quotes that pair up over rows nobody looks at
    "s01_stray_quotes_pair_up.csv": with_rows(
        {10: f'10,{CANARY},5" disk\n', 40: f'40,{CANARY},5" disk\n'}
    ),
    "s02_stray_quotes_open_cells.csv": with_rows(
        {10: f'10,{CANARY},"5 disk\n', 40: f'40,{CANARY},"5 disk\n'}
    ),
    "s02_stray_quotes_odd.csv": with_rows({10: f'10,{CANARY},"5 disk\n'}),
    "s02_stray_quotes_four.csv": with_rows(
        {i: f'{i},{CANARY},"5 disk\n' for i in (10, 20, 30, 40)}
    ),
    "s03_quoted_cell_of_many_lines.csv": with_rows(
        {10: f'10,{CANARY},"ok\n', 40: f'40,{CANARY},ok"\n'}
    ),
    "s04_doubled_quote_opens.csv": with_rows({10: f'10,{CANARY},""n5"\n', 40: '40,x,""n5"\n'}),
    "s04_doubled_quote_closes.csv": with_rows({10: f'10,{CANARY},"n5""\n', 40: '40,x,"n5""\n'}),
    "s04_text_behind_quote.csv": with_rows({10: f'10,"{CANARY}"x,a\n'}),
    # S5, S6: rows of another length
    "s05_unquoted_comma.csv": with_rows({10: f"10,Smith, {CANARY},a\n"}),
    "s06_short_row.csv": with_rows({10: f"10,{CANARY}\n"}),
    "s06_cut_off_in_a_row.csv": PLAIN[: PLAIN.rindex(b",")],
    "s06_cut_off_in_the_last_cell.csv": PLAIN[:-4],
    "s06_cut_off_in_a_quoted_cell.csv": PLAIN + b'61,"Zo',
    # S8-S10: other bytes than UTF-8 text
    "s08_utf16_with_mark.csv": ACCENTS.encode("utf-16"),
    "s08_utf16_le_without_mark.csv": ACCENTS.encode("utf-16-le"),
    "s08_utf16_be_without_mark.csv": ACCENTS.encode("utf-16-be"),
    "s08_utf32.csv": ACCENTS.encode("utf-32"),
    "s09_cr_only.csv": PLAIN.replace(b"\n", b"\r"),
    "s09_cr_between_two_rows.csv": with_rows({10: f"10,{CANARY},a\r"}),
    "s09_crlf.csv": PLAIN.replace(b"\n", b"\r\n"),
    "s09_mixed_line_ends.csv": with_rows({10: f"10,{CANARY},a\r\n"}),
    "s10_nul_tail.csv": PLAIN + bytes(64),
    "s10_nul_in_a_cell.csv": with_rows({10: f"10,{CANARY}\0,a\n"}),
    # S11, S12: blank lines, and text that looks like something else
    "s11_blank_lines.csv": with_rows({10: "\n\n", 40: "\n"}),
    "s11_blank_lines_of_one_column.csv": f"name\n\n{CANARY}\n\n".encode(),
    "s12_numbers_and_truths_as_names.csv": b"id,name\n007,123\n008,true\n009,NA\n010,null\n",
    "s13_repeated_column.csv": f"name,name\n{CANARY},b\n".encode(),
    "s13_empty_column_name.csv": f"name,,\n{CANARY},b,c\n".encode(),
    # S14, S15: bytes that are not UTF-8
    "s14_latin1_in_the_header.csv": f"id,name,straße\n1,{CANARY},b\n".encode("latin-1"),
    "s15_latin1_in_a_cell.csv": ACCENTS.encode("latin-1"),
    "s15_surrogate_in_a_cell.csv": with_rows({}) + b"61,\xed\xa0\x80,a\n",
    "s15_overlong_in_a_cell.csv": with_rows({}) + b"61,\xc0\xaf,a\n",
    "s15_utf8_cut_in_a_character.csv": b"id,name\n1,M\xc3\n",
    # S20, S21
    "s20_quote_never_closed.csv": with_rows({59: f'59,"{CANARY},a\n'}),
    "s21_column_that_scoring_adds.csv": f"id,name,language\n1,{CANARY},x\n".encode(),
    # the table of bad input in section 4, and what is fine
    "plain.csv": PLAIN,
    "mark.csv": b"\xef\xbb\xbf" + PLAIN,
    "mark_quoted_header.csv": b'\xef\xbb\xbf"id","name"\n1,Katoro\n',
    "no_final_line_end.csv": PLAIN[:-1],
    "semicolons.csv": PLAIN.replace(b",", b";"),
    "tabs.csv": PLAIN.replace(b",", b"\t"),
    "delimiter_ambiguous.csv": f"id,name;note\n1,{CANARY};a\n".encode(),
    "delimiter_decided_by_rows.csv": f'id;name;"note, free";x, y\n1;{CANARY};a;b\n'.encode(),
    "wrong_case_of_the_column.csv": f"id,Name\n1,{CANARY}\n".encode(),
    "header_only.csv": b"id,name\n",
    "zero_bytes.csv": b"",
    "blank_header.csv": f"\nid,name\n1,{CANARY}\n".encode(),
    "formulas.csv": b'id,name\n1,=1+1\n2,+49\n3,-x\n4,@SUM(A1)\n5,"\t=1"\n',
    "duplicate_names.csv": b"id,name\n" + b"1,Katoro\n" * 40,
    "odd_scripts.csv": "id,name\n1,Катя\n2,王\n3,😀\n4,‮abc\n5,e\u0301\n".encode(),
    "null_empty_blank.csv": b'id,name\n1,\n2,""\n3," "\n4,"\xe2\x80\x8b"\n',
}
PACKED: dict[str, bytes] = {
    "whole.csv.gz": gzip_of(PLAIN),
    "two_members.csv.gz": gzip_of(PLAIN) + gzip_of("".join(ROWS).encode()),
    "truncated.csv.gz": gzip_of(PLAIN)[:-12],
    "without_its_end.csv.gz": gzip_of(PLAIN)[:-8],
    "wrong_checksum.csv.gz": gzip_of(PLAIN)[:-8]
    + (zlib.crc32(PLAIN) ^ 1).to_bytes(4, "little")
    + len(PLAIN).to_bytes(4, "little"),
    "trailing_garbage.csv.gz": gzip_of(PLAIN) + b"garbage",
    "not_gzip.csv.gz": PLAIN,
    "gzip_called_plain.csv": gzip_of(PLAIN),
    "name_of_1_mb.csv.gz": gzip_of(b"id,name\n1," + b"k" * 2**20 + b"\n2,Katoro\n"),
    "line_over_8_mib.csv.gz": gzip_of(b"id,name\n1,Katoro\n2," + CANARY.encode() * 800_000 + b"\n"),
    "whole.csv.zst": zstd(PLAIN),
    "truncated.csv.zst": zstd(PLAIN)[:-5],
    "truncated_by_a_byte.csv.zst": zstd(PLAIN)[:-1],
    "not_zstd.csv.zst": PLAIN,
    "checksum.csv.zst": zstd_checked(PLAIN),
    "wrong_checksum.csv.zst": zstd_checked(PLAIN)[:-1] + b"\0",
}
NAMES = pa.table({"id": range(60), "name": [f"{CANARY}{i}" for i in range(60)]})


def parquet(
    table: pa.Table, change: Callable[[bytearray], object] | None = None, **options: object
) -> Callable[[Path], None]:
    """A writer of ``table``, its bytes changed afterwards."""

    def write(path: Path) -> None:
        pq.write_table(table, path, **{"compression": "none", "use_dictionary": False, **options})
        if change:
            content = bytearray(path.read_bytes())
            change(content)
            path.write_bytes(content)

    return write


def flip(content: bytearray) -> None:
    """Change one bit of a name."""
    content[content.index(CANARY.encode()) + 3] ^= 1


def invalid(content: bytearray) -> None:
    at = content.index(CANARY.encode())
    content[at : at + 2] = b"\xff\xff"


def halve(content: bytearray) -> None:
    del content[len(content) // 2 :]


def shorten(content: bytearray) -> None:
    del content[-1:]


class _Keys(encryption.KmsClient):
    """A key service that keeps its keys in the file."""

    def wrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64encode(key)


def encrypted(*, plaintext_footer: bool) -> Callable[[Path], None]:
    """A writer of the names, encrypted, with a footer that says so or hides all."""

    def write(path: Path) -> None:
        properties = encryption.CryptoFactory(lambda _: _Keys()).file_encryption_properties(
            encryption.KmsConnectionConfig(),
            encryption.EncryptionConfiguration(
                footer_key="footer",
                column_keys={"names": ["name"]},
                plaintext_footer=plaintext_footer,
            ),
        )
        with pq.ParquetWriter(path, NAMES.schema, encryption_properties=properties) as writer:
            writer.write_table(NAMES)

    return write


def swapped(name: str, kind: pa.DataType, values: list[object]) -> pa.Table:
    return pa.table({"id": range(len(values)), name: pa.array(values, kind)})


PARQUET: dict[str, Callable[[Path], None]] = {
    "whole.parquet": parquet(NAMES, write_page_checksum=True),
    "no_rows.parquet": parquet(NAMES[:0]),
    "s16_bit_flipped.parquet": parquet(
        NAMES, flip, write_page_checksum=True, write_statistics=False
    ),
    "s17_invalid_utf8.parquet": parquet(NAMES, invalid, write_statistics=False),
    "truncated.parquet": parquet(NAMES, halve),
    "truncated_by_a_byte.parquet": parquet(NAMES, shorten),
    "encrypted.parquet": encrypted(plaintext_footer=False),
    "encrypted_below_a_plain_footer.parquet": encrypted(plaintext_footer=True),
    "repeated_column.parquet": parquet(pa.table([NAMES["name"]] * 2, names=["name", "name"])),
    "names_are_numbers.parquet": parquet(swapped("name", pa.int64(), [1, 2])),
    "names_are_truths.parquet": parquet(swapped("name", pa.bool_(), [True, False])),
    "names_are_dates.parquet": parquet(swapped("name", pa.date32(), [1, 2])),
    "names_are_bytes.parquet": parquet(swapped("name", pa.binary(), [b"a", b"b"])),
    "names_are_lists.parquet": parquet(swapped("name", pa.list_(pa.string()), [["a"], ["b"]])),
    "names_are_structs.parquet": parquet(
        swapped("name", pa.struct([("first", pa.string())]), [{"first": "a"}])
    ),
    "names_large.parquet": parquet(swapped("name", pa.large_string(), ["Katoro", None])),
    "names_view.parquet": parquet(swapped("name", pa.string_view(), ["Katoro", None])),
    "names_dictionary.parquet": parquet(
        swapped("name", pa.dictionary(pa.int8(), pa.string()), ["Katoro", None, "Katoro"])
    ),
    # S18: a folder whose files differ
    "s18_column_missing/a.parquet": parquet(NAMES),
    "s18_column_missing/b.parquet": parquet(NAMES.select(["id"])),
    "s18_other_type/a.parquet": parquet(NAMES),
    "s18_other_type/b.parquet": parquet(swapped("name", pa.large_string(), ["Katoro"])),
    "hidden_files/a.parquet": parquet(NAMES),
    "hidden_files/_temporary.parquet": parquet(NAMES, halve),
}


def main() -> None:
    for name, content in {**CSV, **PACKED}.items():
        if not (HERE / name).exists():
            (HERE / name).write_bytes(content)
    for name, write in PARQUET.items():
        (HERE / name).parent.mkdir(exist_ok=True)
        if not (HERE / name).exists():
            write(HERE / name)


if __name__ == "__main__":
    main()
