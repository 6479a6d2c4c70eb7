"""Write the table of docs/guarantees.md from records of what tests have proven.

Every test may prove something (the fixture ``proof``, see ``recording``), so the first record is
that of the whole suite; each of the 15 guarantees must have a row.

python -m pytest -m '' --record ci.json
python tests/faults/long.py --record long.json
python tests/faults/table.py ci.json long.json   # rewrites docs/faults.json and docs/guarantees.md
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECORD = ROOT / "docs/faults.json"
PAGE = ROOT / "docs/guarantees.md"
GUARANTEES = [f"P{number}" for number in range(1, 16)]
MARKERS = "<!-- guarantees:start -->\n", "<!-- guarantees:end -->\n"


def table(proofs: list[dict[str, object]]) -> str:
    """Return Markdown, one row for each thing that was tried: how often and in how many seconds,
    by pytest and by long.py, and how often data was lost."""
    rows: dict[tuple[str, str], dict[str, list[float]]] = {}
    tests: dict[tuple[str, str], dict[str, None]] = {}
    for proof in proofs:
        key = str(proof["promise"]), str(proof["what"])
        by = "long" if proof["test"] == "long.py" else "ci"
        sums = rows.setdefault(key, {"ci": [0, 0, 0], "long": [0, 0, 0]})[by]
        for i, name in enumerate(("tried", "lost", "seconds")):
            sums[i] += float(str(proof[name]))
        test = re.sub(r"^tests/|::.*", "", str(proof["test"]))
        if by == "ci" or not rows[key]["ci"][0]:
            tests.setdefault(key, {})[f"`{test}`"] = None
    lines = ["| guarantee | what was tried | test | tests: times | s | longer: times | s | lost |",
             "|---|---|---|--:|--:|--:|--:|--:|"]  # fmt: skip
    for (promise, what), sums in sorted(rows.items(), key=lambda row: _number(row[0][0])):
        cells = [f"{sums[by][0]:,.0f} | {sums[by][2]:,.0f}" if sums[by][0] else " | "
                 for by in ("ci", "long")]  # fmt: skip
        lost = sums["ci"][1] + sums["long"][1]
        names = ", ".join(tests[promise, what])
        lines.append(f"| {promise} | {what} | {names} | {' | '.join(cells)} | {lost:.0f} |")
    return "\n".join(lines) + "\n"


def missing(proofs: list[dict[str, object]]) -> set[str]:
    """Return the guarantees for which nothing was tried."""
    return set(GUARANTEES) - {p for proof in proofs for p in str(proof["promise"]).split(", ")}


def _number(promise: str) -> int:
    return int(re.sub(r"\D.*", "", promise[1:]))


def shown(page: str) -> str:
    """Return the table that a page shows."""
    return page.split(MARKERS[0])[1].split(MARKERS[1])[0]


def main() -> None:
    """The command line."""
    proofs = [proof for path in sys.argv[1:] for proof in json.loads(Path(path).read_text())]
    if missing(proofs):
        sys.exit(f"nothing was tried for {', '.join(sorted(missing(proofs), key=_number))}")
    RECORD.write_text(json.dumps(proofs, indent=1) + "\n")
    page = PAGE.read_text()
    PAGE.write_text(page.replace(MARKERS[0] + shown(page), MARKERS[0] + table(proofs)))


if __name__ == "__main__":
    main()
