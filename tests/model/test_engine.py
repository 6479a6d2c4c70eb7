"""The engine gives each name the network's own logits, whatever else it has to answer."""

import copy
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from recording import Proof

from charrnn.errors import StorageError
from charrnn.model import engine as engine_module
from charrnn.model.engine import Engine, logits_of
from charrnn.model.network import CharRNN, ModelConfig
from charrnn.model.normalise import SEED
from charrnn.model.vocabulary import LATIN_VOCABULARY, SEED_VOCABULARY, Encoded, Vocabulary
from charrnn.training.presets import PRESETS

BARE = Vocabulary("ab_", SEED)
WIDE = Vocabulary(
    "".join([c for c in map(chr, range(33, 400)) if c.isprintable()][:253]), SEED, boundaries=True
)  # as many symbols as there are ids
VOCABULARIES = {"latin": LATIN_VOCABULARY, "bare": BARE, "wide": WIDE}
NASTY = [
    "ab", "", "a", "abab", "ab", "aba", "b", "ba", "ab", None, "b" * 70, "b" * 71, "b" * 70 + "a",
    "ab" * 40, "bab", "c", "x", "a" * 26, "a" * 25 + "b", "a" * 26, "é", "名", "abba", "babba",
]  # fmt: skip


class Plain(CharRNN):
    """A network that takes the plain path."""


def make_network(
    vocabulary: Vocabulary, kind: type[CharRNN] = CharRNN, **changes: object
) -> CharRNN:
    options = {"hidden_size": 8, "embedding_size": 5, **changes}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = kind(ModelConfig(vocabulary.size, 4, **options)).eval()
        if network.ngrams is not None:
            torch.nn.init.normal_(network.ngrams.weight, std=0.02)
    return network


def without_table(network: CharRNN) -> CharRNN:
    plain = copy.deepcopy(network)
    plain.ngrams = plain.n2o = None
    return plain


def encode(vocabulary: Vocabulary, names: list[str | None]) -> Encoded:
    return vocabulary.encode(pa.array(names, pa.string()))


def expected_of(network: CharRNN, encoded: Encoded) -> np.ndarray:
    """One padded batch through the network: the definition. In double precision, since single
    loses the fifth decimal itself where a name repeats one n-gram hundreds of times."""
    ids, lengths = map(torch.from_numpy, encoded.padded())
    with torch.inference_mode():
        exact = copy.deepcopy(network).double()(ids, lengths).numpy()
        plain = network(ids, lengths).numpy()
    np.testing.assert_allclose(plain, exact, rtol=0, atol=1e-5 if ids.shape[1] < 200 else 1e-4)
    return exact


def found_by(engine: Engine, encoded: Encoded, rows: np.ndarray | None = None) -> np.ndarray:
    """The engine's logits, in the order of ``rows``, which must not repeat."""
    chosen = np.arange(len(encoded)) if rows is None else rows
    found = np.full((len(encoded), engine.network.config.label_count), np.nan, np.float32)
    seen = []
    for some, logits in engine.logits(encoded, rows):
        assert some.dtype == np.int64
        assert logits.shape == (len(some), found.shape[1])
        found[some] = logits.numpy()
        seen += some.tolist()
    assert sorted(seen) == sorted(chosen.tolist())
    return found[chosen]


def assert_close(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("embedding", [0, 5], ids=["one-hot", "embedding"])
@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES)
@pytest.mark.parametrize("buckets", [0, 64])
@pytest.mark.parametrize("kind", [CharRNN, Plain])
def test_every_kind_of_network(
    vocabulary: Vocabulary, kind: type[CharRNN], buckets: int, embedding: int
) -> None:
    network = make_network(vocabulary, kind, ngram_buckets=buckets, embedding_size=embedding)
    encoded = encode(vocabulary, NASTY)
    assert_close(found_by(Engine(network), encoded), expected_of(network, encoded))
    assert_close(logits_of(network, encoded), expected_of(network, encoded))


@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES)
@example(names=["ab", "abb", "ab", "abb"], batch_size=2)  # a name that another goes on from
@example(names=["b", "ab", "ab"], batch_size=9)
@given(
    names=st.lists(st.text("ab_é", max_size=9) | st.text("ab", max_size=30), max_size=40),
    batch_size=st.integers(1, 50),
)
@settings(deadline=None, database=None, derandomize=True, max_examples=25)
def test_any_names_in_any_chunks(
    vocabulary: Vocabulary, names: list[str | None], batch_size: int
) -> None:
    network = make_network(vocabulary, ngram_buckets=64)
    encoded = encode(vocabulary, ["a", *names])
    engine = Engine(network, batch_size)
    assert_close(found_by(engine, encoded), expected_of(network, encoded))


@pytest.mark.parametrize("block", [1, 3, 1000])
@given(rows=st.lists(st.integers(0, len(NASTY) - 1), unique=True))
@settings(deadline=None, database=None, derandomize=True, max_examples=30)
def test_chosen_rows_in_any_order(block: int, rows: list[int]) -> None:
    network = make_network(LATIN_VOCABULARY)
    encoded = encode(LATIN_VOCABULARY, NASTY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "_BLOCK", block)
        found = found_by(Engine(network), encoded, np.array(rows, np.int64))
    assert_close(found, expected_of(network, encoded)[rows])


@pytest.mark.parametrize("length", [256, 257, 700])
def test_long_names_among_short_ones(length: int) -> None:
    network = make_network(LATIN_VOCABULARY)
    encoded = encode(LATIN_VOCABULARY, ["ab", "ab" * length, *NASTY, "ba" * length, "b" * length])
    assert_close(found_by(Engine(network, 2), encoded), expected_of(network, encoded))


def test_answers_cover_repeated_rows() -> None:
    network = make_network(BARE)
    encoded = encode(BARE, NASTY)
    rows = np.array([3, 3, 1, 3])
    answers = list(Engine(network).logits(encoded, rows))
    answered = np.concatenate([some for some, _ in answers])
    assert sorted(answered.tolist()) == sorted(rows.tolist())
    found = torch.cat([x for _, x in answers]).numpy()
    assert_close(found, expected_of(network, encoded)[answered])


@pytest.mark.parametrize("names", [[], [""], ["ab"], [None] * 9, ["ab"] * 5000, ["", "b" * 256]])
@pytest.mark.parametrize("vocabulary", [LATIN_VOCABULARY, BARE], ids=["latin", "bare"])
def test_few_and_equal_names(vocabulary: Vocabulary, names: list[str | None]) -> None:
    network = make_network(vocabulary, ngram_buckets=64)
    encoded = encode(vocabulary, names)
    found = found_by(Engine(network), encoded)
    assert found.shape == (len(names), 4)
    if names:
        assert_close(found, expected_of(network, encoded))
    assert list(Engine(network).logits(encoded, np.array([], np.int64))) == []


def test_a_table_of_a_rank_gives_the_logits_of_its_product() -> None:
    network = make_network(LATIN_VOCABULARY, ngram_buckets=64, ngram_rank=3)
    encoded = encode(LATIN_VOCABULARY, NASTY)
    expected = expected_of(network, encoded)
    assert network.get_parameter("ngrams.weight").shape == (64, 3)
    np.testing.assert_allclose(found_by(Engine(network), encoded), expected, rtol=0, atol=1e-5)
    assert np.abs(expected - expected_of(without_table(network), encoded)).max() > 1e-3


@pytest.mark.parametrize("vocabulary", VOCABULARIES.values(), ids=VOCABULARIES)
def test_names_are_sorted_by_their_first_characters(vocabulary: Vocabulary) -> None:
    """Unsorted names would get the right logits too, only later."""
    encoded = encode(vocabulary, NASTY + many_names(3000))
    ids, lengths = encoded.padded()
    marks = int(vocabulary.boundaries)
    keys = [
        row[marks : length - marks][:16].tolist() for row, length in zip(ids, lengths, strict=True)
    ]
    rows = np.random.default_rng(1).permutation(len(keys))
    order = engine_module._sort_order(encoded, rows)
    assert [keys[i] for i in rows[order]] == sorted(keys)


def test_a_trie_holds_every_prefix_once() -> None:
    encoded = encode(BARE, many_names(500))
    rows = np.arange(500)
    trie = engine_module._Trie(encoded, rows[engine_module._sort_order(encoded, rows)])
    ids, lengths = encoded.padded()
    distinct = {
        tuple(row[:n]) for row, length in zip(ids, lengths, strict=True) for n in range(1, length)
    }
    assert sum(trie.nodes) == len(distinct)
    assert sum(trie.ending) == 500


def many_names(count: int) -> list[str | None]:
    draw = np.random.default_rng(0)
    letters = draw.integers(0, 5, (count, 14)).astype(np.uint8) + ord("a")
    return [
        row.tobytes()[:length].decode()
        for row, length in zip(letters, draw.integers(0, 15, count), strict=True)
    ]


def test_many_names_across_chunks_and_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_network(LATIN_VOCABULARY, ngram_buckets=256)
    encoded = encode(LATIN_VOCABULARY, many_names(10_000))
    expected = expected_of(network, encoded)
    assert_close(found_by(Engine(network), encoded), expected)
    monkeypatch.setattr(engine_module, "_BLOCK", 7001)
    monkeypatch.setattr(engine_module, "_CHUNK_FLOATS", 40_000)
    assert_close(found_by(Engine(network, 1234), encoded), expected)


def test_threads_share_an_engine() -> None:
    network = make_network(LATIN_VOCABULARY)
    tables = [encode(LATIN_VOCABULARY, many_names(3000)[i:]) for i in range(8)]
    engine = Engine(network, 500)
    alone = [found_by(engine, table) for table in tables]
    at_once = threading.Barrier(4)

    def work(i: int) -> np.ndarray:
        at_once.wait()
        return found_by(engine, tables[i])

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, range(8)))
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("kind", [CharRNN, Plain])  # with the trie and without
def test_work_ends_at_the_next_pass_when_the_check_says_so(kind: type[CharRNN]) -> None:
    checks = []

    def check(names: int) -> None:
        checks.append(1)
        if len(checks) == 3:
            raise KeyboardInterrupt

    network = make_network(LATIN_VOCABULARY, kind)
    engine = Engine(network, 100, check)
    with pytest.raises(KeyboardInterrupt):
        list(engine.logits(encode(LATIN_VOCABULARY, many_names(3000))))
    assert len(checks) == 3


def test_answers_of_two_calls_may_be_taken_in_turn() -> None:
    engine = Engine(make_network(BARE), 3)
    encoded = encode(BARE, NASTY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_module, "_BLOCK", 5)
        turns = zip(engine.logits(encoded), engine.logits(encoded), strict=True)
        for (rows, one), (same, other) in turns:
            assert rows.tolist() == same.tolist()
            assert torch.equal(one, other)


def test_a_network_in_training_or_of_another_class_takes_the_plain_path() -> None:
    network = make_network(LATIN_VOCABULARY, ngram_buckets=64, embedding_size=0)
    assert Engine(network)._recurrence is not None
    assert Engine(network.train())._recurrence is None
    assert Engine(make_network(LATIN_VOCABULARY, Plain))._recurrence is None


def test_the_presets_take_the_trie() -> None:
    for preset in PRESETS.values():
        network = CharRNN(replace(preset, vocabulary=LATIN_VOCABULARY).model_config(3)).eval()
        assert Engine(network)._recurrence is not None, preset.name


@pytest.mark.parametrize("by_sigmoid", [False, True])
def test_either_form_of_tanh_gives_the_networks_logits(
    by_sigmoid: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "sigmoid_is_faster", lambda: by_sigmoid)
    network = make_network(LATIN_VOCABULARY, ngram_buckets=64, hidden_size=64)
    with torch.no_grad():
        network.forward_rnn.cell.h2h.weight.mul_(2)  # so that rounding errors grow along a name
    encoded = encode(LATIN_VOCABULARY, NASTY)
    assert_close(found_by(Engine(network), encoded), expected_of(network, encoded))


def test_the_network_is_left_as_it_was() -> None:
    network = make_network(LATIN_VOCABULARY, ngram_buckets=64)
    before = copy.deepcopy(network.state_dict())
    engine = Engine(network)
    first = found_by(engine, encode(LATIN_VOCABULARY, NASTY))
    assert np.array_equal(found_by(engine, encode(LATIN_VOCABULARY, NASTY)), first)
    after = network.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    assert torch.is_grad_enabled()
    # The tables are the engine's own: a network that learns on does not move them.
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1)
    network.h2o.bias.data.copy_(before["h2o.bias"])
    if network.ngrams is not None:
        network.ngrams.weight.data.copy_(before["ngrams.weight"])
    assert np.array_equal(found_by(engine, encode(LATIN_VOCABULARY, NASTY)), first)


def test_a_training_network_keeps_its_dropout() -> None:
    network = make_network(BARE, dropout=0.5, hidden_size=64).train()
    encoded = encode(BARE, ["ab"] * 50)
    found = found_by(Engine(network), encoded)
    assert len(np.unique(found, axis=0)) > 1


@pytest.mark.parametrize("length", [256, 257, 9000])
def test_one_long_name_does_not_take_much_memory(length: int) -> None:
    """numpy's allocations, which grow with the longest name; torch's grow with the chunk only."""
    network = make_network(LATIN_VOCABULARY)
    encoded = encode(LATIN_VOCABULARY, ["b" * length, *many_names(20_000)])
    tracemalloc.start()
    found_by(Engine(network), encoded)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6


# --- logits do not depend on the neighbours ------------------------------------------------------

MIXED = ["Katoro", "Li", "", "burgmann", "Ovskaronko", "Li", None, "ﬁé", "x" * 90, "Ta ro", "名前"]
MIXED += [f"name{'abcdefgh'[i % 8]}{'ka' * (i % 5)}" for i in range(40)]
both_vocabularies = pytest.mark.parametrize(
    "vocabulary", [LATIN_VOCABULARY, SEED_VOCABULARY], ids=["latin", "seed"]
)
both_paths = pytest.mark.parametrize("kind", [CharRNN, Plain], ids=["trie", "plain"])


@both_paths
@both_vocabularies
def test_logits_come_back_in_the_order_of_the_names(
    vocabulary: Vocabulary, kind: type[CharRNN]
) -> None:
    network = make_network(vocabulary, kind)
    together = logits_of(network, vocabulary.encode(pa.array(MIXED)))
    assert together.shape == (len(MIXED), 4)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    for name, row in zip(MIXED, together, strict=True):
        alone = logits_of(network, vocabulary.encode(pa.array([name], pa.string())))
        np.testing.assert_allclose(alone[0], row, rtol=0, atol=1e-6)


@both_paths
@both_vocabularies
@pytest.mark.parametrize("batch_size", [1, 2, 7, 1024])
def test_batch_size_does_not_change_a_names_logits(
    vocabulary: Vocabulary, kind: type[CharRNN], batch_size: int
) -> None:
    network = make_network(vocabulary, kind)
    encoded = vocabulary.encode(pa.array(MIXED))
    expected = logits_of(network, encoded, batch_size=13)
    found = logits_of(network, encoded, batch_size=batch_size)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@both_paths
@both_vocabularies
def test_row_order_does_not_change_a_names_logits(
    vocabulary: Vocabulary, kind: type[CharRNN]
) -> None:
    network = make_network(vocabulary, kind)
    array = pa.array(MIXED)
    expected = logits_of(network, vocabulary.encode(array), batch_size=8)
    order = np.random.default_rng(0).permutation(len(MIXED))
    shuffled = logits_of(network, vocabulary.encode(array.take(pa.array(order))), batch_size=8)
    np.testing.assert_allclose(shuffled, expected[order], rtol=0, atol=1e-6)


@both_vocabularies
@both_paths
def test_exact_length_batches_equal_one_padded_batch(
    vocabulary: Vocabulary, kind: type[CharRNN]
) -> None:
    network = make_network(vocabulary, kind)
    encoded = vocabulary.encode(pa.array([name for name in MIXED if name]))
    ids, lengths = map(torch.from_numpy, encoded.padded())
    with torch.inference_mode():
        padded = network(ids, lengths).numpy()
    np.testing.assert_allclose(logits_of(network, encoded), padded, rtol=0, atol=1e-5)


@both_paths
@both_vocabularies
def test_an_empty_name_gets_the_same_logits_from_a_padded_batch(
    vocabulary: Vocabulary, kind: type[CharRNN]
) -> None:
    network = make_network(vocabulary, kind)
    encoded = vocabulary.encode(pa.array(["", "ab", None]))
    ids, lengths = map(torch.from_numpy, encoded.padded())
    with torch.inference_mode():
        padded = network(ids, lengths).numpy()
    np.testing.assert_allclose(logits_of(network, encoded), padded, rtol=0, atol=1e-5)


@both_paths
@both_vocabularies
def test_no_names_give_no_logits(vocabulary: Vocabulary, kind: type[CharRNN]) -> None:
    logits = logits_of(make_network(vocabulary, kind), vocabulary.encode(pa.array([], pa.string())))
    assert logits.shape == (0, 4)


def test_no_gradient_is_recorded() -> None:
    network = make_network(LATIN_VOCABULARY)
    logits_of(network, LATIN_VOCABULARY.encode(pa.array(["ab"])))
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.is_grad_enabled()


# --- memory of the device ------------------------------------------------------------------------


class _SmallDevice(CharRNN):
    """A network whose device has memory for so many names at a time."""

    room = 3
    asked: list[int]

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor | None = None) -> torch.Tensor:
        self.asked.append(len(ids))
        if len(ids) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().forward(ids, lengths)


def _small_device(room: int) -> _SmallDevice:
    config = ModelConfig(LATIN_VOCABULARY.size, 3, hidden_size=4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = _SmallDevice(config).eval()
    network.room, network.asked = room, []
    return network


@pytest.mark.parametrize("room", [1, 2, 5, 31])
def test_names_are_answered_alike_whatever_the_device_has_room_for(room: int, proof: Proof) -> None:
    encoded = LATIN_VOCABULARY.encode(pa.array([a * n + "b" for a in "cdefg" for n in range(40)]))
    small, roomy = _small_device(room), _small_device(1000)
    found, expected = (logits_of(n, encoded, batch_size=32) for n in (small, roomy))
    assert np.abs(found - expected).max() < 1e-6
    assert sum(asked for asked in small.asked if asked <= room) == len(encoded)
    assert sum(asked > room for asked in small.asked) <= 5
    proof("P14", "devices with little memory: batches halved, the same answers", 1)


def test_a_batch_that_does_not_fit_is_halved_and_the_size_is_remembered() -> None:
    encoded = LATIN_VOCABULARY.encode(pa.array([a + b for a in "abcdef" for b in "ghijkl"]))
    network = _small_device(3)
    found = logits_of(network, encoded, batch_size=32)
    assert network.asked[:4] == [32, 16, 8, 4]
    assert max(network.asked[4:]) == 2  # 4 did not fit, and nothing larger is tried again
    roomy = _small_device(1000)
    assert np.abs(found - logits_of(roomy, encoded)).max() < 1e-6


def test_a_device_without_room_for_one_name_is_a_clear_error(proof: Proof) -> None:
    encoded = LATIN_VOCABULARY.encode(pa.array(["katoro", "burgof"]))
    with pytest.raises(StorageError, match="no memory for a single name"):
        logits_of(_small_device(0), encoded)
    proof("P14", "a device without memory for one name: one line says so", 1)
