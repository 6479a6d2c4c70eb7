"""Answers: what is asked of the engine, what it found, and the columns that say so.

The columns are built for distinct names and spread over all rows by code, so that a name that
occurs a million times is worked out once.
"""

from __future__ import annotations

__all__ = ["REASONS", "STATUSES", "Predictions", "ScoreOptions", "answer_columns"]

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.errors import ConfigError

STATUSES = ("scored", "abstained", "unscored")
# Why a name was not scored; None (index 0) means it was.
REASONS = (
    None,
    "null_name",
    "empty_name",
    "too_long",
    "unknown_script",
    "no_letters",
    "low_confidence",
)
SCORED, ABSTAINED, UNSCORED = range(3)


@dataclass(frozen=True)
class ScoreOptions:
    """What is asked of the engine; all of it is part of a run's fingerprint.

    Args:
        name_column: the input column that holds the names.
        top_k: how many labels to give per name, most likely first, at least 1.
        probabilities: also give one column per label.
        prefix: put before every column of ours.
        min_confidence: abstain below this confidence, 0 to 1; 0 never abstains.
        prior: label shares of the table to be scored: ``train`` (as the model was calibrated),
            ``uniform``, ``estimate`` (from the table itself), or the L shares.
        coverage_target: also give the set of labels that holds the true one for this share of
            names, such as 0.9; 0 gives no set.
        details: also say whether the name is ambiguous and how unfamiliar it is.
        transliterate: write names in other scripts in Latin letters first.
        max_length: longest name that is scored, in characters.
        max_unknown: largest share of characters outside the model's vocabulary, 0 to 1.

    Raises:
        ConfigError: a value is out of range.
    """

    name_column: str = "name"
    top_k: int = 3
    probabilities: bool = False
    prefix: str = ""
    min_confidence: float = 0.0
    prior: str | tuple[float, ...] = "train"
    coverage_target: float = 0.0
    details: bool = False
    transliterate: bool = False
    max_length: int = 256
    max_unknown: float = 0.3

    def __post_init__(self) -> None:
        if self.top_k < 1 or self.max_length < 1:
            raise ConfigError("top_k and max_length must be at least 1")
        if not (0 <= self.min_confidence <= 1 and 0 <= self.max_unknown <= 1):
            raise ConfigError("min_confidence and max_unknown must be between 0 and 1")
        if not 0 <= self.coverage_target < 1:
            raise ConfigError("coverage_target must be at least 0 and below 1")
        if isinstance(self.prior, str) and self.prior not in ("train", "uniform", "estimate"):
            raise ConfigError(f"prior {self.prior!r} is not train, uniform, estimate or shares")

    def columns(self, labels: Sequence[str]) -> list[str]:
        """Return the names of the columns that scoring adds, in order."""
        names: list[str] = []
        for rank in range(1, min(self.top_k, len(labels)) + 1):
            suffix = "" if rank == 1 else f"_{rank}"
            names += [f"language{suffix}", f"confidence{suffix}"]
        if self.prior != "train":
            names += ["language_uncorrected", "confidence_uncorrected"]
        if self.coverage_target:
            names += ["languages_set", "set_size"]
        if self.details:
            names += ["ambiguous", "unfamiliarity"]
        names += ["status", "reason"]
        if self.probabilities:
            names += [f"probability_{label}" for label in labels]
        return [self.prefix + name for name in names]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        fields = asdict(self)
        return {**fields, "prior": self.prior if isinstance(self.prior, str) else list(self.prior)}


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
