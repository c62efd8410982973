"""The watcher.toml of a devnet over several starts: edits stay, other lines follow the devnet."""

import json
from pathlib import Path

import pytest

from watcher.devnet.config_file import STATE_FILE, DevnetPlace, read_place, write_config

PLACE = DevnetPlace("http://127.0.0.1:1", "0x" + "11" * 20, "wizard")


def text(port: int, target: str = "hook:respond", *, name: bool = False) -> str:
    avs = 'avs_name = "devnet"\n' if name else ""
    return (
        f'[chain]\nrpc_urls = ["http://127.0.0.1:{port}"]\n\n[hook]\ntarget = "{target}"\ntimeout_s = 30\n\n'
        f'[operator]\napi = "proxy"\n{avs}timeout_s = 60\n'
    )


def test_untouched_file_is_written_anew(tmp_path: Path) -> None:
    config = tmp_path / "watcher.toml"
    assert write_config(config, text(1), PLACE) == (text(1), False)
    assert write_config(config, text(2), PLACE) == (text(2), False)
    assert config.read_text() == text(2)
    assert (tmp_path / STATE_FILE).stat().st_mode & 0o077 == 0


def test_edited_lines_stay_and_the_others_follow(tmp_path: Path) -> None:
    config = tmp_path / "watcher.toml"
    write_config(config, text(1), PLACE)
    config.write_text(
        "# mine\n" + text(1).replace("timeout_s = 60", "timeout_s = 6") + "workers = 9\n[log]\nlevel = 'x'\n"
    )
    for port in (2, 3):
        expected = (
            "# mine\n" + text(port).replace("timeout_s = 60", "timeout_s = 6") + "workers = 9\n[log]\nlevel = 'x'\n"
        )
        assert write_config(config, text(port), PLACE) == (expected, True)
        assert config.read_text() == expected


def test_edited_target_gives_way_to_a_new_command_line_alone(tmp_path: Path) -> None:
    config, asked = tmp_path / "watcher.toml", frozenset({("hook", "target")})
    write_config(config, text(1, "a:b"), PLACE, asked=asked)
    config.write_text(text(1, "mine:own"))
    assert write_config(config, text(2, "a:b"), PLACE, asked=asked) == (text(2, "mine:own"), True)
    assert write_config(config, text(3, "c:d"), PLACE, asked=asked) == (text(3, "c:d"), False)


def test_settings_come_and_go_with_the_convention(tmp_path: Path) -> None:
    config = tmp_path / "watcher.toml"
    write_config(config, text(1), PLACE)
    config.write_text(text(1) + "# mine\n")
    kept, _ = write_config(config, text(1, name=True), PLACE)
    assert 'avs_name = "devnet"' in kept and kept.endswith("# mine\n")
    assert write_config(config, text(1), PLACE) == (text(1) + "# mine\n", True)


def test_file_of_another_origin_stays_as_it_is(tmp_path: Path) -> None:
    config = tmp_path / "watcher.toml"
    config.write_text("# somebody's\n")
    assert write_config(config, text(1), PLACE) == ("# somebody's\n", True)


@pytest.mark.parametrize("state", ["", "{", "[]", "{}", json.dumps({"rpc_url": 1}), "[" * 100_000])
def test_damaged_state_is_no_place(tmp_path: Path, state: str) -> None:
    (tmp_path / STATE_FILE).write_text(state)
    assert read_place(tmp_path) is None
    (tmp_path / "watcher.toml").write_text(text(1))
    assert write_config(tmp_path / "watcher.toml", text(2), PLACE) == (text(1), True)


def test_place_is_read_back(tmp_path: Path) -> None:
    assert read_place(tmp_path) is None
    write_config(tmp_path / "watcher.toml", text(1), PLACE)
    assert read_place(tmp_path) == PLACE
