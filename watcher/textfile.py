"""A text file that a person names: settings, a convention, an ABI. Read within bounds, whatever the path leads to.

Invariant: the only error is `FixConfiguration`, and its words are free of the file's content.
"""

import os
import stat
from pathlib import Path

from watcher.errors import FixConfiguration


def read_text(path: Path, limit_bytes: int) -> str:
    """The file as text, without a byte-order mark.

    Raises:
        FixConfiguration: it is no readable file of UTF-8 text within the limit.
    """
    try:
        # O_NONBLOCK: to open a pipe that nobody writes to would wait for ever.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = os.fstat(handle).st_mode
            if not stat.S_ISREG(mode):
                raise FixConfiguration("is a folder, not a file" if stat.S_ISDIR(mode) else "is not a regular file")
            with open(handle, "rb", closefd=False) as file:
                data = file.read(limit_bytes + 1)
        finally:
            os.close(handle)
    except FileNotFoundError:
        raise FixConfiguration("does not exist") from None
    except PermissionError:
        raise FixConfiguration("may not be read by this user; check owner and mode") from None
    except OSError as error:
        raise FixConfiguration(f"cannot be read: {error.strerror or 'the system gave no reason'}") from None
    except ValueError:  # a path with a NUL in it
        raise FixConfiguration("is not a path") from None
    if len(data) > limit_bytes:
        raise FixConfiguration(f"is longer than {limit_bytes} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FixConfiguration(f"is not UTF-8 text (line {line}); save it as UTF-8") from None
