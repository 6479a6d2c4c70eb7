"""Write docs/cases.md: every case with its outcome at commit 5b9e523 and now.

python tests/cases/table.py            # rewrites docs/cases.json and docs/cases.md
python tests/cases/table.py --print    # shows what is answered wrongly, and writes nothing
"""

import argparse
import json
import sys
import tempfile
import warnings
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from cases.listed import CASES
from cases.trial import Case, run_case

RECORD = ROOT / "docs/cases.json"
PAGE = ROOT / "docs/cases.md"
MARKERS = "<!-- cases:start -->\n", "<!-- cases:end -->\n"
PARTS = {
    "A": "A silent wrong result, or a loss",
    "B": "An internal error (exit code 70)",
    "C": "Cells shown",
    "D": "A message that misleads",
    "E": "Inconvenience",
}


def answered(case: Case) -> tuple[str, str]:
    """Return the outcome of a case now, and what is wrong with it, "" for nothing."""
    with tempfile.TemporaryDirectory() as folder:
        done = run_case(case, Path(folder).resolve())
        wrong = case.right(done) or ("exit code 70" if done.code == 70 else "")
        return done.outcome(), wrong


def table(outcomes: dict[str, str]) -> str:
    """Return Markdown: a table of cases for each part."""
    lines = []
    for part, title in PARTS.items():
        lines += ["", f"## {title}", "", "| case | kind | run | at 5b9e523 | now |",
                  "|---|---|---|---|---|"]  # fmt: skip
        for case in (case for case in CASES if case.part == part):
            cells = (case.name, case.kind, case.shown_command, case.old, outcomes[case.name])
            lines.append(f"| {' | '.join(map(_cell, cells))} |")
    return "\n".join(lines[1:]) + "\n"


def _cell(text: str) -> str:
    """Return text as a cell of a Markdown table."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def main() -> None:
    """The command line; exit code 1 when an answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--print", action="store_true", help="write nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    answers = {case.name: answered(case) for case in CASES}
    wrong = {name: (outcome, why) for name, (outcome, why) in answers.items() if why}
    for name, (outcome, why) in wrong.items():
        print(f"{name}: {outcome}\n    {why}".encode("utf-8", "backslashreplace").decode())
    print(f"{len(CASES)} cases, {len(wrong)} answered wrongly")
    if not options.print:
        outcomes = {name: outcome for name, (outcome, _) in answers.items()}
        RECORD.write_text(json.dumps(outcomes, indent=1, ensure_ascii=False) + "\n")
        page = PAGE.read_text()
        start, end = (page.index(marker) for marker in MARKERS)
        PAGE.write_text(page[:start] + MARKERS[0] + table(outcomes) + page[end:])
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
