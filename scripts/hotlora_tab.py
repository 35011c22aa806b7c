"""The only file that AUTOMATIC1111's program and Forge execute: joins their model to the page, and hangs page, settings and HTTP API into
them. Which of the two it is shows in what is there.

It is executed anew at every "Reload UI"; the package stays, and with it the studio and a run in training.
"""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import gradio as gr
from modules import paths_internal, script_callbacks, scripts, shared

_PACKAGE = str(Path(__file__).resolve().parents[1] / "extension")
if _PACKAGE not in sys.path:
    sys.path.append(_PACKAGE)

from hotlora.captioning.desk import CaptionDesk
from hotlora.captioning.kinds import IN_A_HOST
from hotlora.engine.access import Access
from hotlora.engine.jobs import Jobs
from hotlora.hosts.shared.devices import offer_devices
from hotlora.hosts.webui.captioners import list_host_captioners
from hotlora.hosts.webui.checkpoints import list_models
from hotlora.hosts.webui.library import LoraLibrary
from hotlora.hosts.webui.live import remove_leftover_lives
from hotlora.hosts.webui.program import Program
from hotlora.hosts.webui.sampling import list_samplers
from hotlora.tasks import IMAGES, check_beside
from hotlora.ui.api import basic_auth, build_router
from hotlora.ui.page import build_page
from hotlora.ui.studio import BorrowedPrompt, Studio, keep_studio, open_studio

_SECTION = ("hotlora", "Train LoRA")
_LOCAL = ("127.0.0.1", "localhost", "::1")
_PROMPT_WIDGETS = ("prompt", "neg_prompt", "steps", "sampling", "cfg_scale", "seed", "width", "height", "scheduler")
_NOT_YET = (
    "HotLoRA cannot train here yet: this WebUI keeps its models as neither AUTOMATIC1111's nor Forge's does. It works in AUTOMATIC1111's "
    "WebUI, Forge and Forge Neo."
)
_txt2img: dict[str, Any] = {}  # its widgets, by what they are called behind "txt2img_"


def find_program() -> Program | None:
    """The host that fits; None in other programs that were made from AUTOMATIC1111's, such as reForge."""
    if not importlib.util.find_spec("modules_forge"):
        from hotlora.hosts.a1111.program import PROGRAM
    elif importlib.util.find_spec("backend"):
        from hotlora.hosts.forge.program import PROGRAM
    else:
        return None
    return PROGRAM


def make_studio(program: Program) -> Studio:
    """The studio of this WebUI: its model, its folders, its settings. Which folders are used is read here, once: who reaches the
    WebUI can change its settings, but not restart it."""
    folder = Path(shared.opts.data.get("hotlora_folder") or Path(paths_internal.data_path) / "hotlora")
    access = Access(find_allowed(folder) if is_public() else None)
    jobs = Jobs(
        program.make_host,
        folder / "runs",
        IMAGES.config_class,
        check_access=access.check,
        check_start=lambda config: check_start(program, config),
        library=LoraLibrary(),
        on_end=program.remove_live,
    )
    return open_studio(
        IMAGES,
        jobs,
        folder,
        model_name=program.name_model,
        devices=offer_devices(program.own_device),
        hides=("base_model", "vae", "quantization", "slice_seconds", "training_share", "tensorboard"),
        choices={"sample_sampler": list_samplers},
        models=list_models,
        settings=lambda: read_settings(program),
        missing=say_missing,
        adds_packages=access.is_open,
        captions=CaptionDesk([*list_host_captioners(), *IN_A_HOST], access),
        add_optuna="Tick Find settings in Settings, Train LoRA, and restart the WebUI: it is then added, and moves no other package.",
        uses_tag=True,
        has_live=True,
    )


def check_start(program: Program, config: Any) -> None:
    """What can be seen in a moment to be wrong with a run. Raises UserError."""
    IMAGES.check(config)
    if config.train_device:
        check_beside(IMAGES, config, program.make_host())
    else:
        program.check_start(config)


def read_settings(program: Program) -> dict[str, Any]:
    """Options of every run that starts now. The checkpoint is named, because another may be loaded when the run's turn comes."""
    options = shared.opts
    turns = {"slice_seconds": options.hotlora_slice_seconds, "training_share": options.hotlora_training_share}
    return {"base_model": program.name_model(), **turns, "tensorboard": options.hotlora_tensorboard}


def is_public() -> bool:
    """Whether others than this computer's user may reach the WebUI."""
    options = shared.cmd_opts
    return bool(options.listen or options.share or options.ngrok or options.server_name not in (None, "", *_LOCAL))


def find_allowed(folder: Path) -> list[Path]:
    """What others may name in their runs: the WebUI's own folders, and those in its settings. Printed as well, so that its owner sees what
    the settings allow: somebody else may have set them."""
    lines = shared.opts.data.get("hotlora_data_folders") or ""
    allowed = [folder, Path(shared.cmd_opts.lora_dir), *(Path(line.strip()) for line in lines.splitlines() if line.strip())]
    print(f"HotLoRA: others can reach this WebUI. Runs may read and write in: {', '.join(map(str, allowed))}")
    return allowed


def say_missing() -> str:
    """peft comes with install.py, which needs the internet once."""
    found = importlib.util.find_spec("peft")
    if found and found.origin:  # an empty folder that an uninstall has left has none
        return ""
    return "cannot train yet: the package peft is missing. Start the WebUI once with an internet connection; install.py then adds it."


def read_txt2img(
    prompt: str, negative: str, steps: int, sampler: str, cfg: float, seed: float, width: int, height: int, schedule: str
) -> dict:
    """Options from what stands in txt2img now."""
    values = {
        "sample_prompts": [prompt] if prompt else [],
        "negative_prompt": negative,
        "sample_steps": int(steps),
        "sample_sampler": sampler if schedule in ("", "Automatic") else f"{sampler} {schedule}",
        "sample_cfg": float(cfg),
        "sample_width": int(width),
        "sample_height": int(height),
    }
    return values if int(seed) < 0 else values | {"sample_seed": int(seed)}


class LiveLora(scripts.Script):
    """Brings <lora:NAME-live:1> up to date before a picture that asks for it."""

    def title(self) -> str:
        return "HotLoRA live"

    def show(self, is_img2img: bool) -> Any:
        return scripts.AlwaysVisible

    def before_process_batch(self, p: Any, *args: Any, **described: Any) -> None:
        if program is not None:
            program.update_live(studio.jobs, [*described["prompts"], *(getattr(p, "all_hr_prompts", None) or [])])


def add_settings() -> None:
    """The page in Settings."""
    seconds, share = {"minimum": 0.1, "maximum": 600, "step": 0.1}, {"minimum": 0, "maximum": 0.9, "step": 0.05}
    _add_setting(
        "hotlora_slice_seconds", 60.0, "Seconds after which training gives the model back although nobody asks", gr.Slider, seconds
    )
    _add_setting("hotlora_training_share", 0.1, "Training's share of the time while pictures are made without a pause", gr.Slider, share)
    _add_setting("hotlora_tensorboard", False, "Write TensorBoard curves (installs TensorBoard at the next start)")
    _add_setting("hotlora_optuna", False, "Find settings in the tab (installs Optuna at the next start)")
    _add_folders(
        "hotlora_folder",
        "Folder of runs and data sets (the WebUI's folder hotlora when empty; a change needs a restart of the server)",
        lines=1,
    )
    _add_folders(
        "hotlora_data_folders",
        "Folders that may be trained on when the WebUI listens beyond this computer, one per line (a change needs a restart of the server)",
        lines=3,
    )


def _add_setting(name: str, default: Any, label: str, widget: Any = None, options: Any = None, **rules: Any) -> None:
    shared.opts.add_option(name, shared.OptionInfo(default, label, widget, options, section=_SECTION, **rules))


def _add_folders(name: str, label: str, *, lines: int) -> None:
    """Like the WebUI's own folders, these cannot be changed where --hide-ui-dir-config is given; by its HTTP API, never."""
    _add_setting(name, "", label, gr.Textbox, {"lines": lines, **shared.hide_dirs}, restrict_api=True)


def keep_prompt_widget(component: Any, **described: Any) -> None:
    """txt2img's own widgets, as they are made."""
    name = str(described.get("elem_id") or "").removeprefix("txt2img_")
    if name in _PROMPT_WIDGETS and described["elem_id"] == f"txt2img_{name}":
        _txt2img.setdefault(name, component)


def add_tab() -> list[tuple[Any, str, str]]:
    """The tab beside txt2img."""
    if studio is None:
        with gr.Blocks(analytics_enabled=False) as page:
            gr.Markdown(_NOT_YET)
        return [(page, "Train LoRA", "hotlora")]
    widgets = [_txt2img.get(name) for name in _PROMPT_WIDGETS]
    borrowed = BorrowedPrompt(widgets, read_txt2img) if all(widget is not None for widget in widgets) else None
    return [(build_page(studio, borrowed), "Train LoRA", "hotlora")]


def add_api(page: Any, app: Any) -> None:
    """The HTTP API, where the WebUI has its own switched on, with the same passwords."""
    if studio is None:
        return
    remove_leftover_lives()
    if not shared.cmd_opts.api:
        return
    pairs = dict(pair.split(":", 1) for pair in (shared.cmd_opts.api_auth or "").split(",") if ":" in pair)
    app.include_router(build_router(studio, basic_auth(pairs) if pairs else None, is_allowed_page))


def is_allowed_page(origin: str) -> bool:
    """Whether the WebUI was started with --cors-allow-origins for it."""
    options = shared.cmd_opts
    listed, pattern = getattr(options, "cors_allow_origins", None) or "", getattr(options, "cors_allow_origins_regex", None)
    return origin in listed.split(",") or bool(pattern and re.fullmatch(pattern, origin))


script_callbacks.on_ui_settings(add_settings)
script_callbacks.on_after_component(keep_prompt_widget)
script_callbacks.on_ui_tabs(add_tab)
script_callbacks.on_app_started(add_api)
program = find_program()
studio = keep_studio(program.key, lambda: make_studio(program)) if program else None
if program is None:
    print(_NOT_YET)
