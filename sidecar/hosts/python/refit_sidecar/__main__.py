"""`python -m refit_sidecar`: the command line of the sidecar."""

from .launch import main

main()
