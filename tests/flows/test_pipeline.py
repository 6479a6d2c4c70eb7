"""Ingest, train, promote and score as one flow, on an invented corpus."""

from pathlib import Path

import polars as pl
import pytest

from charrnn.errors import ModelError
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
            names="p.parquet", sources=[str(language_folder)], preset="seed", epochs=7, device="cpu"
        )
    )
    frame = pl.read_parquet(published / "rows")
    assert frame["id"].to_list() == [1, 2, 3]
    assert frame["status"].cast(pl.String).to_list() == ["scored", "unscored", "scored"]
    assert set(frame["language"].cast(pl.String).drop_nulls()) <= {"Alpha", "Beta", "Gamma"}
    assert aliases(Path("outputs/models")) == {"candidate": "v0001", "champion": "v0001"}
    printed = capsys.readouterr()
    assert "Canarystein" not in printed.out + printed.err

    again = pipeline(
        names="p.parquet", sources=[str(language_folder)], preset="seed", epochs=7, device="cpu"
    )
    assert aliases(Path("outputs/models"))["candidate"] == "v0002"
    assert Path(again).is_dir()


def test_pipeline_does_not_score_by_a_model_that_cannot_be_believed(
    language_folder: Path, working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("few").mkdir()
    for path in language_folder.iterdir():
        few = path.read_text().splitlines()[:60]
        Path("few", path.name).write_text("\n".join(few))
    Path("p.csv").write_text("name\nKatoro\n")
    with pytest.raises(ModelError, match="there is no champion to score with"):
        pipeline(names="p.csv", sources=["few"], preset="seed", epochs=1, device="cpu")
    assert "0 labels have 20 test names or more" in capsys.readouterr().out
    assert aliases(Path("outputs/models")) == {"candidate": "v0001"}
