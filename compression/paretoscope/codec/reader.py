"""Reads a .psc file with NumPy and constriction alone: python reader.py FILE.psc OUT.npz

Written from FORMAT.md and apart from the program that writes such files: a second opinion on what is in them. It
repeats facts of the writer (the dictionary, tables, limits) on purpose, because a reader that took them from the writer
could not find the writer's mistakes; tests compare the two. It is one long file because every exported bundle carries
a copy, which has to run by itself. OUT.npz holds every tensor by its name as it is evaluated: weights and 16-bit
floats as float32, everything else as it is.
"""

import json
import math
import re
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import constriction
import numpy as np

MAGIC, VERSION = b"\x89PSC\r\n\x1a\n", 2
DICTIONARY = (
    b'"F8_E4M3"],"F8_E5M2"],"F64"],"F16"],["lm_head.model.layers.10.self_attn.q_proj.k_proj.v_proj.o_proj.gate_proj.up'
    b"_proj.down_proj.input_layernorm.post_attention_layernorm.embed_tokens.transformer.h.0.attn.c_attn.c_proj.c_fc.di"
    b"stilbert.roberta.bert.encoder.layer.0.attention.self.query.key.value.output.dense.LayerNorm.intermediate.pooler."
    b"embeddings.word_embeddings.position_embeddings.token_type_embeddings.decoder.text_model.vision_model.logit_scale"
    b"downsample.0.layer1.0.layer2.0.layer3.0.layer4.0.blocks.0.norm1.norm2.mlp.attn.qkv.proj.cls_token.pos_embedheads"
    b'.head.class_token","f4",[1,1,192]],["encoder.pos_embedding.conv_proj.encoder.layers.encoder_layer_0.ln_1.self_at'
    b"tention.in_proj_weight.in_proj_bias.out_proj.ln_2.mlp.0.linear_1.linear_2.encoder.ln.classifier.1.features.18.0."
    b'features.1.conv.0.0.bias","rq16tp",[144]],["features.2.conv.1.0.weight","d12cp",[144,1,3,3]],["features.1.conv.2'
    b'.weight","d12cp",[144,24,1,1]],[960,160,320,1280],"structure":{"dropped":[],"folded":[["],"merged":[["],"factore'
    b'd":[["],"ties":[[1,""simplify":{"fold":true},"repair":{"rounding":"gptq","bias":true,"batchnorm":true},"keep_end'
    b's":true,"overrides":[{"layers":"conv1*","bits":"simplify":{"nodes":0.5,"importance":"bn","drop":["],"blocks":1,"'
    b'fold":true,"merge":true,"energy":0.9},"pattern":"2:4","threshold":0.01,"symmetric":false,"power_of_two":true,"te'
    b'rnary":0.7,"activations":8,"population":10,"rarest":1,"moved":"zero","start":"best","percentile":99.9,"calibrati'
    b'on":"kl","calibration":"mse","k16q8","k32q8p","q4c",[32,3,3],[16,1,3,3]],["downsample.1.stage3.2.shortcut.0.weig'
    b'ht","d12cp",[64,32,1,1]],["stage1.0.conv1.weight","q8c",[16,16,3,3]],["stage1.0.bn1.weight","f4",[16]],["stage1.'
    b'0.bn1.bias","f4",[16]],["stage1.0.bn1.running_mean","f2",[16]],["stage1.0.bn1.running_var","rq16tp",[16]],["stag'
    b'e1.0.bn1.num_batches_tracked","i8",[]],["stage2.0.conv2.weight","d12cp",[32,32,3,3]],["fc3.weight","k16q8",[10,6'
    b'4]],["fc2.weight","q8c",[100,300]],["fc1.weight","q8cp",[300,784]],["fc1.bias","rq16tp",[300]],["conv2.bias","rq'
    b'16tp",[128]],["classifier.bias","rq16tp",[10]]]}{"architecture":null,"source":"{"architecture":"mobilenet-v2","v'
    b'it-tiny","resnet-20","lenet-5","simple-cnn","source":"0123456789abcdef","recipe":{"version":1,"prune":{"sparsity'
    b'":0.5,"scope":"layer"},"prune":{"sparsity":0.8,"scope":"global"},"share":{"clusters":16},"quantize":{"bits":8,"g'
    b'ranularity":"tensor","granularity":"channel","quantize":{"bits":12,"calibration":"rate","exchange":1e-05,"weight'
    b'ing":"magnitude"},"calibration":"range","activations":8},"code":{"coder":"huffman","coder":"smallest","coder":"c'
    b'ontext","rest":"rate"},"coder":"ans","rest":"fp32"},"rest":"fp16"},"BF16"],"tensors":[["conv1.weight","'
)
_MANTISSAS = (
    *(0x000000, 0x02CD87, 0x05AAC3, 0x08980F, 0x0B95C2, 0x0EA43A, 0x11C3D3, 0x14F4F0),
    *(0x1837F0, 0x1B8D3A, 0x1EF532, 0x227043, 0x25FED7, 0x29A15B, 0x2D583F, 0x3123F6),
    *(0x3504F3, 0x38FBAF, 0x3D08A4, 0x412C4D, 0x45672A, 0x49B9BE, 0x4E248C, 0x52A81E),
    *(0x5744FD, 0x5BFBB8, 0x60CCDF, 0x65B907, 0x6AC0C7, 0x6FE4BA, 0x75257D, 0x7A83B3),
)
MANTISSAS = np.array(_MANTISSAS, np.uint32)
PLAIN = {"f4": "<f4", "f2": "<f2", "i8": "<i8", "f8": "<f8", "i4": "<i4", "i2": "<i2", "i1": "i1"}
PLAIN |= {"u8": "<u8", "u4": "<u4", "u2": "<u2", "u1": "u1", "b1": "?"}
LABEL = re.compile(r"(w4|f[248]|[iu][1248]|b1)|(r?)([qda])([1-9]\d?)([ct])(p?)|k(0|[1-9]\d{0,2})(f|q([1-9]\d?)(p?))")
PRECISIONS = (5, 8, 11, 14)
FIELDS = {"architecture", "source", "recipe", "tensors", "structure", "ranges", "ties", "turned", "metadata", "graph"}
CODES_PER_LANE = 1 << 20


class Damaged(Exception):
    """The file is not what FORMAT.md allows, or of a later version of it: the one error that `read` raises."""


# What Python, NumPy and constriction raise for the contents of a damaged file.
FAILURES: tuple[type[Exception], ...]
FAILURES = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, AssertionError, RecursionError)
FAILURES += (struct.error, zlib.error, MemoryError)

# Arrays by the name of their tensor, or by the label of their type.
Arrays = dict[str, np.ndarray]
# Adaptive probabilities, [22 bits, count], and weights of mixers, by their place.
Key = tuple[int, int, int]
Slots = dict[Key, list[int]]
Mixers = dict[object, list[int]]


class Side(NamedTuple):
    """Numbers beside the codes, tensor after tensor, as FORMAT.md lists them in section 4."""

    integers: np.ndarray
    others: np.ndarray
    steps: np.ndarray
    scales: np.ndarray
    entries: np.ndarray
    plain: Arrays


def newer(what: str) -> NoReturn:
    raise Damaged(f"the file has {what}: a newer version wrote it. Take the reader of that version")


def require(holds: object, rule: str) -> None:
    if not holds:
        raise damaged(rule)


def damaged(rule: str) -> Damaged:
    return Damaged(f"{rule}. The file is damaged, or no artefact: copy or export it again.")


# The container.


def sections(data: bytes) -> dict[str, bytes]:
    require(data[:8] == MAGIC and len(data) >= 10, "the file must begin with the magic bytes")
    version = struct.unpack_from("<H", data, 8)[0]
    if version > VERSION:
        newer(f"format {version}, where this reader reads format {VERSION}")
    require(version == VERSION, f"the version must be {VERSION}; got {version}")
    found, position = {}, 10
    for name in "HFSP":
        if name == "P" and position == len(data):
            break
        require(position + 9 <= len(data), f"section {name} must be there")
        own, length, checksum = struct.unpack_from("<cII", data, position)
        found[name] = data[position + 9 : position + 9 + length]
        require(own == name.encode() and len(found[name]) == length, f"section {name} must be whole and in its place")
        require(zlib.crc32(found[name]) == checksum, f"section {name} must match its checksum")
        position += 9 + length
    require(position == len(data), "nothing may follow the last section")
    require(not any(found.get("P", b"")), "padding must be zeros")
    return found


def header_of(section: bytes) -> dict[str, Any]:
    unpacker = zlib.decompressobj(-15, zdict=DICTIONARY)
    text = unpacker.decompress(section, min(1 << 22, (1 << 16) + 128 * len(section)))
    require(unpacker.eof and not unpacker.unused_data, "the header must be one deflate stream of bounded size")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        require(len(dict(pairs)) == len(pairs), "an object must have no name twice")
        return dict(pairs)

    header = json.loads(text, object_pairs_hook=unique)
    if not isinstance(header, dict):
        raise damaged("the header must be an object")
    if unknown := header.keys() - FIELDS:
        newer(f"a header field {min(unknown)!r:.60}")
    return header


class Tensor:
    """An entry of the tensor list: its kind taken apart."""

    def __init__(self, name: str, label: str, shape: list[int], dtype: str | None = None) -> None:
        match = LABEL.fullmatch(label)
        sizes = isinstance(shape, list) and all(type(size) is int and 0 <= size <= 1 << 40 for size in shape)
        require(sizes and len(shape) <= 32, f"the shape of {name!r:.60} must be one")
        if match is None:
            newer(f"a tensor of kind {label!r:.60}")
        self.name, self.label, self.shape, self.count = name, label, tuple(shape), math.prod(shape)
        self.plain, rest, form, bits, rows, powers, entries, _, entry_bits, entry_powers = match.groups()
        self.form = form or ("k" if entries else "")
        self.bits = int(bits or entry_bits or 0)
        self.rest = bool(rest) or self.plain not in (None, "w4")
        self.powers = bool(powers or entry_powers)
        self.entries = int(entries or 0)
        require(self.bits <= 16 and self.entries <= 256 and (rows != "c" or shape), f"kind {label} must be possible")
        self.rows = rows == "c"
        self.scales = (shape[0] if self.rows else 1) if self.bits else 0
        self.integers = self.scales if form == "a" else self.entries if self.form == "k" and self.bits else 0
        self.floats = 0 if self.bits else self.entries
        self.top = max(1, 2 ** (self.bits - 1) - 1) if self.bits else 0


# Order 0: numbers in Elias gamma code, then words of one coder.


class Numbers:
    def __init__(self, data: bytes) -> None:
        self.bits = "".join(f"{byte:08b}" for byte in data)
        self.position = 0

    def next(self, most: int) -> int:
        start = self.bits.find("1", self.position)
        require(0 <= start - self.position <= 64, "a number must end inside its section")
        end = 2 * start - self.position + 1
        require(end <= len(self.bits), "a number must end inside its section")
        value = int(self.bits[start:end], 2) - 1
        self.position = end
        require(value <= most, f"a number must be at most {most} here; got {value}")
        return value

    def close(self) -> None:
        left = self.bits[self.position :]
        require(len(left) < 8 and "1" not in left, "numbers must end with the last one")


class Block:
    """A block of streams. coder: "ans" or "huffman"."""

    def __init__(self, data: bytes, coder: str) -> None:
        require(len(data) >= 4, "a block must have at least 4 bytes")
        length = struct.unpack_from("<I", data)[0]
        words = data[4 + length :]
        require(length <= len(data) - 4 and len(words) % 4 == 0, "numbers and words must fill their block")
        self.numbers, self.ans = Numbers(data[4 : 4 + length]), coder == "ans"
        self.words = np.frombuffer(words, "<u4").astype(np.uint32)
        queue = constriction.symbol.QueueDecoder
        self.coder = constriction.stream.stack.AnsCoder(self.words) if self.ans else queue(self.words)
        self.huffman_bits = 0

    def close(self) -> None:
        used = self.coder.is_empty() if self.ans else len(self.words) == -(-self.huffman_bits // 32)
        self.numbers.close()
        require(used, "words must end with the last stream")

    def stream(self, count: int, alphabet: int) -> np.ndarray:
        if count == 0:
            return np.zeros(0, np.int64)
        next, first = self.numbers.next, 0
        kind = next(len(PRECISIONS) + 1 if self.ans else 2)
        if kind:
            first = next(alphabet - 1)
        if kind == 1:
            return np.full(count, first, np.int64)
        if kind == 0:
            numbers = [1] * alphabet if self.ans else equal_lengths(alphabet)
        elif self.ans:
            left, numbers = 2 ** PRECISIONS[kind - 2], []
            for _ in range(next(alphabet - first) - 1):
                numbers.append(next(left))
                left -= numbers[-1]
            numbers.append(left)
            require(left > 0 and len(numbers) > 1, "frequencies must sum to a power of two")
        else:
            numbers = [next(512) for _ in range(next(alphabet - first))]
            require(sum(0.5**length for length in numbers if length) == 1, "code lengths must fill the code space")
        table = np.array(numbers)
        present = np.flatnonzero(table)
        if len(present) == 1:
            return np.full(count, present[0] + first, np.int64)
        places = (self.by_ans if self.ans else self.by_huffman)(table[present], count)
        symbols: np.ndarray = (present + first)[places]
        return symbols

    def by_ans(self, table: np.ndarray, count: int) -> np.ndarray:
        models = constriction.stream.model
        if (table == 1).all():
            model = models.Uniform(len(table))
        else:
            model = models.Categorical(table / table.sum(), perfect=False)
        symbols: np.ndarray = self.coder.decode(model, count)
        return symbols

    def by_huffman(self, lengths: np.ndarray, count: int) -> np.ndarray:
        tree = constriction.symbol.huffman.DecoderHuffmanTree(0.5 ** lengths.astype(np.float64))
        symbols = np.fromiter((self.coder.decode_symbol(tree) for _ in range(count)), np.int64, count)
        self.huffman_bits += int(lengths[symbols].sum())
        return symbols

    def narrow(self, count: int, alphabet: int, zero: int) -> np.ndarray:
        if not self.numbers.next(1):
            return self.stream(count, alphabet)
        zeros = self.numbers.next(count)
        runs = self.stream(count - zeros + self.numbers.next(zeros), 256)
        return spread(runs, self.stream(count - zeros, alphabet), count, zero)

    def wide(self, count: int, size: int) -> np.ndarray:
        """Unsigned integers of so many bytes."""
        if count == 0:
            return np.zeros(0, f"<u{size}")
        zeros = self.numbers.next(count)
        runs = self.stream(count - zeros + self.numbers.next(zeros), 256) if zeros else None
        values = np.zeros(count - zeros, np.uint64)
        for plane in range(size):
            values |= self.stream(len(values), 256).astype(np.uint64) << np.uint64(8 * plane)
        return (values if runs is None else spread(runs, values, count, 0)).astype(f"<u{size}")

    def paths(self, tensor: Tensor) -> np.ndarray:
        """Codes that follow the trellis: indices of the even quantizer and of the odd one, put together."""
        count, top = tensor.count, self.numbers.next(2 ** (tensor.bits - 2))
        if top == 0:
            return np.zeros(count, np.int64)
        odds = self.numbers.next(count)
        sizes = count - odds, odds
        if top <= 255:
            parts = [self.narrow(size, 2 * top + 1, top) - top for size in sizes]
        else:
            parts = [self.signed(size) for size in sizes]
        rows = max(1, tensor.shape[0]) if tensor.shape else 1
        codes, states = np.zeros((rows, count // rows), np.int64), np.zeros(count // rows, np.int64)
        for row in codes:
            odd = states >= 4
            wanted = len(row) - np.count_nonzero(odd), np.count_nonzero(odd)
            fits = all(len(part) >= size for part, size in zip(parts, wanted, strict=True))
            require(fits, "indices must fit the trellis")
            row[~odd], row[odd] = parts[0][: wanted[0]], parts[1][: wanted[1]]
            parts = [part[size:] for part, size in zip(parts, wanted, strict=True)]
            states = np.array(TRELLIS)[states, row & 1]
            row[:] = 2 * row - np.sign(row) * odd
        require(not any(map(len, parts)), "indices must fit the trellis")
        return codes.reshape(-1)

    def signed(self, count: int) -> np.ndarray:
        pattern = self.wide(count, 2).astype(np.int64)
        return (pattern >> 1) ^ -(pattern & 1)

    def floats(self, count: int, size: int) -> np.ndarray:
        return rotated_back(self.wide(count, size))


def rotated_back(pattern: np.ndarray) -> np.ndarray:
    """Floats from their bits rotated left by one."""
    one, last = pattern.dtype.type(1), pattern.dtype.type(8 * pattern.itemsize - 1)
    rotated: np.ndarray = (pattern >> one) | (pattern << last)
    return rotated.view(f"<f{pattern.itemsize}")


def spread(runs: np.ndarray, values: np.ndarray, count: int, zero: int) -> np.ndarray:
    """Values with the zeros before them put back."""
    ends = np.cumsum(runs + (runs != 255))[runs != 255] - 1
    require(len(ends) == len(values) and (len(ends) == 0 or ends[-1] < count), "runs of zeros must fit their tensor")
    flat = np.full(count, zero, values.dtype)
    flat[ends] = values
    return flat


def equal_lengths(alphabet: int) -> list[int]:
    """Code lengths of a Huffman code for equally frequent symbols: the first ones are longer."""
    if alphabet == 1:
        return [1]
    short = alphabet.bit_length() - 1
    longer = 2 * (alphabet - 2**short)
    return [short + 1] * longer + [short] * (alphabet - longer)


def plain_of(block: Block, tensors: list[Tensor], label: str) -> np.ndarray:
    count, size = sum(tensor.count for tensor in tensors if tensor.plain == label), np.dtype(PLAIN[label]).itemsize
    if label[0] == "f":
        return block.floats(count, size)
    values = block.wide(count, size)
    require(label != "b1" or values.max(initial=0) <= 1, "truth values must be 0 or 1")
    return values.view(PLAIN[label])


def order_zero(tensors: list[Tensor], section: bytes, coder: str) -> tuple[Arrays, Side]:
    block, codes = Block(section, coder), {}
    for tensor in tensors:
        if tensor.rest:
            continue
        if tensor.plain:
            flat = block.floats(tensor.count, 4)
        elif tensor.form == "k":
            flat = block.narrow(tensor.count, tensor.entries + 1, 0)
        elif tensor.form == "d":
            flat = block.paths(tensor)
        elif tensor.bits > 8:
            flat = block.signed(tensor.count)
        else:
            half = 2 ** (tensor.bits - 1) if tensor.form == "a" else tensor.top
            flat = block.narrow(tensor.count, 2 * half + (tensor.form != "a"), half) - half
        codes[tensor.name] = flat.reshape(tensor.shape)
    side = Side(
        block.signed(sum(tensor.integers for tensor in tensors)),
        block.signed(sum(tensor.count for tensor in tensors if tensor.rest and tensor.bits)),
        block.signed(sum(tensor.scales for tensor in tensors if tensor.powers)),
        block.floats(sum(tensor.scales for tensor in tensors if not tensor.powers), 4),
        block.floats(sum(tensor.floats for tensor in tensors), 4),
        {label: plain_of(block, tensors, label) for label in PLAIN},
    )
    block.close()
    return codes, side


# The context coder's decoder, in plain integers; tests compare it with the compiled one, stream by stream.

CLAMP = 2815
RATIO_STEPS = (1, 3, 5, 7, 10, 14, 20, 28, 40, 56, 80)
TRELLIS = ((0, 2), (2, 0), (4, 6), (6, 4), (5, 7), (7, 5), (1, 3), (3, 1))
FULL = (1 << 48) - 1


def _squash_table() -> list[int]:
    one, power, table = 1 << 60, 1 << 60, []
    for _ in range(CLAMP + 1):
        table.append(65536 * power // (one + power))
        power = power * 1157433911791679357 >> 60
    return [65536 - p for p in table[:0:-1]] + table


SQUASH = _squash_table()
STRETCH = [min(int(x), 2 * CLAMP) - CLAMP for x in np.searchsorted(SQUASH, [16 * i + 8 for i in range(4096)])]


def _level(magnitude: int) -> int:
    if magnitude < 4:
        return magnitude
    length = magnitude.bit_length()
    return min(4 * (length - 2) + (magnitude >> (length - 3) & 3), 95)


def _prior(level: int, node: int) -> int:
    """Probability, 22 bits, of a node under the geometric distribution with the mean of a level."""
    shift = level // 4 - 1
    mean = max(level if level < 4 else (4 + level % 4 << shift) + (1 << shift >> 1), 1)
    powers = [(mean << 16) // (mean + 256)]
    for _ in range(16):
        powers.append(powers[-1] * powers[-1] >> 16)
    if node < 16:
        chance = powers[max(node - 1, 0)]
    elif node < 17 or node >= 17 + 7 * 14:
        chance = 1 << 15
    else:
        length, inner = 2 + (node - 17) // 7, (node - 17) % 7
        depth = (inner + 1).bit_length() - 1
        if depth >= length - 1:
            chance = 1 << 15
        else:
            chance = (powers[length - 2 - depth] << 16) // (65536 + powers[length - 2 - depth])
    return min(max(chance, 16), 65520) << 6


class ContextDecoder:
    """take, take_values and close as the fast decoder has them; ValueError for what cannot be."""

    def __init__(self, data: bytes, effort: str) -> None:
        self.data, self.position = data, 6
        self.low, self.high = 0, FULL
        self.number = int.from_bytes(data[:6].ljust(6, b"\0"), "big")
        self.inputs = {"context": 3, "smallest": 6}[effort]
        self.slots: Slots = {}
        self.weights: Mixers = {}
        self.value_slots: Slots = {}
        self.value_weights: Mixers = {}
        self.level, self.strides, self.coefficients = 0, [0, 0], [[0] * 8, [0] * 8]

    def _bit(self, probability: int) -> int:
        middle = self.low + (self.high - self.low >> 16) * probability
        bit = int(self.number <= middle)
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        while self.low >> 40 == self.high >> 40:
            byte = self.data[self.position] if self.position < len(self.data) else 0
            self.position += 1
            self.low = self.low << 8 & FULL
            self.high = self.high << 8 & FULL | 255
            self.number = self.number << 8 & FULL | byte
        return bit

    def _mixed(
        self, slots: Slots, weights: Mixers, keys: list[Key], rows: Sequence[object], start: Callable[[Key], int]
    ) -> int:
        """One bit. keys: of the slots. rows: of the mixers' weights. start: probability of a slot not yet used."""
        states = [slots.setdefault(key, [start(key), 2 if weights is self.weights else 0]) for key in keys]
        inputs = [STRETCH[chance >> 10] for chance, _ in states]
        mixers = [weights.setdefault(row, [65536 // len(keys)] * len(keys)) for row in rows]
        dots = [sum(w * x for w, x in zip(mixer, inputs, strict=True)) >> 16 for mixer in mixers]
        dots = [min(max(dot, -CLAMP), CLAMP) for dot in dots]
        bit = self._bit(SQUASH[sum(dots) // len(dots) + CLAMP])
        for mixer, dot in zip(mixers, dots, strict=True):
            error = (bit << 16) - SQUASH[dot + CLAMP]
            mixer[:] = [w + (x * error + 65536 >> 17) for w, x in zip(mixer, inputs, strict=True)]
        for state in states:
            chance, count = state
            state[0] = chance + (((bit << 22) - chance) * (655360 // (10 * count + 16)) >> 16)
            state[1] = min(count + 1, 1000)
        return bit

    def _decided(self, node: int, contexts: Sequence[int], group: int) -> int:
        keys = [(i, context, node) for i, context in enumerate(contexts)]
        rows = [(node, 0)] if len(contexts) == 3 else [(node, 0), (node, 1 + group)]
        return self._mixed(self.slots, self.weights, keys, rows, lambda key: _prior(key[1] % 96, key[2]))

    def _magnitude(self, contexts: Sequence[int], group: int) -> int:
        length = 1
        while length < 16 and self._decided(length, contexts, group):
            length += 1
        if length == 16:
            return 1 << 15
        size = 1
        for depth in range(length - 1):
            node = 17 + 7 * (length - 2) + size - 1
            size = 2 * size + (self._decided(node, contexts, group) if depth < 3 else self._bit(1 << 15))
        return size

    def _value_bit(self, node: int, contexts: Sequence[int]) -> int:
        keys = [(i, context, node) for i, context in enumerate(contexts)]
        return self._mixed(self.value_slots, self.value_weights, keys, [node], lambda key: 1 << 21)

    def _numbers(self, kinds: Iterable[int]) -> list[int]:
        values, last, before = [], 0, 0
        for kind in kinds:
            contexts = kind, last, 16 * min(last, 15) + min(before, 15)
            length = 0
            while length < 63 and self._value_bit(length, contexts):
                length += 1
            size = min(length, 1)
            for depth in range(length - 1):
                node = 65 + 3 * (length - 2) + size - 1
                size = 2 * size + (self._value_bit(node, contexts) if depth < 2 else self._bit(1 << 15))
            values.append(-size if size and self._value_bit(64, contexts) else size)
            last, before = length, last
        return values

    def take_values(self, count: int) -> np.ndarray:
        if count == 0:
            return np.zeros(0, np.int64)
        _age(self.value_slots, 6)
        as_differences = self._numbers([0])[0]
        values = self._numbers([1] * count)
        for i in range(1, count if as_differences else 0):
            values[i] += values[i - 1]
        if as_differences and max(map(abs, values)) >= 1 << 61:
            raise ValueError("differences sum to too much")
        return np.array(values, np.int64)

    def _setting(self, kernel: bool) -> tuple[int, list[int]]:
        level, stride, predicts = self._numbers([2, 3, 4])
        self.level += level
        self.strides[kernel] += stride
        coefficients = [0] * 8
        if predicts:
            steps = self._numbers(range(5, 13))
            coefficients = [a + b for a, b in zip(self.coefficients[kernel], steps, strict=True)]
        if not (0 <= self.level < 96 and 0 <= self.strides[kernel] < 256 and max(map(abs, coefficients)) < 128):
            raise ValueError("a setting is out of range")
        if any(coefficients):
            self.coefficients[kernel] = coefficients
        return self.strides[kernel], coefficients

    def take(self, shape: tuple[int, int, int], trellis: bool = False) -> np.ndarray:
        codes = np.zeros(shape, np.int32)
        if codes.size == 0:
            return codes
        rows, columns, taps = shape
        stride, coefficients = self._setting(taps > 1)
        _age(self.slots, 20)
        shift = self.level // 4 - 1
        mean = self.level if self.level < 4 else (4 + self.level % 4 << shift) + (1 << shift >> 1)
        width, predicting, unit = columns * taps, any(coefficients), 128 if trellis else 256
        line, signed, states = [0] * width, [0] * width, [0] * width
        column, tap, overall, factor = [mean] * columns, [mean] * taps, mean, 4096
        for row in range(rows):
            if self.position > len(self.data) + 6:
                raise ValueError("the stream ends early")
            seen = expected_seen = row_mean = within = 0
            recent = overall
            tap_factor = [min((m + 1 << 12) // (overall + 1), 1 << 24) for m in tap]
            for place in range(width):
                c, t = divmod(place, taps)
                within = 0 if t == 0 else within
                inside = t if taps > 1 else place
                back = taps if taps > 1 else 2
                features = [
                    line[place - 1] if inside >= 1 else 0,
                    line[place - stride] if stride and inside >= stride else 0,
                    line[place - stride - 1] if stride and inside > stride else 0,
                    line[place - stride + 1] if stride > 1 and inside >= stride else 0,
                    line[place - back] if place >= back else 0,
                    line[place],
                    signed[place],
                    row_mean,
                ]
                prediction = sum(a * b for a, b in zip(coefficients, features, strict=True)) >> 6
                if place % 8 == 0:
                    start = 8 * (overall + 1)
                    factor = min((seen + start << 12) // (expected_seen + start), 1 << 24)
                expected = min(column[c] * factor >> 12, 1 << 24)
                if taps > 1:
                    expected = min(expected * tap_factor[t] >> 12, 1 << 24)
                left, other, far, up = (abs(features[i]) for i in (0, 1, 4, 5))
                near = 3 * left + 2 * other + far + 2 * up >> 3
                ratio = sum(16 * abs(prediction) >= step * (expected + 1) for step in RATIO_STEPS)
                odd = int(trellis and states[place] >= 4)
                half = 2208 * odd
                contexts = [half, half + 96 * ratio + _level(expected), half + _level(near)]
                if self.inputs > 3:
                    around = (4 * expected + within) // (t + 4) if taps > 1 else expected + recent >> 1
                    small = [min(m >> 8, 3) for m in (left, other if stride else far, up)]
                    contexts += [
                        half + 96 * ratio + _level(around),
                        half + small[0] + 4 * small[1] + 16 * small[2],
                        half + 96 * ratio + _level(2 * expected + near + recent >> 2),
                    ]
                group = _level(expected) >> 2
                number = 0
                if self._decided(0, contexts, group):
                    direction = 1 if prediction >= 0 else -1
                    digits = [0 if v == 0 else 1 if v * direction > 0 else 2 for v in features]
                    strength = abs(prediction) * 2 // (expected + 1)
                    sign_contexts = [
                        96 * min(abs(prediction) * 8 // (expected + 1), 22),
                        digits[0] + 3 * digits[1] + 9 * digits[5] + 27 * digits[4],
                        96 * min(strength, 22) + _level(expected),
                    ]
                    agrees = self._decided(16, sign_contexts, group)
                    if not agrees and ratio:
                        for i in (1, 3, 5)[: self.inputs // 2]:
                            contexts[i] += 96 * 11
                    number = self._magnitude(contexts, group) * (direction if agrees else -direction)
                code = number
                if trellis:
                    code = 2 * number - odd * ((number > 0) - (number < 0))
                    states[place] = TRELLIS[states[place]][number & 1]
                if abs(code) > 1 << 15:
                    raise ValueError("a code is too large")
                codes[row, c, t] = code

                value = code * unit
                surprise = min(abs(value - prediction), 1 << 24)
                if max(seen, expected_seen) > 1 << 31:
                    seen, expected_seen = seen >> 1, expected_seen >> 1
                seen, expected_seen, within = seen + surprise, expected_seen + column[c], within + surprise
                column[c] = _average(column[c], surprise, row * taps + t, 50)
                overall = _average(overall, surprise, row * width + place, 1000)
                tap[t] = _average(tap[t], surprise, row * columns + c, 1000)
                if predicting:
                    row_mean = _average(row_mean, value, place, 1000)
                    signed[place] = _average(signed[place], value, row + 8, 200)
                recent += surprise - recent >> 4
                line[place] = value
        return codes

    def close(self) -> None:
        head = self.position - 6
        for size in range(7):
            rest = 48 - 8 * size
            number = -(-self.low >> rest) << rest
            if number <= self.high:
                break
        if self.data[head:] != (number >> rest).to_bytes(size, "big"):
            raise ValueError("bytes are missing or left over")


def _age(slots: Slots, count: int) -> None:
    for state in slots.values():
        state[1] = min(state[1], count)


def _average(mean: int, value: int, count: int, limit: int) -> int:
    return mean + ((value - mean) * (65536 // (min(count, limit) + 8)) >> 16)


# Contexts: lanes of codes, then a block of what are floats.


def contexts(tensors: list[Tensor], section: bytes, coder: str) -> tuple[Arrays, Side]:
    coded = [tensor for tensor in tensors if not tensor.rest and not tensor.plain]
    most = min(16, 1 + sum(tensor.count for tensor in coded) // CODES_PER_LANE)
    count = section[0] if section else 0
    require(1 <= count <= most and len(section) > 4 * count, "the number of lanes must suit the codes")
    lengths, position = struct.unpack_from(f"<{count}I", section, 1), 1 + 4 * count
    load = [0] * count
    lanes: list[list[Tensor]] = [[] for _ in range(count)]
    for tensor in sorted(coded, key=lambda tensor: -tensor.count):
        lane = load.index(min(load))
        load[lane] += tensor.count
        lanes[lane].append(tensor)
    codes, decoders = {}, []
    for lane, length in enumerate(lengths):
        require(position + length <= len(section), "lanes must lie within their section")
        decoder = ContextDecoder(section[position : position + length], coder)
        for tensor in (tensor for tensor in coded if tensor in lanes[lane]):
            axes = (*tensor.shape, 1, 1)[: max(2, len(tensor.shape))]
            grid = axes[0], axes[1], math.prod(axes[2:])
            codes[tensor.name] = decoder.take(grid, tensor.form == "d").reshape(tensor.shape)
        decoders.append(decoder)
        position += length
    side = mixed(decoders[0], tensors, codes)
    for decoder in decoders:
        decoder.close()
    block = Block(section[position:] or bytes(4), "ans")
    for tensor in tensors:
        if tensor.plain == "w4":
            codes[tensor.name] = block.floats(tensor.count, 4).reshape(tensor.shape)
    for label in PLAIN:
        if label not in ("f4", "f2", "i8"):
            side.plain[label] = plain_of(block, tensors, label)
    block.close()
    return codes, side


def logarithm(value: int) -> int:
    length = value.bit_length()
    return 32 * (length - 2) + (32 * value >> length - 1)


def steps_of(tensors: list[Tensor], codes: Arrays, short: Callable[[int], np.ndarray]) -> np.ndarray:
    """Steps of scales: a unit and multiples of it or, where it is 1, differences to what the codes let expect."""
    unit, values = int(short(1)[0]), short(sum(tensor.scales for tensor in tensors))
    if unit != 1:
        return values * unit
    steps: list[int] = []
    mean = 0
    for tensor in tensors:
        own = codes[tensor.name]
        for place, row in enumerate(own.reshape(tensor.scales, own.size // max(1, tensor.scales)).tolist()):
            square, count = min(sum(code**2 for code in row), 1 << 48), max(len(row), 1)
            level = logarithm(8 * square + count) - logarithm(8 * count) >> 1
            steps.append(int(values[len(steps)]) + (mean + 128 >> 8) - level)
            require(abs(steps[-1]) <= 1 << 15, "steps of scales must be possible")
            mean += ((steps[-1] + level << 8) - mean) * (65536 // (min(place, 49) + 2)) >> 16
    return np.array(steps, np.int64)


def mixed(decoder: ContextDecoder, tensors: list[Tensor], codes: Arrays) -> Side:
    """The groups of lane 0: integers of 16 bits; floats by their distance from 2**-6; 64 bits in two halves."""

    def values(count: int, low: int, high: int) -> np.ndarray:
        taken = decoder.take_values(count)
        require(count == 0 or (taken.min() >= low and taken.max() <= high), f"values must be in {low}..{high}")
        return taken

    def short(count: int) -> np.ndarray:
        return values(count, -(2**15), 2**15 - 1)

    def floats(count: int, size: int, centre: int) -> np.ndarray:
        pattern = values(count, -centre, 2 ** (8 * size) - 1 - centre) + centre
        return rotated_back(pattern.astype(f"<u{size}"))

    count = {label: sum(tensor.count for tensor in tensors if tensor.plain == label) for label in PLAIN}
    integers = short(sum(tensor.integers for tensor in tensors))
    rest = [tensor for tensor in tensors if tensor.rest and tensor.bits]
    codes = {**codes, **{tensor.name: short(tensor.count) for tensor in rest}}
    others = np.concatenate([np.zeros(0, np.int64), *(codes[tensor.name] for tensor in rest)])
    stepped = sorted((tensor for tensor in tensors if tensor.powers), key=lambda tensor: tensor.rest)
    powers = steps_of(stepped, codes, short) if sum(tensor.scales for tensor in stepped) else integers[:0]
    scales = floats(sum(tensor.scales for tensor in tensors if not tensor.powers), 4, 2 * 0x3C800000)
    entries = floats(sum(tensor.floats for tensor in tensors), 4, 2 * 0x3C800000)
    plain = {"f4": floats(count["f4"], 4, 2 * 0x3C800000), "f2": floats(count["f2"], 2, 2 * 0x2400)}
    high = values(count["i8"], -(2**31), 2**31 - 1)
    plain["i8"] = (high << 32) | values(count["i8"], 0, 2**32 - 1)
    return Side(integers, others, powers, scales, entries, plain)


# From codes to floats.


def powers_of(steps: np.ndarray) -> np.ndarray:
    require(((steps == -4064) | ((steps >= -4032) & (steps <= 4095))).all(), "steps of scales must be possible")
    units = (steps + 4064).astype(np.uint32)
    bits: np.ndarray = units >> np.uint32(5) << np.uint32(23) | MANTISSAS[units & np.uint32(31)]
    return bits.view(np.float32)


class Cursor:
    """An array that is taken piece by piece, from its start."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.position = values, 0

    def take(self, count: int) -> np.ndarray:
        self.position += count
        return self.values[self.position - count : self.position]


def wrapped(values: np.ndarray, bits: int) -> np.ndarray:
    half = 2 ** (bits - 1)
    within: np.ndarray = ((values + half) & (2 * half - 1)) - half
    return within


def decoded(tensors: list[Tensor], codes: Arrays, side: Side, ranked: bool) -> Arrays:
    powers, scales, integers = Cursor(powers_of(side.steps)), Cursor(side.scales), Cursor(side.integers)
    others, entries = Cursor(side.others), Cursor(side.entries)
    plain = {label: Cursor(own) for label, own in side.plain.items()}
    arrays = {}
    # Side information lies weights first.
    for tensor in sorted(tensors, key=lambda tensor: tensor.rest):
        scale = (powers if tensor.powers else scales).take(tensor.scales)
        if not tensor.rows and tensor.scales:
            scale = scale[0]
        grid = integers.take(tensor.integers)
        if tensor.plain:
            own = plain[tensor.plain].take(tensor.count).reshape(tensor.shape) if tensor.rest else codes[tensor.name]
            arrays[tensor.name] = own.astype(np.float32) if tensor.plain == "f2" else own
            continue
        if tensor.form == "k":
            require(np.abs(grid).max(initial=0) <= tensor.top or not tensor.bits, "entries must fit their bits")
            table = times(grid, scale) if tensor.bits else entries.take(tensor.floats)
            own = codes[tensor.name]
            if ranked:
                below = np.count_nonzero((grid if tensor.bits else table) < 0)
                require(own.min(initial=0) >= -below, "ranks must be of entries")
                own = np.where(own == 0, 0, own + below + (own < 0))
            require(own.max(initial=0) <= tensor.entries, "symbols must be of entries")
            arrays[tensor.name] = np.concatenate([np.zeros(1, np.float32), table])[own]
            continue
        own = others.take(tensor.count).reshape(tensor.shape) if tensor.rest else codes[tensor.name]
        axes = (-1,) + (1,) * (len(tensor.shape) - 1) if tensor.rows else ()
        if tensor.form == "a":
            zero = wrapped(grid, tensor.bits).reshape(axes)
            own = wrapped(own + zero, tensor.bits) - zero
        else:
            require(np.abs(own).max(initial=0) <= tensor.top, "codes must fit their bits")
        arrays[tensor.name] = times(own, scale.reshape(axes))
    for tensor in tensors:
        coded = tensor.bits or tensor.form == "k"
        finite = not coded or np.isfinite(arrays[tensor.name]).all()
        require(finite, f"{tensor.name!r:.60} must decode to finite numbers")
    return arrays


def times(codes: np.ndarray, scale: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore", invalid="ignore"):
        product: np.ndarray = np.multiply(codes.astype(np.float32), scale, dtype=np.float32)
    return product


def read(data: bytes) -> Arrays:
    """The tensors of a file by name, in the order of its state dict; Damaged, and nothing else, for bad files."""
    try:
        return contents(data)
    except FAILURES as error:
        reason = f"{type(error).__name__}: {error}"
        raise Damaged(f"the file must be whole; {reason[:200]}. It is damaged: copy or export it again.") from None


def contents(data: bytes) -> Arrays:
    found = sections(data)
    header = header_of(found["H"])
    texts = header["source"], header["architecture"] or "none"
    require(all(isinstance(text, str) for text in texts), "source and architecture must be texts")
    tensors = [Tensor(*entry) for entry in header["tensors"]]
    ties = header.get("ties", [])
    own = {tensor.name: tensor for tensor in tensors}
    values = {name: math.prod(max(size, 1) for size in tensor.shape) for name, tensor in own.items()}
    total = sum(values.values()) + sum(values[target] for _, _, target in ties)
    padding = max(0, -(-(total - (1 << 16)) // 4096) - len(found["S"]))
    require(len(own) == len(tensors) and total <= 1 << 30, "names must differ, and values be at most 2**30")
    require(len(found.get("P", b"")) == padding, f"{total} values must have {padding} bytes of padding")
    coder = header["recipe"]["code"]["coder"]
    if coder not in ("ans", "huffman", "context", "smallest"):
        newer(f"streams of the coder {coder!r:.60}")
    ranked = coder in ("context", "smallest")
    codes, side = (contexts if ranked else order_zero)(tensors, found["S"], coder)
    arrays = decoded(tensors, codes, side, ranked)
    for name, groups in header.get("turned", []):
        fits = name in own and not own[name].rest and type(groups) is int and groups > 0 and len(own[name].shape) > 1
        require(fits and own[name].shape[0] % groups == 0, "turned weights must be of so many groups")
        require(sum(other == name for other, _ in header["turned"]) == 1, "a weight must not be turned twice")
        outputs, inputs, *kernel = own[name].shape
        parts = arrays[name].reshape(groups, outputs // groups, inputs, *kernel)
        arrays[name] = parts.swapaxes(1, 2).reshape(groups * inputs, outputs // groups, *kernel)
    ordered = list(own)
    for position, name, target in ties:
        require(name not in arrays and 0 < position <= len(ordered), "ties must be of new names, in their places")
        require(isinstance(name, str) and type(position) is int, "ties must be of names, in their places")
        ordered.insert(position, name)
        arrays[name] = arrays[target]
    return {name: arrays[name] for name in ordered}


def graph_of(data: bytes) -> dict[str, Any] | None:
    """The graph of the network as plain data (FORMAT.md, section 2.1), None where the file has none."""
    try:
        graph = header_of(sections(data)["H"]).get("graph")
    except FAILURES as error:
        raise damaged(f"the header must be whole; {error!r:.100}") from None
    require(graph is None or isinstance(graph, dict), "a graph must be an object")
    return graph


def main(path: str, out: str) -> None:
    try:
        with open(path, "rb") as file:
            data = file.read()
        arrays = read(data)
    except (Damaged, OSError) as error:
        sys.exit(f"Error: {error}")
    with zipfile.ZipFile(out, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.ascontiguousarray(array).reshape(array.shape), allow_pickle=False)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python reader.py FILE.psc OUT.npz")
    main(sys.argv[1], sys.argv[2])
