"""The functions that `minicnn exercise NAME` writes for a student to implement, one file for each exercise."""
