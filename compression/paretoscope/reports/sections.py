"""The parts of a report, each as HTML."""

import base64
from collections.abc import Sequence
from itertools import chain

from paretoscope.base.png import png
from paretoscope.base.units import format_bytes, format_ms, format_p, format_percent
from paretoscope.figures import ladder as ladder_figure
from paretoscope.measure.record import Record
from paretoscope.measure.wording import share_touched, smaller, speed, untouched
from paretoscope.recipe.differences import ABSENT
from paretoscope.reports.contents import Configuration, Flips, Report, Sample
from paretoscope.reports.markup import Markup, section, table, tag
from paretoscope.tasks import Words, plain, tasks

NOTHING = ABSENT
UNMEASURED = "not measured"
# Of a picture of curves.
WIDTH, HEIGHT = 160, 60
# Pixels of the longest bar.
BAR = 140


def head(report: Report) -> Markup:
    """Title, and where all this was measured."""
    machine = f"Times were taken on {report.machine}, {report.setting}."
    return tag(
        "header",
        tag("h1", report.model),
        tag("p", f"{report.chosen.named}: {report.chosen.told}", class_="lead"),
        tag("p", report.summary),
        tag("p", f"Made on {report.made} by Paretoscope {report.version}. {machine}", class_="quiet"),
    )


def question(report: Report) -> Markup:
    """What was asked, and what answers it."""
    return section("The question", tag("p", report.asked), tag("p", report.answered, class_="lead"))


def words_of(record: Record) -> Words:
    return tasks.get(record.task).words


def chosen(report: Report) -> Markup:
    """The configuration that the report is about: what it is worth, and all its settings."""
    one = report.chosen
    told = [tag("p", tag("b", one.named), f": {one.told}")]
    if one.note:
        told.append(tag("p", one.note, class_="note"))
    if one.record is None:
        told.append(tag("p", "It is not measured: its figures are left out.", class_="quiet"))
    else:
        told.append(tag("div", *(_tile(*each) for each in _tiles(one, one.record)), class_="tiles"))
        if left := untouched(one.record.touched, one.record.recipe):
            told.append(tag("p", left, class_="quiet"))
    settings = [(each.label, each.values[0]) for each in report.settings if each.values[0] != NOTHING]
    return section("The chosen configuration", *told, table(("Setting", "Value"), settings, "settings"))


def _tile(title: str, value: str, detail: str) -> Markup:
    return tag("div", tag("span", title), tag("b", value), tag("span", detail))


def _tiles(one: Configuration, record: Record) -> list[tuple[str, str, str]]:
    words, figures = words_of(record), record.figures
    change = words.change(figures.value - record.baseline.value)
    found = [
        (words.title, words.value(figures.value), f"{change}, 95 %: {_interval(record)}"),
        ("Size", format_bytes(record.size.artefact), f"{smaller(record.ratio)}, {record.size.artefact:,} bytes"),
        ("Time", *_time(one, record)),
        ("Zero weights", format_percent(record.rates.sparse_rate), share_touched(record.touched)),
    ]
    return found


def _time(one: Configuration, record: Record) -> tuple[str, str]:
    if record.latency is None or one.ms is None:
        return UNMEASURED, "This configuration was not timed here."
    return format_ms(one.ms), str(speed(record.latency))


def _interval(record: Record) -> str:
    return " to ".join(words_of(record).ends(record.figures.low, record.figures.high))


def front(report: Report) -> Markup:
    """All that was tried, to be moved over and filtered; and the front as a table, for paper too."""
    count = f"{report.tried:,} recipes were tried"
    count += "." if report.shown == report.tried else f"; {report.shown:,} of them, the front among them, are in here."
    return section(
        "All that was tried",
        tag("p", f"{count} The front is what nothing else beats in both: as small, and as good."),
        tag("div", "The plots need a browser that runs scripts; the table below does not.", id="plots"),
        tag("div", id="tried", class_="screen"),
        tag("h3", "The front"),
        _figures(report, report.front),
    )


def _figures(report: Report, shown: Sequence[Configuration]) -> Markup:
    title = next((words_of(each.record).title for each in shown if each.record is not None), "Figure")
    one = report.baseline
    time = NOTHING if one.ms is None else format_ms(one.ms)
    first = ["Baseline", one.value, one.interval, NOTHING, NOTHING, format_bytes(one.size), NOTHING, time]
    return table(
        ("Configuration", title, "95 %", "Change", "Against the baseline", "Size", "", "Time"),
        [first, *map(_row, shown)],
    )


def _row(one: Configuration) -> list[str | Markup]:
    record = one.record
    if record is None:
        return [one.named, UNMEASURED, *[NOTHING] * 6]
    words, figures = words_of(record), record.figures
    verdict = "differs" if figures.distinguishable else "no measurable difference"
    time = NOTHING if one.ms is None or record.latency is None else f"{format_ms(one.ms)}, {speed(record.latency)}"
    return [
        one.named,
        words.value(figures.value),
        _interval(record),
        words.change(figures.value - record.baseline.value),
        f"{verdict}, {format_p(figures.p_value)}",
        format_bytes(record.size.artefact),
        smaller(record.ratio),
        time,
    ]


def comparison(report: Report) -> Markup:
    """The chosen configuration beside the pins: figures, what differs in the recipes, paired tests."""
    if not report.pins:
        return section("Comparison", tag("p", "Nothing is pinned beside it.", class_="quiet"))
    shown = (report.chosen, *report.pins)
    notes = [tag("p", tag("b", each.named), f": {each.note}", class_="note") for each in report.pins if each.note]
    names = [f"{each.named} ({each.model})" if each.model != report.model else each.named for each in shown]
    differing = [(each.label, *each.values) for each in report.settings if each.differs]
    told = (
        table(("Setting", *names), differing)
        if differing
        else tag("p", "The recipes do not differ in any setting.", class_="quiet")
    )
    return section(
        "Comparison",
        *notes,
        _figures(report, shown),
        tag("h3", "What differs in the recipes"),
        told,
        tag("h3", "Paired tests on the same samples"),
        _tests(report),
    )


def _tests(report: Report) -> Markup:
    if not report.tests:
        return tag("p", "No two of them are measured on the same samples.", class_="quiet")
    rows = (
        (
            f"{each.after} after {each.before}",
            each.points,
            "differs" if each.pair.measurable else "no measurable difference",
            format_p(each.pair.p_value),
            "none" if each.pair.same else plain.flips(report.words, each.pair.counts),
            f"{each.pair.n:,}",
        )
        for each in report.tests
    )
    return table(("Pair", "Change", "Verdict", "Test", "Answers that flip", "Samples"), rows)


def flips(report: Report) -> Markup:
    """The samples whose answer is another one, the starkest first."""
    shown = [_flips(each, report.words) for each in report.flips]
    if not shown:
        shown = [tag("p", "The answers to single samples are not known: that was left out.", class_="quiet")]
    return section("The samples whose answer flips", *shown)


def _flips(pair: Flips, words: Words) -> Markup:
    count = sum(pair.counts.values())
    told = plain.flips(words, pair.counts)
    if count > len(pair.samples):
        told += f"; {len(pair.samples):,} of these are shown, {words.flips.order}"
    return tag(
        "div",
        tag("h3", f"From {pair.before} to {pair.after}"),
        tag("p", "Every sample is answered as well as before." if pair.same or not count else f"{told}."),
        tag("div", *(_sample(each, words) for each in pair.samples), class_="samples"),
    )


def _sample(one: Sample, words: Words) -> Markup:
    truth = [tag("span", f"truth: {one.truth}")] if one.truth else []
    return tag(
        "figure",
        _seen(one),
        tag(
            "figcaption",
            tag("span", f"{plain.flip(words, one.kind).told}, sample {one.number:,}", class_=one.kind.name.lower()),
            tag("span", f"before: {_said(one.before)}"),
            tag("span", f"after: {_said(one.after)}"),
            *truth,
        ),
    )


def _said(answer: tuple[str, str]) -> str:
    return ", ".join(filter(None, answer))


def _seen(one: Sample) -> Markup:
    if one.picture is not None:
        data = base64.b64encode(png(one.picture)).decode()
        return Markup(f'<img alt="Sample {one.number}" src="data:image/png;base64,{data}">')
    if one.curves is not None:
        return _curves(one)
    return tag("p", one.text, class_="row")


def _curves(one: Sample) -> Markup:
    assert one.curves is not None, "only curves are drawn"
    low, high = float(one.curves.min()), float(one.curves.max())
    step, scale = WIDTH / max(1, one.curves.shape[1] - 1), (HEIGHT - 4) / ((high - low) or 1.0)
    lines = []
    for line in one.curves:
        points = (f"{at * step:.1f},{HEIGHT - 2 - (float(value) - low) * scale:.1f}" for at, value in enumerate(line))
        lines.append(tag("polyline", points=" ".join(points)))
    return tag("svg", *lines, viewBox=f"0 0 {WIDTH} {HEIGHT}", class_="curves", role="img", aria_label="A signal")


def layers(report: Report) -> Markup:
    """Where the bytes of the file go."""
    if not report.layers:
        return section(
            "Layers", tag("p", "The bytes of each layer were not counted: they are left out.", class_="quiet")
        )
    file = sum(each.bytes for each in report.layers) + report.rest
    most = max(max(each.bytes for each in report.layers), report.rest)

    def bar(count: int) -> Markup:
        width = BAR * count / max(1, most)
        return Markup(f'<span class="bar" style="width:{width:.0f}px"></span>')

    rows = chain(
        (
            (
                each.name,
                " x ".join(map(str, each.shape)),
                format_bytes(4 * each.weights),
                format_bytes(each.bytes),
                f"{8 * each.bytes / each.weights:.2f}",
                format_percent(each.bytes / file),
                bar(each.bytes),
            )
            for each in report.layers
        ),
        [
            (
                "Scales, codebooks, biases, header",
                NOTHING,
                NOTHING,
                format_bytes(report.rest),
                NOTHING,
                format_percent(report.rest / file),
                bar(report.rest),
            )
        ],
    )
    return section(
        "Layers",
        tag("p", f"The {file:,} bytes of the file, layer by layer."),
        table(("Layer", "Shape", "As fp32", "In the file", "Bits a weight", "Share", ""), rows, "layers"),
    )


def ladder(report: Report) -> Markup:
    """How the file's length came about."""
    record = report.chosen.record
    if record is None:
        return section("How the size came about", tag("p", "Not measured.", class_="quiet"))
    data = ladder_figure.gather(record.size, record.baseline.size_bytes)
    most = max(rung.bytes for rung in data.rungs)
    rows = (
        (
            rung.title,
            format_bytes(rung.bytes),
            smaller(rung.ratio),
            Markup(f'<span class="bar" style="width:{BAR * rung.bytes / most:.0f}px"></span>'),
            rung.meaning,
        )
        for rung in data.rungs
    )
    return section("How the size came about", table(("Form", "Size", "", "", "What it is"), rows, "layers"))


def commands(report: Report) -> Markup:
    """The lines that reproduce the figures."""
    shown = (report.chosen, *report.pins, *report.front)
    lines = {report.baseline.command: "Baseline", **{each.command: each.named for each in reversed(shown)}}
    trained = any(each.recipe.recover is not None for each in shown)
    needed = (
        " A recipe with training is measured where its trained model is; elsewhere it is trained first, by the same "
        "line with recover in place of evaluate."
        if trained
        else ""
    )
    rows = ((named, tag("code", command)) for command, named in lines.items())
    return section(
        "Every figure again",
        tag("p", f"Each line measures one configuration anew: figures, size, time and digests.{needed}"),
        table(("Configuration", "Command"), rows, "commands"),
    )


def reading(report: Report) -> Markup:
    """What the figures mean, and what is not in here."""
    told = [
        "Size is the length of the file that is shipped, with all that belongs to the model.",
        "Times are those of the baseline on this machine, divided by the speed-up, which was measured in interleaved "
        "pairs with the baseline; in brackets its 95 % interval.",
        "The configurations were picked by the same test samples that their figures are of: the best of many looks a "
        "little better than it will be on new ones.",
    ]
    if report.chosen.record is not None:
        words = words_of(report.chosen.record)
        told.insert(
            0, f"Intervals are {words.interval}'s at 95 %; pairs are told apart by {words.test} at the 5 % level."
        )
        told.append(
            f"Digests: model {report.chosen.record.digests.model[:12]}, data "
            f"{report.chosen.record.digests.dataset[:12]}, recipe {report.chosen.recipe.digest[:12]}, file "
            f"{report.chosen.record.digests.artefact[:12]}."
        )
    return section(
        "How to read this",
        tag("ul", *(tag("li", each) for each in told)),
        *([tag("h3", "Left out"), tag("ul", *(tag("li", each) for each in report.missing))] if report.missing else []),
    )
