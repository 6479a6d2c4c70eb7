"""Make a model version of a finished training, and decide whether it may be promoted."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.compute as pc
import torch

from charrnn.model.calibration import Floats, LabelIds, by_part, softmax
from charrnn.model.facts import (
    MIN_TEST_NAMES,
    HonestMetrics,
    Metrics,
    ModelFacts,
    PairedDifference,
    ProtocolMetrics,
    Provenance,
    ReportData,
)
from charrnn.model.known_names import KnownNames
from charrnn.model.labels import MIN_LABELS
from charrnn.model.novelty import name_hashes, surprise
from charrnn.model.version import Calibration, ModelVersion, assumed_shares
from charrnn.model.vocabulary import GIVEN, Vocabulary
from charrnn.monitoring.profile import validation_profile
from charrnn.scoring.scorer import unscorable
from charrnn.training.baselines import Baseline
from charrnn.training.corpus import Corpus
from charrnn.training.known import known_names, listed_names, trust_in_counts, trust_in_lists
from charrnn.training.mapped import blocks_of, column_of
from charrnn.training.metrics import (
    evaluate,
    report_data,
    rows_of_confidence,
    with_refusals,
)
from charrnn.training.outside import (
    Outside,
    fit_pair_exponent,
    measure_outside,
    probabilities_of,
)
from charrnn.training.paired import paired_bootstrap
from charrnn.training.presets import Preset
from charrnn.training.protocol import Answers, ProtocolResult
from charrnn.training.splits import Examples, Split, honest_split

_MOST_HELD_OUT = 2500  # validation names whose logits a version keeps, about
_MOST_HASHES = 2**22  # sorted at a time
_MOST_HELD_OUT_LOGITS = 2**23  # of them: 32 MB, of which only models of over 1,000 labels have more
MAX_REFUSED = 0.1  # of the test names: a model that refuses more was trained on what it cannot read


def make_version(
    corpus: Corpus,
    preset: Preset,
    honest: ProtocolResult,
    seed_metrics: Sequence[Metrics],
    baselines: Mapping[str, Mapping[str, Baseline]],
    provenance: Provenance,
    outside: Outside | None = None,
) -> ModelVersion:
    """Return the model version of a finished training, not yet saved: network and temperature of
    ``honest``, test metrics per seed, and baselines by protocol and name; the scale of novelty and
    the exponent of full names by ``outside``, where there is one."""
    split, vocabulary, network = honest_split(corpus), preset.symbols, honest.fit.network
    labels, L, validation, test = corpus.labels, len(corpus.labels), honest.validation, honest.test
    assert validation is not None
    measured = HonestMetrics(validation.metrics, test.metrics)
    people = split.train.weights if corpus.counted else None
    counts = np.bincount(split.train.label_ids, people, minlength=L)
    priors = counts / counts.sum()
    held_out = vocabulary.encode(split.validation.names)
    reason = unscorable(held_out, split.validation.names)
    assumed = assumed_shares(priors, preset.train.logit_adjustment)
    calibration = _calibration(vocabulary, split, honest, assumed)
    facts = ModelFacts(
        preset=preset.name,
        train=asdict(preset.train),
        data_digest=corpus.digest,
        examples=len(split.train.names),
        history=honest.fit.history,
        best_epoch=honest.fit.best_epoch,
        metrics=ProtocolMetrics(measured, tuple(seed_metrics)),
        baselines={
            protocol: {name: baseline.metrics for name, baseline in compared.items()}
            for protocol, compared in baselines.items()
        },
        paired=_paired(test, baselines.get("honest", {})),
        report_data=_report_data(labels, test, honest.temperature, calibration),
        profile=validation_profile(
            labels, validation.probabilities, held_out.lengths, held_out.unknown, reason
        ),
        provenance=provenance,
        text_rules=preset.text_rules,
    )
    version = ModelVersion(
        config=network.config,
        vocabulary=vocabulary,
        weights=dict(network.state_dict()),
        label_name=corpus.label_name,
        labels=labels,
        temperature=honest.temperature,
        given_temperature=honest.given_temperature,
        priors=tuple(priors.tolist()),
        calibration=calibration,
        facts=facts,
    )
    if version.knows_given and not network.config.label_groups:
        pairs = outside.calibration if outside else split.validation
        version = replace(version, pair_exponent=fit_pair_exponent(version, pairs))
    if preset.known_entries and not network.config.label_groups:
        known = _known_names(corpus, preset, version, honest, outside)
        version = replace(version, known_names=known)
    of_others = measure_outside(version, outside) if outside else None
    return replace(version, facts=replace(facts, outside=of_others))


def _paired(test: Answers, baselines: Mapping[str, Baseline]) -> dict[str, PairedDifference]:
    """Return the differences of the answers to the test names from each baseline's."""
    own = with_refusals(test.probabilities, test.refused)
    return {
        name: paired_bootstrap(own, baseline.probabilities, test.label_ids)
        for name, baseline in baselines.items()
    }


def _report_data(
    labels: Sequence[str], test: Answers, temperature: float, calibration: Calibration
) -> ReportData:
    """Return what the report draws about the test names that scoring does not refuse."""
    rows = rows_of_confidence(test.refused)
    surprises = surprise(torch.from_numpy(test.logits[rows]), len(labels))
    return report_data(
        (test.probabilities[rows], test.label_ids[rows]),
        (softmax(calibration.logits, temperature), calibration.label_ids),
        labels,
        unfamiliarity=calibration.novelty.novelty(surprises).numpy(),
        ambiguous=len(calibration.ambiguous),
    )


def _calibration(
    vocabulary: Vocabulary, split: Split, honest: ProtocolResult, assumed: Floats
) -> Calibration:
    """Return the logits of validation names, the scale of novelty and the hashes of ambiguous
    names; ``assumed`` are the label shares that the probabilities assume, ``(L,)``."""
    assert honest.validation is not None
    assert honest.novelty is not None
    label_ids, rows = honest.validation.label_ids, rows_of_confidence(honest.validation.refused)
    kept = np.flatnonzero(rows)[_representative(label_ids[rows], assumed)]
    own = by_part(split.validation.given[kept], honest.temperature, honest.given_temperature)
    scale_of_part = (honest.temperature / own).astype(np.float32)  # read by one temperature
    return Calibration(
        logits=honest.validation.logits[kept, : len(assumed)] * scale_of_part,
        label_ids=label_ids[kept],
        novelty=honest.novelty,
        ambiguous=_ambiguous(vocabulary, split.train),
    )


def _known_names(
    corpus: Corpus,
    preset: Preset,
    version: ModelVersion,
    honest: ProtocolResult,
    outside: Outside | None,
) -> KnownNames:
    """Return what the training names say of those whose answers differ most from it."""
    if corpus.counted:
        listed = listed_names(version, honest.learned, None)
        trust = trust_in_counts(version, listed, corpus)
    else:
        listed = listed_names(version, honest.learned, np.array(version.priors))
        trust = trust_in_lists(version, listed, outside.known[0] if outside else None)
    return known_names(listed, trust, preset.known_entries)


def _ambiguous(vocabulary: Vocabulary, examples: Examples) -> npt.NDArray[np.int64]:
    """Return the hashes of the names that have several labels, int64, ascending."""
    names, label_ids = examples.names, examples.label_ids
    hashes = column_of(
        (name_hashes(vocabulary.encode(names[rows])) for rows in blocks_of(len(names))),
        np.int64,
        examples.scratch,
    )
    parts, found = math.ceil(len(hashes) / _MOST_HASHES), [np.empty(0, np.int64)]
    for part in range(parts):
        rows = np.concatenate([
            block.start + np.flatnonzero(hashes[block] % parts == part)
            for block in blocks_of(len(hashes))
        ])  # fmt: skip
        order = rows[np.lexsort((label_ids[rows], hashes[rows]))]
        own, labels = hashes[order], label_ids[order]
        found.append(np.unique(own[1:][(own[1:] == own[:-1]) & (labels[1:] != labels[:-1])]))
    return np.sort(np.concatenate(found))


def _representative(label_ids: LabelIds, shares: Floats) -> npt.NDArray[np.int64]:
    """Return the rows of at most about ``_MOST_HELD_OUT`` of M names, of each label as many as its
    share says, where there are so many: prediction sets and estimated shares rely on names that are
    distributed as the probabilities assume."""
    rank = pl.DataFrame({"label": label_ids}).select(pl.int_range(pl.len()).over("label"))
    most = np.ceil(_MOST_HELD_OUT * shares)
    rows = np.flatnonzero(rank.to_series().to_numpy() < most[label_ids])
    step = math.ceil(len(rows) * len(shares) / _MOST_HELD_OUT_LOGITS)
    return rows[::step]


def evidence_problems(candidate: ModelVersion) -> list[str]:
    """Return why a candidate cannot be believed, whatever the champion is: too few test names, too
    many of them refused by scoring, or no better than what it takes no network for."""
    test = candidate.facts.metrics.honest.test
    tested = len(test.labels) - len(test.too_small)
    problems = []
    if tested < MIN_LABELS:
        problems.append(
            f"{tested} labels have {MIN_TEST_NAMES} test names or more, promotion needs "
            f"{MIN_LABELS}; ingest more names"
        )
    if test.refused > MAX_REFUSED * test.count:
        problems.append(
            f"scoring refuses {test.refused} of its {test.count} test names (unknown script or too "
            f"long), promotion allows {MAX_REFUSED:.0%}; train on names in scripts that it knows"
        )
    most = int(np.argmax(candidate.priors))
    majority = test.labels[most].count / max(test.count, 1)
    if test.accuracy_low <= majority:
        problems.append(
            f"accuracy {test.accuracy:.4f} ({test.accuracy_low:.4f} to {test.accuracy_high:.4f}) "
            f"is not above {majority:.4f}, which answering {test.labels[most].label} every time has"
        )
    return problems + _beaten_by(candidate.facts)


def _beaten_by(facts: ModelFacts) -> list[str]:
    """Return which baselines have a better accuracy, beyond chance. A model whose macro-F1 is
    better, beyond chance, was trained for labels that count alike, and is not beaten."""
    accuracy = facts.metrics.honest.test.accuracy
    return [
        f"accuracy {accuracy:.4f}, below {baseline.accuracy:.4f} of {name} on the same names"
        for name, baseline in facts.baselines.get("honest", {}).items()
        if facts.paired[name].accuracy[2] < 0 and facts.paired[name].macro_f1[1] <= 0
    ]


def promotion_problems(candidate: Metrics, champion: Metrics) -> list[str]:
    """Return why a candidate must not replace the champion: metrics on the same test names that
    are worse. Empty where it may."""
    compared = (
        ("accuracy", candidate.accuracy, champion.accuracy, candidate.accuracy < champion.accuracy),
        ("macro-F1", candidate.macro_f1, champion.macro_f1, candidate.macro_f1 < champion.macro_f1),
        ("ECE", candidate.ece, champion.ece, candidate.ece > champion.ece),
    )
    return [f"{name} {a:.4f} against {b:.4f}" for name, a, b, worse in compared if worse]


def measure_on_test(champion: ModelVersion, labels: Sequence[str], test: Examples) -> Metrics:
    """Measure a version on the test names of a newer corpus with ``labels``. A name is in the same
    fold of every corpus, but for one that only the older corpus knows to be frequent, so neither
    version was fitted to it. A label that the version does not know is one that it gets wrong."""
    if GIVEN not in champion.vocabulary.symbols:  # it reads a given name as any other
        unmarked = pc.replace_substring_regex(test.names, f"^{GIVEN}", "")
        test = replace(test, names=unmarked)
    known, unread = probabilities_of(champion, test.names)
    probabilities = np.zeros((len(test.names), len(labels)))
    for position, label in enumerate(labels):
        if label in champion.labels:
            probabilities[:, position] = known[:, champion.labels.index(label)]
    refused = unread | ~probabilities.any(axis=1)
    return evaluate(probabilities, test.label_ids, labels, refused)
