"""Captions from a captioner into a label file, batch by batch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..engine.errors import UserError
from ..pictures.focus import read_framed
from ..pictures.labels import LabelFile
from .captioner import Captioner


@dataclass(frozen=True)
class Batch:
    """How far it is."""

    pictures: int  # that were gone through
    problems: list[str]  # with some of them


def write_captions(
    pictures: Sequence[Path], captioner: Captioner, labels: LabelFile, *, batch_size: int, word: Callable[[str], str]
) -> Iterator[Batch]:
    """Caption in batches; the file on disk is whole after each of them. Pictures that cannot be read, and those of which nothing is
    said, are left out, and named.

    Args:
        word: what is said -> what is written.
    """
    for start in range(0, len(pictures), batch_size):
        batch, images, problems = pictures[start : start + batch_size], {}, []
        for picture in batch:
            try:
                images[picture] = read_framed(picture).rgb
            except UserError as error:
                problems.append(str(error))
        if images:
            sentences = captioner(list(images), list(images.values()))
            for picture, sentence in zip(images, sentences, strict=True):
                if caption := word(sentence):
                    labels.put(picture, caption)
                else:
                    problems.append(f"{picture}: the captioner had nothing to say. Write its caption by hand.")
            labels.save()
        yield Batch(len(batch), problems)
