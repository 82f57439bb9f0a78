"""Tracing beside other threads: PyTorch patches `nn.Module` for the whole process while it follows a forward pass."""

import threading
from typing import Any

from torch import fx, nn

# Two at once would undo each other's patches in the wrong order.
TRACING = threading.Lock()


class Tracer(fx.Tracer):
    """Follows the calls of its own thread; those of others go on as if nothing was patched."""

    def __init__(self) -> None:
        super().__init__()
        self._thread = threading.get_ident()

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: Any) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


def traced(module: nn.Module) -> fx.Graph:
    """The graph of a module's forward pass; raises what that raises when it gets proxies for tensors."""
    with TRACING:
        return Tracer().trace(module)
