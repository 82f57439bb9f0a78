"""`paretoscope recipe`: a recipe, checked."""

from paretoscope.cli.options import RecipeOptions, with_recipe
from paretoscope.cli.shared import reporting


@reporting
@with_recipe
def recipe(options: RecipeOptions) -> None:
    """Print a recipe's JSON, checked and in its canonical form."""
    print(options.build().to_json(indent=2))
