"""Bounds of options: written once, in the annotations of the fields, and checked by the records."""

from typing import Any

import pytest

from charrnn.errors import ConfigError
from charrnn.recipes.requests import (
    CompareRequest,
    InboxRequest,
    MonitorRequest,
    PipelineRequest,
    PurgeRequest,
)
from charrnn.scoring.options import ComputeOptions, ScoreOptions


@pytest.mark.parametrize(
    ("record", "options", "message"),
    [
        (ScoreOptions, {"top_k": 0}, "top_k must be ≥ 1, got 0"),
        (ScoreOptions, {"max_length": 0}, "max_length must be ≥ 1, got 0"),
        (ScoreOptions, {"min_confidence": 7}, "min_confidence must be ≥ 0 and ≤ 1, got 7"),
        (ScoreOptions, {"min_confidence": float("nan")}, "min_confidence must be .*, got nan"),
        (ScoreOptions, {"max_unknown": -0.1}, "max_unknown must be ≥ 0 and ≤ 1, got -0.1"),
        (ScoreOptions, {"coverage_target": 1.0}, "coverage_target must be ≥ 0 and < 1, got 1.0"),
        (ComputeOptions, {"workers": 0}, "workers must be ≥ 1, got 0"),
        (ComputeOptions, {"batch_size": 0}, "batch_size must be ≥ 1 or auto, got 0"),
        (ComputeOptions, {"partition_rows": 0}, "partition_rows must be ≥ 1, got 0"),
        (CompareRequest, {"source": "x.csv", "sample": -1}, "sample must be ≥ 0, got -1"),
        (
            InboxRequest,
            {"settle_seconds": -1.0},
            "settle_seconds must be ≥ 0 and ≤ 86400, got",
        ),
        (MonitorRequest, {"last": 0}, "last must be ≥ 1, got 0"),
        (PurgeRequest, {"older_than": -1.0}, "older_than must be ≥ 0 and ≤ 36525, got -1.0"),
        (PipelineRequest, {"names": "x.csv", "epochs": 0}, "epochs must be ≥ 1, got 0"),
    ],
)
def test_a_number_out_of_bounds_is_refused_with_its_option(
    record: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        record(**options)
    assert refused.value.option == list(options)[-1]


def test_values_that_are_no_numbers_have_no_bounds() -> None:
    assert ComputeOptions(workers=None, batch_size="auto").names_per_pass is None
    assert ComputeOptions(workers=1, batch_size=1, partition_rows=1).names_per_pass == 1
