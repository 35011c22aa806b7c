"""Sample prompts as sd-scripts' users write them: a prompt, then ``--n negative --w 512 --h 768 --d 1 --l 7 --s 25``."""

import re
from dataclasses import dataclass
from typing import Any

from ..engine.errors import UserError
from ..engine.options import options_of
from .config import PictureConfig


@dataclass(frozen=True)
class SampleRequest:
    """One picture to sample. Sizes in pixels."""

    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    cfg: float
    sampler: str  # by its WebUI name
    seed: int


_OPTION = re.compile(r"(?:^|\s)--([a-zA-Z][\w-]*)(?:(?!\s+--[a-zA-Z])[\s=]+(.*?))?(?=\s+--[a-zA-Z]|\s*$)", re.DOTALL)
_LONG_DASH = re.compile(r"(^|\s)[\u2013\u2014]([whdls])(?=[\s=]+-?[\d.])")  # what word processors make of two
_FIELDS = {  # letter -> (field, type, option that has the limits)
    "n": ("negative_prompt", str, ""),
    "w": ("width", int, "sample_width"),
    "h": ("height", int, "sample_height"),
    "d": ("seed", int, "sample_seed"),
    "l": ("cfg", float, "sample_cfg"),
    "s": ("steps", int, "sample_steps"),
}


def read_prompt(line: str, config: PictureConfig, seed: int) -> SampleRequest:
    """The picture that a line asks for; what it leaves open is as in the options.

    Raises:
        UserError: for an unknown option, or a value that is no number or out of its limits.
    """
    line = _LONG_DASH.sub(r"\1--\2", line)
    values: dict[str, Any] = {
        "negative_prompt": config.negative_prompt,
        "width": config.sample_width or config.resolution,
        "height": config.sample_height or config.resolution,
        "cfg": config.sample_cfg,
        "steps": config.sample_steps,
        "seed": seed,
    }
    for letter, text in _OPTION.findall(line):
        if letter not in _FIELDS:
            raise UserError(
                f"cannot read the sample prompt '{line}': there is no --{letter}. It takes {', '.join('--' + k for k in _FIELDS)}."
            )
        field, kind, option = _FIELDS[letter]
        try:
            values[field] = kind(text.strip())
        except ValueError:
            raise UserError(f"cannot read the sample prompt '{line}': --{letter} takes a number. Write one, or leave it out.") from None
        if option:
            _check_limits(line, letter, values[field], option)
    values["width"], values["height"] = (max(8, side - side % 8) for side in (values["width"], values["height"]))
    return SampleRequest(
        prompt=_OPTION.sub("", line).strip(),
        sampler=config.sample_sampler,
        **values,
    )


def _check_limits(line: str, letter: str, value: float, option: str) -> None:
    """Raise UserError where an option would be told the same."""
    limits = options_of(PictureConfig)[option].metadata
    low, high = limits["minimum"], limits["maximum"]
    if not low <= value <= high:
        raise UserError(
            f"cannot read the sample prompt '{line}': --{letter} must be {low:,} to {high:,}. Write such a number, or leave it out."
        )
