"""The host that loads models by itself, for ``train.py`` and the page on its own: diffusers' and transformers' classes."""
