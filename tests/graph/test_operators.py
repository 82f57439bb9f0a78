"""The allow-list: what is on it exists in PyTorch and is pure."""

import operator

import pytest
import torch
from paretoscope.base.errors import ModelError
from paretoscope.graph.operators import MAKERS, OPERATORS, WITH_WEIGHTS, function_of

ATEN = [name for name in OPERATORS if name.startswith("aten.")]
# Tagged as random for a dropout that is left out here.
WITHOUT_DROPOUT = {
    "aten.dropout.default",
    "aten.feature_dropout.default",
    "aten.scaled_dot_product_attention.default",
}


def overload(name: str) -> torch._ops.OpOverload:
    _, packet, leaf = name.split(".")
    return getattr(getattr(torch.ops.aten, packet), leaf)


@pytest.mark.parametrize("name", ATEN)
def test_each_exists_changes_nothing_and_draws_nothing(name: str) -> None:
    found = overload(name)
    assert str(found) == name
    assert not found._schema.is_mutable
    drawn = torch.Tag.nondeterministic_seeded in found.tags
    assert not drawn or name in WITHOUT_DROPOUT


def test_the_others_are_arithmetic_on_sizes() -> None:
    others = set(OPERATORS) - set(ATEN)
    assert others and all(name.startswith("operator.") and hasattr(operator, name[9:]) for name in others)
    assert {name for name in others if name[9:].startswith("i") or "set" in name or "del" in name} == set()


def test_dropout_is_left_out_however_it_is_called() -> None:
    x = torch.ones(64)
    assert torch.equal(OPERATORS["aten.dropout.default"](x, 0.9, True), x)
    q = torch.ones(1, 1, 4, 8)
    attention = OPERATORS["aten.scaled_dot_product_attention.default"]
    assert torch.equal(attention(q, q, q, None, 0.9), attention(q, q, q))


def test_what_makes_tensors_from_numbers_is_known() -> None:
    made = {name for name in ATEN if not any("Tensor" in str(a.type) for a in overload(name)._schema.arguments)}
    assert made - {"aten.scalar_tensor.default"} <= set(MAKERS)
    assert set(MAKERS) <= set(OPERATORS) and set(OPERATORS) >= WITH_WEIGHTS


@pytest.mark.parametrize("name", ["aten.add_.Tensor", "aten.rand.default", "aten.nonzero.default", "os.system", ""])
def test_others_are_refused_with_their_place(name: str) -> None:
    with pytest.raises(ModelError, match=r"at body\.3"):
        function_of(name, "body.3")
