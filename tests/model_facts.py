"""Facts for models that no training made."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from charrnn.model.facts import HonestMetrics, ModelFacts, Profile, ProtocolMetrics, Provenance
from charrnn.monitoring.profile import validation_profile
from charrnn.training.metrics import evaluate, report_data


def facts_of(labels: Sequence[str], profile: Profile | None = None, **changes: Any) -> ModelFacts:
    """Return facts of a model that is right about two test names of each label, with ``changes``
    of fields."""
    L = len(labels)
    label_ids = np.repeat(np.arange(L), 2)
    probabilities = (0.9 * np.eye(L) + 0.1 / L)[label_ids]
    lengths, unknown = np.full(2 * L, 6), np.zeros(2 * L, np.int64)
    metrics = evaluate(probabilities, label_ids, labels)
    facts = ModelFacts(
        preset="default",
        train={"epochs": 3, "seed": 0},
        data_digest="f" * 64,
        examples=480,
        history=(),
        best_epoch=3,
        metrics=ProtocolMetrics(HonestMetrics(metrics, metrics), ()),
        baselines={},
        paired={},
        report_data=report_data(
            (probabilities, label_ids),
            (probabilities, label_ids),
            labels,
            unfamiliarity=np.linspace(0, 1, 2 * L),
            ambiguous=0,
        ),
        profile=profile
        or validation_profile(labels, probabilities, lengths, unknown, np.zeros_like(lengths)),
        provenance=Provenance("2026-01-02T03:04:05Z", "cpu", 1, {"torch": "2.13.0"}),
    )
    return replace(facts, **changes)
