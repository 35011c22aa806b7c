"""How people see a run: a page made with Gradio, and an HTTP API. Imports ``engine``, ``tasks`` and the config classes, never
``hosts``."""
