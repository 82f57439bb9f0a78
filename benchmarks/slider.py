"""In a real browser: from the release of a slider to a first new point on both plots.

    python -m benchmarks.slider [--moves N] [--model NAME]

Starts a dashboard with an empty store and drives it with the system's Chromium (PARETOSCOPE_CHROMIUM, or chromium on
the path). Each move presses a slider's thumb, drags it to a place not visited before and lets go; the clock starts at
the release and stops in the page, at the first frame after both plots hold the new recipe's point. Bound: 500 ms at
the 95th percentile for simple-cnn.
"""

import argparse
import os
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from paretoscope.recipe.recipe import Recipe
from playwright.sync_api import Page, sync_playwright

from benchmarks.measured import Table, columns, keep, parser

ROOT = Path(__file__).parents[1]
BOUND_MS = 500
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]

WATCH = """digest => {
    window.arrived = null;
    const {plots} = document.querySelector('.st-key-plots .explorer');
    const drawn = pane => pane.spots.some(([, , place]) => plots.board.rows[place]?.[0] === digest);
    addEventListener('pointerup', () => {
        const start = performance.now();
        const look = () => plots.panes.every(drawn)
            ? window.arrived = performance.now() - start : requestAnimationFrame(look);
        requestAnimationFrame(look);
    }, {once: true, capture: true});
}"""


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--moves", type=int, default=60)
    asked.add_argument("--model", default="simple-cnn")
    asked.add_argument("--seed", type=int, default=0)
    arguments = asked.parse_args()
    path = os.environ.get("PARETOSCOPE_CHROMIUM") or shutil.which("chromium") or sys.exit("no chromium on the path")
    with tempfile.TemporaryDirectory() as folder:
        process, address = start_dashboard(Path(folder))
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
                page = browser.new_page(viewport={"width": 1440, "height": 900})
                page.set_default_timeout(120_000)
                seconds = measure(page, address, arguments)
                browser.close()
        finally:
            process.terminate()
            process.wait(20)
    seconds.sort()
    p95 = statistics.quantiles(seconds, n=20, method="inclusive")[-1]
    ms = "{:.0f} ms"
    table = Table(columns("model", "moves", ("median", ms), ("95th percentile", ms), ("slowest", ms), "bound"))
    bound = f"95th percentile <= {BOUND_MS} ms: {'holds' if p95 <= BOUND_MS else 'MISSED'}"
    table.add(arguments.model, len(seconds), statistics.median(seconds), p95, seconds[-1], bound)
    keep("slider", [table], arguments)


def start_dashboard(folder: Path) -> tuple[subprocess.Popen, str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "PARETOSCOPE_STORE": str(folder / "records.sqlite")}
    command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    for _ in range(300):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1).close()
            return process, f"http://127.0.0.1:{port}"
        except OSError:
            time.sleep(0.2)
    process.terminate()
    sys.exit("the dashboard did not start")


def measure(page: Page, address: str, arguments: argparse.Namespace) -> list[float]:
    """Milliseconds of each move of the sparsity slider, while the background work of the page goes on."""
    draw = random.Random(arguments.seed)
    places = [percent for percent in range(1, 99) if percent % 5]
    draw.shuffle(places)
    page.goto(f"{address}/?model={arguments.model}&sparsity=0.5&clusters=16&bits=8")
    page.locator(".st-key-plots .px-of-ms svg").wait_for()
    page.wait_for_function("() => !/…|timing/.test(document.querySelector('[data-testid=stMain]').innerText)")
    page.wait_for_timeout(3000)
    slider = page.locator(".st-key-control_sparsity input[type=range]")
    track = page.locator(".st-key-control_sparsity [role=group] > div").first
    result = []
    for percent in places[: arguments.moves]:
        box, now = track.bounding_box(), int(slider.get_attribute("value"))
        y = box["y"] + box["height"] / 2
        page.mouse.move(box["x"] + box["width"] * now / 99, y)
        page.mouse.down()
        page.mouse.move(box["x"] + box["width"] * percent / 99, y, steps=4)
        reached = int(slider.get_attribute("value"))
        recipe = Recipe.of(sparsity=reached / 100, clusters=16, bits=8)
        page.evaluate(WATCH, recipe.digest)
        page.mouse.up()
        page.wait_for_function("() => window.arrived !== null")
        result.append(page.evaluate("() => window.arrived"))
        page.wait_for_timeout(draw.randrange(300, 1500))
    return result


if __name__ == "__main__":
    main()
