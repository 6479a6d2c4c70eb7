"""The report of a scoring run."""

from __future__ import annotations

__all__ = ["drift_markdown", "making", "run_report"]

from collections.abc import Mapping, Sequence
from typing import Any

from charrnn.reports.figures import percent
from charrnn.reports.page import Block, Heading, Table, Text, html_page, markdown_of, signed


def run_report(manifest: Mapping[str, Any]) -> bytes:
    """Return the report of a scoring run: what came in, what went out, with which model."""
    rows, confidence = manifest["rows"], manifest["mean_confidence"]

    def shares(what: str, counts: Mapping[str, int]) -> Table:
        counted = [(key, n, f"{n / max(1, rows):.2%}") for key, n in counts.items()]
        return Table((what, "rows", "share"), counted)

    blocks = [
        Heading("Rows"),
        shares("status", manifest["statuses"]),
        *([shares("reason", manifest["reasons"])] if manifest["reasons"] else []),
        Heading("Languages"),
        Text(
            "No row was scored."
            if confidence is None
            else f"Mean confidence of the scored rows: {confidence:.3f}."
        ),
        shares("language", manifest["labels"]),
        *_drift_blocks(manifest),
        *making(manifest, ("model",)),
    ]
    return html_page("Scoring run", blocks)


def making(manifest: Mapping[str, Any], models: Sequence[str]) -> list[Block]:
    """Return the section on how a run, or a comparison, was made: when, by which ``models`` (keys
    of the manifest), with which options and libraries, and from which files."""
    rows = [
        ("created (UTC)", manifest["created"]),
        ("rows", f"{manifest['rows']:,}"),
        ("seconds", f"{manifest['seconds']:.1f}"),
        ("device", manifest["device"]),
        *((key, f"{manifest[key]['name']} ({manifest[key]['digest'][:12]})") for key in models),
        ("fingerprint", manifest["fingerprint"]),
        *((f"option {key}", str(value)) for key, value in manifest["options"].items()),
        *manifest["libraries"].items(),
    ]
    inputs = [(f["name"], f["size"], f["sha256"]) for f in manifest["inputs"][:50]]
    caption = f"{len(manifest['inputs'])} input files, the first 50 listed"
    return [
        Heading("Run"),
        Table(("", "value"), rows),
        Table(("input", "bytes", "SHA-256"), inputs, caption),
    ]


def drift_markdown(manifest: Mapping[str, Any]) -> str:
    """Return the report's section on drift as Markdown; "" where nothing was compared."""
    return "\n\n".join(map(markdown_of, _drift_blocks(manifest)))


def _drift_blocks(manifest: Mapping[str, Any]) -> list[Block]:
    """What changed against the model's validation names and against the run before."""
    found = manifest.get("drift")
    if not found:
        return []
    model, previous = found["model"], found["previous"]
    blocks: list[Block] = [Heading("Compared with before")]
    sides = (
        (model, "the model's validation names"),
        (previous, "the run before"),
    )
    for side, what in sides:
        if side is None:
            blocks.append(Text(f"Not compared with {what}: there is none to compare with."))
            continue
        rows = [_measure_row(measure, side["standing"]) for measure in side["measures"]]
        skipped = f" Not compared: {'; '.join(side['skipped'])}." if side["skipped"] else ""
        caption = f"Against {what} ({side['against']}).{skipped}"
        head = ("measure", "before", "now", "difference", "by chance", "limit", "verdict")
        blocks.append(Table(head, rows, caption))
    if model is not None or previous is not None:
        blocks += [_class_shares(manifest["profile"]["class_shares"], model, previous), Text(_HOW)]
    return blocks


_HOW = (
    "Distributions are compared by the population stability index (PSI), of which 0.1 is usually "
    "called moderate and 0.25 large; rates by their difference in points. By chance: what two "
    "samples of these numbers of distinct names from one population exceed once in a thousand "
    "times; a difference within it is called steady. Languages and confidences are the model's "
    "own, before a prior and before abstaining. A table need not be like the names the model "
    "learned from: then its expected accuracy is no promise (see --prior estimate)."
)


def _measure_row(measure: Mapping[str, Any], standing: Sequence[str]) -> tuple[str, ...]:
    verdict = measure["level"]
    if verdict == "large" and measure["name"] in standing:
        verdict = "large, as before"
    if measure["kind"] == "psi":
        figures = [f"PSI {measure[key]:.3f}" for key in ("value", "chance_high", "large")]
        return (measure["name"], "–", "–", *figures, verdict)
    change, chance, limit = (100 * measure[key] for key in ("value", "chance_high", "large"))
    rates = (percent(measure["before"]), percent(measure["now"]))
    return (
        measure["name"],
        *rates,
        f"{signed(change, 1)} points",
        f"±{chance:.1f} points",
        f"±{limit:.0f} points",
        verdict,
    )


def _class_shares(
    now: Mapping[str, float],
    model: Mapping[str, Any] | None,
    previous: Mapping[str, Any] | None,
) -> Table:
    """The labels whose share differs most from what it was before."""
    sides = {
        name: side["class_shares"]
        for name, side in (("model's names", model), ("run before", previous))
        if side is not None
    }
    labels = {*now, *(label for shares in sides.values() for label in shares)}

    def moved(label: str) -> tuple[float, str]:
        changes = (abs(now.get(label, 0) - shares.get(label, 0)) for shares in sides.values())
        return -max(changes), label

    rows = [
        (label, *(percent(shares.get(label, 0)) for shares in (now, *sides.values())))
        for label in sorted(labels, key=moved)[:10]
    ]
    caption = "Shares of the labels in the rows with an answer; the ten that moved most."
    return Table(("language", "this run", *sides), rows, caption)
