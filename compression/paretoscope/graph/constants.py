"""Constants of a program: what depends on neither inputs nor parameters, such as masks, is computed at import."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from paretoscope.base.errors import ModelError
from paretoscope.base.text import reason
from paretoscope.graph.operators import OPERATORS, WITH_WEIGHTS, function_of
from paretoscope.graph.program import first_node, operator_name, place_of, without_change

# What makes tensors from sizes alone; its first argument tells the type.
_LIKE = ("aten.new_zeros.default", "aten.new_ones.default", "aten.new_full.default")
# What makes tensors from numbers.
_CREATES = ("zeros", "ones", "full", "arange", "scalar_tensor")
# What may be computed beside the operators of networks: it fills tensors that are constants.
_FILLS = (
    "aten.fill_.Tensor",
    "aten.fill_.Scalar",
    "aten.copy_.default",
    "aten.zero_.default",
    "aten.index_put_.default",
)
# What constants may have, each and all together: more is no mask or table of positions. Chosen by hand.
MOST_NUMBERS = 1 << 26


class Constants:
    """Values by node. They may be read like a mapping, and `take` adds to them."""

    def __init__(self, values: Mapping[fx.Node, Any]) -> None:
        self._values = dict(values)
        self._left = MOST_NUMBERS

    def __contains__(self, node: fx.Node) -> bool:
        return node in self._values

    def __getitem__(self, node: fx.Node) -> Any:
        return self._values[node]

    def take(self, node: fx.Node) -> bool:
        """Compute a call of which all inputs are constants; False for another. Raises ModelError."""
        name = operator_name(node.target)
        if not self._is_constant(node, name):
            return False
        self._values[node] = self._computed(node, name)
        if without_change(name)[1]:
            self._values[first_node(node)] = self._values[node]
        return True

    def _is_constant(self, node: fx.Node, name: str) -> bool:
        inputs = node.all_input_nodes
        if name in WITH_WEIGHTS:
            return False
        if name in _LIKE:
            inputs = [each for each in inputs if each is not node.args[0]]
        elif not inputs and not name.startswith("aten."):
            return False
        creates = name in _LIKE or name.split(".")[1] in _CREATES
        return all(each in self._values for each in inputs) and (bool(inputs) or creates)

    def _computed(self, node: fx.Node, name: str) -> Any:
        """What a call gives, of operators that are allowed or fill tensors; its size is looked at first."""
        plain, _ = without_change(name)
        where = place_of(node)
        if plain not in OPERATORS and name not in _FILLS:
            function_of(plain, where)
        try:
            with torch.device("meta"), torch.no_grad():
                sketch = self._evaluated(node, name, lambda t: t.to("meta"))
            size = sum(
                each.numel()
                for each in (sketch if isinstance(sketch, (list, tuple)) else [sketch])
                if isinstance(each, Tensor)
            )
            self._left -= size
            if self._left < 0:
                raise ModelError(
                    f"the constants of a network may have {MOST_NUMBERS:,} numbers; with {name} at {where} they have "
                    "more. Make them parameters or buffers of the module."
                )
            with torch.no_grad():
                return self._evaluated(node, name, lambda t: t)
        except ModelError:
            raise
        except Exception as error:  # PyTorch's errors have no common base
            raise ModelError(
                f"constants must be computable; {name} at {where} is not ({reason(error, 200)}). "
                "Make its result a buffer of the module."
            ) from None

    def _evaluated(self, node: fx.Node, name: str, moved: Any) -> Any:
        values = {
            each: moved(value) if isinstance(value := self._values[each], Tensor) else value
            for each in node.all_input_nodes
            if each in self._values
        }
        args: Any = fx.map_arg(node.args, lambda each: values.get(each))
        kwargs: Any = fx.map_arg(node.kwargs, lambda each: values.get(each))
        kwargs = {key: value for key, value in kwargs.items() if key not in ("device", "pin_memory")}
        if name in _LIKE:
            kwargs.setdefault("dtype", first_node(node).meta["val"].dtype)
            args = (torch.empty(0), *args[1:])
        function: Any = node.target
        return function(*args, **kwargs)
