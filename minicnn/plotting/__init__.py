"""Plots: `style`, and a module for each subject. They take numbers, and write PNG files."""
