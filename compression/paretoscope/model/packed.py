"""A compressed state dict without an architecture."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from paretoscope.base.errors import ModelError
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.tensors import Plain

# Types of safetensors that are held in another one: narrow and wide floats as the float32 that weights are, 8-bit
# floats as their bit patterns.
_FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}

_PATTERNS = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}

DTYPES = {**_FLOATS, **_PATTERNS}


@dataclass(frozen=True, eq=False)
class PackedModel(CompressedModel):
    """A compressed state dict without an architecture: it decodes to tensors, and not to a module.

    dtypes: of the tensors that are held in another type, safetensors' names of their own; a key of DTYPES each.
    metadata: of the safetensors file that it was.
    """

    dtypes: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    def build(self) -> torch.nn.Module:
        raise ModelError(
            "a network is built from an architecture; this file was packed from weights alone and names none. "
            "Unpack it and load the weights into the network that they are of."
        )

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The tensors by name, of the type that it was packed from; values beyond its range become its ends."""
        return {name: self.restored(name) for name in self.order}

    def restored(self, name: str) -> torch.Tensor:
        """One tensor, of the type that it was packed from."""
        name = self.ties.get(name, name)
        dtype, held = self.dtypes.get(name), self.rest.get(name)
        if dtype == "F16" and isinstance(held, Plain) and held.values.dtype == np.float16:
            return torch.tensor(held.values)
        values = torch.tensor(self.decode(name))
        if dtype in _PATTERNS:
            return values.view(_PATTERNS[dtype])
        if isinstance(self._tensor(name), Plain):  # infinities were written, too
            return _to_brain(values) if dtype == "BF16" else values if dtype is None else values.to(_FLOATS[dtype])
        if dtype in ("F16", "BF16"):
            values = values.clamp(*(torch.finfo(_FLOATS[dtype]).max * sign for sign in (-1, 1)))
        return _to_brain(values) if dtype == "BF16" else values if dtype is None else values.to(_FLOATS[dtype])


def _to_brain(values: torch.Tensor) -> torch.Tensor:
    """float32 rounded to the nearest bfloat16, ties to even; patterns that fit keep their bits, NaN included."""
    bits = values.numpy().view(np.uint32)
    rounded = (bits + (bits >> np.uint32(16) & np.uint32(1)) + np.uint32(0x7FFF)) >> np.uint32(16)
    return torch.from_numpy(np.asarray(rounded, np.uint16)).view(torch.bfloat16)
