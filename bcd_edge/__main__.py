"""`python -m bcd_edge` is `bcd-edge`."""

from bcd_edge.cli import main

main(prog_name="bcd-edge")
