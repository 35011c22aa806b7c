"""How people see a run: a page made with Gradio, and an HTTP API. Imports ``engine``, ``tasks`` and the config classes, never
``hosts``."""

import sys

import huggingface_hub

if "gradio" not in sys.modules and not hasattr(huggingface_hub, "HfFolder"):
    # Gradio imported this name at its start until 4.44, for logins at Hugging Face only; huggingface_hub 1.0 has dropped it.
    huggingface_hub.HfFolder = None
