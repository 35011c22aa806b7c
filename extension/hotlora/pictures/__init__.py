"""What every family of image models needs: folders, captions, buckets, cached latents, and what people are shown of them. Imports
``engine``; knows no family of models and no host."""
