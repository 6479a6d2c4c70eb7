"""dbt: models/origins.py of a dbt-duckdb project, which scores a column of the model `people`."""


def model(dbt, session):
    dbt.config(materialized="table", packages=["charrnn-names"])
    from charrnn import Scorer

    scorer = Scorer.load("pretrained")
    people = dbt.ref("people").to_arrow_table()
    return scorer.score_table(people, name_column="surname", top_k=1)
