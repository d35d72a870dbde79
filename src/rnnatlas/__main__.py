"""`python -m rnnatlas`."""

from rnnatlas.cli import main

main()
