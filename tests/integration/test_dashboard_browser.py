"""The pages in a real Chromium: scripts under the policy, live pages, forms without JavaScript, keyboard, sizes, paper.

Skipped where there is no Chromium: `make test` installs it on Debian if root runs it. All tests share one browser, and
each has a context of its own, which has no cookie and no page of another.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page, async_playwright
from sqlalchemy import select, update

from tests.integration.dashboard_rig import TOKEN, Served, filled_at, serving
from tests.integration.test_web import WELL
from watcher.health.readings import ApiSeen
from watcher.ledger import manual
from watcher.ledger.tables import tasks
from watcher.state import State

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium"),
    pytest.mark.asyncio(loop_scope="module"),
]

PATHS = ("/", "/tasks", "/tasks/399", "/attempts", "/health", "/audit", "/shadow", "/login")
# The ratio of text to its ground, by WCAG 2.2, 1.4.3; the worst of a page with the text that has it.
_CONTRAST = """() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const part = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const ground = (element) => {
    for (let each = element; each; each = each.parentElement) {
      const colour = parse(getComputedStyle(each).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  let worst = [99, ""];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join("");
    if (!text || !element.checkVisibility() || element.closest(".sr, .skip-link, svg")) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst[0]) worst = [ratio, text.slice(0, 40)];
  }
  return worst;
}"""
_TOO_WIDE = "() => document.scrollingElement.scrollWidth - window.innerWidth"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(filled_at(tmp_path)) as served:
        yield served


@asynccontextmanager
async def browsing(browser: Browser, **options: Any) -> AsyncIterator[tuple[BrowserContext, list[str]]]:
    """A context of the browser, and everything that its pages complain of or load from elsewhere."""
    context = await browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **options})
    complaints: list[str] = []

    def follow(page: Page) -> None:
        page.on("console", lambda line: complaints.append(line.text) if line.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: _note_elsewhere(request.url, complaints))

    context.on("page", follow)
    try:
        yield context, complaints
    finally:
        await context.close()


def _note_elsewhere(url: str, complaints: list[str]) -> None:
    if not url.startswith(("http://127.0.0.1:", "http://localhost:")):
        complaints.append(f"asks elsewhere: {url}")


async def _index_of(served: Served, state: State) -> int:
    question = select(tasks.c.task_index).where(tasks.c.state == state).limit(1)
    return await served.ledger.read(lambda conn: int(conn.execute(question).scalar_one()))


async def test_charts_are_drawn_and_the_page_renews_itself(browser: Browser, served: Served) -> None:
    async with browsing(browser) as (context, complaints):
        page = await context.new_page()
        await page.goto(served.url)
        await page.wait_for_selector("[data-plot=outcomes] canvas")
        assert await page.locator("canvas").count() == 2
        await page.locator("[data-plot=outcomes] .u-over").hover()
        assert "answered" in await page.locator("figure:has([data-plot=outcomes]) .tip").inner_text()
        await page.wait_for_selector("#live:not([hidden])", state="attached")
        await page.focus("#s-accepted")
        await page.evaluate("window.kept = true")
        index = await _index_of(served, State.WAITING)
        await served.ledger.write(manual.skip, served.ledger.source_id, index, "")
        served.monitor.measure.last_move += 1  # as the monitor does once it has read the journal
        await page.wait_for_selector("#s-waiting b:text-is('19')")
        assert await page.evaluate("window.kept") is True  # it is the same page
        assert await page.evaluate("document.activeElement.id") == "s-accepted"
        await page.wait_for_selector("[data-plot=delays] canvas")
        served.say(replace(WELL, api=ApiSeen(refuses=True, reason="HTTP 401")))
        await page.wait_for_selector("#pill:text-is('not ready')")
        await page.wait_for_selector("h3:has-text('The operator API does not take answers')")
        assert complaints == []


async def test_forms_work_without_javascript(browser: Browser, served: Served) -> None:
    index = await _index_of(served, State.WAITING)
    async with browsing(browser, java_script_enabled=False) as (context, complaints):
        page = await context.new_page()
        await page.goto(f"{served.url}/tasks/{index}")
        await page.goto(f"{served.url}/login?next=/tasks/{index}")
        await page.fill("#token", "not the token, by far")
        await page.keyboard.press("Enter")
        await page.wait_for_selector("text=This is not the token")
        await page.fill("#token", TOKEN)
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{served.url}/tasks/{index}")
        await page.click("#skip")
        await page.fill("#reason", "<b>for the test</b>")
        await page.click("text=Skip: leave it without an answer")
        await page.wait_for_selector("#retry")
        assert page.url == f"{served.url}/tasks/{index}"
        assert "It was skipped: a person said to skip: <b>for the test</b>" in await page.inner_text("main")
        await page.click("#retry")
        await page.wait_for_selector(".row .state:text-is('ready')")
        await page.click("text=Log out")
        await page.wait_for_selector(".who >> text=Log in")
        for path in PATHS:
            await page.goto(served.url + path)
            assert await page.locator("main").inner_text()
        await page.goto(served.url)
        assert await page.locator("svg.bars rect").count() > 10
        # The refused login is a reply with status 403, which the browser notes.
        assert [line for line in complaints if "403" not in line] == []


async def test_pages_fit_every_width_and_are_legible(browser: Browser, served: Served) -> None:
    for scheme in ("light", "dark"):
        async with browsing(browser, viewport={"width": 360, "height": 740}, color_scheme=scheme) as (
            context,
            complaints,
        ):
            page = await context.new_page()
            grounds = set()
            for path in PATHS:
                await page.goto(served.url + path)
                assert await page.evaluate(_TOO_WIDE) <= 0, path
                ratio, text = await page.evaluate(_CONTRAST)
                assert ratio >= 4.5, (scheme, path, text)
                grounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert len(grounds) == 1
            assert complaints == []


async def test_keyboard_reaches_everything_and_shows_where_it_is(browser: Browser, served: Served) -> None:
    async with browsing(browser) as (context, complaints):
        page = await context.new_page()
        await page.goto(f"{served.url}/tasks")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.className") == "skip-link"
        await page.keyboard.press("Enter")
        assert await page.evaluate("document.activeElement.id") == "main"
        focused = set()
        for _ in range(14):
            await page.keyboard.press("Tab")
            focused.add(await page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
            outline = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid"
        assert {"state", "index", "Show", "Open", "t-400"} <= focused
        await page.focus("#t-400")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"{served.url}/tasks/399")
        assert complaints == []


async def test_paper_has_the_content_alone(browser: Browser, served: Served) -> None:
    async with browsing(browser, color_scheme="dark") as (context, complaints):
        page = await context.new_page()
        await page.goto(served.url)
        await page.wait_for_selector("canvas")
        await page.emulate_media(media="print")
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        for hidden in (".top nav", ".who", "canvas", ".ranges"):
            assert not await page.locator(hidden).first.is_visible(), hidden
        assert await page.locator("svg.bars").first.is_visible()
        assert len(await page.pdf()) > 5000
        assert complaints == []


async def test_hostile_bytes_run_nothing(browser: Browser, served: Served) -> None:
    evil = "</td><script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)>\"'>"

    def spoil(tx: Any) -> None:
        rows = update(tasks).where(tasks.c.task_index >= 390)
        tx.conn.execute(rows.values(message=evil.encode(), response=evil.encode(), error=evil, hook_version=evil))

    await served.ledger.write(spoil)
    async with browsing(browser) as (context, complaints):
        page = await context.new_page()
        for path in ("/", "/tasks", "/tasks/399", "/tasks/395"):
            await page.goto(served.url + path)
            assert await page.locator("main img").count() == 0
        assert "<script>alert(1)</script>" in await page.inner_text("main")
        assert complaints == []
