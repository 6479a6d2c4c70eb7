"""Answers: what is asked of the engine, what it found, and the columns that say so.

The columns are built for distinct names and spread over all rows by code, so that a name that
occurs a million times is worked out once.
"""

from __future__ import annotations

__all__ = ["Predictions", "answer_columns"]

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.scoring.options import ABSTAINED, REASONS, SCORED, STATUSES, UNSCORED, ScoreOptions


@dataclass
class Predictions:
    """Answers for N names (L labels, k ranks); what was not asked for has no columns or is None.

    Attributes:
        ranked: label ids, most likely first, ``(N, k)``; meaningless where reason is not 0.
        confidence: their probabilities, float32 ``(N, k)``.
        probabilities: of every label, float32 ``(N, L)`` or ``(N, 0)``.
        uncorrected: label ids and confidences before the prior correction, ``(N,)`` each.
        in_set: whether a label is in the prediction set, bool ``(N, L)`` or ``(N, 0)``.
        ambiguous: bool ``(N,)``; unfamiliarity: float32 ``(N,)``.
        status: index into ``STATUSES``, uint8 ``(N,)``.
        reason: index into ``REASONS``, uint8 ``(N,)``.
        lengths: characters after normalising, int64 ``(N,)``; unknown: those of them that are not
            in the vocabulary.
    """

    ranked: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    uncorrected: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None
    in_set: npt.NDArray[np.bool_]
    ambiguous: npt.NDArray[np.bool_] | None
    unfamiliarity: npt.NDArray[np.float32] | None
    status: npt.NDArray[np.uint8]
    reason: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int64]
    unknown: npt.NDArray[np.int64]

    @classmethod
    def blank(
        cls, reason: npt.NDArray[np.uint8], options: ScoreOptions, label_count: int
    ) -> Predictions:
        """Return predictions of the right shapes, still to be filled where ``reason`` is 0."""
        N, k = len(reason), min(options.top_k, label_count)
        corrected = options.prior != "train"
        return cls(
            ranked=np.zeros((N, k), np.int64),
            confidence=np.zeros((N, k), np.float32),
            probabilities=np.zeros((N, label_count if options.probabilities else 0), np.float32),
            uncorrected=(np.zeros(N, np.int64), np.zeros(N, np.float32)) if corrected else None,
            in_set=np.zeros((N, label_count if options.coverage_target else 0), bool),
            ambiguous=None,
            unfamiliarity=None,
            status=np.where(reason == 0, SCORED, UNSCORED).astype(np.uint8),
            reason=reason,
            lengths=np.zeros(N, np.int64),
            unknown=np.zeros(N, np.int64),
        )

    def abstain_below(self, confidence: float) -> None:
        """Turn scored names of lower confidence into abstained ones."""
        doubtful = (self.reason == 0) & (self.confidence[:, 0] < confidence)
        self.reason[doubtful] = REASONS.index("low_confidence")
        self.status[doubtful] = ABSTAINED


def answer_columns(
    found: Predictions, codes: pa.Array, labels: Sequence[str], options: ScoreOptions
) -> dict[str, pa.Array]:
    """Spread the answers for distinct names over all rows.

    ``codes`` is int32 ``(rows,)``: which of the N answers a row gets, null for a null name. An
    abstained name gets no language but keeps its confidence and its set.
    """
    scored = found.status == SCORED
    answered = scored | (found.status == ABSTAINED)

    def spread(values: npt.NDArray[Any], given: npt.NDArray[np.bool_] = answered) -> pa.Array:
        return pa.array(np.ascontiguousarray(values), mask=~given).take(codes)

    def language(ids: npt.NDArray[np.int64]) -> pa.Array:
        return _dictionary(spread(ids.astype(_index_type(len(labels))), scored), labels)

    arrays: list[pa.Array] = []
    for rank in range(found.ranked.shape[1]):
        arrays += [language(found.ranked[:, rank]), spread(found.confidence[:, rank])]
    if found.uncorrected is not None:
        arrays += [language(found.uncorrected[0]), spread(found.uncorrected[1])]
    if options.coverage_target:
        of_name, sets = _label_sets(found.in_set, labels)
        arrays.append(_dictionary(spread(of_name), sets))
        arrays.append(spread(found.in_set.sum(axis=1).astype(np.int16)))
    if found.ambiguous is not None and found.unfamiliarity is not None:
        arrays += [spread(found.ambiguous), spread(found.unfamiliarity)]
    everyone = np.ones(len(found.status), bool)
    status = spread(found.status.astype(np.int8), everyone).fill_null(UNSCORED)
    reason = spread(found.reason.astype(np.int8), everyone).fill_null(REASONS.index("null_name"))
    index = pc.subtract(reason, pa.scalar(1, pa.int8()))  # into REASONS[1:]; -1 was scored
    arrays.append(_dictionary(status, STATUSES))
    arrays.append(_dictionary(pc.if_else(pc.less(index, 0), None, index), REASONS[1:]))
    arrays += [spread(column) for column in found.probabilities.T]
    return dict(zip(options.columns(labels), arrays, strict=True))


def _dictionary(indices: pa.Array, values: Sequence[str | None]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string()))


def _index_type(count: int) -> type[np.signedinteger[Any]]:
    return np.int8 if count <= 127 else np.int32


def _label_sets(
    in_set: npt.NDArray[np.bool_], labels: Sequence[str]
) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Return which set each name has, int32 ``(N,)``, and the sets as ``'English|German'``."""
    packed = np.packbits(in_set, axis=1)
    distinct, of_name = np.unique(packed, axis=0, return_inverse=True)
    members = np.unpackbits(distinct, axis=1, count=len(labels)).astype(bool)
    sets = ["|".join(labels[i] for i in np.flatnonzero(row).tolist()) for row in members]
    return of_name.reshape(-1).astype(np.int32), sets
