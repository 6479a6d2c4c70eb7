"""Versions: saved once, numbered once, verified on every load; aliases that point at them."""

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from recording import Proof
from safetensors.torch import load, save

from charrnn.errors import ConfigError, ModelError
from charrnn.files import json_bytes, write_sums
from charrnn.model.engine import logits_of
from charrnn.model.version import (
    FORMAT_VERSION,
    PRETRAINED,
    ModelVersion,
    alias_history,
    aliases,
    list_versions,
    load_version,
    resolve,
    roll_back,
    save_version,
    set_alias,
    write_version,
)

UNFIT = "models whose tensors or description do not fit, NaN, newer formats: refused"
TRICKS = "paths as names of models and aliases: refused, nothing written"
NAMES = pa.array(["Katoro", "burgmann", None, "Aroevnko", "O’Kashi", "x"])


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """A copy of a good version that a test may damage."""
    return shutil.copytree(models / "v0001", tmp_path / "v0001")


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change ``model.json`` and make the sums right again."""
    document = json.loads((folder / "model.json").read_bytes())
    change(document)
    (folder / "model.json").write_bytes(json_bytes(document))
    write_sums(folder)


def rewrite_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    """Change the tensors and make the sums right again."""
    tensors = load((folder / "weights.safetensors").read_bytes())
    change(tensors)
    (folder / "weights.safetensors").write_bytes(save(tensors))
    write_sums(folder)


def contents(root: Path) -> list[str]:
    """What is in a folder of versions besides its lock."""
    return sorted(p.name for p in root.iterdir() if p.name != ".versions.lock")


def test_a_saved_version_comes_back_as_it_was(tiny_version: ModelVersion, tmp_path: Path) -> None:
    saved = save_version(tmp_path, tiny_version, {"report.html": b"<p>good</p>"})
    loaded = load_version(tmp_path / "v0001")
    encoded = tiny_version.vocabulary.encode(NAMES)
    expected = logits_of(tiny_version.network(), encoded)
    for version in (saved, loaded):
        assert np.array_equal(logits_of(version.network(), encoded), expected)
        kept = {n: getattr(tiny_version, n) for n in ("weights", "calibration", "known_names")}
        assert replace(version, **kept, name="", digest="") == tiny_version
        expected_tensors = tiny_version.calibration.tensors()
        for name, tensor in version.calibration.tensors().items():
            assert torch.equal(tensor, expected_tensors[name]), name
        assert version.name == "v0001"
        sums = (tmp_path / "v0001" / "SHA256SUMS").read_bytes()
        assert version.digest == hashlib.sha256(sums).hexdigest()
    assert sorted(p.name for p in (tmp_path / "v0001").iterdir()) == [
        "SHA256SUMS", "calibration.safetensors", "model.json", "report.html",
        "weights.safetensors",
    ]  # fmt: skip
    assert contents(tmp_path) == ["v0001"]


def test_model_json_has_the_documented_fields(models: Path) -> None:
    document = json.loads((models / "v0001" / "model.json").read_bytes())
    assert sorted(document) == [
        "config", "facts", "format_version", "given_temperature", "label_name", "labels",
        "pair_exponent", "priors", "temperature", "vocabulary",
    ]  # fmt: skip
    assert document["format_version"] == 2


def test_the_same_version_is_written_to_the_same_bytes(
    tiny_version: ModelVersion, tmp_path: Path
) -> None:
    first, second = (write_version(tmp_path / name, tiny_version) for name in ("a", "b"))
    assert load_version(first).digest == load_version(second).digest
    assert write_version(first, tiny_version, {"extra": b""}) == first
    assert load_version(first).digest != load_version(second).digest


def test_versions_are_numbered_from_one_and_never_reused(
    tiny_version: ModelVersion, tmp_path: Path
) -> None:
    assert list_versions(tmp_path / "nowhere") == []
    assert [save_version(tmp_path, tiny_version).name for _ in range(2)] == ["v0001", "v0002"]
    (tmp_path / "v9999").mkdir()
    (tmp_path / "v12").mkdir()
    (tmp_path / "v0005-copy").mkdir()
    (tmp_path / "v0007").write_text("a file")
    assert save_version(tmp_path, tiny_version).name == "v10000"
    assert list_versions(tmp_path) == ["v0001", "v0002", "v9999", "v10000"]


def test_threads_saving_one_version_get_eight_numbers(
    tiny_version: ModelVersion, tmp_path: Path
) -> None:
    start, problems = threading.Barrier(8), []

    def save_one() -> None:
        start.wait()
        try:
            save_version(tmp_path, tiny_version)
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=save_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert list_versions(tmp_path) == [f"v{n:04d}" for n in range(1, 9)]
    assert len({load_version(tmp_path / name).digest for name in list_versions(tmp_path)}) == 1
    assert contents(tmp_path) == list_versions(tmp_path)


# Forked from one parent, so that eight processes hold the version at one address.
EIGHT_PROCESSES = """
import os, sys
from dataclasses import replace
from pathlib import Path
import torch
torch.set_num_threads(1)
from charrnn.model.version import load_version, save_version
version = load_version(Path(sys.argv[1]))
reading, writing = os.pipe()
children = []
for i in range(8):
    if (child := os.fork()) == 0:
        os.close(writing)
        os.read(reading, 1)  # until the parent closes its end
        try:
            facts = replace(version.facts, examples=i)
            save_version(Path(sys.argv[2]), replace(version, facts=facts))
        except BaseException as problem:
            print(repr(problem), flush=True)
            os._exit(1)
        os._exit(0)
    children.append(child)
os.close(writing)
sys.exit(sum(os.waitpid(child, 0)[1] != 0 for child in children))
"""


def test_processes_saving_at_once_get_eight_whole_versions(models: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    command = [sys.executable, "-c", EIGHT_PROCESSES, models / "v0001", root]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")
    assert list_versions(root) == [f"v{n:04d}" for n in range(1, 9)]
    children = [load_version(root / name).facts.examples for name in list_versions(root)]
    assert sorted(children) == list(range(8))
    assert contents(root) == list_versions(root)


def test_a_failed_save_leaves_nothing(tiny_version: ModelVersion, tmp_path: Path) -> None:
    broken = replace(tiny_version, temperature=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        save_version(tmp_path, broken)
    assert contents(tmp_path) == []


def test_an_alias_is_set_moved_and_resolved(tiny_version: ModelVersion, tmp_path: Path) -> None:
    for _ in range(2):
        save_version(tmp_path, tiny_version)
    assert aliases(tmp_path) == {}
    set_alias(tmp_path, "champion", "v0001")
    set_alias(tmp_path, "a.b-c_9", "v0001")
    assert resolve("champion", tmp_path).name == "v0001"
    set_alias(tmp_path, "champion", "v0002")
    assert aliases(tmp_path) == {"a.b-c_9": "v0001", "champion": "v0002"}
    assert resolve("champion", tmp_path).name == "v0002"
    assert resolve("v0001", tmp_path).name == "v0001"
    assert (tmp_path / "aliases" / "champion").read_text().split()[0] == "v0002"


def test_an_alias_remembers_and_goes_back(tiny_version: ModelVersion, tmp_path: Path) -> None:
    for _ in range(3):
        save_version(tmp_path, tiny_version)
    assert alias_history(tmp_path, "champion") == []
    for name in ("v0001", "v0003", "v0003", "v0002"):
        set_alias(tmp_path, "champion", name)
    assert alias_history(tmp_path, "champion") == ["v0002", "v0003", "v0001"]
    assert roll_back(tmp_path, "champion") == ("v0002", "v0003")
    assert resolve("champion", tmp_path).name == "v0003"
    assert roll_back(tmp_path, "champion") == ("v0003", "v0001")
    with pytest.raises(ModelError, match="'champion' has no earlier version"):
        roll_back(tmp_path, "champion")
    assert aliases(tmp_path) == {"champion": "v0001"}


@pytest.mark.parametrize("alias", ["../outside", "nobody", ""])
def test_only_an_alias_goes_back(
    alias: str, tiny_version: ModelVersion, tmp_path: Path, proof: Proof
) -> None:
    save_version(tmp_path / "root", tiny_version)
    set_alias(tmp_path / "root", "champion", "v0001")
    (tmp_path / "root" / "outside").write_text("v0002\nv0001\n")
    with pytest.raises((ModelError, ConfigError)):
        roll_back(tmp_path / "root", alias)
    assert (tmp_path / "root" / "outside").read_text() == "v0002\nv0001\n"
    proof("P11", TRICKS, 1)


@pytest.mark.parametrize(
    "alias",
    [
        "../x", "x/y", "/x", "..", ".", ".x", "", "-x", "_x", "9x", "A", "Champion", "é", "x y",
        "x\n", "x\0", "v0001", "v123456", "pretrained", "pretrained-tiny", "a" * 65,
    ],
)  # fmt: skip
def test_a_bad_alias_is_refused(alias: str, models: Path, proof: Proof) -> None:
    before = sorted(models.rglob("*"))
    with pytest.raises(ConfigError, match="cannot be an alias; use up to 64"):
        set_alias(models, alias, "v0001")
    assert sorted(models.rglob("*")) == before
    proof("P11", TRICKS, 1)


@pytest.mark.parametrize("alias", ["a", "a" * 64, "v1", "v", "latest.2", "x.json", "x.tmp", "a..b"])
def test_every_alias_that_can_be_set_can_be_used(
    alias: str, tiny_version: ModelVersion, tmp_path: Path
) -> None:
    save_version(tmp_path, tiny_version)
    try:
        set_alias(tmp_path, alias, "v0001")
    except ConfigError:
        assert alias == "x.tmp"  # looks like a file being written
    else:
        assert aliases(tmp_path) == {alias: "v0001"}
        assert resolve(alias, tmp_path).name == "v0001"


@pytest.mark.parametrize("version", ["v0002", "champion", "../v0001", "", "v1", "pretrained"])
def test_an_alias_of_no_version_is_refused(version: str, models: Path, proof: Proof) -> None:
    with pytest.raises(ModelError, match="there is no version"):
        set_alias(models, "challenger", version)
    assert "challenger" not in aliases(models)
    proof("P11", TRICKS, 1)


@pytest.mark.parametrize(
    ("reference", "guess"),
    [
        ("champoin", "champion"),
        ("v001", "v0001"),
        ("pretraned", "pretrained"),
        ("CHAMPION", "champion"),
    ],
)
def test_an_unknown_model_is_answered_with_a_guess_and_a_list(
    reference: str, guess: str, tiny_version: ModelVersion, tmp_path: Path
) -> None:
    save_version(tmp_path, tiny_version)
    set_alias(tmp_path, "champion", "v0001")
    with pytest.raises(
        ModelError, match=f"no model '{reference}'.*did you mean '{guess}'"
    ) as caught:
        resolve(reference, tmp_path)
    assert str(caught.value).endswith(f"existing: {', '.join(PRETRAINED)}, champion, v0001")


def test_without_a_folder_there_are_the_packaged_models_only(
    users_folder: Path,  # with v0001 in its outputs/models
) -> None:
    assert resolve("pretrained").name == "pretrained"
    with pytest.raises(ModelError, match="model 'pretraind'; did you mean 'pretrained'"):
        resolve("pretraind")
    with pytest.raises(ModelError, match="no packaged model 'v0001'") as caught:
        resolve("v0001")
    assert caught.value.option == "models"


@pytest.mark.parametrize(
    "reference", ["../v0001", "/etc", "", ".", "v0001/", "v0001/../v0001", "x\0"]
)
def test_a_path_is_no_reference(reference: str, models: Path, proof: Proof) -> None:
    with pytest.raises(ModelError, match="there is no model"):
        resolve(reference, models)
    proof("P11", TRICKS, 1)


def test_an_alias_of_a_removed_version_names_the_version(
    tiny_version: ModelVersion, tmp_path: Path
) -> None:
    for _ in range(2):
        save_version(tmp_path, tiny_version)
    set_alias(tmp_path, "champion", "v0001")
    shutil.rmtree(tmp_path / "v0001")
    with pytest.raises(ModelError, match="v0001") as caught:
        resolve("champion", tmp_path)
    assert "did you mean 'champion'" not in str(caught.value)


def test_an_alias_that_leads_out_of_the_folder_is_refused(
    tiny_version: ModelVersion, tmp_path: Path, proof: Proof
) -> None:
    save_version(tmp_path / "outside", tiny_version)
    save_version(tmp_path / "root", tiny_version)
    (tmp_path / "root" / "aliases").mkdir()
    (tmp_path / "root" / "aliases" / "sly").write_text("../outside/v0001\n")
    with pytest.raises(ModelError, match="sly does not list versions"):
        resolve("sly", tmp_path / "root")
    proof("P11", TRICKS, 1)


@pytest.mark.parametrize("content", [b"\xff\xfe", None], ids=["not text", "a folder"])
def test_a_damaged_alias_is_a_model_error(
    content: bytes | None, tiny_version: ModelVersion, tmp_path: Path
) -> None:
    save_version(tmp_path, tiny_version)
    set_alias(tmp_path, "good", "v0001")
    path = tmp_path / "aliases" / "bad"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ModelError, match="bad"):
        resolve("bad", tmp_path)


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["removed", "emptied", "cut", "doubled"])
def test_a_damaged_file_is_refused(name: str, damage: str, folder: Path) -> None:
    content = (folder / name).read_bytes()
    changed = {"emptied": b"", "cut": content[: len(content) // 2], "doubled": content * 2}
    if damage == "removed":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(changed[damage])
    with pytest.raises(ModelError):
        load_version(folder)


def test_a_file_too_many_is_refused(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match=r"notes\.txt is not listed"):
        load_version(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, folder: Path, proof: Proof) -> None:
    rewrite_weights(folder, lambda tensors: tensors["h2o.weight"].view(-1)[7:8].fill_(value))
    with pytest.raises(ModelError, match=r"h2o\.weight has values that are not finite"):
        load_version(folder)
    proof("P10", UNFIT, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("h2o.bias"), r"tensor h2o\.bias is missing"),
        (lambda t: t.update(extra=torch.zeros(2)), "tensor extra is unknown"),
        (
            lambda t: t.update({"h2o.bias": torch.zeros(5)}),
            r"h2o\.bias is float32 \(5,\), expected float32 \(4,\)",
        ),
        (
            lambda t: t.update({"h2o.weight": t["h2o.weight"].T.contiguous()}),
            r"h2o\.weight is float32 \(\d+, 4\), expected float32 \(4, \d+\)",
        ),
        (lambda t: t.clear(), "tensor h2o.weight is missing"),
    ],
    ids=["missing", "extra", "shape", "transposed", "none"],
)
def test_tensors_that_do_not_fit_are_refused(
    change: Callable[[dict[str, torch.Tensor]], object], message: str, folder: Path, proof: Proof
) -> None:
    rewrite_weights(folder, change)
    with pytest.raises(ModelError, match=message):
        load_version(folder)
    proof("P10", UNFIT, 1)


def test_all_tensor_problems_are_told_together(folder: Path) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["h2o.bias"]
        tensors["extra"] = torch.zeros(1)
        tensors["h2o.weight"][0, 0] = torch.nan

    rewrite_weights(folder, change)
    with pytest.raises(ModelError, match=r"bias is missing; tensor extra is unknown; .*weight has"):
        load_version(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda d: d.update(format_version=FORMAT_VERSION + 1),
            f"has model format {FORMAT_VERSION + 1}, this release reads format 2; install",
        ),
        (lambda d: d.update(format_version="1"), "model format '1'"),
        (lambda d: d.update(format_version=0), "model format 0"),
        (lambda d: d.pop("format_version"), "not a model description"),
        (lambda d: d.clear(), "not a model description"),
        (lambda d: d.pop("labels"), "not a model version this release can read"),
        (lambda d: d.update(labels=None), "not a model version this release can read"),
        (lambda d: d.update(config=[]), "not a model version this release can read"),
        (lambda d: d["config"].update(cell="exec"), "not a model version this release can read"),
        (lambda d: d["config"].update(surprise=1), "not a model version this release can read"),
        (lambda d: d["config"].update(hidden_size=-1), "not a model version this release can read"),
        (
            lambda d: d["config"].update(hidden_size="9"),
            "not a model version this release can read",
        ),
        (
            lambda d: d["config"].update(hidden_size=64),
            r"h2o\.weight is float32 \(4, 128\), expected",
        ),
        (lambda d: d["vocabulary"].update(symbols="aa_"), "not a model version this release can"),
        (
            lambda d: d["vocabulary"].update(symbols="ab_"),
            r"vocabulary has 5 ids, config\.",
        ),
        (lambda d: d["vocabulary"].pop("normalisation"), "not a model version this release can"),
        (lambda d: d.update(temperature=0), r"0\.01.*at `\$\.temperature"),
        (lambda d: d.update(temperature=-1), r"0\.01.*at `\$\.temperature"),
        (lambda d: d.update(temperature="nan"), "Expected `float`, got `str`"),
        (lambda d: d.update(pair_exponent=0), r"0\.05.*at `\$\.pair_exponent"),
        (lambda d: d.update(temperature=None), "not a model version this release can read"),
        (lambda d: d["labels"].append("more"), "labels and priors do not match config"),
        (lambda d: d.update(labels=["a"] * 4), "label 2 repeats label 1"),
        (lambda d: d.update(priors=[1.0]), "labels and priors do not match config"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(
    change: Callable[[dict[str, Any]], object], message: str, folder: Path, proof: Proof
) -> None:
    rewrite(folder, change)
    with pytest.raises(ModelError, match=message):
        load_version(folder)
    proof("P10", UNFIT, 1)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"{", b"\xff\xfe", b"1"])
def test_a_description_that_is_no_json_object_is_refused(
    content: bytes, folder: Path, proof: Proof
) -> None:
    (folder / "model.json").write_bytes(content)
    write_sums(folder)
    with pytest.raises(ModelError, match="not a model description"):
        load_version(folder)
    proof("P10", UNFIT, 1)


class Canary:
    """Unpickling this creates a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["weights.safetensors", "model.json"])
@pytest.mark.parametrize("kind", ["pickle", "torch"])
def test_a_pickle_is_never_opened(
    name: str, kind: str, folder: Path, tmp_path: Path, proof: Proof
) -> None:
    canary = tmp_path / "canary"
    if kind == "pickle":
        (folder / name).write_bytes(pickle.dumps(Canary(canary)))
        assert b"canary" in (folder / name).read_bytes()
    else:
        torch.save({"h2o.weight": Canary(canary)}, folder / name)
    write_sums(folder)
    with pytest.raises(ModelError):
        load_version(folder)
    assert not canary.exists()
    proof("P10, P11", "pickles in place of a file of a model: refused, not run", 1)


def test_what_is_loaded_is_what_was_proven(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, proof: Proof
) -> None:
    """Whoever replaces a file once it was opened changes nothing: no file is opened twice."""
    evil = Path(shutil.copytree(folder, tmp_path / "evil"))
    rewrite(evil, lambda document: document.update(temperature=9.0))
    rewrite_weights(evil, lambda tensors: tensors.update({n: t + 1 for n, t in tensors.items()}))
    honest, opened, real = load_version(folder), [], os.open

    def replacing_open(path: Any, *arguments: Any, **options: Any) -> int:
        descriptor = real(path, *arguments, **options)
        if Path(path).parent == folder:
            opened.append(Path(path).name)
            (evil / Path(path).name).replace(path)
        return descriptor

    monkeypatch.setattr(os, "open", replacing_open)
    loaded = load_version(folder)
    monkeypatch.undo()
    assert sorted(opened) == sorted(path.name for path in folder.iterdir())
    assert loaded.temperature == honest.temperature
    assert all(torch.equal(t, honest.weights[n]) for n, t in loaded.weights.items())
    assert load_version(folder).temperature == 9.0
    proof(
        "P10",
        "files of a model replaced once they were opened: what was proven is loaded",
        len(opened),
    )


def test_loading_leaves_the_global_generator_alone(models: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        before = torch.random.get_rng_state()
        load_version(models / "v0001").network()
        assert torch.equal(torch.random.get_rng_state(), before)


def test_a_network_of_a_version_is_ready_to_score(models: Path) -> None:
    network = load_version(models / "v0001").network()
    assert not network.training
    assert network.h2o.weight.device.type == "cpu"
