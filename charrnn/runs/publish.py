"""Publish a run: one rename makes its folder visible, whole (see ``folders`` for where).

The staging folder is named by the run's fingerprint (see ``plan``), so a part found there with a
valid receipt is finished work and is reused. Nothing published is ever modified.
"""

import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from charrnn.errors import CharrnnError, OutputError, StorageError
from charrnn.files import (
    SUMS,
    clear_folder,
    hold,
    is_transient,
    json_bytes,
    make_folder,
    make_private,
    own_folders,
    publish_folder,
    remove_file,
    remove_tree,
    swap_link,
    write_bytes,
    write_parquet,
    write_sums,
)
from charrnn.monitoring.profile import total
from charrnn.runs.folders import (
    ROWS,
    RUN_FILE,
    destination_of_run,
    latest_link,
    named_runs,
    run_folder_name,
)
from charrnn.runs.manifest import Manifest, PriorRecord, RunFacts, RunManifest, own_manifest
from charrnn.runs.parts import PartReceipt, count_values
from charrnn.runs.plan import RunPlan
from charrnn.tables.source import check_unchanged


def finished_run(destination: Path, fingerprint: str) -> Path | None:
    """Return the newest published run with this fingerprint that has all its parts, or None.

    Raises:
        StorageError: reading failed, so there may be one.
    """
    for name, run in sorted(named_runs(destination).items(), reverse=True):
        if name.fingerprint == fingerprint[:8] and _is_finished(run, fingerprint):
            return run
    return None


def _is_finished(run: Path, fingerprint: str) -> bool:
    manifest = _own(run)
    if manifest is None or manifest.fingerprint != fingerprint:
        return False
    try:
        parts = [((run / part.name).lstat(), part.size) for part in manifest.parts]
    except OSError as error:
        if is_transient(error):
            raise StorageError(f"{run} cannot be read: {error.strerror}") from None
        return False  # damaged: score again, beside it
    return all(stat.S_ISREG(file.st_mode) and file.st_size == size for file, size in parts)


@contextmanager
def hold_destination(destination: Path, holder: str) -> Iterator[None]:
    """Hold a destination while a run is written to it (see ``files.hold``). Where that fails before
    a part is finished, the staged copy of the input is removed, and so is a destination that was
    made for the run."""
    with hold(destination / ".lock", holder):
        for staging in own_folders(destination, ".staging-"):
            make_private(staging)
            for copy in staging.glob("input-*"):  # left by a kill, and holds all names
                remove_file(copy)
        try:
            yield
        except BaseException:
            for staging in own_folders(destination, ".staging-"):
                if not any(staging.glob("part-*.json")):
                    remove_tree(staging)
            raise


def manifest_of(
    plan: RunPlan, receipts: Sequence[PartReceipt], facts: RunFacts, prior: PriorRecord
) -> RunManifest:
    """Return the manifest of a finished run, without drift.

    Raises:
        CharrnnError: the parts do not account for every row of the input.
    """
    statuses, reasons, labels = Counter[str](), Counter[str](), Counter[str]()
    for receipt in receipts:
        statuses.update(receipt.statuses)
        reasons.update(receipt.reasons)
        labels.update(receipt.labels)
    rows_out = sum(receipt.rows for receipt in receipts)
    if not plan.source.rows == rows_out == statuses.total():
        raise CharrnnError(
            f"internal error: {plan.source.rows} rows were read, {rows_out} written and "
            f"{statuses.total()} have a status; nothing was published, please report this"
        )
    scored = statuses["scored"]
    confidence = sum(r.confidence_sum for r in receipts) / scored if scored else None
    return RunManifest(
        **asdict(facts),
        **plan.facts(),
        prior=prior,
        model=plan.key.model,
        rejected=count_values(plan.source.rejects["reason"]),
        statuses={status: statuses[status] for status in ("scored", "abstained", "unscored")},
        reasons=dict(reasons.most_common()),
        labels=dict(labels.most_common()),
        mean_confidence=confidence,
        profile=total(receipt.profile for receipt in receipts),
        parts=tuple(receipt.record for receipt in receipts),
        reused_rows=sum(receipt.rows for receipt in receipts if receipt.reused),
    )


def publish(plan: RunPlan, manifest: Manifest, files: Mapping[str, bytes]) -> Path:
    """Make a finished run visible, whole, by one rename; ``update_latest`` comes after it.

    Args:
        manifest: from ``manifest_of``, or of a comparison; its time is part of the run's name.
        files: further files of the run, such as ``report.html``; ``rejects.parquet`` (file, line,
            row, reason; no text) is added where rows were rejected.

    Raises:
        DataError: an input changed since it was opened.
        StorageError: a part is not what was written.
    """
    staging = plan.staging
    for name, content in files.items():
        write_bytes(staging / name, content)
    write_bytes(staging / "manifest.json", json_bytes(manifest.to_json()))
    rejects = plan.source.rejects
    if rejects.num_rows:
        write_parquet(staging / "rejects.parquet", rejects)
    parts = {part.name: part.sha256 for part in manifest.parts}
    ours = {*parts, *files, "manifest.json", *(["rejects.parquet"] if rejects.num_rows else [])}
    sums = write_sums(staging, ours)
    changed = [name for name, digest in parts.items() if sums[name] != digest]
    if changed:
        raise StorageError(
            f"{', '.join(changed)} in {staging} changed after being written; nothing was "
            "published, check the disk and run this again"
        )
    check_unchanged(plan.source.files)
    # Receipts and staged inputs go last, so that a kill until here costs no finished part.
    aside = plan.destination
    if parts:
        clear_folder(staging / ROWS, {Path(name).name for name in parts}, RUN_FILE, aside)
    clear_folder(staging, {*(Path(name).parts[0] for name in ours), SUMS}, RUN_FILE, aside)
    runs = plan.destination / "runs"
    make_folder(runs)
    same_second = [n for n in named_runs(plan.destination) if n.created == manifest.created]
    number = 1 + max((name.number for name in same_second), default=0)
    while True:
        run = runs / run_folder_name(manifest.created, plan.key.fingerprint, number)
        try:
            publish_folder(staging, run)
            return run
        except FileExistsError:  # somebody else's
            number += 1


def update_latest(run: Path, now: datetime) -> list[str]:
    """Point ``latest`` at the newest run, atomically, after ``run`` was published or recognised;
    return lines about what may surprise. Runs dated later than ``now``, made while a clock was
    wrong, are not taken for newer ones.

    Raises:
        StorageError: reading a run that may be the newest failed, or changing the link.
    """
    link = latest_link(destination_of_run(run))
    named = named_runs(destination_of_run(run))
    later = sorted(name for name in named if name.created > f"{now:%Y%m%dT%H%M%SZ}")
    earlier = sorted(named.keys() - set(later), reverse=True)
    newest = next((named[n] for n in earlier if named[n] == run or _own(named[n])), run)
    target = str(newest.relative_to(link.parent))
    lines = []
    if later:
        more = f" and {len(later) - 1:,} more" if len(later) > 1 else ""
        lines.append(
            f"clock       {named[later[-1]]}{more}: dated later than now, so not taken for the "
            "newest run nor compared with"
        )
    if newest != run:
        lines.append(f"latest      stays at {target}, which is newer than {run.name}")
    try:
        if not (link.is_symlink() and link.readlink() == Path(target)):
            swap_link(link, target)
    except OutputError as error:
        lines.append(f"latest      does not lead to {target}: {error}")
    return lines


def _own(run: Path) -> Manifest | None:
    """Return the manifest of a run if its folder is this user's, and holds what its name says.
    Raises StorageError where reading fails."""
    try:
        manifest = own_manifest(run)
    except StorageError:
        raise
    except CharrnnError:
        return None
    return manifest if own_folders(run.parent, run.name)[:1] == [run] else None
