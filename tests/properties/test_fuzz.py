"""The saved corpora and a short, seeded run of each fuzz target; ``make fuzz`` runs them longer."""

import sys

import pytest
from fuzz import csv as csv_target
from fuzz import zip as zip_target
from fuzz.loop import Target, explore, reached_by, saved
from recording import Proof

TARGETS = {"csv": csv_target, "zip": zip_target}


@pytest.mark.parametrize("name", TARGETS)
def test_short_run_breaks_no_promise(name: str, proof: Proof) -> None:
    target = TARGETS[name]
    _, runs, steps = explore(
        target.check, saved(name), target.MODULES, target.TOKENS, seed=1, tries=120
    )
    assert runs >= 120 + len(saved(name))
    assert steps > 100
    promise, what = {
        "csv": ("P3", "inputs of a fuzzer led by coverage: read as Python's csv does, or refused"),
        "zip": ("P11", "archives of a fuzzer led by coverage: within the caps, or refused"),
    }[name]
    proof(promise, what, runs)


def hidden(data: bytes) -> None:
    """Fail for four bytes in a row, looked at one after the other."""
    if data[:1] != b"P":
        return
    if data[1:2] != b"K":
        return
    if data[2:3] != b"3":
        return
    assert data[3:4] != b"4", "found"


def test_loop_is_led_by_what_an_input_reaches() -> None:
    """Four bytes in a row are not found by chance."""
    here = sys.modules[__name__]
    tokens = [bytes([byte]) for byte in b"ABKP1234"]
    with pytest.raises(AssertionError, match="found") as caught:
        explore(hidden, [b"AAAA"], [here], tokens, seed=3, tries=20_000)
    assert "input: b'PK34" in caught.value.__notes__[-1]


def test_only_the_files_asked_for_are_traced() -> None:
    check: Target = csv_target.check
    files = {str(module.__file__) for module in csv_target.MODULES}
    steps = reached_by(check, b"\0name\na\n", frozenset(files))
    assert {file for file, _, _ in steps} == files
