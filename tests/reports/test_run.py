"""Reports: whole HTML pages that need nothing from elsewhere and name nobody."""

import dataclasses
import re
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from flat import score
from jinja2 import UndefinedError
from model_facts import facts_of
from pages import checked, figures

from charrnn.errors import percent
from charrnn.model.facts import HonestMetrics, ModelFacts, PairedDifference, ProtocolMetrics
from charrnn.model.version import ModelVersion
from charrnn.monitoring.drift import Drift
from charrnn.reports.figures import Axis, Dot, Plot, axis, short
from charrnn.reports.formats import interval, is_number, shown, signed, utc_minute
from charrnn.reports.model import model_report
from charrnn.reports.page import (
    RESPONSIBLE_USE,
    Bars,
    Figure,
    Link,
    Matrix,
    Table,
    environment,
)
from charrnn.reports.run import drift_markdown, run_report
from charrnn.runs.manifest import InputRecord, ModelRef, RunManifest, read_run
from charrnn.training.corpus import Corpus
from charrnn.training.metrics import evaluate

CANARY = "Zanzibarova"
HOSTILE = "<script>alert('x')</script>&\"'"


def rendered(suffix: Literal["html", "md"], table: Table) -> str:
    """Return a table as the macro of a format renders it."""
    macros = environment(suffix).get_template(f"macros.{suffix}").module
    return str(macros.table(table))  # type: ignore[attr-defined]


@pytest.fixture
def run(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("people.csv").write_text(f"id,name\n{CANARY},{CANARY}\n2,Katoro\n3,\n4,Катя\n")
    return Path(score("people.csv", model="v0001", models=str(models), workers=1))


@pytest.fixture
def manifest(run: Path) -> RunManifest:
    return read_run(run)


@pytest.fixture(scope="session")
def measured_version(tiny_version: ModelVersion, corpus: Corpus) -> ModelVersion:
    """The tiny model with the facts that training adds."""
    import numpy as np

    draw = np.random.default_rng(0)
    logits = draw.normal(size=(len(corpus.names), len(tiny_version.labels)))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = evaluate(probabilities, corpus.label_ids, tiny_version.labels)
    facts = facts_of(
        tiny_version.labels,
        metrics=ProtocolMetrics(HonestMetrics(found, found), (found, found)),
        baselines={"honest": {"majority label": found}, "seed": {"n-grams": found}},
        paired={"majority label": PairedDifference((0.0, -0.1, 0.1), (0.0, -0.1, 0.1))},
        data_digest="0" * 64,
    )
    return dataclasses.replace(tiny_version, facts=facts)


def test_report_of_a_run_is_a_whole_page_of_its_own(run: Path, manifest: RunManifest) -> None:
    text, elements = checked((run / "report.html").read_bytes())
    assert (run / "report.html").read_bytes() == run_report(manifest)
    assert RESPONSIBLE_USE in text
    assert "2 of 4 rows got a language (50.0 %). The most frequent is Delta" in text
    for reason in ("null_name", "unknown_script"):
        assert reason in text
    assert manifest.fingerprint in text
    assert manifest.model.digest[:12] in text
    assert "people.csv" in text
    headings = re.findall(r"<h2>(.*?)</h2>", (run / "report.html").read_text())
    assert headings == [
        "Languages", "Confidence", "Rows without a language", "Drift", "Run details"
    ]  # fmt: skip
    assert len(figures(elements)) == 1
    bars = [a for tag, a in elements if tag == "svg" and "aria-hidden" in a]
    assert manifest.drift is not None
    shares = len({*manifest.labels, *manifest.drift.model.class_shares})
    assert len(bars) == len(manifest.labels) + 2 + len(manifest.drift.model.measures) + shares


def test_report_of_a_run_holds_no_name(run: Path) -> None:
    assert CANARY not in (run / "report.html").read_text()
    assert "Katoro" not in (run / "report.html").read_text()


def test_report_of_a_run_without_a_row_is_whole(manifest: RunManifest) -> None:
    statuses = {"scored": 0, "abstained": 0, "unscored": 0}
    empty = dataclasses.replace(
        manifest, rows=0, mean_confidence=None, labels={}, reasons={}, statuses=statuses
    )
    text, _ = checked(run_report(empty))
    assert "The input has no rows." in text


def test_report_of_a_run_escapes_what_users_name(manifest: RunManifest) -> None:
    scoring = dataclasses.replace(manifest.options.scoring, prefix=HOSTILE)
    hostile = dataclasses.replace(
        manifest,
        labels={HOSTILE: 1},
        inputs=(InputRecord(HOSTILE, 1, "0"),),
        options=dataclasses.replace(manifest.options, scoring=scoring),
        model=ModelRef(HOSTILE, "0" * 64),
    )
    text, _ = checked(run_report(hostile))
    assert text.count(HOSTILE) == 5


def test_section_on_drift_escapes_what_users_name(manifest: RunManifest) -> None:
    assert manifest.drift is not None
    model = dataclasses.replace(
        manifest.drift.model, against=HOSTILE, class_shares={HOSTILE: 1.0}, skipped=(HOSTILE,)
    )
    hostile = dataclasses.replace(manifest, drift=Drift(model))
    text, _ = checked(run_report(hostile))
    assert HOSTILE not in drift_markdown(hostile)
    assert text.count(HOSTILE) == 3
    assert "Not compared with earlier runs" in text


def test_report_of_a_run_without_drift_has_no_such_section(manifest: RunManifest) -> None:
    text, _ = checked(run_report(dataclasses.replace(manifest, drift=None)))
    assert "Drift" not in text


def test_link_in_a_table_is_escaped_and_plain_in_markdown() -> None:
    linked = Table(("run",), [(Link(HOSTILE, 'a"b/report.html'),)])
    assert '<a href="a%22b/report.html"' in rendered("html", linked)
    assert HOSTILE not in rendered("html", linked)
    assert "report.html" not in rendered("md", linked)


def test_number_that_rounds_to_nothing_has_no_minus() -> None:
    assert [signed(value, 1) for value in (-0.04, -0.06, 2)] == ["+0.0", "−0.1", "+2.0"]


def test_report_of_a_run_lists_at_most_fifty_inputs(manifest: RunManifest) -> None:
    inputs = tuple(InputRecord(f"file{i:04d}.csv", i, "0") for i in range(400))
    text, _ = checked(run_report(dataclasses.replace(manifest, inputs=inputs)))
    assert len(re.findall(r"file\d{4}\.csv", text)) == 50
    assert "400 input files" in text


def test_report_of_a_model_is_a_whole_page_of_its_own(measured_version: ModelVersion) -> None:
    text, _ = checked(model_report(measured_version))
    assert RESPONSIBLE_USE in text
    for label in measured_version.labels:
        assert label in text
    for word in ("Honest protocol", "Seed protocol", "majority label", "n-grams",
                 "95 % Wilson", "temperature", "0" * 64):  # fmt: skip
        assert word in text
    accuracy = measured_version.facts.metrics.honest.test.accuracy
    assert f"{accuracy:.3f}" in text


def test_report_of_a_model_holds_no_name(measured_version: ModelVersion, corpus: Corpus) -> None:
    source = model_report(measured_version).decode()
    for name in {*corpus.names.to_pylist(), *corpus.normalised.to_pylist()}:
        if len(name) > 6:
            assert name not in source


def test_report_of_a_model_escapes_its_labels(measured_version: ModelVersion) -> None:
    document = dataclasses.asdict(measured_version.facts)
    for entry in document["metrics"]["honest"]["test"]["labels"]:
        entry["label"] = HOSTILE
    facts = msgspec.convert(document, ModelFacts)
    text, _ = checked(model_report(dataclasses.replace(measured_version, facts=facts)))
    assert HOSTILE in text


def test_report_of_a_model_without_seed_runs_or_baselines_is_whole(
    measured_version: ModelVersion,
) -> None:
    metrics = dataclasses.replace(measured_version.facts.metrics, seed=())
    facts = dataclasses.replace(measured_version.facts, metrics=metrics, baselines={})
    checked(model_report(dataclasses.replace(measured_version, facts=facts)))


@pytest.mark.parametrize("suffix", ["html", "md"])
def test_every_macro_escapes_what_it_is_given(suffix: Literal["html", "md"]) -> None:
    numbers = Table((HOSTILE,), [(HOSTILE,)], Bars([1.0], 1.0, HOSTILE, "", {HOSTILE: [0.5]}))
    scale = Axis(HOSTILE, 0, 1, [(0.5, HOSTILE)])
    plot = Plot(scale, scale, {HOSTILE: [(0, 1)], "": []}, [Dot(0, 1, text=HOSTILE)])
    figure = Figure([plot], numbers)
    matrix = Matrix(HOSTILE, [HOSTILE], [1], [[1]])
    source = """{% extends base %}{% import macros as page %}
    {% block title %}{{ hostile }}{% endblock %}
    {% block lead %}{% call page.lead() %}{{ hostile }}{% endcall %}{% endblock %}
    {% block content %}
    {{ page.heading(hostile) }}
    {% call page.text() %}{{ hostile }}{% endcall %}
    {% call page.bullets() %}{% call page.item() %}{{ hostile }}{% endcall %}{% endcall %}
    {% call page.text() %}{{ [hostile, hostile]|listed }}{% endcall %}
    {% call page.table(figure.numbers) %}{{ hostile }}{% endcall %}
    {% call page.figure(figure, hostile) %}{{ hostile }}{% endcall %}
    {% call page.matrix(matrix) %}{{ hostile }}{% endcall %}
    {% endblock %}"""
    context = {"hostile": HOSTILE, "figure": figure, "matrix": matrix}
    page = environment(suffix).from_string(source).render(context)
    if suffix == "html":
        text, elements = checked(page.encode())
        assert text.count(HOSTILE) == 28
        assert [a["aria-label"] for a in figures(elements)] == [HOSTILE]
        assert text.index(RESPONSIBLE_USE) < text.rindex(HOSTILE)
    else:
        assert page.count("\\<script") == page.count("<script") == 17
        assert "&lt;" not in page
        assert f"> {RESPONSIBLE_USE}" in page


def test_undefined_value_is_refused_instead_of_left_blank() -> None:
    with pytest.raises(UndefinedError, match="nothing"):
        environment("html").from_string("{{ nothing }}").render()


def test_table_aligns_numbers_and_rounds_floats() -> None:
    rows = [("a", 1234567, 0.12345), ("b", 2, 1.0)]
    html = rendered("html", Table(("name", "rows", "share"), rows))
    assert "<td>a</td>" in html
    assert '<td class="n">1,234,567</td>' in html
    assert '<td class="n">0.123</td>' in html
    assert '<th class="n">rows</th>' in html
    assert "|---|---:|---:|" in rendered("md", Table(("name", "rows", "share"), rows))


def test_table_without_rows_is_a_table() -> None:
    html = rendered("html", Table(("name", "rows"), []))
    assert html.count("<th>") == 2
    assert "rows" in html


def test_table_refuses_a_row_of_another_width() -> None:
    with pytest.raises(ValueError, match="a row has 3 cells, the head has 2"):
        Table(("name", "rows"), [("a", 1, 2)])


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (True, "yes"), (1234, "1,234"), (0.5, "0.500"), ("x", "x")],
)
def test_values_are_shown_by_their_type(value: Any, text: str) -> None:
    assert shown(value) == text


def test_columns_of_formatted_numbers_count_as_numbers() -> None:
    intervals = (interval(0, 1), interval(0, 1, percent))
    for text in (percent(0.5), signed(-1, 2), *intervals, "±1.0 points", "PSI 0.250", None, 3):
        assert is_number(text), text
    for text in ("", "v0001", "PSI", "3 rows", "."):
        assert not is_number(text), text


def test_counts_on_an_axis_are_short_and_ticks_round() -> None:
    assert [short(n) for n in (0, 950, 1200, 35_000, 2.5e6)] == ["0", "950", "1.2k", "35k", "2.5M"]
    assert [text for _, text in axis("", 0, 0.31).ticks] == [f"{n} %" for n in range(0, 41, 10)]


def test_bar_reaches_no_further_than_its_scale() -> None:
    bars = Bars.of_shares("share", [0.5, None], {"before": [0.25, 0.0]}, [(0.4, 2.0), None])
    assert bars.most == 1.0
    assert bars.drawn(0)["interval"] == (40, 100)
    assert bars.drawn(1) == {"value": None, "interval": None, "alarm": False, "marks": [(0, 0.0)]}


def test_times_are_shown_to_the_minute() -> None:
    assert utc_minute("20261124T020312Z") == "2026-11-24 02:03"


def test_options_are_shown_one_by_one_and_never_blank(manifest: RunManifest) -> None:
    html = run_report(manifest).decode()
    for name, value in (("prefix", "–"), ("details", "no"), ("csv encoding", "utf-8")):
        assert f"<td>option {name}</td><td>{value}</td>" in html
