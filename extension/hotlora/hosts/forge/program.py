"""Forge, for the file that it executes."""

from ..webui.program import Program
from .checkpoint import name_chosen
from .host import ForgeHost, check_on_loaded
from .live import remove_live, update_live
from .memory import own_device

PROGRAM = Program("forge", ForgeHost, name_chosen, check_on_loaded, update_live, own_device, remove_live)
