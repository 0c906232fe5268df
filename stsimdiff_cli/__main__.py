"""`python -m stsimdiff_cli` is `stsimdiff`."""

from .cli.app import run

if __name__ == "__main__":
    run()
