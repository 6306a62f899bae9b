"""PyTorch's checkpoints, read without PyTorch. The program is tools/convert_torch.py."""
