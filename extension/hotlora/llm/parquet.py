"""Rows out of Parquet files, by the package pyarrow."""

import datetime
import decimal
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .columns import is_known
from .errors import RowError
from .located import Located
from .packages import say_missing

_ROWS_AT_ONCE = 1000


def read_parquet(path: Path) -> Iterator[Located]:
    """Every row, a part of the file at a time.

    Raises:
        RowError: where pyarrow is missing, and for what is no such file or is damaged.
        OSError: as the system has it.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise RowError(say_missing("pyarrow", "Export it as JSON lines (.jsonl)")) from None
    number = 0
    with path.open("rb") as file:
        try:
            for batch in ParquetFile(file).iter_batches(_ROWS_AT_ONCE):
                for row in batch.to_pylist():
                    number += 1
                    yield Located(f"row {number}", _find_binary(row) or _make_plain(row))
        except (ArrowException, OSError, ValueError, NotImplementedError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
            raise RowError(f"it is no sound Parquet file ({reason[:200]}). Export it anew, or as JSON lines (.jsonl)") from error


def _find_binary(row: Mapping[str, Any]) -> RowError | None:
    """Why a row cannot be read: what is to be learned of it is no text."""
    name = next((name for name, value in row.items() if isinstance(value, bytes) and is_known(name) and _decode(value) is None), None)
    return None if name is None else RowError(f"its {name} holds bytes that are no text in UTF-8. Export it as text")


def _decode(value: bytes) -> str | None:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _make_plain(value: Any) -> Any:
    """What JSON has for it."""
    if isinstance(value, Mapping):
        return {str(key): _make_plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_make_plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal | datetime.timedelta):
        return str(value)
    if isinstance(value, bytes):
        text = _decode(value)
        return f"({len(value):,} bytes)" if text is None else text
    return None if isinstance(value, float) and math.isnan(value) else value
