"""The commands about versions, on two quickly trained ones."""

import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

import flows.train
from charrnn.errors import CharrnnError, ConfigError, DataError, InputMissingError, ModelError
from charrnn.model.version import aliases
from flows.train import train

Say = Callable[..., str]


@pytest.fixture(scope="module")
def trained(corpus_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/names.parquet, v0001 (good, champion) and v0002 (bad, candidate)."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "data").mkdir()
    shutil.copy(corpus_path, folder / "data/names.parquet")
    models, data = folder / "outputs/models", folder / "data/names.parquet"
    for epochs, promote in ((6, "gate"), (1, "never")):
        train(
            preset="seed", data=data, models=models, device="cpu", seeds=0, epochs=epochs,
            baselines=False, promote=promote,  # type: ignore[arg-type]
        )  # fmt: skip
    return folder


@pytest.fixture
def say(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Say:  # fmt: skip
    """Run ``python flows/train.py …`` in a copy of the folder; return what it prints."""
    shutil.copytree(trained, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")

    def command(*arguments: str) -> str:
        capsys.readouterr()
        flows.train.app(arguments)
        return capsys.readouterr().out

    return command


def models() -> dict[str, str]:
    return aliases(Path("outputs/models"))


def test_list_shows_versions_figures_and_aliases(say: Say) -> None:
    lines = say("list").splitlines()
    assert [line.split()[0] for line in lines if line.startswith("v0")] == ["v0001", "v0002"]
    assert lines[-2].split()[-1] == "champion"
    assert lines[-1].split()[-1] == "candidate"
    assert any(line.startswith("pretrained ") for line in lines)


def test_evaluate_measures_the_honest_folds_of_the_table(say: Say) -> None:
    found = say("evaluate", "champion")
    assert "honest test:" in found
    assert "honest validation:" in found
    assert "expected from the confidences alone" in found
    assert "trained on other data" not in found


def test_evaluate_on_a_labelled_table(say: Say) -> None:
    frame = pl.DataFrame(
        {"name": ["Katoro", "Burghof", None], "language": ["Alpha", "Beta", "Beta"]}
    )
    frame.write_parquet("truth.parquet")
    assert "truth.parquet: 2 names" in say("evaluate", "v0001", "--on", "truth.parquet")
    frame.with_columns(language=pl.lit("Klingon")).write_parquet("unknown.parquet")
    with pytest.raises(DataError, match="2 of 3 rows have 1 labels that the model"):
        say("evaluate", "v0001", "--on", "unknown.parquet")
    frame.drop("language").write_parquet("bare.parquet")
    with pytest.raises(DataError, match=r"column .language. not found"):
        say("evaluate", "v0001", "--on", "bare.parquet")
    with pytest.raises(InputMissingError):
        say("evaluate", "v0001", "--on", "nowhere.parquet")


def test_compare_pairs_two_versions_and_shows_flips(say: Say) -> None:
    found = say("compare", "champion", "candidate")
    assert "v0002 - v0001: -" in found
    assert "95 % interval" in found
    flips = next(line for line in found.splitlines() if line.startswith("flips"))
    changed, total = int(flips.split()[1]), int(flips.split()[3])
    assert 0 < changed <= total
    assert " → " in found
    assert "v0001 - v0001: +0.0000" in say("compare", "v0001", "v0001")


def test_promote_refuses_a_worse_version_unless_forced_and_rollback_undoes_it(say: Say) -> None:
    assert "not promoted: v0002 may not replace v0001: accuracy" in say("promote")
    assert models()["champion"] == "v0001"
    assert "v0002 (was v0001)" in say("promote", "--force")
    assert models()["champion"] == "v0002"
    assert "v0001 (was v0002)" in say("rollback")
    assert models()["champion"] == "v0001"
    with pytest.raises(ModelError, match="no earlier version"):
        say("rollback")


def test_rollback_keeps_out_of_other_folders(say: Say) -> None:
    with pytest.raises(ConfigError):
        say("rollback", "../champion")


@pytest.mark.parametrize("words", [("evaluate", "v0009"), ("compare", "v0001", "best")])
def test_unknown_version_is_refused_with_what_exists(say: Say, words: tuple[str, ...]) -> None:
    with pytest.raises(CharrnnError, match=r"there is no model .*existing: .*v0001, v0002"):
        say(*words)
