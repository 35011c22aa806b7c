"""``hotlora label``: a caption for every picture that has none (exit code 130 when interrupted).

Which pictures are captioned, and how the file is kept, is in ``pictures/labels.py``; who writes the captions, in ``captioning/``.
"""

import argparse
import functools
import os
import sys

from tqdm import tqdm

from ..captioning.blip import Blip
from ..captioning.captioner import URL_VARIABLE, Captioner, CaptionerKind, CaptionSettings, choose_kind
from ..captioning.file_names import caption_by_name
from ..captioning.kinds import ALONE, BLIP
from ..captioning.wording import word
from ..captioning.writing import write_captions
from ..engine.options import build
from ..engine.plurals import counted
from ..pictures.folders import list_contents, open_folder, require_pictures
from ..pictures.labels import LabelFile, plan_labels


def run(options: argparse.Namespace) -> int:
    """Caption the pictures; returns the exit code. Raises UserError."""
    try:
        problems = label(options)
    except KeyboardInterrupt:
        print("stopped; what was written so far is kept, and the next start goes on from there", file=sys.stderr)
        return 130
    if problems:
        print(f"note: {len(problems)} skipped or in need of attention:", *problems, sep="\n- ", file=sys.stderr)
    return 0


def label(options: argparse.Namespace) -> list[str]:
    """Caption the pictures; returns what was wrong with some of them."""
    root = open_folder(options.input, "--input")
    output = options.output or root / "metadata.csv"
    if output.is_dir():
        output = output / "metadata.csv"
    contents = list_contents(root, ())
    require_pictures(contents, root, "--input")
    labels = LabelFile(output, root)
    plan = plan_labels(contents, labels, output, missing_only=options.missing_only)
    problems = list(plan.problems)
    settings, kind = read_settings(options)
    if plan.pictures:
        captioner = load_captioner(settings.blip_model) if kind is BLIP else kind.make(settings)
        say = functools.partial(word, settings=settings, is_tags=kind.writes_tags)
        batches = write_captions(plan.pictures, captioner, labels, batch_size=options.batch_size, word=say)
        with tqdm(total=len(plan.pictures), desc="captioning", unit="picture") as bar:
            for batch in batches:
                problems += batch.problems
                bar.update(batch.pictures)
    labels.save()
    written = sum(labels.is_machine_written(picture) for picture in plan.pictures)
    print(f"{output}: {counted(written, 'caption')} written, {counted(plan.kept, 'picture')} had one and kept it")
    return problems


def read_settings(options: argparse.Namespace) -> tuple[CaptionSettings, CaptionerKind]:
    """Raises UserError for what is no setting of captions."""
    named = {"captioner": options.captioner, "blip_model": options.model, "caption_trigger": options.trigger, "text_before": options.prefix}
    pairs = [pair.partition("=") for pair in options.set]
    settings = build(CaptionSettings, named | {key.strip(): value for key, _, value in pairs})
    if not settings.endpoint_url:
        settings.endpoint_url = os.environ.get(URL_VARIABLE, "")
    return settings, choose_kind(ALONE, settings.captioner)


def load_captioner(model: str) -> Captioner:
    """BLIP, or where it cannot be loaded a sentence from each picture's name."""
    try:
        return Blip(model)
    except Exception as error:  # no package, no file, no network, a damaged or foreign model: each fails in its own way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        print(
            f"note: cannot load the captioning model {model} ({reason}), so captions are made from file names; "
            "run again with --overwrite-machine when it is there.",
            file=sys.stderr,
        )
        return caption_by_name
