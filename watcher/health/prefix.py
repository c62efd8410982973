"""The paths of an AVS on the HTTP server. Without a library of HTTP: commands read it, too."""

_AVS = "/avs/"


def prefix_of(name: str) -> str:
    """Return the path below which an AVS has its addresses, "" for the only one."""
    return f"{_AVS}{name}" if name else ""


def avs_in(path: str) -> str:
    """Return the name of the AVS that a path is for, "" for none."""
    return path.removeprefix(_AVS).partition("/")[0] if path.startswith(_AVS) else ""


def inner_path(path: str) -> str:
    """Return a path without the prefix of an AVS."""
    name = avs_in(path)
    return path.removeprefix(prefix_of(name)) or "/" if name else path
