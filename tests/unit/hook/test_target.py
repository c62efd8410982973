"""The setting of the hook in messages."""

from watcher.hook.target import setting, setting_of_shadow


def test_message_about_the_shadow_names_the_setting_of_the_shadow() -> None:
    assert setting_of_shadow(f"{setting('a:b')}: no") == "hook.shadow.target = 'a:b': no"
    assert setting_of_shadow("no worker answers hook.target = 1") == "no worker answers hook.target = 1"
