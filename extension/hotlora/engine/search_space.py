"""What a search may change of a run, and over which values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .config import RunConfig
from .errors import UserError
from .options import groups_of, types_by_option
from .recipe import read_override
from .values import EMPTY, convert, default_of

ALPHA = "alpha per rank"  # lora_alpha is searched as a share of the rank
_GROUPS = ("Adapter", "Learning", "Network", "Layers")  # of options that neither data nor judge depends on
_NEVER = ("init_lora", "auto_rank", "seed", "mixed_precision")


@dataclass(frozen=True)
class Range:
    """From low to high, searched by its logarithm."""

    low: float
    high: float


Space = Mapping[str, "tuple[Any, ...] | Range"]


def make_space(config: RunConfig, over: Sequence[str] = (), keep: Sequence[str] = ()) -> dict[str, "tuple[Any, ...] | Range"]:
    """The usual ranges around this config; ``over`` adds or replaces some, each ``KEY=A,B,C`` or ``KEY=LOW..HIGH``, and ``keep`` leaves
    options as they are.

    Raises:
        UserError: for a key or values that cannot be searched over.
    """
    space = usual_space(config)
    for text in over:
        key, value = read_override(text)
        _refuse_strange(key, config)
        space.pop(ALPHA if key == "lora_alpha" else "", None)
        space[key] = _check_values(key, _read_values(key, value), config)
    for key in keep:
        _refuse_strange(key, config)
        space.pop(ALPHA if key == "lora_alpha" else key, None)
    if not space:
        raise UserError("cannot search over nothing: every option is kept as it is. Keep fewer, or name others to search over.")
    return space


def usual_space(config: RunConfig) -> dict[str, "tuple[Any, ...] | Range"]:
    """What is searched when nothing is said."""
    rate = config.learning_rate or type(config).learning_rate
    return {
        "lora_rank": tuple(dict.fromkeys((config.lora_rank, 4, 8, 16, 32, 64))),
        ALPHA: tuple(dict.fromkeys((_alpha_per_rank(config), 0.5, 1.0, 2.0))),
        "learning_rate": Range(rate / 10, rate * 10),
        "scheduler": tuple(dict.fromkeys((config.scheduler, "constant", "linear", "cosine"))),
        **config.search_also(),
    }


def _alpha_per_rank(config: RunConfig) -> float:
    return 1.0 if config.lora_alpha is None else config.lora_alpha / config.lora_rank


def next_guess(config: RunConfig, space: Space, tried: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What often helps and was not tried yet, before anything is drawn: the config's own values with a change of those that it names, at
    its rate and at a third of it; then its own at a third and at three times the rate. None where all was tried or is not searched.
    """
    rate = config.learning_rate or type(config).learning_rate
    own = {**{key: getattr(config, key, None) for key in space}, ALPHA: _alpha_per_rank(config), "learning_rate": rate}
    third = {"learning_rate": rate / 3}
    changes = [way for change in config.search_first() for way in (change, {**change, **third})]
    for change in (*changes, third, {"learning_rate": rate * 3}):
        if any(key not in space or not _holds(space[key], value) for key, value in change.items()):
            continue
        guess = {key: change.get(key, own[key]) for key in space if key in change or _holds(space[key], own[key])}
        if not any(all(one.get(key) == value for key, value in guess.items()) for one in [own, *tried]):
            return guess
    return None


def _holds(values: "tuple[Any, ...] | Range", value: Any) -> bool:
    return values.low <= value <= values.high if isinstance(values, Range) else value in values


def _refuse_strange(key: str, config: RunConfig) -> None:
    able = [field.name for name, fields in groups_of(type(config)).items() if name in _GROUPS for field in fields]
    able = [name for name in able if name not in (*_NEVER, *config.NEVER_SEARCHED)]
    if key not in able:
        raise UserError(
            f"cannot search over '{key}': model, data and judge have to stay the same for all trials. Choose among {', '.join(able)}."
        )


def _read_values(key: str, value: Any) -> "tuple[Any, ...] | Range":
    text = str(value)
    if ".." in text:
        low, _, high = text.partition("..")
        try:
            found = Range(float(low), float(high))
        except ValueError:
            found = Range(0, 0)
        if not 0 < found.low < found.high:
            raise UserError(f"cannot search {key} over '{text}': it is no range above 0. Write it as LOW..HIGH, such as 1e-5..1e-3.")
        return found
    parts = value if isinstance(value, list) else [read_override(f"{key}={part}")[1] for part in text.split(",")]
    if len(parts) < 2:
        raise UserError(f"cannot search {key} over '{text}': that is one value. Write several as A,B,C, or a range as LOW..HIGH.")
    return tuple(parts)


def _check_values(key: str, values: "tuple[Any, ...] | Range", config: RunConfig) -> "tuple[Any, ...] | Range":
    """The same as the option takes them. Raises UserError for those that it does not, or for a range of what is no number."""
    field, kind = types_by_option(type(config))[key]
    if not isinstance(values, Range):
        return tuple(None if (found := convert(field, kind, value)) is EMPTY else found for value in values)
    for end in (values.low, values.high):
        if isinstance(default_of(field), bool) or not isinstance(convert(field, float, end), float):
            raise UserError(f"cannot search {key} over a range: it takes no numbers. Write its values as A,B,C.")
    return values


def as_options(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a run, from what was drawn from a space; where the rank itself is not searched, ``lora_rank`` must be given too."""
    options = {key: value for key, value in chosen.items() if key != ALPHA}
    if ALPHA in chosen:
        options["lora_alpha"] = options["lora_rank"] * chosen[ALPHA]
    return options
