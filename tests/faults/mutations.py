"""Breaks each promise on purpose and sees that a named test fails: the tests of the tests.

    python tests/faults/mutations.py [WORDS]     # only mutations whose promise or text says WORDS

In a copy of the project, each mutation replaces one piece of the code; the tests named for it must
fail then, having passed without it. Exit code 1 if a mutation survives.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Mutation(NamedTuple):
    """What is broken, where, and the pytest arguments that must notice."""

    promise: str
    what: str
    path: str
    old: str
    new: str
    test: str


KILL, SEAM, FAIL = (f"tests/faults/test_{name}.py" for name in ("kill", "seam", "fail"))
RESUME, FLIPS = (f"tests/faults/test_{name}.py" for name in ("resume", "flips"))
POWER_CUT = f"{SEAM} -k power_cut"
MUTATIONS = [
    Mutation(
        "P1", "a file is renamed before it is durable", "charrnn/files.py",
        "                os.fsync(temporary.fileno())\n", "", POWER_CUT,
    ),
    Mutation(
        "P1", "a name is not made durable", "charrnn/files.py",
        "                raise\n        _sync(folder)", "                raise", POWER_CUT,
    ),
    Mutation(
        "P1", "a run is published before its folder is durable", "charrnn/files.py",
        "            _sync(opened)\n", "", POWER_CUT,
    ),
    Mutation(
        "P1", "a file is written in its place", "charrnn/files.py",
        "        name = _temporary_name(path.name, number)\n", "        name = path.name\n",
        "tests/test_files.py -k old_content_is_there",
    ),
    Mutation(
        "P1", "latest points at a run that is not there yet", "charrnn/runs/publish.py",
        "            publish_folder(staging, run)\n",
        "            swap_link(latest_link(plan.destination), f'runs/{run.name}')\n"
        "            publish_folder(staging, run)\n",
        f"{KILL} -k every_operation",
    ),
    Mutation(
        "P1", "a module writes by itself", "charrnn/runs/export.py",
        "    rows = escaped = 0\n",
        "    path.write_bytes(b'')\n    rows = escaped = 0\n",
        f"{SEAM} -k no_module",
    ),
    Mutation(
        "P2", "a run whose rows do not add up is published", "charrnn/runs/publish.py",
        "    if not plan.source.rows == rows_out == statuses.total():", "    if False:",
        "tests/runs/test_publish.py -k account_for_every_row",
    ),
    Mutation(
        "P2", "a partition loses its last row", "charrnn/runs/execute.py",
        "    table = read_groups(partition.groups, schema=plan.source.schema)\n",
        "    table = read_groups(partition.groups, schema=plan.source.schema)[:-1]\n",
        "tests/properties/test_golden_inputs.py -k sound_input_gives",
    ),
    Mutation(
        "P2", "rows come back in another order", "charrnn/runs/execute.py",
        "    table = read_groups(partition.groups, schema=plan.source.schema)\n",
        "    table = read_groups(partition.groups, schema=plan.source.schema)\n"
        "    table = table.take(list(range(len(table)))[::-1])\n",
        "tests/properties/test_metamorphic.py",
    ),
    Mutation(
        "P3", "a count that differs from the parser's is passed over",
        "charrnn/tables/csv_staging.py",
        "    elif table.rows != expected:", "    elif False:",
        "tests/tables/test_csv_staging.py -k another_count",
    ),
    Mutation(
        "P3", "line breaks in quoted cells are taken as meant", "charrnn/tables/csv_structure.py",
        "        if breaks.size and not self.multiline:", "        if False:",
        "tests/tables/test_csv_staging.py -k 'swallow or stray'",
    ),
    Mutation(
        "P3", "text behind a closing quote is read", "charrnn/tables/csv_structure.py",
        "            if piece[closing + 1 : closing + 2] and piece[closing + 1] not in edges:\n",
        "            if False:\n",
        "tests/tables/test_csv_staging.py -k 'damaged_tables or after_a_closing'",
    ),
    Mutation(
        "P3", "pages of Parquet are not checked", "charrnn/tables/row_groups.py",
        "page_checksum_verification=True", "page_checksum_verification=False",
        "tests/tables/test_source.py -k flipped_bits",
    ),
    Mutation(
        "P3", "the checksum of a staged copy is not compared", "charrnn/tables/row_groups.py",
        "zlib.crc32(content) != group.crc32", "False",
        "tests/tables/test_csv_staging.py -k flipped_bit_of_a_staged",
    ),
    Mutation(
        "P3", "text of Parquet is not validated", "charrnn/tables/row_groups.py",
        "        table.validate(full=True)\n", "", "tests/tables/test_source.py -k invalid_utf8",
    ),
    Mutation(
        "P3", "a quoted empty cell is null", "charrnn/tables/csv_staging.py",
        "quoted_strings_can_be_null=False", "quoted_strings_can_be_null=True",
        "tests/tables/test_csv_staging.py -k valid_tables",
    ),
    Mutation(
        "P4", "a changed part is reused", "charrnn/runs/parts.py",
        " and sha256_of_open(file) == receipt.sha256\n", "\n",
        "tests/runs/test_publish.py -k damaged_part",
    ),
    Mutation(
        "P4", "parts of another input are reused", "charrnn/runs/plan.py",
        "[file.name, file.size, file.sha256, ", "[file.name, file.size, ",
        "tests/runs/test_publish.py -k one_changed_byte",
    ),
    Mutation(
        "P4", "parts of another model are reused", "charrnn/runs/plan.py",
        '"model": model.digest', '"model": ""', f"{RESUME} -k change_model",
    ),
    Mutation(
        "P4", "parts under other options are reused", "charrnn/runs/plan.py",
        '"options": {**options.to_json(), **(more or {})}', '"options": {}',
        f"{RESUME} -k change_option",
    ),
    Mutation(
        "P4", "finished parts are done again", "charrnn/runs/execute.py",
        "    if finished is not None:\n        return finished\n", "",
        f"{RESUME} -k has_no_receipt",
    ),
    Mutation(
        "P4", "what was left of other work stays", "charrnn/runs/plan.py",
        "        if other != staging:", "        if False:", f"{RESUME} -k difference",
    ),
    Mutation(
        "P5", "nobody takes the lock", "charrnn/files.py",
        "                locked = _lock(file.fileno())",
        "                locked = True", "tests/test_files.py -k second_process",
    ),
    Mutation(
        "P6", "an input is not looked at again", "charrnn/runs/publish.py",
        "    check_unchanged(plan.source.files)\n", "", f"{RESUME} -k meanwhile",
    ),
    Mutation(
        "P6", "the time of a change is not looked at", "charrnn/tables/unchanged.py",
        "status.st_ctime_ns", "0", f"{RESUME} -k rewrite",
    ),
    Mutation(
        "P7", "a full disk is not explained", "charrnn/files.py",
        "        if error.errno in (errno.ENOSPC, errno.EDQUOT):", "        if False:",
        f"{FAIL} -k 'once or real'",
    ),
    Mutation(
        "P7", "a failed write leaves its temporary file", "charrnn/files.py",
        "                        os.unlink(name, dir_fd=folder)\n                raise",
        "                        pass\n                raise",
        "tests/test_files.py -k failed_write",
    ),
    Mutation(
        "P7", "a failed training leaves its folder", "charrnn/model/version.py",
        "        finally:\n            remove_tree(staging)",
        "        finally:\n            pass", "tests/model/test_version.py -k failed_save",
    ),
    Mutation(
        "P8", "the budget of rejects is not kept", "charrnn/tables/csv_staging.py",
        "    if count <= max_count:", "    if True:",
        "tests/tables/test_csv_format.py -k budget_is_over",
    ),
    Mutation(
        "P8", "a budget counts for each file alone", "charrnn/tables/csv_staging.py",
        "    max_count = allowed if isinstance(allowed, int) else allowed * (rows + count)",
        "    max_count = 2 * (allowed if isinstance(allowed, int) else allowed * (rows + count))",
        "tests/tables/test_csv_format.py -k budget_is_over",
    ),
    Mutation(
        "P8", "a row too short is read", "charrnn/tables/csv_structure.py",
        "        ragged = (fields != self.columns) & ~blank",
        "        ragged = (fields > self.columns) & ~blank",
        "tests/tables/test_csv_format.py -k left_out_with",
    ),
    Mutation(
        "P8", "a good row beside a bad one is left out", "charrnn/tables/csv_structure.py",
        "stops = np.append(edges[1::2], len(piece))",
        "stops = np.append(edges[1::2] - 1, len(piece))",
        "tests/tables/test_csv_format.py -k 'left_out_with or mutants'",
    ),
    Mutation(
        "P9", "a bug shows its message, which may hold a cell", "charrnn/errors.py",
        "unexpected {type(error).__name__} at", "unexpected {error} at",
        "tests/faults/test_unexpected.py -k 'RuntimeError and score'",
    ),
    Mutation(
        "P9", "a panic is not caught", "charrnn/cli.py",
        "    except BaseException as error:  # also", "    except Exception as error:  # also",
        "tests/faults/test_unexpected.py -k 'PanicException and score'",
    ),
    Mutation(
        "P9", "the parser's message is shown, which quotes cells", "charrnn/tables/csv_staging.py",
        "    except pa.ArrowInvalid:  # its message quotes cells\n        return None",
        "    except pa.ArrowInvalid as error:\n        structure.problem = str(error)\n"
        "        return None", "tests/tables/test_csv_staging.py -k what_the_parser_says",
    ),
    Mutation(
        "P10", "digests of a model are not compared", "charrnn/files.py",
        "digest_of(folder / name) != listed[name]", "not digest_of(folder / name)",
        f"{FLIPS} -k of_a_version",
    ),
    Mutation(
        "P10", "a model is read once more after it was proven", "charrnn/model/version.py",
        'load(content[f"{file}.safetensors"])',
        'load((path / f"{file}.safetensors").read_bytes())',
        "tests/model/test_version.py -k what_was_proven",
    ),
    Mutation(
        "P10", "weights may be no numbers", "charrnn/model/version.py",
        "            if not -_MAX_VALUE <= low <= high <= _MAX_VALUE:", "            if False:",
        "tests/model/test_version.py -k not_finite",
    ),
    Mutation(
        "P10", "weights may have another shape", "charrnn/model/version.py",
        "        if tensor.shape != shape or tensor.dtype != dtype:",
        "        if tensor.dtype != dtype:",
        "tests/model/test_version.py -k do_not_fit",
    ),
    Mutation(
        "P10", "newer formats are tried", "charrnn/model/version.py",
        "    if format_version != FORMAT_VERSION or isinstance(format_version, bool):",
        "    if format_version == 0:",
        "tests/model/test_version.py -k description",
    ),
    Mutation(
        "P10", "a pickle is opened", "charrnn/model/version.py",
        "        described = _read_description(path",
        "        if content['weights.safetensors'][:1] == b'\\x80':\n"
        "            __import__('pickle').loads(content['weights.safetensors'])\n"
        "        described = _read_description(path",
        "tests/model/test_version.py -k pickle",
    ),
    Mutation(
        "P11", "an alias may be a path", "charrnn/model/version.py",
        '_ALIAS = re.compile(r"[a-z][a-z0-9._-]{0,63}")', '_ALIAS = re.compile(r"(?s).+")',
        "tests/model/test_version.py -k bad_alias",
    ),
    Mutation(
        "P11", "a model may be a path", "charrnn/model/version.py",
        "    if target in versions:", "    if (root / target).is_dir():",
        "tests/model/test_version.py -k 'is_no_reference or leads_out'",
    ),
    Mutation(
        "P11", "a member of an archive may lead out of it", "charrnn/training/archive.py",
        'if name.startswith("/") or ".." in parts', "if False",
        "tests/training/test_corpus.py -k hostile",
    ),
    Mutation(
        "P11", "a member of an archive may be a link", "charrnn/training/archive.py",
        "if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR)", "if False",
        "tests/training/test_corpus.py -k hostile",
    ),
    Mutation(
        "P11", "an archive may unpack to any size", "charrnn/training/archive.py",
        "    if total > MAX_ARCHIVE_BYTES:", "    if False:",
        "tests/training/test_corpus.py -k unpacks_to_too_much",
    ),
    Mutation(
        "P11", "an archive may lie about its sizes", "charrnn/training/archive.py",
        "        return file.read(member.file_size)", "        return file.read()",
        "tests/training/test_corpus.py -k lies",
    ),
    Mutation(
        "P11", "a download may be redirected to any address", "charrnn/training/archive.py",
        "        _check_address(newurl)\n", "", "tests/training/test_archive.py -k redirect",
    ),
    Mutation(
        "P12", "a name is logged", "charrnn/runs/execute.py",
        "    table = read_groups(partition.groups, schema=plan.source.schema)\n",
        "    table = read_groups(partition.groups, schema=plan.source.schema)\n"
        "    __import__('logging').getLogger('charrnn').info(table[options.name_column][0])\n",
        "tests/properties/test_canary.py",
    ),
    Mutation(
        "P12", "a name is in the manifest", "charrnn/runs/plan.py",
        '"input_counts": self.source.counts,',
        '"input_counts": {**self.source.counts, sample_names(self.source, self.key.options.scoring)'
        "[0].as_py(): 1},",
        "tests/properties/test_canary.py",
    ),
    Mutation(
        "P12", "a refused input leaves its copy behind", "charrnn/runs/publish.py",
        "                    remove_tree(staging)\n            raise",
        "                    pass\n            raise",
        "tests/properties/test_canary.py",
    ),
    Mutation(
        "P12", "names that shall be left out stay", "charrnn/scoring/names.py",
        '    if policy == "keep":', '    if policy != "hash":',
        "tests/scoring/test_names.py -k omitted",
    ),
    Mutation(
        "P12", "names are hashed without the key", "charrnn/scoring/names.py",
        "hashlib.blake2b(name.encode(), key=key, digest_size=16)",
        "hashlib.blake2b(name.encode(), digest_size=16)", "tests/scoring/test_names.py -k hash",
    ),
    Mutation(
        "P12", "others can read private files", "charrnn/files.py",
        "os.umask(0o077)", "os.umask(0o022)", "tests/scoring/test_names.py -k private",
    ),
    Mutation(
        "P12", "a formula reaches the spreadsheet", "charrnn/runs/export.py",
        "                if not formulas:", "                if False:",
        "tests/runs/test_export.py",
    ),
    Mutation(
        "P12", "a bug's message reaches Prefect", "charrnn/errors.py",
        "unexpected {type(error).__name__} at", "unexpected {error} at",
        "tests/flows/test_tracking.py -k message_of_a_fault",
    ),
    Mutation(
        "P13", "the library needs Prefect", "charrnn/runs/plan.py",
        "import charrnn\n", "import charrnn\nimport prefect\n",
        "tests/properties/test_layering.py",
    ),
    Mutation(
        "P13", "a server that is away stops the work", "flows/tracking.py",
        "        return create(**arguments)\n    except Exception",
        "        return create(**arguments)\n    except ZeroDivisionError",
        "tests/flows/test_tracking.py -k away",
    ),
    Mutation(
        "P13", "an API that does not answer is taken for a bug", "flows/tracking.py",
        'startswith("Failed to reach API")', 'startswith("no such thing")',
        "tests/flows/test_tracking.py -k does_not_answer",
    ),
    Mutation(
        "P14", "a batch without room is not halved", "charrnn/model/engine.py",
        "            except torch.OutOfMemoryError:", "            except ZeroDivisionError:",
        "tests/model/test_engine.py -k room",
    ),
    Mutation(
        "P14", "a name is lost when the batch is halved", "charrnn/model/engine.py",
        "                size //= 2\n", "                size //= 2\n                first += 1\n",
        "tests/model/test_engine.py -k room",
    ),
    Mutation(
        "P14", "the size that fits is forgotten", "charrnn/model/engine.py",
        "                self._plain_size = size * longer\n", "",
        "tests/model/test_engine.py -k remembered",
    ),
    Mutation(
        "P15", "verify does not look at the digests", "charrnn/runs/verify.py",
        "    check_sums(run, DataError)\n", "", f"{FLIPS} -k of_a_run",
    ),
    Mutation(
        "P15", "verify does not count", "charrnn/runs/verify.py",
        "if value != expected[what]]", "if False]",
        "tests/runs/test_publish.py -k does_not_fit_its_parts",
    ),
    Mutation(
        "P1", "SIGTERM is ignored", "charrnn/cli.py",
        "    signal.signal(signal.SIGTERM, _terminate)",
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "tests/faults/test_unexpected.py -k 'sigterm and score'",
    ),
    Mutation(
        "P1", "Ctrl-C waits for a whole partition", "charrnn/runs/execute.py",
        "wait(unfinished, _SIGNAL_SECONDS, FIRST_COMPLETED)",
        "wait(unfinished, None, FIRST_COMPLETED)", "tests/test_cli.py -k 'stopped and ctrl-c'",
    ),
    Mutation(
        "P1", "a challenger does not stop", "charrnn/runs/comparison.py",
        "    models.challenger.stopping = models.champion.stopping", "    pass",
        "tests/test_cli.py -k stopped",
    ),
]  # fmt: skip


def failing(copy: Path, test: str) -> bool:
    """Run tests in the copy; return whether one failed.

    Raises:
        SystemExit: there is no such test, or it could not be run.
    """
    path = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "", "-p", "no:cacheprovider"]
    words = [word.strip("'") for word in re.findall(r"'[^']*'|\S+", test)]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [*path, *words], cwd=copy, env=environment, capture_output=True, text=True
    )
    if done.returncode not in (0, 1):
        sys.exit(f"pytest {test}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.returncode == 1


def main() -> None:
    """The command line."""
    wanted = " ".join(sys.argv[1:])
    chosen = [m for m in MUTATIONS if wanted in (m.promise, "") or wanted in m.what]
    survivors = 0
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "charrnn"
        left_out = shutil.ignore_patterns(".git", ".venv", "outputs", "__pycache__", ".*_cache")
        shutil.copytree(ROOT, copy, ignore=left_out)
        for test in dict.fromkeys(mutation.test for mutation in chosen):
            if failing(copy, test):
                sys.exit(f"pytest {test} fails without any mutation")
        for mutation in chosen:
            path = copy / mutation.path
            whole = path.read_text()
            if whole.count(mutation.old) != 1:
                sys.exit(f"{mutation.path} does not hold this once: {mutation.old}")
            path.write_text(whole.replace(mutation.old, mutation.new))
            caught = failing(copy, mutation.test)
            path.write_text(whole)
            survivors += not caught
            verdict = "caught  " if caught else "SURVIVES"
            line = f"{verdict} {mutation.promise:3} {mutation.what}: {mutation.test}\n"
            sys.stdout.write(line)
            sys.stdout.flush()
    sys.stdout.write(f"{len(chosen)} mutations, {survivors} survive\n")
    sys.exit(survivors > 0)


if __name__ == "__main__":
    main()
