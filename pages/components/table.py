"""The table of visited records: sortable, with pin and load."""

import streamlit as st
from paretoscope.measure.paired import paired_ms
from paretoscope.measure.wording import smaller, speed
from paretoscope.service.subjects import task_of

from pages.components import kept, state
from pages.components.state import Work


def render(work: Work) -> None:
    """One line for each record that this session visited or pinned; a chosen line can be loaded or pinned."""
    seen, pinned, task = state.trail(), kept.letters(work.view.model), task_of(work.view.model)
    words = task.words
    wanted = list(dict.fromkeys([*reversed(seen), *pinned]))
    everything = st.toggle("All measured recipes", key="table_all", help="Also those of the sweeps and earlier visits.")
    by_digest = {record.digests.recipe: record for record in work.records}
    digests = list(by_digest) if everything else [digest for digest in wanted if digest in by_digest]
    records = [by_digest[digest] for digest in digests]
    reference = state.workbench().reference_ms(work.view.model, work.view.timing)
    rows = [
        {
            "Pinned": pinned.get(record.digests.recipe, ""),
            "Recipe": record.recipe.describe(),
            words.title: words.factor * record.figures.value,
            "Change": words.factor * (record.figures.value - record.baseline.value),
            "p": record.figures.p_value,
            "Harm": record.figures.harm,
            **{each.title: each.of(record.figures) for each in task.further},
            "Size": record.size.artefact / 1000,
            "Ratio": smaller(record.ratio),
            "Touched": None if record.touched is None else 100 * record.touched.share,
            "Latency": paired_ms(record.latency, reference) if record.latency and record.latency.decided else None,
            "Speed": str(speed(record.latency)) if record.latency else None,
            "Zero": 100 * record.rates.sparse_rate,
            "Shared": 100 * record.rates.shared_rate,
        }
        for record in records
    ]
    number = st.column_config.NumberColumn
    event = st.dataframe(
        rows,
        key="table",
        on_select="rerun",
        selection_mode="single-row",
        hide_index=True,
        alt=f"Visited recipes with their {words.name}, size and latency",
        column_config={
            "Recipe": st.column_config.TextColumn(width="large"),
            words.title: number(format=words.number),
            "Change": number(format=words.difference),
            "p": number(format="%.3g", help=f"{words.test} against the baseline."),
            "Harm": number(
                format=f"%.2g {words.harm_unit}", help=f"Mean {words.divergence} of the outputs from the baseline's."
            ),
            **{each.title: number(format=f"%.{each.decimals}f") for each in task.further},
            "Size": number(format="%.1f KB"),
            "Touched": number(format="%.1f %%", help="Share of the parameters that the recipe acted on."),
            "Latency": number(format="%.3f ms", help="The baseline's time over the speed-up."),
            "Zero": number(format="%.1f %%"),
            "Shared": number(format="%.1f %%"),
        },
    )
    chosen = event.selection.rows[0] if event.selection.rows else None
    record = records[chosen] if chosen is not None and chosen < len(records) else None
    load, pin, _ = st.columns([1, 1, 4])
    load.button(
        "Load",
        key="table_load",
        width="stretch",
        disabled=record is None,
        on_click=_load,
        args=(record,),
        help="Select a line first.",
    )
    pin.button(
        "Unpin" if record and record.digests.recipe in pinned else "Pin",
        key="table_pin",
        width="stretch",
        disabled=record is None,
        on_click=lambda: kept.toggle(work.view.model, record.recipe),
        help="Select a line first.",
    )


def _load(record) -> None:
    state.load_recipe(record.recipe)
    st.session_state.reload = True
