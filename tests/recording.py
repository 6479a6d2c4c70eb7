"""``--record PATH``: what tests have proven, for ``faults/table.py``.

A test takes the fixture ``proof`` and calls it once everything held: ``proof("P3", "what was
tried", 420)``. So only what passed counts; and a run in which anything failed records nothing.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Proof = Callable[[str, str, int], None]  # promise, what was tried, how often
_PROVEN: dict[tuple[str, str, str], dict[str, object]] = {}


@pytest.fixture
def proof(record_property: Callable[[str, object], None]) -> Proof:
    """Say what a test has proven, once everything held."""
    return lambda promise, what, tried: record_property("proof", (promise, what, tried))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", metavar="PATH", help="write what was proven as JSON")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when != "call" or not report.passed:
        return
    test = report.nodeid.partition("[")[0]
    proofs = [value for name, value in report.user_properties if name == "proof"]
    for promise, what, tried in proofs:
        new = {"promise": promise, "what": what, "tried": 0, "lost": 0, "seconds": 0.0}
        sums = _PROVEN.setdefault((promise, what, test), {**new, "test": test})
        sums["tried"] += tried  # type: ignore[operator]
        sums["seconds"] += report.duration / len(proofs)  # type: ignore[operator]


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    path = session.config.getoption("--record")
    if path and exitstatus == pytest.ExitCode.OK:
        rounded = [{**sums, "seconds": round(float(str(sums["seconds"])), 2)}
                   for sums in _PROVEN.values()]  # fmt: skip
        Path(path).write_text(json.dumps(rounded, indent=1) + "\n")
