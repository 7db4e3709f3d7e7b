"""MoME workbook: distil a multilingual teacher into specialised modular language models (arXiv:2407.19610)."""

__version__ = "0.1.0"
