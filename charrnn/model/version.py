"""Immutable model versions and the aliases that point at them.

A version is a folder, published by one rename and never modified::

    MODELS/v0007/weights.safetensors      the network
                /calibration.safetensors  logits and novelty scale of the validation names
                /model.json               architecture, vocabulary, labels, temperature, facts
                /report.html              (optional)
                /SHA256SUMS               digests of the other files, for sha256sum -c
    MODELS/aliases/champion               v0007, then the versions it pointed at before

The versions packaged with the library are called ``pretrained`` and ``pretrained-tiny``. Only
safetensors and JSON are read, never a pickle.
"""

import json
import math
import re
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from charrnn.errors import ConfigError, ModelError, did_you_mean
from charrnn.files import (
    hold,
    json_bytes,
    publish_folder,
    read_file,
    read_verified,
    remove_tree,
    write_bytes,
    write_sums,
)
from charrnn.model.calibration import Floats, softmax
from charrnn.model.facts import ModelFacts
from charrnn.model.network import CharRNN, ModelConfig, blank_network, from_stored, to_stored
from charrnn.model.novelty import CharacterModel
from charrnn.model.vocabulary import Vocabulary

FORMAT_VERSION = 1  # of a version's files; raise it with every change an older reader cannot read
PRETRAINED = {"pretrained": "default", "pretrained-tiny": "tiny"}

_PACKAGED = Path(__file__).with_name("pretrained")
_VERSION = re.compile(r"v\d{4,}")
_MALFORMED = (ValueError, TypeError, KeyError)  # what reading a document of another form raises
_ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Calibration:
    """The network's results on the M validation names, without the names.

    Attributes:
        logits: float32 ``(M, L)``, uncalibrated.
        label_ids: int64 ``(M,)``, the true labels.
        characters: novelty model of the training names, with its scale.
        ambiguous: int64, sorted: hashes of training names that have several labels.
    """

    logits: npt.NDArray[np.float32]
    label_ids: npt.NDArray[np.int64]
    characters: CharacterModel
    ambiguous: npt.NDArray[np.int64]

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields as tensors by name."""
        arrays = {
            "logits": self.logits,
            "label_ids": self.label_ids,
            "characters.surprise": self.characters.surprise,
            "characters.quantiles": self.characters.quantiles,
            "ambiguous": self.ambiguous,
        }
        return {name: torch.from_numpy(array).contiguous() for name, array in arrays.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Self:
        """Return the calibration data that ``tensors`` returned."""
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        return cls(
            logits=arrays["logits"],
            label_ids=arrays["label_ids"],
            characters=CharacterModel(
                arrays["characters.surprise"], arrays["characters.quantiles"]
            ),
            ambiguous=arrays["ambiguous"],
        )


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What ``model.json`` says of a version, besides its format.

    Attributes:
        labels: L label names, in the order of the logits.
        temperature: divides the logits before the softmax; above 0.
        priors: L label shares of the training examples.
    """

    config: ModelConfig
    vocabulary: Vocabulary
    labels: tuple[str, ...]
    temperature: float
    priors: tuple[float, ...]
    facts: ModelFacts = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ModelVersion(ModelDescription):
    """A trained network with all that scoring with it needs.

    Attributes:
        weights: the network's state dict, on the CPU.
        name: such as ``v0007`` or ``pretrained``; empty before it is saved.
        digest: SHA-256 of ``SHA256SUMS``, so of all files; empty before it is saved.
    """

    weights: dict[str, Tensor] = field(repr=False)
    calibration: Calibration = field(repr=False)
    name: str = ""
    digest: str = ""

    def network(self, device: torch.device | str = "cpu") -> CharRNN:
        """Return the network with its weights, in ``eval`` mode, on ``device``."""
        network = blank_network(self.config)
        network.load_state_dict({n: t.clone() for n, t in self.weights.items()}, assign=True)
        return network.eval().to(device)

    def validation_probabilities(self) -> Floats:
        """Return the calibrated probabilities of the M validation names, float64 ``(M, L)``."""
        return softmax(self.calibration.logits, self.temperature)


def save_version(
    root: Path, version: ModelVersion, extra_files: dict[str, bytes] | None = None
) -> ModelVersion:
    """Publish ``version`` under the next free number in ``root`` and load it back.

    ``extra_files`` (such as ``report.html``) become part of the version. A lock serialises
    processes that save at the same time; files left by a killed process are removed by the next.
    """
    staging = root / ".staging"
    with _lock(root):
        try:
            write_version(staging, version, extra_files)
            number = max((int(name[1:]) for name in list_versions(root)), default=0)
            while True:
                number += 1
                final = root / f"v{number:04d}"
                try:
                    publish_folder(staging, final)
                except FileExistsError:  # not a folder, so list_versions skips it
                    continue
                return load_version(final)
        finally:
            remove_tree(staging)


def write_version(
    folder: Path, version: ModelVersion, extra_files: dict[str, bytes] | None = None
) -> Path:
    """Write the files of ``version`` into ``folder``, replacing its contents; return ``folder``."""
    described = ModelDescription(
        **{f.name: getattr(version, f.name) for f in fields(ModelDescription)}
    )
    document = {"format_version": FORMAT_VERSION, **asdict(described)}
    remove_tree(folder)
    write_bytes(folder / "weights.safetensors", save(to_stored(version.weights)))
    write_bytes(folder / "calibration.safetensors", save(version.calibration.tensors()))
    write_bytes(folder / "model.json", json_bytes(document))
    for name, content in (extra_files or {}).items():
        write_bytes(folder / name, content)
    write_sums(folder)
    return folder


def load_version(path: Path, name: str | None = None) -> ModelVersion:
    """Load and verify the version in the folder ``path``.

    Raises:
        ModelError: a digest, a tensor name, a shape or a value is wrong, or the format is not
            ``FORMAT_VERSION``.
    """
    digest, content = read_verified(path)
    try:
        document = json.loads(content["model.json"])
        format_version = document["format_version"]
    except _MALFORMED as error:
        raise ModelError(f"{path / 'model.json'} is not a model description") from error
    if format_version != FORMAT_VERSION:
        raise ModelError(
            f"{path} has model format {format_version!r}, this release reads format "
            f"{FORMAT_VERSION}; install the charrnn that wrote it or train again"
        )
    try:
        described = msgspec.convert(document, ModelDescription)
        if unknown := document["config"].keys() - asdict(described.config).keys():
            raise ConfigError(f"config has the unknown fields {', '.join(sorted(unknown))}")
        if document["vocabulary"] != asdict(described.vocabulary):
            raise ConfigError("vocabulary has missing or unknown fields")
        version = ModelVersion(
            **vars(described),
            weights=from_stored(load(content["weights.safetensors"]), described.config),
            calibration=Calibration.from_tensors(load(content["calibration.safetensors"])),
            name=name or path.name,
            digest=digest,
        )
    except (msgspec.MsgspecError, ConfigError, SafetensorError, *_MALFORMED) as error:
        raise ModelError(
            f"{path} is not a model version this release can read ({error})"
        ) from error
    _check_consistency(path, version)
    return version


def resolve(reference: str, root: Path | None = None) -> ModelVersion:
    """Load the model called ``reference``: a packaged version, or an alias or a version in ``root``
    (None: packaged versions only).

    Raises:
        ModelError: there is no such model (the message lists all), or it is damaged.

    >>> resolve("pretrained").labels[:3]
    ('Arabic', 'Chinese', 'Czech')
    """
    if reference in PRETRAINED:
        return load_version(_PACKAGED / PRETRAINED[reference], reference)
    if root is None:
        raise ModelError(
            f"there is no packaged model {reference!r}{did_you_mean(reference, PRETRAINED)}; "
            f"existing: {', '.join(PRETRAINED)}; other models need the folder that holds them",
            option="models",
        )
    targets, versions = aliases(root), list_versions(root)
    target = targets.get(reference, reference)
    if target in versions:
        return load_version(root / target)
    if reference in targets:
        raise ModelError(f"alias {reference!r} points at {target!r}, which is not in {root}")
    existing = [*PRETRAINED, *targets, *versions]
    raise ModelError(
        f"there is no model {reference!r} in {root}{did_you_mean(reference, existing)}; "
        f"existing: {', '.join(existing)}"
    )


def list_versions(root: Path) -> list[str]:
    """Return the names of the published versions in ``root``, oldest first."""
    if not root.is_dir():
        return []
    names = (p.name for p in root.iterdir() if p.is_dir())
    return sorted((n for n in names if _VERSION.fullmatch(n)), key=lambda n: int(n[1:]))


def aliases(root: Path) -> dict[str, str]:
    """Return alias → version name, sorted by alias."""
    folder = root / "aliases"
    if not folder.is_dir():
        return {}
    names = sorted(p.name for p in folder.iterdir() if _is_alias(p.name))
    return {name: history[0] for name in names if (history := alias_history(root, name))}


def alias_history(root: Path, alias: str) -> list[str]:
    """Return the versions that ``alias`` has pointed at, the current one first."""
    path = root / "aliases" / alias
    try:
        return read_file(path).decode(errors="replace").split()
    except OSError:
        return []


def set_alias(root: Path, alias: str, version: str) -> None:
    """Point ``alias`` at ``version``, atomically, and keep its history.

    Raises:
        ConfigError: the alias is not a plain lower-case word, or is the name of a version.
        ModelError: there is no such version.
    """
    if not _is_alias(alias) or _VERSION.fullmatch(alias) or alias in PRETRAINED:
        raise ConfigError(
            f"{alias!r} cannot be an alias; use up to 64 of a-z 0-9 . _ - and start with a letter"
        )
    if version not in list_versions(root):
        raise ModelError(f"there is no version {version!r} in {root} to point {alias!r} at")
    with _lock(root):
        history = alias_history(root, alias)
        if history[:1] != [version]:
            _write_alias(root, alias, [version, *history])


def roll_back(root: Path, alias: str) -> tuple[str, str]:
    """Point ``alias`` at the version before its current one, atomically; return (old, new).

    Raises:
        ConfigError: ``alias`` is not a valid alias.
        ModelError: there is no earlier version.
    """
    if not _is_alias(alias):
        raise ConfigError(f"{alias!r} is not the name of an alias")
    no_earlier = ModelError(f"{alias!r} has no earlier version in {root} to go back to")
    if not alias_history(root, alias)[1:]:
        raise no_earlier
    with _lock(root):
        old, *earlier = alias_history(root, alias)
        if not earlier:  # another process rolled back in the meantime
            raise no_earlier
        _write_alias(root, alias, earlier)
    return old, earlier[0]


def _lock(root: Path) -> AbstractContextManager[None]:
    """Return the lock held while a version is added or an alias moved; waits for its turn."""
    return hold(root / ".versions.lock", "another change", wait=True)


def _is_alias(name: str) -> bool:
    return bool(_ALIAS.fullmatch(name))


def _write_alias(root: Path, alias: str, history: list[str]) -> None:
    write_bytes(root / "aliases" / alias, "".join(f"{v}\n" for v in history).encode())


def _check_consistency(path: Path, version: ModelVersion) -> None:
    """Raise ModelError for tensors and fields of the wrong name, shape or value; reports all."""
    expected = {n: t.shape for n, t in blank_network(version.config).state_dict().items()}
    problems = [f"tensor {n} is missing" for n in sorted(expected.keys() - version.weights.keys())]
    problems += [f"tensor {n} is unknown" for n in sorted(version.weights.keys() - expected.keys())]
    for name in sorted(expected.keys() & version.weights.keys()):
        tensor = version.weights[name]
        if tensor.shape != expected[name]:
            problems.append(f"{name} has shape {tuple(tensor.shape)}, not {tuple(expected[name])}")
        elif tensor.numel() and not torch.isfinite(torch.stack(tensor.aminmax())).all():
            problems.append(f"{name} has values that are not finite")
    L = version.config.label_count
    if len(version.labels) != L or len(set(version.labels)) != L or len(version.priors) != L:
        problems.append(f"labels and priors do not match the {L} outputs")
    if version.vocabulary.size != version.config.vocabulary_size:
        problems.append("the vocabulary does not match the network's input")
    if not (math.isfinite(version.temperature) and version.temperature > 0):
        problems.append("the temperature is not a positive number")
    calibration = version.calibration
    if calibration.logits.shape != (len(calibration.label_ids), L):
        problems.append(f"calibration logits have shape {calibration.logits.shape}")
    if not np.isin(calibration.label_ids, np.arange(L)).all():
        problems.append("calibration labels are not labels of the model")
    if not np.isfinite(calibration.logits).all():
        problems.append("calibration logits are not finite")
    if problems:
        raise ModelError(f"{path}: {'; '.join(problems)}")
