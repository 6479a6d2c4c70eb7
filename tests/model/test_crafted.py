"""Model folders that somebody crafted, their digests made right: refused with a clear line."""

import json
import math
import os
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from recording import Proof
from safetensors.torch import load, save

from charrnn.errors import ModelError
from charrnn.files import write_sums
from charrnn.model.version import (
    MAX_BYTES,
    PRETRAINED,
    ModelVersion,
    alias_history,
    load_version,
    resolve,
    save_version,
    set_alias,
)
from charrnn.monitoring.drift import drift
from charrnn.recipes.models import list_models
from charrnn.recipes.requests import ListRequest
from charrnn.reports.model import model_markdown
from charrnn.scoring.scorer import Scorer

CRAFTED = "values of model.json replaced, digests made right: scored, or refused naming the field"
FILES = "crafted files, tensors and aliases of models, digests made right: refused by a clear line"
MUTATIONS = int(os.environ.get("CHARRNN_MUTATIONS", "800"))  # 10,000 in the longer run
HOSTILE: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 255, 256, 2**24, 2**31, 2**53 + 1, 2**63, 10**25, 10**400, 0.0,
    -0.0, 0.5, 1.5, -1.5, 1e-300, 5e-324, 1e308, -1e308, math.nan, math.inf, -math.inf, "", "x",
    "0.5", "NaN", "a|b", "\x1b]0;x\x07", "\ud800", "é" * 5000, [], [[]], [1], [None], {}, {"a": 1},
    {"": {}}, "v0001", "../..",
)  # fmt: skip


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """A copy of a good version that a test may damage."""
    return shutil.copytree(models / "v0001", tmp_path / "v0001")


def write_description(folder: Path, document: Any) -> None:
    """Write model.json, also with values that are no JSON, and make the sums right."""
    (folder / "model.json").write_bytes(json.dumps(document).encode())
    write_sums(folder)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in a document."""
    if path:
        yield path
    listed = list(enumerate(value)) if isinstance(value, list) else []
    for key, item in value.items() if isinstance(value, dict) else listed:
        yield from places(item, (*path, key))


def mutate(document: Any, path: tuple[Any, ...], draw: random.Random) -> str:
    """Change the value at ``path``; return what was done."""
    holder = document
    for key in path[:-1]:
        holder = holder[key]
    kind = draw.randrange(10)
    if kind == 0:
        del holder[path[-1]]
        return "removed"
    if kind == 1 and isinstance(holder, list):
        holder.insert(path[-1], holder[path[-1]])
        return "doubled"
    value = draw.choice(HOSTILE)
    if kind == 2 and isinstance(holder[path[-1]], int | float):
        value = holder[path[-1]] * draw.choice((-1, 2, 1000, 1e-9))
    holder[path[-1]] = value
    return repr(value)[:40]


def use(version: ModelVersion) -> None:
    """Do with a version what the commands do."""
    frame = Scorer(version).score(["Katoro", None, "Aroevnko"], coverage_target=0.9, details=True)
    assert frame.height == 3
    assert frame["confidence"].drop_nulls().is_finite().all()
    model_markdown(version)
    profile = version.facts.profile
    drift(profile, ("v0001", profile), None, same_rules=True, same_cut=True)


def test_a_mutated_description_scores_or_is_refused_naming_the_field(
    folder: Path, proof: Proof
) -> None:
    plain = (folder / "model.json").read_text()
    every, draw = list(places(json.loads(plain))), random.Random(13)
    # Deep lists, such as the points of curves, are most of the places: fields get their turn, too.
    shallow = [path for path in every if len(path) <= 3]
    problems = []
    for number in range(MUTATIONS):
        path = draw.choice(shallow if number % 2 else every)
        document = json.loads(plain)
        done = mutate(document, path, draw)
        write_description(folder, document)
        try:
            version = load_version(folder)
            if draw.randrange(8) == 0 or len(path) <= 2:
                use(version)
        except ModelError as error:
            if not str(error).isprintable() and "\x1b" in str(error):
                problems.append(f"{path} {done}: {error}")
        except Exception as error:
            problems.append(f"{path} {done}: {error!r}")
    assert problems == []
    proof("P10", CRAFTED, MUTATIONS)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("config.hidden_size", 1e308), ("config.hidden_size", 10**400), ("config.hidden_size", -3),
        ("config.ngram_buckets", 2**30), ("config.label_count", 10**9),
        ("config.dropout", math.nan),
        ("config.embedding_size", 2**40), ("temperature", 1e-300), ("temperature", math.inf),
        ("temperature", -0.5), ("temperature", math.nan), ("labels", ["a", None, "b", "c"]),
        ("labels", ["a", "", "b", "c"]), ("labels", ["a", "A", "b", "c"]),
        ("labels", ["a", "x|y", "b", "c"]), ("labels", ["a", "x\ny", "b", "c"]),
        ("labels", ["a", "\u202ex", "b", "c"]), ("labels", ["a"]), ("priors", ["0.4"] * 4),
        ("priors", "0.4"), ("priors", [0.9, 0.9, 0.1, 0.1]), ("priors", [math.nan] * 4),
        ("priors", [0.5, 0.5]), ("vocabulary.symbols", "aab_"), ("vocabulary.symbols", "_\n"),
        ("vocabulary.normalisation.fold", True), ("vocabulary.normalisation.form", "NFC"),
        ("facts.examples", -1),
        ("facts.data_digest", "x"), ("facts.profile.answered", 0), ("facts.history", [{}]),
        ("facts.metrics.honest.test.accuracy", 7.0), ("facts.profile.lengths", [1]),
        ("facts.report_data.confusion", [[1]]), ("facts.report_data.risk_coverage.coverage", []),
        ("facts.train", {"epochs": [1]}), ("facts.preset", "\x1b]0;x"),
    ],
)  # fmt: skip
def test_a_value_out_of_bounds_is_refused_naming_its_field(
    field: str, value: Any, folder: Path, proof: Proof
) -> None:
    document = json.loads((folder / "model.json").read_bytes())
    *parents, last = field.split(".")
    holder = document
    for key in parents:
        holder = holder[key]
    holder[last] = value
    write_description(folder, document)
    with pytest.raises(ModelError, match=last) as caught:
        load_version(folder)
    assert caught.value.exit_code == 78
    assert len(str(caught.value)) < 1000
    proof("P10", CRAFTED, 1)


def test_sizes_that_claim_gigabytes_allocate_nothing(folder: Path, proof: Proof) -> None:
    document = json.loads((folder / "model.json").read_bytes())
    document["config"] |= {"ngram_buckets": 2**24, "label_count": 1000}
    write_description(folder, document)
    with pytest.raises(ModelError, match=r"would have [\d,]+ parameters, at most 150,000,000"):
        load_version(folder)
    proof("P10", CRAFTED, 1)


@pytest.mark.parametrize(
    "content", [b'{"a":' * 100_000, b"[" * 10**6, b'{"format_version": ' + b"9" * 10**5 + b"}"]
)
def test_a_description_that_nests_or_counts_without_end_is_refused(
    content: bytes, folder: Path, proof: Proof
) -> None:
    (folder / "model.json").write_bytes(content)
    write_sums(folder)
    with pytest.raises(ModelError) as caught:
        load_version(folder)
    assert len(str(caught.value)) < 1000
    proof("P10", CRAFTED, 1)


def header(claim: dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    """Return a safetensors file with this header."""
    text = json.dumps(claim).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tensor(dtype: str, shape: list[int], offsets: list[int]) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\0" * 8, header({}, length=2**62), header({}, length=2**33),
        header({"h2o.bias": tensor("F32", [2**40], [0, 2**42])}, b"\0" * 16),
        header({"h2o.bias": tensor("F32", [2**63, 4], [0, 16])}, b"\0" * 16),
        header({"h2o.bias": tensor("F32", [4], [0, 8])}, b"\0" * 16),
        header({"h2o.bias": tensor("F32", [4], [16, 0])}, b"\0" * 16),
        header({n: tensor("F32", [4], [0, 16]) for n in ("h2o.bias", "h2o.weight")}, b"\0" * 16),
        header({"h2o.bias": tensor("F99", [4], [0, 16])}, b"\0" * 16),
        header({"h2o.bias": tensor("F32", [4], [0, 16])}, b"\0" * 16),
        b"PK\x03\x04" * 10, b"\x80\x04K\x01.",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["weights.safetensors", "calibration.safetensors"])
def test_tensors_whose_header_lies_are_refused(
    content: bytes, name: str, folder: Path, proof: Proof
) -> None:
    (folder / name).write_bytes(content)
    write_sums(folder)
    with pytest.raises(ModelError):
        load_version(folder)
    proof("P10", FILES, 1)


@pytest.mark.parametrize(
    ("file", "name", "change", "message"),
    [
        ("weights", "h2o.bias", lambda t: t.double(), "h2o.bias is float64"),
        ("weights", "h2o.bias", lambda t: t.half(), "h2o.bias is float16"),
        ("weights", "h2o.bias", lambda t: t.bool(), "h2o.bias is bool"),
        ("weights", "h2o.bias", lambda t: t * 0 + 3e38, "h2o.bias has values"),
        ("weights", "h2o.bias", lambda t: t.log().mul(0), "h2o.bias has values"),
        ("weights", "ngrams.rows", lambda t: t - 2**20, "not rows of a table"),
        ("weights", "ngrams.rows", lambda t: t + 2**20, "not rows of a table"),
        ("weights", "ngrams.rows", lambda t: t.long(), "ngrams.rows is int64"),
        ("weights", "ngrams.rows", lambda t: t[None], r"ngrams.rows is int32 \(1, "),
        ("weights", "ngrams.rows", lambda t: t[1:], "ngrams.weight is float16"),
        ("weights", "ngrams.weight", lambda t: t.float(), "ngrams.weight is float32"),
        ("calibration", "logits", lambda t: t * torch.nan, "logits has values"),
        ("calibration", "logits", lambda t: t[:, :2].clone(), "logits is float16"),
        ("calibration", "label_ids", lambda t: t + 4, "label_ids are not labels"),
        ("calibration", "label_ids", lambda t: t - 9, "label_ids are not labels"),
        ("calibration", "label_ids", lambda t: t.int(), "label_ids is int32"),
        ("calibration", "novelty.quantiles", lambda t: t.half(), "quantiles is float16"),
        ("calibration", "novelty.quantiles", lambda t: t / 0, "quantiles has values"),
        ("calibration", "novelty.quantiles", lambda t: t.flip(0), "not ascending"),
        ("calibration", "novelty.quantiles", lambda t: t[:0].clone(), "not ascending"),
        ("calibration", "ambiguous", lambda t: t.float(), "ambiguous is float32"),
    ],
)
def test_a_tensor_of_another_type_shape_or_range_is_refused(
    file: str,
    name: str,
    change: Callable[[torch.Tensor], torch.Tensor],
    message: str,
    folder: Path,
    proof: Proof,
) -> None:
    path = folder / f"{file}.safetensors"
    tensors = load(path.read_bytes())
    if name == "ngrams.rows" and not tensors[name].numel():
        tensors["ngrams.weight"] = torch.zeros(3, 4, dtype=torch.float16)
        tensors[name] = torch.arange(3, dtype=torch.int32)
    path.write_bytes(save({**tensors, name: change(tensors[name]).contiguous()}))
    write_sums(folder)
    with pytest.raises(ModelError, match=message):
        load_version(folder)
    proof("P10", FILES, 1)


def test_a_table_without_its_row_numbers_is_refused(folder: Path) -> None:
    path = folder / "weights.safetensors"
    tensors = load(path.read_bytes())
    del tensors["ngrams.rows"]
    path.write_bytes(save(tensors))
    write_sums(folder)
    with pytest.raises(ModelError, match=r"tensor ngrams\.rows is missing"):
        load_version(folder)


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "huge", "folder is a link"])
def test_a_version_of_other_files_is_refused_and_the_rest_is_listed(
    kind: str, tiny_version: ModelVersion, tmp_path: Path, proof: Proof
) -> None:
    root = tmp_path / "models"
    for _ in range(2):
        save_version(root, tiny_version)
    target = root / "v0002" / "model.json"
    content = target.read_bytes()
    target.unlink()
    if kind == "fifo":
        os.mkfifo(target)
    elif kind == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        target.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        target.mkdir()
    elif kind == "huge":
        with target.open("wb") as file:
            file.truncate(MAX_BYTES + 1)  # sparse
    else:
        target.write_bytes(content)
        (root / "v0002").rename(tmp_path / "outside")
        (root / "v0002").symlink_to(tmp_path / "outside")
    with pytest.raises(ModelError, match="v0002"):
        resolve("v0002", root)
    listed = list_models(ListRequest(models=root))
    assert [v.name for v in listed.versions if v.facts is not None] == [
        "pretrained", "pretrained-tiny", "pretrained-tutorial", "v0001",
    ]  # fmt: skip
    table = listed.lines()
    assert [line for line in table if line.startswith("v0002") and "cannot be loaded" in line]
    proof("P10", FILES, 1)


@pytest.mark.parametrize("kind", ["fifo", "link", "folder", "huge", "outside", "text"])
def test_a_crafted_alias_is_named_and_the_rest_is_listed(
    kind: str, tiny_version: ModelVersion, tmp_path: Path, proof: Proof
) -> None:
    root = tmp_path / "models"
    save_version(root, tiny_version)
    set_alias(root, "good", "v0001")
    path = root / "aliases" / "sly"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(root / "aliases" / "good")
    elif kind == "folder":
        path.mkdir()
    elif kind == "huge":
        with path.open("wb") as file:
            file.truncate(2**30)  # sparse
    else:
        path.write_text("../v0001\n" if kind == "outside" else "\x1b]0;title\x07\n")
    for read in (lambda: resolve("sly", root), lambda: alias_history(root, "sly")):
        with pytest.raises(ModelError, match="sly"):
            read()
    assert resolve("good", root).name == "v0001"
    table = list_models(ListRequest(models=root)).lines()
    assert [line for line in table if line.startswith("v0001") and line.endswith("good")]
    assert "sly" in table[-1]
    assert "\x1b" not in "".join(table)
    proof("P10", FILES, 1)


def test_the_packaged_models_obey_the_bounds_and_score() -> None:
    for name in PRETRAINED:
        version = resolve(name)
        assert version.vocabulary.encode(pa.array(["Nakamura"])).lengths[0] == 8
        use(version)
