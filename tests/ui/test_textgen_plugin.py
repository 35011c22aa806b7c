"""text-generation-webui's entry point, executed as that program does, in a plain Gradio page."""

import importlib.util
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import pytest
from hotlora.ui import studio as studios
from textgen_program import Unavailable, install

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def program(monkeypatch, tmp_path):
    monkeypatch.setattr(studios, "_kept", {})
    return install(monkeypatch, tmp_path / "textgen")


def execute(path, name="user_ext_hotlora"):
    """As the program does with extensions in user_data, at each build of its page."""
    spec = importlib.util.spec_from_file_location(name, str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.setup()
    return module


def build(script):
    """The program's page, with our tab in it."""
    with gr.Blocks(css=script.custom_css(), analytics_enabled=False) as page:
        with gr.Tab("Chat"):
            gr.Textbox(label="Chat input")
        with gr.Tab(script.params["display_name"]):
            script.ui()
        page.load(None, None, None, **{("_js" if gr.__version__.startswith("3.") else "js"): f"() => {{ {script.custom_js()} }}"})
    return page


@pytest.mark.parametrize("entry", ["script.py", "textgen_plugin/script.py"])
def test_the_tab_is_there_and_knows_the_model(program, serve, open_page, entry):
    page = open_page(serve(build(execute(ROOT / entry))))
    page.locator("button", has_text="Train LoRA").first.click()
    page.locator("#hotlora_model", has_text="Trains on small").wait_for()
    page.locator("#hotlora_apply").wait_for()
    program.unload()
    page.locator("#hotlora_model", has_text="Load one in the Model tab, with the Transformers loader").wait_for()


def test_a_text_is_looked_at_and_trained_on(program, serve, open_page, tmp_path):
    file = tmp_path / "facts.txt"
    file.write_text("Q: Who keeps the lamp?\nA: The ferryman.\n\nQ: Where?\nA: Quillmere.\n", encoding="utf-8")
    page = open_page(serve(build(execute(ROOT / "script.py"))))
    page.locator("button", has_text="Train LoRA").first.click()
    page.locator("#hotlora_upload input[type=file]").set_input_files([str(file)])
    page.locator("#hotlora_album mark", has_text="The ferryman.").wait_for()
    page.locator("[data-length=max_steps]").click()
    for option, value in {"output_name": "lamp", "max_steps": 3}.items():
        page.locator(f"#hotlora_{option}").locator("textarea, input").first.fill(str(value))
    page.locator("#hotlora_train").click()
    page.locator("#hotlora_status [data-status=done]").wait_for(timeout=60_000)
    page.locator("#hotlora_status dt", has_text="exact match").wait_for()
    page.locator(".hotlora-page", has_text="Who keeps the lamp?").wait_for()
    page.locator("#hotlora_use:not([disabled])").click()
    page.locator("#hotlora_message .hotlora-message", has_text="Answers come with lamp").wait_for()
    assert program.shared.lora_names == ["lamp"]
    page.wait_for_function("document.querySelector('#hotlora_adapter_1 input')?.value === 'lamp'")


def test_a_page_that_is_built_anew_keeps_the_runs(program):
    first = execute(ROOT / "script.py").ui.__globals__["make_studio"]()
    assert execute(ROOT / "script.py").ui.__globals__["make_studio"]() is first


def said_by(script):
    with gr.Blocks() as page:
        script.ui()
    return " ".join(str(block.value) for block in page.blocks.values() if isinstance(block, gr.Markdown))


def test_a_copied_folder_says_what_is_missing(program, tmp_path):
    shutil.copytree(ROOT / "textgen_plugin", tmp_path / "extensions" / "hotlora")
    script = execute(tmp_path / "extensions" / "hotlora" / "script.py")
    assert "cannot find the package hotlora" in said_by(script)
    assert script.custom_css() == script.custom_js() == ""


def test_a_program_for_many_users_has_no_training(program):
    program.shared.args.multi_user = True
    assert "multi-user" in said_by(execute(ROOT / "script.py"))


def test_a_build_without_the_packages_says_so_and_goes_on(program, monkeypatch):
    monkeypatch.setitem(sys.modules, "hotlora.ui.page", None)  # as if something that it imports were missing
    assert "is missing" in said_by(execute(ROOT / "script.py"))


def test_nothing_heavy_is_imported_before_the_tab_is_built():
    import ast

    for path in ("script.py", "textgen_plugin/script.py"):
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        names = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert names <= {"sys", "traceback", "pathlib", "typing", "importlib.util"}


def test_the_programs_api_says_why_there_is_no_model_while_a_run_has_freed_the_gpu(program):
    script = execute(ROOT / "script.py")._plugin
    assert script.state_modifier({"stream": False}) == {"stream": False}
    program.unload()
    assert script.state_modifier({}) == {}, "nothing trains here, and the program says what it says"
    jobs, run = script.make_studio().jobs, SimpleNamespace(name="lamp", control=SimpleNamespace(freeing=True))
    jobs._line.append(run)
    with pytest.raises(Unavailable) as refused:
        script.state_modifier({})
    assert "while 'lamp' is paused. Press Go on in the Train LoRA tab" in refused.value.message
    run.control.freeing = False
    assert script.state_modifier({}) == {}, "it is being loaded"
    run.control.freeing = True
    program.load("other")
    assert script.state_modifier({}) == {}, "somebody has loaded another one"
    jobs._line.remove(run)
