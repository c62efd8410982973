"""The system calls the workers need and Python has no function for: prctl and Landlock, by ctypes.

Standard library only. Numbers and structures are those of Linux's include/uapi (landlock.h, prctl.h); the three numbers
of Landlock are the same on every architecture but Alpha. Every function raises OSError where the kernel refuses.
"""

import ctypes
import os
import signal
import struct

READ_FILE, WRITE_FILE, TRUNCATE = 1 << 2, 1 << 1, 1 << 14
READ_DIR = 1 << 3
REFER = 1 << 13  # rename and link from folder to folder; refused everywhere unless it is handled and allowed
_REMOVE, _MAKE = 0b11 << 4, 0b1111111 << 6
FILE_ACCESS = READ_FILE | WRITE_FILE | TRUNCATE
ALL_ACCESS = FILE_ACCESS | READ_DIR | REFER | _REMOVE | _MAKE

# The first version with REFER (Linux 5.19), that with TRUNCATE (6.2), that with the scope of signals (6.12).
LEAST_ABI, _TRUNCATE_ABI, _SIGNAL_ABI = 2, 3, 6
_SCOPE_SIGNAL = 1 << 1

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38

_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION = 0x20080522
# What lets root look into other processes and files past every check: sys_module, sys_rawio, sys_ptrace, sys_admin,
# perfmon, bpf, checkpoint_restore, and dac_read_search (files by handle).
_LOOKING = (2, 16, 17, 19, 21, 38, 39, 40)

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long


def keep_memory_private() -> None:
    """Keep other processes of this user from this one's memory and environment (/proc, ptrace, core dumps)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def reap_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def drop_looking() -> None:
    """Give up, for good, the capabilities that look past Landlock. Changes nothing for a user without them."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    data = ctypes.create_string_buffer(24)  # twice effective, permitted, inheritable: bits 0 to 31, then 32 to 63
    _checked(_LIBC.capget(header, data), "capget")
    held = list(struct.unpack("=6I", data.raw))
    for number in _LOOKING:
        if held[number // 32 * 3 + 1] >> number % 32 & 1:
            for kind in range(3):
                held[number // 32 * 3 + kind] &= ~(1 << number % 32)
            try:
                _prctl(_PR_CAPBSET_DROP, number)
            except OSError:
                continue  # not allowed to, and then programs gain none either: see `enforce`
    _checked(_LIBC.capset(header, struct.pack("=6I", *held)), "capset")


def landlock_abi() -> int:
    """Return the version of Landlock, 0 where the kernel has none or has it turned off."""
    version: int = _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    return max(0, version)


class Ruleset:
    """An allow-list of paths. Once it is enforced, this process and its future children can do nothing else.

    It also keeps them from tracing, and where the kernel can, from signalling, any process that is not restricted so.
    """

    def __init__(self, abi: int) -> None:
        self._handled = ALL_ACCESS if abi >= _TRUNCATE_ABI else ALL_ACCESS & ~TRUNCATE
        scoped = _SCOPE_SIGNAL if abi >= _SIGNAL_ABI else 0
        # Older kernels take the structure without the parts they do not know.
        fields = struct.pack("=QQQ", self._handled, 0, scoped) if scoped else struct.pack("=Q", self._handled)
        self._fd = _checked(
            _LIBC.syscall(_CREATE_RULESET, fields, ctypes.c_size_t(len(fields)), ctypes.c_uint32(0)), "create_ruleset"
        )

    def allow(self, path: str, access: int) -> None:
        """Allow `access` to this file, or to this folder and everything below it. A symbolic link allows nothing."""
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            attr = struct.pack("=Qi", access & self._handled, fd)
            _checked(
                _LIBC.syscall(_ADD_RULE, self._fd, ctypes.c_int(_PATH_BENEATH), attr, ctypes.c_uint32(0)), "add_rule"
            )
        finally:
            os.close(fd)

    def enforce(self) -> None:
        """Restrict this thread, for good. Call it while there is only one. Programs gain no privileges any more."""
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _checked(_LIBC.syscall(_RESTRICT_SELF, self._fd, ctypes.c_uint32(0)), "restrict_self")
        self.close()

    def close(self) -> None:
        """Give the rules up."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _checked(_LIBC.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero), "prctl")


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
