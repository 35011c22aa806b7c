"""``hotlora ui``: the page by itself, for people without a WebUI. Joins the stand-alone host to it."""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..captioning.desk import CaptionDesk
from ..captioning.kinds import ALONE
from ..engine.access import Access
from ..engine.config import RunConfig
from ..engine.errors import UserError
from ..engine.jobs import Jobs
from ..engine.libraries import import_ahead
from ..hosts.shared.devices import choose_device, offer_devices
from ..tasks import IMAGES, TASKS, Task
from ..ui.api import basic_auth, build_router
from ..ui.page import build_standalone_page
from ..ui.studio import Studio, open_studio
from ..ui.web_safety import check_listening, check_port, guard_page, is_local


def run(options: argparse.Namespace) -> int:
    """Show the page, and the HTTP API beside it, until Ctrl-C; returns the exit code."""
    check_listening(options.host, has_password=bool(options.auth), anyone=options.allow_anyone)
    name, password = _read_password(options.auth)
    check_port(options.host, options.port)
    folder = options.folder.resolve()
    _check_places(folder, options.data)
    access = Access(None if is_local(options.host) else [folder, *options.data])
    task = next(task for task in TASKS.values() if task.label == options.task)
    studio = make_studio(task, folder, access)
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
    import_ahead(task.import_libraries)
    page.block_thread()
    return 0


def _check_places(folder: Path, data: Sequence[Path]) -> None:
    """Raise UserError where runs cannot be kept in ``folder``, or there are no such data folders."""
    missing = next((path for path in data if not path.is_dir()), None)
    if missing:
        raise UserError(f"cannot let runs read '{missing}': there is no such folder. Correct --data.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"cannot keep runs in '{folder}': {error.strerror or error}. Choose another --folder.") from None


def _read_password(auth: str | None) -> tuple[str, str]:
    """(name, password); empty where none is asked for. Raises UserError where one of them is missing."""
    name, _, password = (auth or "").partition(":")
    if auth is not None and not (name and password):
        raise UserError(f"cannot ask for the name and password {auth!r}: one of them is empty. Write --auth USER:PASSWORD.")
    return name, password


def make_studio(task: Task, folder: Path, access: Access) -> Studio:
    """The task's models are loaded for it."""

    def check(config: RunConfig) -> None:
        task.check(config)
        task.check_model(config)

    jobs = Jobs(task.make_host, folder / "runs", task.config_class, check_access=access.check, check_start=check)
    captions = CaptionDesk(ALONE, access) if task is IMAGES else None
    devices = offer_devices(choose_device)
    return open_studio(task, jobs, folder, devices=devices, hides=task.hides, captions=captions, adds_packages=access.is_open)
