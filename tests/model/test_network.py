"""The network against torch's own layers and against one name at a time."""

from dataclasses import asdict

import msgspec
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from charrnn.errors import ConfigError
from charrnn.model.network import (
    RNN,
    CharRNN,
    ModelConfig,
    RNNCell,
    from_stored,
    to_stored,
)
from charrnn.training.presets import PRESETS

both_inputs = pytest.mark.parametrize("embedding_size", [0, 5], ids=["one-hot", "embedding"])
V, L, H = 7, 4, 6
LENGTHS = [5, 1, 3, 5, 2]
GOLDEN = [[2.5717441, 0.3101326, -1.0904720], [2.1419597, 0.3481091, -0.6922952]]


def make_network(embedding_size: int) -> CharRNN:
    config = ModelConfig(V, L, hidden_size=H, embedding_size=embedding_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return CharRNN(config).double()


def make_wide_network(buckets: int) -> CharRNN:
    """Return a small network with an n-gram table, whose weights are not the zeros it starts as."""
    config = ModelConfig(V, L, hidden_size=H, ngram_buckets=buckets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = CharRNN(config).double()
        torch.nn.init.normal_(network.get_parameter("ngrams.weight"))
    return network


def make_batch(lengths: list[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return padded ids and lengths of random names."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, V + 1, (len(lengths), max(lengths)), generator=generator)
    counts = torch.tensor(lengths)
    return ids * (torch.arange(max(lengths)) < counts[:, None]), counts


def reference_logits(network: CharRNN, ids: list[int]) -> Tensor:
    """The logits of one name, ``(L,)``, one one-hot vector at a time, as the PyTorch tutorial feeds
    them."""
    weights = dict(network.named_parameters())
    W_x, b_x = (weights[f"forward_rnn.cell.x2h.{part}"] for part in ("weight", "bias"))
    W_h, b_h = (weights[f"forward_rnn.cell.h2h.{part}"] for part in ("weight", "bias"))
    h = torch.zeros(H, dtype=W_x.dtype)
    for symbol in ids:
        x_t = torch.zeros(V, dtype=W_x.dtype)
        x_t[symbol - 1] = 1
        if "embedding.weight" in weights:
            x_t = x_t @ weights["embedding.weight"][1:]
        h = torch.tanh(W_x @ x_t + b_x + W_h @ h + b_h)
    return network.h2o.weight @ h + network.h2o.bias + reference_ngrams(network, ids)


def reference_ngrams(network: CharRNN, ids: list[int]) -> Tensor:
    """The n-grams' share of the logits of one name, ``(L,)``, with Python's unbounded integers."""
    if not network.config.ngram_buckets:
        return network.h2o.bias.new_zeros(L)
    rows = []
    for n in (1, 2, 3, 4):
        for start in range(len(ids) - n + 1):
            code = n
            for symbol in ids[start : start + n]:
                code = code * 256 + symbol
            rows.append((code * 0x1E3779B97F4A7C15 >> 40) % network.config.ngram_buckets)
    weight = network.get_parameter("ngrams.weight")
    return 4 * sum(weight[row] for row in rows) / len(rows) ** 0.5


def gradients(network: CharRNN, logits: Tensor) -> dict[str, Tensor]:
    loss = F.cross_entropy(logits, torch.arange(len(logits)) % L)
    found = torch.autograd.grad(loss, list(network.parameters()))
    return dict(zip(dict(network.named_parameters()), found, strict=True))


def test_unrolled_cell_equals_the_layer_of_torch() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        layer = nn.RNN(V, H, batch_first=True).double()
        cell = RNNCell(V, H).double()
        x = torch.randn(3, 8, V, dtype=torch.float64)
    cell.load_state_dict(
        {
            "x2h.weight": layer.weight_ih_l0,
            "x2h.bias": layer.bias_ih_l0,
            "h2h.weight": layer.weight_hh_l0,
            "h2h.bias": layer.bias_hh_l0,
        }
    )
    expected, _ = layer(x)
    every_state = RNN(cell)(cell.x2h(x), None, True)
    torch.testing.assert_close(every_state, expected, rtol=0, atol=1e-12)
    last = RNN(cell)(cell.x2h(x), None, False)
    torch.testing.assert_close(last, expected[:, -1:], rtol=0, atol=1e-12)


@both_inputs
def test_padded_batch_equals_one_name_at_a_time(embedding_size: int) -> None:
    network = make_network(embedding_size)
    ids, lengths = make_batch(LENGTHS)
    names = [row[:length].tolist() for row, length in zip(ids, LENGTHS, strict=True)]
    expected = torch.stack([reference_logits(network, name) for name in names])
    logits = network(ids, lengths)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
    ours, theirs = gradients(network, logits), gradients(network, expected)
    assert all(gradient.abs().sum() > 0 for gradient in theirs.values())
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-12, msg=name)


@both_inputs
def test_single_precision_agrees_with_one_name_at_a_time(embedding_size: int) -> None:
    network = make_network(embedding_size).float()
    ids, lengths = make_batch(LENGTHS)
    names = [row[:length].tolist() for row, length in zip(ids, LENGTHS, strict=True)]
    expected = torch.stack([reference_logits(network, name) for name in names])
    torch.testing.assert_close(network(ids, lengths), expected, rtol=0, atol=1e-5)


@both_inputs
def test_no_lengths_means_every_name_fills_its_row(embedding_size: int) -> None:
    network = make_network(embedding_size)
    ids, lengths = make_batch([4, 4, 4])
    torch.testing.assert_close(network(ids), network(ids, lengths), rtol=0, atol=1e-12)


@both_inputs
def test_ids_behind_a_names_end_do_not_matter(embedding_size: int) -> None:
    network = make_network(embedding_size)
    ids, lengths = make_batch(LENGTHS)
    junk, _ = make_batch([9] * len(LENGTHS), seed=1)
    padded = F.pad(ids, (0, 4))
    filled = torch.where(torch.arange(9) < lengths[:, None], padded, junk)
    assert (filled != padded).any()
    expected = network(ids, lengths)
    assert torch.equal(network(padded, lengths), expected)
    assert torch.equal(network(filled, lengths), expected)


def test_an_empty_name_in_a_batch_gives_finite_logits() -> None:
    network = make_network(5)
    logits = network(torch.tensor([[1, 2], [0, 0]]), torch.tensor([2, 0]))
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("buckets", [1, 16, 1024])
def test_an_ngram_table_adds_the_same_in_a_batch_as_alone(buckets: int) -> None:
    network = make_wide_network(buckets)
    ids, lengths = make_batch([9, *LENGTHS])
    names = [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)]
    expected = torch.stack([reference_logits(network, name) for name in names])
    logits = network(ids, lengths)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
    for row, name in zip(logits, names, strict=True):
        alone = network(torch.tensor([name]))[0]
        torch.testing.assert_close(alone, row, rtol=0, atol=1e-12)
    ours, theirs = gradients(network, logits), gradients(network, expected)
    for name in theirs:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-12, msg=name)


def test_ids_behind_a_names_end_give_no_ngrams() -> None:
    network = make_wide_network(1024)
    ids, lengths = make_batch(LENGTHS)
    junk, _ = make_batch([9] * len(LENGTHS), seed=1)
    filled = torch.where(torch.arange(9) < lengths[:, None], F.pad(ids, (0, 4)), junk)
    expected = network(ids, lengths)
    torch.testing.assert_close(network(filled, lengths), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("option", ["dropout", "input_dropout", "ngram_dropout"])
def test_every_dropout_acts_in_training_only(option: str) -> None:
    options = {"hidden_size": H, "embedding_size": 5, "ngram_buckets": 64, option: 0.5}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = CharRNN(ModelConfig(V, L, **options))
        torch.nn.init.normal_(network.get_parameter("ngrams.weight"))
        ids, lengths = make_batch(LENGTHS)
        trained = network.train()(ids, lengths), network(ids, lengths)
        scored = network.eval()(ids, lengths), network(ids, lengths)
    assert not torch.equal(*trained)
    assert torch.equal(*scored)


def test_ids_of_any_integer_type_are_accepted() -> None:
    network = make_network(5)
    ids, lengths = make_batch(LENGTHS)
    for dtype in (torch.uint8, torch.int32):
        assert torch.equal(network(ids.to(dtype), lengths), network(ids, lengths))


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            ModelConfig(V, L, hidden_size=H),
            {
                "forward_rnn.cell.x2h.weight": (H, V),
                "forward_rnn.cell.x2h.bias": (H,),
                "forward_rnn.cell.h2h.weight": (H, H),
                "forward_rnn.cell.h2h.bias": (H,),
                "h2o.weight": (L, H),
                "h2o.bias": (L,),
            },
        ),
        (
            ModelConfig(
                V, L, hidden_size=H, embedding_size=5, dropout=0.1, ngram_buckets=32, ngram_rank=3,
            ),
            {
                "embedding.weight": (V + 1, 5),
                "forward_rnn.cell.x2h.weight": (H, 5),
                "forward_rnn.cell.x2h.bias": (H,),
                "forward_rnn.cell.h2h.weight": (H, H),
                "forward_rnn.cell.h2h.bias": (H,),
                "h2o.weight": (L, H),
                "h2o.bias": (L,),
                "ngrams.weight": (32, 3),
                "n2o.weight": (L, 3),
            },
        ),
        (
            PRESETS["seed"].model_config(18),
            {
                "forward_rnn.cell.x2h.weight": (128, 58),
                "forward_rnn.cell.x2h.bias": (128,),
                "forward_rnn.cell.h2h.weight": (128, 128),
                "forward_rnn.cell.h2h.bias": (128,),
                "h2o.weight": (18, 128),
                "h2o.bias": (18,),
            },
        ),
    ],
    ids=["plain", "full", "seed preset"],
)  # fmt: skip
def test_weights_have_the_documented_names_and_shapes(
    config: ModelConfig, expected: dict[str, tuple[int, ...]]
) -> None:
    state = CharRNN(config).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == expected


def test_the_padding_row_of_an_embedding_stays_zero() -> None:
    network = make_network(5)
    assert network.embedding is not None
    ids, lengths = make_batch(LENGTHS)
    assert not network.embedding.weight[0].any()
    assert not gradients(network, network(ids, lengths))["embedding.weight"][0].any()


@pytest.mark.parametrize(
    "changes",
    [
        {"vocabulary_size": 0},
        {"label_count": 0},
        {"hidden_size": 0},
        {"hidden_size": -1},
        {"embedding_size": -1},
        {"ngram_buckets": -1},
        {"ngram_buckets": 3},
        {"ngram_buckets": 1000},
        {"ngram_buckets": 2**25},
        {"input_dropout": 1.0},
        {"ngram_dropout": -0.1},
        {"dropout": 1.0},
        {"dropout": -0.1},
        {"dropout": float("nan")},
    ],
    ids=str,
)
def test_impossible_architectures_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(changes))):
        ModelConfig(**{"vocabulary_size": V, "label_count": L, **changes})


def test_logits_of_a_fixed_network_do_not_move() -> None:
    network = CharRNN(ModelConfig(V, 3, hidden_size=2)).double()
    for parameter in network.parameters():
        steps = torch.arange(parameter.numel(), dtype=torch.float64).view_as(parameter)
        parameter.data = torch.sin(steps + 1)
    logits = network(torch.tensor([[1, 2, 7], [5, 0, 0]]), torch.tensor([3, 1]))
    expected = torch.tensor(GOLDEN, dtype=torch.float64)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)


def test_a_file_holds_the_rows_of_the_ngram_table_that_are_not_zero() -> None:
    config = ModelConfig(V, L, hidden_size=H, ngram_buckets=16)
    weights = dict(CharRNN(config).state_dict())
    weights["ngrams.weight"][[3, 15]] = torch.tensor([[0.1, 0, 0, 0], [0, 1, 2, 1 / 3]])
    stored = to_stored(weights, config)
    assert stored["ngrams.rows"].tolist() == [3, 15]
    assert stored["ngrams.weight"].shape == (2, L)
    assert stored["ngrams.weight"].dtype == torch.float16
    back = from_stored(stored, config)
    assert back.keys() == weights.keys()
    for name, tensor in back.items():
        assert tensor.dtype == torch.float32
        expected = weights[name].half().float() if name == "ngrams.weight" else weights[name]
        assert torch.equal(tensor, expected), name
    assert all(
        torch.equal(to_stored(back, config)[name], tensor) for name, tensor in stored.items()
    )


def test_a_table_of_eight_bits_is_rounded_once() -> None:
    config = ModelConfig(V, L, hidden_size=H, ngram_buckets=256, ngram_bits=8)
    weights = dict(CharRNN(config).state_dict())
    table = torch.randn(256, L) * torch.logspace(-3, 3, 256)[:, None]
    weights["ngrams.weight"] = table
    stored = to_stored(weights, config)
    assert stored["ngrams.weight"].dtype == stored["ngrams.exponents"].dtype == torch.int8
    back = from_stored(stored, config)
    largest = table.abs().amax(dim=1, keepdim=True)
    assert ((back["ngrams.weight"] - table).abs() <= largest / 100).all()
    assert torch.equal(back["ngrams.weight"].half().float(), back["ngrams.weight"])  # for kernels
    again = to_stored(back, config)
    assert all(torch.equal(again[name], tensor) for name, tensor in stored.items())


def test_config_survives_json() -> None:
    config = ModelConfig(V, L, ngram_bits=8, dropout=0.25)
    assert ModelConfig(**asdict(config)) == config
    assert msgspec.convert(asdict(config), ModelConfig) == config
