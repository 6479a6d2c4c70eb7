"""Write the table of bars of docs/guarantees.md from the records of the long runs.

python tests/faults/syscalls.py --faults 2000 --record docs/syscalls.json
python -m tests.fuzz.mutate --cases 20000 --record docs/mutate.json
python tests/bench/hostile.py
python tests/cases/table.py
python tests/faults/held_bars.py
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

from bench.common import write_section

DOCS, PAGE = ROOT / "docs", ROOT / "docs/guarantees.md"


def table(records: dict[str, dict[str, Any]]) -> list[str]:
    """Return Markdown.

    Args:
        records: what the long runs wrote, by the name of its file.
    """
    calls, mutated = records["syscalls"], records["mutate"]
    hostile, cases = records["hostile"], records["cases"]
    codes = Counter[str]()
    for key, count in mutated["codes"].items():
        codes[key.rsplit(" ", 1)[1]] += count
    refused = mutated["cases"] - codes["0"] - codes["70"]
    costs = [row["large"] for row in hostile["rows"]]
    peak, largest = max(c["memory"] for c in costs), max(c["file_bytes"] for c in costs)
    rows = [
        ("2,000 faults at calls of the C library: none lost, none stuck",
         f"{calls['tried']:,} faults at {len(calls['by']['call'])} kinds of calls, over "
         f"{len(calls['by']['scenario'])} commands: {calls['lost']} lost, {calls['stuck']} stuck, "
         f"{calls['codes'].get('70', 0)} exit code 70",
         calls),
        ("20,000 mutated inputs, models, manifests and options: no exit code 70, at most 2 GB",
         f"{mutated['cases']:,} of {len({k.rsplit(' ', 1)[0] for k in mutated['codes']})} kinds: "
         f"{refused:,} refused, {codes['0']:,} done, {len(mutated['problems'])} "
         f"answered wrongly, {codes['70']} exit code 70; "
         f"at most {mutated['peak_bytes'] / 1e6:,.0f} MB",
         mutated),
        ("inputs made to cost memory or time: at most 2 GB",
         f"{len(costs)} inputs (files of up to {largest / 1e6:,.0f} MB): at most "
         f"{peak / 1e6:,.0f} MB, see [hostile](hostile.md)",
         hostile),
        ("what was once answered wrongly: all right",
         f"{len(cases['outcomes'])} cases and attacks: {len(cases['wrong'])} wrong, see "
         "[cases](cases.md)",
         cases),
    ]  # fmt: skip
    return [
        "| bar | what came of it | when and where |",
        "|---|---|---|",
        *(f"| {bar} | {came} | {r['circumstances'].split(';')[0]} |" for bar, came, r in rows),
        "",
        "Faults by command: " + _counts(calls["by"]["scenario"]) + ".",
        "By call: " + _counts(calls["by"]["call"]) + ".",
        "By fault: " + _counts(calls["by"]["fault"]) + ".",
        "Exit codes (−9: killed by the fault): " + _counts(calls["codes"]) + ".",
    ]


def _counts(counts: dict[str, int]) -> str:
    """Return counts in a line, the largest first."""
    ordered = sorted(counts.items(), key=lambda item: -item[1])
    return ", ".join(f"{key.replace('-9', '−9')} {count:,}" for key, count in ordered)


def recorded() -> dict[str, dict[str, Any]]:
    """Return the records in docs."""
    names = ("syscalls", "mutate", "hostile", "cases")
    return {name: json.loads((DOCS / f"{name}.json").read_text()) for name in names}


if __name__ == "__main__":
    write_section(PAGE, "bars", table(recorded()))
