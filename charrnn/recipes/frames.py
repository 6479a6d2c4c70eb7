"""Train on a data frame: its rows are copied for ``ingest``, and ``train`` makes the model."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa
import torch

from charrnn.errors import CharrnnError, ConfigError
from charrnn.files import write_parquet
from charrnn.recipes import ingest as ingest_recipe
from charrnn.recipes import train as train_recipe
from charrnn.recipes.requests import IngestRequest, TrainRequest
from charrnn.recipes.runner import Runner
from charrnn.scoring.inputs import cells_of, headers_of, readable_table, values_of
from charrnn.tables.columns import name_column_of

if TYPE_CHECKING:
    from charrnn.model.version import ModelVersion

_OF_NUMBERS = ("label_column", "weight_column")  # they may be
_NOT_HERE = ("data", "promote", "mlflow")  # of a training that only returns a model


def train_on_frame(
    table: Any, columns: dict[str, Any], models: Path | str | None, runner: Runner, **options: Any
) -> ModelVersion:
    """Train on a labelled table by the recipes ``ingest`` and ``train``; see ``charrnn.train``.
    ``columns`` are the fields of ``IngestRequest`` about columns."""
    for option in _NOT_HERE:
        if option in options:
            raise ConfigError(f"{option} is no option of charrnn.train; the command has it")
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        copy, data = Path(folder, "frame.parquet"), Path(folder, "names.parquet")
        kept = Path(folder) if models is None else Path(models)
        request = TrainRequest(data=data, models=kept, **{"seeds": 0, **options})
        of_parts = columns["given_column"] or columns["surname_column"]
        write_labelled(table, copy, **columns | ({"name_column": ""} if of_parts else {}))
        try:
            sources = IngestRequest(sources=(str(copy),), target=data, **columns)
            ingest_recipe.ingest(sources, runner)
            version = train_recipe.train(request, runner).version
        except CharrnnError as error:
            message = str(error).replace(str(copy), "table").replace(str(data), "table")
            raise type(error)(message, option=error.option) from None
        finally:
            torch.set_num_threads(threads)
    return version if models is not None else replace(version, name="", digest="")


def write_labelled(table: Any, path: Path, **columns: str) -> None:
    """Write the columns of a labelled table that are named into a Parquet file.

    Args:
        table: see ``charrnn.train``; a lazy frame is written while its query runs.
        columns: option → column, "" for none.

    Raises:
        DataError: it is no table, or a column is missing, or of another type.
    """
    named = {option: column for option, column in columns.items() if column}
    if isinstance(table, pl.LazyFrame):
        headers = table.collect_schema().names()
        found = {name_column_of(headers, column, option) for option, column in named.items()}
        table.select(sorted(found)).sink_parquet(path)
        return
    whole = readable_table(table)
    headers, cells = headers_of(whole), {}
    for option, column in named.items():
        own = name_column_of(headers, column, option)
        cells[own] = values_of(whole, own) if option in _OF_NUMBERS else cells_of(whole, own)
    write_parquet(path, pa.table(cells))
