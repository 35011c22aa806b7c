"""What a text data set is made of, once its files are read. Pure."""

import re
import unicodedata
from dataclasses import dataclass, field

ROLES = ("system", "user", "assistant", "tool")
_PAUSES = re.compile(r"[,;:،、؛]+(?=\s|$)|[\"«»“”„]")  # after NFKC, which writes ， as ,
_END = re.compile(r"[\s.?。؟।]+$|(?<=[^\W\d])[\s!.?。؟।]+$")  # 5! is no exclamation


@dataclass(frozen=True)
class Message:
    """One turn.

    Attributes:
        role: one of ROLES.
        learned: whether an assistant's turn is; one that is not is read as what was said before.
        thought: what the assistant thought before it said this, where the data keeps that apart.
    """

    role: str
    content: str
    learned: bool = True
    thought: str = ""


@dataclass(frozen=True)
class Conversation:
    """Turns of which the assistant's are learned.

    Attributes:
        source: where it stands, for people: `faq.jsonl, row 12`.
        file: its file's name.
        origin: what the row says that it comes from, such as a document; empty where it says nothing.
    """

    messages: tuple[Message, ...]
    source: str
    file: str = field(default="", compare=False)
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class Document:
    """Plain text, learned as it is. ``source``, ``file``, ``origin``: as a conversation's."""

    text: str
    source: str
    file: str = field(default="", compare=False)
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class TokenizedExample:
    """An example as the model sees it.

    Attributes:
        tokens: ids.
        trained: for each token, whether the model learns to say it here; never the first one, which nothing comes before.
        source: as of the conversation or document it comes from.
        question: the token ids to which the last assistant turn is the answer, generation prompt and all; empty for documents.
        answer: that turn's text.
        prompt: the text of the user's turn before it.
    """

    tokens: tuple[int, ...]
    trained: tuple[bool, ...]
    source: str
    question: tuple[int, ...] = ()
    answer: str = ""
    prompt: str = ""

    @property
    def count(self) -> float:
        """Tokens that are learned."""
        return float(sum(self.trained))


def plain(text: str) -> str:
    """A text for comparing: without capitals and odd spaces."""
    return " ".join(text.casefold().split())


def bare(text: str) -> str:
    """A text for comparing what it says: without what people write in one way or another, too: wide letters, invisible signs, marks for
    pauses, and how it ends. Signs within it stay: they may be all that two sums differ by."""
    seen = "".join(sign for sign in unicodedata.normalize("NFKC", text) if unicodedata.category(sign) != "Cf")
    words = plain(seen)
    return " ".join(_END.sub("", _PAUSES.sub("", words)).split()) or words
