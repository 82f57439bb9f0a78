"""A record for a person to read."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paretoscope.measure.record import Record


def summary(record: "Record") -> str:
    """The task's figures, size, rates and, where it was timed, latency, a line or two each."""
    from paretoscope.measure.paired import paired_ms
    from paretoscope.measure.wording import NOT_ALONE, UNDECIDED_WHY, share_touched, smaller, speed, untouched
    from paretoscope.tasks import tasks
    from paretoscope.tasks.plain import counted, figure, judged_by

    figures, size, rates = record.figures, record.size, record.rates
    task = tasks.get(record.task)
    words = task.words
    low, high = figure(words, figures.low), figure(words, figures.high)
    change = words.factor * (figures.value - record.baseline.value)
    verdict = f"{'' if figures.distinguishable else 'in'}distinguishable from the baseline"
    further = "".join(f"; {each.title[0].lower()}{each.title[1:]} {each.text(figures)}" for each in task.further)
    lines = [
        f"{record.model} on {record.dataset or 'random numbers'}: {record.recipe.describe()}",
        f"{words.name:<11}{figure(words, figures.value)} [{low}, {high}], {counted(figures, figures.n)}",
        f"           {change:+.2f} {words.points}, {verdict} ({judged_by(words)} p = {figures.p_value:.3g}){further}",
        f"           harm {figures.harm:.3g} {words.harm_unit} (mean {words.divergence} from the baseline's outputs)",
        f"size       {size.artefact:,} bytes, {smaller(record.ratio)} than fp32, {record.baseline.size_bytes:,} bytes",
        f"           dense {size.dense:,} > sparse {size.sparse:,} > packed {size.packed:,} > huffman {size.huffman:,} "
        f"> ans {size.ans:,}",
        *([f"           {share_touched(record.touched)} of the parameters"] if record.touched is not None else []),
        *([f"           {untold}"] if (untold := untouched(record.touched, record.recipe)) else []),
        f"rates      {rates.sparse_rate:.1%} zero, {rates.shared_rate:.1%} shared, "
        f"{rates.architecture_simplification:.1%} of the parameters kept",
    ]
    if record.engine != "torch":
        lines.insert(4, "           evaluated in ONNX Runtime, which agrees with PyTorch to 1e-4 on the first samples")
    if (latency := record.latency) is not None:
        lines += [
            f"latency    {paired_ms(latency, latency.baseline_median_ms):.3f} ms beside "
            f"{latency.baseline_median_ms:.3f} ms of the baseline, {speed(latency)}",
            f"           {latency.runtime} {latency.number_format}, batch {latency.batch}, {latency.threads} thread(s)",
            *([] if latency.decided else [f"           {UNDECIDED_WHY}"]),
            *([f"           {NOT_ALONE}"] if latency.alone is False else []),
        ]
    return "\n".join(lines)
