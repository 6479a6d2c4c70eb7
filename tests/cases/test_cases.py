"""Every input that was once answered wrongly is answered rightly; see ``listed``."""

from pathlib import Path
from typing import Any

import pytest
from recording import Proof

from cases.listed import CASES
from cases.trial import Case, run_case

PENDING = {path.name: path.read_text().strip() for path in Path(__file__).parent.glob("pending/*")}
_PROMISES = {"A": "P2", "B": "P9", "C": "P12", "D": "P9", "E": "P9"}
_KINDS = {
    "A": "inputs once read wrongly or lost in silence: every row, or refused by name",
    "B": "inputs that once ended in an internal error: done, or refused by name",
    "C": "inputs whose cells once were shown: the message has none",
    "D": "inputs once answered by a message that misleads",
    "E": "inputs and options once taken for something else",
}


def param(case: Case) -> Any:
    reason = PENDING.get(case.name)
    marks = () if reason is None else (pytest.mark.xfail(strict=True, reason=reason),)
    return pytest.param(case, marks=marks, id=case.name)


def test_names_are_distinct_and_what_is_pending_is_a_case() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    assert PENDING.keys() <= set(names)


@pytest.mark.parametrize("case", [param(case) for case in CASES])
def test_input_once_answered_wrongly_is_answered_rightly(
    case: Case, tmp_path: Path, proof: Proof
) -> None:
    done = run_case(case, tmp_path)
    assert case.right(done) == ""
    assert done.code != 70
    proof(_PROMISES[case.part], _KINDS[case.part], 1)
