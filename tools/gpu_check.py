"""What the documentation claims of a graphics card, tried on this machine's: ``python tools/gpu_check.py`` (or ``make gpu``).

Models of full shape are made of random numbers on the spot; nothing is downloaded. In under ten minutes it prints a table, and saves it as
Markdown and JSON, anew after each piece. A piece that fails is a row of the table, and the others go on. On a machine without a card the
same pieces run through on the CPU with tiny shapes, and each row says that no card was looked at.
"""

import argparse
import json
import platform
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "extension"), str(ROOT / "tools")]

import torch
from gpu_bench import Bench, Found, Row
from gpu_promises import check_base, check_fp16, check_memory, check_resume, check_vae, check_whole
from gpu_speed import check_gaps, check_levers, check_plain, check_predicted, check_steps

PIECES: dict[str, Callable[[Bench], Found]] = {
    "base": check_base,
    "memory": check_memory,
    "fp16": check_fp16,
    "vae": check_vae,
    "plain": check_plain,
    "gaps": check_gaps,
    "steps": check_steps,
    "predicted": check_predicted,
    "resume": check_resume,
    "whole": check_whole,
    "levers": check_levers,
}
PACKAGES = ("torch", "diffusers", "transformers", "peft", "bitsandbytes")


def describe_machine(device: torch.device) -> dict[str, str]:
    """The device, its driver's side, and the packages."""
    said = {"device": f"{device.type} ({platform.processor() or platform.machine()})", "python": platform.python_version()}
    if device.type == "cuda":
        about = torch.cuda.get_device_properties(device)
        said |= {"device": f"{about.name}, {about.total_memory / 2**30:.0f} GB", "cuda": str(torch.version.cuda or torch.version.hip)}
    for package in PACKAGES:
        try:
            said[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            said[package] = "not installed"
    return said


def write_report(folder: Path, machine: dict[str, str], rows: list[Row], *, has_card: bool) -> None:
    """``gpu.json`` and ``gpu.md``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps({"machine": machine, "rows": [vars(row) for row in rows]}, indent=1), encoding="utf-8")
    lines = [", ".join(f"{name} {value}" for name, value in machine.items()), ""]
    lines += ["| piece | case | result |", "|---|---|---|"]
    lines += [f"| {row.piece} | {row.case} | {tell(row, has_card=has_card)} |" for row in rows]
    (folder / "gpu.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def tell(row: Row, *, has_card: bool) -> str:
    """The result, and that no card was looked at where none was."""
    return row.result if has_card or row.is_failure else f"{row.result} (on the CPU, tiny: no card was looked at)"


def run_piece(name: str, bench: Bench, end: float) -> list[Row]:
    """Its rows; what it raises is one of them.

    Args:
        end: on the monotonic clock; no further case is begun after it.
    """
    rows: list[Row] = []
    at = time.monotonic()
    try:
        for case, result, numbers in PIECES[name](bench):
            rows.append(Row(name, case, result, numbers))
            print(f"{time.monotonic() - at:5.1f} s {name:10} {case:44} {result}", flush=True)
            at = time.monotonic()
            if at > end:
                rows.append(Row(name, "", "not checked further: the time was over"))
                break
    except Exception as error:
        traceback.print_exc()
        rows.append(Row(name, "", f"FAILED: {type(error).__name__}: {' '.join(str(error).split())[:300]}"))
    return rows


def main() -> int:
    """0 where nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=PIECES, metavar="PIECE", help=f"of {', '.join(PIECES)}")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, as on a machine without a card")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "gpu", help="folder of the table (default: output/gpu)")
    parser.add_argument("--seconds", type=float, default=570, help="begin nothing further after this long")
    options = parser.parse_args()
    rows: list[Row] = []
    end = time.monotonic() + options.seconds
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), tiny=options.tiny)
        machine = describe_machine(bench.device)
        print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
        for name in options.only or PIECES:
            if time.monotonic() > end:
                rows.append(Row(name, "", "not checked: the time was over"))
            else:
                rows += run_piece(name, bench, end)
            write_report(options.output, machine, rows, has_card=bench.has_card)
    print(f"the table is in {options.output / 'gpu.md'}")
    return int(any(row.is_failure for row in rows))


if __name__ == "__main__":
    sys.exit(main())
