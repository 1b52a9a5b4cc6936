"""`python -m peershare` is `peershare`."""

from peershare.cli import main

main()
