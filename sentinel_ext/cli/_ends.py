"""How a command ends where its surroundings are broken: arguments in another encoding, output to nowhere.

Knows no typer: the quick way of `healthcheck` ends so, too.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TYPE_CHECKING, Final

from sentinel_ext.wording import quoted

if TYPE_CHECKING:
    from collections.abc import Callable

# What writing to a disk, a pipe or a terminal that is gone ends with.
_UNWRITABLE: Final = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def ended(command: Callable[[], None]) -> int:
    """Run a command; return its exit code."""
    wrong = _what_is_wrong()
    if wrong:
        complain(wrong)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that the output's encoding has no letters for is shown escaped.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            command()
        finally:
            # Here rather than at the interpreter's end, which complains when nobody reads any more.
            sys.stdout.flush()
    except SystemExit as asked:
        return _code(asked.code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `sentinel-ext watch | head`: without a word.
        _throw_away()
        return 1
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        if error.filename is None:  # where it prints; its own files have names
            _throw_away()
        what = "the output" if error.filename is None else quoted(os.fsdecode(error.filename))
        complain(f"{what} cannot be written: {(error.strerror or str(error)).lower()}")
        return 1
    return 0


def _what_is_wrong() -> str:
    """Say what no command can work with; "" if nothing."""
    if sys.stdout is None:
        return "standard output is closed; `>/dev/null` throws it away"
    for word in sys.argv[1:]:
        try:
            word.encode()
        except UnicodeEncodeError:
            return f"an argument is not UTF-8: {quoted(word)}; write it in UTF-8"
    return ""


def _code(asked: object) -> int:
    if asked is None or isinstance(asked, int):
        return asked or 0
    complain(str(asked))
    return 1


def _throw_away() -> None:
    """Lead what is left in buffers nowhere; the interpreter would stumble over it once more."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def complain(line: str) -> None:
    """Say it on standard error, if that is there."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError):
            sys.stderr.write(f"sentinel-ext: {line}\n")
