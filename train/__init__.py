"""Fine-tuning of the tissue classifier in PyTorch: `python -m train fit`, `python -m train score`."""
