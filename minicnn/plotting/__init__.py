"""Plots: `style`, and a file for each subject. They take numbers."""
