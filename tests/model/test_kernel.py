"""The GPU kernels against the plain network: interpreted by Triton on any machine, and on a card.

The interpreter is chosen by an environment variable before Triton is imported, so the cases below
run as a script, once, and each test looks at its part of what came out.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="Triton is not installed"
)
HERE = Path(__file__)


def made_network(
    hidden: int, labels: int, *, ids: int = 33, embedding: int = 0, buckets: int = 0
) -> Any:
    """Return a network with weights as large as trained ones."""
    import torch
    from torch import nn

    from charrnn.model.network import CharRNN, ModelConfig

    torch.manual_seed(hidden + labels)
    device = "cpu" if os.environ.get("TRITON_INTERPRET") else "cuda"
    config = ModelConfig(
        ids, labels, hidden_size=hidden, embedding_size=embedding, ngram_buckets=buckets
    )
    network = CharRNN(config).eval().to(device)
    nn.init.normal_(network.h2o.weight, std=0.3)
    if network.ngrams is not None:
        nn.init.normal_(network.ngrams.weight, std=0.5)
        network.ngrams.weight.data = network.ngrams.weight.data.half().float()
    return network


def made_names(lengths: list[int], *, marks: bool, ids: int = 33) -> Any:
    """Return an ``Encoded`` of random names of these lengths, one of them without any id."""
    import numpy as np

    from charrnn.model.vocabulary import LATIN_VOCABULARY, Encoded, Vocabulary

    more = "".join(map(chr, range(0x4E00, 0x4E00 + ids - 33)))
    symbols = LATIN_VOCABULARY.symbols + more + ("" if marks else "€£")
    vocabulary = Vocabulary(symbols, boundaries=marks)
    draw, sizes = np.random.default_rng(len(lengths)), np.array(lengths, np.int64)
    flat = draw.integers(1, len(vocabulary.symbols) + 1, int(sizes.sum()) + 8).astype(np.uint8)
    flat = np.concatenate((flat, np.zeros(int(sizes.max()), np.uint8)))
    starts = np.append(0, np.cumsum(sizes)[:-1])
    return Encoded(flat, starts, sizes, np.zeros_like(sizes), sizes, vocabulary)


def differences(network: Any, encoded: Any, *, k: int = 3, prior: Any = None) -> dict[str, Any]:
    """Return how far the kernels are from the plain network."""
    import numpy as np
    import torch

    from charrnn.model.gpu import KernelEngine

    device = network.h2o.weight.device
    engine = KernelEngine(network, 100)
    rows = np.random.default_rng(1).permutation(len(encoded))
    ids, lengths = (torch.from_numpy(part) for part in encoded.padded())
    with torch.inference_mode():
        expected = network(ids.to(device), lengths.to(device)).cpu()
    found = torch.full_like(expected, torch.nan)
    for some, logits in engine.logits(encoded, rows):
        found[torch.from_numpy(some)] = logits.cpu()
    weights = None if prior is None else prior.to(device)
    ranked = engine.ranked(encoded, rows, k, 0.8, weights)
    p = torch.softmax(expected[torch.from_numpy(rows)] / 0.8, dim=1)
    top = p.max(dim=1)
    if prior is not None:
        p = p * prior / (p * prior).sum(dim=1, keepdim=True)
    given = torch.gather(p, 1, torch.from_numpy(ranked[0]).long())
    best = p.sort(dim=1, descending=True).values[:, :k]
    result = {
        "logits": float((found - expected).abs().max()),
        "confidence": float((torch.from_numpy(ranked[1]) - best).abs().max()),
        "labels": float((given - best).abs().max()),  # of labels given, how far from the best
        "dtypes": [str(array.dtype) for array in ranked],
    }
    if prior is not None:
        same = torch.from_numpy(ranked[2]).long() == top.indices
        result["uncorrected"] = float((torch.from_numpy(ranked[3]) - top.values).abs().max())
        result["uncorrected labels"] = float(same.float().mean())
    return result


def run_cases() -> dict[str, Any]:
    import numpy as np
    import torch
    from torch import nn

    from charrnn.model.gpu import KernelEngine, kernel_suits
    from charrnn.model.network import CharRNN, ModelConfig

    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    every = list(range(257))
    tiny, default = made_network(128, 18), made_network(256, 18, embedding=64, buckets=2**17)
    found["every length"] = differences(
        made_network(32, 18, buckets=2**10), made_names(every, marks=True)
    )
    found["no boundaries"] = differences(
        made_network(32, 18), made_names([0, 0, *range(20)], marks=False)
    )
    found["tiny"] = differences(tiny, made_names([9, 0, 3, 12, 7] * 5, marks=True))
    found["default"] = differences(default, made_names([9, 0, 3, 12, 7] * 5, marks=True))
    for ids in (63, 64, 255):
        names = {marks: made_names([9, 0, 3, 12, 7] * 5, marks=marks, ids=ids) for marks in (0, 1)}
        found[f"{ids} ids"] = differences(made_network(128, 18, ids=ids), names[1])
        found[f"{ids} ids, no boundaries"] = differences(
            made_network(16, 18, ids=ids, buckets=2**14), names[0]
        )
        wide = made_network(256, 18, ids=ids, embedding=64, buckets=2**17)
        found[f"{ids} ids, wide"] = differences(wide, names[1])
    for count in (1, 63, 64, 65, 127, 128, 129):
        draw = np.random.default_rng(count).integers(0, 9, count).tolist()
        found[f"{count} names"] = differences(made_network(128, 5), made_names(draw, marks=True))
    for labels in (1, 2, 16, 17, 100, 1000):
        network = made_network(16, labels, buckets=2**8)
        encoded = made_names([2, 5, 0, 8], marks=True)
        found[f"{labels} labels"] = differences(network, encoded, k=min(3, labels))
    network = made_network(64, 18, buckets=2**12)
    shares = torch.linspace(0, 3, 18)
    encoded = made_names([4, 1, 256, 9, 0] * 3, marks=True)
    found["prior"] = differences(network, encoded, k=8, prior=shares)

    tied = made_network(16, 18)
    nn.init.zeros_(tied.h2o.weight)
    nn.init.zeros_(tied.h2o.bias)
    rows = np.arange(3)
    engine = KernelEngine(tied)
    found["ties"] = engine.ranked(made_names([1, 2, 3], marks=True), rows, 8)[0].tolist()
    nothing = torch.zeros_like(tied.h2o.bias)
    ranked = engine.ranked(made_names([1, 2, 3], marks=True), rows, 2, 1.0, nothing)
    found["no prior left"] = [ranked[0].tolist(), ranked[1].tolist()]

    long = made_names([300, 4, 0, 280, 256, 258], marks=True)
    found["long names"] = differences(network, long)
    found["long names, prior"] = differences(network, long, prior=shares)
    empty = engine.ranked(long, np.array([], np.int64), 3)
    found["nothing"] = [
        len(list(engine.logits(long, np.array([], np.int64)))),
        list(empty[0].shape),
    ]
    found["suits"] = {
        "tiny": kernel_suits(tiny),
        "training": kernel_suits(CharRNN(tiny.config)),
        "large vocabulary": kernel_suits(made_network(128, 18, ids=255)),
        "odd size": kernel_suits(CharRNN(ModelConfig(33, 18, hidden_size=100)).eval()),
    }
    return found


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("interpreter", marks=pytest.mark.slow),
        pytest.param("card", marks=pytest.mark.gpu),
    ],
)
def found(request: pytest.FixtureRequest) -> dict[str, Any]:
    path = [str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "TRITON_INTERPRET": "1"}
    if request.param == "card":
        import torch

        if not torch.cuda.is_available():
            pytest.skip("this machine has no CUDA device")
        del environment["TRITON_INTERPRET"]
    done = subprocess.run(
        [sys.executable, str(HERE)], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def assert_close(case: dict[str, Any], tolerance: float) -> None:
    assert case["logits"] < 20 * tolerance
    assert case["confidence"] < tolerance
    assert case["labels"] < 2 * tolerance
    assert case["dtypes"][:2] == ["int16", "float32"]


@pytest.mark.parametrize(
    "case",
    ["every length", "no boundaries", "tiny", "long names"]
    + [f"{ids} ids{marks}" for ids in (63, 64, 255) for marks in ("", ", no boundaries")]
    + [f"{count} names" for count in (1, 63, 64, 65, 127, 128, 129)]
    + [f"{labels} labels" for labels in (1, 2, 16, 17, 100, 1000)],
)  # fmt: skip
def test_the_kernels_agree_with_the_network(found: dict[str, Any], case: str) -> None:
    assert_close(found[case], 1e-5)


@pytest.mark.parametrize("case", ["default", *[f"{ids} ids, wide" for ids in (63, 64, 255)]])
def test_a_wide_network_agrees_within_what_half_precision_gives(
    found: dict[str, Any], case: str
) -> None:
    assert_close(found[case], 5e-4)


@pytest.mark.parametrize("case", ["prior", "long names, prior"])
def test_a_prior_is_applied_and_the_answer_before_it_kept(found: dict[str, Any], case: str) -> None:
    assert_close(found[case], 1e-5)
    assert found[case]["uncorrected"] < 2e-6
    assert found[case]["uncorrected labels"] == 1


def test_equal_labels_come_in_their_order(found: dict[str, Any]) -> None:
    assert found["ties"] == [list(range(8))] * 3


def test_a_prior_that_leaves_nothing_is_left_out(found: dict[str, Any]) -> None:
    assert found["no prior left"] == [[[0, 1]] * 3, [[pytest.approx(1 / 18)] * 2] * 3]


def test_no_names_are_no_work(found: dict[str, Any]) -> None:
    assert found["nothing"] == [0, [0, 3]]


def test_the_engine_is_chosen_for_what_it_can_do(found: dict[str, Any]) -> None:
    assert found["suits"] == {
        "tiny": True, "training": False, "large vocabulary": True, "odd size": False,
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(run_cases()))  # noqa: T201
