"""What axe-core finds wrong with a page: contrast, names, landmarks, order, what the keyboard does not reach.

axe-core (MPL-2.0) comes with axe-playwright-python; its script alone is used.
"""

from __future__ import annotations

from importlib.resources import files

from playwright.async_api import Page

_RUN = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations.map(found =>
    `${found.id}: ${found.help}: ${found.nodes.map(node => node.target + " " + node.html).slice(0, 3).join(" | ")}`)"""


async def violations(page: Page) -> list[str]:
    """Each as one line. Its script is evaluated past the page's policy, which would not let it in."""
    await page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text() + "; null")
    found: list[str] = await page.evaluate(_RUN)
    return found
