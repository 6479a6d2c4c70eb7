"""Profiles and drift: what a run saw is counted right, and only a real change raises an alarm."""

import dataclasses
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import CANARY, Command
from flat import read_manifest

from charrnn.errors import DataError, DriftError
from charrnn.files import json_bytes, write_sums
from charrnn.model.facts import Profile
from charrnn.model.version import ModelVersion, save_version
from charrnn.monitoring.drift import (
    LIMITS,
    ProfileComparison,
    compare,
    drift,
    medoid,
    population_stability,
)
from charrnn.monitoring.profile import (
    CONFIDENCE_BINS,
    LENGTHS,
    confidence_histogram,
    profile_of_names,
    profile_of_rows,
    total,
)
from charrnn.reports.run import drift_markdown
from charrnn.runs.folders import run_name
from charrnn.runs.manifest import SCHEMA_VERSION, read_run
from charrnn.runs.verify import verify_run
from charrnn.scoring.options import REASONS, ScoreOptions
from charrnn.scoring.scorer import Scorer
from charrnn.training.corpus import Corpus

LABELS = [f"L{i:02d}" for i in range(18)]


pytestmark = pytest.mark.usefixtures("working_folder")


def people(path: str, names: list[str | None]) -> str:
    pq.write_table(pa.table({"name": pa.array(names, pa.string())}), path, row_group_size=50)
    return path


def short_names(count: int, seed: int = 0) -> list[str | None]:
    draw = np.random.default_rng(seed)
    return ["".join(draw.choice(list("karomitash"), draw.integers(4, 8))) for _ in range(count)]


def long_names(count: int, seed: int = 0) -> list[str | None]:
    return [f"{a} {b} {c}" for a, b, c in zip(*(short_names(count, seed + i) for i in range(3)),
                                               strict=True)]  # fmt: skip


# --- an invented population: what each of 5,000 names would be answered --------------------------


@dataclasses.dataclass(frozen=True)
class Population:
    label_ids: np.ndarray
    confidence: np.ndarray
    reason: np.ndarray
    lengths: np.ndarray
    unknown: np.ndarray

    def profile(self, rows: np.ndarray) -> Profile:
        """The profile of a table whose rows are these names."""
        distinct, counts = np.unique(rows, return_counts=True)
        return profile_of_names(
            labels=LABELS,
            label_ids=self.label_ids[distinct],
            confidence=self.confidence[distinct],
            reason=self.reason[distinct],
            lengths=self.lengths[distinct],
            unknown=self.unknown[distinct],
            rows=counts,
        )


@pytest.fixture(scope="module")
def population() -> Population:
    draw = np.random.default_rng(3)
    shares = np.array([30, 18, 12, 9, 7, 5, 4, 3, 3, 2, 2, 1.5, 1, 1, 0.5, 0.4, 0.3, 0.3])
    N = 5000
    reason = np.where(draw.random(N) < 0.04, REASONS.index("unknown_script"), 0)
    lengths = np.clip(draw.normal(8, 2.5, N).round(), 2, 30).astype(np.int64)
    return Population(
        label_ids=draw.choice(18, N, p=shares / shares.sum()),
        confidence=np.clip(draw.beta(4, 1.3, N), 0.06, 1).astype(np.float32),
        reason=reason,
        lengths=lengths,
        unknown=np.where(reason > 0, lengths, 0),
    )


def judged(now: Profile, reference: Profile, before: Profile) -> list[str]:
    found = drift(now, ("v0001", reference), ("yesterday", before), same_rules=True, same_cut=True)
    return found.alarms()


@pytest.mark.parametrize("rows", [20, 50, 100, 200, 500, 2000])
@pytest.mark.parametrize("weights", ["equal", "zipf"])
def test_resamples_of_one_table_raise_no_alarm(
    population: Population, rows: int, weights: str
) -> None:
    """200 seeded tables each, against a large sample and another such table. About ten measures
    are taken twice, each wrong once in a thousand times, and few of those are large: measured, 6
    of all 2,400 tables raise an alarm, and at most 2 of 200."""
    draw = np.random.default_rng(rows)
    frequency, reference = None, draw.choice(5000, 1800, replace=False)
    if weights == "zipf":
        frequency = 1 / np.arange(1, 5001) ** 0.8
        frequency = frequency[draw.permutation(5000)] / frequency.sum()
        reference = draw.choice(5000, 20000, p=frequency)
    raised, wide = 0, population.profile(reference)
    for _ in range(200):
        now, before = (population.profile(draw.choice(5000, rows, p=frequency)) for _ in range(2))
        raised += bool(judged(now, wide, before))
    assert raised <= 2


@pytest.mark.parametrize(("rows", "found"), [(200, 0.95), (1000, 1.0)])
def test_a_label_that_falls_from_30_to_5_percent_raises_an_alarm(
    population: Population, rows: int, found: float
) -> None:
    draw = np.random.default_rng(1)
    first = population.label_ids == 0
    shifted = np.where(first, 0.05 / first.sum(), 0.95 / (~first).sum())
    raised, whole = 0, population.profile(np.arange(5000))
    for _ in range(100):
        now = population.profile(draw.choice(5000, rows, p=shifted))
        before = population.profile(draw.choice(5000, rows))
        sentences = judged(now, whole, before)
        raised += any(s.startswith("languages") and "yesterday" in s for s in sentences)
    assert raised >= 100 * found


def test_a_difference_from_the_model_is_information_and_from_the_last_runs_an_alarm() -> None:
    other = profile(labels={"A": 100, "B": 900})
    options = {"same_rules": True, "same_cut": True}
    first = drift(other, ("v0001", profile()), None, **options)
    assert (first.model.large, first.alarms()) == (["languages"], [])
    assert "languages PSI" in first.first_differences()[0]
    again = drift(other, ("v0001", profile()), ("before", other), **options)
    assert (again.model.large, again.alarms()) == (["languages"], [])
    assert again.first_differences() == []
    worse = profile(labels={"A": 100, "B": 900}, confidence_sum=700.0)
    fallen = drift(worse, ("v0001", profile()), ("before", other), **options).alarms()
    assert fallen == ["mean confidence 97.0 % → 70.0 % against the last runs, of which the median "
                      "is before"]  # fmt: skip
    standing = {"standing": ["mean confidence"], **options}
    assert drift(worse, ("v0001", profile()), ("before", other), **standing).alarms() == []


def test_the_median_of_the_last_runs_is_one_of_the_many_that_agree() -> None:
    usual = [profile(labels={"A": 500 + i, "B": 500 - i}) for i in range(3)]
    odd = profile(labels={"A": 100, "B": 900})
    for place in range(4):
        assert medoid([*usual[:place], odd, *usual[place:]], answers=True) != place
    assert medoid([odd, usual[0]], answers=True) == 1, "of two the older one"


# --- the index ------------------------------------------------------------------------------------


def test_index_is_the_sum_it_is_defined_as() -> None:
    found = population_stability([50, 50], [40, 60], 10**7, 10**7)
    assert found.value == pytest.approx(0.1 * np.log(5 / 4) - 0.1 * np.log(5 / 6), abs=1e-6)
    assert population_stability([40, 60], [50, 50], 10**7, 10**7).value == pytest.approx(
        found.value
    )


def test_index_of_equal_shares_is_nothing() -> None:
    assert population_stability([5, 10, 85], [50, 100, 850], 100, 1000).value < 1e-3


def test_index_says_what_chance_shows() -> None:
    draw = np.random.default_rng(0)
    shares = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
    a, b = draw.multinomial(400, shares, 4000), draw.multinomial(1500, shares, 4000)
    found = [population_stability(x, y, 400, 1500) for x, y in zip(a, b, strict=True)]
    values = np.array([f.value for f in found])
    assert values.mean() == pytest.approx(found[0].chance, rel=0.06)
    assert 0 < (values > found[0].chance_high).mean() < 0.003


def test_bins_with_few_names_are_compared_as_one() -> None:
    now, before = [60, 30, 3, 3, 3, 1], [60, 30, 1, 3, 3, 3]
    assert population_stability(now, before, 100, 100).value < 1e-9
    assert population_stability(now, before, 10_000, 10_000).value > 0.01


def test_a_new_label_is_seen_however_empty_it_was_before() -> None:
    assert population_stability([70, 30], [100, 0], 300, 300).value > 1


def test_index_of_a_handful_of_names_is_below_chance() -> None:
    found = population_stability([3, 0, 0], [0, 2, 1], 3, 3)
    assert found.value <= found.chance_high


# --- rates ----------------------------------------------------------------------------------------


def profile(**changes: Any) -> Profile:
    plain = Profile(
        rows=1000, names=1000, distinct=1000, answered=1000, answered_distinct=1000,
        labels={"A": 600, "B": 400}, confidences=[0] * 19 + [1000], confidence_sum=970.0,
        lengths=[0, 1000] + [0] * (len(LENGTHS) - 2), characters=5000, unknown=0, unscored={},
    )  # fmt: skip
    return dataclasses.replace(plain, **changes)


def levels(now: Profile, before: Profile, **options: bool) -> dict[str, str]:
    chosen = {"answers": True, "gaps": True, **options}
    return {m.name: m.level for m in compare(now, before, **chosen)}


def test_rates_have_limits_of_their_own() -> None:
    found = levels(
        profile(unscored={"null_name": 30, "unknown_script": 200}, unknown=60), profile()
    )
    assert found["unscored: null_name"] == "moderate"
    assert found["unscored: unknown_script"] == "large"
    assert found["unknown characters"] == "moderate"
    assert found["mean confidence"] == found["duplicates"] == "steady"


def test_the_same_rates_in_a_small_table_may_be_chance() -> None:
    small = profile(rows=10, names=10, distinct=10, answered=8, answered_distinct=8,
                    labels={"A": 5, "B": 3}, confidence_sum=7.0,
                    unscored={"null_name": 2})  # fmt: skip
    assert set(levels(small, profile()).values()) == {"steady"}


def test_lengths_and_confidences_are_compared_only_of_names_of_like_parts() -> None:
    pairs = profile(pairs=900, confidence_sum=600.0, lengths=[0] * 6 + [1000] + [0] * 6)
    assert not {"length", "confidence", "mean confidence"} & levels(pairs, profile()).keys()
    alike = levels(pairs, profile(pairs=850))
    assert alike["length"] == alike["mean confidence"] == "large"
    compared = drift(pairs, ("v0001", profile()), None, same_rules=True, same_cut=True)
    assert compared.model.skipped == ("length and confidence: other parts of names",)


def test_what_a_profile_lacks_is_not_compared() -> None:
    bare = profile(rows=0, names=0, distinct=0, lengths=[0] * len(LENGTHS), characters=0)
    assert set(levels(profile(), bare)) == {"languages", "confidence", "mean confidence"}
    assert levels(profile(answered=0, answered_distinct=0, labels={}, confidence_sum=0.0,
                          confidences=[0] * 20), profile()).keys() == {
        "length", "unknown characters", "duplicates"
    }  # fmt: skip
    assert levels(total([]), profile()) == {}


def test_a_mean_that_rounds_above_one_is_a_rate() -> None:
    found = levels(profile(confidence_sum=1000.0000000001), profile(confidence_sum=1000.0))
    assert found["mean confidence"] == "steady"


def test_every_measure_has_limits() -> None:
    names = {m.name.split(":")[0] for m in compare(
        profile(unscored={"null_name": 1}), profile(), answers=True, gaps=True)}  # fmt: skip
    assert {"labels" if name == "languages" else name for name in names} == set(LIMITS)


# --- profiles -------------------------------------------------------------------------------------


def test_profile_counts_rows_over_distinct_names(models: Path, names_table: pa.Table) -> None:
    scorer = Scorer.load("v0001", models=models)
    found, codes = scorer.answers(names_table["name"], ScoreOptions(min_confidence=0.99))
    seen = profile_of_rows(found, codes, scorer.version.labels)
    assert (seen.rows, seen.names, seen.distinct) == (12, 11, 10)
    assert seen.answered == 5  # Katoro twice, burgmann, Aroevnko, O’Kashi
    assert seen.answered_distinct == 4
    assert sum(seen.labels.values()) == sum(seen.confidences) == seen.answered
    assert seen.unscored["null_name"] == 1
    assert "low_confidence" not in seen.unscored
    assert sum(seen.unscored.values()) + seen.answered == seen.rows


def test_profiles_of_parts_add_up_to_the_whole(population: Population) -> None:
    rows = np.arange(5000)
    parts = [population.profile(part) for part in np.array_split(rows, 7)]
    whole, added = population.profile(rows), total(parts)
    assert added.confidence_sum == pytest.approx(whole.confidence_sum)
    same = dataclasses.replace(added, confidence_sum=whole.confidence_sum)
    assert same == whole
    assert list(added.labels.values()) == sorted(added.labels.values(), reverse=True)


def test_profile_survives_json(population: Population) -> None:
    seen = population.profile(np.arange(100))
    document = json.loads(json_bytes(seen.to_json()))
    assert msgspec.convert(document, Profile) == seen
    assert sum(document["class_shares"].values()) == pytest.approx(1)
    assert document["mean_confidence"] == pytest.approx(
        population.confidence[:100][population.reason[:100] == 0].mean(), abs=1e-6
    )
    assert total([]).to_json()["mean_confidence"] is None


def test_histogram_holds_its_edges() -> None:
    counts = confidence_histogram(np.array([0.0, 0.049, 0.05, 0.999, 1.0], np.float32))
    assert counts[0] == 2
    assert counts[1] == 1
    assert counts[-1] == 2
    assert len(counts) == CONFIDENCE_BINS


def test_training_keeps_the_profile_of_its_validation_names(
    corpus: Corpus, tmp_path: Path, corpus_path: Path
) -> None:
    from charrnn.model.version import resolve
    from charrnn.training.splits import honest_split
    from flows.train import train

    name = train(preset="seed", data=corpus_path, models=tmp_path / "m", epochs=1,
                 seeds=0, baselines=False, device="cpu")  # fmt: skip
    version = resolve(name, tmp_path / "m")
    held_out = honest_split(corpus).validation.names.to_pylist()
    known = version.facts.profile
    assert known.rows == known.answered == len(held_out)
    encoded = version.vocabulary.encode(pa.array(held_out))
    assert known.characters == encoded.lengths.sum()
    assert not any(held in json.dumps(known.to_json()) for held in held_out)


# --- in a run -------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [
    {}, {"prior": "uniform"}, {"min_confidence": 0.6}, {"names": "omit"},
    {"prior": "uniform", "min_confidence": 0.6, "prefix": "x_"},
])  # fmt: skip
def test_profile_in_the_manifest_is_what_verify_counts(
    names_table: pa.Table, run_score: Callable[..., Path], options: dict[str, Any]
) -> None:
    pq.write_table(names_table, "people.parquet", row_group_size=4)
    run = run_score("people.parquet", partition_rows=4, **options)
    verify_run(run)
    manifest = read_manifest(run)
    seen = manifest["profile"]
    assert manifest["schema_version"] == SCHEMA_VERSION == 1
    assert seen["rows"] == 12
    assert seen["distinct"] == 11  # Katoro is in two partitions
    assert seen["expected_accuracy"] == manifest["mean_confidence"]
    assert CANARY not in json.dumps(manifest)
    assert "Katoro" not in json.dumps(manifest)
    if "min_confidence" not in options and "prior" not in options:
        assert seen["labels"] == manifest["labels"]


def test_answers_of_a_profile_do_not_depend_on_prior_or_threshold(
    run_score: Callable[..., Path],
) -> None:
    source = people("people.parquet", short_names(300))
    seen = [
        read_manifest(run_score(source, **options))["profile"]
        for options in ({}, {"prior": "uniform"}, {"min_confidence": 0.9}, {"partition_rows": 60})
    ]
    for other in seen[1:]:
        assert Counter(other["labels"]) == Counter(seen[0]["labels"])
        assert other["confidences"] == seen[0]["confidences"]


@pytest.mark.parametrize(("what", "change"), [
    ("labels of the profile", {"labels": {"Alpha": 12}}), ("answered rows", {"answered": 1}),
    ("confidences", {"confidences": [0] * 20}), ("distinct names", {"distinct": 3}),
    ("unscored rows", {"unscored": {}}),
])  # fmt: skip
def test_verify_refuses_a_profile_that_the_parts_do_not_hold(
    names_table: pa.Table, run_score: Callable[..., Path], what: str, change: dict[str, Any]
) -> None:
    pq.write_table(names_table, "people.parquet")
    run = run_score("people.parquet")
    manifest = read_manifest(run)
    manifest["profile"].update(change)
    (run / "manifest.json").write_bytes(json_bytes(manifest))
    write_sums(run)
    with pytest.raises(DataError, match=f"do not hold the {what}|do not fit"):
        verify_run(run)


@pytest.mark.parametrize("damage", [
    {"profile": {"rows": 1}}, {"profile": None}, {"options": {}}, {"model": {}}, {"drift": 5},
])  # fmt: skip
def test_a_damaged_manifest_stops_no_later_run(
    run_score: Callable[..., Path], damage: dict[str, Any]
) -> None:
    first = run_score(people("people.parquet", short_names(100)))
    second = run_score(people("people.parquet", short_names(100, seed=1)))
    (second / "manifest.json").write_bytes(json_bytes({**read_manifest(second), **damage}))
    third = run_score(people("people.parquet", short_names(100, seed=2)))
    assert against(third) == run_name(first)


def test_a_run_of_a_newer_schema_is_refused(run_score: Callable[..., Path]) -> None:
    run = run_score(people("people.parquet", short_names(20)))
    manifest = {**read_manifest(run), "schema_version": SCHEMA_VERSION + 1}
    (run / "manifest.json").write_bytes(json_bytes(manifest))
    with pytest.raises(DataError, match="newer release"):
        verify_run(run)


def previous(run: Path) -> ProfileComparison | None:
    found = read_run(run).drift
    assert found is not None
    return found.previous


def against(run: Path) -> str | None:
    found = previous(run)
    return None if found is None else found.against


def test_a_run_is_compared_with_the_run_before_it(
    run_score: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first = run_score(people("people.parquet", short_names(400)))
    assert previous(first) is None
    capsys.readouterr()
    second = run_score(people("people.parquet", short_names(400, seed=1)))
    assert getattr(previous(second), "large", None) == []
    assert "drift" not in capsys.readouterr().out
    third = run_score(people("people.parquet", long_names(400)))
    found = previous(third)
    assert found is not None
    assert found.against == run_name(first)  # of two the older one
    assert "length" in found.large
    printed = capsys.readouterr().out
    assert "drift" in printed
    assert run_name(first) in printed
    report = (third / "report.html").read_text()
    assert "<h2>Drift</h2>" in report
    assert run_name(first) in report
    assert "length" in drift_markdown(read_run(third))
    run_score(people("people.parquet", short_names(400, seed=2)))
    assert "drift" not in capsys.readouterr().out  # back to what is usual
    run_score(people("people.parquet", long_names(400, seed=1)))
    assert "drift" in capsys.readouterr().out
    found = previous(run_score(people("people.parquet", long_names(400, seed=4))))
    assert found is not None
    assert "length" in found.standing
    assert "drift" not in capsys.readouterr().out  # as odd as the run before


def test_scoring_the_same_table_again_is_not_compared_with_itself(
    run_score: Callable[..., Path],
) -> None:
    first = run_score(people("people.parquet", short_names(100)))
    second = run_score(people("people.parquet", long_names(100)))
    again = run_score("people.parquet", force=True)
    assert against(again) == against(second) == run_name(first)


def test_another_model_is_compared_by_the_names_only(
    run_score: Callable[..., Path], tiny_version: ModelVersion, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    for temperature in (0.2, 0.3):
        save_version(models, dataclasses.replace(tiny_version, temperature=temperature))
    run_score(people("people.parquet", short_names(300)), models=str(models), model="v0001")
    run = run_score(
        people("people.parquet", short_names(300, seed=1)), models=str(models), model="v0002"
    )
    found = previous(run)
    assert found is not None
    assert {measure.name for measure in found.measures} == {"length", "duplicates"}
    assert "another model" in found.skipped[0]


def test_another_column_is_another_history(run_score: Callable[..., Path]) -> None:
    run_score(people("people.parquet", short_names(50)))
    table = pa.table({"surname": pa.array(long_names(50), pa.string())})
    pq.write_table(table, "people.parquet")
    assert previous(run_score("people.parquet", name_column="surname")) is None


def test_duplicates_are_compared_between_partitions_of_one_size_only(
    run_score: Callable[..., Path],
) -> None:
    run_score(people("people.parquet", short_names(100)))
    run = run_score(people("people.parquet", short_names(200, seed=1)))
    found = previous(run)
    assert found is not None
    assert "duplicates" not in {measure.name for measure in found.measures}
    assert "duplicates" in found.skipped[0]


def test_fail_publishes_the_run_and_ends_with_a_code_of_its_own(
    models: Path, command: Command
) -> None:
    options = ("--model", "v0001", "--models", models, "--device", "cpu", "--on-drift", "fail")
    command(people("people.parquet", short_names(400)), *options[:-2])
    code, _, error = command(people("people.parquet", short_names(400, seed=1)), *options)
    assert code == 0, error
    source = people("people.parquet", long_names(400))
    code, out, error = command(source, *options)
    run = Path("outputs/predictions/people/latest").resolve()
    assert (code, DriftError.exit_code) == (79, 79)
    assert "is published" in error
    assert "length" in error
    assert verify_run(run).rows == 400
    assert run.name in out
    again, out, _ = command(source, *options)
    assert again == 79  # the same run, found finished
    assert "nothing to do" in out
    quiet, out, _ = command(source, *options[:-1], "ignore")
    assert quiet == 0
    assert "drift" not in out


def test_an_empty_table_has_a_profile_and_drifts_from_nothing(
    run_score: Callable[..., Path],
) -> None:
    run_score(people("people.parquet", short_names(400)))
    run = run_score(people("people.parquet", []), on_drift="fail")
    assert verify_run(run).profile.rows == 0
    assert read_manifest(run)["profile"]["mean_confidence"] is None
    assert b"NaN" not in (run / "manifest.json").read_bytes()
