"""gRPC, without its own lines: they would stand on standard error between those of the log, in another form.

What it has to tell comes with the status of each call. A GRPC_VERBOSITY of the operator's is left as it is, and the
environment of hooks, too.
"""

import os

_VARIABLE = "GRPC_VERBOSITY"  # read at the import
_is_free = _VARIABLE not in os.environ
if _is_free:
    os.environ[_VARIABLE] = "NONE"

import grpc  # noqa: E402
import grpc.aio  # noqa: E402

if _is_free:
    del os.environ[_VARIABLE]

__all__ = ["grpc"]
