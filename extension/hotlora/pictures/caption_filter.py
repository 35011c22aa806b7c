"""Which captions a filter shows: ``cat -dog "blue sky" | bird``. Pure functions on texts; must not import any host.

All words must be there, in whatever case and also inside of other words; with ``-`` none of them; ``|`` stands between what may be instead.
``tag:cat`` is a whole tag, ``name:012`` is in the picture's name, and ``""`` is a picture without a caption.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass

_TERM = re.compile(r'(?P<bar>\|)|(?P<no>-(?=[^\s|]))?(?P<kind>tag:|name:)?(?:"(?P<phrase>[^"]*)"?|(?P<word>[^\s|"]+))', re.IGNORECASE)
_TYPED = str.maketrans({"“": '"', "”": '"', "„": '"', "｜": "|", "：": ":"})  # what keyboards and phones make of the signs


@dataclass(frozen=True)
class Described:
    """What a filter sees of a picture."""

    name: str
    caption: str  # as it is written
    tags: tuple[str, ...]


@dataclass(frozen=True)
class _Term:
    kind: str  # tag, name, or empty for the caption's text
    text: str
    is_excluded: bool

    def fits(self, seen: Described) -> bool:
        if self.kind == "tag":
            found = any(fold(tag) == self.text for tag in seen.tags)
        elif self.kind == "name":
            found = self.text in fold(seen.name)
        else:
            found = self.text in fold(seen.caption) if self.text else not seen.caption
        return found != self.is_excluded


def read_filter(text: str) -> Callable[[Described], bool]:
    """What a filter says of a picture. An empty one shows all; nothing that can be typed is an error."""
    ways: list[list[_Term]] = [[]]
    for match in _TERM.finditer(text.translate(_TYPED)):
        if match["bar"]:
            ways.append([])
        else:
            said = match["word"] if match["phrase"] is None else match["phrase"]
            ways[-1].append(_Term((match["kind"] or "").rstrip(":").lower(), fold(said.strip()), bool(match["no"])))
    wanted = [terms for terms in ways if terms]
    return lambda seen: not wanted or any(all(term.fits(seen) for term in terms) for terms in wanted)


def fold(text: str) -> str:
    """Equal for texts that people take for the same."""
    return unicodedata.normalize("NFC", text).casefold()


def split_tags(text: str, separator: str = ",") -> list[str]:
    """The tags of a caption, each as it is written. What stands in braces is one piece: ``{red, blue|green} hat``."""
    tags = []
    for line in text.splitlines():
        start = depth = 0
        for place, letter in enumerate(line):
            depth = max(0, depth + (letter == "{") - (letter == "}"))
            if not depth and place >= start and line.startswith(separator, place):
                tags.append(line[start:place])
                start = place + len(separator)
        tags.append(line[start:])
    return [tag.strip() for tag in tags if tag.strip()]


def count_tags(listed: Iterable[Described]) -> list[tuple[str, int]]:
    """In how many captions each tag is, the most frequent first. A tag is called as it is written first."""
    names: dict[str, str] = {}
    counts: dict[str, int] = {}
    for seen in listed:
        for key in dict.fromkeys(names.setdefault(fold(tag), tag) for tag in seen.tags):
            counts[key] = counts.get(key, 0) + 1
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
