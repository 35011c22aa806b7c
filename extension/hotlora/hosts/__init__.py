"""Where the model lives: one folder per host, and ``shared`` for what several do alike. Imports every room but ``ui``."""
