"""Score what is new in a folder: every new or changed file, as a run of its own."""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, fields
from hashlib import sha256
from pathlib import Path

from charrnn.errors import BusyError, CharrnnError, DataError, redact
from charrnn.files import private_files
from charrnn.model.version import ModelVersion, resolve
from charrnn.recipes.requests import InboxRequest, ScoreRequest, ScoringRequest
from charrnn.recipes.runner import Runner
from charrnn.recipes.score import run_options, score
from charrnn.runs.inbox import FileStates, file_states, fingerprints, inbox_files
from charrnn.runs.manifest import ModelRef
from charrnn.runs.plan import run_key
from charrnn.runs.publish import finished_run
from charrnn.scoring.options import DeliveryOptions
from charrnn.tables.discovery import Skipped
from charrnn.tables.kinds import path_text
from charrnn.tables.source import inbox_name, source_name

ScoreOne = Callable[[ScoreRequest], str]


@dataclass
class InboxOutcome:
    """What became of the files of a folder.

    Attributes:
        outcomes: one sentence per file.
        published: folders of the runs that were published now.
        failures: file name and reason of each file that could not be scored.
        skipped: what lies in the folder and is not read.
        remarks: by file, lines about what may surprise in its run.
    """

    outcomes: dict[Path, str]
    published: list[Path] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    skipped: Skipped = field(default_factory=Skipped)
    remarks: dict[str, list[str]] = field(default_factory=dict)

    def check(self) -> None:
        """Raise DataError if a file failed."""
        if self.failures:
            raise DataError(
                f"{len(self.failures)} of {len(self.outcomes)} files failed; "
                f"{'; '.join(self.failures)}"
            )

    def lines(self) -> list[str]:
        """Return one line per file of the folder, what may surprise in its run below it, and one
        line about what is not read."""
        lines = list[str]()
        for path, outcome in self.outcomes.items():
            lines.append(f"{path_text(path.name):<24}  {outcome}")
            lines += [f"{'':<24}  {remark}" for remark in self.remarks.get(str(path), ())]
        return [*lines, *([str(self.skipped)] if self.skipped.count else [])]


def inbox(request: InboxRequest, runner: Runner, score_one: ScoreOne | None = None) -> InboxOutcome:
    """Score every new or changed file of a folder, one run each.

    Args:
        score_one: scores one file and returns the run's folder; by default the recipe ``score``
            with the same runner.

    Raises:
        CharrnnError: the folder or the model is missing. A file that cannot be scored does not
            stop the others: see ``InboxOutcome.check``.
    """
    version = resolve(request.model, request.models)  # once: all files get the same one
    remarks = dict[str, list[str]]()

    def score_plainly(request: ScoreRequest) -> str:
        published = score(request, runner, version)
        remarks[request.source] = published.notes()
        published.check()
        return str(published.folder)

    files, skipped = inbox_files(request.folder)
    requests = {path: request_for(path, request, version) for path in files}
    new = _not_yet_scored(files, requests, version, runner, request)
    outcomes = dict.fromkeys(files, "already scored")
    result = InboxOutcome(outcomes, skipped=skipped, remarks=remarks)
    if new:
        time.sleep(request.settle_seconds)
    for path in new:
        _score_file(path, files[path], requests[path], score_one or score_plainly, result)
    return result


def request_for(path: Path, request: InboxRequest, version: ModelVersion) -> ScoreRequest:
    """Return the scoring run that a file of the folder asks for."""
    shared = {f.name: getattr(request, f.name) for f in fields(ScoringRequest)}
    output = f"{request.output / inbox_name(path)}/"
    delivery = DeliveryOptions(output=output, on_drift=request.on_drift)
    return ScoreRequest(**{**shared, "model": version.name}, source=str(path), delivery=delivery)


def _not_yet_scored(
    files: dict[Path, FileStates],
    requests: dict[Path, ScoreRequest],
    version: ModelVersion,
    runner: Runner,
    request: InboxRequest,
) -> list[Path]:
    """Return the files whose run is not published yet."""
    options = run_options(request, version, runner.name_key)
    model = ModelRef.of(version)
    asked = sha256(json.dumps([version.digest, options.to_json()]).encode()).hexdigest()
    memory = request.output / f".inbox-{source_name(str(request.folder))}.json"

    def fingerprint(path: Path) -> str:
        try:
            return run_key(str(path), model, options).fingerprint
        except (CharrnnError, FileNotFoundError):
            return ""

    with private_files(request.privacy.private):
        asked_for = fingerprints(files, fingerprint, runner.now(), memory, asked)
    new = set(files)
    for path, digest in asked_for.items():
        with suppress(CharrnnError, OSError):  # scoring it says why
            if digest and finished_run(Path(requests[path].delivery.output), digest):
                new.discard(path)
    return [path for path in files if path in new]


def _score_file(
    path: Path, states: FileStates, request: ScoreRequest, score_one: ScoreOne, result: InboxOutcome
) -> None:
    """Score one file and note what became of it."""
    if file_states(path) != states:
        result.outcomes[path] = "still being written, left for the next run"
        return
    try:
        folder = score_one(request)
        result.published.append(Path(folder))
        result.outcomes[path] = f"scored: {folder}"
    except BusyError:
        result.outcomes[path] = "being scored by another run"
    except Exception as error:
        reason = redact(error)
        result.outcomes[path] = f"failed: {reason}"
        result.failures.append(f"{path_text(path.name)}: {reason}")
