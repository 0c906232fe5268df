"""The program as a process; `python -m stsimdiff_cli` is `stsimdiff`.

Nothing is imported before signals are handled, so that Ctrl-C is answered properly even in the first moments.
"""

#: How many new objects Python waits for before it looks for cycles among them, and every how many looks further.
CYCLES = (20_000, 10, 10)


def run() -> None:
    """Entry point of the `stsimdiff` script.

    What is imported, some 600,000 objects, stays to the end: while it grows, cycles are looked for less often than
    Python does by itself, and at the end, when everything goes, not at all.
    """
    import gc
    import sys

    gc.set_threshold(*CYCLES)
    code = _code()
    gc.freeze()
    sys.exit(code)


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
