"""Where the model lives: one folder per host, ``webui`` for what A1111 and its kin share, ``shared`` for what
all do alike. Imports every room but ``ui``."""
