"""Check what a run needs on this machine, and say what to do where it lacks something.

Everything is imported where it is checked, so that a package that cannot be imported is a line.
"""

import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from charrnn.errors import BusyError, CharrnnError, ConfigError, ModelError, OutputError
from charrnn.files import existing_folder, hold, write_bytes
from charrnn.recipes.requests import DoctorRequest

_PYTHON = (3, 11)
_LEAST_FREE = 1e9  # bytes: of a smaller disk a run of a few million rows fills what is left
# First releases that this one does not work with: Prefect 3.8 fails at import with that FastAPI,
# and with that SQLAlchemy silently never schedules a run.
_TOO_NEW = {"prefect": (3, 9), "fastapi": (0, 151), "sqlalchemy": (2, 1)}
_EXTRAS = {"train": "scikit-learn", "flows": "prefect", "ray": "ray", "delta": "deltalake",
           "s3": "s3fs", "gcs": "gcsfs", "mlflow": "mlflow-skinny", "corpus": "faker"}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One thing that was looked at: what was found, or what is wrong and how to put it right."""

    name: str
    found: str
    error: CharrnnError | None = None


@dataclass(frozen=True)
class Diagnosis:
    """All checks, in the order in which a run needs what they look at."""

    checks: list[Check]

    def lines(self) -> list[str]:
        """Return a line per check: ok and what was found, or the problem and its fix."""
        return [f"{c.name:11} {'PROBLEM' if c.error else 'ok':8} {c.found}" for c in self.checks]

    def check(self) -> None:
        """Raise the error of the first problem, with the number of all."""
        failed = [check.error for check in self.checks if check.error]
        if failed:
            raise type(failed[0])(f"{len(failed)} of {len(self.checks)} checks found a problem")


def doctor(request: DoctorRequest) -> Diagnosis:
    """Check Python, the system, torch, the GPU, the destination, extras, Prefect and the model; see
    ``Diagnosis.check``."""
    looks = (_python, _system, _torch, _gpu, _destination, _disk, _extras, _prefect, _model)
    return Diagnosis([_looked(look, request) for look in looks])


def _looked(look: Callable[[DoctorRequest], str], request: DoctorRequest) -> Check:
    name = look.__name__.removeprefix("_")
    try:
        return Check(name, look(request))
    except CharrnnError as error:
        return Check(name, str(error), error)
    except Exception as error:  # such as a library that cannot be imported
        reason = str(error).strip().splitlines() or [""]
        words = f"{type(error).__name__}: {reason[0][:200]}; install charrnn again"
        return Check(name, words, ConfigError(words))


def _python(request: DoctorRequest) -> str:
    if sys.version_info < _PYTHON:
        raise ConfigError(f"Python {platform.python_version()}; install 3.11 or newer")
    return platform.python_version()


def _system(request: DoctorRequest) -> str:
    if platform.system() != "Linux":
        raise OutputError(
            f"{platform.system()}: runs and models are written on Linux only; use WSL or a "
            "container, or score in Python (charrnn.Scorer)"
        )
    return f"{platform.system()} {platform.release()}, {platform.machine()}"


def _torch(request: DoctorRequest) -> str:
    import torch

    if torch.ones(2, 2).mm(torch.ones(2, 2)).sum() != 8:
        raise ConfigError(f"torch {torch.__version__} multiplies wrongly; install it again")
    return f"{torch.__version__}, {torch.get_num_threads()} threads"


def _gpu(request: DoctorRequest) -> str:
    import torch

    if torch.cuda.is_available():
        names = (torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return ", ".join(names)
    build = f"a build for CUDA {torch.version.cuda}" if torch.version.cuda else "the CPU build"
    return f"none is needed; torch is {build}"


def _destination(request: DoctorRequest) -> str:
    """Write, rename and lock a file on the disk of the destination."""
    parent = existing_folder(request.output)
    try:
        with tempfile.TemporaryDirectory(prefix=".doctor-", dir=parent) as folder:
            write_bytes(Path(folder, "renamed"), b"")
            with hold(Path(folder, "lock"), "doctor"):
                try:
                    with hold(Path(folder, "lock"), "doctor"):
                        pass
                except BusyError:
                    return f"{request.output} can be written, renamed in and locked"
    except OSError as error:
        raise OutputError(
            f"{parent} cannot be written ({error.strerror}); choose another folder", option="output"
        ) from None
    raise OutputError(
        f"{parent} lies on a file system without locks (flock), so two runs could write at once; "
        "choose a local disk",
        option="output",
    )


def _disk(request: DoctorRequest) -> str:
    free = shutil.disk_usage(existing_folder(request.output)).free
    if free < _LEAST_FREE:
        raise OutputError(
            f"{free / 1e9:.1f} GB are free; make room, for example by charrnn purge, or choose "
            "another folder",
            option="output",
        )
    return f"{free / 1e9:,.0f} GB free"


def _extras(request: DoctorRequest) -> str:
    there = [extra for extra, package in _EXTRAS.items() if _release(package)]
    return ", ".join(there) or "none is installed, and scoring needs none"


def _prefect(request: DoctorRequest) -> str:
    if not _release("prefect"):
        return "not installed; flows/ need it (extra flows)"
    found = {package: _release(package) for package in _TOO_NEW}
    new = [p for p, limit in _TOO_NEW.items() if _numbers(found[p]) >= limit]
    if new:
        fixed = " ".join(f"'{p}<{'.'.join(map(str, _TOO_NEW[p]))}'" for p in new)
        raise ConfigError(
            f"{', '.join(f'{p} {found[p]}' for p in new)}: Prefect does not start, or never "
            f"schedules a run; run: pip install {fixed}"
        )
    return ", ".join(f"{package} {release}" for package, release in found.items())


def _model(request: DoctorRequest) -> str:
    from charrnn.scoring.scorer import Scorer

    scorer = Scorer.load(request.model, models=request.models)
    version = scorer.version
    if scorer.score(["Nakamura"])[version.label_name][0] is None:
        raise ModelError(f"{version.name} gives a plain name no label; train it again")
    return f"{version.name} ({version.digest[:12]}), {len(version.labels)} labels"


def _release(package: str) -> str:
    """Return the installed release of a distribution, "" for none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:2])
