"""`python -m sis`: the same as `sis`."""

from sis.cli import main

main(prog_name="sis")
