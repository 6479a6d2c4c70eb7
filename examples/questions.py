"""Three questions about the customers of two months, who are drawn with known shares of languages.

The names are those of Faker: pip install 'charrnn-names[corpus]'.
"""

import random
from pathlib import Path

import polars as pl
from faker import Faker

from charrnn.cli import console

MONTHS = {
    "september": {"DE": {"de_DE": 0.7, "pl_PL": 0.3}, "FR": {"fr_FR": 0.8, "es_ES": 0.2}},
    "october": {"DE": {"de_DE": 0.5, "pl_PL": 0.5}, "FR": {"fr_FR": 0.8, "es_ES": 0.2}},
}
CUSTOMERS = 300  # in each country and month


def customers(countries: dict[str, dict[str, float]]) -> pl.DataFrame:
    """Draw the customers of a month."""
    rows = []
    for country, shares in countries.items():
        locales = random.Random(country).choices([*shares], [*shares.values()], k=CUSTOMERS)
        fakers = {locale: Faker(locale, use_weighting=False) for locale in shares}
        rows += [(fakers[locale].last_name(), country) for locale in locales]
    return pl.DataFrame(rows, ["name", "country"], orient="row")


def charrnn(line: str) -> None:
    """Run a command, as it is typed."""
    print(f"\n$ charrnn {line}")
    console()(line.split())


Faker.seed(17)
Path("customers").mkdir(exist_ok=True)
for month, countries in MONTHS.items():
    customers(countries).write_parquet(f"customers/{month}.parquet")
    charrnn(f"score customers/{month}.parquet --model pretrained-tiny")

charrnn("shares outputs/predictions/october --by country --against outputs/predictions/september")

# 1. Which shares do the languages have in each country, and how sure is that?
shares = pl.read_parquet("outputs/shares/october/shares.parquet")
october = shares.filter(pl.col("run") == pl.col("run").max(), pl.col("share") > 0.02)
print(october.select("country", "label", "rows", "share", "low", "high"))

# 2. Did anything change between the two months? Where an interval leaves out 0, it did.
changes = pl.read_parquet("outputs/shares/october/changes.parquet")
changed = changes.filter((pl.col("low") > 0) | (pl.col("high") < 0))
print(changed.select("country", "label", "before", "after", "change", "low", "high"))

# 3. Which rows should a person look at? Fill in the last column, then charrnn review --apply FILE.
charrnn("review outputs/predictions/october --rows 20")
review = pl.read_csv("outputs/review/october.csv")
print(review.select("answer", "confidence", "second", "reasons").head())
