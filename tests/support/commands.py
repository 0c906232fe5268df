"""Runs commands of the program as a user would, in this process."""

from __future__ import annotations

from stsimdiff_cli.cli.app import main


def run(capsys, *args: object) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([str(arg) for arg in args])
    out = capsys.readouterr()
    return code, out.out, out.err


def refused(capsys, *args: object, code: int = 2) -> str:
    """The error of a request that must fail with a sentence, a hint and nothing on stdout."""
    got, out, err = run(capsys, *args)
    assert got == code, err
    assert out == "" and "error:" in err and "hint:" in err and "Traceback" not in err
    return err
