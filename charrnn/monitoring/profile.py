"""Is a table still like the names the model was made for, and like the run before?

A *profile* is what a run saw, as counts: labels, confidences, lengths, unknown characters,
duplicates, reasons. It holds no name, and profiles of partitions add up. The answers in it are the
model's own, before a prior is applied and before anything is abstained from, so that runs with
other options can be compared, also with the profile of the model's validation names.

Distributions are compared by the population stability index, PSI = Σ (p - q) ln(p / q), with the
usual limits of 0.1 (moderate) and 0.25 (large). Two samples of one population, of n and m names,
have by chance a PSI of about (1/n + 1/m) χ² with as many degrees of freedom as bins less one
(Yurdakul and Naranjo 2020, "Statistical properties of the population stability index", Journal of
Risk Model Validation 14(4)). Rates are compared by their difference. Either is called a drift only
beyond its limit *and* beyond what chance does once in a thousand; equal names are no independent
evidence, so n counts distinct names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from charrnn.model.facts import Profile
from charrnn.scoring.columns import Predictions
from charrnn.scoring.options import REASONS, UNSCORED

Counts = npt.NDArray[np.int64]

CONFIDENCE_BINS = 20  # of equal width, 0 to 1
LENGTHS = (1, 4, 5, 6, 7, 8, 9, 10, 11, 13, 16, 21, 31)  # a bin's shortest length, in characters
_LENGTH_BIN = np.searchsorted(LENGTHS, np.arange(LENGTHS[-1] + 1), side="right")  # 0: empty


def profile_of_rows(found: Predictions, codes: pa.Array, labels: Sequence[str]) -> Profile:
    """Return the profile of a partition.

    Args:
        found: the answers for its N distinct names.
        codes: int32 ``(rows,)``, which of them a row has; null for a null name.
        labels: the model's.
    """
    given = codes.drop_null().to_numpy()
    if found.uncorrected is None:
        label_ids, confidence = found.ranked[:, 0], found.confidence[:, 0]
    else:
        label_ids, confidence = found.uncorrected
    return profile_of_names(
        labels=labels,
        label_ids=label_ids,
        confidence=confidence,
        reason=np.where(found.status == UNSCORED, found.reason, 0),
        lengths=found.lengths,
        unknown=found.unknown,
        rows=np.bincount(given, minlength=len(found.status)),
        nulls=codes.null_count,
    )


def profile_of_names(
    *,
    labels: Sequence[str],
    label_ids: Counts,
    confidence: npt.NDArray[Any],
    reason: npt.NDArray[Any],
    lengths: Counts,
    unknown: Counts,
    rows: Counts | None = None,
    nulls: int = 0,
) -> Profile:
    """Return the profile of N distinct names, arrays of ``(N,)``.

    Args:
        label_ids, confidence: of the most probable label; meaningless where ``reason`` is not 0.
        reason: why a name has no answer, an index into ``REASONS``; 0 where it has one.
        lengths: characters of each name; unknown: those of them not in the vocabulary.
        rows: how many rows have each name; None: one each.
        nulls: rows whose name is null.
    """
    weight = np.ones(len(lengths), np.int64) if rows is None else rows
    answered = reason == 0
    answered_rows = weight * answered
    by_label = _weighed(np.where(answered, label_ids, 0), answered_rows, len(labels))
    by_reason = _weighed(reason, weight, len(REASONS))
    by_reason[REASONS.index("null_name")] += nulls
    by_length = _weighed(_LENGTH_BIN[np.minimum(lengths, LENGTHS[-1])], weight, len(LENGTHS) + 1)
    return Profile(
        rows=int(weight.sum()) + nulls,
        names=int(weight.sum()),
        distinct=len(weight),
        answered=int(answered_rows.sum()),
        answered_distinct=int(answered.sum()),
        labels=_nonzero(labels, by_label),
        confidences=confidence_histogram(confidence, answered_rows),
        confidence_sum=float(np.where(answered, confidence, 0).astype(np.float64) @ answered_rows),
        lengths=by_length[1:],
        characters=int(lengths @ weight),
        unknown=int(unknown @ weight),
        unscored=_nonzero(REASONS[1:], by_reason[1:]),
    )


def confidence_histogram(confidence: npt.NDArray[Any], rows: Counts | None = None) -> list[int]:
    """Return how many rows have a confidence of each of the ``CONFIDENCE_BINS``."""
    bin_of = np.minimum((confidence * CONFIDENCE_BINS).astype(np.uint8), CONFIDENCE_BINS - 1)
    return _weighed(bin_of, rows, CONFIDENCE_BINS)


def validation_profile(
    labels: Sequence[str], probabilities: npt.NDArray[np.float64], lengths: Counts, unknown: Counts
) -> Profile:
    """Return the profile of M validation names: calibrated probabilities ``(M, L)``, characters and
    unknown characters ``(M,)``."""
    return profile_of_names(
        labels=labels,
        label_ids=probabilities.argmax(axis=1),
        confidence=probabilities.max(axis=1),
        reason=np.zeros(len(probabilities), np.int64),
        lengths=lengths,
        unknown=unknown,
    )


def total(profiles: Iterable[Profile]) -> Profile:
    """Return the profile of several parts together, the most frequent labels and reasons first."""
    parts = list(profiles)

    def added(name: str) -> Any:
        return sum(getattr(part, name) for part in parts)

    def counted(name: str) -> dict[str, int]:
        counter = Counter[str]()
        for part in parts:
            counter.update(getattr(part, name))
        return dict(counter.most_common())

    def binned(name: str, bins: int) -> list[int]:
        return [sum(getattr(part, name)[i] for part in parts) for i in range(bins)]

    return Profile(
        rows=added("rows"),
        names=added("names"),
        distinct=added("distinct"),
        answered=added("answered"),
        answered_distinct=added("answered_distinct"),
        labels=counted("labels"),
        confidences=binned("confidences", CONFIDENCE_BINS),
        confidence_sum=float(added("confidence_sum")),
        lengths=binned("lengths", len(LENGTHS)),
        characters=added("characters"),
        unknown=added("unknown"),
        unscored=counted("unscored"),
    )


def _weighed(bin_of: npt.NDArray[Any], rows: Counts | None, bins: int) -> list[int]:
    counts: list[int] = np.bincount(bin_of, rows, bins).astype(np.int64).tolist()
    return counts


def _nonzero(keys: Sequence[str | None], counts: Sequence[int]) -> dict[str, int]:
    return {str(key): n for key, n in zip(keys, counts, strict=True) if n}
