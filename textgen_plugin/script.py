"""The only file that text-generation-webui executes: joins its model to the page, and hangs the page into it as a tab.

It is executed anew whenever that program rebuilds its page; the package stays, and with it the studio and a run in training.
Whatever goes wrong here must not end the program, which an error in ``ui()`` would: so it is shown instead. Nothing heavy is imported
before the tab is built.
"""

import sys
import traceback
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent
_PACKAGE = _ROOT / "extension"

params = {"display_name": "Train LoRA", "is_tab": True}


def setup() -> None:
    """The program has loaded the extension."""
    if (_PACKAGE / "hotlora").is_dir() and str(_PACKAGE) not in sys.path:
        sys.path.append(str(_PACKAGE))


def ui() -> None:
    """Build the tab."""
    import gradio as gr
    from modules import shared

    try:
        sentence = _refuse(shared)
        if not sentence:
            from hotlora.ui.page import build_page

            build_page(make_studio())
            return
    except ImportError as error:
        sentence = f"cannot train here: the package {error.name} is missing. Portable builds have none to train with: use the full install."
        traceback.print_exc()
    except Exception as error:
        sentence = f"The tab could not be built because of a bug ({type(error).__name__}: {error}). Details are in the console."
        traceback.print_exc()
    gr.Markdown(sentence)


def _refuse(shared: Any) -> str:
    """A sentence instead of the tab."""
    if not (_PACKAGE / "hotlora").is_dir():
        return (
            f"cannot find the package hotlora beside {_ROOT}: only a part of the repository was copied. Clone all of it into "
            "user_data/extensions, or link this folder instead of copying it."
        )
    if shared.args.multi_user:
        return "Training is off in multi-user mode: there is one model for everybody. Start without --multi-user to train."
    return ""


def make_studio() -> Any:
    """The studio of this program: its model, its folders. Made once, however often the page is built."""
    from hotlora.ui.studio import keep_studio

    return keep_studio("text-generation-webui", _make_studio)


def _make_studio() -> Any:
    from hotlora.engine.access import Access
    from hotlora.engine.files import remove_leftovers
    from hotlora.engine.jobs import Jobs
    from hotlora.hosts.shared.devices import offer_devices
    from hotlora.hosts.textgen.adapters import AppliedAdapters
    from hotlora.hosts.textgen.chats import ChatHistories
    from hotlora.hosts.textgen.host import TextgenHost, explain_loader, explain_now, explain_wait, lora_folder, read_tokenizer
    from hotlora.hosts.textgen.library import LoraLibrary
    from hotlora.hosts.textgen.live import LiveAnswers
    from hotlora.llm.health import find_health
    from hotlora.llm.look import look_at_texts
    from hotlora.tasks import TEXTS, check_beside
    from hotlora.ui.studio import open_studio
    from modules import shared

    folder = Path(shared.user_data_dir).resolve() / "hotlora"
    public = shared.args.listen or shared.args.share
    access = Access([folder, lora_folder().resolve(), Path(shared.user_data_dir).resolve() / "training"] if public else None)
    live = LiveAnswers(lambda: jobs.current.control.newest if jobs.current else None)
    devices = offer_devices()

    def check_start(config: Any) -> None:
        TEXTS.check(config)
        if config.train_device:
            check_beside(TEXTS, config, TextgenHost(live))

    jobs = Jobs(
        lambda: TextgenHost(live),
        folder / "runs",
        TEXTS.config_class,
        check_access=access.check,
        check_start=check_start,
        library=LoraLibrary(),
        on_end=lambda job: live.end(),
    )
    if lora_folder().is_dir():
        remove_leftovers(lora_folder())
    return open_studio(
        TEXTS,
        jobs,
        folder,
        look_at=lambda config: look_at_texts(config, *read_tokenizer()),
        report=lambda config: find_health(config, *read_tokenizer()),
        model_name=lambda: "" if explain_loader() else shared.model_name,
        why_not=lambda: explain_now(applied=False) or "",
        waits_for=explain_wait,
        devices=devices,
        hides=("base_model", "mixed_precision", "slice_seconds", "metadata_path", *(() if devices else ("quantization",))),
        adds_packages=not public,
        add_optuna=f'Add it, moving no other package: "{sys.executable}" "{_ROOT / "install.py"}" optuna',
        shelf=AppliedAdapters(),
        chats=ChatHistories(Path(shared.user_data_dir).resolve() / "logs", folder / "data"),
        live=live,
        models=lambda: {path.parent.name: path.parent for path in sorted(Path(shared.args.model_dir).glob("*/config.json"))},
    )


def state_modifier(state: dict[str, Any]) -> dict[str, Any]:
    """Called before each answer in a chat. Without a model only the program's API comes that far."""
    from modules import shared

    if shared.model is None and not shared.args.multi_user:
        from hotlora.hosts.textgen.unloaded import refuse_chat

        refuse_chat(make_studio().jobs.current)
    return state


def custom_css() -> str:
    """Added to the program's own."""
    return (_ROOT / "style.css").read_text(encoding="utf-8") if (_ROOT / "style.css").is_file() else ""


def custom_js() -> str:
    """Run when the page is opened."""
    files = sorted((_ROOT / "javascript").glob("hotlora*.js"))
    return "\n".join(path.read_text(encoding="utf-8") for path in files)
