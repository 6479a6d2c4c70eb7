"""Write docs/cases.md: every case and attack with its outcome at commit 5b9e523 and now.

python tests/cases/table.py            # rewrites docs/cases.json and docs/cases.md
python tests/cases/table.py --print    # shows the cases answered wrongly, and writes nothing
"""

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from bench.common import circumstances

from cases.attacks import ATTACKS, Attack
from cases.listed import CASES
from cases.trial import Case, run_case
from charrnn.errors import printable

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
Outcomes = dict[str, str]


def answered(case: Case) -> tuple[str, str]:
    """Return the outcome of a case now, and what is wrong with it, "" for nothing."""
    with tempfile.TemporaryDirectory() as folder:
        done = run_case(case, Path(folder).resolve())
        wrong = case.right(done) or ("exit code 70" if done.code == 70 else "")
        return printable(done.outcome()), wrong


def attacked() -> Outcomes:
    """Run the tests of all attacks; return attack → what comes of it now."""
    with tempfile.NamedTemporaryFile(suffix=".xml") as file:
        places = sorted({attack.tests.rstrip(":") for attack in ATTACKS})
        # Properties of tests, such as proofs, are not in the newer form of the report.
        form = ["-o", "junit_family=xunit1", f"--junitxml={file.name}"]
        argv = ["-m", "pytest", "-q", "-m", "", "-p", "no:cacheprovider", *form]
        subprocess.run([sys.executable, *argv, *places], cwd=ROOT, capture_output=True)
        tests = list(ElementTree.parse(file.name).iter("testcase"))
    return {attack.name: _outcome(attack, tests) for attack in ATTACKS}


def _outcome(attack: Attack, tests: list[ElementTree.Element]) -> str:
    """Return what the tests say of an attack: its outcome if they hold, with how many there are."""
    module, _, test = attack.tests.partition("::")
    dotted = module.removesuffix(".py").replace("/", ".")
    found = [
        t for t in tests
        if str(t.get("classname")).endswith(dotted) and str(t.get("name")).startswith(test)
        and any(word in str(t.get("name")) for word in attack.only.split("|"))
    ]  # fmt: skip
    failed = [t for t in found if t.find("failure") is not None or t.find("error") is not None]
    skipped = [t for t in found if t.find("skipped") is not None]
    if failed or not found or len(skipped) == len(found):
        return "**not proven**"
    return f"{attack.now} ({len(found) - len(skipped)} tests)"


def table(outcomes: Outcomes) -> str:
    """Return Markdown: a table of cases for each part, and one of attacks."""
    lines = []
    for part, title in PARTS.items():
        lines += ["", f"## {title}", "", "| case | kind | run | at 5b9e523 | now |",
                  "|---|---|---|---|---|"]  # fmt: skip
        for case in (case for case in CASES if case.part == part):
            command = printable(case.shown_command)
            lines.append(_row(case.name, case.kind, command, case.old, outcomes[case.name]))
    lines += ["", "## From outside the process", "", "| attack | at 5b9e523 | now | test |",
              "|---|---|---|---|"]  # fmt: skip
    for attack in ATTACKS:
        test = attack.tests.removeprefix("tests/").partition("::")[0]
        lines.append(_row(attack.name, attack.old, outcomes[attack.name], f"`{test}`"))
    return "\n".join(lines[1:]) + "\n"


def _row(*cells: str) -> str:
    return f"| {' | '.join(c.replace('|', chr(92) + '|').replace('<', '&lt;') for c in cells)} |"


def main() -> None:
    """The command line; exit code 1 when an answer is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--print", action="store_true", help="cases only; write nothing")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    answers = {case.name: answered(case) for case in CASES}
    wrong = {name: (outcome, why) for name, (outcome, why) in answers.items() if why}
    for name, (outcome, why) in wrong.items():
        print(f"{name}: {outcome}\n    {why}".encode("utf-8", "backslashreplace").decode())
    if not options.print:
        attacks = attacked()
        unproven = [name for name, outcome in attacks.items() if "**" in outcome]
        for name in unproven:
            print(f"not proven: {name}")
        outcomes = {name: outcome for name, (outcome, _) in answers.items()} | attacks
        page = PAGE.read_text()
        start, end = (page.index(marker) for marker in MARKERS)
        PAGE.write_text(page[:start] + MARKERS[0] + table(outcomes) + page[end:])
        wrong |= dict.fromkeys(unproven, ("", ""))
        record = {
            "circumstances": circumstances("pyarrow", "polars"),
            "wrong": list(wrong),
            "outcomes": outcomes,
        }
        RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    print(f"{len(CASES)} cases, {len(wrong)} answered wrongly")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
