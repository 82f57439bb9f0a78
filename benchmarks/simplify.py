"""Fewer nodes and blocks: what is left of the multiplications, and what that is worth in ONNX Runtime.

    python -m benchmarks.simplify [--model NAME]

Each recipe is timed against the baseline in interleaved pairs, fp32, batch 1, one thread. Bound: resnet-20 at half its
multiplications runs at least 1.4 times as fast.
"""

import argparse

from paretoscope.measure.layers import count_macs
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import subjects

RECIPES = (
    {"nodes": 0.1},
    {"nodes": 0.3},
    {"nodes": 0.5},
    {"blocks": 2},
    {"blocks": 3, "nodes": 0.2},
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet-20")
    subject = subjects.load(parser.parse_args().model)
    image = subject.data.test_images[:1]
    whole = sum(count_macs(subject.model, image).values())
    print("| recipe | multiplications | accuracy | with batch norm re-estimated | speed-up, 95 % interval |")
    print("| --- | --- | --- | --- | --- |")
    for settings in RECIPES:
        recipe = Recipe.of(**settings)
        compressed = subject.compress(recipe)
        macs = sum(count_macs(subject.decoded(compressed), image).values()) / whole
        accuracies = []
        for batchnorm in (False, True):
            *_, last = subject.evaluate(Recipe.of(**settings, batchnorm=batchnorm))
            accuracies.append(f"{last.record.figures.accuracy:.2%}")
        latency = subject.time(compressed, "onnxruntime").latency
        speed = f"{latency.speedup:.2f} [{latency.speedup_low:.2f}, {latency.speedup_high:.2f}]"
        print(f"| {recipe.describe()} | {macs:.0%} | {' | '.join(accuracies)} | {speed} |", flush=True)


if __name__ == "__main__":
    main()
