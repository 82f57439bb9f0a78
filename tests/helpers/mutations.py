"""Damage for fuzz tests of the doors: bytes of a file, and places in plain data, changed at random."""

import json
import math
import random
from typing import Any

VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2, 3, 7, 257, 2**20, 2**31, 2**40, 2**63, 10**400, 0.5, 1e308, math.nan, math.inf),
    *("", "x", "weight", "head.weight", "torch.ops.aten.relu.default", "aten.zeros.default", "layer:head"),
    *([], [0], {}, [[]], {"as_int": 2**40}, {"as_none": True}, {"value": "x"}, {"tensor": "head.weight"}),
)


def damaged(data: bytes, draw: random.Random) -> bytes:
    """The data with one to three places flipped, cut, doubled or made up."""
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 3))):
        place, length = draw.randrange(len(changed) + 1), draw.choice((1, 1, 2, 4, 8, 40))
        match draw.randrange(6):
            case 0:
                del changed[place : place + length]
            case 1:
                changed[place:place] = draw.randbytes(length)
            case 2:
                changed[place : place + length] = draw.choice((b"\0", b"\xff")) * length
            case 3 if draw.random() < 0.2:
                del changed[place:]
            case _ if changed:
                changed[place % len(changed)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def mutated(value: Any, draw: random.Random, values: tuple[Any, ...] = VALUES, deeper: float = 0.9) -> Any:
    """A copy of plain data with one place in it changed. values: what may stand there. deeper: how likely it is to be
    within what lies at a place, and not that place."""
    value = json.loads(json.dumps(value))
    node, path = value, []
    while isinstance(node, (dict, list)) and node and (not path or draw.random() < deeper):
        key = draw.choice(list(node)) if isinstance(node, dict) else draw.randrange(len(node))
        path.append((node, key))
        node = node[key]
    parent, key = path[-1]
    match draw.randrange(5):
        case 0 if isinstance(parent, list):
            parent.insert(key, draw.choice(parent))
        case 1:
            del parent[key]
        case 2 if isinstance(node, int):
            parent[key] = node + draw.choice((-1, 1, 4096))
        case _:
            parent[key] = draw.choice(values)
    return value
