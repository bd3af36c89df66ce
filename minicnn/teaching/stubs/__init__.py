"""What `minicnn exercise NAME` writes for a student to fill in: one file each."""
