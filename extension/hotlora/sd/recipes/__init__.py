"""Recipes of other trainers: what their options are called, and what becomes of them here. Must not import torch or any host."""
