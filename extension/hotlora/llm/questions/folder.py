"""The folder that questions are written into and reviewed in.

``questions.jsonl`` holds what people have accepted, and nothing else is learned: ``proposed.jsonl`` holds what nobody has looked at yet
and what was refused, each row with ``"accepted": false``, which whoever reads rows for training obeys and says (see ``cells``), wherever
the file is taken. Both may be edited by hand at any time; rows that this program does not know are left as they are. Hidden files beside
them say what was asked already.

Rows are added by the job and moved by people who review, maybe from another process: each change is made under a lock.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from ...engine.errors import UserError
from ...engine.files import write_bytes, write_text
from .asking import Pair
from .passages import Passage

ACCEPTED, PROPOSED = "questions.jsonl", "proposed.jsonl"
_FACTS, _ASKED, _LOCK = ".hotlora-questions.json", ".hotlora-asked.jsonl", ".hotlora-review.lock"
KEPT = "kept"
OPEN, REFUSED = "not reviewed", "refused"
VERDICTS = ("accept", "refuse", "reopen")


@dataclass(frozen=True)
class Row:
    """A generated row, as people review it. ``review``: OPEN or REFUSED."""

    key: str
    question: str
    answer: str
    source: str
    number: int
    passage: str
    model: str
    review: str = OPEN

    def to_json(self, *, accepted: bool) -> str:
        """A line of the file."""
        about = {"model": self.model, "source": self.source, "passage": self.number, "key": self.key, "text": self.passage}
        about |= {} if accepted else {"review": self.review}
        return json.dumps({"question": self.question, "answer": self.answer, "accepted": accepted, "generated": about}, ensure_ascii=False)


class QuestionFolder:
    """One of them. Nothing is read before it is asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._accepted, self._proposed = folder / ACCEPTED, folder / PROPOSED
        self._facts, self._asked = folder / _FACTS, folder / _ASKED

    # -- the job's side ------------------------------------------------------------------------------------------------

    def settle(self, facts: Mapping[str, Any]) -> None:
        """Keep what the rows follow from beside them.

        Raises:
            UserError: where those that are there follow from something else.
        """
        before, now = self._read_facts(), json.loads(json.dumps(dict(facts)))
        other = [key for key in now if before is not None and before.get(key) != now[key]]
        if other:
            told = ", ".join(key.replace("_", " ") for key in other)
            raise UserError(f"cannot go on in '{self.folder}': its questions were written with another {told}. Choose another name.")
        if before is None and (self._accepted.exists() or self._proposed.exists()):
            raise UserError(f"cannot go on in '{self.folder}': nothing says how its questions were written. Choose another name.")
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self._facts, json.dumps(now, indent=1, ensure_ascii=False))
        with self._changing():  # a kill may have left half a line
            for path in (self._asked, self._proposed):
                _mend_end(path)

    def _read_facts(self) -> Mapping[str, Any] | None:
        try:
            facts = json.loads(self._facts.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return facts if isinstance(facts, dict) else None

    def add(self, passage: Passage, number: int, pair: Pair, model: str) -> None:
        """One that was asked: its row, where it can be used, then that it was asked."""
        key = name_key(passage, number)
        with self._changing():
            if not pair.dropped:
                row = Row(key, pair.question, pair.answer, passage.source, passage.number, passage.text, model)
                _append(self._proposed, row.to_json(accepted=False))
            _append(self._asked, json.dumps({"key": key, "outcome": pair.dropped or KEPT}))

    def count_asked(self) -> dict[str, str]:
        """Key -> KEPT, or why it was dropped, of all that were asked."""
        outcomes = {row["key"]: str(row.get("outcome")) for _, row in _read(self._asked) if row and isinstance(row.get("key"), str)}
        return {row.key: KEPT for path in (self._accepted, self._proposed) for row in _read_rows(path)} | outcomes

    def list_questions(self) -> list[tuple[str, str]]:
        """(key, question) of all rows that there are, also of those that people have added or changed."""
        rows = [parsed for path in (self._accepted, self._proposed) for _, parsed in _read(path)]
        return [(_key_of(row), str(row.get("question", ""))) for row in rows if row]

    # -- the reviewers' side -------------------------------------------------------------------------------------------

    def list_rows(self, review: str = OPEN) -> list[Row]:
        """Those that are not accepted, of one kind, in the order they were written."""
        accepted = {row.key for row in _read_rows(self._accepted)}  # a kill in the middle of a move leaves a row in both
        rows = (_as_row(parsed) for _, parsed in _read(self._proposed) if not _is_accepted(parsed))
        return [row for row in rows if row and row.review == review and row.key not in accepted]

    def count(self) -> Mapping[str, int]:
        """Rows that are "accepted" (whoever wrote them), OPEN, REFUSED."""
        accepted = sum(parsed is not None for _, parsed in _read(self._accepted))
        accepted += sum(_is_accepted(parsed) for _, parsed in _read(self._proposed))
        return {"accepted": accepted, OPEN: len(self.list_rows(OPEN)), REFUSED: len(self.list_rows(REFUSED))}

    def edit(self, texts: Mapping[str, tuple[str, str]]) -> int:
        """Other words for rows that are not accepted: key -> (question, answer). Returns how many were changed."""
        with self._changing():
            return self._rewrite({key: (*pair, "") for key, pair in texts.items()})

    def decide(self, keys: Sequence[str], verdict: str) -> int:
        """Accept, refuse or reopen rows that are not accepted; returns how many of them there were.

        Raises:
            UserError: where one that is accepted has no question or no answer.
        """
        with self._changing():
            there = {row.key: row for review in (OPEN, REFUSED) for row in self.list_rows(review)}
            chosen = [there[key] for key in dict.fromkeys(keys) if key in there]
            if verdict == "accept":
                empty = next((row for row in chosen if not row.question.strip() or not row.answer.strip()), None)
                if empty:
                    said = "question" if not empty.question.strip() else "answer"
                    raise UserError(
                        f"cannot accept a row of {empty.source}, passage {empty.number}: its {said} is empty. Write one, or refuse it."
                    )
                lines = [line for line, _ in _read(self._accepted)] + [row.to_json(accepted=True) for row in chosen]
                _write(self._accepted, lines)
            self._rewrite({row.key: ("", "", verdict) for row in chosen})
        return len(chosen)

    def _rewrite(self, changes: Mapping[str, tuple[str, str, str]]) -> int:
        """Key -> (question, answer, verdict), each where it is not empty."""
        lines, changed = [], 0
        for line, parsed in _read(self._proposed):
            row = _as_row(parsed)
            if row is None or row.key not in changes:
                lines.append(line)
                continue
            question, answer, verdict = changes[row.key]
            changed += 1
            if verdict == "accept":
                continue
            review = {"refuse": REFUSED, "reopen": OPEN}.get(verdict, row.review)
            words = (row.question, row.answer) if verdict else (question, answer)
            lines.append(Row(row.key, *words, row.source, row.number, row.passage, row.model, review).to_json(accepted=False))
        if changed:
            _write(self._proposed, lines)
        return changed

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with FileLock(self.folder / _LOCK):
            yield


def name_key(passage: Passage, number: int) -> str:
    """Of the ``number``-th question about a passage."""
    return f"{passage.key}-{number}"


def tally(outcomes: Mapping[str, str]) -> dict[str, int]:
    """Reason -> how many were dropped for it, the commonest first."""
    return dict(Counter(outcome for outcome in outcomes.values() if outcome != KEPT).most_common())


def is_question_folder(folder: Path) -> bool:
    """Whether there is anything to review, or was."""
    return (folder / _FACTS).is_file()


# -- lines -------------------------------------------------------------------------------------------------------------


def _read(path: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """(line, the object that it is, if it is one)."""
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except FileNotFoundError:
        return
    for line in text.split("\n"):
        if line.strip():
            try:
                parsed = json.loads(line)
            except ValueError:
                parsed = None
            yield line.rstrip("\r"), parsed if isinstance(parsed, dict) else None


def _read_rows(path: Path) -> Iterator[Row]:
    return (row for _, parsed in _read(path) if (row := _as_row(parsed)))


def _key_of(parsed: Mapping[str, Any]) -> str:
    about = parsed.get("generated")
    return str(about.get("key", "")) if isinstance(about, dict) else ""


def _is_accepted(parsed: Mapping[str, Any] | None) -> bool:
    """Whether somebody has written so by hand."""
    return parsed is not None and parsed.get("accepted") is True


def _as_row(parsed: Mapping[str, Any] | None) -> Row | None:
    """None for what people have written themselves."""
    if parsed is None or not _key_of(parsed):
        return None
    about = parsed["generated"]
    number = about.get("passage")
    return Row(
        key=_key_of(parsed),
        question=str(parsed.get("question") or ""),
        answer=str(parsed.get("answer") or ""),
        source=str(about.get("source") or ""),
        number=number if isinstance(number, int) else 0,
        passage=str(about.get("text") or ""),
        model=str(about.get("model") or ""),
        review=REFUSED if about.get("review") == REFUSED else OPEN,
    )


def _write(path: Path, lines: Sequence[str]) -> None:
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode("utf-8", errors="surrogateescape"))


def _append(path: Path, line: str) -> None:
    with path.open("ab") as file:
        file.write(f"{line}\n".encode("utf-8", errors="surrogatepass"))


def _mend_end(path: Path) -> None:
    """Without a last line that is not whole; with an end to one that people left without."""
    data = path.read_bytes() if path.is_file() else b""
    if data and not data.endswith(b"\n"):
        whole, _, last = data.rpartition(b"\n")
        try:
            json.loads(last)
        except ValueError:
            write_bytes(path, whole + b"\n" * bool(whole))
        else:
            write_bytes(path, data + b"\n")
