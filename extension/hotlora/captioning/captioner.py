"""What every captioner is, and what is to be said to one. Must not import a heavy library: whoever offers captioners reads it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

from ..engine.errors import UserError
from ..engine.options import option

if TYPE_CHECKING:
    from PIL import Image

DEFAULT_MODEL = "Salesforce/blip-image-captioning-base"  # a folder, or a name on the hub
KEY_VARIABLE = "HOTLORA_CAPTION_KEY"  # of the environment; never an option, so that nobody can send another variable somewhere
URL_VARIABLE = "HOTLORA_CAPTION_URL"


class Captioner(Protocol):
    """Something that says what is to be seen on pictures."""

    def __call__(self, pictures: Sequence[Path], images: "Sequence[Image.Image]") -> list[str]:
        """A caption for each picture; of one that writes tags, those, with commas between them. ``images``: what is in those files, as
        RGB. Raises UserError for what the user can mend, such as a batch that does not fit into memory."""
        ...


@dataclass
class CaptionSettings:
    """Which captioner, and how captions are to look."""

    OTHER_NAMES: ClassVar[Mapping] = {}
    given: ClassVar[frozenset[str]] = frozenset()

    captioner: str = option("", "Who looks at the pictures.", advanced=False)
    as_proposals: bool = option(
        False, "Also look at pictures that have a caption, and keep everything beside it until you accept it.", advanced=False
    )
    blip_model: str = option(DEFAULT_MODEL, "BLIP: a folder, or a name on the Hugging Face hub.")
    tagger_folder: str = option("", "ONNX tagger: the folder with its model.onnx and selected_tags.csv.", path=True)
    general_threshold: float = option(0.35, "ONNX tagger: how sure it must be of a tag, 0 to 1.", minimum=0, maximum=1)
    character_threshold: float = option(0.85, "ONNX tagger: how sure it must be of a character's name, 0 to 1.", minimum=0, maximum=1)
    endpoint_url: str = option("", "Endpoint: its address up to the version, such as http://127.0.0.1:5000/v1.")
    endpoint_model: str = option("", "Endpoint: the model's name there; many programs need none.")
    endpoint_question: str = option(
        "Describe this picture in one sentence of plain words, without guessing names.", "Endpoint: what it is asked about each picture."
    )
    caption_trigger: str = option(
        "", "Word put before each written caption, with a comma. Training puts the trigger word before them all by itself."
    )
    text_before: str = option("", "Text put before each written caption, such as a drawing of.")
    text_after: str = option("", "Text put after each written caption.")
    leave_out: str = option("", "Tags that are left out, with commas between them; a * stands for anything.")
    underscores_to_spaces: bool = option(True, "Write long hair for the tag long_hair; faces such as ^_^ stay.")
    sort_tags: bool = option(False, "Sort tags by the alphabet, not by how sure the captioner is.")
    caption_batch: int = option(4, "Pictures that are looked at at once.", minimum=1, maximum=256)

    @classmethod
    def spell_out(cls, values: Mapping) -> Mapping:
        """Nothing here is written shorter."""
        return values

    def check(self) -> None:
        """Nothing here contradicts anything else."""


@dataclass(frozen=True)
class CaptionerKind:
    """One of those that there are to choose from."""

    key: str
    label: str
    make: Callable[[CaptionSettings], Captioner]  # loads it; raises UserError that says which file to put where
    writes_tags: bool = False


def choose_kind(kinds: Sequence[CaptionerKind], key: str) -> CaptionerKind:
    """The one of that key or label; the first, where none is named. Raises UserError where there is none such."""
    found = next((kind for kind in kinds if key in (kind.key, kind.label)), None if key else kinds[0])
    if found is None:
        raise UserError(
            f"cannot caption with '{key}': there is no such captioner here. Choose one of {', '.join(kind.key for kind in kinds)}."
        )
    return found
