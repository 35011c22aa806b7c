"""Write docs/import.md, which lists every key of other trainers and what becomes of it: ``python tools/write_import_table.py``."""

import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "extension"))

from hotlora.engine.files import write_text  # noqa: E402
from hotlora.engine.other_names import OtherName  # noqa: E402
from hotlora.llm.other_names import NAMES as TEXT  # noqa: E402
from hotlora.sd.recipes.names import NAMES as KOHYA  # noqa: E402
from hotlora.sd.recipes.onetrainer import NAMES as ONETRAINER  # noqa: E402

_HEAD = """# Recipes of other trainers

`python tools/import_recipe.py FILE` makes a run file of kohya_ss' JSON, sd-scripts' TOML (options or a data set), lora-scripts' TOML,
and OneTrainer's JSON as far as it maps; *Import* in the tab does the same. It lists what was taken, what has no counterpart and why,
and what means something else here. An option by its other name in a run file or behind `--set` is refused with the name it has here.

What differs most often: a `network_alpha` that is not set is 1 there and the rank here (the import writes 1); sd-scripts trains the text
encoder unless told not to, HotLoRA only when told to; `lr_warmup` is a percentage; `output_dir` is a run's own folder here; `0` switches
`min_snr_gamma` off there, an empty value here; repeats are the number in a folder's name (`10_cat`), in both. A data set file's
subsets, and OneTrainer's concepts, become entries of [`datasets`](data.md#several-folders); a folder that stands in several data sets of
other resolutions becomes one entry with all of these.

Written by `python tools/write_import_table.py` from the tables in the code.
"""


def write_page() -> str:
    """The whole page."""
    sections = {
        "kohya_ss, sd-scripts, lora-scripts": KOHYA,
        "OneTrainer": ONETRAINER,
        "Text trainers (names only: axolotl, LLaMA-Factory, Training_PRO, transformers)": TEXT,
    }
    return _HEAD + "".join(f"\n## {heading}\n\n{_table(names)}\n" for heading, names in sections.items())


def _table(names: Mapping[str, OtherName]) -> str:
    rows = ["| key | here | |", "|---|---|---|"]
    for name, other in sorted(names.items(), key=lambda pair: pair[0].lower()):
        rows.append(f"| `{name}` | {f'`{other.option}`' if other.option else ''} | {other.note} |".replace("{a|b}", "{a\\|b}"))
    return "\n".join(rows)


if __name__ == "__main__":
    write_text(ROOT / "docs" / "import.md", write_page())
