"""No exit code 70 and no wrong row count in mutated inputs, models, manifests and options;
``mutate.py`` tries thousands."""

import resource

import pytest
from recording import Proof

from fuzz import mutate


@pytest.mark.slow
@pytest.mark.parametrize("kind", mutate.KINDS)
def test_mutants_are_answered_rightly(kind: str, proof: Proof) -> None:
    each = 400 // len(mutate.KINDS) + 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    tally = mutate.run_cases(kind, 1_000_000, each, lambda number: None)
    assert tally.problems == []
    assert tally.peak - before < mutate.MEMORY
    proof("P8, P9", mutate.WHAT, each)


def test_every_command_and_option_is_tried() -> None:
    from charrnn.cli import COMMANDS

    assert {*mutate.BASE} == {*COMMANDS} - {"register"}  # which needs a server
    assert {n for n in mutate.BASE if list(mutate.options_of(mutate.RECORDS[n]))} == {*mutate.BASE}
