"""The captioners that need no host. A host adds its own."""

from collections.abc import Sequence
from pathlib import Path

from .captioner import Captioner, CaptionerKind, CaptionSettings


def _make_blip(settings: CaptionSettings) -> Captioner:
    from ..engine.errors import UserError
    from .blip import Blip

    try:
        return Blip(settings.blip_model)
    except UserError:
        raise
    except Exception as error:  # no package, no file, no network, a damaged or foreign model: each fails in its own way
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"cannot load the captioning model {settings.blip_model}: {reason}. Download it from the Hugging Face hub into a folder, "
            "and set blip_model to that."
        ) from error


def _make_tagger(settings: CaptionSettings) -> Captioner:
    from .onnx_tagger import OnnxTagger

    return OnnxTagger(settings.tagger_folder, settings.general_threshold, settings.character_threshold)


def _make_endpoint(settings: CaptionSettings) -> Captioner:
    from .endpoint import Endpoint

    return Endpoint(settings.endpoint_url, settings.endpoint_model, settings.endpoint_question)


def _make_names(settings: CaptionSettings) -> Captioner:
    from .file_names import caption_by_name

    return caption_by_name


BLIP = CaptionerKind("blip", "BLIP", _make_blip)
TAGGER = CaptionerKind("onnx", "ONNX tagger (WD v3)", _make_tagger, writes_tags=True)
ENDPOINT = CaptionerKind("endpoint", "Endpoint that sees pictures", _make_endpoint)
NAMES = CaptionerKind("names", "File names", _make_names)

ALONE: Sequence[CaptionerKind] = (BLIP, TAGGER, ENDPOINT, NAMES)
IN_A_HOST: Sequence[CaptionerKind] = (TAGGER, ENDPOINT, NAMES)  # BLIP is the host's own there, under its own memory management


def list_paths(settings: CaptionSettings) -> list[Path]:
    """The folders on this computer that the settings name."""
    places = [settings.tagger_folder] if settings.tagger_folder else []
    if settings.blip_model != type(settings)().blip_model:
        places.append(settings.blip_model)
    return [Path(place).expanduser() for place in places]
