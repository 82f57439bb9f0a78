"""What is known of networks, recipes and this machine, in memory and in the store; and how a study is done here.

It is all that a study needs: a process without a scheduler carries out a request with it (`Knowledge.run`). What is in
memory is shared by the pages' threads and the jobs', and is read and written under one lock, which is held for look-ups
alone: never while something is measured, read from the store or waited for. Every cache has a bound; what is dropped is
read from the store again, or made anew.
"""

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any

from paretoscope import codec
from paretoscope.base import cache
from paretoscope.base.errors import CompressionError, StoreError
from paretoscope.base.progress import Progress
from paretoscope.base.recent import Recent
from paretoscope.codec import shelf
from paretoscope.export import Conversion
from paretoscope.measure.board import Board, Timed
from paretoscope.measure.latency import BUDGET_S, WIDTH, Measurement, Samples
from paretoscope.measure.paired import paired_ms
from paretoscope.measure.record import Latency, Record
from paretoscope.measure.roofline import LayerWork, layer_work
from paretoscope.measure.subject import Evaluation, Subject
from paretoscope.model.compressed import CompressedModel
from paretoscope.networks import sources
from paretoscope.recipe.recipe import Recipe
from paretoscope.service import pins, subjects
from paretoscope.service import shipped as ships
from paretoscope.service.latencies import Latencies
from paretoscope.service.limits import NONE, Limits
from paretoscope.service.lookups import Lookups
from paretoscope.service.pins import Pin
from paretoscope.service.shipped import Elsewhere, Shipped
from paretoscope.service.store import Store
from paretoscope.service.stored import Stored
from paretoscope.service.study import Study, StudyKind, plain
from paretoscope.service.sweeps import ANCHORS
from paretoscope.service.timing import Timing
from paretoscope.service.timing_key import TimingKey
from paretoscope.tasks import tasks
from paretoscope.training import interrupted

# Networks that are kept open, each with its data and its records.
NETWORKS = 16
# Records of one network: a few kilobytes each; of more, the older half is left to the store.
RECORDS = 20_000
# Bytes of predictions of evaluations: 12 a sample.
EVALUATION_BYTES = 1 << 26
# Results of studies, and what layers compute and move.
STUDIES = 512
WORKS = 256
# Bytes of converted files that are kept for download.
KEPT_BYTES = 1 << 28


class Knowledge:
    """What is known, for all sessions of a process.

    table: the kinds of studies. again: whether timings and studies are taken anew even where the store has them.
    budget_s, width: of each timing, as for `paretoscope.measure.interleaved.compare`. limits: what may be asked for.
    shipped: the studies that come with the package, by default those in its assets.
    """

    def __init__(
        self,
        table: Mapping[StudyKind, Study],
        store: Store | None = None,
        *,
        again: bool = False,
        budget_s: float = BUDGET_S,
        width: float = WIDTH,
        limits: Limits = NONE,
        shipped: Shipped | None = None,
    ) -> None:
        self.table = table
        self.store = store or Store()
        self.effort = {"budget_s": budget_s, "width": width}
        self.limits = limits
        self._shipped = shipped or Shipped(ships.FOLDER)
        cache.tidy()
        self._again = again
        self._stored = Stored(self.store)
        self._lock = threading.Lock()
        self._subjects: Recent[str, Future[Subject]] = Recent(NETWORKS)
        # All records of the networks that are open, and the digests of recipes that another revision measured.
        self._boards: dict[str, Board] = {}
        self._earlier: dict[str, frozenset[str]] = {}
        self._evaluations: Recent[tuple[str, str], Evaluation] = Recent(EVALUATION_BYTES, _predicted_bytes)
        self._latencies = Latencies(self._stored, self._lock, again=again)
        self._lookups = Lookups(self._latencies)
        self._work: Recent[TimingKey, list[LayerWork]] = Recent(WORKS)
        self._studies: Recent[tuple[str, str], Any] = Recent(STUDIES)
        self._conversions: Recent[tuple[str, str, str], Conversion] = Recent(KEPT_BYTES, lambda files: files.size)

    def close(self) -> None:
        """Write what is not on disk, where it can be."""
        with suppress(StoreError):  # it tells when the process ends
            self.store.close()

    @property
    def store_error(self) -> str | None:
        """How many results are not on disk and why, or why the last look at the store failed; None where all is well.

        Measurements go on without the store.
        """
        return self._stored.problem

    def store_notes(self, model: str) -> tuple[str, ...]:
        """What a person should know of a model's history: what is left out of it, and what is lost."""
        with self._lock:
            board = self._boards.get(model)
            count = len([e for e in self._earlier.get(model, ()) if board is None or board.place(e) is None])
        earlier = (
            f"{count:,} records of another version are not shown; they are measured again when they are opened."
            if count > 1
            else "1 record of another version is not shown; it is measured again when it is opened."
        )
        return *[earlier] * bool(count), *self.store.notes, *shelf.left_out(), *interrupted.unreadable()

    def run(self, kind: StudyKind, progress: Progress, *arguments: Any) -> Any:
        """Do a study here and now, or give what is known of it; its result is kept. Raises CompressionError."""
        study = self.table[kind]
        if study.kept and (known := self.known(kind, *arguments)) is not None:
            return known
        found = study.run(self, progress, *arguments)
        if study.kept and found is not None:
            self.keep(kind, arguments, found)
        return found

    def known(self, kind: StudyKind, *arguments: Any) -> Any:
        """What a study found, if it was done before, by this process or another; None where it was not.

        Where nobody did it here, what ships with the package, if no figure of it depends on the machine.
        """
        study = self.table[kind]
        if study.find is not None:
            return study.find(self, *arguments)
        if study.place is None:
            return None
        document, key = study.place(self, *arguments)
        assert study.read is not None, "what is kept as a document is read from it"
        with self._lock:
            if (document, key) in self._studies:
                return self._studies.get((document, key))
        text = None
        if not (self._again and study.anew):
            text = self._stored.call(lambda store: store.get_document(document, key, any_revision=study.lasting))
        if text is None and study.ships and (given := self._shipped.document(arguments[0], (document, key))):
            return self._recall((document, key), study.read(given.found))
        try:
            found = None if text is None else study.read(json.loads(text))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, CompressionError):
            found = None
            self.store.unread_document(document, key)
        return None if found is None else self._recall((document, key), found)

    def _recall(self, place: tuple[str, str], found: Any) -> Any:
        with self._lock:
            self._studies[place] = found
        return found

    def elsewhere(self, model: str, kind: StudyKind, *arguments: Any) -> Elsewhere | None:
        """What a study that depends on the machine found on another one, if that ships for a model of the zoo."""
        study = self.table[kind]
        assert study.ships_as is not None and study.read is not None, f"no study of {kind} ships as another machine's"
        found = self._shipped.document(model, study.ships_as(self, *arguments))
        return None if found is None else replace(found, found=study.read(found.found))

    def keep(self, kind: StudyKind, arguments: Iterable[Any], found: Any) -> None:
        """Keep what a study found as the document of these arguments."""
        place = self.table[kind].place
        assert place is not None, f"a study of {kind} has no document"
        document, key = place(self, *arguments)
        text = json.dumps(found, default=plain)
        with self._lock:
            self._studies[document, key] = found
        self._stored.call(lambda store: store.put_document(document, key, text))

    def pins(self, owner: str) -> list[Pin]:
        """The configurations that somebody has pinned."""
        text = self._stored.call(lambda store: store.get_document(pins.DOCUMENT, owner, any_revision=True))
        try:
            return [] if text is None else pins.from_json(text)
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError, CompressionError):
            self.store.unread_document(pins.DOCUMENT, owner)
            return []

    def keep_pins(self, owner: str, pinned: Sequence[Pin]) -> None:
        """Keep the configurations that somebody has pinned, in place of those before."""
        self._stored.call(lambda store: store.put_document(pins.DOCUMENT, owner, pins.to_json(pinned)))

    def subject(self, model: str) -> Subject:
        """The subject of that name, loaded once, and anew after an error; raises UnknownNameError or ModelError."""
        found, mine = self._claim(model)
        if mine:
            self._load(model, found)
        return found.result()

    def load(self, model: str) -> "Future[Subject]":
        """The subject without waiting: it is loaded in a thread of its own, for all who ask meanwhile."""
        found, mine = self._claim(model)
        if mine:
            threading.Thread(target=self._load, args=(model, found), name=f"load {model}", daemon=True).start()
        return found

    def _claim(self, model: str) -> "tuple[Future[Subject], bool]":
        """Where the subject is or will be, and whether it is the caller who must load it."""
        with self._lock:
            found = self._subjects.get(model)
            if found is not None:
                return found, False
            claimed: Future[Subject] = Future()
            self._subjects[model] = claimed
            for closed in [each for each in self._boards if each not in self._subjects]:
                del self._boards[closed], self._earlier[closed]
            return claimed, True

    def _load(self, model: str, claimed: "Future[Subject]") -> None:
        try:
            subject = subjects.load(model)
            digests = subject.statistics.digest, subject.data.digest
            stored = self._stored.call(lambda store: store.records(*digests))
            earlier = self._stored.call(lambda store: store.earlier(*digests))
            board = Board(subject.task.words, (stored or [])[-RECORDS:])
            with self._lock:
                self._boards[model], self._earlier[model] = board, earlier or frozenset()
            claimed.set_result(subject)
        except BaseException as error:  # whatever it is, others wait for it
            with self._lock:
                self._subjects.pop(model)
            claimed.set_exception(error)

    def forget(self, model: str) -> None:
        """Let go of a model whose name is another network's now, or nobody's; what is measured of it stays stored."""
        with self._lock:
            self._subjects.pop(model)
            self._boards.pop(model, None)
            self._earlier.pop(model, None)
            for evaluated in [key for key in self._evaluations if key[0] == model]:
                self._evaluations.pop(evaluated)
            for converted in [key for key in self._conversions if key[0] == model]:
                self._conversions.pop(converted)

    def refresh(self, model: str) -> None:
        """Forget a model where another process has changed what its name stands for; raises UnknownNameError."""
        with self._lock:
            found = self._subjects.get(model)
        opened = found is not None and found.done() and found.exception() is None
        if found is not None and opened and found.result().network is not sources.find(model):
            self.forget(model)

    def loaded(self, model: str) -> bool:
        """Whether `subject` would answer at once."""
        with self._lock:
            found = self._subjects.get(model)
        return found is not None and found.done()

    def board(self, model: str) -> Board:
        """Every exact record of a model, as a screen draws them; raises UnknownNameError or ModelError."""
        subject = self.subject(model)
        with self._lock:
            # A model that was closed just now is still drawn once.
            return self._boards.get(model) or Board(subject.task.words)

    def timed(self, board: Board, model: str, timing: Timing) -> Timed:
        """The timings of a board's records, as far as they are known."""
        return self._lookups.timed(board, timing, lambda recipe: self.timing_key(model, recipe, timing))

    def records(self, model: str, timing: Timing) -> list[Record]:
        """Every exact record of a model, with its latency under `timing` where that is known."""
        board = self.board(model)
        timed, records = self.timed(board, model, timing), board.records()
        # One that came in between is there the next time.
        return [replace(record, latency=timed.latencies[of]) for record, of in zip(records, timed.of, strict=False)]

    def recorded(self, model: str, recipe: Recipe) -> bool:
        """Whether a recipe is among `records`."""
        with self._lock:
            board = self._boards.get(model)
        return board is not None and board.place(recipe.digest) is not None

    def find(self, model: str, recipe: Recipe) -> Evaluation | None:
        """The exact evaluation of a recipe, if it was made before, by this process or another."""
        subject = self.subject(model)
        with self._lock:
            known = self._evaluations.get((model, recipe.digest))
        if known is None:
            digests = subject.statistics.digest, subject.data.digest, recipe.digest
            known = self._stored.call(lambda store: store.get(*digests))
            if known is not None:
                self._remember(known)
        return known

    def keep_evaluation(self, evaluation: Evaluation) -> None:
        """Keep an exact evaluation."""
        self._stored.call(lambda store: store.put(evaluation))
        self._remember(evaluation)

    def _remember(self, evaluation: Evaluation) -> None:
        record = evaluation.record
        with self._lock:
            self._evaluations[record.model, record.digests.recipe] = evaluation
            board = self._boards.get(record.model)
            if board is not None and len(board) >= RECORDS:
                board = self._boards[record.model] = Board(board.words, board.records(len(board) - RECORDS // 2))
        if board is not None:
            board.put(record)

    def compressed(self, model: str, recipe: Recipe) -> CompressedModel:
        """A model compressed by a recipe; raises CompressionError."""
        return self.subject(model).compress(recipe)

    def artefact(self, model: str, recipe: Recipe) -> bytes:
        """The file of a recipe; made anew, byte for byte the one that was measured."""
        return codec.write(self.compressed(model, recipe))

    def resumable(self, model: str, recipe: Recipe) -> bool:
        """Whether training by a recipe was interrupted and can go on from a checkpoint."""
        return shelf.checkpoint_path(self.subject(model).statistics.digest, recipe).exists()

    def conversion(self, model: str, recipe: Recipe, format: str) -> Conversion | None:
        """The files of a conversion that passed its check, while they are kept."""
        with self._lock:
            return self._conversions.get((model, recipe.digest, format))

    def keep_conversion(self, model: str, recipe: Recipe, conversion: Conversion) -> None:
        """Keep the files of a conversion, for a while."""
        with self._lock:
            self._conversions[model, recipe.digest, conversion.format] = conversion

    def timing_key(self, model: str, recipe: Recipe, timing: Timing) -> TimingKey:
        """What a timing depends on; raises CompressionError for an unknown model or runtime."""
        return TimingKey.of(
            self.subject(model).statistics.digest,
            recipe,
            timing.chosen,
            timing.number_format,
            batch=timing.batch,
            threads=timing.threads,
            size=timing.size,
        )

    def latency(self, model: str, recipe: Recipe, timing: Timing) -> Latency | None:
        """The timing of a recipe's graph and number format, if it was taken before on this machine.

        It may be one that is not `decided`: `due` says whether it is to be taken again.
        """
        return self._latencies.find(self.timing_key(model, recipe, timing))

    def keep_timing(self, model: str, recipe: Recipe, timing: Timing, found: Measurement) -> None:
        """Keep a timing, with the single calls behind it."""
        self._latencies.keep(self.timing_key(model, recipe, timing), found)

    def due(self, model: str, recipe: Recipe, timing: Timing) -> bool:
        """Whether a recipe is to be timed: it was not yet, or its interval is too wide and the machine had a rest."""
        return self._latencies.due(self.timing_key(model, recipe, timing))

    def seconds_until_again(self, model: str, recipe: Recipe, timing: Timing) -> float | None:
        """Until a timing that is not decided is taken again; None where none is to come."""
        return self._latencies.seconds_until_again(self.timing_key(model, recipe, timing))

    def reference_ms(self, model: str, timing: Timing) -> float | None:
        """Milliseconds of the baseline under a timing, by which all recipes' are told; None until one was timed."""
        return self._latencies.reference_ms(self.timing_key(model, Recipe(), timing))

    def samples(self, model: str, recipe: Recipe, timing: Timing) -> Samples | None:
        """The single calls behind `latency`."""
        return self._latencies.samples(self.timing_key(model, recipe, timing))

    def note_problem(self, model: str, recipe: Recipe, timing: Timing, what: StudyKind, problem: str | None) -> None:
        """Keep why a task of a study could not be done, or None where it was done."""
        self._latencies.note(self.timing_key(model, recipe, timing), what, problem)

    def problem(self, model: str, recipe: Recipe, timing: Timing, what: StudyKind | None = None) -> str | None:
        """Why a task of a study could not be done, or None. what: the one that is meant, None for the first of all."""
        return self._latencies.problem(self.timing_key(model, recipe, timing), what)

    def work(self, model: str, recipe: Recipe, timing: Timing) -> list[LayerWork]:
        """What the layers of a recipe's network have to compute and to move; raises CompressionError."""
        key = self.timing_key(model, recipe, timing)
        with self._lock:
            known = self._work.get(key)
        if known is not None:
            return known
        found = layer_work(
            self.subject(model), self.compressed(model, recipe), timing.batch, timing.size, key.number_format
        )
        with self._lock:
            self._work[key] = found
        return found

    def anchors(self, model: str, timing: Timing) -> tuple[list[float], list[float]]:
        """Sparsities and the milliseconds timed there, from which the time of other recipes is predicted.

        Interpolated over the share of zeros, for recipes that leave the architecture as it is; nothing where the time
        does not depend on the zeros, or where fewer than two are timed.
        """
        reference = self.reference_ms(model, timing)
        if not timing.chosen.sees_zeros or reference is None:
            return [], []
        recipes = [(sparsity, Recipe.of(sparsity=sparsity) if sparsity else Recipe()) for sparsity in (0.0, *ANCHORS)]
        timed = [(at, found) for at, each in recipes if (found := self.latency(model, each, timing)) and found.decided]
        if len(timed) < 2:
            return [], []
        return [at for at, _ in timed], [paired_ms(found, reference) for _, found in timed]


def _predicted_bytes(evaluation: Evaluation) -> int:
    return len(evaluation.predictions) * sum(tasks.get(evaluation.record.task).answer_bytes)
