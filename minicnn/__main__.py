"""`python -m minicnn` is `minicnn`."""

import sys

from minicnn.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
