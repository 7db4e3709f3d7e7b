"""Training: the one loop, its batches, its optimizer, its checkpoints, and what a step costs."""
