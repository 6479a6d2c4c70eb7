"""Labels that are no languages: their name is that of the output column and in every report."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from charrnn.cli import console
from charrnn.errors import ConfigError, DataError
from charrnn.model.version import ModelVersion, load_version, save_version, set_alias
from charrnn.recipes.models import promote
from charrnn.recipes.requests import PromoteRequest
from charrnn.reports.model import model_markdown
from charrnn.runs.manifest import read_run
from charrnn.runs.verify import verify_run
from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.scorer import Scorer


@pytest.fixture(scope="module")
def country_version(tiny_version: ModelVersion) -> ModelVersion:
    return replace(tiny_version, label_name="country")


@pytest.fixture
def countries(working_folder: Path, country_version: ModelVersion) -> Path:
    """A folder with a model of countries, v0001, where the commands look for it."""
    save_version(working_folder / "outputs/models", country_version)
    pl.DataFrame({"name": ["Katoro", "Burgmann", None]}).write_csv(working_folder / "people.csv")
    return working_folder


def test_the_name_of_the_labels_is_that_of_their_columns(country_version: ModelVersion) -> None:
    scorer = Scorer(country_version)
    options = {"top_k": 2, "prior": "uniform", "coverage_target": 0.9}
    found = scorer.score(["Katoro", None], **options)
    plain = replace(country_version, label_name="language")
    expected = Scorer(plain).score(["Katoro", None], **options)
    assert found.columns == [
        column.replace("languages", "countries").replace("language", "country")
        for column in expected.columns
    ]
    assert found.rows() == expected.rows()
    assert scorer.score(["Katoro"], label_as="nation").columns[1] == "nation"
    assert scorer.score(["Katoro"], prefix="p_").columns[1] == "p_country"
    frame = pl.DataFrame({"name": ["Katoro"]})
    assert "country" in frame.select(scorer.expression().alias("x")).unnest("x").columns


def test_a_label_name_that_does_not_fit_is_refused(country_version: ModelVersion) -> None:
    scorer = Scorer(country_version)
    with pytest.raises(ConfigError, match=r"labels of model .* are countries; leave them"):
        scorer.score(["Katoro"], families=True)
    with pytest.raises(ConfigError, match="would be called 'status'") as caught:
        scorer.score(["Katoro"], label_as="status")
    assert caught.value.option == "label_as"
    with pytest.raises(ConfigError, match="visible text"):
        ScoreOptions(label_as="a\nb")
    with pytest.raises(DataError, match="already has column 'country'"):
        scorer.score_table(pa.table({"name": ["Katoro"], "country": ["FR"]}))


def test_a_version_keeps_the_name_of_its_labels_and_older_ones_are_of_languages(
    country_version: ModelVersion, tmp_path: Path
) -> None:
    saved = save_version(tmp_path, country_version)
    assert (saved.label_name, load_version(tmp_path / "v0001").label_name) == ("country",) * 2
    golden = load_version(Path(__file__).parents[1] / "golden/format-2")
    assert golden.label_name == "language"
    report = model_markdown(saved).decode()
    assert "how common the countries are" in report
    assert "languag" not in report


def test_a_run_its_report_and_its_history_speak_of_countries(
    countries: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for day, name in enumerate(("people.csv", "others.csv")):
        pl.DataFrame({"name": ["Katoro", "Burgmann", None] * (day + 1)}).write_csv(name)
        console()(["score", name, "--model", "v0001", "--output", "runs/", "--head", "2"])
    printed = capsys.readouterr().out
    assert "countries   " in printed
    assert "┆ country" in printed
    console()(["monitor", "runs"])
    run = (countries / "runs/latest").resolve()
    assert verify_run(run) == read_run(run)
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["options"]["label_as"] == "country"
    assert manifest["drift"]["model"]["measures"][0]["name"] in ("countries", "length")
    for page in ((run / "report.html"), countries / "runs/index.html"):
        assert "languag" not in page.read_text().lower()
        assert "country" in page.read_text()
    console()(["score", "people.csv", "--model", "v0001", "--label-as", "land", "-o", "out.csv"])
    assert pl.read_csv("out.csv").columns[1] == "land"


def test_a_run_of_languages_has_the_manifest_of_before(
    run_score: Callable[..., Path], working_folder: Path
) -> None:
    Path("in.csv").write_text("name\nKatoro\n")
    run = run_score("in.csv")
    assert "label_as" not in json.loads((run / "manifest.json").read_text())["options"]
    assert read_run(run).options.scoring.label_name == "language"


def test_shares_of_a_prior_are_given_under_the_name_of_the_labels(
    countries: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("prior.csv").write_text("country,share\nAlpha,1\nBeta,3\n")
    console()(["score", "people.csv", "--model", "v0001", "--prior", "prior.csv"])
    assert "prior       given: Beta 75.0 %" in capsys.readouterr().out


def test_a_model_of_other_labels_does_not_replace_the_champion(
    countries: Path, tiny_version: ModelVersion
) -> None:
    folder = countries / "outputs/models"
    set_alias(folder, "champion", "v0001")
    save_version(folder, tiny_version)
    outcome = promote(PromoteRequest(version="v0002", models=folder))
    assert "its labels are languages, and the champion's are countries" in outcome.problems
    assert not outcome.promoted


def test_a_comparison_speaks_of_countries(
    countries: Path, tiny_version: ModelVersion, capsys: pytest.CaptureFixture[str]
) -> None:
    other = replace(tiny_version, label_name="country", temperature=0.3)
    save_version(countries / "outputs/models", other)
    arguments = ["--model", "v0001", "--challenger", "v0002", "-o", "compared/"]
    console()(["challenge", "people.csv", *arguments])
    assert "with a country from both v0001 and v0002" in capsys.readouterr().out
    report = (countries / "compared/latest/report.html").read_text()
    assert "languag" not in report.lower()
    assert "The models give the same country" in " ".join(report.split())
