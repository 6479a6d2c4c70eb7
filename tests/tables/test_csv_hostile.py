"""CSV files that are made to cost: time grows with the bytes alone, memory stays bounded."""

import time
from pathlib import Path

import pytest
from costs import in_own_process, peak_memory
from hostile_csv import CASES
from recording import Proof

from charrnn.errors import DataError
from charrnn.tables import csv_staging
from charrnn.tables.csv_format import CsvFormat
from charrnn.tables.csv_staging import stage_csv

_MAX_BYTES = 600 * 2**20  # of memory
_MAX_SECONDS_PER_MB = 2.0  # of processor time; generous, as machines are busy


def measured(path: Path, form: CsvFormat) -> tuple[float, int, str]:
    """Stage a file; return processor seconds, the largest memory in bytes and the refusal."""
    start = time.process_time()
    try:
        stage_csv(path, path.with_suffix(".arrows"), csv=form)
        message = ""
    except DataError as error:
        message = str(error)
    return time.process_time() - start, peak_memory(), message


@pytest.mark.parametrize("on_bad_line", ["refuse", pytest.param("reject", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_cost_of_a_hostile_file_is_bounded(
    tmp_path: Path, name: str, on_bad_line: str, proof: Proof
) -> None:
    size = (4 if on_bad_line == "refuse" else 12) * 2**20
    path = CASES[name](tmp_path / "people", size)
    form = CsvFormat(on_bad_line=on_bad_line)  # type: ignore[arg-type]
    seconds, peak, _ = in_own_process(measured, path, form)
    assert seconds < _MAX_SECONDS_PER_MB * size / 2**20
    assert peak < _MAX_BYTES
    proof("P11", "CSV files made to cost: bounded time and memory", 1)


@pytest.mark.parametrize("kind", ["gzip", "bzip2", "zstd"])
def test_file_that_unpacks_to_too_much_is_refused_and_an_honest_one_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, proof: Proof
) -> None:
    path = CASES[f"{kind} that unpacks a thousandfold"](tmp_path / "people", 8 * 2**20)
    staged = stage_csv(path, tmp_path / "staged.arrows", csv=CsvFormat())
    assert staged.counts["files_unpacked_over_200_times"] == 1
    monkeypatch.setattr(csv_staging, "_MAX_UNPACKED_BYTES", 6 * 2**20)
    with pytest.raises(DataError, match="200 times its size"):
        stage_csv(path, tmp_path / "staged.arrows", csv=CsvFormat())
    assert not (tmp_path / "staged.arrows").exists()
    proof("P11", "CSV files that unpack to over 200 times their size: refused or counted", 2)
