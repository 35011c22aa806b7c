"""The package as people install it: built, put into an environment of its own, and used far from this repository."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import urllib.error
import urllib.request
import venv
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import yaml
from hotlora import __version__
from hotlora.tasks import TASKS
from waiting import wait_until

ROOT = Path(__file__).resolve().parents[1]
BUILT_FROM = ("pyproject.toml", "setup.py", "README.md", "requirements", "extension", "configs", "javascript", "style.css")
TRAINED = {"base_model": ROOT / "demo/model/emoji-sd.safetensors", "train_data_dir": ROOT / "demo/pictures/train"}
IS_WINDOWS = os.name == "nt"


def setuptools_version() -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version("setuptools").split(".")[:2])
    except PackageNotFoundError:
        return (0,)


pytestmark = pytest.mark.skipif(
    setuptools_version() < (77,), reason="*** NOT TESTED: the wheel. It needs setuptools 77 or newer, as in requirements/newest.txt ***"
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of an environment's commands. Only what is ours is installed there; the rest it borrows from this environment."""
    folder = tmp_path_factory.mktemp("an environment")
    source = folder / "source"  # building leaves things behind
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            source.mkdir(exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    pip("wheel", str(source), "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder))
    shutil.rmtree(source)
    home = folder / "venv"
    venv.create(home, symlinks=not IS_WINDOWS)
    commands = home / ("Scripts" if IS_WINDOWS else "bin")
    python = commands / ("python.exe" if IS_WINDOWS else "python")
    pip("--python", str(python), "install", "--no-deps", "--no-index", str(next(folder.glob("hotlora-*.whl"))))
    packages = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True).strip()
    Path(packages, "borrowed.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    return commands


def pip(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def start(commands: Path, *arguments: object, cwd: Path) -> subprocess.Popen:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    call = [shutil.which("hotlora", path=str(commands)), *map(str, arguments)]
    return subprocess.Popen(call, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8")


def test_the_command_is_there_with_its_version(installed, tmp_path):
    for option, said in {"--help": "usage: hotlora", "--version": f"HotLoRA {__version__}"}.items():
        process = start(installed, option, cwd=tmp_path)
        assert said in process.communicate(timeout=120)[0] and process.returncode == 0


def test_a_lora_is_trained(installed, tmp_path):
    options = {key: str(path) for key, path in TRAINED.items()}
    options |= {"output_dir": "here", "resolution": 64, "lora_rank": 2, "max_steps": 2, "cache_latents": "memory", "tensorboard": False}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(options), encoding="utf-8")
    process = start(installed, "train", "--config", "run.yaml", cwd=tmp_path)
    told = process.communicate(timeout=300)[0]
    assert process.returncode == 0, told
    assert (tmp_path / "here" / "here.safetensors").is_file() and "step 2/2" in told


def test_the_page_has_its_presets_style_and_script(installed, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = start(installed, "ui", "--port", port, cwd=tmp_path)
    try:
        wait_until(lambda: process.poll() is not None or read_page(port, "config"), 180)
        assert process.poll() is None, process.communicate()[0]
        page = json.dumps(json.loads(read_page(port, "config")), ensure_ascii=False)
        assert "hotloraUse" in page and "#hotlora_columns" in page
        first = next(iter(TASKS.values()))
        assert all(f'"{name}"' in page for name in first.presets)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def read_page(port: int, name: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=10) as answer:
            return answer.read().decode("utf-8")
    except (urllib.error.URLError, OSError):
        return ""
