"""Names of other lists than the training's: they calibrate a model, and show how good it is there.

A confidence that is right on held-out names of the training lists is too high on other lists: these
have other names, in other proportions. So the temperature and the scale of novelty are fitted to
one half of an *outside* table, every label counting alike, and the other half is only measured.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import torch

from charrnn.errors import DataError
from charrnn.model.calibration import (
    Floats,
    LabelIds,
    expected_calibration_error,
    fit_temperature,
    softmax,
)
from charrnn.model.engine import logits_of
from charrnn.model.facts import BalancedMetrics, OutsideMetrics
from charrnn.model.normalise import LATIN, normalise_array
from charrnn.model.novelty import name_hashes, surprise
from charrnn.model.version import MAX_EXPONENT, ModelVersion
from charrnn.model.vocabulary import Encoded
from charrnn.scoring.scorer import unscorable
from charrnn.training.corpus import Corpus
from charrnn.training.metrics import reliability, rows_of_confidence
from charrnn.training.splits import Examples

PAIRS = 400  # full names drawn for each label
_MOST_LOGITS = 2**22  # of them, about
LEAST = 100  # names of a label that calibrate as much as any other: a few say little


@dataclass(frozen=True)
class Outside:
    """The two halves of an outside table: names of the corpus's labels that are neither in the
    corpus nor under several labels; label ids are the corpus's. ``digest`` is the table's. Names
    that are in the corpus are the two halves of ``known``."""

    calibration: Examples
    test: Examples
    digest: str
    known: tuple[Examples, Examples]


def outside_of(table: Corpus, corpus: Corpus) -> Outside:
    """Return the names of an outside table that a model of ``corpus`` may be measured on.

    A name is in one half with all its spellings. Words that are no names are all kept, also those
    that are in the corpus.

    Raises:
        DataError: a half is left without surnames of two labels.
    """
    position = {label: i for i, label in enumerate(corpus.labels)}
    label_ids = np.array([position.get(label, -1) for label in table.labels])[table.label_ids]
    name = ("key", "given")
    columns = {"key": table.normalised, "given": table.given, "label": table.label_ids}
    rows = pl.DataFrame(columns).with_row_index("row").filter(
        pl.col("label").n_unique().over(name) == 1,
        pl.Series((table.folds >= 0) & (label_ids >= 0)),
    )  # fmt: skip
    new = rows
    for part in corpus.parts():
        known = pl.DataFrame({"key": part.normalised, "given": part.given})
        new = new.join(known, on=name, how="anti")
    chosen, known_rows = (
        some.group_by(name).agg(pl.col("row").min())["row"].sort().to_numpy()
        for some in (new, rows.join(new, on="row", how="anti"))
    )
    halves, known_halves, names = [], [], Examples.of(table.names, label_ids)
    for odd in (0, 1):
        half, known_half = (some[table.folds[some] % 2 == odd] for some in (chosen, known_rows))
        known_halves.append(names.take(known_half))
        words = (table.outlier_folds % 2 == odd) & (table.outlier_folds >= 0)
        outliers = table.outliers.filter(pa.array(words))
        halves.append(replace(names.take(half), outliers=outliers))
        if len(np.unique(halves[-1].of_part(given=False)[1])) < 2:
            raise DataError(
                "the outside table has surnames of fewer than 2 labels of the training table, that "
                "are not training names themselves, in one of its halves; use larger lists",
                option="outside",
            )
    return Outside(halves[0], halves[1], table.digest, (known_halves[0], known_halves[1]))


def balanced_weights(label_ids: LabelIds, least: int = 1) -> Floats:
    """Return weights of N names by which every label counts alike, ``(N,)``, mean 1; a label of
    fewer than ``least`` names counts for as much less."""
    _, of_label, counts = np.unique(label_ids, return_inverse=True, return_counts=True)
    weights = 1 / np.maximum(counts, least)[of_label]
    mean_one: Floats = weights / weights.mean()
    return mean_one


def pairs_of(
    examples: Examples, seed: int
) -> tuple[pa.LargeStringArray, pa.LargeStringArray, LabelIds]:
    """Return surnames, given names and label ids ``(P,)`` of ``PAIRS`` full names for each label
    that has both, drawn at random; of fewer where there are hundreds of labels."""
    rng, given = np.random.default_rng(seed), examples.given
    labels = np.unique(examples.label_ids).tolist()
    size = min(PAIRS, -(-_MOST_LOGITS // max(1, len(labels) ** 2)))
    rows: tuple[list[int], list[int]] = ([], [])
    for label in labels:
        of_label = examples.label_ids == label
        parts = np.flatnonzero(of_label & ~given), np.flatnonzero(of_label & given)
        if all(map(len, parts)):
            for drawn, part in zip(rows, parts, strict=True):
                drawn += rng.choice(part, size).tolist()
    surnames, given_names = (examples.names.take(pa.array(part, pa.int64())) for part in rows)
    return surnames, given_names, examples.label_ids[np.array(rows[0], np.int64)]


def pair_logits(
    version: ModelVersion, surnames: pa.LargeStringArray, given_names: pa.LargeStringArray
) -> Floats:
    """Return ``log p(l|s) + log p(l|g) - log p(l)`` of P full names, ``(P, L)``; p(l) are the label
    shares that the model assumes."""
    encoded = map(version.vocabulary.encode, (surnames, given_names))
    log_p = [np.log(calibrated(version, of_part)) for of_part in encoded]
    joint: Floats = log_p[0] + log_p[1] - np.log(np.maximum(version.assumed_shares, 1e-12))
    return joint


def fit_pair_exponent(version: ModelVersion, examples: Examples) -> float:
    """Return the exponent of the probabilities of full names that fits pairs of ``examples`` best,
    labels counting by the shares that the model assumes, 0.05 to ``MAX_EXPONENT``; 1 where
    no label has both parts."""
    *pairs, label_ids = pairs_of(examples, seed=0)
    if not len(label_ids):
        return 1.0
    shares = version.assumed_shares
    weights = None if (shares == shares[0]).all() else shares[label_ids]
    return min(1 / fit_temperature(pair_logits(version, *pairs), label_ids, weights), MAX_EXPONENT)


def measure_outside(version: ModelVersion, outside: Outside) -> OutsideMetrics:
    """Measure a version on the test half of the outside names: surnames, these without accents,
    given names, and full names made of both; names that the training lists have, too; and how many
    words that are no names it answers."""
    test, known = outside.test, outside.known[1]
    surnames, label_ids = test.of_part(given=False)
    *pairs, pair_ids = pairs_of(test, seed=1)
    full = softmax(pair_logits(version, *pairs) * version.pair_exponent)

    def measured(names: pa.LargeStringArray, label_ids: LabelIds) -> BalancedMetrics | None:
        probabilities, refused = probabilities_of(version, names)
        return balanced_metrics(probabilities, label_ids, version, refused)

    return OutsideMetrics(
        digest=outside.digest,
        calibration=len(outside.calibration.names),
        surnames=measured(surnames, label_ids),
        plain=measured(normalise_array(surnames, LATIN), label_ids),
        given=measured(*test.of_part(given=True)),
        full=balanced_metrics(full, pair_ids, version, np.zeros(len(pair_ids), bool)),
        known=measured(*known.of_part(given=False)),
        known_given=measured(*known.of_part(given=True)),
        outliers=len(test.outliers),
        outliers_answered=int((~_refused(version, test.outliers)).sum())
        / max(1, len(test.outliers)),
        names_refused=float(
            np.average(_refused(version, surnames), weights=balanced_weights(label_ids))
        ),
    )


def balanced_metrics(
    probabilities: Floats,
    label_ids: LabelIds,
    version: ModelVersion,
    refused: npt.NDArray[np.bool_],
) -> BalancedMetrics | None:
    """Return figures in which every label that occurs counts alike, for calibrated probabilities
    ``(N, L)`` and label ids ``(N,)``; None where N is 0. ``refused`` names, bool ``(N,)``, are such
    that scoring cannot read: not right, and left out of the figures of confidence."""
    if not len(label_ids):
        return None
    weights = balanced_weights(label_ids)
    correct = (probabilities.argmax(axis=1) == label_ids) & ~refused
    macro_recall = float(np.average(correct, weights=weights))
    rows = rows_of_confidence(refused)
    p, ids, weights = probabilities[rows], label_ids[rows], weights[rows]
    return BalancedMetrics(
        count=len(label_ids),
        macro_recall=macro_recall,
        ece=expected_calibration_error(p, ids, weights=weights),
        mean_confidence=float(np.average(p.max(axis=1), weights=weights)),
        recall={
            version.labels[i]: float(correct[label_ids == i].mean())
            for i in np.unique(label_ids).tolist()
        },
        reliability=reliability(p, ids, weights=weights),
    )


def calibrated(version: ModelVersion, encoded: Encoded) -> Floats:
    """Return the calibrated probabilities of N encoded names, float64 ``(N, L)``."""
    logits = logits_of(version.network(), encoded)[:, : len(version.labels)]
    scaled = torch.from_numpy(logits / version.temperatures(encoded.given))
    log_p = version.known_names.mix_into(scaled.log_softmax(dim=1), name_hashes(encoded))
    probabilities: Floats = log_p.exp().numpy()
    return probabilities


def probabilities_of(
    version: ModelVersion, names: pa.LargeStringArray
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the calibrated probabilities of N names, float64 ``(N, L)``, and which of them scoring
    cannot read, bool ``(N,)``."""
    encoded = version.vocabulary.encode(names)
    return calibrated(version, encoded), unscorable(encoded, names) != 0


def _refused(version: ModelVersion, names: pa.LargeStringArray) -> npt.NDArray[np.bool_]:
    """Return which of N texts scoring gives no label by default, ``(N,)``."""
    encoded = version.vocabulary.encode(names)
    logits = logits_of(version.network(), encoded)
    scores = surprise(torch.from_numpy(logits), len(version.labels))
    unfamiliar = version.calibration.novelty.novelty(scores).numpy() > version.max_unfamiliarity
    refused: npt.NDArray[np.bool_] = unfamiliar | (unscorable(encoded, names) != 0)
    return refused
