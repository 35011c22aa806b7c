"""What a host may do beyond lending its model: give the device's memory back while no run trains."""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Freeing(Protocol):
    """A host that keeps the model loaded while no run trains on it, and can do without."""

    def unload(self, config: Any) -> None:
        """Take it off the device as the program itself does when it is asked to, if it is there and the one that the config names. When
        nobody has a turn."""
        ...

    def load_again(self, config: Any) -> None:
        """Undo that, if it is still so: whatever else has been loaded since stays."""
        ...
