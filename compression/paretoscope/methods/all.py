"""Every method on weights, imported so that it registers itself; within a stage they run in this order."""

from paretoscope.methods import binarize, dependent, gptq, groups, prune, quantize, share

__all__ = ["binarize", "dependent", "gptq", "groups", "prune", "quantize", "share"]
