"""Make a model version of a finished training, and decide whether it may be promoted."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import pyarrow as pa

from charrnn.model.calibration import softmax
from charrnn.model.facts import HonestMetrics, Metrics, ModelFacts, ProtocolMetrics, Provenance
from charrnn.model.novelty import CharacterModel, name_hashes
from charrnn.model.version import Calibration, ModelVersion
from charrnn.model.vocabulary import Encoded
from charrnn.monitoring.profile import validation_profile
from charrnn.training.baselines import Baseline
from charrnn.training.corpus import Corpus, Split, honest_split
from charrnn.training.metrics import report_data
from charrnn.training.paired import paired_bootstrap
from charrnn.training.presets import Preset
from charrnn.training.protocol import ProtocolResult


def make_version(
    corpus: Corpus,
    preset: Preset,
    honest: ProtocolResult,
    seed_metrics: Sequence[Metrics],
    baselines: Mapping[str, Mapping[str, Baseline]],
    provenance: Provenance,
) -> ModelVersion:
    """Return the model version of a finished training, not yet saved: network and temperature of
    ``honest``, test metrics per seed, and baselines by protocol and name."""
    split, vocabulary = honest_split(corpus), preset.vocabulary
    counts = np.bincount(split.train.label_ids, minlength=len(corpus.labels))
    held_out = vocabulary.encode(pa.array(split.validation.names))
    test = vocabulary.encode(pa.array(split.test.names))
    validation = softmax(honest.validation_logits, honest.temperature)
    calibration = _calibration(
        vocabulary.encode(pa.array(split.train.names)), held_out, split, honest
    )
    assert honest.validation is not None
    facts = ModelFacts(
        preset=preset.name,
        train=asdict(preset.train),
        data_digest=corpus.digest,
        examples=len(split.train.names),
        history=honest.fit.history,
        best_epoch=honest.fit.best_epoch,
        metrics=ProtocolMetrics(HonestMetrics(honest.validation, honest.test), tuple(seed_metrics)),
        baselines={
            protocol: {name: baseline.metrics for name, baseline in measured.items()}
            for protocol, measured in baselines.items()
        },
        paired={
            name: paired_bootstrap(
                honest.test_probabilities, baseline.probabilities, honest.test_labels
            )
            for name, baseline in baselines.get("honest", {}).items()
        },
        report_data=report_data(
            (honest.test_probabilities, honest.test_labels),
            (validation, honest.validation_labels),
            corpus.labels,
            unfamiliarity=calibration.characters.novelty(test),
            ambiguous=len(calibration.ambiguous),
        ),
        profile=validation_profile(corpus.labels, validation, held_out.lengths, held_out.unknown),
        provenance=provenance,
    )
    return ModelVersion(
        config=honest.fit.network.config,
        vocabulary=vocabulary,
        weights=dict(honest.fit.network.state_dict()),
        labels=corpus.labels,
        temperature=honest.temperature,
        priors=tuple((counts / counts.sum()).tolist()),
        calibration=calibration,
        facts=facts,
    )


def _calibration(
    train: Encoded, held_out: Encoded, split: Split, honest: ProtocolResult
) -> Calibration:
    """Return the validation logits, the character model and the hashes of ambiguous names."""
    labels_of: dict[int, set[int]] = {}
    for key, label in zip(name_hashes(train).tolist(), split.train.label_ids.tolist(), strict=True):
        labels_of.setdefault(key, set()).add(label)
    ambiguous = sorted(key for key, labels in labels_of.items() if len(labels) > 1)
    return Calibration(
        logits=honest.validation_logits,
        label_ids=honest.validation_labels,
        characters=CharacterModel.fit(train, held_out),
        ambiguous=np.array(ambiguous, np.int64),
    )


def promotion_problems(candidate: ModelFacts, champion: ModelFacts) -> list[str]:
    """Return why a candidate must not replace the champion: metrics of the honest test fold that
    are worse, or that the two were measured on different data. Empty where it may."""
    if candidate.data_digest != champion.data_digest:
        digests = f"{candidate.data_digest[:12]} against {champion.data_digest[:12]}"
        return [f"measured on different data: data digest {digests}"]
    ours, theirs = (facts.metrics.honest.test for facts in (candidate, champion))
    compared = (
        ("accuracy", ours.accuracy, theirs.accuracy, ours.accuracy < theirs.accuracy),
        ("macro-F1", ours.macro_f1, theirs.macro_f1, ours.macro_f1 < theirs.macro_f1),
        ("ECE", ours.ece, theirs.ece, ours.ece > theirs.ece),
    )
    return [f"{name} {a:.4f} against {b:.4f}" for name, a, b, worse in compared if worse]
