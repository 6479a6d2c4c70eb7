"""The mutations of ``make mutations`` are of the code as it is."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_every_mutation_has_one_place_in_the_code_and_a_test(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(ROOT / "tests" / "faults")
    mutations = importlib.import_module("mutations").MUTATIONS
    assert len(mutations) > 60
    for mutation in mutations:
        code = (ROOT / mutation.path).read_text()
        assert code.count(mutation.old) == 1, mutation
        assert mutation.new != mutation.old, mutation
        assert (ROOT / mutation.test.split()[0]).exists(), mutation
