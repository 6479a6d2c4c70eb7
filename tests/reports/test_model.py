"""The report of a model: whole, self-contained, without a name, the same bytes every time."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from model_facts import facts_of
from pages import checked, figures

from charrnn.model.calibration import softmax
from charrnn.model.facts import (
    CalibrationNoise,
    HonestMetrics,
    ModelFacts,
    PairedDifference,
    ProtocolMetrics,
    Provenance,
)
from charrnn.model.novelty import NoveltyScale
from charrnn.model.version import (
    PRETRAINED,
    Calibration,
    ModelVersion,
    load_version,
    resolve,
    save_version,
)
from charrnn.reports.model import model_markdown, model_report
from charrnn.reports.page import RESPONSIBLE_USE
from charrnn.training.baselines import majority_probabilities
from charrnn.training.metrics import evaluate, report_data
from charrnn.training.outside import Outside, measure_outside
from charrnn.training.paired import paired_bootstrap
from charrnn.training.splits import Examples

GOLDEN = Path(__file__).parents[1] / "golden"
CANARY = "zanzibarova"
HOSTILE = "<b>$x_1$ | `y`</b>&\"'"
BASELINE = "majority label"


def drawn(labels: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated-looking probabilities of names whose first labels are the common ones."""
    rng = np.random.default_rng(seed)
    priors = 0.5 ** np.arange(labels) + 0.02
    true = rng.choice(labels, size=rows, p=priors / priors.sum())
    logits = rng.normal(size=(rows, labels))
    logits[np.arange(rows), true] += 2
    return softmax(logits), true


def measured(version: ModelVersion, labels: tuple[str, ...]) -> ModelVersion:
    """A version of those labels with all that training puts into its facts."""
    L = len(labels)
    (test, true), (held_out, held_out_true) = drawn(L, 300, 0), drawn(L, 400, 1)
    majority = majority_probabilities(true, L, len(true))
    metrics = evaluate(test, true, labels)
    compared = {BASELINE: evaluate(majority, true, labels)}
    return dataclasses.replace(
        version,
        labels=labels,
        priors=(1 / L,) * L,
        calibration=Calibration(
            logits=np.log(held_out).astype(np.float32),
            label_ids=held_out_true,
            novelty=NoveltyScale.of([0.0, 1.0]),
            ambiguous=np.arange(1234),
        ),
        facts=facts_of(
            labels,
            train={"epochs": 3, "learning_rate": 0.004},
            examples=4321,
            metrics=ProtocolMetrics(HonestMetrics(metrics, metrics), (metrics, metrics)),
            baselines={"honest": compared, "seed": compared},
            paired={BASELINE: paired_bootstrap(test, majority, true, resamples=50)},
            report_data=report_data(
                (test, true),
                (held_out, held_out_true),
                labels,
                unfamiliarity=test.max(axis=1),
                ambiguous=1234,
            ),
            provenance=Provenance("2026-01-01T00:00:00Z", "cpu", 1, {"torch": "2.13.0"}),
        ),
    )


@pytest.fixture(scope="module")
def version(tiny_version: ModelVersion) -> ModelVersion:
    return measured(tiny_version, tiny_version.labels)


def with_facts(version: ModelVersion, **changes: Any) -> ModelVersion:
    return dataclasses.replace(version, facts=dataclasses.replace(version.facts, **changes))


def with_document(version: ModelVersion, document: dict[str, Any]) -> ModelVersion:
    return dataclasses.replace(version, facts=msgspec.convert(document, ModelFacts))


def document_of(version: ModelVersion) -> Any:
    return json.loads(json.dumps(dataclasses.asdict(version.facts)))


def said(version: ModelVersion) -> list[str]:
    """Return the report as text, from the page and from Markdown, spaces made plain."""
    text, _ = checked(model_report(version))
    return [" ".join(t.split()) for t in (text, model_markdown(version).decode())]


def test_page_begins_with_what_the_model_gets_right_and_with_pictures(
    version: ModelVersion,
) -> None:
    text, elements = checked(model_report(version))
    assert RESPONSIBLE_USE in text
    headings = re.findall(r"<h2>(.*?)</h2>", model_report(version).decode())
    assert headings == [
        "Labels", "Confusions", "Calibration", "Abstention", "Quality", "Prediction sets", "Data",
        "Unfamiliarity", "Provenance", "Limits and uses",
    ]  # fmt: skip
    labels = [attributes["aria-label"] or "" for attributes in figures(elements)]
    assert [label.split()[0] for label in labels] == ["Reliability", "Names", "Accuracy"]
    bars = [a for tag, a in elements if tag == "svg" and "aria-hidden" in a]
    assert len(bars) == len(version.labels) + 12  # recall, and every pair of labels confused


def test_reliability_of_outside_names_is_drawn_beside_that_of_test_names(
    version: ModelVersion,
) -> None:
    half = Examples.of(["Katoro", "Burghof"], np.array([0, 1]))
    outside = measure_outside(version, Outside(half, half, "0" * 64, (half, half)))
    with_outside = with_facts(version, outside=outside)
    text, elements = checked(model_report(with_outside))
    assert len(figures(elements)) == 5
    assert "The same of surnames of other lists (below), every label counting alike" in text
    assert "on surnames of other lists; bins" in " ".join(
        model_markdown(with_outside).decode().split()
    )
    document = document_of(with_outside)
    del document["outside"]["surnames"]["reliability"]  # as of before it was recorded
    assert len(figures(checked(model_report(with_document(version, document)))[1])) == 3


@pytest.mark.parametrize("render", [model_report, model_markdown])
def test_report_is_the_same_bytes_every_time(version: ModelVersion, render: Any) -> None:
    assert render(version) == render(version)


@pytest.mark.parametrize("render", [model_report, model_markdown])
def test_report_survives_saving_the_version(
    version: ModelVersion, tmp_path: Path, render: Any
) -> None:
    saved = save_version(tmp_path, version)
    assert render(dataclasses.replace(saved, name="")) == render(version)
    assert b"Model report: v0001" in render(saved)


@pytest.mark.parametrize("render", [model_report, model_markdown])
def test_report_holds_no_name(version: ModelVersion, render: Any) -> None:
    assert CANARY not in render(version).decode().lower()


def test_page_and_markdown_say_the_same(version: ModelVersion) -> None:
    test = version.facts.metrics.honest.test
    difference = version.facts.paired[BASELINE].accuracy
    expected = [
        *version.labels, "honest", "seed", BASELINE, "this recipe, run 1", "± 0.000", "4,321",
        "1,234", "f" * 64, "2026-01-01T00:00:00Z", "learning rate", "0.004", "not a person's",
        "Not supported", "GDPR", "95 % Wilson", f"{100 * test.accuracy:.1f} %",
        f"{test.accuracy:.3f}", f"{test.accuracy_low:.3f} to {test.accuracy_high:.3f}",
        *(f"{value:+.3f}" for value in difference),
    ]  # fmt: skip
    for text in said(version):
        assert [piece for piece in expected if piece not in text] == []


def test_every_label_has_its_rates_and_interval(version: ModelVersion) -> None:
    assert all(np.sum(version.facts.report_data.confusion, axis=0))
    lines = model_markdown(version).decode().splitlines()
    for m in version.facts.metrics.honest.test.labels:
        rates = (
            f"| {m.label} | {m.recall:.3f} | {m.recall_low:.3f} to {m.recall_high:.3f} | "
            f"{m.count} | {m.precision:.3f} | {m.f1:.3f} | 25.0 % |"
        )
        assert rates in lines


def test_rate_of_nothing_is_a_dash(version: ModelVersion) -> None:
    facts = document_of(version)
    facts["metrics"]["honest"]["test"]["labels"][1]["count"] = 0
    for row in facts["report_data"]["confusion"]:
        row[2] = 0  # the third label is never given
    rows = model_markdown(with_document(version, facts)).decode().splitlines()
    split = [row.split(" | ") for row in rows]
    cells = {cells[0]: cells for cells in split if len(cells) == 7}  # the table of labels
    assert [cells["| Beta"][i] for i in (1, 2, 5)] == ["–", "–", "–"]
    assert cells["| Delta"][4] == "–"
    assert cells["| Delta"][1] != "–"


def test_worst_confusions_are_the_largest_cells_off_the_diagonal(version: ModelVersion) -> None:
    counts = np.array(version.facts.report_data.confusion)
    wrong = counts - np.diag(np.diag(counts))
    i, j = np.unravel_index(wrong.argmax(), wrong.shape)
    share = 100 * wrong[i, j] / counts[i].sum()
    lines = model_markdown(version).decode().splitlines()
    first = lines[lines.index("|---|---|---:|---:|") + 1]
    assert first == f"| {version.labels[i]} | {version.labels[j]} | {wrong[i, j]} | {share:.1f} % |"
    assert f"of all {wrong.sum()}." in said(version)[0]


def test_sets_are_reported_by_group_and_labels_below_the_target_are_named(
    version: ModelVersion,
) -> None:
    facts = document_of(version)
    found = facts["report_data"]["sets"]["0.9"]
    found["labels"][0] = {**found["labels"][0], "count": 9, "coverage": 0.1, "high": 0.4}
    for text in said(with_document(version, facts)):
        assert "labels with 100 names or more" in text
        assert re.search(r"Target 90 %: \d+ % of the sets hold one label\. [^.]*: Alpha", text)


def test_unfamiliarity_says_what_its_thresholds_flag(version: ModelVersion) -> None:
    shares = version.facts.report_data.unfamiliar
    for text in said(version):
        assert "the share follows from the definition" in text
        assert f"{100 * shares['0.95']:.1f} %" in text
        assert "0.999" in text


@pytest.mark.parametrize(
    ("interval", "chance"), [((0.01, -0.02, 0.04), True), ((-0.03, -0.04, -0.02), False)]
)
def test_summary_says_when_a_difference_may_be_chance(
    version: ModelVersion, interval: tuple[float, float, float], chance: bool
) -> None:
    paired = {BASELINE: PairedDifference(interval, interval)}
    for text in said(with_facts(version, paired=paired)):
        assert ("which may be chance" in text) == chance
        assert f"{100 * interval[0]:+.1f} points".replace("-", "−") in text


def test_calibration_error_is_reported_beside_its_noise(version: ModelVersion) -> None:
    error = f"{version.facts.metrics.honest.test.ece:.3f}"
    noise = CalibrationNoise(0.0123, 0.0456)
    report_data = dataclasses.replace(version.facts.report_data, ece_noise=noise)
    for text in said(with_facts(version, report_data=report_data)):
        assert f"calibration error (ECE) is {error};" in text
        assert "would have 0.012 on average on this many names, and more than 0.046 in 5 %" in text


@pytest.mark.parametrize("name", sorted(PRETRAINED))
def test_packaged_versions_have_a_report(name: str, tmp_path: Path) -> None:
    try:
        found = resolve(name, tmp_path)
    except Exception as error:
        pytest.skip(f"{name} is not packaged: {error}")
    text, _ = checked(model_report(found))
    assert name in text
    assert model_markdown(found).startswith(f"# Model report: {name}".encode())


def test_golden_version_has_a_report() -> None:
    checked(model_report(load_version(GOLDEN / "format-2")))


def test_version_without_baselines_or_seed_runs_has_a_report(version: ModelVersion) -> None:
    metrics = dataclasses.replace(version.facts.metrics, seed=())
    for text in said(with_facts(version, metrics=metrics, baselines={}, paired={})):
        assert "baseline," not in text


def test_hostile_labels_stay_text(tiny_version: ModelVersion) -> None:
    version = measured(tiny_version, ("Alpha", "Beta", HOSTILE, "$\\frac{1}{0}$"))
    text, elements = checked(model_report(version))
    assert text.count(HOSTILE) == said(version)[0].count(HOSTILE)
    assert "b" not in {tag for tag, _ in elements}
    rows = [line for line in model_markdown(version).decode().splitlines() if "x\\_1" in line]
    assert rows
    assert all("<b" not in line.replace("\\<b", "") for line in rows)


@pytest.mark.parametrize("count", [2, 30, 60])
def test_matrix_is_drawn_for_few_and_for_many_labels(
    tiny_version: ModelVersion, count: int
) -> None:
    version = measured(tiny_version, tuple(f"Label {i}" for i in range(count)))
    text, elements = checked(model_report(version))
    assert len(figures(elements)) == 3
    assert ("40 largest labels" in text) == (count > 40)


def test_markdown_tables_are_as_wide_in_every_row(version: ModelVersion) -> None:
    widths: list[int] = []
    for line in [*model_markdown(version).decode().splitlines(), ""]:
        if line.startswith("|"):
            widths.append(len(re.findall(r"(?<!\\)\|", line)))
        else:
            assert len(set(widths)) <= 1
            widths = []


def test_labels_of_few_test_names_are_named_as_too_few_to_judge(
    tiny_version: ModelVersion, version: ModelVersion
) -> None:
    few = "labels have fewer than 20 test names, too few to judge them by"
    text, _ = checked(model_report(tiny_version))
    assert f"4 of 4 {few}: Alpha, Beta, Delta, Gamma." in " ".join(text.split())
    enough = {m.label for m in version.facts.metrics.honest.test.labels if m.count >= 20}
    sentence = model_markdown(version).decode().replace("\n", " ").partition(few)[2]
    assert not [label for label in enough if label in sentence.partition(".")[0]]


def test_labels_of_one_family_are_also_counted_together(tiny_version: ModelVersion) -> None:
    nordic = measured(tiny_version, ("Danish", "Czech", "Norwegian", "Greek"))
    counts = np.array(nordic.facts.report_data.confusion)
    recalls = [
        counts[np.ix_(family, family)].sum() / counts[family].sum() for family in ([0, 2], [1], [3])
    ]
    text, _ = checked(model_report(nordic))
    assert "Counting the 3 language families in their place" in text
    assert f"it is {np.mean(recalls):.3f}." in text


def test_labels_of_no_common_family_are_counted_once(version: ModelVersion) -> None:
    assert "language families" not in checked(model_report(version))[0]
