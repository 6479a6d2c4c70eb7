"""The report of a scoring run."""

from __future__ import annotations

__all__ = ["run_report"]

from collections.abc import Mapping
from typing import Any

from charrnn.report import RESPONSIBLE_USE, heading, page, paragraph, table


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
