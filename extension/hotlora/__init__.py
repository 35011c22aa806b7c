"""HotLoRA: LoRA training inside the program that already holds the model, or from a YAML file.

Rooms: ``engine`` (how to train anything), ``pictures``, ``sd`` and ``llm`` (what an example is), ``captioning`` (who writes captions),
``hosts`` (where the model lives), ``ui`` (how people see it), ``cli`` (the command line). ``tasks`` lists what can be trained.
"""

__version__ = "0.1.0"
