"""``python -m hotlora ui``: the page by itself, for people without a WebUI. Joins the stand-alone host to it."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .engine.access import Access
    from .engine.examples import DataView
    from .ui.studio import Studio

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see train.py
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hotlora", description="LoRA training with a page in the browser.")
    commands = parser.add_subparsers(dest="command", required=True)
    ui = commands.add_parser("ui", help="open the training page")
    ui.add_argument("--task", choices=("images", "text"), default="images", help="what is trained (default: %(default)s)")
    ui.add_argument("--folder", type=Path, default=Path("hotlora"), help="where runs, data sets and presets go (default: %(default)s)")
    ui.add_argument("--host", default="127.0.0.1", help="address to listen at; beyond this computer only --data folders are read")
    ui.add_argument("--port", type=int, default=7862)
    ui.add_argument("--data", type=Path, action="append", default=[], metavar="FOLDER", help="a folder that runs may read; may be repeated")
    ui.add_argument("--allow-anyone", action="store_true", help="listen beyond this computer without a password")
    ui.add_argument("--allow-host", action="append", default=[], metavar="NAME", help="a name that leads here, as of a proxy")
    ui.add_argument("--auth", metavar="USER:PASSWORD", help="ask for this name and password")
    options = parser.parse_args(arguments)
    from .engine.errors import UserError

    try:
        serve(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def serve(options: argparse.Namespace) -> None:
    """Show the page, and the HTTP API beside it, until Ctrl-C."""
    from .engine.access import Access
    from .ui.api import basic_auth, build_router
    from .ui.page import build_standalone_page
    from .ui.web_safety import check_listening, guard_page, is_local

    check_listening(options.host, has_password=bool(options.auth), anyone=options.allow_anyone)
    folder = options.folder.resolve()
    access = Access(None if is_local(options.host) else [folder, *options.data])
    studio = (make_text_studio if options.task == "text" else make_image_studio)(folder, access)
    name, _, password = (options.auth or "").partition(":")
    page = build_standalone_page(studio)
    app, address, _ = page.launch(
        server_name=options.host,
        server_port=options.port,
        auth=(name, password) if options.auth else None,
        app_kwargs=guard_page(folder, options.host, options.port, options.allow_host),
        prevent_thread_lock=True,
    )
    app.include_router(build_router(studio, basic_auth({name: password}) if options.auth else None))
    print(f"HotLoRA is at {address} (Ctrl-C ends it; a run in training can be resumed).")
    page.block_thread()


def make_image_studio(folder: Path, access: "Access") -> "Studio":
    """Pictures, on checkpoints that are loaded for it."""
    from .engine.jobs import Jobs
    from .hosts.standalone.images import DiffusersHost
    from .pictures.album import UPLOAD_SUFFIXES, look_at_pictures
    from .pictures.caption_editing import read_caption, write_caption
    from .sd.config import ImageConfig
    from .ui.presets import IMAGE_PRESETS
    from .ui.studio import Studio

    return Studio(
        jobs=Jobs(DiffusersHost, folder / "runs", ImageConfig, check_access=access.check),
        look_at=look_at_pictures,
        read_caption=read_caption,
        write_caption=write_caption,
        datasets=folder / "data",
        presets=folder / "presets",
        shipped_presets=IMAGE_PRESETS,
        upload_suffixes=UPLOAD_SUFFIXES,
        hides=("slice_seconds",),
    )


def make_text_studio(folder: Path, access: "Access") -> "Studio":
    """Texts, on language models that are loaded for it."""
    from .engine.jobs import Jobs
    from .hosts.standalone.texts import TransformersHost, load_tokenizer
    from .llm.config import TextConfig
    from .llm.formats import SUFFIXES
    from .llm.look import look_at_texts
    from .ui.presets import TEXT_PRESETS
    from .ui.studio import Studio

    def look(config: TextConfig) -> "DataView":
        return look_at_texts(config, load_tokenizer(Path(config.base_model).expanduser()) if config.base_model else None)

    return Studio(
        jobs=Jobs(TransformersHost, folder / "runs", TextConfig, check_access=access.check),
        look_at=look,
        datasets=folder / "data",
        presets=folder / "presets",
        shipped_presets=TEXT_PRESETS,
        upload_suffixes=SUFFIXES,
        data_word="texts",
        hides=("slice_seconds", "metadata_path"),
    )


if __name__ == "__main__":
    sys.exit(main())
