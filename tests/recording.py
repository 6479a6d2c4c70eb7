"""``--record PATH``: what tests have proven, for ``faults/table.py``.

A test tells it by ``record_property("proof", (promise, what, tried))`` once everything held, so
only passed tests count.
"""

import json
from pathlib import Path

import pytest

_PROVEN: list[dict[str, object]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", metavar="PATH", help="write what was proven as JSON")


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.when == "call" and report.passed:
        proofs = [value for name, value in report.user_properties if name == "proof"]
        for promise, what, tried in proofs:
            _PROVEN.append(
                {
                    "promise": promise,
                    "what": what,
                    "tried": tried,
                    "lost": 0,
                    "seconds": round(report.duration / len(proofs), 2),
                    "test": report.nodeid.partition("[")[0],
                }
            )


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--record")
    if path:
        Path(path).write_text(json.dumps(_PROVEN, indent=1) + "\n")
