"""Samples as PNG files with A1111's generation parameters in them, and the sheet that compares weights."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from ..engine.files import write_bytes
from .prompts import SampleRequest

_SMALLEST_CELL = 192  # tiny pictures are enlarged to this many pixels
_GAP = 8
_LINE = 26
_INK, _PAPER = (30, 34, 44), (255, 255, 255)


@dataclass(frozen=True)
class Sample:
    """A sampled picture with what it was sampled from."""

    picture: Image.Image
    request: SampleRequest
    lora: str  # as in the prompt: <lora:name:weight>

    def save(self, stem: Path) -> Path:
        """Write ``<stem>.png``."""
        info = PngInfo()
        info.add_itxt("parameters", self.parameters(), zip=False)
        return write_png(self.picture, stem.with_name(stem.name + ".png"), info)

    def parameters(self) -> str:
        """What A1111's "PNG Info" tab reads."""
        r = self.request
        lines = [f"{r.prompt} {self.lora}".strip()]
        if r.negative_prompt:
            lines.append(f"Negative prompt: {r.negative_prompt}")
        lines.append(f"Steps: {r.steps}, Sampler: {r.sampler}, CFG scale: {r.cfg:g}, Seed: {r.seed}, Size: {r.width}x{r.height}")
        return "\n".join(lines)


def write_png(picture: Image.Image, path: Path, info: PngInfo | None = None) -> Path:
    """Write a PNG file, all or nothing."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=info)
    write_bytes(path, buffer.getvalue())
    return path


def draw_sheet(rows: Sequence[Sequence[tuple[float, Sample]]], title: str) -> Image.Image:
    """A row per prompt, a column per weight, all of a row from the same seed."""
    cells = [[(weight, _enlarge(sample.picture), sample.request.prompt) for weight, sample in row] for row in rows]
    widths = [max(row[column][1].width for row in cells) for column in range(len(cells[0]))]
    heights = [max(cell[1].height for cell in row) + _LINE for row in cells]
    width = sum(widths) + _GAP * (len(widths) + 1)
    sheet = Image.new("RGB", (width, sum(heights) + _GAP * (len(heights) + 1) + 2 * _LINE), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP // 2), _fit(draw, title, width - 2 * _GAP, 16), fill=_INK, font=_font(16))
    x = _GAP
    for (weight, _, _), column_width in zip(cells[0], widths, strict=True):
        draw.text((x, _LINE + _GAP // 2), "without LoRA" if weight == 0 else f"weight {weight:g}", fill=_INK, font=_font(14))
        x += column_width + _GAP
    y = 2 * _LINE + _GAP
    for row, height in zip(cells, heights, strict=True):
        draw.text((_GAP, y), _fit(draw, row[0][2], width - 2 * _GAP, 14), fill=_INK, font=_font(14))
        x = _GAP
        for (_, picture, _), column_width in zip(row, widths, strict=True):
            sheet.paste(picture, (x, y + _LINE - 4))
            x += column_width + _GAP
        y += height + _GAP
    return sheet


def _enlarge(picture: Image.Image) -> Image.Image:
    factor = -(-_SMALLEST_CELL // min(picture.size)) if min(picture.size) < _SMALLEST_CELL else 1
    return picture.convert("RGB").resize((picture.width * factor, picture.height * factor), Image.Resampling.BICUBIC)


def _font(size: int):
    try:
        return ImageFont.load_default(size=size)
    except (TypeError, ImportError):  # Pillow before 10.1, or without FreeType: one small bitmap font
        return ImageFont.load_default()


def _fit(draw: ImageDraw.ImageDraw, text: str, pixels: int, size: int) -> str:
    """The text on one line, cut where it would run over."""
    text = " ".join(text.split())
    font = _font(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        text = text.encode("latin-1", "replace").decode("latin-1")  # all that the bitmap font can draw
    while text and draw.textlength(text, font=font) > pixels:
        text = text[:-2].rstrip() + "…" if len(text) > 2 else ""
    return text
