"""Tools for finished files: looking at LoRAs, making them smaller, adding them up, taking them out of checkpoints and putting them in."""
