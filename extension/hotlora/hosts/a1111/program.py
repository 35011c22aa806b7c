"""AUTOMATIC1111's WebUI, for the file that it executes."""

from ..webui.program import Program
from .checkpoint import name_loaded, own_device
from .host import A1111Host, check_on_loaded
from .live import remove_live, update_live

PROGRAM = Program("a1111", A1111Host, name_loaded, check_on_loaded, update_live, own_device, remove_live)
