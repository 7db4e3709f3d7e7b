"""MoME workbook: distil a multilingual teacher into specialised modular language models (arXiv:2407.19610).

`import mome.models` tells transformers' Auto classes of the modular model.
"""

__version__ = "0.2.0"
