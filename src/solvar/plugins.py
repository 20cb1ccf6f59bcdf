"""What other installed distributions add by entry points: formats, backends, objectives and more.

A distribution says in its pyproject.toml what it adds under which name,

    [project.entry-points."solvar.objectives"]
    robust = "their_package:ROBUST"

and the name works wherever a built-in one does. Nobody is asked before a name is wanted that is not built
in, nothing of a plug-in is imported before it is used, and one that is broken is told in a sentence. Built-in
names are looked up first: no distribution can take one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from solvar.errors import InputError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """A kind of things that can be added.

    Attributes
    ----------
    name : str
        Of the group of entry points.
    what : str
        One such thing in a sentence.
    needs : tuple of str
        Attributes that it must have.
    """

    name: str
    what: str
    needs: tuple[str, ...]


FORMATS = Group("solvar.formats", "particle format", ("recognises", "read"))
PROJECTORS = Group("solvar.projectors", "backend", ("devices", "make"))
OBJECTIVES = Group("solvar.objectives", "objective", ("gradient",))
POSE_SOLVERS = Group("solvar.pose_solvers", "pose solver", ("steps", "start", "improve"))
VOLUME_METHODS = Group("solvar.volume_methods", "method", ("__call__",))
GROUPS = (FORMATS, PROJECTORS, OBJECTIVES, POSE_SOLVERS, VOLUME_METHODS)

# Names become words of a command line and parts of file names.
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Plugin:
    """Something that a distribution adds; nothing of it is imported yet."""

    group: Group
    name: str
    distribution: str
    entry: EntryPoint

    def load(self) -> Any:
        """The thing itself.

        Raises
        ------
        InputError
            If it cannot be imported, or is no such thing.
        """
        try:
            found = self.entry.load()
        except (Exception, SystemExit) as error:
            raise self.broken(f"cannot be loaded ({type(error).__name__}: {error})") from error
        lacking = [name for name in self.group.needs if not hasattr(found, name)]
        if lacking:
            raise self.broken(f"is no {self.group.what}: it has no {' and no '.join(lacking)}")
        return found

    def broken(self, problem: str) -> InputError:
        """What to tell of a plug-in that does not work."""
        return InputError(
            f"the plug-in '{self.name}' of {self.distribution} {problem}",
            remedy=f"mend or remove {self.distribution}",
        )


def plugins(group: Group) -> list[Plugin]:
    """What distributions add to a group, in the order in which Python finds them.

    A distribution that is damaged adds nothing; one that is on the path twice counts once, as in `pip`.
    """
    from importlib import metadata

    found, seen = [], set()
    for distribution in metadata.distributions():
        try:
            name = str(distribution.metadata["Name"])
            entries = [] if name in seen else list(distribution.entry_points)
        except Exception:  # whatever the files of other packages lead to
            continue
        seen.add(name)
        found += [
            Plugin(group, entry.name, name, entry)
            for entry in entries
            if entry.group == group.name and _NAME.fullmatch(entry.name)
        ]
    return found


def names(group: Group, built_in: Iterable[str]) -> list[str]:
    """All names of a group that can be chosen, built-in ones first."""
    return list(dict.fromkeys([*built_in, *(plugin.name for plugin in plugins(group))]))


def known(group: Group, name: str, built_in: Iterable[str]) -> str:
    """`name`, if there is such a thing, built in or added; nothing is imported.

    Raises
    ------
    ValueError
        If there is none.
    """
    built_in = tuple(built_in)
    if name in built_in or name in (choices := names(group, built_in)):
        return name
    raise ValueError(f"there is no such {group.what}; choose one of {', '.join(choices)}")


def well_formed(name: str) -> str:
    """`name`, if something could be called so.

    Raises
    ------
    ValueError
        If nothing could.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("nothing is called so")
    return name


def load(group: Group, name: str) -> Any:
    """What a distribution adds under a name that is not built in.

    Raises
    ------
    InputError
        If none does, several do, or it does not work.
    """
    found = [plugin for plugin in plugins(group) if plugin.name == name]
    if not found:
        raise InputError(
            f"there is no {group.what} '{name}'", remedy="install the package that adds it"
        )
    if len(found) > 1:
        owners = " and ".join(plugin.distribution for plugin in found)
        raise InputError(
            f"{owners} all add the {group.what} '{name}'", remedy="remove all but one of them"
        )
    return found[0].load()


class Choices(Generic[T]):
    """Things by name: the built-in ones of a group, then what distributions add.

    Parameters
    ----------
    group : Group
    built_in : dict
    """

    def __init__(self, group: Group, built_in: Mapping[str, T]) -> None:
        self.group, self.built_in = group, dict(built_in)

    def __getitem__(self, name: str) -> T:
        """The thing of a name; InputError as `load`."""
        if name in self.built_in:
            return self.built_in[name]
        added: T = load(self.group, name)
        return added

    def __iter__(self) -> Iterator[str]:
        """The built-in names."""
        return iter(self.built_in)
