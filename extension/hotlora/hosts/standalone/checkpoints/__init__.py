"""Recognising and reading Stable Diffusion checkpoints. Imports neither diffusers nor transformers."""
