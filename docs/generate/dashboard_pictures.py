"""The pictures of docs/dashboard.md, taken of a running daemon. Needs Chromium.

`python -m docs.generate.dashboard_pictures URL` while all is well, and, while an API refuses answers,
`python -m docs.generate.dashboard_pictures URL INDEX` with the index of a task that waits for it.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parents[1] / "pictures"
_WIDE, _PHONE = {"width": 1100, "height": 820}, {"width": 390, "height": 820}


def main(url: str, index: str = "") -> None:
    """Take the pictures of a watcher that is well, or, with the index of a waiting task, of one in trouble."""
    FOLDER.mkdir(exist_ok=True)
    well = (("overview", "/", _WIDE, "light"), ("phone", "/", _PHONE, "dark"))
    waiting = (("trouble", "/", _WIDE, "dark"), ("task", f"/tasks/{index}", _WIDE, "light"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, path, size, scheme in waiting if index else well:
            context = browser.new_context(viewport=size, color_scheme=scheme)  # type: ignore[arg-type]
            page = context.new_page()
            page.goto(url + path)
            page.wait_for_load_state("load")
            page.screenshot(path=FOLDER / f"dashboard-{name}.png")
            context.close()
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
