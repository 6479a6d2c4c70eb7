"""Champion and challenger: one pass says what scoring twice would."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from calibrations import calibration_of
from commands import Command, complaint
from flat import challenge, files_of, read_manifest, score
from model_facts import facts_of
from pages import checked

from charrnn.errors import BusyError, ConfigError, DataError
from charrnn.files import hold
from charrnn.model.network import CharRNN
from charrnn.model.version import ModelVersion, save_version
from charrnn.runs.comparison import CHANGES, no_label
from charrnn.runs.verify import verify_run
from charrnn.tables.row_groups import RowGroup
from charrnn.training.presets import PRESETS

NO_LANGUAGE = no_label("language")
NAMES = ["Katoro", "burgmann", None, "", "Катя", "Katoro", "  ", "é" * 300, "12345", "-",
         "Aroevnko", "O’Kashi", "Hofstein", "Mitashi", "Nkoaro", "Acht"]  # fmt: skip


pytestmark = pytest.mark.usefixtures("working_folder")


@pytest.fixture(scope="module")
def two(tiny_version: ModelVersion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with v0001, and v0002 that knows other labels and answers otherwise."""
    root = tmp_path_factory.mktemp("two")
    save_version(root, tiny_version)
    draw = torch.Generator().manual_seed(0)
    weights = {
        name: tensor + 0.5 * tensor.std() * torch.randn(tensor.shape, generator=draw)
        for name, tensor in tiny_version.weights.items()
    }
    labels = ("Alpha", "Beta", "Epsilon", "Gamma")
    facts = facts_of(labels)
    save_version(
        root, dataclasses.replace(tiny_version, weights=weights, labels=labels, facts=facts)
    )
    return root


@pytest.fixture
def source(tmp_path: Path) -> str:
    """Eighty rows in row groups of eight, the names in a column with another name."""
    draw = np.random.default_rng(5)
    names = [NAMES[i] for i in draw.integers(0, len(NAMES), 80)]
    pq.write_table(
        pa.table({"id": range(80), "surname": pa.array(names, pa.string())}),
        "people.parquet",
        row_group_size=8,
    )
    return "people.parquet"


@pytest.fixture
def compare(two: Path) -> Callable[..., Path]:
    def run(source: str, **options: Any) -> Path:
        chosen = {"model": "v0001", "challenger": "v0002", "models": str(two), "device": "cpu",
                  "workers": 2, "name_column": "surname", "partition_rows": 8}  # fmt: skip
        return Path(challenge(source, **{**chosen, **options}))

    return run


def scored_twice(source: str, models: Path) -> pl.DataFrame:
    """Both versions' answers, from two scoring runs of their own, row by row."""
    frames = []
    for model in ("v0001", "v0002"):
        run = score(source, model=model, models=str(models), name_column="surname", device="cpu",
                    workers=1, output=f"runs/{model}")  # fmt: skip
        frame = pl.read_parquet(f"{run}/rows").select(
            pl.col("language").cast(pl.String).alias(f"language_{model}"),
            pl.col("confidence").alias(f"confidence_{model}"),
        )
        frames.append(frame)
    return pl.concat(frames, how="horizontal").with_row_index("row")


def shown(label: str | None) -> str:
    return NO_LANGUAGE if label is None else label


@pytest.mark.parametrize("sample", [0, 25])
def test_comparison_says_what_scoring_twice_says(
    source: str, two: Path, compare: Callable[..., Path], sample: int
) -> None:
    twice = scored_twice(source, two)
    if sample:
        twice = twice.gather_every(4)  # 80 rows, about 25 of them: every fourth
    run = compare(source, sample=sample, flips=True)
    manifest = read_manifest(run)
    pairs = Counter(
        (shown(a), shown(b))
        for a, b in twice.select("language_v0001", "language_v0002").iter_rows()
    )
    flips = {pair: n for pair, n in pairs.items() if pair[0] != pair[1]}
    assert len(flips) >= 3, "the two models must differ for this test to mean anything"
    assert {(a, b): n for a, b, n in manifest["flips"]} == flips
    assert [n for _, _, n in manifest["flips"]] == sorted(flips.values(), reverse=True)
    assert manifest["rows"] == 80
    assert manifest["compared"] == len(twice) == pairs.total()
    assert manifest["changed"] == sum(flips.values())
    both = twice.drop_nulls(["language_v0001", "language_v0002"])
    agreed = both.filter(pl.col("language_v0001") == pl.col("language_v0002"))
    assert 0 < len(agreed) < len(both) < len(twice)
    assert manifest["answered_by_both"] == len(both)
    assert manifest["agreement"] == len(agreed) / len(both)
    for i, model in enumerate(("v0001", "v0002")):
        assert manifest["mean_confidence"][i] == pytest.approx(both[f"confidence_{model}"].mean())
        counted = Counter(map(shown, twice[f"language_{model}"]))
        assert {row[0]: row[i + 1] for row in manifest["class_rows"] if row[i + 1]} == counted
    change = (both["confidence_v0002"].cast(pl.Float64) - both["confidence_v0001"]).to_numpy()
    expected = np.histogram(change, CHANGES)[0].tolist()
    assert manifest["confidence_changes"]["rows"] == expected


@pytest.mark.parametrize("sample", [0, 25])
def test_flips_are_the_rows_that_change_without_their_names(
    source: str, two: Path, compare: Callable[..., Path], sample: int
) -> None:
    twice = scored_twice(source, two)
    if sample:
        twice = twice.gather_every(4)
    changed = twice.filter(pl.col("language_v0001").ne_missing(pl.col("language_v0002")))
    run = compare(source, sample=sample, flips=True)
    found = pl.read_parquet(f"{run}/rows")
    assert found.columns == ["row", "champion", "champion_confidence", "challenger",
                             "challenger_confidence"]  # fmt: skip
    assert found["row"].to_list() == changed["row"].to_list()
    for side, model in (("champion", "v0001"), ("challenger", "v0002")):
        assert found[side].cast(pl.String).to_list() == changed[f"language_{model}"].to_list()
        np.testing.assert_allclose(
            found[f"{side}_confidence"].fill_null(-1).to_numpy(),
            changed[f"confidence_{model}"].fill_null(-1).to_numpy(),
            atol=1e-5,
        )
    assert len(read_manifest(run)["parts"]) == 10


def test_comparison_is_published_whole_and_touches_no_prediction(
    source: str, two: Path, compare: Callable[..., Path]
) -> None:
    before = Path(score(source, model="v0001", models=str(two), name_column="surname"))
    seen = {path: path.read_bytes() for path in files_of(before)}
    run = compare(source)
    assert run.parent == Path("outputs/comparisons/people/runs")
    assert sorted(p.name for p in files_of(run)) == [
        "SHA256SUMS", "manifest.json", "report.html", "report.md",
    ]  # fmt: skip
    assert (run.parents[1] / "latest").resolve() == run.resolve()
    assert not list(run.parents[1].glob(".staging-*"))
    assert {path: path.read_bytes() for path in files_of(before)} == seen
    assert (before.parents[1] / "latest").resolve() == before.resolve()
    assert verify_run(run).kind == "comparison"
    (run / "report.md").write_text("other")
    with pytest.raises(DataError, match=r"report\.md has changed"):
        verify_run(run)


def test_the_same_comparison_is_not_done_twice(
    source: str, compare: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first = compare(source)
    capsys.readouterr()
    assert compare(source) == first
    assert "nothing to do: this comparison is already published" in capsys.readouterr().out
    assert compare(source, force=True) != first
    assert compare(source, model="v0002", challenger="v0001") != first
    assert compare(source, sample=10) != first


def test_result_does_not_depend_on_the_partitions(
    source: str, compare: Callable[..., Path]
) -> None:
    keys = ("compared", "answered_by_both", "agreed", "changed", "flips", "class_rows")
    runs = [compare(source, partition_rows=n, sample=s, workers=w)
            for s in (0, 30) for n, w in ((8, 1), (80, 3))]  # fmt: skip
    found = [[read_manifest(run)[key] for key in keys] for run in runs]
    assert found[0] == found[1]
    assert found[2] == found[3]
    assert found[0] != found[2]


def test_rows_that_only_one_model_can_read_are_flips_but_no_disagreement(
    tiny_version: ModelVersion, compare: Callable[..., Path], tmp_path: Path
) -> None:
    root = tmp_path / "models"
    save_version(root, tiny_version)
    preset = PRESETS["seed"]  # whose text rules know no Ł
    network = CharRNN(preset.model_config(4))
    save_version(
        root,
        dataclasses.replace(
            tiny_version,
            config=network.config,
            vocabulary=preset.vocabulary,
            weights=dict(network.state_dict()),
            calibration=calibration_of(network, preset.vocabulary, ["Katoro"]),
        ),
    )
    pq.write_table(pa.table({"surname": ["Łłł", "Łłł", "Katoro"]}), "few.parquet")
    run = compare("few.parquet", models=str(root), flips=True)
    manifest = read_manifest(run)
    assert [(b, n) for _, b, n in manifest["flips"] if b == NO_LANGUAGE] == [(NO_LANGUAGE, 2)]
    assert manifest["answered_by_both"] == 1
    assert sum(manifest["confidence_changes"]["rows"]) == 1
    lost = pl.read_parquet(f"{run}/rows").filter(pl.col("challenger").is_null())
    assert lost["row"].to_list() == [0, 1]
    assert lost["challenger_confidence"].null_count() == 2
    assert lost["champion_confidence"].null_count() == 0


def test_every_partition_is_read_once(
    source: str, compare: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import charrnn.runs.comparison as module

    read: list[tuple[RowGroup, ...]] = []
    original = module.read_groups

    def counted(groups: tuple[RowGroup, ...]) -> pa.Table:
        read.append(groups)
        return original(groups)

    monkeypatch.setattr(module, "read_groups", counted)
    compare(source)
    assert len(read) == len(set(read)) == 10


def test_no_name_is_in_a_comparison(source: str, compare: Callable[..., Path]) -> None:
    run = compare(source, flips=True)
    written = b"".join(path.read_bytes() for path in files_of(run))
    for name in ("Katoro", "burgmann", "Hofstein"):
        assert name.encode() not in written
    text, elements = checked((run / "report.html").read_bytes())
    for word in ("Changed rows", "Epsilon", "v0001", "v0002", "does not say which model"):
        assert word in text
    assert "svg" in [tag for tag, _ in elements]
    assert "| champion |" in (run / "report.md").read_text()


def test_a_table_without_a_single_name_is_compared(compare: Callable[..., Path]) -> None:
    pq.write_table(pa.table({"surname": pa.array([None, ""], pa.string())}), "none.parquet")
    manifest = verify_run(compare("none.parquet", flips=True)).to_json()
    assert manifest["compared"] == 2
    assert manifest["agreement"] is None
    pq.write_table(pa.table({"surname": pa.array([], pa.string())}), "empty.parquet")
    assert verify_run(compare("empty.parquet", flips=True)).compared == 0


def test_one_version_is_not_compared_with_itself(source: str, compare: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="same version, v0001"):
        compare(source, challenger="v0001")
    with pytest.raises(ConfigError, match="sample"):
        compare(source, sample=-1)


def test_input_that_changes_meanwhile_is_refused(
    source: str, compare: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    import charrnn.recipes.compare as module

    done = module.comparison_manifest

    def meddle(*arguments: Any, **options: Any) -> Any:
        pq.write_table(pa.table({"surname": ["Katoro"]}), source)
        return done(*arguments, **options)

    monkeypatch.setattr(module, "comparison_manifest", meddle)
    with pytest.raises(DataError, match="changed during the run"):
        compare(source)
    assert not (Path("outputs/comparisons/people") / "latest").exists()


def test_two_comparisons_of_one_destination_exclude_each_other(
    source: str, compare: Callable[..., Path]
) -> None:
    with (
        hold(Path("outputs/comparisons/people/.lock"), "somebody"),
        pytest.raises(BusyError, match="somebody"),
    ):
        compare(source)


def test_command_prints_a_summary_and_refuses_what_makes_no_sense(
    source: str, two: Path, command: Command
) -> None:
    options = (source, "--models", two, "--name-column", "surname")
    models = ("--model", "v0001", "--challenger", "v0002")
    code, out, error = command("challenge", *options, *models)
    assert code == 0, error
    for word in ("compared", "agreement", "flips", "shares", "confidence", "result"):
        assert f"\n{word}" in f"\n{out}"
    assert json.loads(Path("outputs/comparisons/people/latest/manifest.json").read_bytes())
    code, _, error = command("challenge", *options)
    assert "champion" in complaint(code, 78, error)
    code, _, error = command("challenge", *options, *models, "--head", "3")
    assert (code, "--head" in error) == (2, True)
    code, _, error = command("challenge", "nothing.csv", *options[1:], *models)
    complaint(code, 66, error)
    assert not Path("outputs/comparisons/nothing").exists()
