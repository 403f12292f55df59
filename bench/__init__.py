"""How fast minimix is, compared with PyTorch on the same cores: `python -m bench`."""
