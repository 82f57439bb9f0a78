"""`paretoscope formats`, `export`: files for other tools."""

import json
from pathlib import Path
from typing import Annotated

import typer

from paretoscope.base.errors import CompressionError
from paretoscope.cli.options import RecipeOptions, with_recipe
from paretoscope.cli.shared import Json, ModelOrFile, file_path, reporting, tell
from paretoscope.cli.subjects import compressed_subject


@reporting
def formats(as_json: Json = False) -> None:
    """List the formats that a compressed model can be exported to, and what the check of each asks."""
    from paretoscope.export import formats

    rows = [
        {
            "name": each.name,
            "title": each.title,
            "summary": each.summary,
            "reference": each.reference,
            "extension": each.extension,
            "runtime": each.runtime,
            "promise": each.promise,
            "integer_only": each.integer_only,
            "missing": each.missing(),
        }
        for each in formats
    ]
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{'format':<19}{'files':<20}summary; what the check asks")
    for each in formats:
        missing = each.missing()
        told = f"{each.summary} Asked: {each.promise}.{'' if missing is None else f' {missing}'}"
        print(f"{each.name:<19}{each.extension:<20}{told}")


@reporting
@with_recipe
def export(
    options: RecipeOptions,
    model: ModelOrFile,
    format: Annotated[
        list[str],
        typer.Option(
            help="Name of a format, which the command formats lists, or all; may be given more than once.",
            metavar="FORMAT",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(parser=file_path, help="The file, or a new folder where there are several files.", metavar="PATH"),
    ],
    as_json: Json = False,
) -> None:
    """Convert a compressed model for other tools: each file is run in its own runtime before it is written.

    Where one fails its check, nothing is written and the exit status is 1.
    """
    from paretoscope.export import Original, formats, output, produce
    from paretoscope.measure.wording import share_touched, untouched
    from paretoscope.tasks.plain import figure

    asked = list(dict.fromkeys(format))
    names = [name for name in formats.names() if name in asked or "all" in asked]
    for name in asked:
        if name != "all":
            formats.get(name)
    subject, compressed, _ = compressed_subject(model, options)
    tell(compressed.notes)
    if "all" in asked:
        reasons = {name: formats.get(name).missing() or formats.get(name).refusal(compressed.recipe) for name in names}
        tell(f"Left out: {reason}" for name, reason in reasons.items() if reason and name not in asked)
        names = [name for name in names if name in asked or not reasons[name]]
    words = subject.task.words
    original = Original(subject, compressed)
    checked = [produce(compressed, name, subject, original=original) for name in names]
    if failed := [each.verification.problem for each in checked if each.verification.problem is not None]:
        raise CompressionError("; ".join(failed))
    made = [(each.conversion.files, each.verification) for each in checked if each.conversion is not None]
    contents = {name: data for files, _ in made for name, data in files.items()}
    paths = dict(zip(contents, output.write(out, contents), strict=True))
    rows = [
        {"files": {str(paths[name]): len(data) for name, data in files.items()}, **verification.to_dict()}
        for files, verification in made
    ]
    touched = original.record.touched
    tell([*compressed.notes, *filter(None, [untouched(touched, compressed.recipe)])])
    if as_json:
        print(json.dumps(rows if "all" in asked or len(rows) > 1 else rows[0], indent=2))
        return
    dense = f"fp32 {subject.baseline.size_bytes:,} bytes"
    print(f"{compressed.architecture}: {compressed.recipe.describe()}; {dense}; {share_touched(touched)}")
    print(f"{'format':<19}{'bytes':>11}{'differ':>8}{'of':>6}{'largest':>10}{words.name:>10}{'seconds':>9}  runtime")
    for row in rows:
        print(
            f"{row['format']:<19}{row['size']:>11,}{row['differing']:>8}{row['n']:>6}{row['largest']:>10.2g}"
            f"{figure(words, row['accuracy']):>10}{row['seconds']:>9.2f}  {row['runtime']}"
        )
    print(f"written: {', '.join(str(path) for path in paths.values())}")
