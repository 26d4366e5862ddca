"""`python -m taco`: the same as the installed command."""

from taco.cli import main

main()
