"""What several hosts do alike. Imports no host."""
