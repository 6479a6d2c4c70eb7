"""Immutable model versions and the aliases that point at them.

A version is a folder, published by one rename and never modified::

    MODELS/v0007/weights.safetensors      the network
                /calibration.safetensors  logits and novelty scale of the validation names
                /known_names.safetensors  (optional) what lists say of names
                /model.json               architecture, vocabulary, labels, temperature, facts
                /report.html              (optional)
                /SHA256SUMS               digests of the other files, for sha256sum -c
    MODELS/aliases/champion               v0007, then the versions it pointed at before

The versions packaged with the library are those of ``PRETRAINED``. Only safetensors and JSON are
read, never a pickle.
"""

import json
import math
import os
import re
import stat
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Annotated, Self

import msgspec
import numpy as np
import numpy.typing as npt
import torch
from msgspec import Meta
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from charrnn.errors import ConfigError, ModelError, did_you_mean
from charrnn.files import (
    hold,
    is_system_file,
    json_bytes,
    open_file,
    publish_folder,
    read_verified,
    remove_tree,
    write_bytes,
    write_sums,
)
from charrnn.model.calibration import Floats, by_part, softmax
from charrnn.model.facts import ModelFacts
from charrnn.model.known_names import SCALE, KnownNames
from charrnn.model.labels import LANGUAGE, LabelName, check_labels
from charrnn.model.network import CharRNN, ModelConfig, blank_network, from_stored, to_stored
from charrnn.model.novelty import NoveltyScale
from charrnn.model.vocabulary import GIVEN, Vocabulary

FORMAT_VERSION = 2  # of a version's files; raise it with every change an older reader cannot read
PRETRAINED = {
    "pretrained": "default",
    "pretrained-tiny": "tiny",
    "pretrained-tutorial": "tutorial",
}
MAX_EXPONENT = 5.0  # of the probabilities of full names: above, one part of a pair tells all
MAX_UNFAMILIARITY = 0.96  # costs 4 % of the outside names that the scale is made of
MAX_BYTES = 2**29  # of all files of a version, which are read into memory

_PACKAGED = Path(__file__).with_name("pretrained")
_KNOWN_NAMES = "known_names.safetensors"
_VERSION = re.compile(r"v\d{4,}")
_MALFORMED = (ValueError, TypeError, KeyError)  # what reading a document of another form raises
_MAX_FILES = 100  # of a version
_MAX_ALIAS_BYTES = 2**20  # over 100,000 promotions
_MAX_VALUE = 1e6  # of a tensor: sums of so large weights are finite; trained ones are below 100
_MAX_DIGITS = 19  # of an integer: fits in 64 bits
_MAX_CAUSE = 500  # characters of a message that come from a file
_ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Calibration:
    """The network's results on the M validation names, without the names.

    Attributes:
        logits: float32 ``(M, L)``, uncalibrated; stored in half precision.
        label_ids: int64 ``(M,)``, the true labels.
        novelty: the scale of the novelty of names.
        ambiguous: int64, sorted: hashes of training names that have several labels.
    """

    logits: npt.NDArray[np.float32]
    label_ids: npt.NDArray[np.int64]
    novelty: NoveltyScale
    ambiguous: npt.NDArray[np.int64]

    def tensors(self) -> dict[str, Tensor]:
        """Return the fields as tensors by name."""
        arrays = {
            "logits": self.logits.astype(np.float16),
            "label_ids": self.label_ids,
            "novelty.quantiles": self.novelty.quantiles,
            "ambiguous": self.ambiguous,
        }
        return {name: torch.from_numpy(array).contiguous() for name, array in arrays.items()}

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Self:
        """Return the calibration data that ``tensors`` returned."""
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        novelty = NoveltyScale(arrays.pop("novelty.quantiles"))
        logits = arrays.pop("logits").astype(np.float32)
        return cls(logits, **arrays, novelty=novelty)


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """What ``model.json`` says of a version, besides its format.

    Attributes:
        label_name: what the labels are, such as country: the name of their column.
        labels: L label names, in the order of the logits.
        temperature: divides the logits before the softmax; training fits 0.05 to 20.
        given_temperature: the one of given names; None where it is the same.
        priors: L label shares of the training examples, summing to 1.
        pair_exponent: flattens (below 1) or sharpens the probabilities of names with a surname and
            a given name (see ``Scorer.predict``); fitted on such names.
    """

    config: ModelConfig
    vocabulary: Vocabulary
    label_name: LabelName = LANGUAGE
    labels: tuple[str, ...]
    temperature: Annotated[float, Meta(ge=0.01, le=100)]
    priors: tuple[Annotated[float, Meta(ge=0, le=1)], ...]
    pair_exponent: Annotated[float, Meta(ge=0.05, le=MAX_EXPONENT)] = 1.0
    given_temperature: Annotated[float, Meta(ge=0.01, le=100)] | None = None
    facts: ModelFacts = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ModelVersion(ModelDescription):
    """A trained network with all that scoring with it needs.

    Attributes:
        weights: the network's state dict, on the CPU.
        known_names: what the training names say of names that the network answers otherwise.
        name: such as ``v0007`` or ``pretrained``; empty before it is saved.
        digest: SHA-256 of ``SHA256SUMS``, so of all files; empty before it is saved.
    """

    weights: dict[str, Tensor] = field(repr=False)
    calibration: Calibration = field(repr=False)
    known_names: KnownNames = field(default_factory=KnownNames.none, repr=False)
    name: str = ""
    digest: str = ""

    @property
    def knows_given(self) -> bool:
        """Whether the model knows given names, and not surnames only."""
        return GIVEN in self.vocabulary.symbols

    def network(self, device: torch.device | str = "cpu") -> CharRNN:
        """Return the network with its weights, in ``eval`` mode, on ``device``."""
        network = blank_network(self.config)
        network.load_state_dict({n: t.clone() for n, t in self.weights.items()}, assign=True)
        return network.eval().to(device)

    @property
    def assumed_shares(self) -> Floats:
        """The label shares that the probabilities assume, ``(L,)``: those of the training names,
        flattened by the logit adjustment of the training (Menon et al. 2021)."""
        adjustment = float(self.facts.train.get("logit_adjustment") or 0)
        return assumed_shares(np.array(self.priors), adjustment)

    @property
    def max_unfamiliarity(self) -> float:
        """The unfamiliarity above which scoring gives no label by default; 1 (never) for a model
        that did not learn to tell names from other words."""
        return MAX_UNFAMILIARITY if self.config.none_output else 1.0

    def temperatures(self, given: npt.NDArray[np.bool_]) -> Floats:
        """Return the temperature of each of N names, ``(N, 1)``, of which ``given``, ``(N,)``, are
        given names."""
        return by_part(given, self.temperature, self.given_temperature)

    def validation_probabilities(self) -> Floats:
        """Return the calibrated probabilities of the M validation names, float64 ``(M, L)``."""
        return softmax(self.calibration.logits, self.temperature)


def assumed_shares(priors: Floats, logit_adjustment: float) -> Floats:
    """Return the label shares ``(L,)`` that a network's probabilities assume, from those of its
    training names; a label without any has share 0."""
    flattened = np.where(priors > 0, priors ** (1 - logit_adjustment), 0.0)
    shares: Floats = flattened / flattened.sum()
    return shares


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
    write_bytes(folder / "weights.safetensors", save(to_stored(version.weights, version.config)))
    write_bytes(folder / "calibration.safetensors", save(version.calibration.tensors()))
    if len(version.known_names):
        write_bytes(folder / _KNOWN_NAMES, save(version.known_names.tensors()))
    write_bytes(folder / "model.json", json_bytes(document))
    for name, content in (extra_files or {}).items():
        write_bytes(folder / name, content)
    write_sums(folder)
    return folder


def load_version(path: Path, name: str | None = None) -> ModelVersion:
    """Load and verify the version in the folder ``path``.

    Sizes are checked before anything of that size is read or allocated.

    Raises:
        ModelError: a file is no regular file or too large; a digest, a field, a tensor or a value
            is wrong; or the format is not ``FORMAT_VERSION``.
    """
    _check_files(path)
    digest, content = read_verified(path)
    try:
        described = _read_description(path, content["model.json"])
        _check_labels(described)
        weights, calibration = (
            load(content[f"{file}.safetensors"]) for file in ("weights", "calibration")
        )
        _check_weights(weights, described.config)
        _check_calibration(calibration, described)
        known_names = _known_names(content.get(_KNOWN_NAMES), len(described.labels))
    except (msgspec.MsgspecError, ConfigError, SafetensorError, *_MALFORMED) as error:
        cause = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise ModelError(
            f"{path} is not a model version this release can read ({_short(cause)})"
        ) from error
    return ModelVersion(
        **vars(described),
        weights=from_stored(weights, described.config),
        calibration=Calibration.from_tensors(calibration),
        known_names=known_names,
        name=name or path.name,
        digest=digest,
    )


def _check_files(folder: Path) -> None:
    """Raise ModelError unless ``folder`` holds few regular files of a bounded size, and nothing
    else."""
    try:
        if folder.is_symlink():
            raise ModelError(f"{folder} is a link; a version is a folder, so copy it")
        listed = (entry for entry in os.scandir(folder) if not is_system_file(entry.name))
        entries = list(islice(listed, _MAX_FILES + 1))
        states = [entry.stat(follow_symlinks=False) for entry in entries]
    except OSError as error:
        raise ModelError(f"{folder} cannot be read: {error.strerror}") from error
    if len(entries) > _MAX_FILES:
        raise ModelError(f"{folder} has more than {_MAX_FILES} entries; is it a model version?")
    other = [e.name for e, s in zip(entries, states, strict=True) if not stat.S_ISREG(s.st_mode)]
    if other:
        raise ModelError(f"{folder}: {', '.join(sorted(other))} is not a regular file")
    if (size := sum(state.st_size for state in states)) > MAX_BYTES:
        raise ModelError(f"{folder} has {size:,} bytes; a model version has at most {MAX_BYTES:,}")


def _read_description(path: Path, content: bytes) -> ModelDescription:
    """Return what ``model.json`` says, every field checked by its type.

    Raises:
        ModelError: it is of another format. Others, with the path of the field: it is malformed.
    """
    # A number that JSON or float64 cannot hold stays text, so that its field is named below.
    try:
        document = json.loads(
            content,
            parse_constant=str,
            parse_float=lambda text: float(text) if math.isfinite(float(text)) else text,
            parse_int=lambda text: int(text) if len(text) < _MAX_DIGITS else text,
        )
        format_version = document["format_version"]
    except (RecursionError, *_MALFORMED) as error:
        raise ModelError(f"{path / 'model.json'} is not a model description") from error
    if format_version != FORMAT_VERSION or isinstance(format_version, bool):
        raise ModelError(
            f"{path} has model format {_short(repr(format_version))}, this release reads format "
            f"{FORMAT_VERSION}; install the charrnn that wrote it or train again"
        )
    described = msgspec.convert(document, ModelDescription)
    if unknown := document["config"].keys() - asdict(described.config).keys():
        raise ConfigError(f"config has the unknown fields {', '.join(sorted(unknown))}")
    if document["vocabulary"] != asdict(described.vocabulary):
        raise ConfigError("vocabulary has missing or unknown fields")
    return described


def resolve(reference: str, root: Path | None = None) -> ModelVersion:
    """Load the model called ``reference``: a packaged version, or an alias or a version in ``root``
    (None: packaged versions only).

    Raises:
        ModelError: there is no such model (the message lists all), or it is damaged.

    >>> resolve("pretrained").labels[:3]
    ('Akan', 'Arabic', 'Armenian')
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
    history = alias_history(root, reference) if _ALIAS.fullmatch(reference) else []
    target = (history or [reference])[0]
    if target in versions:
        return load_version(root / target)
    if history:
        raise ModelError(f"alias {reference!r} points at {target!r}, which is not in {root}")
    existing = [*PRETRAINED, *targets, *versions]
    raise ModelError(
        f"there is no model {reference!r} in {root}{did_you_mean(reference, existing)}; "
        f"train one, or choose one; existing: {', '.join(existing)}",
        option="model",
    )


def list_versions(root: Path) -> list[str]:
    """Return the names of the published versions in ``root``, oldest first."""
    if not root.is_dir():
        return []
    names = (p.name for p in root.iterdir() if p.is_dir())
    return sorted((n for n in names if _VERSION.fullmatch(n)), key=lambda n: int(n[1:]))


def aliases(root: Path) -> dict[str, str]:
    """Return alias → version name, sorted by alias; those that cannot be read are left out."""
    return read_aliases(root)[0]


def read_aliases(root: Path) -> tuple[dict[str, str], list[str]]:
    """Return alias → version name, sorted by alias, and the problems of the others."""
    folder, targets, problems = root / "aliases", {}, []
    for name in sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []:
        if not _ALIAS.fullmatch(name):
            continue
        try:
            if history := alias_history(root, name):
                targets[name] = history[0]
        except ModelError as error:
            problems.append(str(error))
    return targets, problems


def alias_history(root: Path, alias: str) -> list[str]:
    """Return the versions that ``alias`` has pointed at, the current one first.

    Raises:
        ModelError: the alias is no regular file, or does not list versions.
    """
    path = root / "aliases" / alias
    try:
        with open_file(path) as file:
            content = file.read(_MAX_ALIAS_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ModelError(f"alias {path} cannot be read: {error.strerror}") from error
    history = content.decode("ascii", errors="replace").split()
    if len(content) > _MAX_ALIAS_BYTES or not all(map(_VERSION.fullmatch, history)):
        raise ModelError(
            f"alias {path} does not list versions such as v0001; remove it and set it again"
        )
    return history


def set_alias(root: Path, alias: str, version: str) -> None:
    """Point ``alias`` at ``version``, atomically, and keep its history.

    Raises:
        ConfigError: the alias is not a plain lower-case word, or is the name of a version.
        ModelError: there is no such version.
    """
    if not _ALIAS.fullmatch(alias) or _VERSION.fullmatch(alias) or alias in PRETRAINED:
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
    if not _ALIAS.fullmatch(alias):
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


def _write_alias(root: Path, alias: str, history: list[str]) -> None:
    write_bytes(root / "aliases" / alias, "".join(f"{v}\n" for v in history).encode())


def _check_labels(described: ModelDescription) -> None:
    """Raise ValueError unless labels, priors, sizes and facts fit each other."""
    config, labels = described.config, described.labels
    check_labels(labels)
    L = len(labels)
    if config.label_count != L or len(described.priors) != L:
        raise ValueError(
            f"labels and priors do not match config.label_count: {L} and {len(described.priors)} "
            f"for {config.label_count} outputs"
        )
    if not math.isclose(sum(described.priors), 1, abs_tol=1e-6):
        raise ValueError(f"priors must sum to 1, got {sum(described.priors):.6g}")
    if described.vocabulary.size != config.vocabulary_size:
        raise ValueError(
            f"vocabulary has {described.vocabulary.size} ids, config.vocabulary_size is "
            f"{config.vocabulary_size}"
        )
    described.facts.check(labels)


def _check_weights(stored: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Raise ValueError for stored weights of another name, shape or type than the network's, or of
    values out of range; reports all."""
    expected = {n: (torch.float32, t.shape) for n, t in blank_network(config).state_dict().items()}
    rows, exponents = (
        stored.get(f"ngrams.{name}", torch.zeros(0)) for name in ("rows", "exponents")
    )
    if config.ngram_buckets:
        R = min(rows.numel(), config.ngram_buckets)
        dtype = torch.float16 if config.ngram_bits == 16 else torch.int8
        expected["ngrams.weight"] = (dtype, torch.Size((R, config.ngram_width)))
        expected["ngrams.rows"] = (torch.int32, torch.Size((R,)))
        if config.ngram_bits == 8:
            expected["ngrams.exponents"] = (torch.int8, torch.Size((R,)))
    _check_tensors("weights", stored, expected)
    if not ((rows >= 0) & (rows < max(config.ngram_buckets, 1))).all():
        raise ValueError(f"ngrams.rows are not rows of a table of {config.ngram_buckets}")
    if not ((exponents >= -40) & (exponents <= 10)).all():  # of numbers in half precision
        raise ValueError("ngrams.exponents are not those of numbers in half precision")


def _check_calibration(stored: Mapping[str, Tensor], described: ModelDescription) -> None:
    """Raise ValueError unless the tensors of ``Calibration`` are what the description needs."""
    M, Q, A = (stored[n].numel() for n in ("label_ids", "novelty.quantiles", "ambiguous"))
    L = len(described.labels)
    expected = {
        "logits": (torch.float16, torch.Size((M, L))),
        "label_ids": (torch.int64, torch.Size((M,))),
        "novelty.quantiles": (torch.float32, torch.Size((Q,))),
        "ambiguous": (torch.int64, torch.Size((A,))),
    }
    _check_tensors("calibration", stored, expected)
    label_ids, quantiles = stored["label_ids"], stored["novelty.quantiles"]
    if not M or not ((label_ids >= 0) & (label_ids < L)).all():
        raise ValueError("calibration label_ids are not labels of the model")
    if not Q or not (quantiles.diff() >= 0).all():
        raise ValueError("calibration novelty.quantiles are not ascending")


def _known_names(content: bytes | None, label_count: int) -> KnownNames:
    """Return the known names of a version's file, none where it has no such file.

    Raises:
        ValueError: a tensor or a value is wrong.
    """
    if content is None:
        return KnownNames.none()
    stored = load(content)
    size = stored["keys"].shape
    dtypes = {"keys": torch.int32, "label_ids": torch.int16, "shares": torch.uint8}
    _check_tensors("known names", stored, {n: (dtype, size) for n, dtype in dtypes.items()})
    known = KnownNames(**{name: tensor.numpy() for name, tensor in stored.items()})
    keys, label_ids, shares = known.keys, known.label_ids, known.shares
    if len(size) != 1 or not ((label_ids >= 0) & (label_ids < label_count)).all():
        raise ValueError("label_ids of known names are not labels of the model")
    pairs = keys.astype(np.int64) * 2**15 + label_ids
    if not (np.diff(pairs) > 0).all():
        raise ValueError("keys and label_ids of known names are not ascending pairs")
    _, name = np.unique(keys, return_inverse=True)
    if len(keys) and np.bincount(name, shares).max() >= SCALE:
        raise ValueError(f"shares of a known name sum to {SCALE} or more")
    return known


def _check_tensors(
    what: str, stored: Mapping[str, Tensor], expected: Mapping[str, tuple[torch.dtype, torch.Size]]
) -> None:
    """Raise ValueError, with all problems, unless ``stored`` has tensors of these names, types and
    shapes, with values within ``_MAX_VALUE``."""
    problems = [f"tensor {n} is missing" for n in sorted(expected.keys() - stored.keys())]
    problems += [f"tensor {n} is unknown" for n in sorted(stored.keys() - expected.keys())]
    for name in sorted(expected.keys() & stored.keys()):
        tensor, (dtype, shape) = stored[name], expected[name]
        if tensor.shape != shape or tensor.dtype != dtype:
            what = f"{tensor.dtype} {tuple(tensor.shape)}, expected {dtype} {tuple(shape)}"
            problems.append(f"{name} is {what.replace('torch.', '')}")
        elif dtype.is_floating_point and tensor.numel():
            low, high = (float(end) for end in tensor.aminmax())
            if not -_MAX_VALUE <= low <= high <= _MAX_VALUE:
                problems.append(f"{name} has values that are not finite, or beyond {_MAX_VALUE:g}")
    if problems:
        raise ValueError(f"{what}: {'; '.join(problems)}")


def _short(text: str) -> str:
    return text if len(text) <= _MAX_CAUSE else f"{text[:_MAX_CAUSE]}…"
