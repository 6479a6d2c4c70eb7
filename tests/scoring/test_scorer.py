"""The row contract and its invariances: one row per name, whatever its neighbours are."""

import dataclasses
import random
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
import torch
from calibrations import calibration_of
from model_facts import facts_of
from recording import Proof

from charrnn.errors import ConfigError, DataError, ModelError
from charrnn.model import engine
from charrnn.model.network import CharRNN, ModelConfig
from charrnn.model.version import ModelVersion, save_version
from charrnn.scoring.dictionary import added_columns
from charrnn.scoring.options import ScoreOptions
from charrnn.scoring.scorer import Scorer, _largest, pick_device
from charrnn.training.presets import PRESETS

STATUSES = ["scored", "scored", "unscored", "unscored", "unscored", "scored", "unscored",
            "unscored", "unscored", "unscored", "scored", "scored"]  # fmt: skip
REASONS = [None, None, "null_name", "empty_name", "unknown_script", None, "empty_name",
           "too_long", "unknown_script", "no_letters", None, None]  # fmt: skip


@pytest.fixture(scope="module")
def scorer(tiny_version: ModelVersion) -> Scorer:
    return Scorer(tiny_version)


def random_names(seed: int, count: int) -> list[str | None]:
    """Names of all lengths, some odd, some equal, some missing."""
    draw = random.Random(seed)
    alphabet = "abcdefghijklmnopqrstuvwxyz" * 6 + "ABCé 'ß-.øñЖ1"
    names: list[str | None] = [
        "".join(draw.choices(alphabet, k=draw.choice([0, 1, 2, 5, 7, 9, 12, 30])))
        for _ in range(count)
    ]
    names[1::17] = ["Katoro"] * len(names[1::17])
    names[2::31] = [None] * len(names[2::31])
    return names


def assert_same(found: pl.DataFrame, expected: pl.DataFrame) -> None:
    """Equal labels, statuses and reasons; confidences within what a matrix product may differ."""
    assert found.columns == expected.columns
    for name in found.columns:
        one, two = found[name], expected[name]
        if one.dtype == pl.Float32:
            assert one.is_null().to_list() == two.is_null().to_list(), name
            np.testing.assert_allclose(
                one.drop_nulls().to_numpy(), two.drop_nulls().to_numpy(), atol=1e-5, rtol=0
            )
        else:
            assert one.cast(pl.String).to_list() == two.cast(pl.String).to_list(), name


# --- the row contract ---------------------------------------------------------------------------


def test_every_row_comes_back_once_in_order_with_its_status(
    scorer: Scorer, names_table: pa.Table
) -> None:
    frame = scorer.score(names_table["name"])
    assert frame["name"].to_list() == names_table["name"].to_pylist()
    assert frame["status"].to_list() == STATUSES
    assert frame["reason"].to_list() == REASONS
    for column in frame.columns[1:7]:
        filled = [value is not None for value in frame[column].to_list()]
        assert filled == [status == "scored" for status in STATUSES], column


def test_columns_are_named_and_typed_as_documented(scorer: Scorer, names_table: pa.Table) -> None:
    columns = scorer.columns(names_table["name"], ScoreOptions(probabilities=True))
    label = pa.dictionary(pa.int8(), pa.string())
    assert {name: column.type for name, column in columns.items()} == {
        "language": label, "confidence": pa.float32(),
        "language_2": label, "confidence_2": pa.float32(),
        "language_3": label, "confidence_3": pa.float32(),
        "status": label, "reason": label,
        "probability_Alpha": pa.float32(), "probability_Beta": pa.float32(),
        "probability_Delta": pa.float32(), "probability_Gamma": pa.float32(),
    }  # fmt: skip
    assert list(columns) == list(
        added_columns(ScoreOptions(probabilities=True), scorer.version.labels)
    )
    assert {len(column) for column in columns.values()} == {12}
    assert columns["language"].dictionary.to_pylist() == list(scorer.version.labels)


@pytest.mark.parametrize(("top_k", "given"), [(1, 1), (2, 2), (4, 4), (9, 4), (10**6, 4)])
def test_top_k_gives_at_most_every_label(scorer: Scorer, top_k: int, given: int) -> None:
    frame = scorer.score(["Katoro"], top_k=top_k)
    labels = [c for c in frame.columns if c.startswith("language")]
    assert len(labels) == given
    ranked = [frame[c][0] for c in labels]
    assert len(set(ranked)) == given
    assert set(ranked) <= set(scorer.version.labels)


def test_probabilities_sum_to_one_and_agree_with_the_ranks(scorer: Scorer) -> None:
    frame = scorer.score(random_names(1, 300), top_k=4, probabilities=True)
    scored = frame.filter(pl.col("status") == "scored")
    assert scored.height > 200
    every = scored.select(pl.col("^probability_.*$")).to_numpy()
    np.testing.assert_allclose(every.sum(axis=1), 1, atol=1e-5)
    assert (every >= 0).all()
    ranks = scored.select("confidence", "confidence_2", "confidence_3", "confidence_4").to_numpy()
    assert (np.diff(ranks, axis=1) <= 0).all(), "confidences have to fall from rank to rank"
    np.testing.assert_array_equal(np.sort(every, axis=1)[:, ::-1], ranks)
    for row in scored.iter_rows(named=True):
        assert row[f"probability_{row['language']}"] == row["confidence"]
        assert row[f"probability_{row['language_4']}"] == row["confidence_4"]


def test_unscored_rows_have_no_probabilities(scorer: Scorer, names_table: pa.Table) -> None:
    frame = scorer.score(names_table["name"], probabilities=True)
    filled = [p is not None for p in frame["probability_Alpha"].to_list()]
    assert filled == [status == "scored" for status in STATUSES]


def test_prefix_is_put_before_every_added_column(scorer: Scorer) -> None:
    plain = scorer.score(["Katoro"], probabilities=True)
    prefixed = scorer.score(["Katoro"], probabilities=True, prefix="x_")
    assert prefixed.columns == ["name", *(f"x_{c}" for c in plain.columns[1:])]


def test_names_below_the_confidence_asked_for_are_abstained(scorer: Scorer) -> None:
    names = random_names(2, 200)
    free = scorer.score(names, probabilities=True)
    threshold = float(free["confidence"].drop_nulls().median())  # type: ignore[arg-type]
    strict = scorer.score(names, probabilities=True, min_confidence=threshold)
    assert {"scored", "abstained", "unscored"} == set(strict["status"].to_list())
    assert strict["confidence"].to_list() == free["confidence"].to_list()
    assert strict["probability_Beta"].to_list() == free["probability_Beta"].to_list()
    for row, before in zip(strict.iter_rows(named=True), free.iter_rows(named=True), strict=True):
        if row["status"] == "abstained":
            assert before["status"] == "scored"
            assert row["confidence"] < threshold
            assert row["reason"] == "low_confidence"
            assert row["language"] is row["language_2"] is row["language_3"] is None
        else:
            assert row == before


def test_confidence_of_one_asked_for_abstains_from_all_that_is_less(scorer: Scorer) -> None:
    frame = scorer.score(["Katoro", None], min_confidence=1.0)
    assert frame["status"].to_list() == ["abstained", "unscored"]
    assert frame["reason"].to_list() == ["low_confidence", "null_name"]


@pytest.mark.parametrize(("length", "status"), [(256, "scored"), (257, "unscored")])
def test_longest_name_is_counted_in_characters(scorer: Scorer, length: int, status: str) -> None:
    frame = scorer.score(["é" * length, "a" * length])
    assert frame["status"].to_list() == [status, status]


def test_name_of_a_megabyte_is_too_long_and_harms_nobody(scorer: Scorer) -> None:
    frame = scorer.score(["Katoro", "x" * 2**20, "Katoro"])
    assert frame["reason"].to_list() == [None, "too_long", None]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (" ", "empty_name"),
        ("\u200b\u0301", "empty_name"),
        ("\t\n", "empty_name"),
        ("...", "no_letters"),
        ("' - .", "no_letters"),
        ("王小明", "unknown_script"),
        ("😀", "unknown_script"),
        ("محمد", "unknown_script"),
        ("abc12", "unknown_script"),
        ("abcdefg123", None),
        ("Ｋａｔｏｒｏ", None),
        ("Straße", None),
        ("=cmd()", "unknown_script"),
    ],
)
def test_what_cannot_be_scored_has_its_reason(
    scorer: Scorer, name: str, reason: str | None, proof: Proof
) -> None:
    frame = scorer.score([name])
    assert frame["reason"][0] == reason
    assert frame["status"][0] == ("scored" if reason is None else "unscored")
    proof(
        "P8", "names that cannot be scored among those that can: status and reason, not an error", 1
    )


# --- invariances --------------------------------------------------------------------------------


def test_each_name_gets_what_the_network_gives_it_alone(tiny_version: ModelVersion) -> None:
    """Name by name, without batches, deduplication or tables: the definition of the result."""
    names = [name for name in random_names(3, 120) if name]
    frame = Scorer(tiny_version, batch_size=16).score(names, top_k=4, probabilities=True)
    network, vocabulary = tiny_version.network(), tiny_version.vocabulary
    compared = 0
    for name, row in zip(names, frame.iter_rows(named=True), strict=True):
        if row["status"] != "scored":
            continue
        ids = [vocabulary.begin, *vocabulary.encode_one(name), vocabulary.end]
        with torch.inference_mode():
            logits = network(torch.tensor([ids]))
        alone = torch.softmax(logits / tiny_version.temperature, dim=1)[0]
        found = [row[f"probability_{label}"] for label in tiny_version.labels]
        np.testing.assert_allclose(found, alone.numpy(), atol=1e-5)
        assert row["language"] == tiny_version.labels[int(alone.argmax())]
        compared += 1
    assert compared > 80


def test_batch_size_does_not_change_a_result(tiny_version: ModelVersion) -> None:
    names = random_names(4, 400)
    whole = Scorer(tiny_version, batch_size=1024).score(names)
    for batch_size in (1, 7, 100):
        assert_same(Scorer(tiny_version, batch_size=batch_size).score(names), whole)


@pytest.mark.parametrize("model", ["pretrained", "pretrained-tiny"])
def test_the_form_of_tanh_changes_no_label_and_no_confidence(
    model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = []
    for by_sigmoid in (False, True):
        monkeypatch.setattr(engine, "sigmoid_is_faster", lambda chosen=by_sigmoid: chosen)
        frames.append(Scorer.load(model).score(random_names(4, 1000)))
    assert_same(*frames)


def test_row_order_does_not_change_a_result(scorer: Scorer) -> None:
    names = random_names(5, 400)
    whole = scorer.score(names)
    order = random.Random(5).sample(range(400), 400)
    assert_same(scorer.score([names[i] for i in order]), whole[order])


def test_neighbours_do_not_change_a_result(scorer: Scorer) -> None:
    names = random_names(6, 300)
    whole = scorer.score(names)
    for start, stop in ((0, 1), (1, 8), (8, 150), (150, 300)):
        assert_same(scorer.score(names[start:stop]), whole[start:stop])


def test_equal_names_get_equal_results(scorer: Scorer) -> None:
    frame = scorer.score(["Katoro", "Burghof"] * 50 + [None, "Katoro"])
    katoro = frame.filter(pl.col("name") == "Katoro").unique()
    assert frame.height == 102
    assert katoro.height == 1


def test_how_the_names_are_stored_does_not_change_a_result(scorer: Scorer) -> None:
    names = random_names(7, 200)
    whole = scorer.score(names)
    array = pa.array(names, pa.string())
    padded = pa.array(["padding", *names, "padding"], pa.string())
    shared = pa.array(names).dictionary_encode()
    stored = [
        array,
        array.cast(pa.large_string()),
        array.cast(pa.string_view()),
        padded.slice(1, 200),
        pa.chunked_array([array.slice(0, 3), array.slice(3, 0), array.slice(3)]),
        shared,
        pa.chunked_array([array.slice(0, 90).dictionary_encode(),
                          array.slice(90).dictionary_encode()]),
        array.cast(pa.large_string()).dictionary_encode(),
        pl.Series(names),
        pl.Series(names, dtype=pl.Categorical),
        tuple(names),
    ]  # fmt: skip
    for number, form in enumerate(stored):
        found = scorer.score(form)
        assert found["name"].cast(pl.String).to_list() == names, number
        assert_same(found, whole)


def test_dictionary_with_a_null_in_it_is_a_null_name(scorer: Scorer) -> None:
    names = pa.DictionaryArray.from_arrays(
        pa.array([0, 1, None, 2], pa.int8()), pa.array(["Katoro", None, "Katoro"])
    )
    assert scorer.score(names)["reason"].to_list() == [None, "null_name", "null_name", None]


@pytest.mark.parametrize(
    "names", [[], pl.Series([], dtype=pl.String), pa.array([], pa.string()),
              pa.chunked_array([], pa.large_string())],
)  # fmt: skip
def test_no_names_give_no_rows_and_every_column(scorer: Scorer, names: object) -> None:
    frame = scorer.score(names, probabilities=True)  # type: ignore[arg-type]
    assert frame.height == 0
    assert frame.columns == ["name", *added_columns(ScoreOptions(probabilities=True),
        scorer.version.labels)]  # fmt: skip


def test_nulls_alone_are_unscored_rows(scorer: Scorer) -> None:
    frame = scorer.score([None, None, None], probabilities=True)
    assert frame["reason"].to_list() == ["null_name"] * 3
    assert frame["status"].to_list() == ["unscored"] * 3
    assert frame["confidence"].null_count() == 3


@pytest.mark.parametrize(
    "names",
    [
        pa.array([1, 2]),
        pa.array([True]),
        pa.array([b"x"]),
        pa.array([["x"]]),
        pa.chunked_array([pa.array([1.5])]),
        pa.array([1, 2]).dictionary_encode(),
        pl.Series([1, 2]),
        pl.Series([True, None]),
        [1, 2],
        ["Katoro", 2],
        [b"Katoro"],
    ],
    ids=["int", "bool", "binary", "list", "chunked", "dictionary", "series", "bool series",
         "ints", "mixed", "bytes"],
)  # fmt: skip
def test_names_that_are_not_text_are_refused(scorer: Scorer, names: object) -> None:
    with pytest.raises(DataError, match=r"expected text|list of strings"):
        scorer.score(names)  # type: ignore[arg-type]


def test_name_column_that_an_added_column_would_overwrite_is_refused(scorer: Scorer) -> None:
    with pytest.raises((DataError, ConfigError)):
        scorer.score(["Katoro"], name_column="language")


def test_name_column_may_have_any_other_name(scorer: Scorer) -> None:
    assert scorer.score(["Katoro"], name_column="surname").columns[0] == "surname"


# --- options, devices, models -------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 0},
        {"top_k": -1},
        {"max_length": 0},
        {"min_confidence": -0.1},
        {"min_confidence": 1.1},
        {"min_confidence": float("nan")},
        {"max_unknown": 2.0},
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        ScoreOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch_size", [0, -5])
def test_batch_size_below_one_is_refused(tiny_version: ModelVersion, batch_size: int) -> None:
    with pytest.raises(ConfigError, match=f"batch_size must be ≥ 1, got {batch_size}"):
        Scorer(tiny_version, batch_size=batch_size)


@pytest.mark.parametrize("device", ["gpu", "", "tpu", "cpu:0:0", "cuda:x", "meta", "cuda:-1"])
def test_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(ConfigError, match="device"):
        pick_device(device)


def test_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no device 'cuda:99' on this machine"):
        pick_device("cuda:99")


def test_auto_is_a_device_that_is_there() -> None:
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert pick_device("cpu").type == "cpu"


def test_cuda_without_a_number_stands_for_every_gpu(
    tiny_version: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(tiny_version, batch_size=7)
    assert scorer.replicas() == [scorer]
    made = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(Scorer, "__init__", lambda self, *arguments: made.append(arguments))
    for device, others in (("cuda", ["cuda:1", "cuda:2"]), ("cuda:0", [])):
        scorer.device = torch.device(device)
        assert len(scorer.replicas()) == 1 + len(others)
        assert made == [(tiny_version, other, 7) for other in others]
        made.clear()


def test_one_enormous_cell_changes_no_answer_and_takes_little_memory(scorer: Scorer) -> None:
    names = random_names(4, 2000)
    peaks, answers = [], []
    for extra in ("b", "b" * 1_000_000):
        array = pa.array([*names, extra], pa.string())
        tracemalloc.start()
        answers.append(scorer.score(array))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert answers[1]["reason"].to_list()[-1] == "too_long"
    assert_same(answers[1].head(2000), answers[0].head(2000))
    assert peaks[1] < peaks[0] + 5e6


def test_model_is_loaded_by_name_or_refused(models: Path) -> None:
    assert Scorer.load("v0001", models=models).version.name == "v0001"
    with pytest.raises(ModelError, match="there is no model 'v0002'"):
        Scorer.load("v0002", models=models)


def test_a_scorer_is_loaded_from_no_folder_that_was_not_named(users_folder: Path) -> None:
    assert Scorer.load().version.name == "pretrained"
    with pytest.raises(ModelError, match="no packaged model 'v0001'"):
        Scorer.load("v0001")


def labelled(count: int) -> ModelVersion:
    """An untrained model of ``count`` labels."""
    vocabulary = PRESETS["tutorial"].vocabulary
    config = ModelConfig(vocabulary_size=vocabulary.size, label_count=count, hidden_size=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = CharRNN(config)
    labels = tuple(f"label {i:04d}" for i in range(count))
    calibration = calibration_of(network, vocabulary, ["Katoro"])
    shares, weights = (1 / count,) * count, dict(network.state_dict())
    return ModelVersion(
        config=config,
        vocabulary=vocabulary,
        weights=weights,
        labels=labels,
        temperature=0.05,
        priors=shares,
        calibration=calibration,
        facts=facts_of(labels),
    )


@pytest.mark.parametrize("count", [2, 127, 128, 1000])
def test_any_number_of_labels_has_a_code_of_its_own(count: int, tmp_path: Path) -> None:
    scorer = Scorer(save_version(tmp_path, labelled(count)))
    names = pa.array(random_names(8, 200), pa.string())
    columns = scorer.columns(names, ScoreOptions(top_k=count, probabilities=True))
    last = columns[f"language_{count}"]
    assert last.type.index_type == (pa.int8() if count <= 127 else pa.int32())
    assert last.dictionary.to_pylist() == list(scorer.version.labels)
    every = np.stack([columns[f"probability_{label}"].to_numpy(zero_copy_only=False)
                      for label in scorer.version.labels], axis=1)  # fmt: skip
    firsts = set()
    for i, label in enumerate(columns["language"].to_pylist()):
        if label is not None:
            assert label == scorer.version.labels[int(np.argmax(every[i]))]
            firsts.add(label)
    assert len(firsts) > (0 if count == 2 else 1)
    ranked = [columns[f"language{'' if k == 1 else f'_{k}'}"][0].as_py()
              for k in range(1, count + 1)]  # fmt: skip
    assert sorted(ranked) == list(scorer.version.labels)


def test_equal_probabilities_rank_by_label(tiny_version: ModelVersion) -> None:
    """A network without an opinion: ties must not depend on device or batch."""
    weights = {name: torch.zeros_like(tensor) for name, tensor in tiny_version.weights.items()}
    flat = dataclasses.replace(tiny_version, weights=weights, temperature=1.0)
    frame = Scorer(flat).score(random_names(9, 50), top_k=4).filter(pl.col("status") == "scored")
    ranked = frame.select("language", "language_2", "language_3", "language_4").unique().rows()
    assert ranked == [tiny_version.labels]
    assert frame["confidence"].unique().to_list() == [0.25]


@pytest.mark.parametrize("labels", [1, 18, 64, 300])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_equal_probabilities_are_ranked_in_label_order(labels: int, k: int) -> None:
    draw = np.random.default_rng(0).integers(0, 4, (50, labels))  # many are equal, some 0
    p = torch.from_numpy((draw / 4).astype(np.float32))
    expected = torch.sort(p, dim=1, descending=True, stable=True)
    values, label_ids = _largest(p, min(k, labels))
    assert torch.equal(values, expected.values[:, :k])
    assert torch.equal(label_ids, expected.indices[:, :k])
