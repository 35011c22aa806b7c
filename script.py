"""text-generation-webui's entry point when this repository is cloned into its extensions folder: hands textgen_plugin/script.py on."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

_spec = spec_from_file_location("hotlora_textgen_plugin", Path(__file__).resolve().parent / "textgen_plugin" / "script.py")
_plugin = module_from_spec(_spec)
_spec.loader.exec_module(_plugin)
params, setup, ui, custom_css, custom_js = _plugin.params, _plugin.setup, _plugin.ui, _plugin.custom_css, _plugin.custom_js
state_modifier = _plugin.state_modifier
