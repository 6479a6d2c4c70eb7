"""Ingest, train, promote and score as one flow, on an invented corpus."""

from pathlib import Path

import polars as pl
import pytest

from charrnn.model.version import aliases
from flows.pipeline import pipeline


def test_pipeline_goes_from_language_files_to_scored_names(
    language_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    pl.DataFrame({"id": [1, 2, 3], "name": ["Canarystein", None, "Burghof"]}).write_parquet(
        "p.parquet"
    )
    published = Path(
        pipeline(
            names="p.parquet", sources=[str(language_folder)], preset="seed", epochs=2, device="cpu"
        )
    )
    frame = pl.read_parquet(published / "part-*.parquet")
    assert frame["id"].to_list() == [1, 2, 3]
    assert frame["status"].cast(pl.String).to_list() == ["scored", "unscored", "scored"]
    assert set(frame["language"].cast(pl.String).drop_nulls()) <= {"Alpha", "Beta", "Gamma"}
    assert aliases(Path("outputs/models")) == {"candidate": "v0001", "champion": "v0001"}
    printed = capsys.readouterr()
    assert "Canarystein" not in printed.out + printed.err

    again = pipeline(
        names="p.parquet", sources=[str(language_folder)], preset="seed", epochs=2, device="cpu"
    )
    assert aliases(Path("outputs/models"))["candidate"] == "v0002"
    assert Path(again).is_dir()
