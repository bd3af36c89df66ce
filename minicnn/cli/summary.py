"""`minicnn summary`: the layers of a network, with shapes, parameters and costs."""

from minicnn.cli.options import add_shared, load_network

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "print a network's layers, parameters and costs"
EXAMPLES = """examples:
  minicnn summary                    COV-19Net: Table I of the paper
  minicnn summary runs/001 --plan    a trained network, and the steps in which it runs"""


def add_options(parser):
    add_shared(parser, "network")
    parser.add_argument("--plan", action="store_true", help="also print the steps in which the engine runs the layers")


def run(options):
    """Print the table of a network."""
    load_network(options.network).summary(plan=options.plan)
