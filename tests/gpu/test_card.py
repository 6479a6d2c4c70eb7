"""The kernels on a real card, with the packaged models; needs neither fixtures nor the flows."""

import pyarrow as pa
import pytest
import torch

from charrnn.model.gpu import KernelEngine
from charrnn.runs.execute import default_workers
from charrnn.scoring.scorer import Scorer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]
NAMES = [
    "",
    None,
    "x",
    "Müller",
    "Papadopoulos",
    "an " * 90,
    "O'Neill",
    "李",
    "Nguyen",
    "Mira Katoro",
    "Katoro, Tova",
    "Mira van der Burg",
] + [
    a + b + c + d for a in "kstmrl" for b in "aeiou" for c in ("burg", "ovsk", "ro") for d in "iae"
]
OPTIONS = [
    {},
    {"top_k": 8, "prior": "uniform"},
    {"top_k": 12, "coverage_target": 0.9, "details": True, "probabilities": True},
    {"max_length": 1000},
]


@pytest.mark.parametrize("model", ["pretrained", "pretrained-tiny"])
@pytest.mark.parametrize("options", OPTIONS)
def test_the_card_gives_the_answers_of_the_cpu(model: str, options: dict[str, object]) -> None:
    on_card = Scorer.load(model, device="cuda")
    assert isinstance(on_card.engine, KernelEngine)
    cpu = Scorer.load(model).score(NAMES, **options)
    gpu = on_card.score(NAMES, **options)
    assert cpu.columns == gpu.columns
    for name in cpu.columns:
        if name.startswith(("confidence", "probability")):
            assert float((cpu[name] - gpu[name]).abs().max() or 0) < 1e-3
        elif name in ("language", "status", "reason"):
            assert cpu[name].cast(str).to_list() == gpu[name].cast(str).to_list()


def test_memory_that_runs_out_makes_launches_smaller() -> None:
    scorer = Scorer.load("pretrained", device="cuda")
    engine = scorer.engine
    assert isinstance(engine, KernelEngine)
    launch, failures = engine._launch, [1, 1]

    def failing(*arguments: object, **outputs: object) -> None:
        if failures:
            failures.pop()
            raise torch.OutOfMemoryError
        launch(*arguments, **outputs)  # type: ignore[arg-type]

    before = engine.batch_size
    expected = scorer.score(NAMES)
    engine._launch = failing  # type: ignore[method-assign]
    assert scorer.score(NAMES).equals(expected)
    assert engine.batch_size == before // 4


def test_every_processor_works_beside_a_card() -> None:
    assert default_workers(torch.device("cuda")) >= default_workers(torch.device("cpu"))
    assert pa.cpu_count() >= 1
