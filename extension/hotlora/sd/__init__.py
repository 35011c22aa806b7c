"""What an image example is: captions, buckets, latents, diffusion losses, kohya files. Imports ``engine`` only."""
