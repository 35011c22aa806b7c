"""What a file is instead of what its name says, seen from its first bytes: downloads that brought something else, and mixed-up endings."""

from pathlib import Path

_HEAD_BYTES = 512
_POINTER = "was not downloaded: it is only a Git LFS pointer (git lfs pull brings the file)"
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml")
_SERVERS = (b"entry not found", b"repository not found", b"access to model", b"invalid credentials", b'{"error"')
_BINARY = {
    b"\x1f\x8b": "is packed with gzip. Unpack it",
    b"bzh": "is packed with bzip2. Unpack it",
    b"\xfd7zxz": "is packed with xz. Unpack it",
    b"(\xb5/\xfd": "is packed with Zstandard. Unpack it",
    b"7z\xbc\xaf": "is packed with 7-Zip. Unpack it",
    b"rar!": "is packed with RAR. Unpack it",
    b"pk\x03\x04": "is a ZIP or an Office file. Unpack it, or give it its own ending (.xlsx or .docx)",
    b"\xd0\xcf\x11\xe0": "is a file of an old Office program. Save it as Excel workbook (.xlsx), Word document (.docx) or CSV",
    b"%pdf": "is a PDF. Give it the ending .pdf",
    b"par1": "is a Parquet file. Give it the ending .parquet",
    b"sqlite format 3": "is a database. Export it as JSON lines (.jsonl)",
    b"\x89png": "is a picture. Take it away",
    b"\xff\xd8\xff": "is a picture. Take it away",
}


def look_at_head(path: Path) -> str:
    """What came instead of the file, as the end of a sentence; empty where that cannot be seen from its beginning."""
    head = _read_head(path)
    start = head.lstrip(b"\xef\xbb\xbf \r\n\t").lower()
    if not head:
        return "is empty"
    if start.startswith(b"version https://git-lfs"):
        return _POINTER
    if start.startswith(_PAGES):
        return "is a web page and no such file"
    if start.startswith(_SERVERS):
        return f"is a server's message ({head[:60].decode('utf-8', errors='replace').strip()})"
    return ""


def look_at_text(path: Path, *, is_prose: bool) -> str:
    """What a file that should be text is instead, and what to do, as the end of a sentence. ``is_prose``: people may write web pages into
    it, or about servers."""
    head = _read_head(path).lower()
    kind = next((kind for start, kind in _BINARY.items() if head.startswith(start)), "")
    if kind or not head:
        return kind
    wrong = look_at_head(path)
    return f"{wrong}. Download it again" if wrong and (wrong == _POINTER or not is_prose) else ""


def _read_head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)
