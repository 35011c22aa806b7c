"""Write a caption for every picture that has none: ``python tools/auto_label.py --input data/style_train``.

Thin: options, the BLIP model (arXiv 2201.12086, through transformers), a progress bar and exit codes (0 done, 2 something
the user can mend, 130 interrupted). Which pictures are captioned, and how the file is kept, is in ``hotlora.pictures.labels``.
"""

import argparse
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "extension"))

import torch
from hotlora.engine.errors import UserError
from hotlora.pictures.folders import list_contents, open_folder, require_pictures
from hotlora.pictures.labels import LabelFile, decorate, plan_labels, sentence_from_name
from hotlora.pictures.reading import read_picture
from PIL import Image
from tqdm import tqdm

DEFAULT_MODEL = "Salesforce/blip-image-captioning-base"
_MAX_TOKENS = 40
_HUB_SECONDS = 10

Captioner = Callable[[Sequence[Path], Sequence[Image.Image]], list[str]]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse(arguments)
    try:
        problems = label(options)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped; what was written so far is kept, and the next start goes on from there", file=sys.stderr)
        return 130
    if problems:
        print(f"note: {len(problems)} skipped or in need of attention:", *problems, sep="\n- ", file=sys.stderr)
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line's options."""
    parser = argparse.ArgumentParser(description="Write filename,prompt for every picture that has no caption yet.")
    parser.add_argument("--input", required=True, metavar="FOLDER", help="folder with pictures, searched recursively")
    parser.add_argument("--output", type=Path, metavar="FILE", help="csv file to write (default: metadata.csv in the folder)")
    parser.add_argument("--model", default=DEFAULT_MODEL, help=f"BLIP captioning model: a folder or a hub name (default: {DEFAULT_MODEL})")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures captioned at once (default: 8)")
    parser.add_argument("--trigger", default="", metavar="WORD", help="word put before every new caption, with a comma")
    parser.add_argument("--prefix", default="", metavar="TEXT", help="text put before every new caption, such as 'a drawing of'")
    parser.add_argument(
        "--missing-only",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="leave captions alone that an earlier run wrote; captions by people are always left alone",
    )
    parser.add_argument("--overwrite-machine", dest="missing_only", action="store_false", help="the same as --no-missing-only")
    options = parser.parse_args(arguments)
    if options.batch_size < 1:
        parser.error("--batch-size must be at least 1")
    return options


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
    if plan.pictures:
        write_captions(plan.pictures, load_captioner(options.model), labels, options, problems)
    labels.save()
    written = sum(labels.is_machine_written(picture) for picture in plan.pictures)
    print(f"{output}: {written} captions written, {plan.kept} pictures had one and kept it")
    return problems


def write_captions(
    pictures: Sequence[Path], caption: Captioner, labels: LabelFile, options: argparse.Namespace, problems: list[str]
) -> None:
    """Caption in batches; the file on disk is whole after each of them."""
    with tqdm(total=len(pictures), desc="captioning", unit="picture") as bar:
        for start in range(0, len(pictures), options.batch_size):
            batch = pictures[start : start + options.batch_size]
            images = {}
            for picture in batch:
                try:
                    images[picture] = read_picture(picture).rgb
                except UserError as error:
                    problems.append(str(error))
            if images:
                sentences = caption(list(images), list(images.values()))
                for picture, sentence in zip(images, sentences, strict=True):
                    labels.put(picture, decorate(sentence, trigger=options.trigger, prefix=options.prefix))
                labels.save()
            bar.update(len(batch))


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
        return lambda pictures, images: [sentence_from_name(picture) for picture in pictures]


class Blip:
    """A BLIP captioning model on the fastest device there is."""

    def __init__(self, name: str):
        folder = Path(name).expanduser()
        where = str(folder) if folder.is_dir() else name
        try:  # without asking the hub first, so that a model that was downloaded once works offline
            self._processor, model = _load_blip(where, local_files_only=True)
        except OSError:
            if folder.is_dir():
                raise
            _require_hub()
            self._processor, model = _load_blip(where, local_files_only=False)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu")
        self._model = model.eval().to(self._device)

    @torch.no_grad()
    def __call__(self, pictures: Sequence[Path], images: Sequence[Image.Image]) -> list[str]:
        pixels = self._processor(images=list(images), return_tensors="pt")["pixel_values"].to(self._device)
        try:
            tokens = self._model.generate(pixel_values=pixels, max_new_tokens=_MAX_TOKENS)
        except torch.cuda.OutOfMemoryError:
            raise UserError(f"cannot caption {len(images)} pictures at once: the GPU's memory is full. Lower --batch-size.") from None
        sentences = [text.strip() for text in self._processor.batch_decode(tokens, skip_special_tokens=True)]
        return [sentence or sentence_from_name(picture) for picture, sentence in zip(pictures, sentences, strict=True)]


def _load_blip(where: str, *, local_files_only: bool) -> tuple:
    from transformers import BlipForConditionalGeneration, BlipProcessor

    processor = BlipProcessor.from_pretrained(where, local_files_only=local_files_only)
    return processor, BlipForConditionalGeneration.from_pretrained(where, local_files_only=local_files_only)


def _require_hub() -> None:
    """Raise OSError when the hub is out of reach; its own client would try for minutes, file by file."""
    from huggingface_hub.constants import ENDPOINT

    try:
        urllib.request.urlopen(ENDPOINT, timeout=_HUB_SECONDS).close()
    except urllib.error.HTTPError:
        return  # it answers
    except OSError as error:
        raise OSError(f"it is not on this machine, and {ENDPOINT} cannot be reached") from error


if __name__ == "__main__":
    sys.exit(main())
