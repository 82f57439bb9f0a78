"""What wins back accuracy with training, within what the other steps can represent."""

from dataclasses import dataclass
from typing import Any

from paretoscope.base.errors import RecipeError
from paretoscope.base.text import shown
from paretoscope.recipe.conditions import INTEGER_BITS, PRUNED, TRAINED, TRAINING, Calibration, spread, trained
from paretoscope.recipe.schema import Effect, Settings, check, setting
from paretoscope.recipe.values import Choice, Field, Number, Switch, Term, Text, Whole, fraction, matching


class Schedule(Term):
    """How the learning rate changes over the epochs."""

    COSINE = "cosine", "cosine"
    CONSTANT = "constant", "constant"


def _gradual(settings: Settings) -> bool:
    """Whether training has something that can come gradually, and epochs for it (see training.stages)."""
    falls = spread(settings) and (settings["bits"] < INTEGER_BITS or settings["calibration"] == Calibration.RATE)
    falls = falls or settings["bits"] == 1
    some = min(round(settings["ramp"] * settings["epochs"]), settings["epochs"] - 1) > 0
    return trained(settings) and (some or not settings["ramp"]) and bool(settings["sparsity"] or falls)


def _gradually(settings: Settings) -> dict[str, Any]:
    """Settings that give a ramp something to do: a sparsity, or few bits where another rule prunes; and epochs."""
    falls = {"bits": 4} if settings["threshold"] or settings["pattern"] else PRUNED
    return {"epochs": max(10, round(2 / settings["ramp"])) if settings["ramp"] else 10, **falls}


_DISTILLED = Effect(
    lambda s: trained(s) and s["distill"] > 0, "epochs and distill", lambda s: {**TRAINED, "distill": 0.5}
)


def _outlasted(name: str) -> Effect:
    """The effect of a number of epochs that means something only where training has more of them."""
    return Effect(
        lambda s: trained(s) and s[name] < s["epochs"],
        "more epochs than that",
        lambda s: {"epochs": s[name] + 10},
        tried=0,
    )


@dataclass(frozen=True, slots=True)
class Recover:
    """What wins back accuracy with training, within what the other steps can represent.

    epochs: passes over the train split, at most; 0 for none. learning_rate: of Adam, its peak; schedule "cosine" falls
    to zero, "constant" stays. minibatch: samples a step. ramp: share of the epochs over which sparsity rises to its
    target and bits fall to theirs. distill: weight of the teacher's answers in the loss, the rest being the labels';
    temperature: that softens those answers. teacher: a model of the zoo, trained on the same dataset; the baseline
    itself where it is empty. average: decay of a running mean, over the optimiser's steps, of what is trained; the
    mean is measured and kept; 0 for the weights of the last step (Polyak and Juditsky, Acceleration of stochastic
    approximation by averaging, 1992). patience: epochs without a better one that end it, 0 for never. augment: train on
    images that are turned, scaled and shifted a little. seed: of the validation part and of all draws. stopped: the
    epoch after which it was ended by hand or by a budget, 0 where it was not.
    """

    epochs: int = setting(
        0,
        of=Whole(field=Field(1, 1000)),
        label="Epochs, at most",
        help="Passes over the train split; 0 for no training.",
        reference="epochs of fine-tuning, Han et al. 2015",
    )
    learning_rate: float = setting(
        1e-3,
        of=Number(0, 10, above=True, remedy="Pass e.g. 0.001.", field=Field(1e-6, 10.0, 1e-4, "%g")),
        label="Learning rate",
        help="Step size of Adam, at its peak.",
        reference="learning rate, Kingma and Ba 2015",
        effect=TRAINING,
    )
    schedule: str = setting(
        "cosine",
        of=Choice(Schedule),
        label="Schedule",
        help="Cosine lets the learning rate fall to zero over all epochs; constant stays.",
        reference="learning rate schedule; cosine annealing, Loshchilov and Hutter 2017",
        effect=TRAINING,
    )
    minibatch: int = setting(
        50,
        of=Whole(1, 2**20, remedy="Pass e.g. 50.", field=Field(1, 4096)),
        flag="--batch-size",
        label="Samples a step",
        help="Samples that a step of the optimiser looks at.",
        reference="batch size",
        effect=TRAINING,
    )
    ramp: float = setting(
        0.0,
        of=fraction(field=Field(0.01, 0.99, 0.05)),
        label="Ramp, share of the epochs",
        help="Share of the epochs over which sparsity rises and bits fall to what the recipe says; 0: one shot.",
        reference="gradual pruning schedule, Zhu and Gupta 2017",
        effect=Effect(
            _gradual,
            "more than one epoch of it, and a sparsity, fewer than 8 bits or an exchange rate to rise to",
            _gradually,
            tried=0.0,
        ),
    )
    distill: float = setting(
        0.0,
        of=Number(0, 1, remedy="Pass e.g. 0.5, or 0 for none.", field=Field(0.01, 0.99, 0.05)),
        flag="--distillation-weight",
        label="Weight of the teacher's answers",
        help="What the teacher's answers weigh in the loss; the labels have the rest.",
        reference="distillation weight, Hinton et al. 2015",
        effect=TRAINING,
    )
    temperature: float = setting(
        4.0,
        of=Number(0.1, 100, remedy="Pass e.g. 4.", field=Field(0.1, 100.0, 0.5)),
        label="Temperature",
        help="Softens the teacher's answers: what it thinks of the wrong answers counts for more.",
        reference="distillation temperature, Hinton et al. 2015",
        effect=_DISTILLED,
    )
    teacher: str = setting(
        "",
        of=Text(
            matching(r"[\w.-]{0,64}"),
            "the name of a model",
            "Pass e.g. 'lenet-5', or '' for the baseline.",
            "a model of the same data, or the baseline",
            "MODEL",
            empty="the baseline",
        ),
        label="Teacher",
        help="Whose answers are learned: those of the uncompressed baseline, or of another model of the same dataset; "
        "a better one teaches better.",
        reference="teacher of knowledge distillation, Hinton et al. 2015",
        effect=_DISTILLED,
    )
    average: float = setting(
        0.0,
        of=fraction(field=Field(0.0, 0.9999, 0.01, "%g")),
        flag="--ema-decay",
        label="Average, decay",
        help="Keeps running means of the weights over the optimiser's steps, e.g. 0.99; 0 keeps those of the last "
        "step.",
        reference="EMA decay of the weights; averaging of iterates, Polyak and Juditsky 1992",
        effect=TRAINING,
    )
    patience: int = setting(
        0,
        of=Whole(field=Field(0, 1000)),
        label="Patience, epochs",
        help="Ends the training after so many epochs without a better one; 0 for never.",
        reference="patience of early stopping",
        effect=_outlasted("patience"),
    )
    augment: bool = setting(
        True,
        of=Switch(),
        label="Vary the images",
        help="Train on images that are turned, scaled and shifted a little.",
        reference="data augmentation",
        effect=TRAINING,
    )
    seed: int = setting(
        0,
        of=Whole(field=Field(0, 2**31)),
        label="Seed",
        help="Where the draws of the validation part and of all batches start.",
        reference="random seed",
        effect=TRAINING,
    )
    stopped: int = setting(
        0,
        of=Whole(),
        label="Ended after epoch",
        help="The epoch after which a training was ended by hand or by a budget, to repeat it; 0 if it was not.",
        reference="early termination",
        effect=_outlasted("stopped"),
    )

    def __post_init__(self) -> None:
        check(self)
        if self.stopped > self.epochs:
            raise RecipeError(
                f"stopped must be an epoch of the {self.epochs}; got {shown(self.stopped)}. Pass 0 for all of them."
            )
        effective = {
            "temperature": self.temperature if self.distill else 4.0,
            "teacher": self.teacher if self.distill else "",
            "stopped": self.stopped if self.stopped < self.epochs else 0,
        }
        for name, value in effective.items():
            object.__setattr__(self, name, value)

    def describe(self) -> list[str]:
        """Words for a person, settings that are not the default named."""
        done = f"{self.stopped} of {self.epochs}" if self.stopped else f"{self.epochs}"
        return [
            f"trained {done} epoch{'s' * (self.epochs > 1)}",
            *[f"distilled from {self.teacher}" if self.teacher else "distilled"] * bool(self.distill),
            *["gradually"] * bool(self.ramp),
            *["averaged"] * bool(self.average),
        ]
