"""text-generation-webui as a host."""
