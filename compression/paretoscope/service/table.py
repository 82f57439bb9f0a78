"""The records as a table; what a model is converted to is in `convert`."""

import csv
import io
import json
from collections.abc import Sequence

from paretoscope.measure.record import Record
from paretoscope.recipe.recipe import Recipe


def records_csv(records: Sequence[Record]) -> str:
    """One line a record: settings, figures, sizes in bytes, rates, latency and digests. A header names the columns."""
    rows = [_row(record) for record in records]
    text = io.StringIO()
    if rows:
        table = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return text.getvalue()


def _settings(recipe: Recipe) -> dict[str, object]:
    """The flat settings, lists as text."""
    overrides = recipe.to_dict().get("overrides")
    lists = {"drop": " ".join(recipe.settings()["drop"]), "overrides": json.dumps(overrides) if overrides else ""}
    return {**recipe.settings(), **lists}


def _row(record: Record) -> dict[str, object]:
    data = record.to_dict()
    latency = data["latency"] or {}
    timed = ("runtime", "number_format", "batch", "threads", "median_ms", "baseline_median_ms")
    ratios = ("speedup", "speedup_low", "speedup_high")
    return {
        "model": record.model,
        "dataset": record.dataset,
        **_settings(record.recipe),
        **{
            key: data[key]
            for key in ("n", "correct", "accuracy", "accuracy_low", "accuracy_high", "f1", "p_value", "harm")
        },
        **{f"baseline_{key}": value for key, value in data["baseline"].items()},
        **{f"size_{key}": value for key, value in data["size"].items()},
        "ratio": record.ratio,
        **data["rates"],
        "touched": None if record.touched is None else record.touched.share,
        **{f"latency_{key}": latency.get(key) for key in (*timed, *ratios)},
        "latency_reused": record.latency_reused if record.latency else None,
        **{f"digest_{key}": value for key, value in data["digests"].items()},
    }
