"""Every input that was once answered wrongly is answered rightly; see ``listed``."""

from pathlib import Path

import pytest
from recording import Proof

from cases.listed import CASES
from cases.trial import Case, run_case

_PROMISES = {"A": "P2", "B": "P9", "C": "P12", "D": "P9", "E": "P9"}
_KINDS = {
    "A": "inputs once read wrongly or lost in silence: every row, or refused by name",
    "B": "inputs that once ended in an internal error: done, or refused by name",
    "C": "inputs whose cells once were shown: the message has none",
    "D": "inputs once answered by a message that misleads",
    "E": "inputs and options once taken for something else",
}


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_input_once_answered_wrongly_is_answered_rightly(
    case: Case, tmp_path: Path, proof: Proof
) -> None:
    done = run_case(case, tmp_path)
    assert case.right(done) == ""
    assert done.code != 70
    proof(_PROMISES[case.part], _KINDS[case.part], 1)
