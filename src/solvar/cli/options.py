"""Turn settings models into command-line options, and failures into sentences with an exit code."""

from __future__ import annotations

import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from solvar.cli.signals import Terminated
from solvar.errors import InputError, SolvarError
from solvar.paths import is_utf8, require_utf8
from solvar.text import visible

if TYPE_CHECKING:
    from solvar.particles import ParticleSet

# Spellings beside the one that follows from the name of the field.
_ALSO = {
    "rank": ("--zdim", "-r"),
    "pixel_size": ("--apix",),
    "voxel_size": ("--apix",),
    "particles": ("-n",),
}


class ReadingOptions(BaseModel):
    """How particle files are read; shared by every command that takes PARTICLES."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    datadir: Path | None = Field(
        None, description="Folder in which image stacks are looked for first."
    )
    strip_prefix: str | None = Field(
        None, description="Leading part to remove from the stack paths in the file."
    )
    ind: Path | None = Field(
        None, description="Selection of rows, zero-based (.pkl, .npy or .txt)."
    )
    poses: Path | None = Field(None, description="Poses of a cryoDRGN project (poses.pkl).")
    ctf: Path | None = Field(None, description="CTF of a cryoDRGN project (ctf.pkl).")
    tomograms: Path | None = Field(
        None,
        description="Star file of the tomograms that the particles are of; without it the one beside them.",
    )
    passthrough: list[Path] = Field(
        [], description="cryoSPARC passthrough file to merge by uid (.cs); may be repeated."
    )

    pixel_size: float | None = Field(
        None, description="Pixel size of the images in Å, where the file has none."
    )
    voltage: float | None = Field(None, description="Voltage in kV, where the file has none.")
    cs: float | None = Field(
        None, description="Spherical aberration in mm, where the file has none."
    )
    amplitude_contrast: float | None = Field(
        None, description="Amplitude contrast (a fraction of 1), where the file has none."
    )
    tilts: int | None = Field(
        None, ge=1, description="Of tilt series the first exposures alone: how many, by dose."
    )
    dose: float | None = Field(
        None, ge=0, description="Of tilt series the images up to this dose before them, e/Å²."
    )

    @property
    def given(self) -> dict[str, Any]:
        """Everything but the selection of rows, as keyword arguments of `read_particles`."""
        return self.model_dump(exclude={"ind"})

    def read(self, path: Path, ignore_poses: bool = False) -> ParticleSet:
        """The particles of `path`, read with these options; poses perhaps left unread."""
        from solvar.particles import read_particles

        return read_particles(path, ind=self.ind, ignore_poses=ignore_poses, **self.given)


def command(body: Callable[..., Any]) -> Callable[..., Any]:
    """Make a command of `body`: settings become options, failures become one sentence.

    A parameter of `body` that is annotated with a pydantic model is replaced by one option per
    field of that model, with the field's default and description; ``--debug`` is added.
    """
    hints = get_type_hints(body, include_extras=True)
    models = {
        name: hint
        for name, hint in hints.items()
        if inspect.isclass(hint) and issubclass(hint, BaseModel)
    }
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(body).parameters.items():
        if name in models:
            parameters += _options_of(models[name])
        else:
            parameters.append(_keyword(name, hints[name], parameter.default))
    debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]
    parameters.append(_keyword("debug", debug, False))

    @functools.wraps(body)
    def run(debug: bool, **values: Any) -> None:
        with failures_explained(debug):
            require_utf8(*_names(values))
            for name, model in models.items():
                fields = {
                    field: values.pop(field) for field in model.model_fields if field in values
                }
                values[name] = validated(model, fields)
            body(**values)

    # Typer reads both; __wrapped__ would lead it back to the signature of `body`.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


def _names(values: dict[str, Any]) -> Iterator[Path | str]:
    """Every path that was given, and words that cannot be written down."""
    for value in values.values():
        for name in value if isinstance(value, list | tuple) else [value]:
            if isinstance(name, Path) or (isinstance(name, str) and not is_utf8(name)):
                yield name


def _options_of(model: type[BaseModel]) -> Iterator[inspect.Parameter]:
    for name, field in model.model_fields.items():
        if _is_fixed(field.annotation):
            continue
        flag = option_name(name)
        if field.annotation in (bool, bool | None):
            spellings = [f"{flag}/--no-{flag[2:]}"]
        else:
            # in `solvar volume`, --apix is the voxel size of the volumes
            spellings = [flag, *(() if model is ReadingOptions else _ALSO.get(name, ()))]
        option = typer.Option(*spellings, help=field.description, rich_help_panel=_panel(model))
        yield _keyword(name, Annotated[_typed(field.annotation), option], field.default)


def _is_fixed(annotation: Any) -> bool:
    """Whether a field has one value: the command has chosen it."""
    return get_origin(annotation) is Literal and len(get_args(annotation)) == 1


def _typed(annotation: Any) -> Any:
    """The type as Typer can read it: a number or a word comes as text, which pydantic sorts out."""
    words = [part for part in get_args(annotation) if get_origin(part) is Literal]
    return str if words else annotation


def _panel(model: type[BaseModel]) -> str:
    return "Reading the particles" if model is ReadingOptions else "Settings"


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation
    )


def option_name(field: str) -> str:
    """Spelling of a settings field on the command line."""
    return "--" + field.replace("_", "-")


def spelled(model: BaseModel) -> list[str | Path]:
    """The options that give a settings model its values; those at their defaults are left out."""
    words: list[str | Path] = []
    for name, field in type(model).model_fields.items():
        value, flag = getattr(model, name), option_name(name)
        if value is None or value == field.default:
            continue
        if isinstance(value, bool):
            words.append(flag if value else f"--no-{flag[2:]}")
            continue
        for one in value if isinstance(value, list) else [value]:
            words += [flag, one if isinstance(one, Path) else str(one)]
    return words


def validated(model: type[BaseModel], values: dict[str, Any]) -> Any:
    """Build `model`, or raise an InputError that names the first option that does not fit."""
    try:
        return model(**values)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        if not first["loc"]:
            raise InputError(message, remedy="see --help") from None
        name = option_name(str(first["loc"][0]))
        message = message[0].lower() + message[1:]
        raise InputError(
            f"{name} {first['input']}: {message}", remedy="see --help for what is allowed"
        ) from None


@contextmanager
def failures_explained(debug: bool = False) -> Iterator[None]:
    """End the program with one sentence and exit code 2 (bad input), 1 (failed) or 130 (stopped).

    With `debug`, exceptions keep their traceback.
    """
    try:
        yield
    except SolvarError as error:
        _leave(_in_options(error), error.exit_code, debug)
    except Terminated:
        _leave("Stopped on request; run again with --resume to go on.", 143, debug=False)
    except KeyboardInterrupt:
        _leave("Stopped; a run goes on with --resume.", 130, debug=False)
    except MemoryError:
        _leave("There is not enough memory; try --downsample or a lower --rank.", 1, debug)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _leave(f"{where}{error.strerror or error}.", 1, debug)
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        _leave(_unexpected(error), 1, debug)


def _unexpected(error: Exception) -> str:
    text = str(error).strip().splitlines()
    detail = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    if "can't start new thread" in detail:
        return "The system allows no more threads (`ulimit -u`); pass fewer --threads."
    return f"Unexpected failure ({detail}); run with --debug and report the traceback."


def _in_options(error: SolvarError) -> str:
    """The sentence of an error; a setting is named as the option that the user typed."""
    from solvar.fitting.settings import FitSettings

    column = getattr(error, "column", None)
    if column in FitSettings.model_fields:
        return str(error).replace(f"column {column}", option_name(column), 1)
    return str(error)


def _leave(sentence: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc(file=sys.stderr)
    else:
        print(f"solvar: {visible(sentence)}", file=sys.stderr)
    raise typer.Exit(code)
