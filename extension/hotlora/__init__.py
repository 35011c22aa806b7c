"""HotLoRA: LoRA training inside the program that already holds the model, or from a YAML file.

Rooms: ``engine`` (how to train anything), ``sd`` (what an image example is), ``hosts`` (where the model lives).
"""

__version__ = "0.1.0"
