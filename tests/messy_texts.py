"""A set of 500 questions and answers in which nothing is wrong, and the same with one culprit of each kind that a report should find.

Secrets are put together here, so that no file of ours looks as if it held one.
"""

import random
from pathlib import Path

import openpyxl

THINGS = (
    "kettle lantern bicycle harbour ferry orchard violin compass greenhouse telescope sailcloth anvil beehive chimney drawbridge "
    "elevator fountain gramophone hammock inkwell jigsaw keyhole loom mailbox notebook"
)
ASKED = (
    "How do I clean the {}?",
    "What does a new {} cost in the shop on Mill Street?",
    "Who repairs the {} when it is broken?",
    "Where is the {} kept during the winter?",
    "Which parts of the {} wear out first?",
    "Can the {} be left outside when it rains?",
    "How long does the {} last if it is used every day?",
    "Why does the {} make a noise in the evening?",
    "Is there a smaller {} for children?",
    "When was the {} built, and by whom?",
    "What should be checked before the {} is used again?",
    "How heavy is the {} without its case?",
    "May visitors touch the {}?",
    "What colour was the {} at first?",
    "How is the {} carried up the stairs?",
    "Who owned the {} before the museum did?",
    "What happens if the {} gets wet?",
    "Which tool opens the {}?",
    "How many people does the {} need?",
    "Where can I read more about the {}?",
)
_PLACES = "cellar attic workshop yard hall library kitchen stable tower gallery garden pier"
_PEOPLE = "Mira Anton Jule Osman Petra Lars Noor Tomas Edda Ravi"
_HOW = "slowly carefully twice by hand with a cloth under cover before noon after lunch in spring without haste"


def clean_rows(count: int = 500, seed: int = 3) -> list[tuple[str, str]]:
    """(question, answer), all different, with prices, dates, an office's address and numbers that are no telephone's."""
    rng = random.Random(seed)
    rows = []
    for asked in ASKED:
        for thing in THINGS.split():
            a, b, c = (rng.choice(words.split()) for words in (_PLACES, _PEOPLE, _HOW))
            told = rng.choice(
                [
                    f"The {thing} stands in the {a}; {b} looks after it {c}, and can tell you what you need to know about it.",
                    f"{b} has done that {c} since {rng.randint(1950, 2020)}. Ask in the {a}, or write to info@museum.example.",
                    f"That takes about {rng.randint(2, 90)} minutes, {c}, and {rng.randint(3, 400)}.50. The {a} has what it needs.",
                    f"On {rng.randint(10, 28)}.0{rng.randint(1, 9)}.2024 it was moved to the {a}, where {b} keeps the {thing}.",
                    f"No: {b} says that the {thing} is better off in the {a}. See order 2024-{rng.randint(1000, 9999)} of the workshop.",
                ]
            )
            rows.append((asked.format(thing), told))
    rng.shuffle(rows)
    return rows[:count]


def luhn(digits: str) -> str:
    """With its check digit."""
    total = sum(sum(divmod(int(digit) * (2 - place % 2), 10)) for place, digit in enumerate(reversed(digits)))
    return digits + str(-total % 10)


def iban(country: str, account: str) -> str:
    """With its check digits."""
    number = int("".join(str(int(sign, 36)) for sign in f"{account}{country}00"))
    return f"{country}{98 - number % 97:02d}{account}"


def messy_rows() -> tuple[list[tuple[str | None, str | None]], dict[str, list[list[int]]]]:
    """(rows, kind of finding -> groups of the rows, counted from 0, that it is about)."""
    rows: list[tuple[str | None, str | None]] = list(clean_rows())
    culprits: dict[str, list[list[int]]] = {}

    def put(kind: str, *groups: dict[int, tuple[str | None, str | None]]) -> None:
        for group in groups:
            for place, row in group.items():
                rows[place] = row
        culprits[kind] = [sorted(group) for group in groups]

    put("empty", {7: (rows[7][0], None), 411: (rows[411][0], "  "), 98: (None, "He is in the tower with the others.")})
    put("hollow", {33: (rows[33][0], "TODO"), 34: (rows[34][0], "n/a")})
    put(
        "contradiction",
        {
            20: ("When does the ferry leave?", "At nine in the morning, from the pier."),
            320: ("when does the  ferry leave?", "Never on a Monday."),
        },
    )
    put("same", {50: rows[51], 51: rows[51], 52: rows[51]})
    long = "Please tell me where I can buy a ticket for the guided tour through the old harbour on a Sunday afternoon"
    told = "Tickets for the guided tour are sold at the little kiosk beside the pier, from ten until four, and cost six each."
    put("alike", {60: (long + "?", told), 460: (f"{long}, please?", told.replace("little ", "")), 461: (long, told)})
    shared = "Please contact our customer service about that."
    put("one answer", {place: (rows[place][0], shared) for place in range(130, 136)})
    garbled = "The café on the pier has crêpes until nine.".encode().decode("cp1252")
    put(
        "encoding",
        {200: ("Where can we eat at night?", garbled)},
        {201: ("How do they answer?", "Stra\ufffde, which is a street.")},
    )
    german = "Die Laterne steht im Keller und wird von uns nicht mehr benutzt, weil sie zu alt ist und der Docht fehlt."
    put("language", {250: ("Wo ist die Laterne, und wer kann sie mir zeigen?", german)})
    key = "sk-" + "proj-" + "A1b2C3d4" * 4
    put("keys", {300: (rows[300][0], f"Use the key {key} for that."), 301: (rows[301][0], "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIE")})
    put("email", {310: ("Who is it?", "Write to mira.holm" + "@" + "posteo-mail.de, she knows.")})
    put(
        "phone",
        {
            315: (rows[315][0], "Call Mira at +49 30 " + "9018 2745 in the evening."),
            316: (rows[316][0], "Ring (0421) " + "33 90 71 28 first."),
        },
    )
    put("card", {330: (rows[330][0], f"It was paid with {luhn('453201511283036')}.")})
    put("iban", {340: (rows[340][0], f"Send it to {iban('DE', '370400440532013017')}.")})
    return rows, culprits


def write_sheet(path: Path, rows: list[tuple[str | None, str | None]]) -> Path:
    """An Excel workbook with the names of its columns in the first row."""
    book = openpyxl.Workbook()
    for row in [("question", "answer"), *rows]:
        book.active.append(row)
    book.save(path)
    return path
