"""Where the model lives: one file per host. Imports ``engine``, ``sd``, ``llm``; never ``ui``."""
