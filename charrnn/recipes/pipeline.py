"""Ingest, train, promote and score, one after the other."""

from collections.abc import Callable
from typing import Any

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


def pipeline(request: PipelineRequest, run: Callable[[str, Any], Any]) -> Any:
    """Make the training table, train on it, promote the version if it is not worse, and score with
    the champion; return what ``run`` returns of that.

    Args:
        run: runs a recipe of ``ingest``, ``train``, ``promote`` and ``score`` by its name with its
            request, and shows its result.

    Raises:
        ModelError: the version was not promoted, and there is no champion from before.
    """
    data, models = request.data, request.models
    run("ingest", IngestRequest(sources=request.sources, target=data))
    shared = {name: getattr(request, name) for name in ("preset", "device", "epochs")}
    run("train", TrainRequest(data=data, models=models, promote="never", **shared))
    run("promote", PromoteRequest(models=models, data=data))
    if not alias_history(models, "champion"):
        raise ModelError(
            "there is no champion to score with: the new version was not promoted (the reasons are "
            "above); train on more names or for more epochs, or promote it by force"
        )
    scored = ScoreRequest(
        source=request.names,
        model="champion",
        models=models,
        scoring=ScoreOptions(name_column=request.name_column),
        compute=ComputeOptions(device=request.device),
        delivery=DeliveryOptions(output=request.output),
    )
    return run("score", scored)
