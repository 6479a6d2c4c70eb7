"""Predictions for distinct names, and the output columns made of them.

Columns are computed for the distinct names and spread over the rows by code, so that the work for a
name does not depend on how often it occurs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.model.families import families_of
from charrnn.scoring.dictionary import added_columns
from charrnn.scoring.options import (
    ABSTAINED,
    ABSTENTIONS,
    NAME_PARTS,
    REASONS,
    SCORED,
    STATUSES,
    UNSCORED,
    ScoreOptions,
)

Mask = npt.NDArray[np.bool_]
_ABSTAINED = [REASONS.index(reason) for reason in ABSTENTIONS]


@dataclass
class Predictions:
    """Predictions for D names, with L labels and k ranks. What the options leave out has no columns
    or is None; values of names that are not scored are meaningless.

    Attributes:
        ranked: label ids, most probable first, int64 ``(D, k)``.
        confidence: their probabilities, float32 ``(D, k)``.
        probabilities: of every label, float32 ``(D, L)`` or ``(D, 0)``.
        family: index among the F families of ``families_of``, int64, and the sum of the
            probabilities of its labels, float32, ``(D,)`` each.
        uncorrected: label ids, int64, and confidences, float32, before the prior correction,
            ``(D,)`` each.
        in_set: whether each label is in the prediction set, bool ``(D, L)`` or ``(D, 0)``.
        ambiguous: whether the name has several labels in the training data, bool ``(D,)``.
        unfamiliarity: see ``model.novelty``, 0 to 1, float32 ``(D,)``.
        parts: which parts of the name were scored, index in ``NAME_PARTS``, uint8 ``(D,)``.
        status: index in ``STATUSES``, uint8 ``(D,)``.
        reason: index in ``REASONS``, uint8 ``(D,)``; 0 for scored names.
        lengths: characters after normalising, int64 ``(D,)``.
        unknown: how many of these are not in the vocabulary, int64 ``(D,)``.
    """

    ranked: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    probabilities: npt.NDArray[np.float32]
    family: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None
    uncorrected: tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None
    in_set: Mask
    ambiguous: Mask | None
    unfamiliarity: npt.NDArray[np.float32] | None
    parts: npt.NDArray[np.uint8]
    status: npt.NDArray[np.uint8]
    reason: npt.NDArray[np.uint8]
    lengths: npt.NDArray[np.int64]
    unknown: npt.NDArray[np.int64]

    @classmethod
    def blank(
        cls,
        reason: npt.NDArray[np.uint8],
        options: ScoreOptions,
        label_count: int,
        *,
        unfamiliarity: bool = False,
    ) -> Self:
        """Return zeros for D reasons, ``(D,)``, to be filled in where a reason is 0;
        ``unfamiliarity`` says whether that is needed."""
        D, k = len(reason), min(options.top_k, label_count)

        def best(requested: bool) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]] | None:
            return (np.zeros(D, np.int64), np.zeros(D, np.float32)) if requested else None

        return cls(
            ranked=np.zeros((D, k), np.int64),
            confidence=np.zeros((D, k), np.float32),
            probabilities=np.zeros((D, label_count if options.probabilities else 0), np.float32),
            family=best(options.families),
            uncorrected=best(options.prior != "train"),
            in_set=np.zeros((D, label_count if options.coverage_target else 0), bool),
            ambiguous=None,
            unfamiliarity=np.zeros(D, np.float32) if unfamiliarity else None,
            parts=np.full(D, NAME_PARTS.index("surname"), np.uint8),
            status=np.where(reason == 0, SCORED, UNSCORED).astype(np.uint8),
            reason=reason,
            lengths=np.zeros(D, np.int64),
            unknown=np.zeros(D, np.int64),
        )

    def ranks(self) -> list[npt.NDArray[Any]]:
        """Return the arrays ``(D, …)`` that a ranking of labels fills in: ``ranked``,
        ``confidence``, ``probabilities``, ``in_set`` and, where requested, the two of ``family``
        and of ``uncorrected`` and ``unfamiliarity``."""
        first = (self.ranked, self.confidence, self.probabilities, self.in_set)
        last = () if self.unfamiliarity is None else (self.unfamiliarity,)
        return [*first, *(self.family or ()), *(self.uncorrected or ()), *last]

    def take(self, rows: npt.NDArray[Any]) -> Self:
        """Return the predictions for the names whose row numbers are ``rows``, int64 ``(n,)``."""
        return self._mapped(lambda values: values[rows])

    def put(self, rows: npt.NDArray[Any], others: Self) -> None:
        """Overwrite the predictions of the names in ``rows``, int64 ``(n,)``, by those of n others
        that were made with the same options."""

        def overwrite(values: npt.NDArray[Any], others: npt.NDArray[Any]) -> npt.NDArray[Any]:
            values[rows] = others
            return values

        self._mapped(overwrite, others)

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return predictions one behind the other; all were made with the same options."""
        return parts[0]._mapped(lambda *arrays: np.concatenate(arrays), *parts[1:])

    def _mapped(self, work: Callable[..., npt.NDArray[Any]], *others: Self) -> Self:
        """Return what ``work`` makes of each array, and of those of the others beside it."""

        def of(values: tuple[Any, ...]) -> Any:
            if isinstance(values[0], tuple):
                return tuple(map(work, *values))
            return None if values[0] is None else work(*values)

        columns = zip(*(vars(part).values() for part in (self, *others)), strict=True)
        return type(self)(**dict(zip(vars(self), map(of, columns), strict=True)))

    def abstain(self, min_confidence: float, max_unfamiliarity: float) -> None:
        """Change the status of scored names that are less familiar, or of a lower confidence, to
        abstained."""
        if self.unfamiliarity is not None:
            unfamiliar = (self.reason == 0) & (self.unfamiliarity > max_unfamiliarity)
            self.reason[unfamiliar] = REASONS.index("unfamiliar")
        uncertain = (self.reason == 0) & (self.confidence[:, 0] < min_confidence)
        self.reason[uncertain] = REASONS.index("low_confidence")
        self.status[np.isin(self.reason, _ABSTAINED)] = ABSTAINED


def prediction_columns(
    predictions: Predictions, codes: pa.Array, labels: Sequence[str], options: ScoreOptions
) -> dict[str, pa.Array]:
    """Spread the predictions for D distinct names over N rows: column name → array ``(N,)``.

    An abstained name has no language, but confidences and a set. It has a family where its language
    is of too low a confidence and the family is not.

    Args:
        codes: index of each row's name among the D, int32 ``(N,)``; null for a null name.
        labels: the L label names.
        options: the ones ``predictions`` were made with.
    """
    scored = predictions.status == SCORED
    with_confidence = scored | (predictions.status == ABSTAINED)
    everywhere = np.ones(len(scored), bool)

    def spread(values: npt.NDArray[Any], valid: Mask = with_confidence) -> pa.Array:
        return pa.array(np.ascontiguousarray(values), mask=~valid).take(codes)

    def chosen(ids: npt.NDArray[np.int64], values: Sequence[str], valid: Mask = scored) -> pa.Array:
        index_type = np.int8 if len(values) <= 127 else np.int32
        return _dictionary(spread(ids.astype(index_type), valid), values)

    arrays: list[pa.Array] = []
    for label_ids, confidence in zip(predictions.ranked.T, predictions.confidence.T, strict=True):
        arrays += [chosen(label_ids, labels), spread(confidence)]
    if predictions.family is not None:
        family_ids, confidence = predictions.family
        uncertain = predictions.reason == REASONS.index("low_confidence")
        answered = scored | (uncertain & (confidence >= options.min_confidence))
        arrays += [chosen(family_ids, families_of(labels)[0], answered), spread(confidence)]
    if predictions.uncorrected is not None:
        label_ids, confidence = predictions.uncorrected
        arrays += [chosen(label_ids, labels), spread(confidence)]
    if options.coverage_target:
        set_codes, sets = _label_sets(predictions.in_set, labels)
        sizes = predictions.in_set.sum(axis=1).astype(np.int16)
        arrays += [_dictionary(spread(set_codes), sets), spread(sizes)]
    if options.details:
        assert predictions.ambiguous is not None
        assert predictions.unfamiliarity is not None
        arrays += [spread(predictions.ambiguous), spread(predictions.unfamiliarity)]
    if options.names_parts:
        arrays.append(_dictionary(spread(predictions.parts.astype(np.int8)), NAME_PARTS))
    null_name = REASONS.index("null_name")
    status = spread(predictions.status.astype(np.int8), everywhere).fill_null(UNSCORED)
    reason = spread(predictions.reason.astype(np.int8), everywhere).fill_null(null_name)
    index = pc.subtract(reason, pa.scalar(1, pa.int8()))  # in REASONS[1:]; -1 if scored
    arrays.append(_dictionary(status, STATUSES))
    arrays.append(_dictionary(pc.if_else(pc.less(index, 0), None, index), REASONS[1:]))
    arrays += [spread(column) for column in predictions.probabilities.T]
    return dict(zip(added_columns(options, labels), arrays, strict=True))


def _dictionary(indices: pa.Array, values: Sequence[str | None]) -> pa.Array:
    return pa.DictionaryArray.from_arrays(indices, pa.array(values, pa.string()))


def _label_sets(in_set: Mask, labels: Sequence[str]) -> tuple[npt.NDArray[np.int32], list[str]]:
    """Return the code of each name's set, int32 ``(D,)``, and the distinct sets that the codes
    index, as ``'English|German'``. ``in_set`` is bool ``(D, L)``."""
    distinct, codes = np.unique(np.packbits(in_set, axis=1), axis=0, return_inverse=True)
    members = np.unpackbits(distinct, axis=1, count=len(labels)).astype(bool)
    sets = ["|".join(labels[i] for i in np.flatnonzero(row).tolist()) for row in members]
    return codes.reshape(-1).astype(np.int32), sets
