"""Options that follow from others: what an optimizer makes of the learning rate, the schedule and its own arguments. After this a
config says what will happen. Must import nothing of ours but ``engine``; no torch."""

from typing import TYPE_CHECKING, Any

from .errors import UserError

if TYPE_CHECKING:
    from .config import RunConfig

_PRODIGY_RATE = 1.0
_TINY_FOR_PRODIGY = 0.05
_OPTIONS_OF_THEIR_OWN = ("weight_decay", "warmup_steps")  # that people also write into optimizer_args


def settle(config: "RunConfig") -> None:
    """Bring the options in line with each other, and say in ``notes`` what was asked for and is not applied.

    Raises:
        UserError: where two of them contradict each other.
    """
    _take_from_arguments(config)
    if config.optimizer == "Prodigy":
        _settle_prodigy(config)
    if config.optimizer == "AdamWScheduleFree":
        _drop(config, "scheduler", "constant", "AdamWScheduleFree averages the weights instead of lowering the rate")
    if sets_own_rates(config):
        for key, value in (("scheduler", "constant"), ("warmup_steps", 0)):
            _drop(config, key, value, "Adafactor with relative_step chooses its rates by itself")
        if "learning_rate" in config.given:
            config.notes.append("learning_rate is not used: Adafactor with relative_step chooses its rates by itself.")


def sets_own_rates(config: "RunConfig") -> bool:
    """Whether the optimizer goes by rates of its own, as Adafactor does in its paper."""
    return config.optimizer == "Adafactor" and bool(config.optimizer_args.get("relative_step"))


def _take_from_arguments(config: "RunConfig") -> None:
    """What stands among the optimizer's arguments but is an option here."""
    arguments = dict(config.optimizer_args)
    for key in ("lr", "params"):
        if key in arguments:
            what = "the rate is the option learning_rate" if key == "lr" else "those are chosen by the options of the adapter"
            raise UserError(f"cannot use '{key}' in optimizer_args: {what}. Leave it out there.")
    for key in _OPTIONS_OF_THEIR_OWN:
        if key not in arguments:
            continue
        value = arguments.pop(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1e8:
            raise UserError(f"cannot set {key} in optimizer_args to {value!r}: it takes a number that is not negative. Correct it.")
        if key in config.given and getattr(config, key) != value:
            raise UserError(f"cannot set {key} twice, to {getattr(config, key)} and in optimizer_args to {value}. Remove one of them.")
        setattr(config, key, type(getattr(config, key))(value))
    config.optimizer_args = arguments


def _settle_prodigy(config: "RunConfig") -> None:
    if "learning_rate" not in config.given:
        config.learning_rate = _PRODIGY_RATE
    elif 0 < config.learning_rate < _TINY_FOR_PRODIGY:
        config.notes.append(
            f"Prodigy finds the rate by itself and multiplies it by learning_rate: {config.learning_rate:g} of it learns next to nothing. "
            "Set learning_rate: 1.0 or leave it out."
        )
    rates = sorted({rate for rate in config.learning_rates() if rate})
    if len(rates) > 1:
        listed = ", ".join(f"{rate:g}" for rate in rates)
        raise UserError(
            f"cannot use Prodigy with several learning rates ({listed}): it finds one for all layers. Give all the same rate, or use AdamW."
        )


def _drop(config: "RunConfig", key: str, value: Any, why: str) -> None:
    """Set an option to what it amounts to."""
    if key in config.given and getattr(config, key) != value:
        config.notes.append(f"{key} {getattr(config, key)} is not used: {why}.")
    setattr(config, key, value)
