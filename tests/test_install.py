"""install.py adds what is missing, moves nothing that is there, and never keeps the WebUI from starting.

Every run here is real: its own process, in a throw-away virtual environment whose packages are hand-made stubs, with real pip and
a folder of hand-made wheels for an index. The network is never touched.
"""

import base64
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

A1111 = {"transformers": "4.30.2", "accelerate": "0.21.0", "huggingface_hub": "0.36.2"}
FORGE = {"transformers": "4.46.1", "accelerate": "0.31.0", "huggingface_hub": "0.26.2"}
TEXTGEN = {"transformers": "5.6.2", "accelerate": "1.13.0", "huggingface_hub": "1.5.0", "torchao": "0.15.0"}
NEWEST = {"transformers": "5.23.0", "accelerate": "1.15.0", "huggingface_hub": "1.33.0"}
STUBS = {**A1111, "torch": "2.1.2+cpu", "numpy": "1.26.2", "packaging": "26.3", "psutil": "5.9.5", "PyYAML": "6.0.3", "tqdm": "4.70.1"}
STUBS |= {"safetensors": "0.4.2", "protobuf": "3.20.0"}


def _load_install():
    spec = importlib.util.spec_from_file_location("hotlora_install_hook", ROOT / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


install = _load_install()


# ---- the rules


@pytest.mark.parametrize(
    "host, fitting",
    [
        (A1111, "0.13.2"),
        (FORGE, "0.14.0"),
        (TEXTGEN, "0.18.1"),
        (NEWEST, "0.21.2"),
        ({**A1111, "transformers": "4.43.0", "accelerate": "0.32.0"}, "0.21.2"),
        ({**A1111, "transformers": "4.42.4", "accelerate": "1.13.0"}, "0.13.2"),
        ({**A1111, "huggingface_hub": "0.22.2"}, None),  # a WebUI installed early in 2024 and updated since
        ({**A1111, "accelerate": None}, None),
    ],
)
def test_the_newest_peft_that_the_host_admits(host, fitting):
    assert install.find_fitting_peft(host) == fitting


# What `import peft` and wrapping a layer did in real environments of these versions.
@pytest.mark.parametrize(
    "peft, transformers, accelerate, works",
    [
        ("0.13.2", "4.30.2", "0.21.0", True),
        ("0.14.0", "4.30.2", "0.21.0", False),
        ("0.21.2", "4.30.2", "0.21.0", False),
        ("0.14.0", "4.42.4", "0.32.1", False),
        ("0.14.0", "4.46.3", "0.21.0", True),
        ("0.15.2", "4.46.3", "0.31.0", False),
        ("0.15.2", "4.43.4", "0.32.1", True),
        ("0.16.0", "4.43.4", "0.32.1", False),
        ("0.17.1", "4.44.2", "0.32.1", True),
        ("0.17.1", "5.0.0", "1.13.0", False),
        ("0.18.0", "4.51.3", "1.2.1", False),
        ("0.18.0", "4.52.4", "1.2.1", True),
        ("0.18.1", "4.43.4", "0.32.1", True),
        ("0.13.2", "5.23.0", "1.13.0", True),
        ("0.12.0", "4.30.2", "0.21.0", False),
    ],
)
def test_what_is_known_of_an_installed_peft(peft, transformers, accelerate, works):
    host = {"transformers": transformers, "accelerate": accelerate, "huggingface_hub": "0.36.2"}
    assert (install.explain_unfit(peft, host) is None) == works


def test_this_environment_obeys_the_rules():
    """The pins that the tests of everything else run under."""
    host = {name: install.version_of(name) for name in ("transformers", "accelerate", "huggingface_hub", "torchao")}
    assert install.version_of("peft") == install.find_fitting_peft(host)


@pytest.mark.parametrize(
    "torch, version", [("1.13.1+cu117", []), ("2.1.2+cu121", ["0.45.5"]), ("2.3.1", ["0.45.5"]), ("2.9.1+cu130", ["0.50.2"])]
)
def test_bitsandbytes_goes_by_torch(torch, version):
    assert install.choose(install.BITSANDBYTES_CHOICES, torch) == version


@pytest.mark.parametrize("protobuf, version", [("3.19.5", []), ("3.20.0", ["2.20.0"]), ("5.29.0", ["2.20.0"]), ("7.36.2", ["2.21.0"])])
def test_tensorboard_goes_by_protobuf(protobuf, version):
    assert install.choose(install.TENSORBOARD_CHOICES, protobuf) == version


@pytest.mark.parametrize(
    "torch, system, machine, cuda",
    [
        ("2.1.2+cu121", "Windows", "AMD64", True),
        ("2.1.2+cu121", "Linux", "x86_64", True),
        ("2.1.2", "Linux", "x86_64", True),
        ("2.1.2", "Windows", "AMD64", False),
        ("2.1.2", "Darwin", "arm64", False),
        ("2.1.2+cpu", "Linux", "x86_64", False),
        ("2.1.2+rocm5.6", "Linux", "x86_64", False),
        ("2.9.1+xpu", "Linux", "x86_64", False),
        ("2.0.0a0+gite9ebda2", "Windows", "AMD64", False),
    ],
)
def test_cuda_is_read_off_the_version(torch, system, machine, cuda, monkeypatch):
    monkeypatch.setattr(install.platform, "system", lambda: system)
    monkeypatch.setattr(install.platform, "machine", lambda: machine)
    assert install.is_built_for_cuda(torch) is cuda


# ---- whole runs


@pytest.fixture(scope="session")
def pip_folder(tmp_path_factory):
    """This interpreter's pip alone in a folder, so that a new environment need not unpack its own."""
    folder = tmp_path_factory.mktemp("only-pip")
    shutil.copytree(Path(importlib.util.find_spec("pip").origin).parent, folder / "pip")
    return folder


class Environment:
    """A virtual environment with stub packages, a folder of wheels, and the extension in an `extensions` folder."""

    def __init__(self, folder: Path, pip_folder: Path):
        self.wheels = folder / "wheels"
        self.wheels.mkdir()
        self.webui = folder / "web ui"
        extension = self.webui / "extensions" / "hotlora"
        extension.mkdir(parents=True)
        shutil.copy(ROOT / "install.py", extension)
        self.script = extension / "install.py"
        venv.create(folder / "venv", with_pip=False, symlinks=os.name != "nt")
        self.python = next(path for path in (folder / "venv/bin/python", folder / "venv/Scripts/python.exe") if path.exists())
        self.packages = next(folder.glob("venv/**/site-packages"))
        (self.packages / "pip.pth").write_text(str(pip_folder), encoding="utf-8")
        for name, version in STUBS.items():
            self.put(name, version)
        self.variables = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": self.wheels.as_uri(), "PIP_CONFIG_FILE": os.devnull}

    def put(self, name: str, version: str):
        for path, text in _describe_package(name, version).items():
            target = self.packages / path
            target.parent.mkdir(exist_ok=True)
            target.write_text(text, encoding="utf-8")

    def run(self, *arguments: str, **variables) -> str:
        """What install.py printed."""
        kept = {name: value for name, value in os.environ.items() if not name.upper().startswith(("PIP_", "PYTHON"))}
        result = subprocess.run(
            [str(self.python), str(self.script), *arguments], cwd=self.webui, env={**kept, **self.variables, **variables},
            capture_output=True, encoding="utf-8", timeout=120,
        )  # fmt: skip
        assert result.returncode == 0 and result.stderr == ""
        return result.stdout

    def installed(self) -> dict[str, str]:
        """Read off the folders that pip leaves, not through install.py's own eyes."""
        folders = (path.name.removesuffix(".dist-info").rpartition("-") for path in self.packages.glob("*.dist-info"))
        return {name.lower(): version for name, _, version in folders}

    def enter_webui(self, settings: dict, skip_install: bool = False):
        """Put a `launch` beside it with what A1111's has: the settings' path, and pip through a shell."""
        (self.webui / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        launch = LAUNCH.format(settings=str(self.webui / "config.json"), skip_install=skip_install)
        (self.webui / "launch.py").write_text(launch, encoding="utf-8")
        self.variables["PYTHONPATH"] = str(self.webui)


LAUNCH = """
import subprocess, sys, types
args = types.SimpleNamespace(ui_settings_file={settings!r}, skip_install={skip_install})
def run_pip(command, desc=None):
    print("Installing", desc)
    result = subprocess.run(f'"{{sys.executable}}" -m pip {{command}} --prefer-binary', shell=True, capture_output=True, encoding="utf8")
    if result.returncode:
        raise RuntimeError(f"stdout: {{result.stdout}}\\nstderr: {{result.stderr}}")
"""


@pytest.fixture
def environment(tmp_path, pip_folder):
    return Environment(tmp_path, pip_folder)


def _describe_package(name: str, version: str, requires: tuple = (), code: str = "") -> dict[str, str]:
    """The files of an installed package, by path."""
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n" + "".join(f"Requires-Dist: {item}\n" for item in requires)
    info = f"{name}-{version}.dist-info"
    files = {f"{name}/__init__.py": code, f"{info}/METADATA": metadata}
    return {**files, f"{info}/RECORD": "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))}


def _make_wheel(folder: Path, name: str, version: str, *, requires=(), code="", extra=None):
    files = _describe_package(name, version, requires, code)
    record = next(path for path in files if path.endswith("RECORD"))
    del files[record]
    files[record.replace("RECORD", "WHEEL")] = "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files.update(extra or {})
    lines = [f"{path},sha256={_digest(text)},{len(text.encode())}\n" for path, text in files.items()]
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(record, "".join(lines) + f"{record},,\n")


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def test_nothing_to_do_is_silent_and_changes_nothing(environment):
    environment.put("peft", "0.13.2")
    environment.enter_webui({"hotlora_tensorboard": False})
    before = environment.installed()
    assert environment.run() == ""
    assert environment.installed() == before


def test_a_missing_peft_is_added_and_nothing_else_moves(environment):
    """Its wheel demands a newer transformers, which the index has. What an uninstallation left of an older peft is no peft."""
    (environment.packages / "peft" / "__pycache__").mkdir(parents=True)
    _make_wheel(environment.wheels, "peft", "0.13.2", requires=["transformers>=4.40", "torch"])
    _make_wheel(environment.wheels, "peft", "0.21.2")
    _make_wheel(environment.wheels, "transformers", "4.46.0")
    before = environment.installed()
    printed = environment.run()
    assert "HotLoRA: added peft 0.13.2.\n" in printed
    assert environment.installed() == {**before, "peft": "0.13.2"}
    assert environment.run() == ""


def test_a_missing_dependency_comes_along_under_constraints(environment):
    """tqdm is not there, so pip has to look at what wheels declare: it takes the newest tqdm that is content with this numpy."""
    shutil.rmtree(environment.packages / f"tqdm-{STUBS['tqdm']}.dist-info")
    environment.put("an_odd.name", "1.0 beta")  # pip stops at a constraint that it cannot read
    _make_wheel(environment.wheels, "peft", "0.13.2", requires=["tqdm", "numpy"])
    _make_wheel(environment.wheels, "tqdm", "4.98.0", requires=["numpy"])
    _make_wheel(environment.wheels, "tqdm", "4.99.0", requires=["numpy>=2"])
    _make_wheel(environment.wheels, "numpy", "2.2.0")
    before = environment.installed()
    environment.run()
    assert environment.installed() == {**before, "peft": "0.13.2", "tqdm": "4.98.0"}


def test_what_an_interrupted_pip_left_is_not_taken_for_the_package(environment):
    shutil.copytree(environment.packages / "numpy-1.26.2.dist-info", environment.packages / "~umpy-1.26.2.dist-info")
    metadata = environment.packages / "~umpy-1.26.2.dist-info" / "METADATA"
    metadata.write_text(metadata.read_text(encoding="utf-8").replace("1.26.2", "1.20.0"), encoding="utf-8")
    _make_wheel(environment.wheels, "peft", "0.13.2")
    before = environment.installed()
    assert "added peft 0.13.2" in environment.run()
    assert environment.installed() == {**before, "peft": "0.13.2"}


def test_an_installed_peft_that_does_not_work_is_left_and_said(environment):
    environment.put("peft", "0.17.1")
    before = environment.installed()
    printed = environment.run()
    assert printed.count("\n") == 1
    assert "peft 0.17.1" in printed and "transformers 4.43 or newer" in printed and "4.30.2" in printed
    assert f'"{environment.python}" -m pip install --no-deps peft==0.13.2' in printed
    assert environment.installed() == before


def test_a_host_that_admits_no_peft_gets_none_and_is_told(environment):
    shutil.rmtree(environment.packages / "huggingface_hub-0.36.2.dist-info")
    environment.put("huggingface_hub", "0.20.3")
    before = environment.installed()
    printed = environment.run()
    assert printed.count("\n") == 1
    assert "huggingface_hub 0.23 or newer" in printed and "0.20.3" in printed and "huggingface_hub~=0.23.0" in printed
    assert environment.installed() == before


@pytest.mark.parametrize("in_webui", [True, False])
def test_without_network_one_sentence_says_what_is_missing(environment, in_webui):
    if in_webui:
        environment.enter_webui({"hotlora_tensorboard": True})
    before = environment.installed()
    printed = environment.run(PIP_NO_INDEX="0", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_FIND_LINKS="")
    sentences = [line for line in printed.splitlines() if line.startswith("HotLoRA: ")]
    missing = "peft 0.13.2, tensorboard 2.20.0" if in_webui else "peft 0.13.2"
    assert len(sentences) == 1 and f"cannot add {missing}: the package index cannot be reached." in sentences[0]
    assert "Traceback" not in printed and len(printed.splitlines()) == 2
    assert environment.installed() == before


def test_skip_install_is_obeyed(environment):
    environment.enter_webui({}, skip_install=True)
    _make_wheel(environment.wheels, "peft", "0.13.2")
    before = environment.installed()
    assert "cannot add peft 0.13.2: the WebUI runs with --skip-install." in environment.run()
    assert environment.installed() == before


@pytest.mark.parametrize("in_webui", [True, False])
def test_a_package_that_changes_another_is_undone(environment, in_webui):
    """A wheel that writes over the description of the host's transformers, and the old transformers in the index."""
    if in_webui:
        environment.enter_webui({})
    overwritten = _describe_package("transformers", "9.9")["transformers-9.9.dist-info/METADATA"]
    extra = {"peft-0.13.2.data/purelib/transformers-4.30.2.dist-info/METADATA": overwritten}
    _make_wheel(environment.wheels, "peft", "0.13.2", extra=extra)
    _make_wheel(environment.wheels, "transformers", "4.30.2")
    before = environment.installed()
    printed = environment.run()
    assert "WARNING: transformers 4.30.2 had become 9.9; 4.30.2 was put back" in printed
    assert "cannot add peft 0.13.2: it changed transformers, and was taken out again." in printed
    assert environment.installed() == before
    assert "Version: 4.30.2\n" in (environment.packages / "transformers-4.30.2.dist-info" / "METADATA").read_text(encoding="utf-8")


def test_what_cannot_be_put_back_is_said_loudly(environment):
    overwritten = _describe_package("torch", "9.9")["torch-9.9.dist-info/METADATA"]
    _make_wheel(environment.wheels, "peft", "0.13.2", extra={"peft-0.13.2.data/purelib/torch-2.1.2+cpu.dist-info/METADATA": overwritten})
    printed = environment.run()
    assert "WARNING: torch 2.1.2+cpu has become 9.9" in printed
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in printed


def test_a_peft_that_cannot_be_imported_is_taken_out_again(environment):
    _make_wheel(environment.wheels, "peft", "0.13.2", code="from transformers import Cache")
    before = environment.installed()
    printed = environment.run()
    assert "cannot import name 'Cache' from 'transformers'" in printed and "taken out again" in printed
    assert environment.installed() == before


def test_bitsandbytes_is_added_where_cuda_is(environment, tmp_path):
    environment.put("peft", "0.13.2")
    _make_wheel(environment.wheels, "bitsandbytes", "0.45.5", requires=["torch>=2.4"])
    before = environment.installed()
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "nvidia-smi.exe").write_text("")
    (tools / "nvidia-smi").write_text("")
    (tools / "nvidia-smi").chmod(0o755)
    path = f"{tools}{os.pathsep}{os.environ['PATH']}"
    assert environment.run(PATH=path) == ""
    shutil.rmtree(environment.packages / "torch-2.1.2+cpu.dist-info")
    environment.put("torch", "2.1.2+cu121")
    assert "added bitsandbytes 0.45.5" in environment.run(PATH=path)
    assert environment.installed() == {**before, "torch": "2.1.2+cu121", "bitsandbytes": "0.45.5"}


def test_tensorboard_is_added_only_where_it_is_asked_for(environment):
    environment.put("peft", "0.13.2")
    (environment.packages / "torch" / "utils").mkdir()
    (environment.packages / "torch" / "utils" / "tensorboard.py").write_text("import tensorboard", encoding="utf-8")
    _make_wheel(environment.wheels, "tensorboard", "2.20.0", requires=["absl-py>=0.4", "protobuf>=3.19.6", "numpy"])
    for name, version in {"absl_py": "2.3.0", "protobuf": "7.36.2"}.items():
        _make_wheel(environment.wheels, name, version)
    before = environment.installed()
    for settings in ({}, {"hotlora_tensorboard": False}, [], {"hotlora_tensorboard": "yes"}):
        environment.enter_webui(settings)
        assert environment.run() == ""
    environment.enter_webui({"hotlora_tensorboard": True})
    assert "added absl-py 2.3.0, tensorboard 2.20.0" in environment.run()
    assert environment.installed() == {**before, "absl_py": "2.3.0", "tensorboard": "2.20.0"}
    assert environment.run() == ""


def test_optuna_is_added_only_where_it_is_asked_for_and_moves_nothing(environment):
    environment.put("peft", "0.13.2")
    _make_wheel(environment.wheels, "optuna", "5.0.0", requires=["alembic>=1.5.0", "numpy"])
    for version, typing in (("1.13.0", "4.1"), ("1.20.0", "4.12")):  # the newer one wants a newer package than is there
        _make_wheel(environment.wheels, "alembic", version, requires=[f"typing-extensions>={typing}"])
    for version in ("4.8.0", "4.12.0"):
        _make_wheel(environment.wheels, "typing_extensions", version)
    environment.put("typing_extensions", "4.8.0")
    before = environment.installed()
    environment.enter_webui({"hotlora_optuna": False})
    assert environment.run() == ""
    environment.enter_webui({"hotlora_optuna": True})
    assert "added alembic 1.13.0, optuna 5.0.0" in environment.run()
    assert environment.installed() == {**before, "alembic": "1.13.0", "optuna": "5.0.0"} and environment.run() == ""


def test_a_command_asks_for_optuna_without_a_webui(environment):
    environment.put("peft", "0.13.2")
    _make_wheel(environment.wheels, "optuna", "5.0.0", requires=["numpy"])
    assert environment.run() == "" and "added optuna 5.0.0" in environment.run("optuna")


def test_a_package_that_some_files_need_comes_alone_and_moves_nothing(environment):
    _make_wheel(environment.wheels, "peft", "0.13.2")
    _make_wheel(environment.wheels, "openpyxl", "3.1.5", requires=["et-xmlfile"])
    _make_wheel(environment.wheels, "et_xmlfile", "2.0.0")
    before = environment.installed()
    assert "HotLoRA: added et-xmlfile 2.0.0, openpyxl 3.1.5." in environment.run("--only", "openpyxl")
    assert environment.installed() == {**before, "openpyxl": "3.1.5", "et_xmlfile": "2.0.0"}
    assert environment.run("--only", "openpyxl") == ""
    told = environment.run("--only", "pypdf")
    assert "cannot add pypdf" in told and "WebUI" not in told


def test_settings_lie_beside_the_extensions_when_only_the_server_knows_of_another_data_folder(environment):
    environment.put("peft", "0.13.2")
    environment.enter_webui({"hotlora_tensorboard": True})
    launch = environment.webui / "launch.py"
    launch.write_text(LAUNCH.format(settings=str(environment.webui / "elsewhere.json"), skip_install=False), encoding="utf-8")
    assert "cannot add tensorboard 2.20.0" in environment.run()


def test_broken_settings_are_no_reason_to_stop(environment):
    environment.put("peft", "0.13.2")
    environment.enter_webui({})
    (environment.webui / "config.json").write_text("{", encoding="utf-8")
    assert environment.run() == ""


def test_it_imports_nothing_heavy(environment):
    """A torch, transformers or peft that cannot be imported goes unnoticed."""
    environment.put("peft", "0.13.2")
    for name in ("torch", "transformers", "peft"):
        (environment.packages / name / "__init__.py").write_text("raise SystemExit('imported')", encoding="utf-8")
    assert environment.run() == ""
