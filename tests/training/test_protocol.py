"""Split, fit, calibrate, measure; and what of it goes into a version."""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pytest
import torch
from model_facts import facts_of
from recording import Proof
from safetensors.torch import save

from charrnn.errors import DataError, ModelError
from charrnn.files import write_sums
from charrnn.model.calibration import fit_temperature, softmax
from charrnn.model.engine import logits_of
from charrnn.model.facts import EpochRecord, ModelFacts, Provenance
from charrnn.model.normalise import normalise
from charrnn.model.version import FORMAT_VERSION, ModelVersion, load_version, save_version
from charrnn.reports.model import model_markdown
from charrnn.training import presets, splits
from charrnn.training.baselines import Baseline, baselines
from charrnn.training.corpus import Corpus, build_table, load_corpus, write_table
from charrnn.training.label_files import LabelFile, find_label_files
from charrnn.training.metrics import evaluate
from charrnn.training.name_keys import FOLDS
from charrnn.training.presets import PRESETS, Preset, with_overrides
from charrnn.training.protocol import ProtocolResult, identity_of, run_protocol, split_of
from charrnn.training.release import make_version, promotion_problems
from charrnn.training.splits import honest_split, seed_split

SMALL = replace(
    with_overrides(PRESETS["tutorial"], epochs=3, batch_size=64, seed=5),
    model={
        "embedding_size": 8,
        "hidden_size": 12,
        "ngram_buckets": 64,
        "dropout": 0.1,
    },
)
PROVENANCE = Provenance("2026-01-02T03:04:05Z", "cpu", 1, {"torch": "2.13.0"})


@pytest.fixture(scope="module")
def honest(corpus: Corpus) -> ProtocolResult:
    return run_protocol(corpus, SMALL, "honest")


@pytest.fixture(scope="module")
def version(corpus: Corpus, honest: ProtocolResult) -> ModelVersion:
    seed = run_protocol(corpus, with_overrides(SMALL, epochs=1), "seed")
    baseline = Baseline(honest.test.metrics, honest.test.probabilities)
    compared = {"honest": {"majority label": baseline}}
    return make_version(corpus, SMALL, honest, [seed.test.metrics], compared, PROVENANCE)


def test_honest_protocol_learns_on_train_and_measures_on_test(
    corpus: Corpus, honest: ProtocolResult
) -> None:
    split = honest_split(corpus)
    assert [record.epoch for record in honest.fit.history] == [1, 2, 3]
    assert honest.test.metrics.count == len(split.test.names)
    assert honest.validation is not None
    assert honest.validation.metrics.count == len(split.validation.names)
    assert honest.test.metrics.accuracy > 0.6  # three invented languages, a third each
    assert [label.label for label in honest.test.metrics.labels] == ["Alpha", "Beta", "Gamma"]
    assert honest.test.label_ids.tolist() == split.test.label_ids.tolist()


def test_the_temperature_comes_from_validation_alone(
    corpus: Corpus, honest: ProtocolResult
) -> None:
    split = honest_split(corpus)

    def logits(names: list[str]) -> np.ndarray:
        return logits_of(honest.fit.network, SMALL.vocabulary.encode(pa.array(names)))

    expected = fit_temperature(logits(split.validation.names), split.validation.label_ids)
    assert honest.temperature == pytest.approx(expected, rel=1e-9)
    probabilities = softmax(logits(split.test.names), expected)
    np.testing.assert_allclose(honest.test.probabilities, probabilities, atol=1e-9)
    assert honest.test.metrics == evaluate(
        honest.test.probabilities, split.test.label_ids, corpus.labels
    )


def test_seed_protocol_has_no_validation_and_no_temperature(corpus: Corpus) -> None:
    found = run_protocol(corpus, with_overrides(SMALL, epochs=1), "seed")
    assert found.validation is None
    assert found.temperature == 1
    assert found.test.metrics.count == 360
    assert found.fit.history[0].validation_nll is None


def test_a_protocol_repeats_itself(corpus: Corpus, honest: ProtocolResult) -> None:
    again = run_protocol(corpus, SMALL, "honest")
    assert (again.test.metrics, again.temperature) == (honest.test.metrics, honest.temperature)
    assert np.array_equal(again.test.probabilities, honest.test.probabilities)


def test_a_stopped_protocol_resumes_to_the_same_result(
    corpus: Corpus, honest: ProtocolResult, tmp_path: Path
) -> None:
    def stop(record: EpochRecord) -> None:
        if record.epoch == 2:
            raise KeyboardInterrupt

    folder = tmp_path / "checkpoints"
    with pytest.raises(KeyboardInterrupt):
        run_protocol(corpus, SMALL, "honest", checkpoints=folder, on_epoch=stop)
    found = run_protocol(corpus, SMALL, "honest", checkpoints=folder, resume=True)
    assert found.test.metrics == honest.test.metrics
    assert np.array_equal(found.test.probabilities, honest.test.probabilities)


def test_only_the_seed_split_depends_on_the_seed(corpus: Corpus) -> None:
    assert split_of(corpus, "honest", 0).test.names == split_of(corpus, "honest", 1).test.names
    assert split_of(corpus, "seed", 0).test.names == seed_split(corpus, 0).test.names
    assert split_of(corpus, "seed", 0).test.names != split_of(corpus, "seed", 1).test.names


def test_every_name_is_a_test_name_of_one_split_that_has_it_nowhere_else(corpus: Corpus) -> None:
    splits = [
        honest_split(corpus, test_fold=fold, validation_fold=(fold - 1) % FOLDS)
        for fold in range(FOLDS)
    ]
    tested = [
        pair
        for s in splits
        for pair in zip(s.test.names.to_pylist(), s.test.label_ids, strict=True)
    ]
    for split in splits:
        parts = (split.train, split.validation, split.test)
        assert sum(len(part.names) for part in parts) == len(tested) == len(set(tested))
        train, validation, test = (
            {normalise(name) for name in part.names.to_pylist()} for part in parts
        )
        assert not train & test
        assert not validation & (train | test)


@pytest.mark.parametrize(
    ("lines", "protocol", "message"),
    [
        ("Lee\n" * 40, "honest", "leaves train, validation empty"),
        ("Lee\n", "seed", "leaves test empty"),
    ],
)
def test_too_few_names_are_refused(lines: str, protocol: str, message: str, tmp_path: Path) -> None:
    files = [LabelFile(label, f"{label}.txt", lines.encode()) for label in "AB"]
    write_table(build_table(files), tmp_path / "names.parquet")
    small = load_corpus(tmp_path / "names.parquet")
    if protocol == "honest":
        assert set(small.folds.tolist()) == {7}
        small = replace(small, folds=np.full_like(small.folds, 9))
    with pytest.raises(DataError, match=message):
        run_protocol(small, SMALL, protocol)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "change",
    [
        lambda corpus, preset: (replace(corpus, digest="other"), preset, "honest"),
        lambda corpus, preset: (corpus, with_overrides(preset, seed=6), "honest"),
        lambda corpus, preset: (corpus, with_overrides(preset, epochs=4), "honest"),
        lambda corpus, preset: (corpus, replace(preset, model={"hidden_size": 9}), "honest"),
        lambda corpus, preset: (
            corpus, replace(preset, vocabulary=PRESETS["seed"].vocabulary), "honest",
        ),
        lambda corpus, preset: (corpus, preset, "seed"),
    ],
    ids=["data", "seed", "epochs", "architecture", "vocabulary", "protocol"],
)  # fmt: skip
def test_identity_covers_all_that_decides_a_fit(
    change: Callable[[Corpus, Preset], tuple[Corpus, Preset, str]], corpus: Corpus
) -> None:
    expected = identity_of(corpus, SMALL, "honest")
    assert identity_of(corpus, replace(SMALL, name="renamed"), "honest") == expected
    assert identity_of(*change(corpus, SMALL)) != expected  # type: ignore[arg-type]


def test_overriding_the_seed_changes_the_seed_only() -> None:
    assert with_overrides(SMALL, seed=6).train == replace(SMALL.train, seed=6)
    assert with_overrides(with_overrides(SMALL, seed=6), seed=5) == SMALL


def test_large_tables_follow_a_recipe_of_their_own(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not PRESETS["default"].settled(corpus).train.sparse
    monkeypatch.setattr(presets, "LARGE_LABELS", 1)
    settled = PRESETS["default"].settled(corpus)
    assert settled.name == "default"
    assert settled.train.sparse
    assert settled.train.epochs == 6
    monkeypatch.setattr(presets, "READ_NAMES", 0)
    assert PRESETS["default"].settled(corpus).train.epochs == 1
    small = replace(settled, model={**settled.model, "hidden_size": 8, "ngram_buckets": 256})
    result = run_protocol(corpus, with_overrides(small, epochs=2), "honest")
    version = make_version(corpus, small, result, [], {}, PROVENANCE)
    saved = save_version(tmp_path, version)
    assert saved.config.ngram_rank == 128
    assert all(torch.equal(saved.weights[name], w) for name, w in version.weights.items())


def test_labelled_tables_keep_the_shares_of_their_labels(corpus: Corpus) -> None:
    counted = replace(corpus, counted=True)
    lists, table = (PRESETS["tiny"].settled(c) for c in (corpus, counted))
    assert (lists.train.logit_adjustment, table.train.logit_adjustment) == (1, 0)
    assert lists.train.merge_shared
    assert not table.train.merge_shared
    settled = PRESETS["default"].settled(counted)
    assert settled.train.sparse
    assert (settled.train.logit_adjustment, settled.train.epochs) == (0, 12)


def test_of_many_labels_a_spread_of_the_held_out_names_is_measured(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = honest_split(corpus)
    monkeypatch.setattr(splits, "MOST_PROBABILITIES", 7 * len(corpus.labels))
    some = honest_split(corpus)
    assert some.train.names == every.train.names
    assert len(some.test.names) == len(some.validation.names) == 7
    assert set(some.test.names.to_pylist()) < set(every.test.names.to_pylist())


def test_overridden_epochs_apply_to_the_teacher_and_to_the_identity_of_checkpoints(
    corpus: Corpus,
) -> None:
    tiny = with_overrides(PRESETS["tiny"], epochs=2, batch_size=64, seed=3)
    assert tiny.teacher == with_overrides(PRESETS["default"], epochs=2, seed=3)
    longer_teacher = replace(tiny, teacher=with_overrides(PRESETS["default"], epochs=3, seed=3))
    both = (preset.settled(corpus) for preset in (tiny, longer_teacher))
    one, other = (identity_of(corpus, preset, "honest") for preset in both)
    assert one != other


def test_a_teacher_is_fitted_for_the_overridden_epochs(corpus: Corpus) -> None:
    preset = replace(SMALL, teacher=SMALL, synthetic=40, synthetic_per_epoch=20)
    epochs: list[int] = []
    run_protocol(
        corpus,
        with_overrides(preset, epochs=2),
        "honest",
        on_epoch=lambda record: epochs.append(record.epoch),
    )
    assert epochs == [1, 2, 1, 2]


def test_baselines_are_measured_on_the_same_test_names(corpus: Corpus) -> None:
    found = baselines(corpus, "honest", 0)
    majority, ngrams = found["majority label"], found["char 1-5-grams + logistic regression"]
    assert majority.metrics.count == ngrams.metrics.count == len(honest_split(corpus).test.names)
    assert majority.metrics.accuracy < 0.6 < ngrams.metrics.accuracy


def test_a_version_holds_the_network_and_its_provenance(
    corpus: Corpus, honest: ProtocolResult, version: ModelVersion
) -> None:
    assert version.labels == corpus.labels
    assert version.temperature == honest.temperature
    assert version.vocabulary == SMALL.vocabulary
    assert sum(version.priors) == pytest.approx(1)
    train = honest_split(corpus).train
    assert version.priors == pytest.approx(np.bincount(train.label_ids) / len(train.names))
    facts = version.facts
    assert facts.data_digest == corpus.digest
    assert facts.examples == len(train.names)
    assert facts.metrics.honest.test == honest.test.metrics
    assert facts.metrics.seed[0].count == 360
    assert facts.provenance == PROVENANCE
    assert facts.best_epoch == 3
    assert facts.history == honest.fit.history
    document = json.dumps(asdict(facts), allow_nan=False)
    assert msgspec.convert(json.loads(document), ModelFacts) == facts


def test_a_version_holds_no_name(version: ModelVersion, corpus: Corpus) -> None:
    document = json.dumps(asdict(version.facts))
    assert not [name for name in corpus.names.to_pylist() if len(name) > 5 and name in document]


def test_a_saved_version_gives_the_same_logits(
    corpus: Corpus, version: ModelVersion, tmp_path: Path
) -> None:
    saved = save_version(tmp_path, version)
    loaded = load_version(tmp_path / "v0001")
    assert saved.name == loaded.name == "v0001"
    encoded = version.vocabulary.encode(corpus.names)
    expected = logits_of(version.network(), encoded)
    assert np.array_equal(logits_of(saved.network(), encoded), expected)
    assert np.array_equal(logits_of(loaded.network(), encoded), expected)
    assert loaded.facts == version.facts
    unchanged = (loaded.config, loaded.vocabulary, loaded.labels, loaded.temperature, loaded.priors)
    assert unchanged == (
        version.config, version.vocabulary, version.labels, version.temperature, version.priors,
    )  # fmt: skip


def test_calibration_is_saved_with_a_version_and_verified(
    version: ModelVersion, honest: ProtocolResult, tmp_path: Path
) -> None:
    save_version(tmp_path, version)
    folder = tmp_path / "v0001"
    assert json.loads((folder / "model.json").read_bytes())["format_version"] == FORMAT_VERSION
    found = load_version(folder).calibration
    tensors = version.calibration.tensors()
    assert {k: t.tolist() for k, t in found.tensors().items()} == {
        k: t.tolist() for k, t in tensors.items()
    }
    assert np.array_equal(found.label_ids, honest.validation.label_ids)
    half = honest.validation.logits.astype(np.float16)  # as it is stored
    assert np.array_equal(found.logits, half.astype(np.float32))
    damages = {
        "are not finite": {"logits": torch.full_like(tensors["logits"], torch.nan)},
        "logits is float16": {"logits": tensors["logits"][1:].contiguous()},
        "label_ids are not labels": {"label_ids": tensors["label_ids"] + 3},
    }
    for message, damage in damages.items():
        (folder / "calibration.safetensors").write_bytes(save({**tensors, **damage}))
        write_sums(folder)
        with pytest.raises(ModelError, match=message):
            load_version(folder)
    (folder / "calibration.safetensors").unlink()
    write_sums(folder)
    with pytest.raises(ModelError, match="not a model version"):
        load_version(folder)


def test_names_that_scoring_refuses_are_right_in_no_figure(
    language_folder: Path, tmp_path: Path, proof: Proof
) -> None:
    """A model that has learned "unknown characters are Alpha" is not praised for it."""
    folder = tmp_path / "in"
    shutil.copytree(language_folder, folder)
    foreign = [a + b + c for a in "бвгд" for b in "аеио" for c in "клмн"]
    with (folder / "Alpha.txt").open("a") as file:
        file.write("\n".join(foreign) + "\n")
    write_table(build_table(find_label_files(folder)[0]), tmp_path / "n.parquet")
    corpus = load_corpus(tmp_path / "n.parquet")
    result = run_protocol(corpus, SMALL, "honest")
    compared = {"honest": {"as it is": Baseline(result.test.metrics, result.test.probabilities)}}
    version = make_version(corpus, SMALL, result, [], compared, PROVENANCE)
    test, facts = result.test.metrics, version.facts
    assert test.refused > 0
    assert sum(map(sum, facts.report_data.confusion)) == test.answered
    assert sum(facts.report_data.reliability.count) == test.answered
    assert facts.paired["as it is"].accuracy[0] < 0  # of the same answers, the refused ones counted
    assert result.validation is not None
    assert facts.profile.unscored == {"unknown_script": result.validation.metrics.refused}
    assert len(version.calibration.label_ids) == result.validation.metrics.answered
    assert f"Scoring gives {test.refused} of the test names no label" in model_markdown(
        version
    ).decode().replace("\n", " ")
    proof("P1", "metrics of a model that scoring does not let answer: not right", test.refused)


def test_a_version_does_not_share_memory_with_later_training(version: ModelVersion) -> None:
    network = version.network()
    before = version.weights["h2o.bias"].clone()
    with torch.no_grad():
        network.h2o.bias.add_(1)
    assert torch.equal(version.weights["h2o.bias"], before)


def measured(data: str = "a" * 64, **metrics: float) -> ModelFacts:
    document = asdict(facts_of(("a", "b"), data_digest=data))
    document["metrics"]["honest"]["test"] |= {"accuracy": 0.8, "macro_f1": 0.7, "ece": 0.05}
    document["metrics"]["honest"]["test"] |= metrics
    return msgspec.convert(document, ModelFacts)


@pytest.mark.parametrize(
    ("candidate", "problems"),
    [
        (measured(), []),
        (measured(accuracy=0.9, macro_f1=0.8, ece=0.01), []),
        (measured(accuracy=0.79), ["accuracy 0.7900 against 0.8000"]),
        (measured(macro_f1=0.6), ["macro-F1 0.6000 against 0.7000"]),
        (measured(ece=0.06), ["ECE 0.0600 against 0.0500"]),
        (
            measured(accuracy=0.1, macro_f1=0.1, ece=0.9),
            [
                "accuracy 0.1000 against 0.8000",
                "macro-F1 0.1000 against 0.7000",
                "ECE 0.9000 against 0.0500",
            ],
        ),
        (measured(accuracy=0.9, ece=0.06), ["ECE 0.0600 against 0.0500"]),
    ],
    ids=["equal", "better", "accuracy", "F1", "calibration", "all", "mixed"],
)
def test_promotion_problems_are_what_got_worse(candidate: ModelFacts, problems: list[str]) -> None:
    tests = [facts.metrics.honest.test for facts in (candidate, measured())]
    assert promotion_problems(*tests) == problems
