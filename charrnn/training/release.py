"""Make a model version of a finished training, and decide whether it may be promoted."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from charrnn.model.calibration import Floats, softmax
from charrnn.model.engine import logits_of
from charrnn.model.facts import HonestMetrics, Metrics, ModelFacts, ProtocolMetrics, Provenance
from charrnn.model.labels import MIN_LABELS
from charrnn.model.novelty import CharacterModel, name_hashes
from charrnn.model.version import Calibration, ModelVersion
from charrnn.model.vocabulary import GIVEN, Encoded
from charrnn.monitoring.profile import validation_profile
from charrnn.scoring.scorer import unscorable
from charrnn.training.baselines import Baseline
from charrnn.training.corpus import Corpus, Examples, Split, honest_split
from charrnn.training.metrics import evaluate, report_data
from charrnn.training.paired import paired_bootstrap
from charrnn.training.presets import Preset
from charrnn.training.protocol import ProtocolResult

MIN_TEST_NAMES = 20  # of a label: fewer say little about it


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


def evidence_problems(candidate: ModelVersion) -> list[str]:
    """Return why the test fold is too poor to promote a candidate by, or that it is worse than the
    label that most training names have."""
    test = candidate.facts.metrics.honest.test
    tested = [m.label for m in test.labels if m.count >= MIN_TEST_NAMES]
    problems = []
    if len(tested) < MIN_LABELS:
        problems.append(
            f"{len(tested)} labels have {MIN_TEST_NAMES} test names or more, promotion needs "
            f"{MIN_LABELS}; ingest more names"
        )
    most = int(np.argmax(candidate.priors))
    majority = test.labels[most].count / max(test.count, 1)
    if test.accuracy < majority:
        problems.append(
            f"accuracy {test.accuracy:.4f} is below the majority label's {majority:.4f}"
        )
    return problems


def promotion_problems(candidate: Metrics, champion: Metrics) -> list[str]:
    """Return why a candidate must not replace the champion: metrics on the same test names that
    are worse. Empty where it may."""
    compared = (
        ("accuracy", candidate.accuracy, champion.accuracy, candidate.accuracy < champion.accuracy),
        ("macro-F1", candidate.macro_f1, champion.macro_f1, candidate.macro_f1 < champion.macro_f1),
        ("ECE", candidate.ece, champion.ece, candidate.ece > champion.ece),
    )
    return [f"{name} {a:.4f} against {b:.4f}" for name, a, b, worse in compared if worse]


def probabilities_of(
    version: ModelVersion, examples: Examples
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the calibrated probabilities of N examples, float64 ``(N, L)``, and which of them
    scoring gives no label, bool ``(N,)``."""
    encoded = version.vocabulary.encode(pa.array(examples.names, pa.large_string()))
    refused = unscorable(encoded, examples.names)
    return softmax(logits_of(version.network(), encoded), version.temperature), refused


def measure_on_test(champion: ModelVersion, labels: Sequence[str], test: Examples) -> Metrics:
    """Measure a version on the test names of a newer corpus with ``labels``. A name is in the same
    fold of every corpus, so neither version was fitted to it. A label that the version does not
    know is one that it gets wrong."""
    if GIVEN not in champion.vocabulary.symbols:  # it reads a given name as any other
        test = replace(test, names=[name.removeprefix(GIVEN) for name in test.names])
    known, unread = probabilities_of(champion, test)
    probabilities = np.zeros((len(test.names), len(labels)))
    for position, label in enumerate(labels):
        if label in champion.labels:
            probabilities[:, position] = known[:, champion.labels.index(label)]
    refused = unread | ~probabilities.any(axis=1)
    return evaluate(probabilities, test.label_ids, labels, refused)
