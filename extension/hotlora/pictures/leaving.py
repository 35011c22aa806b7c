"""Moving pictures into `left out` and back, each with its captions beside it and its mask. Rows in tables stay where they are.

A caption file or mask that another picture uses too stays until that one goes as well. Must not import any host.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ..engine.errors import UserError
from ..engine.plurals import counted
from .caption_editing import Captioned, find_caption
from .caption_files import list_captions_beside
from .caption_history import CaptionHistory
from .config import PictureConfig
from .folders import Found, Masks
from .left_out import LEFT_OUT, place_aside, place_before
from .parts import Part, find_masks, name_picture, open_masks, open_parts, read_metadata

Moves = list[tuple[Path, Path]]


def list_left_out(config: PictureConfig) -> dict[str, Captioned]:
    """What is left out, by the names that the album had for them; captions also from the rows in tables."""
    parts = open_parts(config)
    captions, listed = read_metadata(parts), {}
    for part in parts:
        for found in part.contents.left_out:
            before = place_before(found.path)
            listed[name_picture(before, part)] = find_caption(found, captions.find(before), part)
    return listed


def leave_out(config: PictureConfig, names: Sequence[str]) -> str:
    """Move the pictures of these names; returns what was done.

    Raises:
        UserError: where one is not there, nothing would be left, or something of that name lies there already: then nothing is moved.
    """
    parts = open_parts(config)
    listed = {name_picture(found.path, part): (found, part) for part in parts for found in part.contents.pictures}
    chosen = _find_all(names, listed, "leave out")
    going = {found.path for found, _ in chosen}
    for part in parts:
        if all(found.path in going for found in part.contents.pictures):
            raise UserError(f"cannot leave out all pictures of {part.root}: nothing would be left to train on. Keep one of them.")
    moves = _list_moves(chosen, _list_owned(parts, going))
    _carry_out(f"left out {counted(len(chosen), 'picture')}", moves, config)
    return f"Left out {counted(len(chosen), 'picture')}: moved into '{LEFT_OUT}', with captions and masks. Nothing is deleted."


def bring_back(config: PictureConfig, names: Sequence[str]) -> str:
    """Move the pictures that had these names back to where they were; returns what was done. Raises UserError like :func:`leave_out`."""
    parts = open_parts(config)
    listed = {name_picture(place_before(found.path), part): (found, part) for part in parts for found in part.contents.left_out}
    chosen = _find_all(names, listed, "bring back")
    aside = {part.source.mask_folder: _open_masks_aside(part.source.mask_folder) for _, part in chosen}
    moves: Moves = []
    for found, part in chosen:
        mask = None if part.is_reg else aside[part.source.mask_folder].find(place_before(found.path), part.root)
        files = [found.path, *list_captions_beside(found.path, found.siblings), *([mask] if mask else [])]
        moves += [(path, place_before(path)) for path in files]
    _carry_out(f"brought back {counted(len(chosen), 'picture')}", moves, config)
    return f"Brought back {counted(len(chosen), 'picture')}."


def _find_all(names: Sequence[str], listed: Mapping[str, tuple[Found, Part]], doing: str) -> list[tuple[Found, Part]]:
    if not names:
        raise UserError(f"cannot {doing} pictures: none is chosen. Choose some.")
    gone = next((name for name in names if name not in listed), None)
    if gone is not None:
        raise UserError(f"cannot {doing} '{gone}': there is no such picture any more. Look at them again.")
    return [listed[name] for name in dict.fromkeys(names)]


def _open_masks_aside(folder: Path) -> Masks:
    """Those that are left out."""
    aside = folder / LEFT_OUT
    return Masks(aside if aside.is_dir() else None)


def _list_owned(parts: Sequence[Part], going: set[Path]) -> set[Path]:
    """Caption files and masks of the pictures that stay."""
    staying = [found for part in parts for found in part.contents.pictures if found.path not in going]
    masks = find_masks(parts)
    owned = {masks[found.path] for found in staying if found.path in masks}
    return owned.union(path for found in staying for path in list_captions_beside(found.path, found.siblings))


def _list_moves(chosen: Sequence[tuple[Found, Part]], owned: set[Path]) -> Moves:
    moves: dict[Path, Path] = {}
    folders = {part.source.mask_folder: open_masks(part.source) for _, part in chosen}
    for found, part in chosen:
        folder = part.source.mask_folder
        for path in (found.path, *list_captions_beside(found.path, found.siblings)):
            if path not in owned:
                moves[path] = place_aside(path, part.root)
        mask = None if part.is_reg else folders[folder].find(found.path, part.root)
        if mask and mask not in owned:
            moves[mask] = place_aside(mask, folder)
    return list(moves.items())


def _carry_out(told: str, moves: Moves, config: PictureConfig) -> None:
    moves = list(dict(moves).items())
    there = next((target for _, target in moves if target.exists()), None)
    if there:
        raise UserError(f"cannot move a file to {there}: there is one of that name. Rename one of the two.")
    CaptionHistory(config).carry_out(told, {}, moves)
