"""The pictures of docs/dashboard.md, taken of a running daemon.

`python -m docs.generate.dashboard_pictures URL INDEX PREFIX` writes docs/pictures/PREFIX-*.png. Needs Chromium.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parents[1] / "pictures"
_WIDE, _PHONE = {"width": 1100, "height": 820}, {"width": 390, "height": 820}


def main(url: str, index: str, prefix: str) -> None:
    """Take the pictures."""
    FOLDER.mkdir(exist_ok=True)
    shots = (
        ("overview", "/", _WIDE, "light"),
        ("overview-dark", "/", _WIDE, "dark"),
        ("phone", "/", _PHONE, "dark"),
        ("task", f"/tasks/{index}", _WIDE, "light"),
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, path, size, scheme in shots:
            context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(url + path)
            page.wait_for_load_state("load")
            page.screenshot(path=FOLDER / f"{prefix}-{name}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:4])
