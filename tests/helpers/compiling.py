"""Compile what Numba compiles, once, before tests run side by side and each process would do it for itself.

    python tests/helpers/compiling.py

Two processes share the work; what they compile lies beside the package afterwards.
"""

from concurrent.futures import ProcessPoolExecutor

from paretoscope.recipe.recipe import Recipe

PARTS = (
    (Recipe.of(sparsity=0.5, clusters=16, coder="context"), Recipe.of(clusters=8, start="k-means++", coder="huffman")),
    (
        Recipe.of(bits=8, calibration="rate", exchange=1e-4, coder="smallest", rest="rate"),
        Recipe.of(bits=4, calibration="kl"),
        Recipe.of(bits=4, rounding="gptq"),
    ),
)


def compile_for(recipes: tuple[Recipe, ...]) -> None:
    """Compress, write and read by these recipes."""
    from paretoscope import api, codec

    for recipe in recipes:
        codec.read(codec.write(api.compress("lenet-300-100", recipe)))


if __name__ == "__main__":
    with ProcessPoolExecutor(len(PARTS)) as pool:
        list(pool.map(compile_for, PARTS))
