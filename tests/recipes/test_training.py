"""The recipes about training and versions, called as a library: no Prefect, no terminal."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recording import Proof

from charrnn.errors import ConfigError, DataError, InputMissingError
from charrnn.model.facts import PairedDifference
from charrnn.model.version import (
    PRETRAINED,
    ModelVersion,
    aliases,
    list_versions,
    save_version,
    set_alias,
)
from charrnn.model.vocabulary import GIVEN
from charrnn.recipes.evaluate import compare_versions, evaluate_version
from charrnn.recipes.ingest import ingest
from charrnn.recipes.models import list_models, promote, roll_back
from charrnn.recipes.requests import (
    CompareVersionsRequest,
    EvaluateRequest,
    IngestRequest,
    ListRequest,
    PromoteRequest,
    RollbackRequest,
    TrainRequest,
)
from charrnn.recipes.runner import Runner
from charrnn.recipes.train import Trained, release, train
from charrnn.training.metrics import evaluate
from charrnn.training.release import evidence_problems, measure_on_test
from charrnn.training.splits import Examples

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def recording_runner(steps: list[str]) -> Runner:
    """A runner with a clock that stands still, which notes the names of the steps."""

    def step(name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        steps.append(name)
        return function(*args, **kwargs)

    return Runner(now=lambda: NOON, holder="a test", step=step)


def quick(corpus_path: Path, models: Path, **options: Any) -> TrainRequest:
    return TrainRequest(preset="seed", data=corpus_path, models=models, device="cpu", seeds=0,
                        baselines=False, **options)  # fmt: skip


@pytest.fixture(scope="module")
def trained(
    corpus_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Trained], list[str]]:
    """Two versions, the first better; the folder, what the recipe returned, and its steps."""
    models, steps = tmp_path_factory.mktemp("trained") / "models", list[str]()
    runner = recording_runner(steps)
    results = []
    for epochs in (4, 1):
        request = quick(corpus_path, models, epochs=epochs)
        results.append(train(request, runner))
        release(results[-1], request)
    return models, results, steps


def test_ingest_returns_the_report_it_writes(language_folder: Path, tmp_path: Path) -> None:
    steps: list[str] = []
    request = IngestRequest(sources=(str(language_folder),), target=tmp_path / "names.parquet")
    first, again = (ingest(request, recording_runner(steps)) for _ in range(2))
    assert (first.report.rows, first.report.labels) == (1800, 3)
    assert first.report_path.read_text() == first.markdown
    assert (first.written, again.written) == (True, False)
    assert steps == ["build table"] * 2


def test_training_takes_the_time_from_its_runner(
    trained: tuple[Path, list[Trained], list[str]],
) -> None:
    models, (good, bad), steps = trained
    assert list_versions(models) == [good.version.name, bad.version.name] == ["v0001", "v0002"]
    assert good.version.facts.provenance.created == "2026-01-02T12:00:00Z"
    assert steps == ["fit honest protocol, seed 0", "publish version"] * 2
    assert aliases(models) == {"champion": "v0001", "candidate": "v0002"}


def test_a_seed_run_is_a_fit_of_its_own_and_baselines_are_a_step(
    corpus_path: Path, tmp_path: Path
) -> None:
    steps: list[str] = []
    request = TrainRequest(preset="seed", data=corpus_path, models=tmp_path, epochs=1, seeds=2)
    logged = list[str]()
    result = train(request, replace(recording_runner(steps), log=logged.append))
    fits = [f"fit {p} protocol, seed {s}" for p, s in (("honest", 0), ("seed", 0), ("seed", 1))]
    assert steps == [*fits, "baselines", "publish version"]
    assert [line.partition(", epoch 1: loss ")[0] for line in logged] == [f[4:] for f in fits]
    assert all(re.fullmatch(r"[^:]+: loss \d\.\d{4}, .*\d\.\d s", line) for line in logged)
    assert len(result.seed_losses) == len(result.version.facts.metrics.seed) == 2
    assert set(result.version.facts.baselines) == {"honest", "seed"}


@pytest.mark.parametrize("options", [{"seeds": -1}, {"epochs": 0}, {"learning_rate": -1.0}])
def test_an_option_out_of_range_is_refused_by_name(
    options: dict[str, Any], corpus_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError) as refused:
        TrainRequest(data=corpus_path, models=tmp_path / "models", device="cpu", **options)
    assert refused.value.option == next(iter(options))
    assert not (tmp_path / "models").exists()


def test_versions_are_listed_with_their_aliases(
    trained: tuple[Path, list[Trained], list[str]],
) -> None:
    listed = {v.name: v for v in list_models(ListRequest(models=trained[0])).versions}
    assert list(listed) == [*PRETRAINED, "v0001", "v0002"]
    assert listed["v0001"].aliases == ["champion"]
    assert listed["v0002"].facts == trained[1][1].version.facts


def test_evaluation_repeats_the_metrics_of_the_training(
    trained: tuple[Path, list[Trained], list[str]], corpus_path: Path
) -> None:
    models, (good, _), _ = trained
    found = evaluate_version(EvaluateRequest(version="champion", data=corpus_path, models=models))
    honest = good.version.facts.metrics.honest
    assert [part.metrics.accuracy for part in found.parts] == [
        pytest.approx(honest.test.accuracy), pytest.approx(honest.validation.accuracy),
    ]  # fmt: skip
    assert found.other_data is None
    with pytest.raises(DataError, match="3 labels that the version does not know"):
        evaluate_version(EvaluateRequest(version="pretrained", data=corpus_path, models=models))


def test_comparison_is_the_second_version_minus_the_first(
    trained: tuple[Path, list[Trained], list[str]], corpus_path: Path
) -> None:
    request = CompareVersionsRequest(one="v0001", other="v0002", data=corpus_path,
                                     models=trained[0])  # fmt: skip
    found = compare_versions(request)
    one, other = found.metrics
    assert found.difference.accuracy[0] == pytest.approx(other.accuracy - one.accuracy)
    assert found.flips.count == one.count == other.count


def test_a_worse_version_is_promoted_by_force_only_and_rolled_back(
    trained: tuple[Path, list[Trained], list[str]],
) -> None:
    models = trained[0]
    refused = promote(PromoteRequest(models=models))
    assert (refused.version, refused.before, refused.promoted) == ("v0002", "v0001", False)
    assert refused.problems[0].startswith("accuracy ")
    forced = promote(PromoteRequest(models=models, force=True))
    assert forced.promoted
    assert forced.problems == refused.problems
    back = roll_back(RollbackRequest(models=models))
    assert (back.before, back.now) == ("v0002", "v0001")


def test_a_champion_of_other_data_is_measured_on_the_candidates_test_fold(
    trained: tuple[Path, list[Trained], list[str]], language_folder: Path, tmp_path: Path
) -> None:
    """Weekly training on changed data can promote, and what is worse is not promoted."""
    source = tmp_path / "languages"
    source.mkdir()
    for path in language_folder.iterdir():
        (source / path.name).write_text(path.read_text() + "Katorimo\n")
    runner, models = recording_runner([]), tmp_path / "models"
    old = quick(tmp_path / "o.parquet", models, epochs=1)
    ingest(IngestRequest(sources=(str(language_folder),), target=old.data), runner)
    first = release(train(old, runner), old).promotion
    assert first is not None
    table = ingest(
        IngestRequest(sources=(str(source),), target=tmp_path / "n.parquet"), runner
    ).table
    better = release(train(quick(table, models, epochs=6), runner), quick(table, models)).promotion
    assert better is not None
    assert not [p for p in better.problems if p.startswith(("accuracy", "measured"))]
    champion = aliases(models).get("champion")
    set_alias(models, "champion", "v0002")
    worse = release(train(quick(old.data, models, epochs=1), runner), old).promotion
    assert worse is not None
    assert worse.problems[0].startswith("accuracy ")
    unknown = promote(PromoteRequest(version="v0001", models=models, data=table))
    assert "is not the candidate's" in unknown.problems[0]
    assert champion


@pytest.mark.parametrize("names", [["Иванов", "Петров"], ["Παπας", "Νικος"], ["王小明", "李雷"]])
def test_training_on_a_script_the_vocabulary_lacks_is_refused(
    names: list[str], tmp_path: Path, proof: Proof
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "A.txt").write_text("\n".join(names) + "\n")
    (source / "B.txt").write_text("Katoro\nKamiro\nRotami\n" * 40)
    runner = recording_runner([])
    table = ingest(
        IngestRequest(sources=(str(source),), target=tmp_path / "n.parquet"), runner
    ).table
    with pytest.raises(DataError, match=r"A 0%.*unknown: (Cyrillic|Greek|Cjk)") as caught:
        train(quick(table, tmp_path / "models", epochs=1), runner)
    assert not [name for name in names if name in str(caught.value)]
    assert not list_versions(tmp_path / "models")
    proof("P1", "training on scripts that the vocabulary lacks: refused", 1)


def believable(version: ModelVersion, **changes: Any) -> ModelVersion:
    """The version with 25 test names of each label, 90 % of them right, and with ``changes`` of
    these metrics."""
    L = len(version.labels)
    label_ids = np.repeat(np.arange(L), 25)
    answers = np.where(np.arange(25 * L) % 10, label_ids, (label_ids + 1) % L)
    test = evaluate(0.9 * np.eye(L)[answers] + 0.1 / L, label_ids, version.labels)
    metrics = version.facts.metrics
    honest = replace(metrics.honest, test=replace(test, **changes))
    facts = replace(version.facts, metrics=replace(metrics, honest=honest))
    return replace(version, facts=facts)


def test_few_test_names_promote_nothing(
    tiny_version: ModelVersion, tmp_path: Path, proof: Proof
) -> None:
    save_version(tmp_path, tiny_version)  # two test names of each label
    promotion = promote(PromoteRequest(version="v0001", models=tmp_path))
    assert not promotion.promoted
    assert "0 labels have 20 test names or more" in promotion.lines()[0]
    assert "charrnn promote v0001 --force" in promotion.lines()[1]
    assert aliases(tmp_path) == {}
    assert list_versions(tmp_path) == ["v0001"]
    proof("P1", "models of poor evidence: kept, not promoted", 1)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"accuracy": 0.3, "accuracy_low": 0.22}, "accuracy 0.3000 (0.2200 to"),
        ({"refused": 11}, "scoring refuses 11 of its 100 test names (unknown script or too long)"),
    ],
)
def test_a_model_that_cannot_be_believed_is_kept_but_not_promoted(
    tiny_version: ModelVersion, changes: dict[str, Any], problem: str, proof: Proof
) -> None:
    assert evidence_problems(believable(tiny_version, refused=10)) == []
    problems = evidence_problems(believable(tiny_version, **changes))
    assert len(problems) == 1
    assert problem in problems[0]
    proof("P1", "models that refuse their names, or are no better than chance: not promoted", 1)


def test_a_model_that_n_grams_beat_is_not_promoted(tiny_version: ModelVersion) -> None:
    version = believable(tiny_version)
    baseline = replace(version.facts.metrics.honest.test, accuracy=0.96)

    def problems(accuracy: tuple[float, float, float], f1: tuple[float, float, float]) -> list[str]:
        facts = replace(
            version.facts,
            baselines={"honest": {"n-grams": baseline}},
            paired={"n-grams": PairedDifference(accuracy, f1)},
        )
        return evidence_problems(replace(version, facts=facts))

    worse, perhaps, better = (-0.06, -0.1, -0.02), (-0.06, -0.13, 0.01), (0.05, 0.01, 0.09)
    assert problems(worse, perhaps) == problems(worse, worse) != []
    assert "accuracy 0.9000, below 0.9600 of n-grams on the same names" in problems(worse, worse)[0]
    assert problems(perhaps, worse) == []  # by chance
    assert problems(worse, better) == []  # trained for labels that count alike


def test_a_champion_that_knows_no_given_names_reads_them_as_names(
    tiny_version: ModelVersion,
) -> None:
    labels = np.arange(4) % 2
    plain = Examples.of(["Katoro", "Burgmann", "Mikata", "Hofstein"], labels)
    marked = Examples.of([GIVEN + name for name in plain.names.to_pylist()], labels)
    found = [measure_on_test(tiny_version, ["Alpha", "Beta"], test) for test in (plain, marked)]
    assert found[0] == found[1]


def test_a_table_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    request = quick(tmp_path / "none.parquet", tmp_path / "models")
    with pytest.raises(InputMissingError, match="run ingest first"):
        train(request, recording_runner([]))
