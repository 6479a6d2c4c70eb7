"""Profiles: counts that describe the names of a run or of a model's validation fold.

A profile counts labels, confidences, lengths, unknown characters, duplicates and reasons. It holds
no name, and the profiles of partitions can be added. Labels and confidences are those of the model,
before a prior is applied and before abstention, so that runs with different options, and the
validation names of the model, can be compared (see ``monitoring.drift``).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from charrnn.model.facts import CONFIDENCE_BINS, LENGTH_BINS, Profile
from charrnn.scoring.columns import Predictions
from charrnn.scoring.options import NAME_PARTS, REASONS, UNSCORED

Counts = npt.NDArray[np.int64]

LENGTHS = (1, 4, 5, 6, 7, 8, 9, 10, 11, 13, 16, 21, 31)  # lower bounds of the bins, characters
_PAIR = NAME_PARTS.index("given+surname")
_LENGTH_BIN = np.searchsorted(LENGTHS, np.arange(LENGTHS[-1] + 1), side="right")  # 0: empty name


def profile_of_rows(predictions: Predictions, codes: pa.Array, labels: Sequence[str]) -> Profile:
    """Return the profile of a partition.

    Args:
        predictions: of its N distinct names.
        codes: index of each row's name among them, int32 ``(rows,)``; null for a null name.
        labels: labels of the model.
    """
    name_of_row = codes.drop_null().to_numpy()
    rows = np.bincount(name_of_row, minlength=len(predictions.status))
    pairs = (predictions.parts == _PAIR) & (predictions.status != UNSCORED)
    if predictions.uncorrected is None:
        label_ids, confidence = predictions.ranked[:, 0], predictions.confidence[:, 0]
    else:
        label_ids, confidence = predictions.uncorrected
    profile = profile_of_names(
        labels=labels,
        label_ids=label_ids,
        confidence=confidence,
        reason=np.where(predictions.status == UNSCORED, predictions.reason, 0),
        lengths=predictions.lengths,
        unknown=predictions.unknown,
        rows=rows,
        nulls=codes.null_count,
    )
    return replace(profile, pairs=int(rows @ pairs))


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
    by_label = _weighted_counts(np.where(answered, label_ids, 0), answered_rows, len(labels))
    by_reason = _weighted_counts(reason, weight, len(REASONS))
    by_reason[REASONS.index("null_name")] += nulls
    by_length = _weighted_counts(
        _LENGTH_BIN[np.minimum(lengths, LENGTHS[-1])], weight, len(LENGTHS) + 1
    )
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
    """Return the number of rows by confidence, in ``CONFIDENCE_BINS`` bins.

    Args:
        confidence: 0 to 1, ``(N,)``.
        rows: number of rows of each, ``(N,)``; None: one each.
    """
    bin_of = np.minimum((confidence * CONFIDENCE_BINS).astype(np.uint8), CONFIDENCE_BINS - 1)
    return _weighted_counts(bin_of, rows, CONFIDENCE_BINS)


def validation_profile(
    labels: Sequence[str],
    probabilities: npt.NDArray[np.float64],
    lengths: Counts,
    unknown: Counts,
    reason: npt.NDArray[Any],
) -> Profile:
    """Return the profile of M validation names: calibrated probabilities ``(M, L)``, characters and
    unknown characters ``(M,)``, and why they have no answer, an index into ``REASONS``."""
    return profile_of_names(
        labels=labels,
        label_ids=probabilities.argmax(axis=1),
        confidence=probabilities.max(axis=1),
        reason=reason,
        lengths=lengths,
        unknown=unknown,
    )


def total(profiles: Iterable[Profile]) -> Profile:
    """Return the profile of several parts together, the most frequent labels and reasons first."""
    parts = list(profiles)
    empty = Profile(0, 0, 0, 0, 0, {}, [0] * CONFIDENCE_BINS, 0.0, [0] * LENGTH_BINS, 0, 0, {})

    def add(start: Any, counts: list[Any]) -> Any:
        if isinstance(start, dict):
            return dict(sum(map(Counter, counts), Counter[str]()).most_common())
        if isinstance(start, list):
            return [sum(column) for column in zip(start, *counts, strict=True)]
        return sum(counts, start)

    values = {name: [getattr(part, name) for part in parts] for name in vars(empty)}
    return Profile(**{name: add(start, values[name]) for name, start in vars(empty).items()})


def _weighted_counts(bin_of: npt.NDArray[Any], rows: Counts | None, bins: int) -> list[int]:
    counts: list[int] = np.bincount(bin_of, rows, bins).astype(np.int64).tolist()
    return counts


def _nonzero(keys: Sequence[str | None], counts: Sequence[int]) -> dict[str, int]:
    return {str(key): n for key, n in zip(keys, counts, strict=True) if n}
