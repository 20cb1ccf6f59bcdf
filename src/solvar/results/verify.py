"""Is a run folder whole, of one run, and made from the files that are still there?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from solvar.errors import InputError
from solvar.files import Ledger, read_json
from solvar.progress import Progress
from solvar.results.hdf5 import opened
from solvar.results.inputs import change_of
from solvar.results.run import Run
from solvar.volume_file import run_id_of


@dataclass(frozen=True)
class Finding:
    """What was found out about one file.

    Attributes
    ----------
    kind : str
        "file" for one of the run folder, "input" for one that the run read.
    path : Path
    problem : str or None
        Words that follow the name of the file; None if all is well.
    """

    kind: str
    path: Path
    problem: str | None


def verify(run: Run, progress: Progress) -> list[Finding]:
    """Compare every file of a run with what was noted when it was written or read.

    Each file that solvar wrote must be there with the bytes it had and belong to this run; each input must
    hold what it held. Files that solvar did not write are not looked at.

    Raises
    ------
    InputError
        If there is no manifest, or it is damaged.
    """
    ledger = Ledger.read(run.folder)
    if "run.json" not in ledger.files:
        raise InputError(
            "has no manifest of this run, so nothing can be verified",
            file=run.folder,
            remedy="restore manifest.json, or repeat the run",
        )
    found = []
    with progress.step("Verifying", len(ledger.files) + len(run.inputs), "files") as step:
        for name in ledger.files:
            problem = ledger.problem_of(name) or _mixed(run, name)
            found.append(Finding("file", run.folder / name, problem))
            step.advance()
        for before in run.inputs:
            found.append(Finding("input", Path(before.path), change_of(before)))
            step.advance()
    return found


def _mixed(run: Run, name: str) -> str | None:
    """What is wrong if a file says that it belongs to another run; None if it says nothing or this one."""
    try:
        others = [said for said in _identities(run.folder, name) if said != run.run_id]
    except InputError as error:
        return error.problem
    return "belongs to another run" if others else None


def _identities(folder: Path, name: str) -> Iterator[object]:
    """Identities of runs that a whole file of ours names."""
    if name.endswith(".mrc"):
        said = run_id_of(folder / name, folder)
        yield from [] if said is None else [said]
    elif name.endswith(".h5"):
        with opened(folder, name) as file:
            yield file.attribute("run_id").tolist()
    elif name.endswith(".json"):
        content = read_json(folder, name)
        if isinstance(content, dict) and "run_id" in content:
            yield content["run_id"]
