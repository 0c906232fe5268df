"""The program as a process; `python -m stsimdiff_cli` is `stsimdiff`.

Nothing is imported before signals are handled, so that Ctrl-C is answered properly even in the first moments.
"""


def run() -> None:
    """Entry point of the `stsimdiff` script."""
    import sys

    sys.exit(_code())


def _code() -> int:
    try:
        from .cli import stops
    except KeyboardInterrupt:
        return 130
    try:
        stops.install()
        from .cli import streams

        streams.prepare()
        from .cli.app import main

        code = streams.finish(main())
        stops.finish()
        return code
    except stops.Stopped as stopped:
        stops.end_now(stopped.exit_code)
    return 1


if __name__ == "__main__":
    run()
