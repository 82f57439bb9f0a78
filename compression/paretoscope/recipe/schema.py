"""The schema of settings: each one described once, beside the field of the step that it belongs to.

`setting(...)` makes the field of a dataclass and puts its description there. Checks, links, what has an effect, the
options of the command line, the widgets of the pages and the rows of the Methods page are made from it. The name in
recipes, files and links never changes with the words that a person reads: the flag and the label may.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from paretoscope.recipe.values import Switch, ValueType

Settings = Mapping[str, Any]

_KEY = "setting"


@dataclass(frozen=True, slots=True)
class Effect:
    """When a setting has an effect.

    holds: of all flat settings, this one's own value among them. needs: in words for a person. gives: settings beside
    which it has one, the most natural first. layers: whether the plan of one layer is enough for it, that of an
    override or that of the ends. tried: the value for which a screen asks whether it could have one, where that depends
    on the value itself; None for the value that it has.
    """

    holds: Callable[[Settings], bool]
    needs: str = ""
    gives: Callable[[Settings], Settings] = lambda settings: {}
    layers: bool = False
    tried: Any = None


ALWAYS = Effect(lambda settings: True)


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a recipe.

    name: in recipes, files and links. step: the step that has it, "" for the recipe as a whole. kind: what it may hold.
    default: the flat one, of `Recipe.of`. flag: of the command line, in the field's term; of a switch that
    is on, the one that turns it off. label, help: on a screen. reference: what the field calls it, with a source where
    it has one. effect: when it does something. aliases: older flags. sample: a value for messages. prominent: whether
    it is one of the sliders that are always in sight and in every link. whole: whether no override may set it. written:
    whether files state it even at its default. idle: what a recipe holds where it has no effect, None for the default.
    """

    name: str
    step: str
    kind: ValueType
    default: Any
    flag: str
    label: str
    help: str
    reference: str
    effect: Effect
    aliases: tuple[str, ...] = ()
    sample: str = ""
    prominent: bool = False
    whole: bool = False
    written: bool = False
    idle: Callable[[Settings], Any] | None = None

    @property
    def option(self) -> str:
        """The flag as the command line declares it: of a switch that is on, both of its flags."""
        return f"--{self.name.replace('_', '-')}/{self.flag}" if self.kind.type is bool and self.default else self.flag

    @property
    def explained(self) -> str:
        """The help with the field's term, for a screen."""
        return f"{self.help} In the field: {self.reference}."

    def word(self, value: Any) -> str:
        """What a value is called on a screen."""
        return self.kind.word(value)


def setting(
    default: Any = dataclasses.MISSING,
    *,
    of: ValueType,
    label: str,
    help: str,
    reference: str,
    effect: Effect = ALWAYS,
    flag: str = "",
    off: Any = dataclasses.MISSING,
    sample: str = "",
    prominent: bool = False,
    whole: bool = False,
    written: bool = False,
    idle: Callable[[Settings], Any] | None = None,
) -> Any:
    """The field of a step, with its description.

    default: left out, it must be given when the step is made, and `off` is the flat default. flag: left out, it follows
    from the name. The other arguments are those of Setting.
    """
    told = {"kind": of, "label": label, "help": help, "reference": reference, "effect": effect, "flag": flag}
    told |= {"off": off, "sample": sample, "prominent": prominent, "whole": whole, "written": written, "idle": idle}
    return dataclasses.field(default=default, metadata={_KEY: told})


def described(owner: Any, step: str = "") -> dict[str, Setting]:
    """The settings of a step's class, or of the recipe's, by name, in the order of its fields."""
    found = {}
    for each in dataclasses.fields(owner):
        if _KEY not in each.metadata:
            continue
        told = dict(each.metadata[_KEY])
        off, flag = told.pop("off"), told.pop("flag")
        default = each.default if off is dataclasses.MISSING else off
        own = f"--{each.name.replace('_', '-')}"
        if isinstance(told["kind"], Switch) and default:
            aliases: tuple[str, ...] = ()
            flag = flag or f"--no-{own[2:]}"
        else:
            flag = flag or own
            aliases = (own,) if flag != own else ()
        sample = told.pop("sample") or told["kind"].write(default)
        found[each.name] = Setting(each.name, step, default=default, flag=flag, aliases=aliases, sample=sample, **told)
    return found


def check(step: Any) -> None:
    """Check each setting of a new step, and store it in its canonical form; raises RecipeError."""
    for each in dataclasses.fields(step):
        if (told := each.metadata.get(_KEY)) is not None:
            object.__setattr__(step, each.name, told["kind"].check(each.name, getattr(step, each.name)))
