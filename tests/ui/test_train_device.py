"""Where a program sees several cards, the page offers those that are not its own; elsewhere there is nothing to choose."""

import runpy
from pathlib import Path

import pytest
import torch
import webui
from hotlora.cli import ui
from hotlora.engine.access import Access
from hotlora.hosts.shared import devices
from hotlora.tasks import IMAGES
from hotlora.ui import studio as studio_module
from hotlora.ui.page import build_page

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "hotlora_tab.py"
CARDS = {"cuda:0": "GeForce RTX 4090", "cuda:1": "GeForce RTX 3060"}


@pytest.fixture(params=["in a host", "alone"])
def open_studio(request, monkeypatch, tmp_path):
    monkeypatch.setattr(studio_module, "_kept", {})

    def in_a_host():
        web = webui.make_webui(monkeypatch, tmp_path)
        web.devices.device = torch.device("cuda")
        return runpy.run_path(str(SCRIPT))["studio"]

    monkeypatch.setattr(ui, "choose_device", lambda: torch.device("cuda"))
    return in_a_host if request.param == "in a host" else lambda: ui.make_studio(IMAGES, tmp_path, Access(None))


def test_the_page_offers_the_other_cards_by_name(open_studio, monkeypatch):
    monkeypatch.setattr(devices, "list_devices", lambda: CARDS)
    options = build_page(open_studio()).hotlora.recipe.options
    menu = options.made["train_device"]
    offered = [choice[0] if isinstance(choice, tuple) else choice for choice in menu.choices]
    assert offered == ["", "cuda:1 (GeForce RTX 3060)"] and menu.value == "" and menu.label == "Train on the card"
    assert "a second copy of the base" in menu.info and "makes the samples as runs without a host do" in menu.info


@pytest.mark.parametrize("cards", [{}, dict(list(CARDS.items())[:1])])
def test_with_one_card_or_none_there_is_no_menu(open_studio, monkeypatch, cards):
    monkeypatch.setattr(devices, "list_devices", lambda: cards)
    assert "train_device" not in build_page(open_studio()).hotlora.recipe.options.made


def test_what_is_chosen_is_read_without_the_cards_name(tmp_path):
    jobs = ui.make_studio(IMAGES, tmp_path, Access(None)).jobs
    assert jobs.build_config({"output_name": "a", "train_device": "cuda:1 (GeForce RTX 3060)"}).train_device == "cuda:1"
    assert jobs.build_config({"output_name": "a", "train_device": "  "}).train_device == ""
