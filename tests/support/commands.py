"""Runs commands as a user would, but in this process."""

from __future__ import annotations

from stsimdiff_cli.cli.app import main


def run(capsys, *args: object) -> tuple[int, str, str]:
    """The exit code, stdout and stderr of a command."""
    capsys.readouterr()
    code = main([str(arg) for arg in args])
    out = capsys.readouterr()
    return code, out.out, out.err


def refused(capsys, *args: object, code: int = 2) -> str:
    """The stderr of a command that must fail with an error, a hint and nothing on stdout."""
    got, out, err = run(capsys, *args)
    assert got == code, err
    assert out == "" and "error:" in err and "hint:" in err and "Traceback" not in err
    return err
