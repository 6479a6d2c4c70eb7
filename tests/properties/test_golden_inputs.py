"""The golden inputs: each silent loss that was ever measured, and every kind of bad input, through
the score command; what it must answer is written here. ``golden/inputs/make.py`` says what is in
each file."""

import re
from pathlib import Path

import polars as pl
import pytest
from commands import CANARY, Command, complaint
from recording import Proof

from charrnn.runs.manifest import read_run
from charrnn.runs.verify import verify_run

pytestmark = pytest.mark.usefixtures("users_folder")
INPUTS = Path(__file__).parents[1] / "golden/inputs"

# File → rows, and how many are unscored for which reason.
ACCEPTED = {
    "checksum.csv.zst": (60, {}),
    "delimiter_decided_by_rows.csv": (1, {}),
    "duplicate_names.csv": (40, {}),
    "formulas.csv": (5, {"unknown_script": 4}),
    "header_only.csv": (0, {}),
    "hidden_files": (60, {}),
    "mark.csv": (60, {}),
    "mark_quoted_header.csv": (1, {}),
    "name_of_1_mb.csv.gz": (2, {"too_long": 1}),
    "names_dictionary.parquet": (3, {"null_name": 1}),
    "names_large.parquet": (2, {"null_name": 1}),
    "names_view.parquet": (2, {"null_name": 1}),
    "no_final_line_end.csv": (60, {}),
    "no_rows.parquet": (0, {}),
    "null_empty_blank.csv": (4, {"empty_name": 3, "null_name": 1}),
    "odd_scripts.csv": (5, {"unknown_script": 3}),
    "plain.csv": (60, {}),
    "s01_stray_quotes_pair_up.csv": (60, {}),
    "s06_cut_off_in_the_last_cell.csv": (60, {}),
    "s09_crlf.csv": (60, {}),
    "s09_mixed_line_ends.csv": (60, {}),
    "s11_blank_lines.csv": (58, {}),
    "s11_blank_lines_of_one_column.csv": (3, {"null_name": 2}),
    "s12_numbers_and_truths_as_names.csv": (4, {"unknown_script": 1}),
    "semicolons.csv": (60, {}),
    "tabs.csv": (60, {}),
    "two_members.csv.gz": (120, {}),
    "whole.csv.gz": (60, {}),
    "whole.csv.zst": (60, {}),
    "whole.parquet": (60, {}),
}

# File → what the message says of it. All end with exit code 65 and leave nothing behind.
REFUSED = {
    "blank_header.csv": "line 1 is empty; expected the names of the columns",
    "delimiter_ambiguous.csv": (
        "line 1 may be delimited by ',' or by ';', and the lines below fit both; set the delimiter"
    ),
    "encrypted.parquet": "is encrypted; decrypt it first",
    "encrypted_below_a_plain_footer.parquet": "is damaged or encrypted",
    "gzip_called_plain.csv": "is compressed (gzip); rename it to gzip_called_plain.csv.gz",
    "line_over_8_mib.csv.gz": (
        "line 3 begins a record longer than 8,388,608 bytes; is a quote not closed, or "
        "is this not a CSV file?"
    ),
    "names_are_bytes.parquet": (
        "column 'name' is binary, expected text (string); cast it, or choose another column"
    ),
    "names_are_dates.parquet": (
        "column 'name' is date32[day], expected text (string); cast it, or choose another column"
    ),
    "names_are_lists.parquet": (
        "column 'name' is list<element: string>, expected text (string); cast it, or "
        "choose another column"
    ),
    "names_are_numbers.parquet": (
        "column 'name' is int64, expected text (string); cast it, or choose another column"
    ),
    "names_are_structs.parquet": (
        "column 'name' is struct<first: string>, expected text (string); cast it, or "
        "choose another column"
    ),
    "names_are_truths.parquet": (
        "column 'name' is bool, expected text (string); cast it, or choose another column"
    ),
    "not_gzip.csv.gz": "is not compressed as its name says; rename it to not_gzip.csv",
    "not_zstd.csv.zst": "is not compressed as its name says; rename it to not_zstd.csv",
    "repeated_column.parquet": "column 'name' appears 2 times; rename all but one",
    "s02_stray_quotes_four.csv": "line 22 has text after a closing quote",
    "s02_stray_quotes_odd.csv": (
        "line 12 has a line break inside a quoted cell; close the quote, or accept such cells"
    ),
    "s02_stray_quotes_open_cells.csv": "line 42 has text after a closing quote",
    "s03_quoted_cell_of_many_lines.csv": (
        "line 12 has a line break inside a quoted cell; close the quote, or accept such cells"
    ),
    "s04_doubled_quote_closes.csv": "line 42 has text after a closing quote",
    "s04_doubled_quote_opens.csv": "line 12 has text after a closing quote",
    "s04_text_behind_quote.csv": "line 12 has text after a closing quote",
    "s05_unquoted_comma.csv": (
        "line 12 has 4 fields, the header 3 (bad rows: ragged_row 1); quote cells that "
        "contain a delimiter, or reject bad lines"
    ),
    "s06_cut_off_in_a_quoted_cell.csv": "line 62 has a quote that is never closed",
    "s06_cut_off_in_a_row.csv": (
        "line 61 has 2 fields, the header 3 (bad rows: ragged_row 1); quote cells that "
        "contain a delimiter, or reject bad lines"
    ),
    "s06_short_row.csv": (
        "line 12 has 2 fields, the header 3 (bad rows: ragged_row 1); quote cells that "
        "contain a delimiter, or reject bad lines"
    ),
    "s08_utf16_be_without_mark.csv": (
        "looks like UTF-16-BE, not UTF-8; set the encoding to utf-16-be, or convert it: iconv "
        "-f UTF-16BE -t UTF-8 s08_utf16_be_without_mark.csv"
    ),
    "s08_utf16_le_without_mark.csv": (
        "looks like UTF-16-LE, not UTF-8; set the encoding to utf-16-le, or convert it: iconv "
        "-f UTF-16LE -t UTF-8 s08_utf16_le_without_mark.csv"
    ),
    "s08_utf16_with_mark.csv": (
        "looks like UTF-16, not UTF-8; set the encoding to utf-16, or convert it: iconv -f "
        "UTF-16 -t UTF-8 s08_utf16_with_mark.csv"
    ),
    "s08_utf32.csv": (
        "looks like UTF-32, not UTF-8; set the encoding to utf-32, or convert it: iconv -f "
        "UTF-32 -t UTF-8 s08_utf32.csv"
    ),
    "s09_cr_between_two_rows.csv": (
        "line 12 has a carriage return without line feed (bad rows: bare_return 1); quote "
        "the cell, or reject bad lines"
    ),
    "s09_cr_only.csv": "ends its lines with CR alone; convert it: tr '\\r' '\\n'",
    "s10_nul_in_a_cell.csv": "line 12 has a NUL byte; is it damaged, or UTF-16?",
    "s10_nul_tail.csv": "line 62 has a NUL byte; is it damaged, or UTF-16?",
    "s13_empty_column_name.csv": "line 1 leaves 2 of 3 columns unnamed",
    "s13_repeated_column.csv": "line 1 repeats 'name'; every column needs a unique name",
    "s14_latin1_in_the_header.csv": (
        "line 1, byte 12 is not UTF-8; set the encoding, or convert it: iconv -f LATIN1 -t "
        "UTF-8 s14_latin1_in_the_header.csv"
    ),
    "s15_latin1_in_a_cell.csv": (
        "line 2, byte 16 is not UTF-8 (bad rows: invalid_utf8 1); set the encoding, "
        "such as latin-1, or convert it: iconv -f LATIN1 -t UTF-8 "
        "s15_latin1_in_a_cell.csv, or reject bad lines"
    ),
    "s15_overlong_in_a_cell.csv": (
        "line 62, byte 1,486 is not UTF-8 (bad rows: invalid_utf8 1); set the encoding, "
        "such as latin-1, or convert it: iconv -f LATIN1 -t UTF-8 "
        "s15_overlong_in_a_cell.csv, or reject bad lines"
    ),
    "s15_surrogate_in_a_cell.csv": (
        "line 62, byte 1,486 is not UTF-8 (bad rows: invalid_utf8 1); set the encoding, "
        "such as latin-1, or convert it: iconv -f LATIN1 -t UTF-8 "
        "s15_surrogate_in_a_cell.csv, or reject bad lines"
    ),
    "s15_utf8_cut_in_a_character.csv": (
        "line 2, byte 11 is not UTF-8 (bad rows: invalid_utf8 1); set the encoding, "
        "such as latin-1, or convert it: iconv -f LATIN1 -t UTF-8 "
        "s15_utf8_cut_in_a_character.csv, or reject bad lines"
    ),
    "s16_bit_flipped.parquet": "is damaged between rows 0 and 60; restore it and run this again",
    "s17_invalid_utf8.parquet": "is damaged between rows 0 and 60; restore it and run this again",
    "s18_column_missing": (
        "/a.parquet and /s18_column_missing/b.parquet have different columns: 'name' is "
        "string and absent; give them one by one"
    ),
    "s18_other_type": (
        "/a.parquet and /s18_other_type/b.parquet have different columns: 'name' is string "
        "and large_string; give them one by one"
    ),
    "s20_quote_never_closed.csv": (
        "line 61 has a line break inside a quoted cell; close the quote, or accept such cells"
    ),
    "s21_column_that_scoring_adds.csv": (
        "the input already has column 'language', which scoring adds; set a prefix for "
        "the added columns, such as charrnn_"
    ),
    "trailing_garbage.csv.gz": "is truncated or damaged; copy it again",
    "truncated.csv.gz": "is truncated or damaged; copy it again",
    "truncated.csv.zst": "is truncated or damaged; copy it again",
    "truncated.parquet": "is not a readable Parquet file; is it complete?",
    "truncated_by_a_byte.csv.zst": "is truncated or damaged; copy it again",
    "truncated_by_a_byte.parquet": "is not a readable Parquet file; is it complete?",
    "without_its_end.csv.gz": "is truncated or damaged; copy it again",
    "wrong_case_of_the_column.csv": (
        "column 'name' not found; columns: id, Name; did you mean 'Name'?"
    ),
    "wrong_checksum.csv.gz": "is truncated or damaged; copy it again",
    "wrong_checksum.csv.zst": "is truncated or damaged; copy it again",
    "zero_bytes.csv": "is empty; expected a header line with a name column",
}


def test_every_golden_input_has_its_answer() -> None:
    present = {p.name for p in INPUTS.iterdir() if p.suffix not in (".py", ".md")} - {"__pycache__"}
    assert present == {*ACCEPTED, *REFUSED}
    assert not set(ACCEPTED) & set(REFUSED)


@pytest.mark.parametrize("name", ACCEPTED)
def test_sound_input_gives_every_row(command: Command, name: str, proof: Proof) -> None:
    code, _, error = command(INPUTS / name, "--model", "v0001", "--workers", "1", "-o", "scored")
    assert code == 0, error
    assert CANARY not in error
    rows, reasons = ACCEPTED[name]
    manifest = verify_run(Path("scored/latest"))
    assert manifest.rows == rows
    assert manifest.reasons == reasons
    proof("P2, P3", f"{_kind(name)}, sound: every row, proven by verify", 1)


@pytest.mark.parametrize("name", REFUSED)
def test_unsound_input_is_refused_and_leaves_nothing(
    command: Command, name: str, proof: Proof
) -> None:
    code, out, error = command(INPUTS / name, "--model", "v0001", "--workers", "1", "-o", "scored")
    message = complaint(code, 65, error)
    assert REFUSED[name] in message.replace(f"{INPUTS}", "")
    assert CANARY not in out
    assert not Path("scored").exists()
    proof("P3, P9", f"{_kind(name)}, unsound: refused by a line without a cell, nothing written", 1)


def _kind(name: str) -> str:
    """What the table of guarantees calls an input; the silent losses once measured have numbers."""
    return "golden inputs S1-S21" if re.match(r"s\d\d_", name) else "other golden inputs"


def test_cells_come_out_as_they_went_in(command: Command) -> None:
    """Formulas, numbers and odd scripts are text like any other in a Parquet result."""
    for name, column in {
        "formulas.csv": ["=1+1", "+49", "-x", "@SUM(A1)", "\t=1"],
        "s12_numbers_and_truths_as_names.csv": ["123", "true", "NA", "null"],
        "odd_scripts.csv": ["Катя", "王", "😀", "\u202eabc", "e\u0301"],
        "s01_stray_quotes_pair_up.csv": [f"{CANARY}{i}" if i not in (10, 40) else CANARY
                                         for i in range(60)],
    }.items():  # fmt: skip
        command(INPUTS / name, "--model", "v0001", "--workers", "1", "-o", "scored")
        frame = pl.read_parquet("scored/latest/rows")
        assert frame["name"].to_list() == column, name


def test_manifest_tells_what_could_not_be_proven(command: Command) -> None:
    """A file cut off inside its last cell, or packed without a checksum, cannot be told from a
    whole one; the manifest says that it lacks what would prove it."""
    for name, key in {
        "s06_cut_off_in_the_last_cell.csv": "files_without_final_line_end",
        "whole.csv.zst": "files_without_checksum",
    }.items():
        for source, expected in {name: 1, "plain.csv": 0, "checksum.csv.zst": 0}.items():
            command(INPUTS / source, "--model", "v0001", "--workers", "1", "-o", key)
            counts = read_run(Path(key, "latest")).input_counts
            assert counts[key] == expected, source
