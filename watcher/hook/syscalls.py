"""The system calls of the workers that Python has no function for: prctl, capset and Landlock, by ctypes.

Standard library only. Numbers and structures are those of Linux's include/uapi (landlock.h, prctl.h, capability.h); the
numbers of Landlock's calls are the same on every architecture but Alpha. Every function raises OSError if the kernel
refuses.
"""

import ctypes
import os
import signal
import struct

READ_FILE, WRITE_FILE, TRUNCATE = 1 << 2, 1 << 1, 1 << 14
READ_DIR = 1 << 3
REFER = 1 << 13  # rename and link between folders; refused unless it is handled and allowed
_REMOVE, _MAKE = 0b11 << 4, 0b1111111 << 6
FILE_ACCESS = READ_FILE | WRITE_FILE | TRUNCATE
ALL_ACCESS = FILE_ACCESS | READ_DIR | REFER | _REMOVE | _MAKE

# The first Landlock version with REFER (Linux 5.19), with TRUNCATE (6.2), with the scope of signals (6.12).
LEAST_ABI, _TRUNCATE_ABI, _SIGNAL_ABI = 2, 3, 6
_SCOPE_SIGNAL = 1 << 1

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38

_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION = 0x20080522
# Capabilities that let root reach other processes and files past Landlock: dac_read_search (files by handle),
# sys_module, sys_rawio, sys_ptrace, sys_admin, perfmon, bpf, checkpoint_restore.
_BYPASS_CAPABILITIES = (2, 16, 17, 19, 21, 38, 39, 40)

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long


def keep_memory_private() -> None:
    """Close memory and environment of this process to others of the same user (/proc, ptrace, core dumps)."""
    _prctl(_PR_SET_DUMPABLE, 0)


def open_memory() -> None:
    """Undo `keep_memory_private`, in a fork of such a process."""
    _prctl(_PR_SET_DUMPABLE, 1)


def reap_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent ends."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def drop_bypass_capabilities() -> None:
    """Drop, for good, the capabilities that bypass Landlock. No effect for a user without them."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    data = ctypes.create_string_buffer(24)  # effective, permitted, inheritable: bits 0 to 31, then 32 to 63
    _checked(_LIBC.capget(header, data), "capget")
    sets = list(struct.unpack("=6I", data.raw))
    for number in _BYPASS_CAPABILITIES:
        if sets[number // 32 * 3 + 1] >> number % 32 & 1:
            for kind in range(3):
                sets[number // 32 * 3 + kind] &= ~(1 << number % 32)
            try:
                _prctl(_PR_CAPBSET_DROP, number)
            except OSError:
                continue  # Not permitted. Programs then gain none either: see `enforce`.
    _checked(_LIBC.capset(header, struct.pack("=6I", *sets)), "capset")


def landlock_abi() -> int:
    """Return the version of Landlock; 0: the kernel has none, or it is turned off."""
    version: int = _LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    return max(0, version)


class Ruleset:
    """An allow-list of paths for this process and its future children, in force from `enforce` on.

    It also stops them from tracing, and on newer kernels from signalling, processes outside of it.
    """

    def __init__(self, abi: int) -> None:
        self._handled = ALL_ACCESS if abi >= _TRUNCATE_ABI else ALL_ACCESS & ~TRUNCATE
        scoped = _SCOPE_SIGNAL if abi >= _SIGNAL_ABI else 0
        # Older kernels take the structure without its newer parts.
        fields = struct.pack("=QQQ", self._handled, 0, scoped) if scoped else struct.pack("=Q", self._handled)
        self._fd = _checked(
            _LIBC.syscall(_CREATE_RULESET, fields, ctypes.c_size_t(len(fields)), ctypes.c_uint32(0)), "create_ruleset"
        )

    def allow(self, path: str, access: int) -> None:
        """Allow `access` to a file, or to a folder and all below it. A symbolic link is not followed."""
        fd = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            attr = struct.pack("=Qi", access & self._handled, fd)
            _checked(
                _LIBC.syscall(_ADD_RULE, self._fd, ctypes.c_int(_PATH_BENEATH), attr, ctypes.c_uint32(0)), "add_rule"
            )
        finally:
            os.close(fd)

    def enforce(self) -> None:
        """Restrict this thread, for good, and deny new privileges to programs. Call it while there is one thread."""
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _checked(_LIBC.syscall(_RESTRICT_SELF, self._fd, ctypes.c_uint32(0)), "restrict_self")
        self.close()

    def close(self) -> None:
        """Discard the rules."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _checked(_LIBC.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero), "prctl")


def _checked(result: int, call: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result
