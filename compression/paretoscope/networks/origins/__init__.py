"""Origins: what networks are opened from, one file each. A module of this folder that has `ORIGINS` adds them: nothing
else names it. They import what they need when they open something, so that a list of them takes no time."""

import importlib
import pkgutil
from pathlib import Path

from paretoscope.base.errors import ModelError
from paretoscope.base.files import nameable
from paretoscope.base.registry import Registry
from paretoscope.base.text import shown
from paretoscope.networks.origins.origin import RANDOM, Opened, Options, Origin, suffixed

__all__ = ["RANDOM", "Opened", "Options", "Origin", "find_origin", "origins"]

# Files that hold a state dict alone.
WEIGHTS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")


def _declared() -> list[Origin]:
    modules = (importlib.import_module(f"{__name__}.{each.name}") for each in pkgutil.iter_modules(__path__))
    found: list[Origin] = [each for module in modules for each in getattr(module, "ORIGINS", ())]
    return sorted(found, key=lambda each: each.place)


origins: Registry[Origin] = Registry("origin", _declared)


def find_origin(text: str) -> Origin:
    """The origin that a source is meant for; raises ModelError, which tells all forms."""
    if not nameable(text):
        raise ModelError(f"a source must be a name that a file can have; {shown(text)} is too long or holds a null.")
    for each in origins:
        if each.takes(text):
            return each
    if suffixed(text, *WEIGHTS):
        raise ModelError(
            f"a network is more than its weights, and {shown(Path(text).name)} holds these alone. Name the network, "
            "e.g. torchvision:NAME with this file as its weights (--weights FILE), or export the network as a .pt2."
        )
    forms = ", ".join(each.form for each in origins)
    raise ModelError(f"the source of a network must be one of {forms}; got {shown(text)}. Give one of these.")
