"""A room full of people at one dashboard: what a move of a slider costs the server, and who gets an answer in time.

    python -m benchmarks.live [--only NAME ...] [--seconds N]

Each row starts a dashboard of its own (127.0.0.1, a store of its own, empty or with records of synthetic figures) and
drives it with sessions of lenet-300-100 on the page Explore, each a browser of its own that does what browsers do to
the server (`benchmarks.browser`). A move takes a slider to a value that was not measured before; it is answered once
the KPI row shows the exact figures of that recipe, which this process computes by itself. CPU seconds are those of the
server's processes, as Linux counts them.

It takes some 14 minutes. --only: names of the parts (see PARTS).
"""

import argparse
import asyncio
import dataclasses
import itertools
import math
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from paretoscope.base.units import format_bytes
from paretoscope.measure.subject import Evaluation, Subject
from paretoscope.recipe.recipe import SETTINGS, Recipe
from paretoscope.service import subjects
from paretoscope.service.store import Store

from benchmarks.browser import Browser, Received
from benchmarks.measured import Table, columns, keep, parser

ROOT = Path(__file__).parents[1]
MODEL, SLIDER = "lenet-300-100", "control_sparsity"
# How long the last move of all is waited for; --every: seconds between two moves of a session.
EVERY_S, LAST_S = 5.0, 60.0
# Moves whose cost is counted, after some that warm the server up, and the least time between two of them: shorter than
# the second after which plots are filled in.
MOVES, WARM, QUICK_S = 15, 5, 0.9
# A page that opens has this long to show its first figures.
OPENING_S = 120.0
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Room:
    """So many sessions with so many records, and what is wanted of them: the share of moves that are answered before
    the next, and the 95th percentile of an answer in seconds."""

    sessions: int
    records: int
    share: float | None = None
    p95: float | None = None


ROOMS = (
    Room(10, 0, 1.0, 1.0),
    Room(10, 1000, 1.0, 1.0),
    Room(25, 0, 0.99, 2.0),
    Room(25, 1000, 0.99, 2.0),
    Room(50, 0),
    Room(50, 1000),
)
MOST_CPU_S, MOST_BYTES, MOST_GROWTH = 0.15, 60_000, 1.3
MOST_SKELETON_S, MOST_FIGURES_S, MOST_KEPT_MB, LATEST_S = 1.0, 6.0, 50.0, 10.0
PARTS = ("move", "cold", "visit", "rooms", "memory")


def main() -> None:
    asked = parser(__doc__)
    asked.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="the parts that are measured")
    asked.add_argument("--records", nargs="+", type=int, default=[10, 1_000, 10_000], help="of the rows of a move")
    asked.add_argument("--rooms", nargs="+", type=int, default=range(len(ROOMS)), help="the rows of rooms, from 0")
    asked.add_argument("--seconds", type=float, default=45.0, help="how long the sessions of a row move")
    asked.add_argument("--every", type=float, default=EVERY_S, help="seconds between two moves of a session")
    options = asked.parse_args()
    if options.write and (set(options.only) != set(PARTS) or options.every != EVERY_S):
        raise SystemExit("a section of the page holds all parts, as they are; --write goes without --only and --every.")
    parts = {
        "move": cost_of_a_move,
        "cold": cold_start,
        "visit": second_visit,
        "rooms": rooms,
        "memory": memory,
    }
    plan = Plan()
    tables = [parts[name](plan, options) for name in PARTS if name in options.only]
    keep("live", tables, options)


class Plan:
    """The moves of all sessions, no two alike, and what each must show."""

    def __init__(self) -> None:
        self.subject: Subject = subjects.load(MODEL)
        self._shown: dict[Recipe, frozenset[str]] = {}
        counts = (192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6)
        self._sessions = list(itertools.product(counts, (8, 7, 6, 5, 4)))

    def moves(self, session: int, count: int) -> list[Recipe]:
        """The first so many moves of a session; its link opens the baseline of its own clusters and bits."""
        clusters, bits = self._sessions[session]
        percents = [percent for percent in range(5, 96) if percent % 10]
        random.Random(session).shuffle(percents)
        if count > len(percents):
            raise SystemExit(f"a session has {len(percents)} moves at most; {count} were asked for.")
        return [Recipe.of(sparsity=percent / 100, clusters=clusters, bits=bits) for percent in percents[:count]]

    def opened(self, session: int) -> Recipe:
        """What the session's link opens."""
        clusters, bits = self._sessions[session]
        return Recipe.of(sparsity=0.5, clusters=clusters, bits=bits)

    def shown(self, recipe: Recipe) -> frozenset[str]:
        """The texts of the KPI row: the exact headline and the size."""
        if recipe not in self._shown:
            record = self.evaluation(recipe).record
            value = self.subject.task.words.value(record.figures.value)
            self._shown[recipe] = frozenset((value, format_bytes(record.size.artefact)))
        return self._shown[recipe]

    def evaluation(self, recipe: Recipe) -> Evaluation:
        """The exact evaluation."""
        (*_, evaluation) = self.subject.evaluate(recipe)
        return evaluation

    def fill(self, path: Path, records: int) -> None:
        """Put so many records of this model into a store: valid ones, of recipes that no session moves to, with figures
        that are drawn at random."""
        draw, store = np.random.default_rng(records), Store(path)
        first = self.evaluation(Recipe.of(sparsity=0.5, clusters=16, bits=8))
        places = [thousandth / 1000 for thousandth in range(1, 990) if thousandth % 10]
        settings = itertools.product((256, 64, 16, 0, 128, 32, 8, 4), (8, 6, 5), places)
        for clusters, bits, sparsity in itertools.islice(settings, records):
            recipe = Recipe.of(sparsity=sparsity, clusters=clusters or None, bits=bits)
            store.put(_synthetic(first, recipe, draw))
        store.close()


def _synthetic(real: Evaluation, recipe: Recipe, draw: np.random.Generator) -> Evaluation:
    record = real.record
    correct = int(draw.integers(record.figures.n // 2, record.figures.n))
    share = correct / record.figures.n
    figures = dataclasses.replace(
        record.figures, correct=correct, accuracy=share, accuracy_low=share - 0.01, accuracy_high=min(1.0, share + 0.01)
    )
    size = dataclasses.replace(record.size, artefact=int(draw.integers(4_000, 900_000)))
    digests = dataclasses.replace(record.digests, recipe=recipe.digest)
    return dataclasses.replace(
        real, record=dataclasses.replace(record, recipe=recipe, digests=digests, figures=figures, size=size)
    )


@dataclass(slots=True)
class Server:
    """A dashboard that runs. started: when its process was."""

    process: subprocess.Popen
    port: int
    started: float

    def tree(self) -> list[int]:
        """The process and all that it started."""
        parents: dict[int, list[int]] = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                try:
                    parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
                parents.setdefault(parent, []).append(int(folder.name))
        found = [self.process.pid]
        for each in found:
            found.extend(parents.get(each, ()))
        return found

    def cpu(self) -> float:
        """User and system seconds so far, of those that have ended and were waited for, too."""
        total = 0
        for pid in self.tree():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += sum(map(int, fields[11:15]))
        return total / TICKS

    def megabytes(self) -> float:
        """Resident memory of the processes; pages that they share count once."""
        total = 0
        for pid in self.tree():
            try:
                lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            except OSError:
                continue
            total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        return total / 1024

    async def idle(self, seconds: float, most: float = 0.05) -> None:
        """Wait until the processes rest, so many seconds at most."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            before = self.cpu()
            await asyncio.sleep(1.0)
            if self.cpu() - before <= most:
                return


@contextmanager
def dashboard(plan: Plan, records: int) -> Iterator[Server]:
    """A dashboard with so many records in its store."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if records:
            plan.fill(folder / "records.sqlite", records)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = {**os.environ, "PARETOSCOPE_STORE": str(folder / "records.sqlite")}
        command = [sys.executable, "-m", "streamlit", "run", "app.py", "--server.port", str(port)]
        command += ["--server.address", "127.0.0.1", "--server.headless", "true"]
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        server = Server(process, port, time.monotonic())
        try:
            _await_health(server, folder / "log")
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await_health(server: Server, log: Path) -> None:
    for _ in range(1200):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/_stcore/health", timeout=1).close()
            return
        except OSError:
            if server.process.poll() is not None:
                break
            time.sleep(0.05)
    raise SystemExit(f"the dashboard did not start:\n{log.read_text()}")


@dataclass(slots=True)
class Session:
    """A person at a browser. answers: seconds of each move, inf where the next came first. silent: the longest time
    that a move and those after it went without any answer.
    """

    plan: Plan
    browser: Browser
    answers: list[float] = field(default_factory=list)
    silent: float = 0.0
    _wanted: frozenset[str] = frozenset()
    _moved: float = 0.0
    _waits: float | None = None
    _answered: asyncio.Event = field(default_factory=asyncio.Event)

    async def open(self, recipe: Recipe) -> None:
        """Open a link, and wait for its first exact figures."""
        self.browser.on_figures = self._look
        self._expect(recipe)
        await self.browser.open()
        await self.wait(OPENING_S)

    async def move(self, recipe: Recipe) -> None:
        """Move the slider; what was not answered yet is not any more."""
        if self.answers and not self._answered.is_set():
            self.answers[-1] = math.inf
        self.answers.append(math.inf)
        self._expect(recipe)
        await self.browser.move(SLIDER, SETTINGS["sparsity"].word(recipe.settings()["sparsity"]))

    async def wait(self, seconds: float) -> bool:
        """Wait for the answer; whether it came."""
        try:
            await asyncio.wait_for(self._answered.wait(), seconds)
        except TimeoutError:
            self.silent = max(self.silent, time.monotonic() - (self._waits or self._moved))
            return False
        return True

    def _expect(self, recipe: Recipe) -> None:
        self._wanted, self._moved = self.plan.shown(recipe), time.monotonic()
        self._answered.clear()
        if self._waits is None:
            self._waits = self._moved

    def _look(self) -> None:
        if self._answered.is_set() or not self._wanted <= set(self.browser.figures.values()):
            return
        now = time.monotonic()
        if self.answers:
            self.answers[-1] = now - self._moved
        self.silent, self._waits = max(self.silent, now - (self._waits or now)), None
        self._answered.set()


def session(plan: Plan, server: Server, number: int) -> Session:
    """The session of that number."""
    recipe = plan.opened(number)
    query = "&".join(f"{name}={value}" for name, value in {"model": MODEL, **recipe.to_query()}.items())
    return Session(plan, Browser(server.port, query))


def cost_of_a_move(plan: Plan, options: argparse.Namespace) -> Table:
    """Moves one after the other, none so late that plots are filled in meanwhile."""
    table = Table(
        columns(
            ("records", "{:,.0f}"),
            ("server CPU a move", "{:.3f} s"),
            ("over 10 records", "{:.2f}"),
            ("to the browser a move", "{:,.0f} bytes"),
            ("messages", "{:.0f}"),
            ("answered after", "{:.2f} s"),
            "bound",
        ),
        "A move of one session:",
    )
    first = None
    for records in options.records:
        with dashboard(plan, records) as server:
            seconds, got, answer = asyncio.run(_moves(plan, server))
        first = seconds if first is None else first
        held = {
            f"<= {MOST_CPU_S:g} s": seconds <= MOST_CPU_S,
            f"<= {MOST_BYTES:,} bytes": got.bytes <= MOST_BYTES,
            f"<= {MOST_GROWTH:g} times": seconds <= MOST_GROWTH * first,
        }
        table.add(records, seconds, seconds / first, got.bytes, got.messages, answer, _held(held))
    return table


async def _moves(plan: Plan, server: Server) -> tuple[float, Received, float]:
    """CPU seconds, what came, and the median seconds to an answer, each of one move."""
    one = session(plan, server, 0)
    await one.open(plan.opened(0))
    await server.idle(30)
    costs, got = [], []
    for recipe in plan.moves(0, WARM + MOVES):
        began, cpu, before = time.monotonic(), server.cpu(), one.browser.received.copy()
        await one.move(recipe)
        await one.wait(30)
        while one.browser.running:
            await asyncio.sleep(0.02)
        await asyncio.sleep(max(0.1, began + QUICK_S - time.monotonic()))
        costs.append(server.cpu() - cpu)
        got.append(one.browser.received.since(before))
    await one.browser.close()
    total = Received(sum(each.messages for each in got[WARM:]), sum(each.bytes for each in got[WARM:]))
    share = Received(round(total.messages / MOVES), round(total.bytes / MOVES))
    return sum(costs[WARM:]) / MOVES, share, statistics.median(one.answers[WARM:])


def cold_start(plan: Plan, options: argparse.Namespace) -> Table:
    """The first visit to a server that has just started."""
    seconds = "{:.2f} s"
    table = Table(
        columns(
            ("start to listening", seconds),
            ("first element", seconds),
            ("server CPU until then", seconds),
            ("first figures", seconds),
            ("first plots", seconds),
            ("server CPU until then", seconds),
            "bound",
        ),
        "The first visit to a server that has just started, from navigation:",
    )
    with dashboard(plan, 0) as server:
        listening = time.monotonic() - server.started
        table.add(listening, *asyncio.run(_first_visit(plan, server)))
    return table


async def _first_visit(plan: Plan, server: Server) -> tuple[float, float, float, float, float, str]:
    """Seconds to the first element, the server's until then, seconds to figures and plots, the server's until then."""
    one, before, began = session(plan, server, 0), server.cpu(), time.monotonic()
    first, opening = one.browser.first, asyncio.create_task(one.open(plan.opened(0)))
    while not first.keys() & {"skeleton", "element"} and time.monotonic() - began < OPENING_S:
        await asyncio.sleep(0.005)
    shown, cpu = time.monotonic() - began, server.cpu() - before
    await opening
    figures = time.monotonic() - began
    while "plot" not in first and time.monotonic() - began < OPENING_S:
        await asyncio.sleep(0.005)
    plots, all_cpu = time.monotonic() - began, server.cpu() - before
    await one.browser.close()
    held = {
        f"first element <= {MOST_SKELETON_S:g} s": shown <= MOST_SKELETON_S,
        f"figures <= {MOST_FIGURES_S:g} s": figures <= MOST_FIGURES_S,
    }
    return shown, cpu, figures, plots, all_cpu, _held(held)


def second_visit(plan: Plan, options: argparse.Namespace) -> Table:
    """A page that is opened twice, by a browser that keeps files."""
    number = "{:,.0f}"
    table = Table(
        columns(
            "visit",
            ("bytes over the websocket", number),
            ("files", number),
            ("bytes of files", number),
        ),
        "Opening the page, by a browser that keeps files as it is told to (the page's own files; Streamlit's are not "
        "counted):",
    )
    with dashboard(plan, 0) as server:
        for visit in ("first", "second"):
            got, urls = asyncio.run(_visit(plan, server))
            sizes = [_fetched(server, url, again=visit == "second") for url in urls]
            table.add(visit, got.bytes, sum(size > 0 for size in sizes), sum(sizes))
    return table


async def _visit(plan: Plan, server: Server) -> tuple[Received, list[str]]:
    one = session(plan, server, 0)
    await one.open(plan.opened(0))
    while "plot" not in one.browser.first or one.browser.running:
        await asyncio.sleep(0.02)
    await one.browser.close()
    return one.browser.received, sorted(one.browser.files)


def _fetched(server: Server, url: str, again: bool) -> int:
    """Bytes of a file; none where a browser that has it would not ask, or would be told that it is the same."""
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{url}")
    with urllib.request.urlopen(request) as answer:
        content, headers = answer.read(), answer.headers
    if not again:
        return len(content)
    if "immutable" in headers.get("Cache-Control", "") or "max-age=3" in headers.get("Cache-Control", ""):
        return 0
    request.add_header("If-None-Match", headers.get("ETag", ""))
    try:
        with urllib.request.urlopen(request) as answer:
            return len(answer.read())
    except urllib.error.HTTPError as error:
        return 0 if error.code == 304 else len(content)


def rooms(plan: Plan, options: argparse.Namespace) -> Table:
    """Sessions that move every few seconds, at times of their own."""
    seconds = "{:.2f} s"
    table = Table(
        columns(
            ("sessions", "{:.0f}"),
            ("records", "{:,.0f}"),
            ("moves answered before the next", "{:.1f} %"),
            ("p50", seconds),
            ("p95", seconds),
            ("longest without an answer", seconds),
            ("last move of all, slowest", seconds),
            ("server CPU", "{:.2f} cores"),
            ("client CPU", "{:.2f} cores"),
            ("lost connections", "{:.0f}"),
            "bound",
        ),
        f"Sessions that move a slider every {options.every:g} s, for {options.seconds:g} s; a move that is not "
        "answered before the next counts as inf:",
    )
    for number in options.rooms:
        room = ROOMS[number]
        with dashboard(plan, room.records) as server:
            table.add(*asyncio.run(_room(plan, server, room, options)))
    return table


async def _room(plan: Plan, server: Server, room: Room, options: argparse.Namespace) -> tuple:
    every, count = options.every, int(options.seconds / options.every)
    people = [session(plan, server, number) for number in range(room.sessions)]
    for number in range(room.sessions):
        plan.shown(plan.opened(number))
        for recipe in plan.moves(number, count):
            plan.shown(recipe)
    await _enter(plan, people)
    for person in people:
        person.silent = 0.0
    cpu, own, began = server.cpu(), time.process_time(), time.monotonic()
    await asyncio.gather(*[_drive(plan, person, at, count, every) for at, person in enumerate(people)])
    took = time.monotonic() - began
    cores, mine = (server.cpu() - cpu) / took, (time.process_time() - own) / took
    await asyncio.gather(*[person.wait(LAST_S) for person in people])
    lost = sum(person.browser.lost for person in people)
    await asyncio.gather(*[person.browser.close() for person in people])
    # A last move has no next: it is in time where it was answered as soon as the others had to be.
    answers = [each if each <= every else math.inf for person in people for each in person.answers]
    share = sum(map(math.isfinite, answers)) / len(answers)
    last, silent = max(person.answers[-1] for person in people), max(person.silent for person in people)
    p50, p95 = _quantile(answers, 0.5), _quantile(answers, 0.95)
    held = (
        {f">= {100 * room.share:g} %": share >= room.share, f"p95 <= {room.p95:g} s": p95 <= room.p95}
        if room.share is not None and room.p95 is not None
        else {f"nobody waits for over {LATEST_S:g} s": max(last, silent) <= LATEST_S}
    )
    return room.sessions, room.records, 100 * share, p50, p95, silent, last, cores, mine, lost, _held(held)


async def _enter(plan: Plan, people: Sequence[Session]) -> None:
    """One after the other, a few at a time."""
    gate = asyncio.Semaphore(4)

    async def enter(number: int, person: Session) -> None:
        async with gate:
            await person.open(plan.opened(number))

    await asyncio.gather(*[enter(number, person) for number, person in enumerate(people)])


async def _drive(plan: Plan, person: Session, number: int, count: int, every: float = EVERY_S) -> None:
    draw = random.Random(f"times {number}")
    began = time.monotonic() + draw.random() * every
    for at, recipe in enumerate(plan.moves(number, count)):
        await asyncio.sleep(max(0.0, began + at * every - time.monotonic()))
        await person.move(recipe)


def memory(plan: Plan, options: argparse.Namespace) -> Table:
    """Fifty people come, move and leave."""
    size = "{:,.0f} MB"
    table = Table(
        columns(
            ("sessions", "{:.0f}"),
            ("before", size),
            ("with them", size),
            ("10 s after they left", size),
            ("140 s after", size),
            ("kept", size),
            "bound",
        ),
        "Memory of the server's processes; before: after the visit of one session that has moved for a while and left.",
    )
    with dashboard(plan, 0) as server:
        table.add(50, *asyncio.run(_memory(plan, server, 50)))
    return table


async def _memory(plan: Plan, server: Server, count: int) -> tuple:
    await _stay(plan, server, [0], 5)
    await server.idle(20)
    await asyncio.sleep(5)
    before = server.megabytes()
    most = await _stay(plan, server, list(range(count)), 4)
    await asyncio.sleep(10)
    soon = server.megabytes()
    await asyncio.sleep(130)
    late = server.megabytes()
    return before, most, soon, late, late - before, _held({f"<= {MOST_KEPT_MB:g} MB": late - before <= MOST_KEPT_MB})


async def _stay(plan: Plan, server: Server, numbers: Sequence[int], moves: int) -> float:
    """Megabytes while sessions are there, which come, move and leave."""
    people = [session(plan, server, number) for number in numbers]
    await _enter(plan, people)
    await asyncio.gather(*[_drive(plan, person, number, moves) for number, person in zip(numbers, people, strict=True)])
    await asyncio.gather(*[person.wait(20) for person in people])
    found = server.megabytes()
    await asyncio.gather(*[person.browser.close() for person in people])
    return found


def _quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _held(bounds: dict[str, bool]) -> str:
    return "; ".join(f"{bound}: {'holds' if held else 'MISSED'}" for bound, held in bounds.items())


if __name__ == "__main__":
    main()
