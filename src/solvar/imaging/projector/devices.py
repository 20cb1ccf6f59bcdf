"""Which backend computes on which device, from what the user said."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from solvar.errors import InputError
from solvar.parallel import own_device

if TYPE_CHECKING:
    import torch

DEVICE_NAMES = "cpu, cuda, cuda:1 … or auto"
_KNOWN = re.compile(r"auto|cpu|cuda(:\d+)?")


def complaint(device: str) -> str | None:
    """What is wrong with the name of a device, if anything; whether it exists is not asked."""
    if device.split(":")[0] == "mps":
        return (
            "the GPUs of Apple (mps) know no float64, in which sums over pixels are kept; use cpu"
        )
    if not _KNOWN.fullmatch(device):
        return f"there is no such device; choose one of {DEVICE_NAMES}"
    return None


def resolve(
    backend: str, device: str | None, families: dict[str, tuple[str, ...]]
) -> tuple[str, str]:
    """Name of the backend, and device as torch spells it.

    Parameters
    ----------
    backend : str
        A key of `families`, or "auto": "numba" on the CPU, "torch" elsewhere.
    device : str or None
        "auto" is a GPU where torch finds one and the backend runs there. None is the CPU where the
        backend runs there: nobody gets a GPU without asking.
    families : dict
        Kinds of devices ("cpu", "cuda") that each backend runs on, the usual one first.

    Raises
    ------
    InputError
        When the backend does not run on the device, or the device has no such name.
    """
    if device is not None and (problem := complaint(device)):
        raise InputError(f"{device}: {problem}", column="device")
    allowed = ("cpu", "cuda") if backend == "auto" else families[backend]
    if device is None:
        device = allowed[0]
    elif device == "auto":
        device = "cuda" if "cuda" in allowed and (allowed[0] == "cuda" or _has_cuda()) else "cpu"
    kind = device.split(":")[0]
    if kind not in allowed:
        able = [name for name, kinds in families.items() if kind in kinds]
        raise InputError(
            f"{backend} does not run on {device}",
            column="backend",
            remedy=f"choose {' or '.join(able)}, or leave --backend out",
        )
    if backend == "auto":
        backend = "numba" if kind == "cpu" else "torch"
    return backend, device


def _has_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


def existing_device(name: str) -> torch.device:
    """The device of torch; of several GPUs each process of a job takes its own.

    Raises
    ------
    InputError
        When it does not exist here.
    """
    import torch

    name = own_device(name)
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError):
        cuda = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise InputError(
            f"torch finds no device {name!r} on this machine",
            column="device",
            remedy=f"choose one of {', '.join(['cpu', *cuda])}",
        ) from None
