"""``python -m hotlora ui``: the page by itself, for people without a WebUI. Joins the stand-alone host to it."""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see train.py
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hotlora", description="LoRA training with a page in the browser.")
    commands = parser.add_subparsers(dest="command", required=True)
    ui = commands.add_parser("ui", help="open the training page")
    ui.add_argument("--folder", type=Path, default=Path("hotlora"), help="where runs, data sets and presets go (default: %(default)s)")
    ui.add_argument("--host", default="127.0.0.1", help="address to listen at; beyond this computer only --data folders are read")
    ui.add_argument("--port", type=int, default=7862)
    ui.add_argument("--data", type=Path, action="append", default=[], metavar="FOLDER", help="a folder that runs may read; may be repeated")
    ui.add_argument("--auth", metavar="USER:PASSWORD", help="ask for this name and password")
    options = parser.parse_args(arguments)
    serve(options)
    return 0


def serve(options: argparse.Namespace) -> None:
    """Show the page, and the HTTP API beside it, until Ctrl-C."""
    from .engine.access import Access
    from .engine.jobs import Jobs
    from .hosts.diffusers import DiffusersHost
    from .sd.album import UPLOAD_SUFFIXES, look_at_pictures
    from .sd.caption_editing import read_caption, write_caption
    from .sd.config import ImageConfig
    from .ui.api import basic_auth, build_router
    from .ui.page import build_standalone_page
    from .ui.presets import IMAGE_PRESETS
    from .ui.studio import Studio

    folder = options.folder.resolve()
    local = options.host in ("127.0.0.1", "localhost", "::1")
    access = Access(None if local else [folder, *options.data])
    studio = Studio(
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
    name, _, password = (options.auth or "").partition(":")
    page = build_standalone_page(studio)
    app, address, _ = page.launch(
        server_name=options.host,
        server_port=options.port,
        auth=(name, password) if options.auth else None,
        prevent_thread_lock=True,
    )
    app.include_router(build_router(studio, basic_auth({name: password}) if options.auth else None))
    print(f"HotLoRA is at {address} (Ctrl-C ends it; a run in training can be resumed).")
    page.block_thread()


if __name__ == "__main__":
    sys.exit(main())
