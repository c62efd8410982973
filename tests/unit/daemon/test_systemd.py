"""Datagrams as a service manager receives them."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from watcher.daemon.systemd import Notifier, watchdog_interval_s


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.settimeout(5)
        if request.param == "path":
            address = str(tmp_path / "notify")
            bound.bind(address)
        else:
            address = f"@watcher-test-{os.getpid()}"
            bound.bind("\0" + address[1:])
        yield bound, address


def test_every_notification_arrives_as_systemd_reads_it(manager: tuple[socket.socket, str]) -> None:
    bound, address = manager
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    sent = [
        (notifier.ready(), b"READY=1"),
        (notifier.ready("block 7"), b"READY=1\nSTATUS=block 7"),
        (notifier.status("block 8, 2 waiting"), b"STATUS=block 8, 2 waiting"),
        (notifier.watchdog(), b"WATCHDOG=1"),
        (notifier.extend_timeout(1.5), b"EXTEND_TIMEOUT_USEC=1500000"),
        (notifier.stopping("draining"), b"STOPPING=1\nSTATUS=draining"),
    ]
    for delivered, datagram in sent:
        assert delivered
        assert bound.recv(4096) == datagram


def test_a_status_from_outside_cannot_add_a_field(manager: tuple[socket.socket, str]) -> None:
    bound, address = manager
    Notifier(address).status("node said:\nREADY=1\x1b[2J\ud800" + "x" * 10_000)
    datagram = bound.recv(65_536)
    assert datagram.startswith(b"STATUS=node said:\\nREADY=1\\x1b[2J\\ud800xxx")
    assert b"\n" not in datagram
    assert len(datagram) < 1000


def test_an_empty_status_says_nothing(manager: tuple[socket.socket, str]) -> None:
    bound, address = manager
    assert not Notifier(address).status("")
    bound.settimeout(0)
    with pytest.raises(BlockingIOError):
        bound.recv(1)


@pytest.mark.parametrize(
    "address", ["", "/nowhere/notify", "@nobody-listens", "vsock:2:1", "relative", "/" + "x" * 300, "/a\0b"]
)
def test_without_a_listener_nothing_happens(address: str) -> None:
    assert not Notifier(address).ready("started")


def test_notification_returns_when_the_manager_reads_nothing(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(address)
        # The queue of a datagram socket is short; without a limit on our side this would never return.
        assert not all(Notifier(address).watchdog() for _ in range(5000))


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "٣"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
    ],
)
def test_watchdog_is_pinged_twice_per_period(environ: dict[str, str], interval_s: float | None) -> None:
    assert watchdog_interval_s(environ) == interval_s
