"""Make a model version of a finished training, and decide whether it may be promoted."""

from __future__ import annotations

__all__ = ["make_version", "promotion_problems"]

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa

from charrnn.model.calibration import calibration_noise, softmax
from charrnn.model.novelty import CharacterModel, name_hashes
from charrnn.model.version import Calibration, ModelVersion
from charrnn.model.vocabulary import Vocabulary
from charrnn.monitoring.profile import validation_profile
from charrnn.training.baselines import Baseline
from charrnn.training.corpus import Corpus, Split, honest_split
from charrnn.training.metrics import Metrics, report_data
from charrnn.training.paired import paired_bootstrap
from charrnn.training.presets import Preset
from charrnn.training.protocol import ProtocolResult


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
        "test": _report_data(preset.vocabulary, split, honest, calibration, corpus.labels),
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


def _report_data(
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
        **report_data(
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
    """Return why ``candidate`` must not replace ``champion``: metrics of the honest test fold that
    are worse, or that the two were measured on different data. Empty where it may."""
    digest, champion_digest = (v.facts["data_digest"] for v in (candidate, champion))
    if digest != champion_digest:
        return [
            f"measured on different data: data digest {digest[:12]} against {champion_digest[:12]}"
        ]
    test, champion_test = (v.facts["metrics"]["honest"]["test"] for v in (candidate, champion))
    return [
        f"{metric} {test[metric]:.4f} against {champion_test[metric]:.4f}"
        for metric, sign in (("accuracy", 1), ("macro_f1", 1), ("ece", -1))
        if sign * test[metric] < sign * champion_test[metric]
    ]
