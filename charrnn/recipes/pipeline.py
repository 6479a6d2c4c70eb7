"""Ingest, train, promote and score, one after the other."""

from collections.abc import Callable
from typing import TypeVar

from charrnn.errors import ModelError
from charrnn.model.version import alias_history
from charrnn.recipes.requests import (
    IngestRequest,
    PipelineRequest,
    PromoteRequest,
    ScoreRequest,
    TrainRequest,
)
from charrnn.scoring.options import ComputeOptions, DeliveryOptions, ScoreOptions

R = TypeVar("R")


def pipeline(
    request: PipelineRequest,
    ingest: Callable[[IngestRequest], object],
    train: Callable[[TrainRequest], object],
    promote: Callable[[PromoteRequest], object],
    score: Callable[[ScoreRequest], R],
) -> R:
    """Make the training table, train on it, promote the version if it is not worse, and score with
    the champion; return what ``score`` returns.

    Args:
        ingest, train, promote, score: run one of the recipes and show its result.

    Raises:
        ModelError: the version was not promoted, and there is no champion from before.
    """
    data, models = request.data, request.models
    ingest(IngestRequest(sources=request.sources, target=data))
    train(TrainRequest(
        preset=request.preset, device=request.device, epochs=request.epochs,
        data=data, models=models, promote="never",
    ))  # fmt: skip
    promote(PromoteRequest(models=models, data=data))
    if not alias_history(models, "champion"):
        raise ModelError(
            "there is no champion to score with: the new version was not promoted (the reasons are "
            "above); train on more names or for more epochs, or promote it by force"
        )
    return score(
        ScoreRequest(
            source=request.names,
            model="champion",
            models=request.models,
            scoring=ScoreOptions(name_column=request.name_column),
            compute=ComputeOptions(device=request.device),
            delivery=DeliveryOptions(output=request.output),
        )
    )
