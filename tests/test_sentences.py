"""Every refusal in the code has the form of one: *cannot do what to which value: reason. What to do.*"""

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "extension" / "hotlora"
OPEN = "\0"  # stands for what is only known when the program runs
WRAPPED = {"engine/values.py", "engine/yaml_file.py"}  # their refusals that begin with 'it' end a sentence which another one begins


def list_refusals():
    """(file, line, text) of every text that a UserError may have, with ``OPEN`` for its values."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        inside = {id(node) for function in functions for node in ast.walk(function)}
        outside = [node for node in ast.walk(tree) if id(node) not in inside]
        for nodes, assigned in [(outside, {}), *((list(ast.walk(function)), list_assigned(function)) for function in functions)]:
            for node in nodes:
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("UserError", "ModelAway") and node.args:
                    yield from ((path.relative_to(PACKAGE).as_posix(), node.lineno, text) for text in spell(node.args[0], assigned))


def list_assigned(function):
    """Name -> the expressions that a function gives it."""
    assigned = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = zip(target.elts, node.value.elts, strict=False) if both_tuples(target, node.value) else [(target, node.value)]
                for name, value in pairs:
                    assigned.setdefault(getattr(name, "id", ""), []).append(value)
    return assigned


def both_tuples(*nodes):
    return all(isinstance(node, ast.Tuple) for node in nodes)


def spell(node, assigned, depth=0):
    """Every text that an expression may be."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    if isinstance(node, ast.IfExp):
        return spell(node.body, assigned, depth) + spell(node.orelse, assigned, depth)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [left + right for left in spell(node.left, assigned, depth) for right in spell(node.right, assigned, depth)]
    if isinstance(node, ast.FormattedValue):
        return spell(node.value, assigned, depth)
    if isinstance(node, ast.JoinedStr):
        texts = [""]
        for part in node.values:
            texts = [text + more for text in texts for more in spell(part, assigned, depth)]
        return texts
    if isinstance(node, ast.Name) and depth < 3:
        return [text for value in assigned.get(node.id, ()) for text in spell(value, {}, depth + 1)] or [OPEN]
    return [OPEN]


def find_faults(file, text):
    """What of the form is missing; nothing where an open end or beginning may hold it."""
    if not text.startswith(("cannot ", OPEN)) and not (file in WRAPPED and text.startswith("it ")):
        yield "does not begin with 'cannot'"
    if not text.endswith((".", OPEN)):
        yield "does not end with a full stop"
    if not re.search(rf"[.{OPEN}]\s+[A-Z][^.]* ", text) and not text.endswith(OPEN):
        yield "says nothing about what to do"


def test_every_refusal_says_what_cannot_be_done_why_and_what_to_do():
    refusals = sorted(set(list_refusals()))
    assert len(refusals) > 300, "the walk has lost its way"
    wrong = [(f"{file}:{line}", text.replace(OPEN, "…"), fault) for file, line, text in refusals for fault in find_faults(file, text)]
    assert not wrong


def test_most_refusals_are_read_to_their_end():
    """So that the test above cannot be passed by hiding words in variables."""
    refusals = set(list_refusals())
    assert sum(text.endswith(OPEN) for _, _, text in refusals) < len(refusals) / 6


def test_the_walk_sees_what_is_missing():
    for text in ("cannot do it: no.", "No file. Give one.", "cannot do it: no. Give a file", "cannot use …: no such file."):
        assert list(find_faults("x.py", text.replace("…", OPEN))), text
    for text in ("cannot do it: no. Give a file.", f"cannot use {OPEN}: no. {OPEN}", f"{OPEN}: no file. Give one of them."):
        assert not list(find_faults("x.py", text)), text
