"""Training of the tissue classifier in PyTorch: `python -m train fit`."""
