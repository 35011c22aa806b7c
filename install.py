"""A1111's install hook: adds the packages that training needs and the WebUI lacks, and moves none that is there.

The WebUI runs this file in its own Python at every start, before it loads anything, with its own folder as the working
directory, and prints what this prints. `python install.py` does the same for any other Python, and `python install.py optuna`
adds what *Find settings* needs as well; `python install.py --only openpyxl` adds nothing else, as the page's buttons do. Here lies
the knowledge of which version fits which host. It imports the standard library only: when nothing is to do it must cost next to
nothing, and then it prints nothing. Whatever goes wrong becomes one sentence and the exit code is 0, because the WebUI must start.
"""

import ctypes
import importlib
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from importlib import metadata
from pathlib import Path

NO_END = "999"

# peft from `since` to before `until` works with `package` from `lowest` to before `below`, because it uses `name` of it.
Need = namedtuple("Need", "since until package lowest below name")
# Found by importing each peft, and wrapping a Linear and a Conv2d, on both sides of each limit. What the wheels declare is
# much less: every peft up to 0.21 claims to run with any transformers and with accelerate 0.21.
PEFT_NEEDS = (
    Need("0.13", NO_END, "transformers", "4.30", NO_END, "the oldest that was tried"),
    Need("0.13", NO_END, "accelerate", "0.21", NO_END, "its declared minimum"),
    Need("0.13", NO_END, "huggingface_hub", "0.23", NO_END, "errors.HFValidationError"),
    Need("0.14", NO_END, "transformers", "4.43", NO_END, "EncoderDecoderCache"),
    Need("0.14", NO_END, "huggingface_hub", "0.25", NO_END, "errors.LocalEntryNotFoundError"),
    Need("0.15", NO_END, "accelerate", "0.32", NO_END, "utils.memory.clear_device_cache"),
    Need("0.16", "0.18", "transformers", "4.44", "5", "HybridCache"),
    Need("0.18.0", "0.18.1", "transformers", "4.52", NO_END, "modeling_layers"),
    Need("0.19", NO_END, "torchao", "0.16", NO_END, "where there is one; it refuses an older one at the first layer"),
)
PEFT_OLDEST = "0.13"  # that HotLoRA is tested with
PEFT_CHOICES = ("0.21.2", "0.18.1", "0.14.0", "0.13.2")  # newest first; 0.18.1 is for hosts with an old torchao

# (version, lowest torch) as the wheels declare it. They hold libraries for CUDA 11.8 to 13.2, and for 11.7 to 12.8.
BITSANDBYTES_CHOICES = (("0.50.2", "2.4"), ("0.45.5", "2.0"))
# (version, lowest protobuf): the generated code of 2.21 refuses an older protobuf; 2.20 writes with any from 3.20 to 6.
TENSORBOARD_CHOICES = (("2.21.0", "6.31.1"), ("2.20.0", "3.19.6"))
# What only some features need, and is added where it is asked for: (version, lowest Python). HotLoRA works with older ones too.
ON_DEMAND = {
    "optuna": (("5.0.0", "3.9"),),  # Find settings
    "openpyxl": (("3.1.5", "3.8"),),  # texts in .xlsx files
    "pypdf": (("7.1.1", "3.10"),),  # in .pdf files
    "pyarrow": (("26.0.1", "3.11"), ("20.0.0", "3.9")),  # in .parquet files
    "diffusers": (("0.31.0", "3.8"),),  # training beside the WebUI, on another card
}

# What each needs besides. Where all of that is there, pip is told not to look at what the wheel declares.
DEPENDENCIES = {
    "peft": "numpy packaging psutil pyyaml torch transformers tqdm accelerate safetensors huggingface-hub",
    "bitsandbytes": "torch numpy packaging",
    "tensorboard": "absl-py grpcio markdown numpy packaging pillow protobuf setuptools tensorboard-data-server werkzeug",
    "optuna": "alembic colorlog numpy packaging pyyaml sqlalchemy tqdm",
    "openpyxl": "et-xmlfile",
    "pypdf": "typing-extensions",
    "pyarrow": "numpy",
    "diffusers": "filelock huggingface-hub importlib-metadata numpy pillow regex requests safetensors",
}
CHECKS = {
    "tensorboard": "torch.utils.tensorboard",
    "pyarrow": "pyarrow.parquet",
    "diffusers": "diffusers.models.unets.unet_2d_condition",
}  # what is imported, where that is not the package
# A name that cannot be resolved fails at once; a firewall that swallows packets only after this, and the WebUI waits.
PIP_SETTINGS = dict(PIP_RETRIES="1", PIP_TIMEOUT="10", PIP_DEFAULT_TIMEOUT="10", PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
UNREACHABLE = "the package index cannot be reached"
PEP_440 = re.compile(r"(\d+!)?\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9]+([._-][a-z0-9]+)*)?")
join = subprocess.list2cmdline if os.name == "nt" else shlex.join


class PipError(Exception):
    """pip did not do it. The message is the reason, without a full stop."""


# ---- what is missing


def find_missing(launch) -> list[tuple[str, str]]:
    """The (name, version) pairs to add. `launch` is A1111's module, or None."""
    asked = sys.argv[1:]
    wanted = [] if "--only" in asked else find_needed(launch)
    for name, choices in ON_DEMAND.items():
        if (name in asked or (name == "optuna" and asks_for("hotlora_optuna", launch))) and is_missing(name):
            wanted += [(name, version) for version in choose(choices, platform.python_version())]
    return wanted


def find_needed(launch) -> list[tuple[str, str]]:
    """What training itself lacks. Says what only the user can mend."""
    host = {name: version_of(name) for name in ("transformers", "accelerate", "huggingface_hub", "torchao", "torch", "protobuf")}
    wanted = choose_peft(host)
    if host["torch"] and is_missing("bitsandbytes") and is_built_for_cuda(host["torch"]) and has_nvidia_driver():
        wanted += [("bitsandbytes", version) for version in choose(BITSANDBYTES_CHOICES, host["torch"])]
    if is_missing("tensorboard") and asks_for("hotlora_tensorboard", launch):
        wanted += [("tensorboard", version) for version in choose(TENSORBOARD_CHOICES, host["protobuf"] or NO_END)]
    return wanted


def choose_peft(host: dict[str, str | None]) -> list[tuple[str, str]]:
    installed, fitting = version_of("peft"), find_fitting_peft(host)
    if not installed and fitting:
        return [("peft", fitting)] if is_missing("peft") else []
    peft = installed or PEFT_CHOICES[-1]
    if reason := explain_unfit(peft, host):
        first = find_unmet(PEFT_CHOICES[-1], host)
        what, how = ("", f"peft=={fitting}") if fitting else ("update the WebUI or ", f"{first.package}~={first.lowest}.0")
        command = f'"{sys.executable}" -m pip install --no-deps {how}'
        say(f"cannot train with peft {peft}: {reason}. HotLoRA moves no installed package; to mend it, {what}run: {command}")
    return []


def find_fitting_peft(host: dict[str, str | None]) -> str | None:
    """The newest peft that the host admits."""
    return next((version for version in PEFT_CHOICES if not find_unmet(version, host)), None)


def find_unmet(peft: str, host: dict[str, str | None]) -> Need | None:
    """The first need of this peft that a host with these versions (None: not installed) does not meet."""
    for need in PEFT_NEEDS:
        has = host.get(need.package)
        applies = lies_between(peft, need.since, need.until) and not (has is None and need.package == "torchao")
        if applies and (has is None or not lies_between(has, need.lowest, need.below)):
            return need
    return None


def explain_unfit(peft: str, host: dict[str, str | None]) -> str | None:
    if numbers(peft) < numbers(PEFT_OLDEST):
        return f"HotLoRA needs {PEFT_OLDEST} or newer"
    if unmet := find_unmet(peft, host):
        limits = f"{unmet.lowest} or newer" + ("" if unmet.below == NO_END else f" and older than {unmet.below}")
        return f"it needs {unmet.package} {limits} ({unmet.name}), and {host[unmet.package] or 'none'} is installed"
    return None


def lies_between(version: str, lowest: str, below: str) -> bool:
    return numbers(lowest) <= numbers(version) < numbers(below)


def numbers(version: str) -> list[int]:
    """The release: 2.1.2+cu121 -> [2, 1, 2]."""
    return [int(part) for part in re.match(r"[\d.]*", version)[0].split(".") if part]


def choose(choices: tuple[tuple[str, str], ...], installed: str) -> list[str]:
    """The first version whose minimum is installed, or none."""
    return [version for version, lowest in choices if numbers(installed) >= numbers(lowest)][:1]


def version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def is_missing(name: str) -> bool:
    """Neither installed nor put on the path by hand. A folder that an uninstallation left (no __init__.py) is nothing."""
    spec = importlib.util.find_spec(name)
    return version_of(name) is None and (spec is None or spec.origin is None)


def is_built_for_cuda(torch: str) -> bool:
    """From torch's version alone, for importing it takes seconds. PyPI's wheels have no tag: those for Linux are CUDA's."""
    tag = torch.partition("+")[2]
    return platform.machine().lower() in ("x86_64", "amd64") and (tag.startswith("cu") if tag else platform.system() == "Linux")


def has_nvidia_driver() -> bool:
    if shutil.which("nvidia-smi"):
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def asks_for(setting: str, launch) -> bool:
    """Looks into A1111's settings: where it says, else beside the extensions (--data-dir given to the server is not seen here)."""
    paths = [Path(launch.args.ui_settings_file), Path(__file__).absolute().parents[2] / "config.json"] if launch else []
    settings = [path.read_text(encoding="utf-8-sig") for path in paths if path.is_file()]
    try:
        return bool(settings) and json.loads(settings[0])[setting] is True
    except (ValueError, KeyError, TypeError):
        return False  # not asked, or the file is broken, which the WebUI says itself


# ---- adding it


def add(name: str, version: str, install) -> str:
    """Adds one package under constraints and says what came. Raises PipError when it did not work; then all is as before."""
    before = list_installed()
    bare = ["--no-deps"] if all(dependency in before for dependency in DEPENDENCIES[name].split()) else []
    reason = None
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        pins = (f"{other}=={has}\n" for other, has in before.items() if PEP_440.fullmatch(has))
        constraints.write_text("".join(pins), encoding="utf-8")
        try:
            install(["install", f"{name}=={version}", *bare, "-c", str(constraints)], f"HotLoRA's {name} {version}")
        except PipError as error:
            reason = str(error)
    after = list_installed()
    moved = {other: has for other, has in before.items() if after.get(other) != has}
    added = [other for other in after if other not in before]
    if moved:
        reason = f"it changed {', '.join(moved)}, and was taken out again"
    reason = reason or find_broken(name)
    if reason:
        uninstall(added)
        put_back(moved, after, install)
        raise PipError(reason)
    return "added " + ", ".join(f"{other} {after[other]}" for other in added)


def list_installed() -> dict[str, str]:
    """Version by canonical name, as Python finds them: the `~orch` that an interrupted pip left does not pass for torch."""
    importlib.invalidate_caches()
    names = (distribution.metadata["Name"] for distribution in metadata.distributions())
    canonical = sorted({re.sub(r"[-_.]+", "-", name).lower() for name in names if name})
    return {name: version for name in canonical if (version := version_of(name))}


def find_broken(name: str) -> str | None:
    """Why the package cannot be imported, or None: the one time that this imports torch, in another process."""
    check = subprocess.run(
        [sys.executable, "-c", f"import {CHECKS.get(name, name)}"], capture_output=True, encoding="utf-8", errors="replace"
    )
    return f"it cannot be imported here, and was taken out again ({last_line(check.stderr)})" if check.returncode else None


def uninstall(names: list[str]) -> None:
    try:
        if names:
            run_pip(["uninstall", "-y", *names])
    except PipError as error:
        say(f"WARNING: cannot take {', '.join(names)} out again: {error}")


def put_back(moved: dict[str, str], after: dict[str, str], install) -> None:
    for name, version in moved.items():
        arguments = ["install", "--no-deps", "--force-reinstall", f"{name}=={version}"]
        if tag := version.partition("+")[2]:  # torch and its kin: PyPI has none with a tag
            arguments += ["--extra-index-url", f"https://download.pytorch.org/whl/{tag}"]
        try:
            install(arguments, f"{name} {version} again")
            say(f"WARNING: {name} {version} had become {after.get(name, 'nothing')}; {version} was put back")
        except PipError as error:
            say(f"WARNING: {name} {version} has become {after.get(name, 'nothing')}: {error}. Put it back: pip {join(arguments)}")


def run_pip(arguments: list[str]) -> None:
    result = subprocess.run([sys.executable, "-m", "pip", *arguments], capture_output=True, encoding="utf-8", errors="replace")
    if result.returncode:
        raise PipError(explain_pip(result.stdout + result.stderr))


def explain_pip(output: str) -> str:
    if "Retrying (" in output:
        return UNREACHABLE
    errors = [line for line in output.splitlines() if "ERROR:" in line]
    return last_line("\n".join(errors) or output).removeprefix("ERROR: ")


def last_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[-1].strip().rstrip(".")


def find_installer(launch):
    """How to run pip to install: through the host if there is one, which knows about INDEX_URL."""

    def install(arguments: list[str], what: str) -> None:
        if launch is None:
            print(f"Installing {what}")
            return run_pip([*arguments, "--prefer-binary"])
        if launch.args.skip_install:
            raise PipError("the WebUI runs with --skip-install")
        try:
            launch.run_pip(join(arguments), what)
        except RuntimeError as error:
            raise PipError(explain_pip(str(error))) from error

    return install


def import_launch():
    """A1111's `launch`, which imports no torch; None outside a WebUI."""
    launch = importlib.import_module("launch") if importlib.util.find_spec("launch") else None
    return launch if hasattr(launch, "run_pip") else None


def say(sentence: str) -> None:
    print(f"HotLoRA: {sentence}.", flush=True)


def main() -> None:
    sys.stdout.reconfigure(encoding="utf-8", errors="replace")  # what the host reads; Windows' own cannot say every path
    os.environ.update(PIP_SETTINGS)
    launch = import_launch()
    wanted = find_missing(launch)
    while wanted:
        name, version = wanted.pop(0)
        try:
            say(add(name, version, find_installer(launch)))
        except PipError as error:
            missing = [f"{name} {version}"]
            if str(error) == UNREACHABLE:
                missing += [" ".join(rest) for rest in wanted]
                wanted = []
            rest = ". The WebUI and its Train LoRA tab open all the same, and the tab says it too" if launch else ""
            say(f"cannot add {', '.join(missing)}: {error}{rest}")


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # whatever a strange environment brings: the WebUI must start
        say(f"cannot look after its packages: {type(error).__name__}: {error}. The WebUI starts all the same")
