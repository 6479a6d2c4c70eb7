"""The two protocols: split, fit, calibrate, measure. Both are always reported.

* **honest**: no name on two sides of the split, junk dropped; validation chooses the epoch and the
  temperature, test is only measured. The weights of a version come from here.
* **seed**: the notebook's: all rows, random 80/20, duplicates on both sides. For comparison with
  its published figure; there is no validation part, so the temperature stays 1.
"""

from __future__ import annotations

__all__ = [
    "Baseline",
    "ProtocolResult",
    "baselines",
    "identity_of",
    "make_version",
    "promotion_problems",
    "rotation",
    "run_protocol",
]

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from charrnn.calibration import Floats, calibration_noise, fit_temperature, softmax
from charrnn.corpus import FOLDS, Corpus, Examples, Split, honest_split, seed_split
from charrnn.errors import DataError
from charrnn.evaluation import (
    Metrics,
    evaluate,
    majority_probabilities,
    ngram_probabilities,
    paired_bootstrap,
    test_facts,
)
from charrnn.familiarity import CharacterModel, name_hashes
from charrnn.inference import logits_of
from charrnn.model import CharRNN
from charrnn.monitoring import validation_profile
from charrnn.synthetic import synthetic_names
from charrnn.text import normalise
from charrnn.training import PRESETS, EpochRecord, Fit, Preset, Taught, fit
from charrnn.versions import Calibration, ModelVersion
from charrnn.vocabulary import Vocabulary

Protocol = Literal["honest", "seed"]


@dataclass(frozen=True)
class ProtocolResult:
    """A fit under one protocol and what it is worth. ``validation`` is None under ``seed``."""

    protocol: Protocol
    fit: Fit
    temperature: float
    validation: Metrics | None
    validation_logits: npt.NDArray[np.float32]
    validation_labels: npt.NDArray[np.int64]
    test: Metrics
    test_probabilities: Floats
    test_labels: npt.NDArray[np.int64]


def split_of(corpus: Corpus, protocol: Protocol, seed: int) -> Split:
    """Return the protocol's split; only ``seed`` depends on the seed.

    Raises:
        DataError: a part that must not be empty is.
    """
    split = honest_split(corpus) if protocol == "honest" else seed_split(corpus, seed)
    parts = {"train": split.train, "test": split.test}
    if protocol == "honest":
        parts["validation"] = split.validation
    empty = [name for name, part in parts.items() if not part.names]
    if empty:
        raise DataError(
            f"the {protocol} split of {len(corpus.names)} rows leaves {', '.join(empty)} empty; "
            "ingest more names"
        )
    return split


def rotation(corpus: Corpus) -> list[Split]:
    """Return the honest split with every fold as the test fold once, the protocol's own first; the
    fold below is the validation fold. Over all of them every name is a test name once."""
    return [
        honest_split(corpus, test_fold=fold, validation_fold=(fold - 1) % FOLDS)
        for fold in reversed(range(FOLDS))
    ]


def run_protocol(
    corpus: Corpus,
    preset: Preset,
    protocol: Protocol,
    *,
    device: torch.device | str = "cpu",
    checkpoints: Path | None = None,
    resume: bool = False,
    on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    split: Split | None = None,
    teacher: ProtocolResult | None = None,
) -> ProtocolResult:
    """Fit ``preset`` under a protocol (its seed is ``preset.train.seed``) and measure it.

    A preset with a teacher fits that first, on the same split with the same seed, unless a
    ``teacher`` is given. ``checkpoints`` is a folder with one file per fit; see ``training.fit``
    for ``resume``. ``on_epoch`` is called for the epochs of the teacher, too. ``split`` replaces
    the protocol's own, for rotation.
    """
    split = split or split_of(corpus, protocol, preset.train.seed)
    taught = None
    if preset.teacher:
        recipe = with_seed(PRESETS[preset.teacher], preset.train.seed)
        teacher = teacher or run_protocol(
            corpus,
            recipe,
            protocol,
            device=device,
            checkpoints=checkpoints,
            resume=resume,
            on_epoch=on_epoch,
            split=split,
        )
        taught = _teach(teacher, recipe.vocabulary, preset, split.train)
    identity = identity_of(corpus, preset, protocol)
    fitted = fit(
        preset.model_config(len(corpus.labels)),
        preset.train,
        preset.vocabulary,
        split.train,
        validation=split.validation if split.validation.names else None,
        taught=taught,
        device=device,
        checkpoint=checkpoints / f"{identity[:16]}.safetensors" if checkpoints else None,
        identity=identity,
        resume=resume,
        on_epoch=on_epoch,
    )
    temperature, validation = 1.0, None
    logits = np.zeros((0, len(corpus.labels)), np.float32)
    if split.validation.names:
        logits = _logits(fitted.network, preset.vocabulary, split.validation)
        temperature = fit_temperature(logits, split.validation.label_ids)
        probabilities = softmax(logits, temperature)
        validation = evaluate(probabilities, split.validation.label_ids, corpus.labels)
    test = softmax(_logits(fitted.network, preset.vocabulary, split.test), temperature)
    return ProtocolResult(
        protocol=protocol,
        fit=fitted,
        temperature=temperature,
        validation=validation,
        validation_logits=logits,
        validation_labels=split.validation.label_ids,
        test=evaluate(test, split.test.label_ids, corpus.labels),
        test_probabilities=test,
        test_labels=split.test.label_ids,
    )


def _teach(
    teacher: ProtocolResult, vocabulary: Vocabulary, preset: Preset, train: Examples
) -> Taught:
    """Return made-up names with the teacher's calibrated probabilities."""
    names = synthetic_names(
        [normalise(name) for name in train.names],
        train.label_ids.tolist(),
        preset.synthetic,
        preset.train.seed,
    )
    logits = logits_of(teacher.fit.network, vocabulary.encode(pa.array(names)))
    probabilities = softmax(logits, teacher.temperature).astype(np.float32)
    return Taught(names, probabilities, preset.synthetic_per_epoch)


@dataclass(frozen=True)
class Baseline:
    """What a baseline reaches on a test part, and its probabilities ``(N, L)`` there."""

    metrics: Metrics
    probabilities: Floats


def baselines(
    corpus: Corpus, protocol: Protocol, seed: int, split: Split | None = None
) -> dict[str, Baseline]:
    """Return what the majority label and character n-grams with logistic regression reach on the
    same split; ``split`` replaces the protocol's own."""
    split = split or split_of(corpus, protocol, seed)
    count = len(corpus.labels)
    truth = split.test.label_ids
    train_names = [normalise(name) for name in split.train.names]
    test_names = [normalise(name) for name in split.test.names]
    ngrams = ngram_probabilities(train_names, split.train.label_ids, test_names, count)
    majority = majority_probabilities(split.train.label_ids, count, len(truth))
    return {
        name: Baseline(evaluate(probabilities, truth, corpus.labels), probabilities)
        for name, probabilities in (
            ("majority label", majority),
            ("char 1-5-grams + logistic regression", ngrams),
        )
    }


def make_version(
    corpus: Corpus,
    preset: Preset,
    honest: ProtocolResult,
    seed_runs: Sequence[Metrics],
    compared: Mapping[str, Mapping[str, Baseline]],
    made: Mapping[str, Any],
) -> ModelVersion:
    """Return the model version of a finished training, not yet saved.

    Args:
        honest: gives the weights and the temperature.
        seed_runs: test metrics of the seed protocol, one per seed.
        compared: protocol → name → baseline.
        made: how and with what: time, libraries, device.
    """
    split = honest_split(corpus)
    train = split.train
    counts = np.bincount(train.label_ids, minlength=len(corpus.labels))
    assert honest.validation is not None
    held_out = preset.vocabulary.encode(pa.array(split.validation.names))
    profile = validation_profile(
        corpus.labels,
        softmax(honest.validation_logits, honest.temperature),
        held_out.lengths,
        held_out.unknown,
    )
    calibration = _calibration(preset.vocabulary, split, honest)
    facts = {
        "preset": preset.name,
        "train": asdict(preset.train),
        "data_digest": corpus.digest,
        "examples": len(train.names),
        "history": [asdict(record) for record in honest.fit.history],
        "best_epoch": honest.fit.best_epoch,
        "metrics": {
            "honest": {"validation": honest.validation.to_json(), "test": honest.test.to_json()},
            "seed": [metrics.to_json() for metrics in seed_runs],
        },
        "baselines": {
            protocol: {name: baseline.metrics.to_json() for name, baseline in found.items()}
            for protocol, found in compared.items()
        },
        "paired": {
            name: paired_bootstrap(
                honest.test_probabilities, baseline.probabilities, honest.test_labels
            ).to_json()
            for name, baseline in compared.get("honest", {}).items()
        },
        "test": _test_facts(preset.vocabulary, split, honest, calibration, corpus.labels),
        "profile": asdict(profile),
        "made": dict(made),
    }
    return ModelVersion(
        config=honest.fit.network.config,
        vocabulary=preset.vocabulary,
        weights=dict(honest.fit.network.state_dict()),
        labels=corpus.labels,
        temperature=honest.temperature,
        priors=tuple((counts / counts.sum()).tolist()),
        calibration=calibration,
        facts=facts,
    )


def _calibration(vocabulary: Vocabulary, split: Split, honest: ProtocolResult) -> Calibration:
    """Return what the validation names say about the network, and which names are ambiguous."""
    train = vocabulary.encode(pa.array(split.train.names))
    labels_of: dict[int, set[int]] = {}
    for key, label in zip(name_hashes(train).tolist(), split.train.label_ids.tolist(), strict=True):
        labels_of.setdefault(key, set()).add(label)
    ambiguous = sorted(key for key, labels in labels_of.items() if len(labels) > 1)
    held_out = vocabulary.encode(pa.array(split.validation.names))
    return Calibration(
        logits=honest.validation_logits,
        label_ids=honest.validation_labels,
        characters=CharacterModel.fit(train, held_out),
        ambiguous=np.array(ambiguous, np.int64),
    )


def _test_facts(
    vocabulary: Vocabulary,
    split: Split,
    honest: ProtocolResult,
    calibration: Calibration,
    labels: Sequence[str],
) -> dict[str, Any]:
    """Return what the report draws about the test names."""
    validation = softmax(honest.validation_logits, honest.temperature)
    test = vocabulary.encode(pa.array(split.test.names))
    noise, noise_high = calibration_noise(honest.test_probabilities)
    return {
        **test_facts(
            honest.test_probabilities,
            honest.test_labels,
            validation,
            honest.validation_labels,
            labels,
            test_unfamiliarity=calibration.characters.unfamiliarity(test),
        ),
        "ece_noise": {"mean": noise, "95th percentile": noise_high},
        "ambiguous": len(calibration.ambiguous),
    }


def promotion_problems(candidate: ModelVersion, champion: ModelVersion) -> list[str]:
    """Return why ``candidate`` should not replace ``champion``: what is worse on the frozen test
    fold. Empty when nothing is, or when the two were measured on different data."""
    if candidate.facts["data_digest"] != champion.facts["data_digest"]:
        return []
    ours, theirs = (v.facts["metrics"]["honest"]["test"] for v in (candidate, champion))
    worse = []
    for metric, sign in (("accuracy", 1), ("macro_f1", 1), ("ece", -1)):
        if sign * ours[metric] < sign * theirs[metric]:
            worse.append(f"{metric} {ours[metric]:.4f} against {theirs[metric]:.4f}")
    return worse


def identity_of(corpus: Corpus, preset: Preset, protocol: Protocol) -> str:
    """Return a digest of all that decides a fit: data, recipe, seed and protocol."""
    content = {
        "data": corpus.digest,
        "protocol": protocol,
        "model": preset.model,
        "taught": [preset.synthetic, preset.synthetic_per_epoch],
        "teacher": (
            identity_of(corpus, with_seed(PRESETS[preset.teacher], preset.train.seed), protocol)
            if preset.teacher
            else ""
        ),
        "train": asdict(preset.train),
        "vocabulary": preset.vocabulary.to_json(),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def with_seed(preset: Preset, seed: int) -> Preset:
    """Return the preset with another seed."""
    return replace(preset, train=replace(preset.train, seed=seed))


def _logits(
    network: CharRNN, vocabulary: Vocabulary, examples: Examples
) -> npt.NDArray[np.float32]:
    return logits_of(network, vocabulary.encode(pa.array(examples.names)))
