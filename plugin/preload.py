"""Run by A1111 and Forge before they read their command line."""

import argparse


def preload(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--refit-sidecar", action="store_true", help="Refit Sidecar starts switched on, in the page and for API calls that do not name it"
    )
