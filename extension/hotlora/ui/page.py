"""The page: data, recipe and watch. Builds the widgets, and hands what they say to the sections that answer.

Nothing about a run lives here: everything shown is read from the run's folder, so that any page, reloaded or opened
elsewhere, shows the same.
"""

import json
from dataclasses import dataclass
from typing import Any

import gradio as gr

from ..shipped import find_shipped
from .compat import READABLE, leave_out_of_host_settings, listen, message
from .data_section import DataSection
from .package_section import PackageSection
from .recipe_section import RecipeSection
from .search_section import SearchSection
from .shelf_section import ShelfSection
from .studio import BorrowedPrompt, Studio
from .watch_section import WatchSection


@dataclass
class Page:
    """The sections of one page, for tests and for each other."""

    data: DataSection
    recipe: RecipeSection
    watch: WatchSection
    search: SearchSection
    shelf: ShelfSection | None  # where the program has one


def build_page(studio: Studio, borrowed: BorrowedPrompt | None = None, **blocks_options: Any) -> gr.Blocks:
    """The whole tab."""
    with gr.Blocks(analytics_enabled=False, **blocks_options) as blocks, gr.Column(elem_id="hotlora_page"):
        said = gr.HTML(_say_missing(studio), elem_id="hotlora_message", elem_classes=["hotlora-live"])
        gr.HTML(  # shown by the page's script
            message("The program has started again, and its page is another one now. Reload this page.", bad=True),
            elem_id="hotlora_outdated",
            elem_classes=["hotlora-hidden"],
        )
        with gr.Row(elem_id="hotlora_columns"):
            with gr.Column(scale=5, min_width=320):
                search = SearchSection(studio, said)
                recipe = RecipeSection(studio, said, search)
                data = DataSection(studio, said)
                data.build(recipe.options)
                recipe.build(borrowed)
            with gr.Column(scale=6, min_width=320):
                watch = WatchSection(studio, said, search)
                watch.build()
                shelf = ShelfSection(studio.shelf, studio.live, said) if studio.shelf else None
                if shelf:
                    shelf.build()
        if studio.adds_packages and find_shipped("install.py").is_file():
            packages = PackageSection(said)
            packages.build()
            packages.connect()
        data.connect(recipe)
        recipe.connect(watch)
        watch.connect(recipe, shelf)
        if shelf:
            shelf.connect(watch.sent)
    leave_out_of_host_settings(blocks)
    blocks.hotlora = Page(data, recipe, watch, search, shelf)
    return blocks


def read_script() -> str:
    """What the page needs of the browser, as one script."""
    files = sorted(find_shipped("javascript/hotlora.js").parent.glob("hotlora*.js"))
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def build_standalone_page(studio: Studio) -> gr.Blocks:
    """The tab as a page of its own, with what a host would have added to it: in one way that every Gradio has, 3 to 6."""
    script = read_script()
    css = json.dumps(find_shipped("style.css").read_text(encoding="utf-8") + READABLE)
    style = f"document.head.append(Object.assign(document.createElement('style'), {{textContent: {css}}}));"
    blocks = build_page(studio, title="HotLoRA")
    with blocks:
        listen(blocks.load, None, js=f"() => {{ {style} {script} }}")
    return blocks


def _say_missing(studio: Studio) -> str:
    return message(studio.missing(), bad=True)
