"""What README.md and docs/ say is so: options as they are, tests by their names, links that lead somewhere."""

import ast
import re
from pathlib import Path

import pytest
from hotlora.cli.options import with_options

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "demo").glob("*.md")])
_NAMED_TEST = re.compile(r"`tests/([\w/]+\.py)::(\w+)`")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def test_tables_of_options_are_up_to_date():
    page = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert with_options(page) == page, "run: python tools/write_options.py"


def test_every_guarantee_names_a_test_that_there_is():
    named = _NAMED_TEST.findall((ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8"))
    assert len(named) > 30
    missing = [f"tests/{file}::{test}" for file, test in named if test not in list_tests(ROOT / "tests" / file)]
    assert not missing


def test_every_row_of_guarantees_names_a_test():
    page = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| what is promised")]
    assert rows
    assert not [row for row in rows if not _NAMED_TEST.search(row)]


def test_the_three_rules_name_files_that_there_are():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rules = page.partition("## Three rules")[2].partition("\n## ")[0]
    assert re.findall(r"(?m)^(\d)\. \*\*", rules) == ["1", "2", "3"]
    named = re.findall(r"`([\w/]+\.py)`", rules)
    assert named and all((ROOT / name).is_file() or (ROOT / "extension" / "hotlora" / name).is_file() for name in named)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_link_leads_nowhere(page):
    links = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if not re.match(r"\w+:", link)]
    assert not [link for link in links if not leads_somewhere(link, page)]


def test_the_readme_is_a_door():
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 130, "what is more than a door belongs into docs/"


def list_tests(path: Path) -> set[str]:
    """Names of the test functions in a file; none where there is no such file."""
    if not path.is_file():
        return set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


def leads_somewhere(link: str, page: Path) -> bool:
    """Whether there is the file, and in it the heading, that a link on the page names."""
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return False
    return not anchor or anchor in anchors_of(target.read_text(encoding="utf-8"))


def anchors_of(text: str) -> set[str]:
    """What headings are called in links, on GitHub and in MkDocs."""
    headings = re.findall(r"^#+ +(.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
