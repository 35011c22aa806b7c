"""Who may import whom: every import statement of the repository, held against the rules of the house.

engine <- pictures <- sd, captioning; engine <- llm; hosts above them, no host knowing another; tasks sees all of these, hosts only
inside its functions; ui sees engine, toolbox, tasks, the config classes and the captioners' protocol, never hosts; cli, which joins a
host to the rest, sees everything; toolbox sees engine, pictures, sd, llm, tasks and the stand-alone host; gradio only in ui and entry
points; a host's own `modules` only in that host's folder; heavy libraries only where they are at home, and loaded only when used.

And what of the house's style can be measured: how long functions and files are, and that the engine names nothing that another room owns.
"""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXTENSION = ROOT / "extension"
ENTRY_POINTS = ("scripts", "textgen_plugin", "tools", "demo", "javascript")  # and the files directly in the root

ROOMS = {  # what each may import; a file directly in the package is a room of its own name
    "__init__": r"$",
    "shipped": r"$",
    "engine": r"engine\b",
    "pictures": r"(engine|pictures)\b",
    "sd": r"(engine|pictures|sd)\b",
    "llm": r"(engine|llm)\b",
    "captioning": r"(engine|pictures|captioning)\b",
    "hosts": r"(engine|pictures|sd|llm|hosts)\b|captioning\.captioner\b",
    "toolbox": r"(engine|pictures|sd|llm|tasks|toolbox)\b|hosts\.(shared|standalone)\b",
    "tasks": r"(engine|pictures|sd|llm|hosts|shipped)\b",
    "ui": r"(engine|toolbox|ui|tasks|shipped)\b|(pictures|sd|llm)\.config\b|captioning\.captioner\b",
    "cli": r"(engine|pictures|sd|llm|captioning|hosts|toolbox|tasks|ui|cli|shipped)\b",
    "__main__": r"cli\b",
}
LIGHT = {"tasks": r"hosts\b"}  # room -> what it may import inside functions only
HOSTS = {  # folder below hosts -> folders there that it may import, beside its own
    "": (),
    "shared": (),
    "standalone": ("shared",),
    "webui": ("shared",),
    "a1111": ("shared", "webui"),
    "forge": ("shared", "webui"),
    "textgen": ("shared",),
}
HOMES = {  # library -> files that may import it, relative to the repository
    "gradio": r"extension/hotlora/ui/|scripts/|textgen_plugin/|script\.py$",
    "modules": r"extension/hotlora/hosts/(webui|a1111|forge|textgen)/|scripts/|textgen_plugin/|script\.py$",
    "backend": r"extension/hotlora/hosts/forge/",
    "diffusers": r"extension/hotlora/hosts/standalone/\w+\.py$|tools/|demo/",
    "transformers": r"extension/hotlora/(hosts/standalone/\w+|engine/optimizers|llm/\w+|captioning/\w+)\.py$|tools/|demo/",
    "onnxruntime": r"extension/hotlora/captioning/onnx_tagger\.py$",
    "bitsandbytes": r"extension/hotlora/(engine/optimizers|hosts/standalone/few_bits)\.py$",
    "openpyxl": r"extension/hotlora/llm/workbooks\.py$",
    "pyarrow": r"extension/hotlora/llm/parquet\.py$",
    "pypdf": r"extension/hotlora/llm/pdf\.py$",
    "optuna": r"extension/hotlora/engine/searching\.py$",
    "gguf": r"extension/hotlora/toolbox/gguf_files\.py$",
    "peft": r"extension/hotlora/(engine/\w+|llm/peft_names|hosts/(textgen/adapters|standalone/merging))\.py$|tools/",
}
USUAL_LINES, MOST_LINES, MOST_LINES_OF_A_FILE = 20, 60, 350  # of nine functions in ten; of any; of any file
FOREIGN = re.compile(  # what the engine has no word for: tasks, families, their options, file formats, hosts
    r"""(image|text)[-_ ]?(generation|config|trainee)|stable[-_ ]?diffusion|\bsd(1|2|xl)\b|sdxl|flux|\bllm\b|llama
    |unet|\bvae\b|latent|caption|clip_skip|text_encoder|bucket|tokenizer|max_tokens|chat_template|packing|neftune
    |network_|lora_start|conv_rank|block_ranks
    |kohya|lycoris|safetensors|adapter_config|comparison\.png
    |a1111|automatic|webui|forge(?!t)|textgen|gradio|diffusers""",
    re.VERBOSE | re.IGNORECASE,
)
MUST_BE_LAZY = ("diffusers", "transformers", "peft", "bitsandbytes", "onnxruntime", "optuna", "gguf", "matplotlib", "tensorboard")
MUST_BE_LAZY += ("openpyxl", "pyarrow", "pypdf")


@dataclass(frozen=True)
class Import:
    """One imported module, by its full name."""

    name: str
    line: int
    at_top: bool  # runs when the file is imported

    @property
    def library(self) -> str:
        return self.name.partition(".")[0]


def find_imports(source: str, package: str) -> Iterator[Import]:
    """Every import in the source, wherever it stands; relative ones resolved against ``package``. `import_module("x")` counts."""
    tree = ast.parse(source)
    inside = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.AsyncFunctionDef) for n in ast.walk(f) if n is not f}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("import_module", "__import__"):
            names = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        for name in names:
            yield Import(name, node.lineno, id(node) not in inside)


def find_faults(path: str, source: str) -> list[str]:
    """What is wrong with the imports of the file at ``path``, which is relative to the repository."""
    package = path.removeprefix("extension/").rpartition("/")[0].replace("/", ".")
    inside = path.startswith("extension/hotlora/")
    room = path.removeprefix("extension/hotlora/").removesuffix(".py").partition("/")[0] if inside else None
    faults = []
    for found in find_imports(source, package):
        if room is not None and found.library == "hotlora":
            target = found.name.removeprefix("hotlora").lstrip(".")
            if target != "__version__" and not re.match(ROOMS[room], target):
                faults.append(f"{path}:{found.line}: {room} may not import {target or 'the package'}")
            elif found.at_top and room in LIGHT and re.match(LIGHT[room], target):
                faults.append(f"{path}:{found.line}: {room} may import {target} inside functions only")
            host = path.partition("/hosts/")[2].rpartition("/")[0].partition("/")[0]
            if room == "hosts" and re.match(r"hosts\.", target) and target.split(".")[1] not in (host, *HOSTS[host]):
                faults.append(f"{path}:{found.line}: the host {host} may not import {target}")
        home = HOMES.get(found.library)
        if home and not re.match(home, path):
            faults.append(f"{path}:{found.line}: {found.library} is not imported here")
        elif room is not None and found.at_top and found.library in MUST_BE_LAZY and not re.search(r"hosts/standalone/\w+\.py$", path):
            faults.append(f"{path}:{found.line}: {found.library} is imported before it is needed")
    return faults


def source_files() -> list[Path]:
    files = [*EXTENSION.rglob("*.py"), *ROOT.glob("*.py")]
    for folder in ENTRY_POINTS:
        files += (ROOT / folder).rglob("*.py")
    return sorted(files)


def test_no_file_imports_what_it_must_not():
    faults = [f for path in source_files() for f in find_faults(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)


def test_everything_in_the_package_is_a_room_and_extension_holds_nothing_else():
    assert {path.stem for path in (EXTENSION / "hotlora").iterdir() if path.name != "__pycache__"} == set(ROOMS)
    assert [path.name for path in EXTENSION.iterdir() if path.suffix != ".egg-info"] == ["hotlora"]  # which pip leaves behind


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("extension/hotlora/engine/loop.py", "from ..sd.config import ImageConfig"),
        ("extension/hotlora/engine/loop.py", "from .. import sd"),
        ("extension/hotlora/engine/loop.py", "import hotlora.hosts.standalone.images"),
        ("extension/hotlora/engine/loop.py", "def f():\n    from transformers import AutoModel"),
        ("extension/hotlora/engine/adapters.py", "import peft"),
        ("extension/hotlora/pictures/latents.py", "from ..sd.config import ImageConfig"),
        ("extension/hotlora/sd/kohya.py", "from ..llm import packing"),
        ("extension/hotlora/sd/kohya.py", "from hotlora.hosts import a1111"),
        ("extension/hotlora/sd/kohya.py", "import importlib\nimportlib.import_module('gradio')"),
        ("extension/hotlora/hosts/standalone/images.py", "from ...ui import tab"),
        ("extension/hotlora/hosts/textgen/host.py", "from ..standalone.texts import load_model"),
        ("extension/hotlora/hosts/shared/modes.py", "from ..webui import queue"),
        ("extension/hotlora/hosts/standalone/images.py", "def f():\n    import modules.shared"),
        ("extension/hotlora/hosts/standalone/checkpoints/recognising.py", "import diffusers"),
        ("extension/hotlora/ui/tab.py", "from ..hosts.a1111.host import A1111Host"),
        ("extension/hotlora/ui/tab.py", "from ..pictures.dataset import read_dataset"),
        ("extension/hotlora/ui/tab.py", "from ..captioning.blip import Blip"),
        ("extension/hotlora/ui/tab.py", "from ..cli import main"),
        ("extension/hotlora/captioning/blip.py", "from ..hosts.shared import devices"),
        ("extension/hotlora/captioning/blip.py", "import transformers"),
        ("extension/hotlora/tasks.py", "from .hosts.standalone.images import DiffusersHost"),
        ("extension/hotlora/tasks.py", "from .ui.studio import Studio"),
        ("extension/hotlora/shipped.py", "from .engine.files import write_text"),
        ("extension/hotlora/toolbox/opening.py", "from ..hosts.a1111.host import A1111Host"),
        ("extension/hotlora/toolbox/opening.py", "from ..cli import main"),
        ("extension/hotlora/sd/kohya.py", "from ..toolbox.resizing import resize"),
        ("extension/hotlora/cli/search.py", "import optuna"),
        ("extension/hotlora/cli/ui.py", "import gradio"),
        ("extension/hotlora/__main__.py", "from .ui.page import build_page"),
        ("extension/hotlora/__init__.py", "from .engine import loop"),
        ("train.py", "import gradio"),
    ],
)
def test_forbidden_arrows_are_found(path, source):
    assert find_faults(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        (
            "extension/hotlora/sd/trainee.py",
            "from ..engine.errors import UserError\nfrom ..pictures.reading import read_picture\nimport torch",
        ),
        ("extension/hotlora/hosts/a1111/host.py", "from modules import shared\nfrom ...sd.model import ImageModel"),
        ("extension/hotlora/hosts/standalone/images.py", "def f():\n    from diffusers import AutoencoderKL"),
        ("extension/hotlora/ui/tab.py", "import gradio as gr\nfrom ..sd.config import ImageConfig\nfrom ..engine.job import Job"),
        ("extension/hotlora/ui/tab.py", "from ..captioning.captioner import Captioner\nfrom ..tasks import TASKS"),
        ("extension/hotlora/tasks.py", "def f():\n    from .hosts.standalone.images import DiffusersHost"),
        ("extension/hotlora/cli/train.py", "from ..hosts.standalone.merging import merge_adapter\nfrom ..ui.page import build_page"),
        ("scripts/hotlora_tab.py", "import gradio\nfrom modules import script_callbacks\nfrom hotlora.ui import tab"),
    ],
)
def test_allowed_arrows_are_let_through(path, source):
    assert not find_faults(path, source)


def find_foreign_words(source: str) -> list[str]:
    """What an engine's file would know too much by: words of FOREIGN in its names and strings. Docstrings, comments and imported
    libraries may say them."""
    tree = ast.parse(source)
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, owners) and ast.get_docstring(node) is not None}
    libraries = {found.library for found in find_imports(source, "hotlora.engine")}
    faults = []
    for node in ast.walk(tree):
        words = [value for name in ("id", "attr", "arg", "name") if isinstance(value := getattr(node, name, None), str)]
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            words = [node.value]
        if not isinstance(node, ast.alias):
            faults += [f"{node.lineno}: {word!r}" for word in words if word not in libraries and FOREIGN.search(word)]
    return faults


def test_the_engine_names_nothing_that_another_room_owns():
    files = sorted((EXTENSION / "hotlora" / "engine").rglob("*.py"))
    faults = [f"{path.name}:{fault}" for path in files for fault in find_foreign_words(path.read_text(encoding="utf-8"))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "source",
    [
        'task = "image-generation"',
        'if getattr(config, "network_type", ""):\n    pass',
        "kind = config.lora_start",
        'path = folder / "comparison.png"',
        'path = f"{name}.safetensors"',
        "def write_kohya(path):\n    pass",
        "train(unet=model)",
        "try_it(clip_skip=2)",
    ],
)
def test_an_engine_that_knows_too_much_is_found_out(source):
    assert find_foreign_words(source)


@pytest.mark.parametrize(
    "source",
    [
        '"""Which way image programs such as the WebUI apply it."""',
        "import safetensors\n\ndata = safetensors.load(path)",
        'def write(self):\n    """As kohya has it."""',
        "values = [1]  # captions, latents",
    ],
)
def test_an_engine_may_explain_itself(source):
    assert not find_foreign_words(source)


def test_functions_and_files_are_short():
    lengths, faults = [], []
    for path in sorted((EXTENSION / "hotlora").rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        count = source.count("\n")
        faults += [f"{path.relative_to(ROOT)}: {count} lines"] if count > MOST_LINES_OF_A_FILE else []
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths.append(node.end_lineno - node.lineno + 1)
                faults += [f"{path.relative_to(ROOT)}:{node.lineno}: {node.name}, {lengths[-1]} lines"] if lengths[-1] > MOST_LINES else []
    assert not faults, "\n".join(faults)
    assert statistics.quantiles(lengths, n=10, method="inclusive")[-1] <= USUAL_LINES


def test_importing_engine_pictures_sd_and_captioning_loads_no_heavy_library():
    """A host that shows a tab must not pay for, or clash with, libraries that it does not use yet."""
    files = [path for room in ("engine", "pictures", "sd", "captioning") for path in (EXTENSION / "hotlora" / room).glob("*.py")]
    names = [".".join(path.relative_to(EXTENSION).with_suffix("").parts) for path in files]
    code = f"import importlib, sys\nfor name in {names!r}: importlib.import_module(name.removesuffix('.__init__'))\n"
    code += f"print(*sorted({{m.partition('.')[0] for m in sys.modules}} & {{*{MUST_BE_LAZY!r}, 'gradio'}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=EXTENSION, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
