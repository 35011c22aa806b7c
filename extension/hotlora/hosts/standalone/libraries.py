"""What loading a model and training on it import: seconds, the first time in a process."""

from importlib import import_module

_EVERY_RUN = ("transformers.optimization", "peft")


def import_libraries(*classes: str) -> None:
    """Import them.

    Args:
        classes: such as ``diffusers.AutoencoderKL``; these libraries import a class's file when it is first asked for.
    """
    for name in _EVERY_RUN:
        import_module(name)
    for name in classes:
        library, _, wanted = name.partition(".")
        getattr(import_module(library), wanted)
