"""The tables of the page Compare, as tables that scroll inside themselves: figures, recipes, tests in pairs."""

import html
from collections.abc import Callable, Sequence

import streamlit as st
from paretoscope.base.units import format_bytes, format_ms, format_p, format_percent
from paretoscope.figures.theme import Theme
from paretoscope.measure.comparison import Pair, pair
from paretoscope.measure.paired import paired_ms
from paretoscope.measure.record import Record
from paretoscope.measure.wording import UNDECIDED, share_touched, smaller, speed
from paretoscope.recipe.differences import rows
from paretoscope.service.subjects import task_of
from paretoscope.tasks import Task
from paretoscope.tasks import plain as plain_text

from pages.components import compare, naming, plain, state
from pages.components.compare import Column, Known

NOT_YET = '<span class="wait" role="img" aria-label="being measured"></span>'
NONE = "–"
# Characters of a name, of a note, and of where a configuration came from.
NAME, NOTE, ORIGIN = 70, 200, 160

Cell = Callable[[Column], str]


def sheet(known: Known, look: Theme) -> None:
    """Each configuration's figures, one below the other."""
    task, many = task_of(known.columns[0].model), len({each.model for each in known.columns}) > 1
    words = task.words
    lines: list[tuple[str, str, Cell]] = [
        (words.title, f"95 % interval ({words.interval}) in brackets, and the change to the baseline.", _headline),
        *(
            (each.title, each.help, _measured(lambda record, each=each: html.escape(each.text(record.figures))))
            for each in task.further
        ),
        (
            "Size",
            "Length of the file.",
            _measured(lambda record: _two(format_bytes(record.size.artefact), smaller(record.ratio))),
        ),
        ("Touched", "Share of the parameters that the recipe acted on.", _touched),
        (
            "Time",
            "The baseline's time over the paired speed-up, whose interval is in brackets.",
            lambda each: _time(each, known),
        ),
        (
            "Zero weights",
            "Share of the weights that decode to zero.",
            _measured(lambda record: html.escape(format_percent(record.rates.sparse_rate))),
        ),
        ("Came from", "Worked out from presets, from what this session tried, and from training.", _origin),
    ]
    if any(each.pin is not None and each.pin.note for each in known.columns):
        lines.append(("Note", "What was written beside the pin.", _note))
    body = [[_head(title, told), *map(cell, known.columns)] for title, told, cell in lines]
    _table(_heads(known.columns, look, many), body, look, "Figures of each configuration")


def recipes(known: Known, look: Theme) -> None:
    """What the recipes say; only where they differ, or everything."""
    everything = st.toggle("All settings", key="compare_all", help="Also those that are the same in all recipes.")
    found = [row for row in rows([each.recipe for each in known.columns]) if everything or row.differs]
    if not found:
        st.caption("The recipes do not differ." if len(known.columns) > 1 else "There is one recipe only.")
        return
    body = [[_head(row.label, row.help), *map(_text, row.values)] for row in found]
    _table(_tags(known.columns, look), body, look, "Settings of each recipe")


def pairs(known: Known, look: Theme) -> None:
    """Every configuration against every other, by the task's paired test."""
    ready = [each for each in known.columns if each.exact]
    task = task_of(known.columns[0].model)
    st.caption(
        f"Each row against each column, on the same samples. {plain.escape(task.words.test)[:1].upper()}"
        f"{plain.escape(task.words.test)[1:]} at the 5 % level says what is measurable.",
        help=f"{task.words.flips.help} From the column to the row. Differences below what so few samples can show are "
        "no measurable difference; that does not prove that there is none.",
    )
    if len(ready) < 2:
        st.skeleton(height=120)
        return
    body = [[_tag(row, look, scope="row"), *(_cell(task, column, row) for column in ready)] for row in ready]
    _table(_tags(ready, look), body, look, "Tests of each pair")


def _cell(task: Task, column: Column, row: Column) -> str:
    if column is row:
        return NONE
    assert column.evaluation is not None and row.evaluation is not None, "only exact columns are paired"
    found = pair(task, column.evaluation, row.evaluation, state.workbench().subject(row.model).labels)
    if found is None:
        return "<small>other samples</small>"
    counts = "" if found.same else plain_text.flips(task.words, found.counts)
    return _two(told(found, task), counts, format_p(found.p_value), found)


def told(found: Pair, task: Task) -> str:
    """The outcome of a paired test in plain words."""
    if found.same:
        return "the same answers"
    if not found.measurable:
        return "no measurable difference"
    words = task.words
    return f"{abs(found.points):.1f} {words.change_unit} {'better' if found.points > 0 else 'worse'}"


def _two(first: str, second: str = "", title: str = "", found: Pair | None = None) -> str:
    """A cell of a value and what explains it, as HTML."""
    tone = ""
    if found is not None and found.measurable and not found.same:
        tone = ' class="better"' if found.points > 0 else ' class="worse"'
    hint = f' title="{html.escape(title)}"' if title else ""
    below = f"<small>{_whole(second)}</small>" if second else ""
    return f"<span{tone}{hint}>{html.escape(first)}</span>{below}"


def _whole(text: str) -> str:
    """HTML of a text whose interval is not broken over two lines."""
    return html.escape(text).replace(", ", ",&nbsp;") if "[" in text else html.escape(text)


def _measured(of: Callable[[Record], str]) -> Cell:
    """A cell of the record's, as HTML, once there is one."""

    def cell(column: Column) -> str:
        if column.record is None:
            return NONE if column.problem else NOT_YET
        return of(column.record)

    return cell


def _headline(column: Column) -> str:
    record = column.record
    if record is None:
        return html.escape("cannot be measured") if column.problem else NOT_YET
    words, figures = task_of(column.model).words, record.figures
    interval = f"[{', '.join(words.ends(figures.low, figures.high))}]"
    if not column.exact:
        return _two(f"≈ {words.value(figures.value)}", f"{interval}, {figures.n:,} samples so far")
    change = figures.value - record.baseline.value
    verdict = words.change(change) if figures.distinguishable else "no measurable loss"
    tone = "" if not figures.distinguishable else "better" if change > 0 else "worse"
    return (
        f"<strong>{html.escape(words.value(figures.value))}</strong> <small>{html.escape(interval)}</small>"
        f'<small class="{tone}">{html.escape(verdict)}</small>'
    )


def _touched(column: Column) -> str:
    if column.record is None:
        return NONE if column.problem else NOT_YET
    return html.escape(share_touched(column.record.touched).removeprefix("touched ")) or NONE


def _time(column: Column, known: Known) -> str:
    latency = column.latency
    if latency is None:
        return NONE if column.problem or compare.untimed(column, known.timing) else NOT_YET
    paired = speed(latency)
    reference = state.workbench().reference_ms(column.model, compare.timing_for(column, known.timing))
    if not latency.decided or reference is None:
        return _two(UNDECIDED, paired.interval)
    return _two(format_ms(paired_ms(latency, reference)), f"{paired}")


def _origin(column: Column) -> str:
    return f"<small>{html.escape(plain.cut(compare.origin(column).told, ORIGIN))}</small>"


def _note(column: Column) -> str:
    return f"<small>{html.escape(plain.cut(column.pin.note, NOTE))}</small>" if column.pin is not None else ""


def _text(value: str) -> str:
    return html.escape(plain.cut(value, NAME))


def _head(title: str, told: str) -> str:
    return f'<th scope="row" title="{html.escape(told)}">{html.escape(title)}</th>'


def _heads(columns: Sequence[Column], look: Theme, many: bool) -> list[str]:
    return ["", *(_tag(each, look, scope="col", name=True, model=many) for each in columns)]


def _tags(columns: Sequence[Column], look: Theme) -> list[str]:
    return ["", *(_tag(each, look, scope="col") for each in columns)]


def _tag(column: Column, look: Theme, *, scope: str, name: bool = False, model: bool = False) -> str:
    colour = look.palette[column.place % len(look.palette)]
    more = f"<small>{html.escape(plain.cut(column.name, NAME))}</small>" if name else ""
    more += f"<small>{html.escape(plain.cut(naming.called(column.model), NAME))}</small>" if model else ""
    badge = f'<i style="background:{colour}"></i>{html.escape(plain.cut(column.tag, NAME))}'
    return f'<th scope="{scope}">{badge}{more}</th>'


def _table(heads: Sequence[str], body: Sequence[Sequence[str]], look: Theme, label: str) -> None:
    head = "".join(each if each.startswith("<th") else "<td></td>" for each in heads)
    lines = "".join(
        "<tr>" + "".join(each if each.startswith("<th") else f"<td>{each}</td>" for each in line) + "</tr>"
        for line in body
    )
    st.html(
        f'{_style(look)}<div class="compare-sheet" role="region" tabindex="0" aria-label="{html.escape(label)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _style(look: Theme) -> str:
    return f"""<style>
.compare-sheet {{ overflow-x: auto; max-width: 100%; }}
.compare-sheet table {{ border-collapse: collapse; width: 100%; font-size: 0.92rem; color: {look.text}; }}
.compare-sheet th, .compare-sheet td {{ padding: 0.3rem 0.6rem; text-align: left; vertical-align: top;
  border-bottom: 1px solid {look.grid}; min-width: 7.6rem; max-width: 15rem; font-weight: 400;
  overflow-wrap: anywhere; }}
.compare-sheet thead th {{ font-weight: 600; }}
.compare-sheet tbody th, .compare-sheet thead td {{ position: sticky; left: 0; background: {look.surface};
  color: {look.muted}; min-width: 7rem; max-width: 9rem; z-index: 1; }}
.compare-sheet small {{ display: block; font-size: 0.8rem; color: {look.muted}; font-weight: 400; }}
.compare-sheet i {{ display: inline-block; width: 0.7rem; height: 0.7rem; border-radius: 2px; margin-right: 0.4rem; }}
.compare-sheet .worse {{ color: {look.alert}; font-weight: 600; }}
.compare-sheet .better {{ color: {look.accent}; font-weight: 600; }}
.compare-sheet .wait {{ display: inline-block; width: 4.5rem; height: 1rem; border-radius: 4px;
  background: {look.grid}; }}
@media (max-width: 640px) {{ .compare-sheet tbody th, .compare-sheet thead td {{ min-width: 5.6rem; max-width: 6rem;
  padding-left: 0; font-size: 0.85rem; overflow-wrap: break-word; }} }}
</style>"""
