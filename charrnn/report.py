"""Reports for people: self-contained HTML, without a name or a link in it."""

from __future__ import annotations

__all__ = ["heading", "model_report", "page", "paragraph", "run_report", "table"]

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from charrnn.versions import ModelVersion

RESPONSIBLE_USE = (
    "A label is the language file of the surname list it was learned from, not a person's origin, "
    "nationality or ethnicity. Use aggregates; never decide about a single person by it."
)
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
       color: #1b1f24; background: #fff }
h1, h2 { line-height: 1.2 } h2 { margin-top: 2.2rem }
table { border-collapse: collapse; margin: 1rem 0 } caption { text-align: left; color: #57606a }
th, td { padding: .25rem .75rem; border-bottom: 1px solid #d8dee4; text-align: left }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
p.note { background: #f6f8fa; border-left: 4px solid #8c959f; padding: .6rem 1rem }
figure { margin: 1rem 0 } svg { max-width: 100%; height: auto } code { background: #f6f8fa }
"""


def page(title: str, sections: Iterable[str]) -> bytes:
    """Return a whole HTML page."""
    body = "\n".join(sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head>\n<body>\n<h1>{html.escape(title)}</h1>\n{body}\n"
        "</body></html>\n"
    ).encode()


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], caption: str = "") -> str:
    """Return an HTML table; numbers are aligned right, floats shown with three decimals."""
    body = list(rows)
    numeric = [bool(body) and isinstance(row, int | float) for row in (body[0] if body else head)]
    kind = ['class="n"' if n else "" for n in numeric]
    lines = ["<table>", f"<caption>{html.escape(caption)}</caption>" if caption else "", "<tr>"]
    lines += [f"<th {k}>{html.escape(h)}</th>" for h, k in zip(head, kind, strict=True)]
    for row in body:
        cells = (f"<td {k}>{_cell(v)}</td>" for v, k in zip(row, kind, strict=True))
        lines.append(f"</tr><tr>{''.join(cells)}")
    return "\n".join([*lines, "</tr></table>"])


def paragraph(text: str, kind: str = "") -> str:
    """Return an HTML paragraph of plain text."""
    return f'<p class="{kind}">{html.escape(text)}</p>'


def heading(text: str) -> str:
    """Return a second-level heading."""
    return f"<h2>{html.escape(text)}</h2>"


def run_report(manifest: Mapping[str, Any]) -> bytes:
    """Return the report of a scoring run: what came in, what went out, with which model."""
    rows = manifest["rows"]
    confidence = manifest["mean_confidence"]

    def shares(counts: Mapping[str, int]) -> list[tuple[str, int, str]]:
        return [(key, n, f"{n / max(1, rows):.2%}") for key, n in counts.items()]

    sections = [
        paragraph(RESPONSIBLE_USE, "note"),
        heading("Rows"),
        table(("status", "rows", "share"), shares(manifest["statuses"])),
        table(("reason", "rows", "share"), shares(manifest["reasons"]))
        if manifest["reasons"]
        else "",
        heading("Languages"),
        paragraph(
            "No row was scored."
            if confidence is None
            else f"Mean confidence of the scored rows: {confidence:.3f}."
        ),
        table(("language", "rows", "share"), shares(manifest["labels"])),
        heading("Run"),
        table(
            ("", "value"),
            [
                ("created (UTC)", manifest["created"]),
                ("rows", f"{rows:,}"),
                ("seconds", f"{manifest['seconds']:.1f}"),
                ("device", manifest["device"]),
                ("model", f"{manifest['model']['name']} ({manifest['model']['digest'][:12]})"),
                ("fingerprint", manifest["fingerprint"]),
                *((f"option {k}", str(v)) for k, v in manifest["options"].items()),
                *((k, v) for k, v in manifest["libraries"].items()),
            ],
        ),
        table(
            ("input", "bytes", "SHA-256"),
            [(f["name"], f["size"], f["sha256"]) for f in manifest["inputs"][:50]],
            f"{len(manifest['inputs'])} input files, the first 50 listed",
        ),
    ]
    return page("Scoring run", sections)


def model_report(version: ModelVersion) -> bytes:
    """Return the report of a model version: both protocols, baselines, every label, limits."""
    metrics, compared = version.facts["metrics"], version.facts["baselines"]
    honest = metrics["honest"]["test"]
    head = ("", "accuracy", "macro-F1", "balanced", "top-3", "NLL", "ECE", "Brier")
    keys = ("accuracy", "macro_f1", "balanced_accuracy", "top3", "nll", "ece", "brier")

    def row(name: str, found: Mapping[str, Any]) -> tuple[Any, ...]:
        return (name, *(found[key] for key in keys))

    sections = [
        paragraph(RESPONSIBLE_USE, "note"),
        heading("Quality"),
        table(
            head,
            [
                row("this model, test", honest),
                row("this model, validation", metrics["honest"]["validation"]),
                *(row(name, found) for name, found in compared.get("honest", {}).items()),
            ],
            f"Honest protocol: no name on two sides; {honest['count']} test names. Accuracy "
            f"{honest['accuracy_low']:.3f} to {honest['accuracy_high']:.3f} (95 % Wilson).",
        ),
        table(
            head,
            [
                *(row(f"this model, run {i}", found) for i, found in enumerate(metrics["seed"])),
                *(row(name, found) for name, found in compared.get("seed", {}).items()),
            ],
            "Seed protocol: the notebook's random 80/20 of all rows, duplicates on both sides.",
        ),
        heading("Labels"),
        table(
            ("label", "names", "precision", "recall", "low", "high", "F1"),
            [
                (
                    m["label"],
                    m["count"],
                    m["precision"],
                    m["recall"],
                    m["recall_low"],
                    m["recall_high"],
                    m["f1"],
                )
                for m in honest["labels"]
            ],
            "Honest test; 95 % Wilson interval of the recall.",
        ),
        heading("How it was made"),
        table(
            ("", "value"),
            [
                ("preset", version.facts["preset"]),
                ("temperature", f"{version.temperature:.4f}"),
                ("training names", f"{version.facts['examples']:,}"),
                ("data digest", version.facts["data_digest"]),
                *((f"network {k}", str(v)) for k, v in version.config.to_json().items()),
                *((f"training {k}", str(v)) for k, v in version.facts["train"].items()),
                *((k, str(v)) for k, v in version.facts["made"].items()),
            ],
        ),
    ]
    return page("Model version", sections)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else html.escape(str(value))
