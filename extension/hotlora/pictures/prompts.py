"""Sample prompts as sd-scripts' users write them: a prompt, then ``--n negative --w 512 --h 768 --d 1 --l 7 --s 25``."""

import re
from dataclasses import dataclass
from typing import Any

from ..engine.errors import UserError
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


_OPTION = re.compile(r"\s--([a-zA-Z])\s+(.*?)(?=\s--[a-zA-Z]\s|$)", re.DOTALL)
_FIELDS = {
    "n": ("negative_prompt", str),
    "w": ("width", int),
    "h": ("height", int),
    "d": ("seed", int),
    "l": ("cfg", float),
    "s": ("steps", int),
}


def read_prompt(line: str, config: PictureConfig, seed: int) -> SampleRequest:
    """The picture that a line asks for; what it leaves open is as in the options.

    Raises:
        UserError: for an unknown option, or a value that is no number.
    """
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
        field, kind = _FIELDS[letter]
        try:
            values[field] = kind(text.strip())
        except ValueError:
            raise UserError(f"cannot read the sample prompt '{line}': --{letter} takes a number. Write one, or leave it out.") from None
    values["width"], values["height"] = (max(8, side - side % 8) for side in (values["width"], values["height"]))
    return SampleRequest(
        prompt=_OPTION.sub("", line).strip(),
        sampler=config.sample_sampler,
        **values,
    )
