"""The only file that AUTOMATIC1111 executes: joins its model to the page, and hangs page, settings and HTTP API into it.

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

from hotlora.engine.access import Access
from hotlora.engine.jobs import Jobs
from hotlora.hosts.a1111.host import A1111Host, check_on_loaded
from hotlora.hosts.a1111.live import remove_live, update_live
from hotlora.hosts.webui.library import LoraLibrary
from hotlora.hosts.webui.live import remove_leftover_lives
from hotlora.hosts.webui.sampling import list_samplers
from hotlora.tasks import IMAGES
from hotlora.ui.api import basic_auth, build_router
from hotlora.ui.page import build_page
from hotlora.ui.studio import BorrowedPrompt, Studio, keep_studio, open_studio

_SECTION = ("hotlora", "Train LoRA")
_LOCAL = ("127.0.0.1", "localhost", "::1")
_preview_widgets: list[Any] = []


def make_studio() -> Studio:
    """The studio of this WebUI: its model, its folders, its settings. Which folders are used is read here, once: who reaches the
    WebUI can change its settings, but not restart it."""
    folder = Path(shared.opts.data.get("hotlora_folder") or Path(paths_internal.data_path) / "hotlora")
    access = Access(find_allowed(folder) if is_public() else None)
    jobs = Jobs(
        A1111Host,
        folder / "runs",
        IMAGES.config_class,
        check_access=access.check,
        check_start=check_start,
        library=LoraLibrary(),
        on_end=remove_live,
    )
    return open_studio(
        IMAGES,
        jobs,
        folder,
        model_name=name_model,
        hides=("base_model", "vae", "slice_seconds", "training_share", "tensorboard"),
        choices={"sample_sampler": list_samplers},
        settings=read_settings,
        missing=say_missing,
        uses_tag=True,
        has_live=True,
    )


def check_start(config: Any) -> None:
    """What can be seen in a moment to be wrong with a run. Raises UserError."""
    IMAGES.check(config)
    check_on_loaded(config)


def read_settings() -> dict[str, Any]:
    """Options of every run that starts now. The checkpoint is named, because another may be loaded when the run's turn comes."""
    options = shared.opts
    turns = {"slice_seconds": options.hotlora_slice_seconds, "training_share": options.hotlora_training_share}
    return {"base_model": name_model(), **turns, "tensorboard": options.hotlora_tensorboard}


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


def name_model() -> str:
    """The loaded checkpoint."""
    from modules import sd_models

    loaded = sd_models.model_data.sd_model
    return loaded.sd_checkpoint_info.name if loaded is not None else ""


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
        update_live(studio.jobs, [*described["prompts"], *(getattr(p, "all_hr_prompts", None) or [])])


def add_settings() -> None:
    """The page in Settings."""
    seconds, share = {"minimum": 0.1, "maximum": 600, "step": 0.1}, {"minimum": 0, "maximum": 0.9, "step": 0.05}
    _add_setting(
        "hotlora_slice_seconds", 60.0, "Seconds after which training gives the model back although nobody asks", gr.Slider, seconds
    )
    _add_setting("hotlora_training_share", 0.1, "Training's share of the time while pictures are made without a pause", gr.Slider, share)
    _add_setting("hotlora_tensorboard", False, "Write TensorBoard curves (installs TensorBoard at the next start)")
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


def keep_preview_widgets(params: Any) -> None:
    """txt2img's own widgets, which this callback hands out before the tabs are built."""
    schedule = scripts.scripts_txt2img.script("Sampler").scheduler
    _preview_widgets[:] = [*params.txt2img_preview_params, schedule]


def add_tab() -> list[tuple[Any, str, str]]:
    """The tab beside txt2img."""
    borrowed = BorrowedPrompt(list(_preview_widgets), read_txt2img) if _preview_widgets else None
    return [(build_page(studio, borrowed), "Train LoRA", "hotlora")]


def add_api(page: Any, app: Any) -> None:
    """The HTTP API, where the WebUI has its own switched on, with the same passwords."""
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
script_callbacks.on_ui_train_tabs(keep_preview_widgets)
script_callbacks.on_ui_tabs(add_tab)
script_callbacks.on_app_started(add_api)
studio = keep_studio("a1111", make_studio)
