"""The same answers and a working fit on a GPU; skipped, with the reason, where there is none."""

import pyarrow as pa
import pytest
import torch

from charrnn.model.version import ModelVersion
from charrnn.scoring.scorer import Scorer
from charrnn.training.corpus import Corpus
from charrnn.training.presets import PRESETS, with_overrides
from charrnn.training.protocol import run_protocol

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]


def test_gpu_gives_the_labels_and_confidences_of_the_cpu(tiny_version: ModelVersion) -> None:
    names = pa.array([a + b + c for a in "kstm" for b in "aeiou" for c in ("burg", "ovsk", "ro")])
    options = {"coverage_target": 0.9, "details": True, "prior": "uniform"}
    cpu = Scorer(tiny_version).score(names, **options)
    gpu = Scorer(tiny_version, device="cuda").score(names, **options)
    assert cpu["language"].to_list() == gpu["language"].to_list()
    difference = (cpu["confidence"] - gpu["confidence"]).abs().max()
    assert isinstance(difference, float)
    assert difference < 1e-3


@pytest.mark.parametrize("name", ["seed", "tutorial", "default"])
def test_a_fit_on_the_gpu_learns(corpus: Corpus, name: str) -> None:
    preset = with_overrides(PRESETS[name], epochs=8).settled(corpus)
    result = run_protocol(corpus, preset, "honest", device="cuda")
    assert result.fit.history[-1].loss < result.fit.history[0].loss
    assert result.test.metrics.accuracy > 0.6
