"""What a person reads of a run about the bytes of its input."""

import gzip
from pathlib import Path

import pytest
from cases.trial import TINY, run_command


def test_input_that_may_surprise_has_a_line_and_any_other_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/b.csv").write_text("id,name\n1,Katoro\n")
    code, out, _ = run_command("score", "data", *TINY)
    assert (code, "note  " in out) == (0, False)
    Path("data/a.csv").touch()
    Path("data/c.csv.gz").write_bytes(gzip.compress(b"id,name\n" + b"1,Katoro\n" * 100_000))
    code, out, _ = run_command("score", "data", *TINY)
    assert code == 0
    assert "note        1 input files without a byte of text, passed over" in out
    assert "note        1 input files unpacked to over 200 times their size" in out
