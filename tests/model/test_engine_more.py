"""Many names at once: batches, order, and results that do not depend on the neighbours."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charrnn.model.engine import logits_of
from charrnn.model.network import CharRNN, ModelConfig
from charrnn.model.vocabulary import LATIN_VOCABULARY, SEED_VOCABULARY, Vocabulary, batches

NAMES = ["Katoro", "Li", "", "burgmann", "Ovskaronko", "Li", None, "ﬁé", "x" * 90, "Ta ro", "名前"]
NAMES += [f"name{'abcdefgh'[i % 8]}{'ka' * (i % 5)}" for i in range(40)]
both_vocabularies = pytest.mark.parametrize(
    "vocabulary", [LATIN_VOCABULARY, SEED_VOCABULARY], ids=["latin", "seed"]
)


def make_network(vocabulary: Vocabulary, **changes: object) -> CharRNN:
    options = {"hidden_size": 16, "cell": "gru", "bidirectional": True, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return CharRNN(ModelConfig(vocabulary.size, 5, **options)).eval()


@given(
    lengths=st.lists(st.integers(0, 6), max_size=60),
    batch_size=st.integers(1, 20),
)
@settings(deadline=None, database=None, derandomize=True, max_examples=200)
def test_batches_hold_every_row_once_and_one_length_each(
    lengths: list[int], batch_size: int
) -> None:
    array = np.array(lengths, np.int64)
    found = list(batches(array, batch_size))
    assert sorted(row for rows in found for row in rows.tolist()) == list(range(len(lengths)))
    assert all(1 <= len(rows) <= batch_size for rows in found)
    assert all(len(set(array[rows].tolist())) == 1 for rows in found)
    assert [array[rows[0]] for rows in found] == sorted(array[rows[0]] for rows in found)
    assert all(rows.dtype == np.int64 for rows in found)


def test_batches_are_as_few_as_the_size_allows() -> None:
    assert [rows.tolist() for rows in batches(np.array([2, 1, 2, 2, 1]), 2)] == [
        [1, 4], [0, 2], [3],
    ]  # fmt: skip


@both_vocabularies
def test_logits_come_back_in_the_order_of_the_names(vocabulary: Vocabulary) -> None:
    network = make_network(vocabulary)
    together = logits_of(network, vocabulary.encode(pa.array(NAMES)))
    assert together.shape == (len(NAMES), 5)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    for name, row in zip(NAMES, together, strict=True):
        alone = logits_of(network, vocabulary.encode(pa.array([name], pa.string())))
        np.testing.assert_allclose(alone[0], row, rtol=0, atol=1e-6)


@both_vocabularies
@pytest.mark.parametrize("batch_size", [1, 2, 7, 1024])
def test_batch_size_does_not_change_a_names_logits(vocabulary: Vocabulary, batch_size: int) -> None:
    network = make_network(vocabulary, pooling="last_mean_max")
    encoded = vocabulary.encode(pa.array(NAMES))
    expected = logits_of(network, encoded, batch_size=13)
    found = logits_of(network, encoded, batch_size=batch_size)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@both_vocabularies
def test_row_order_does_not_change_a_names_logits(vocabulary: Vocabulary) -> None:
    network = make_network(vocabulary)
    array = pa.array(NAMES)
    expected = logits_of(network, vocabulary.encode(array), batch_size=8)
    order = np.random.default_rng(0).permutation(len(NAMES))
    shuffled = logits_of(network, vocabulary.encode(array.take(pa.array(order))), batch_size=8)
    np.testing.assert_allclose(shuffled, expected[order], rtol=0, atol=1e-6)


@both_vocabularies
@pytest.mark.parametrize("pooling", ["last", "last_mean_max"])
def test_exact_length_batches_equal_one_padded_batch(vocabulary: Vocabulary, pooling: str) -> None:
    network = make_network(vocabulary, pooling=pooling)
    encoded = vocabulary.encode(pa.array([name for name in NAMES if name]))
    ids, lengths = map(torch.from_numpy, encoded.padded())
    with torch.inference_mode():
        padded = network(ids, lengths).numpy()
    np.testing.assert_allclose(logits_of(network, encoded), padded, rtol=0, atol=1e-5)


@both_vocabularies
def test_an_empty_name_gets_the_same_logits_from_a_padded_batch(vocabulary: Vocabulary) -> None:
    network = make_network(vocabulary)
    encoded = vocabulary.encode(pa.array(["", "ab", None]))
    ids, lengths = map(torch.from_numpy, encoded.padded())
    with torch.inference_mode():
        padded = network(ids, lengths).numpy()
    np.testing.assert_allclose(logits_of(network, encoded), padded, rtol=0, atol=1e-5)


@both_vocabularies
def test_no_names_give_no_logits(vocabulary: Vocabulary) -> None:
    logits = logits_of(make_network(vocabulary), vocabulary.encode(pa.array([], pa.string())))
    assert logits.shape == (0, 5)


def test_no_gradient_is_recorded() -> None:
    network = make_network(LATIN_VOCABULARY)
    logits_of(network, LATIN_VOCABULARY.encode(pa.array(["ab"])))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.is_grad_enabled()
