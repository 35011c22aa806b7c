"""Why something of a data set cannot be used."""


class RowError(ValueError):
    """The reason, as the end of a sentence."""
