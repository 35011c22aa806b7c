"""Who writes captions: one protocol, one file per captioner. Imports ``engine`` and ``pictures``; knows no family, task or host."""
