"""Residual blocks of an ordinary module: parts whose output is their own input plus something, found by following it.

Only sums that a part makes itself count: a stage of blocks is none, though its input reaches its output over theirs.
Batches of one sample shape are not needed: the forward pass is traced.
"""

from typing import Any

from torch import fx, nn

from paretoscope.base.tracing import TRACING, Tracer

_SUMS = ("add", "add_", "iadd")
_ACTIVATIONS = ("relu", "relu_")


def residual(module: nn.Module) -> tuple[str, ...]:
    """Names of the parts that can be left out, in the order of `named_modules`; none where it cannot be traced."""
    watcher = _Watcher()
    try:
        with TRACING:
            watcher.trace(module)
    except Exception:  # whatever a forward pass does with a proxy in place of a tensor
        return ()
    return tuple(name for name, _ in module.named_modules() if name and name in watcher.found)


class _Watcher(Tracer):
    """Follows a forward pass into every part that is no layer of PyTorch's."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()
        self._inside: list[str] = []
        self._made_in: dict[fx.Node, str] = {}

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        if isinstance(m, (nn.Identity, nn.Dropout)) and args:
            return args[0]
        self._inside.append(self.path_of_module(m))
        try:
            result = super().call_module(m, forward, args, kwargs)
        finally:
            path = self._inside.pop()
        proxies = bool(args) and isinstance(args[0], fx.Proxy) and isinstance(result, fx.Proxy)
        if proxies and result.node is not args[0].node and self._reaches(result.node, args[0].node, path):
            self.found.add(path)
        return result

    def create_node(self, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(*args, **kwargs)
        self._made_in[node] = self._inside[-1] if self._inside else ""
        return node

    def _reaches(self, node: fx.Node, goal: fx.Node, path: str) -> bool:
        """Whether a value is the goal plus something, by sums that were made in that part, perhaps through ReLU."""
        if node is goal:
            return True
        if _is(node, _ACTIVATIONS) or self._is_activation(node):
            return self._sum_reaches(node.args[0], goal, path)
        return self._sum_reaches(node, goal, path)

    def _sum_reaches(self, node: Any, goal: fx.Node, path: str) -> bool:
        if not isinstance(node, fx.Node) or not _is(node, _SUMS) or self._made_in[node] != path:
            return False
        terms = [each for each in node.args if isinstance(each, fx.Node)]
        return any(each is goal or self._sum_reaches(each, goal, path) for each in terms)

    def _is_activation(self, node: fx.Node) -> bool:
        return node.op == "call_module" and isinstance(self.root.get_submodule(str(node.target)), nn.ReLU)


def _is(node: fx.Node, names: tuple[str, ...]) -> bool:
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return node.op in ("call_function", "call_method") and name in names
