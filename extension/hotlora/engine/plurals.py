"""Words that go by a number."""


def counted(count: int, what: str) -> str:
    """``1 picture``, ``2 pictures``, ``1,024 pictures``."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def by_number(count: int, one: str, many: str) -> str:
    """The words for one, or those for more."""
    return one if count == 1 else many
