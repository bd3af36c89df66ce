"""A network traced on real numbers, the lab of bugs, and exercises."""
