"""From what a captioner says to the caption that is written: tags cleaned, text put before and after."""

import fnmatch
from collections.abc import Sequence

from .captioner import CaptionSettings


def word(said: str, settings: CaptionSettings, *, is_tags: bool) -> str:
    """The caption, on one line. Empty where nothing is left of it: a trigger word alone is no caption."""
    if is_tags:
        said = ", ".join(clean_tags([tag.strip() for tag in said.split(",") if tag.strip()], settings))
    text = " ".join(said.split())
    if not text:
        return ""
    text = " ".join(part for part in (settings.text_before.strip(), text, settings.text_after.strip()) if part)
    trigger = settings.caption_trigger.strip()
    return f"{trigger}, {text}" if trigger and not text.startswith(f"{trigger}, ") else text


def clean_tags(tags: Sequence[str], settings: CaptionSettings) -> list[str]:
    """Each tag once, without those that are to be left out."""
    unwanted = [_fold(pattern) for pattern in settings.leave_out.split(",") if pattern.strip()]
    kept = [tag for tag in tags if not any(fnmatch.fnmatchcase(_fold(tag), pattern) for pattern in unwanted)]
    if settings.underscores_to_spaces:
        kept = [tag if _is_face(tag) else tag.replace("_", " ") for tag in kept]
    kept = list(dict.fromkeys(kept))
    return sorted(kept, key=str.casefold) if settings.sort_tags else kept


def _fold(tag: str) -> str:
    return tag.strip().replace("_", " ").casefold()


def _is_face(tag: str) -> bool:
    """``^_^``, ``o_o``, ``<|>_<|>``: nothing but an eye on either side."""
    eyes = tag.split("_")
    return len(eyes) == 2 and all(sum(sign.isalnum() for sign in eye) <= 1 for eye in eyes)
