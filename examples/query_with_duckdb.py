"""DuckDB: SQL over the runs of a table, and a function that scores names inside a query."""

import duckdb
import pyarrow as pa

from charrnn import Scorer

RUNS = "outputs/predictions/example/runs/*/rows/*.parquet"
scorer = Scorer.load("pretrained-tiny")


def language(names: pa.ChunkedArray) -> pa.Array:
    """Return the most probable label of each name; null where a name is not scored."""
    labels = scorer.score(names, top_k=1)["language"]
    return labels.to_arrow().cast(pa.string())


largest = f"""
    select run, language, count(*) as rows, avg(confidence) as confidence
    from '{RUNS}' where status = 'scored'
    group by all order by run, rows desc limit 5
"""
print(duckdb.sql(largest))

duckdb.create_function(
    "language", language, ["VARCHAR"], "VARCHAR", type="arrow", null_handling="special"
)
print(duckdb.sql("select name, language(name) as language from 'data/example.csv' limit 5"))
