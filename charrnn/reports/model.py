"""The report of a model version; all it says comes from the version."""

from __future__ import annotations

__all__ = ["model_markdown", "model_report"]

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from charrnn.model.calibration import wilson_interval
from charrnn.model.version import ModelVersion
from charrnn.reports.figures import (
    NUMBERED_LABELS,
    draw_confusion,
    draw_curve,
    draw_reliability,
    percent,
)
from charrnn.reports.page import (
    Block,
    BulletList,
    Drawing,
    Heading,
    Table,
    Text,
    html_page,
    markdown_page,
    signed,
)

_DRAWN_LABELS = 40  # more are not readable in one matrix


def model_report(version: ModelVersion) -> bytes:
    """Return the report of a model version as a self-contained HTML page.

    The figures need the arrays in ``facts["test"]`` (see ``evaluation.report_data``) and matplotlib
    (extra ``flows``); without the arrays they are left out, without matplotlib their tables stand
    in.
    """
    return html_page(_title(version), _model_blocks(version))


def model_markdown(version: ModelVersion) -> bytes:
    """Return what ``model_report`` says as Markdown, with the figures' numbers as tables."""
    return markdown_page(_title(version), _model_blocks(version)).encode()


def _title(version: ModelVersion) -> str:
    return f"Model report: {version.name}" if version.name else "Model report"


def _model_blocks(version: ModelVersion) -> list[Block]:
    return [
        *_summary(version.facts),
        *_quality(version.facts),
        *_labels(version),
        *_confusions(version),
        *_confidence(version.facts),
        *_abstaining(version.facts),
        *_sets(version.facts),
        *_data(version),
        *_unfamiliarity(version),
        *_making(version),
        *_limits(version),
    ]


def _summary(facts: Mapping[str, Any]) -> list[Block]:
    """The findings in a few sentences."""
    test = facts["metrics"]["honest"]["test"]
    weak = [m for m in test["labels"] if m["count"] and m["recall"] < 0.5]
    said = [
        f"Of {test['count']:,} test names that training never saw, the most probable label is "
        f"right for {percent(test['accuracy'])} (95 % interval "
        f"{percent(test['accuracy_low'])} to {percent(test['accuracy_high'])}). "
        f"Macro-F1, which counts a rare label as much as a common one, is {test['macro_f1']:.3f}."
    ]
    compared = facts["baselines"].get("honest", {})
    if compared:
        best = max(compared, key=lambda name: compared[name]["accuracy"])
        found = compared[best]
        said.append(
            f"The best baseline, {best}, reaches {percent(found['accuracy'])} and macro-F1 "
            f"{found['macro_f1']:.3f}{_paired_words(facts.get('paired', {}).get(best))}."
        )
    said.append(
        f"{len(weak)} of {len(test['labels'])} labels have a recall below 0.5"
        + (f": {', '.join(m['label'] for m in weak)}." if weak else ".")
    )
    if "test" in facts:
        said.append(
            f"Mean confidence on the test names is {percent(facts['test']['expected_accuracy'])}; "
            f"the expected calibration error is {test['ece']:.3f}."
        )
    return [Heading("In short"), BulletList(said)]


def _paired_words(paired: Mapping[str, Sequence[float]] | None) -> str:
    if not paired:
        return ""
    difference, low, high = (signed(100 * value, 1) for value in paired["accuracy"])
    chance = paired["accuracy"][1] <= 0 <= paired["accuracy"][2]
    return (
        f"; the difference in accuracy is {difference} points (95 % interval {low} to {high}, "
        f"paired bootstrap){', which may be chance' if chance else ''}"
    )


def _quality(facts: Mapping[str, Any]) -> list[Block]:
    """Both protocols and their baselines in one table, then the paired comparison."""
    metrics, compared = facts["metrics"], facts["baselines"]
    honest, seeds = metrics["honest"]["test"], metrics["seed"]
    keys = ("macro_f1", "balanced_accuracy", "top3", "nll", "ece", "brier")

    def row(protocol: str, name: str, m: Mapping[str, Any]) -> tuple[Any, ...]:
        return (protocol, name, m["accuracy"], _range(m, "accuracy", ".3f"), *(m[k] for k in keys))

    rows = [
        row("honest", "this model, test", honest),
        row("honest", "this model, validation", metrics["honest"]["validation"]),
        *(row("honest", name, found) for name, found in compared.get("honest", {}).items()),
        *(row("seed", f"this recipe, run {i}", found) for i, found in enumerate(seeds)),
        *(row("seed", name, found) for name, found in compared.get("seed", {}).items()),
    ]
    head = ("protocol", "model", "accuracy", "95 % interval", "macro-F1", "balanced", "top-3",
            "NLL", "ECE", "Brier")  # fmt: skip
    blocks: list[Block] = [
        Heading("Quality"),
        Table(
            head,
            rows,
            f"Honest protocol: no name on two sides of the split; {honest['count']:,} test names. "
            "Seed protocol: the notebook's random 80/20 of all rows, with duplicates on both "
            "sides, so its figures are flattered. Accuracy with its 95 % Wilson interval; "
            "balanced is the mean recall of the labels; NLL in nats per name; for NLL, ECE and "
            "Brier, less is better. Baselines were measured on the same names.",
        ),
    ]
    if len(seeds) > 1:
        runs = np.array([m["accuracy"] for m in seeds])
        blocks.append(
            Text(
                f"Seed protocol over {len(runs)} runs: accuracy {runs.mean():.3f} ± "
                f"{runs.std(ddof=1):.3f} (standard deviation)."
            )
        )
    return [*blocks, *_paired(facts.get("paired", {}))]


def _paired(paired: Mapping[str, Mapping[str, Sequence[float]]]) -> list[Block]:
    if not paired:
        return []
    rows = [
        (name, measure, *(signed(value, 3) for value in found[key]))
        for name, found in paired.items()
        for measure, key in (("accuracy", "accuracy"), ("macro-F1", "macro_f1"))
    ]
    head = ("baseline", "measure", "difference", "low", "high")
    caption = (
        "This model minus the baseline on the honest test names, with the 95 % interval of a "
        "paired bootstrap. Where the interval holds 0, the difference may be chance."
    )
    return [Table(head, rows, caption)]


def _labels(version: ModelVersion) -> list[Block]:
    """Every label's rates, the label with most test names first."""
    share = dict(zip(version.labels, version.priors, strict=True))
    found = version.facts["metrics"]["honest"]["test"]["labels"]
    counts = version.facts.get("test", {}).get("confusion")
    given = np.sum(counts, axis=0) if counts else np.ones(len(found))  # unknown: take it as given
    rows = [
        (
            m["label"],
            percent(share[m["label"]]) if m["label"] in share else "–",
            m["count"],
            m["precision"] if n else "–",
            *((m["recall"], _range(m, "recall", ".3f"), m["f1"]) if m["count"] else ("–",) * 3),
        )
        for n, m in sorted(zip(given, found, strict=True), key=lambda pair: -pair[1]["count"])
    ]
    head = ("label", "share of training", "test names", "precision", "recall",
            "95 % interval of the recall", "F1")  # fmt: skip
    caption = (
        "Honest test, the largest label first. Recall: the share of the label's names that get it. "
        "Precision: the share of the names given the label that have it. 95 % Wilson intervals; "
        "with few names they are wide, and the rate may be far off. –: there is nothing to count."
    )
    return [Heading("Labels"), Table(head, rows, caption)]


def _confusions(version: ModelVersion) -> list[Block]:
    """The confusion matrix and its largest errors."""
    if "test" not in version.facts:
        return []
    counts = np.array(version.facts["test"]["confusion"])
    order = np.argsort(-counts.sum(axis=1), kind="stable")[:_DRAWN_LABELS]
    names, drawn = [version.labels[i] for i in order], counts[np.ix_(order, order)]
    totals = counts.sum(axis=1)[order]
    title = "Where the names of each label go. Every row is one true label, shade the share of its "
    title += "names; the diagonal is correct."
    title += " The figure in a cell is their number." if len(order) <= NUMBERED_LABELS else ""
    title += f" The {len(order)} largest labels are shown." if len(order) < len(counts) else ""
    return [
        Heading("Confusions"),
        Drawing(
            "confusion",
            title,
            (7.0, min(6.6, 2.3 + 0.24 * len(names))),
            lambda figure: draw_confusion(figure, drawn, totals, names),
            Table(
                ("true label", *names),
                [(name, *map(int, row)) for name, row in zip(names, drawn, strict=True)],
                "Test names by true label (row) and label given (column).",
            ),
        ),
        _errors(counts, version.labels),
    ]


def _errors(counts: npt.NDArray[np.int64], labels: Sequence[str]) -> Table:
    """The most frequent confusions of the matrix ``counts``."""
    wrong = counts - np.diag(np.diag(counts))
    worst = np.argsort(-wrong, axis=None, kind="stable")[:15]
    pairs = zip(*np.unravel_index(worst, wrong.shape), strict=True)
    rows = [
        (labels[i], labels[j], int(wrong[i, j]), percent(wrong[i, j] / counts[i].sum()))
        for i, j in pairs
        if wrong[i, j]
    ]
    caption = (
        f"The most frequent errors: {len(rows)} pairs hold {sum(row[2] for row in rows)} of all "
        f"{int(wrong.sum())}."
    )
    return Table(("true label", "label given", "names", "of the true label"), rows, caption)


def _confidence(facts: Mapping[str, Any]) -> list[Block]:
    """The reliability diagram."""
    if "test" not in facts:
        return []
    found = facts["test"]["reliability"]
    edges = np.linspace(0, 1, len(found["count"]) + 1)
    rows = [
        (f"{low:.2f} to {high:.2f}", n, confidence, accuracy, _wilson(accuracy, n))
        for low, high, n, confidence, accuracy in zip(
            edges, edges[1:], found["count"], found["confidence"], found["accuracy"], strict=False
        )
        if n
    ]
    test = facts["metrics"]["honest"]["test"]
    return [
        Heading("Confidence"),
        Text(
            f"Mean confidence on the test names is {facts['test']['expected_accuracy']:.3f}, their "
            f"accuracy {test['accuracy']:.3f}. On a table without truth the mean confidence is the "
            "accuracy to expect, as long as its names are like these; on another mix of labels it "
            "is not."
        ),
        Text(f"The expected calibration error is {test['ece']:.3f}{_noise_words(facts)}."),
        Drawing(
            "reliability",
            "How often the label is right, by stated confidence. On the dashed line a confidence "
            "means what it says; vertical lines are 95 % Wilson intervals. Below, how many names "
            "have that confidence.",
            (7.0, 4.9),
            lambda figure: draw_reliability(figure, found),
            Table(
                ("confidence", "names", "mean confidence", "accuracy", "95 % interval"),
                rows,
                "How often the label is right, by stated confidence; bins without a name are left "
                "out.",
            ),
        ),
    ]


def _noise_words(facts: Mapping[str, Any]) -> str:
    """What calibration error chance alone would show, where it was measured."""
    noise = facts["test"].get("ece_noise")
    if not noise:
        return ""
    mean, high = noise["mean"], noise["95th percentile"]
    return (
        f"; on as many names a perfectly calibrated model would show {mean:.3f} on average, and "
        f"more than {high:.3f} one time in twenty"
    )


def _abstaining(facts: Mapping[str, Any]) -> list[Block]:
    """Accuracy on the most confident names: a curve and a few of its points."""
    selective = facts["metrics"]["honest"]["test"]["selective"]
    caption = "Accuracy where only the most confident share of the test names is answered."
    if "test" not in facts:
        rows = [(percent(float(share), 0), accuracy) for share, accuracy in selective.items()]
        return [Heading("Abstaining"), Table(("answered", "accuracy"), rows, caption)]
    count = facts["metrics"]["honest"]["test"]["count"]
    curve = {key: np.array(values) for key, values in facts["test"]["risk_coverage"].items()}
    chosen = [int(np.abs(curve["coverage"] - s).argmin()) for s in (1, 0.9, 0.8, 0.7, 0.5)]
    columns = ("coverage", "accuracy", "confidence")
    points = [tuple(float(curve[key][i]) for key in columns) for i in dict.fromkeys(chosen)]
    return [
        Heading("Abstaining"),
        Drawing(
            "abstaining",
            "Accuracy against the share of names answered, the most confident first. Answering "
            "fewer names makes the answers more often right. The band is the 95 % Wilson interval.",
            (7.0, 3.6),
            lambda figure: draw_curve(figure, curve, points, count),
            Table(
                ("answered", "accuracy", "confidence from"),
                [(percent(share, 0), accuracy, from_) for share, accuracy, from_ in points],
                caption + " The last column is the least confidence among them, to be used as "
                "--min-confidence.",
            ),
            folded=False,
        ),
    ]


def _sets(facts: Mapping[str, Any]) -> list[Block]:
    """Coverage of prediction sets, over all names and by size of the label."""
    if "test" not in facts:
        return []
    rows, low = [], []
    for target, found in facts["test"]["sets"].items():
        for share in (found["overall"], *found["groups"]):
            if share["count"]:
                rows.append(_set_row(float(target), share))
        short = [s["name"] for s in found["labels"] if s["count"] and s["high"] < float(target)]
        single = f"{percent(found['single'], 0)} of the sets hold one label"
        low.append(
            f"Target {percent(float(target), 0)}: {single}. Labels whose whole interval lies "
            f"below it: {', '.join(short) or 'none'}."
        )
    head = ("target", "names of", "names", "covered", "95 % interval",
            "labels per set")  # fmt: skip
    return [
        Heading("Prediction sets"),
        Text(
            "Instead of one label, scoring can give the set of labels that holds the true one for "
            "a chosen share of the names (split conformal prediction, fitted on the validation "
            "names). The promise is for all names together, not for every label: names of rare "
            "labels are covered less often."
        ),
        Table(head, rows, "Coverage on the test names; label sizes are counted there, too."),
        BulletList(low),
    ]


def _set_row(target: float, share: Mapping[str, Any]) -> tuple[Any, ...]:
    interval = f"{share['low']:.3f} to {share['high']:.3f}"
    size = f"{share['mean_size']:.2f}"
    return (percent(target, 0), share["name"], share["count"], share["coverage"], interval, size)


def _data(version: ModelVersion) -> list[Block]:
    facts = version.facts
    honest = facts["metrics"]["honest"]
    largest = max(range(len(version.labels)), key=lambda i: version.priors[i])
    rows: list[tuple[str, str]] = [
        ("training names", f"{facts['examples']:,}"),
        ("validation names", f"{honest['validation']['count']:,}"),
        ("test names", f"{honest['test']['count']:,}"),
        ("labels", f"{len(version.labels)}"),
        (
            "largest label",
            f"{version.labels[largest]}, {percent(version.priors[largest])} of the training names",
        ),
    ]
    rows.append(("training names under several labels", f"{len(version.calibration.ambiguous):,}"))
    rows.append(("data digest", facts["data_digest"]))
    note = (
        "Names are counted once per label, normalised, without junk. A name found under several "
        "labels has no single right answer, so no model can reach 100 %. The shares of the labels "
        "in training are in the table of labels; they say how long the lists were, not how common "
        "the languages are."
    )
    return [Heading("Data"), Table(("", "value"), rows), Text(note)]


def _unfamiliarity(version: ModelVersion) -> list[Block]:
    """The scale on which a name looks unlike the training names, and what thresholds flag."""
    quantiles = version.calibration.characters.quantiles
    measured = version.facts.get("test", {}).get("unfamiliar", {})
    count = version.facts["metrics"]["honest"]["test"]["count"]
    rows = []
    for text in measured or ("0.9", "0.95", "0.99", "0.999"):
        threshold = float(text)
        rows.append(
            (
                text,
                f"{np.interp(threshold, np.linspace(0, 1, len(quantiles)), quantiles):.2f}",
                percent(1 - threshold),
                percent(measured[text]) if measured else "–",
                _wilson(measured[text], count, percent) if measured else "–",
            )
        )
    head = (
        "unfamiliarity above",
        "nats per character",
        "validation names",
        "test names",
        "95 % interval",
    )
    caption = (
        "Names that are flagged though they come from the same lists. On validation names the rate "
        "is as stated by construction; the test names are the check."
    )
    about = (
        "Unfamiliarity is the share of validation names whose letters surprise a trigram model of "
        "the training names less. It is for finding junk and foreign scripts in a name column, not "
        "for judging a name."
    )
    return [Heading("Unfamiliarity"), Text(about), Table(head, rows, caption)]


def _making(version: ModelVersion) -> list[Block]:
    facts = version.facts
    rows = [
        ("preset", facts["preset"]),
        ("temperature", f"{version.temperature:.4f}"),
        *((f"network {_words(k)}", str(v)) for k, v in version.config.to_json().items()),
        *((f"training {_words(k)}", str(v)) for k, v in facts["train"].items()),
        *((k, str(v)) for k, v in facts["made"].items()),
    ]
    return [Heading("How it was made"), Table(("", "value"), rows)]


def _limits(version: ModelVersion) -> list[Block]:
    """What the model cannot do and what it must not be used for."""
    return [
        Heading("Limits and uses"),
        BulletList(
            [
                f"It knows {len(version.labels)} labels and gives one of them to any name it can "
                "read, also to names of other languages.",
                "The figures hold for names like the test names. Another mix of labels, spelling "
                "or script gives other figures: measure on a labelled sample of your own.",
                "Spelling does not decide: names are shared between languages, and they are "
                "married into, adopted and changed.",
                "Names are personal data; inferring origin from them can fall under special rules "
                "(GDPR art. 9).",
            ]
        ),
        Text(
            "Supported: aggregate statistics with a stated error, data cleaning, research. "
            "Abstain below a confidence, use prediction sets, and report shares with their "
            "uncertainty."
        ),
        Text(
            "Not supported: decisions about a single person (hiring, credit, policing, "
            "immigration), advertising by origin, and statements about a person's origin, "
            "nationality or ethnicity."
        ),
    ]


def _words(key: str) -> str:
    return key.replace("_", " ")


def _range(found: Mapping[str, Any], key: str, form: str) -> str:
    return f"{found[key + '_low']:{form}} to {found[key + '_high']:{form}}"


def _wilson(
    share: float, count: int, shown: Callable[[float], str] = lambda rate: f"{rate:.3f}"
) -> str:
    low, high = wilson_interval(round(share * count), count)
    return f"{shown(low)} to {shown(high)}"
