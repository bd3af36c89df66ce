"""The command line: a file each for the commands, and `main`, which assembles them."""
