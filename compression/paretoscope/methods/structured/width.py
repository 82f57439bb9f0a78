"""How many channels of a group stay."""

import math

# Kernels work on blocks of 8 or 16 channels and fall back to slow ones for other widths. Measured in ONNX Runtime with
# AVX-512: MobileNetV2 without 20 % of its channels takes twice the time of the whole network, but 0.95 of it in blocks.
BLOCK = 8


def width(channels: int, fraction: float, heads: int = 1, each: int = 1) -> int:
    """How many of so many channels stay: the multiple of `heads` and of the block that is nearest to what is asked for.

    The block is 8, or the largest divisor that it has in common with the number of channels. Where not even one block
    should stay, the multiple of `heads` that is next above, at least one. each: channels that one of them stands for,
    such as those of a head of attention.
    """
    asked = (1 - fraction) * channels
    block = math.lcm(math.gcd(channels, BLOCK // math.gcd(BLOCK, each)), heads)
    return math.floor(asked / block + 0.5) * block or max(1, math.ceil(asked / heads)) * heads
