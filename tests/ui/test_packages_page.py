"""A package that only some files need is added by a press, by install.py; where others can reach the page, nobody can press."""

import dataclasses
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hotlora.engine.errors import UserError
from hotlora.engine.examples import Finding
from hotlora.engine.interfaces import Progress
from hotlora.shipped import find_shipped
from hotlora.ui import package_section
from hotlora.ui.package_section import add_package
from hotlora.ui.page import build_standalone_page
from toy_studio import toy_studio

_MISSING = "reading it takes the package openpyxl, which is missing. Save the table as CSV; or add it"


class Installer:
    """Stands in for the process of install.py."""

    def __init__(self, monkeypatch):
        self.commands, self.there = [], set()
        self.says = "HotLoRA: added et-xmlfile 2.0.0, openpyxl 3.1.5.\n"
        monkeypatch.setattr(package_section, "subprocess", SimpleNamespace(run=self.run))
        monkeypatch.setattr(package_section, "find_spec", lambda name: name if name in self.there else None)

    def run(self, command, **how):
        self.commands.append(command)
        if "added" in self.says:
            self.there.add(command[-1])
        return subprocess.CompletedProcess(command, 0, self.says, "")


@pytest.fixture
def installer(monkeypatch):
    return Installer(monkeypatch)


def refuse(config):
    raise UserError(f"cannot train on '{config.train_data_dir}': nothing in it can be used.\n- a.xlsx: {_MISSING}.")


def report(config):
    yield Progress("looking", 1, 1), [Finding("unusable", f"1 example (a.xlsx): cannot be trained on: {_MISSING}.", ("a.xlsx",))]


@pytest.mark.parametrize(("size", "theme"), [("desktop", "light"), ("phone", "dark")])
def test_a_sentence_that_misses_it_has_a_button_that_adds_it(serve, open_page, tmp_path, installer, size, theme):
    studio = dataclasses.replace(toy_studio(tmp_path), look_at=refuse, report=report, adds_packages=True)
    page = open_page(serve(build_standalone_page(studio)), size=size, theme=theme)
    page.locator("#hotlora_beat i").first.wait_for(state="attached")
    page.locator("#hotlora_train_data_dir").locator("textarea, input").first.fill(str(tmp_path))
    page.locator("#hotlora_examine").click()
    page.locator("#hotlora_health [data-package=openpyxl]").first.wait_for()
    page.locator("#hotlora_look").click()
    button = page.locator("#hotlora_message [data-package=openpyxl]")
    button.wait_for()
    assert button.inner_text() == "Add the package openpyxl"
    asked = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.dismiss()))
    button.click()
    assert "openpyxl" in asked[0] and installer.commands == [], "it was not wanted"
    page.once("dialog", lambda dialog: dialog.accept())
    button.click()
    page.locator("#hotlora_message", has_text="Added et-xmlfile 2.0.0, openpyxl 3.1.5. openpyxl is there now. Look again.").first.wait_for()
    assert installer.commands == [[sys.executable, str(find_shipped("install.py")), "--only", "openpyxl"]]
    assert page.evaluate("document.documentElement.scrollWidth") <= {"desktop": 1280, "phone": 390}[size]


def test_where_others_reach_the_page_there_is_no_such_button(serve, open_page, tmp_path):
    page = open_page(serve(build_standalone_page(dataclasses.replace(toy_studio(tmp_path), look_at=refuse))))
    page.locator("#hotlora_beat i").first.wait_for(state="attached")
    page.locator("#hotlora_look").click()
    page.locator("#hotlora_message", has_text="which is missing").first.wait_for()
    page.wait_for_timeout(1000)
    assert page.locator("[data-package]").count() == page.locator("#hotlora_add_package").count() == 0


def test_what_cannot_be_added_is_a_sentence(installer):
    installer.says = "HotLoRA: cannot add pyarrow 26.0.1: the package index cannot be reached.\n"
    with pytest.raises(UserError, match=r"cannot add pyarrow here: .* the package index cannot be reached\. Add it by hand"):
        add_package("pyarrow")
    with pytest.raises(UserError, match="it is none of openpyxl"):
        add_package("torch")
    assert len(installer.commands) == 1
