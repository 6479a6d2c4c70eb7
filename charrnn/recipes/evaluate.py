"""Measure model versions on labelled names."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from charrnn.errors import ConfigError, DataError, percent
from charrnn.integrations.object_storage import check_remote_unchanged, fetch_input
from charrnn.model.calibration import Floats
from charrnn.model.facts import Metrics, PairedDifference
from charrnn.model.families import families_of
from charrnn.model.labels import LANGUAGE
from charrnn.model.version import ModelVersion, resolve
from charrnn.recipes.metric_lines import label_lines, metrics_line
from charrnn.recipes.requests import CompareVersionsRequest, EvaluateRequest, LabelledRequest
from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.training.corpus import Corpus, load_corpus
from charrnn.training.labelled import LabelledColumns, load_labelled
from charrnn.training.metrics import evaluate, expected_accuracy, with_refusals
from charrnn.training.outside import probabilities_of
from charrnn.training.paired import Flips, flips, paired_bootstrap
from charrnn.training.splits import Examples, honest_split

_MOST_FLIPS = 15  # pairs of labels listed


@dataclass(frozen=True)
class MeasuredPart:
    """Metrics of a version on some names; ``families`` are those of the language families, None for
    labels that are no languages, and ``expected_accuracy`` comes from the confidences alone.
    ``name`` is a fold or a table."""

    name: str
    metrics: Metrics
    families: Metrics | None
    expected_accuracy: float

    def lines(self) -> list[str]:
        """Return the metrics, the selective accuracy and a table of the labels that occur."""
        m = self.metrics
        points = ((percent(float(share), 0), a) for share, a in m.selective.items())
        selective = ", ".join(f"{a:.4f} at {share}" for share, a in points)
        present = [label for label in m.labels if label.count]
        recall = self.families and self.families.balanced_accuracy
        of_families = "" if recall is None else f"; of the language families {recall:.4f}"
        return [
            metrics_line(self.name, m),
            *([f"refused by scoring, so not right: {m.refused} names"] if m.refused else []),
            f"accuracy 95 % interval {m.accuracy_low:.4f} to {m.accuracy_high:.4f}; expected from "
            f"the confidences alone {self.expected_accuracy:.4f}",
            f"accuracy on the most confident names: {selective}",
            f"macro recall {m.balanced_accuracy:.4f}{of_families}",
            *label_lines("label", replace(m, labels=tuple(present))),
            "",
        ]


@dataclass(frozen=True)
class Evaluation:
    """A version on each part; ``other_data`` is the training table where it is not the one that
    the version was trained on. ``left_out`` rows have no name or no label."""

    version: str
    parts: list[MeasuredPart]
    other_data: Path | None
    left_out: int = 0
    label_name: str = LANGUAGE

    def lines(self) -> list[str]:
        """Return the metrics of a version on each part."""
        version, data = self.version, self.other_data
        note = [f"note: {version} was trained on other data than {data}"] if data else []
        if self.left_out:
            note.append(f"left out {self.left_out:,} rows without a name or a {self.label_name}")
        return [*note, *(line for part in self.parts for line in part.lines())]


@dataclass(frozen=True)
class ComparedVersions:
    """Two versions on the same names; the difference is the second minus the first, the flips are
    from the first to the second."""

    versions: tuple[str, str]
    metrics: tuple[Metrics, Metrics]
    difference: PairedDifference
    flips: Flips

    def lines(self) -> list[str]:
        """Return both versions' metrics, the paired difference and the labels that change."""
        (one, other), table = self.versions, self.flips
        differences = {"accuracy": self.difference.accuracy, "macro-F1": self.difference.macro_f1}
        return [
            *(metrics_line(n, m) for n, m in zip(self.versions, self.metrics, strict=True)),
            *(
                f"{metric:12} {other} - {one}: {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
                for metric, (mean, low, high) in differences.items()
            ),
            f"flips        {table.changed} of {table.count} labels change: {table.fixed} fixed, "
            f"{table.broken} broken, {table.both_wrong} wrong in both",
            *(f"{'':12} {a} → {b}: {count}" for a, b, count in table.pairs[:_MOST_FLIPS]),
        ]


def evaluate_version(request: EvaluateRequest) -> Evaluation:
    """Measure a version on the honest folds of the training table, or on a labelled table.

    Raises:
        ModelError: there is no such version. InputMissingError, DataError: the table is at fault.
    """
    version, other_data, left_out = resolve(request.version, request.models), None, 0
    if request.on:
        examples, left_out = _labelled(request, version)
        parts = {str(request.on): examples}
    else:
        corpus = load_corpus(request.data)
        split = honest_split(corpus)
        parts = {
            "honest test": _relabelled(corpus, split.test, version.labels),
            "honest validation": _relabelled(corpus, split.validation, version.labels),
        }
        other_data = request.data if corpus.digest != version.facts.data_digest else None
    measured = []
    families, members = families_of(version.labels)
    answer = _as_scored if request.on else probabilities_of
    for name, examples in parts.items():
        probabilities, refused = answer(version, examples.names)
        ids, family_ids = examples.label_ids, members[examples.label_ids].argmax(axis=1)
        metrics = evaluate(probabilities, ids, version.labels, refused)
        of_families = None
        if version.label_name == LANGUAGE:
            of_families = evaluate(probabilities @ members, family_ids, families, refused)
        expected = expected_accuracy(probabilities, refused)
        measured.append(MeasuredPart(name, metrics, of_families, expected))
    return Evaluation(version.name, measured, other_data, left_out, version.label_name)


def compare_versions(request: CompareVersionsRequest) -> ComparedVersions:
    """Compare two versions on a labelled table, or on the honest test fold of the training table.

    Raises:
        ModelError: there is no such version. InputMissingError, DataError: the table is at fault.
    """
    one, other = (resolve(name, request.models) for name in (request.one, request.other))
    if one.labels != other.labels:
        raise ConfigError(
            f"{one.name} has {len(one.labels)} labels, {other.name} {len(other.labels)}, and they "
            "differ; evaluate the versions one by one"
        )
    if request.on:
        examples, _ = _labelled(request, one)
    else:
        corpus = load_corpus(request.data)
        examples = _relabelled(corpus, honest_split(corpus).test, one.labels)
    answer = _as_scored if request.on else probabilities_of
    (before, unread), (after, unread_after) = (answer(v, examples.names) for v in (one, other))
    label_ids = examples.label_ids
    old, new = with_refusals(before, unread), with_refusals(after, unread_after)
    labels = (*one.labels, "no label")
    return ComparedVersions(
        versions=(one.name, other.name),
        metrics=(
            evaluate(before, label_ids, one.labels, unread),
            evaluate(after, label_ids, other.labels, unread_after),
        ),
        difference=paired_bootstrap(new, old, label_ids),
        flips=flips(old.argmax(axis=1), new.argmax(axis=1), label_ids, labels),
    )


def _labelled(request: LabelledRequest, version: ModelVersion) -> tuple[Examples, int]:
    """Read the labelled table of a request, for the labels of a version; also return the number of
    rows that have no name or no label."""
    columns = LabelledColumns.of_names(
        request.name_column, request.given_column, request.surname_column,
        label=request.label_column or version.label_name,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as staging:
        path, remote = fetch_input(request.on, Path(staging))
        labelled = load_labelled(path, version.labels, request.csv, columns)
        check_remote_unchanged(remote)
    return labelled


def _as_scored(
    version: ModelVersion, names: pa.LargeStringArray
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return what ``probabilities_of`` returns, for names that are split into given name and
    surname as scoring splits them; none is unfamiliar."""
    options = ScoreOptions(probabilities=True, max_unfamiliarity=1.0)
    predictions, codes = Scorer(version).answers(names, options)
    rows = codes.to_numpy()
    return predictions.probabilities[rows].astype(np.float64), predictions.reason[rows] != 0


def _relabelled(corpus: Corpus, examples: Examples, labels: Sequence[str]) -> Examples:
    """Return examples of a training table with the ids of a version's labels.

    Raises:
        DataError: there are none, or the version does not know a label of the table.
    """
    ids = pc.index_in(pa.array(corpus.labels), pa.array(labels))
    unknown = [label for label in corpus.labels if label not in labels]
    if unknown or not len(examples.names):
        raise DataError(
            f"the training table has {len(examples.names)} such names, and {len(unknown)} labels "
            "that the version does not know; evaluate it on a table of the labels that it knows"
        )
    return replace(examples, label_ids=ids.to_numpy().astype(np.int64)[examples.label_ids])
