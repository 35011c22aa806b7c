"""Forge and Forge Neo as a host."""
