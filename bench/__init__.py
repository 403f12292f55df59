"""How fast minimix is, beside PyTorch on the same cores: `python -m bench`."""
