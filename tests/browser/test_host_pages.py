"""The host's pages in a real browser. That no page complains or asks another server holds for every test here."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import quote, urlsplit

import pytest
from playwright.async_api import Page, expect

from tests.support.axe import violations
from tests.support.browsing import OpenTab
from tests.support.gallery import ELSEWHERE, HOSTILE, HOSTILE_SEGMENT, HOSTILE_SIGNATURE

MODEL = "/lab/vision/mobilenet/3"
MALLORY = f"/mallory/{quote(HOSTILE_SEGMENT, safe='')}"
PAGES = ["/", "/?q=nothing+fits", MODEL, "/lab/vision/mobilenet/1", "/acme/half-plus-two", MALLORY]
# What a hostile README would have a page do, did nobody clean it: only the policy stands in the way.
RAW = f"""<!doctype html><title>still here</title>
<script>document.title = 'taken'</script><img src="x" onerror="document.title='taken'">
<script src="{ELSEWHERE}/x.js"></script><img src="{ELSEWHERE}/pixel.png"><link rel=stylesheet href="{ELSEWHERE}/x.css">
<base href="{ELSEWHERE}/"><iframe src="{ELSEWHERE}/"></iframe><object data="{ELSEWHERE}/"></object>
<style>p {{ color: rgb(255, 0, 0) }}</style><p style="position: fixed">text</p>
<form id=out action="{ELSEWHERE}/"><button>go</button></form>"""


async def test_the_index_leads_to_a_modules_page(page: Page, host: str) -> None:
    await page.goto(host)
    await expect(page).to_have_title("Modules")
    await expect(page.get_by_role("status")).to_have_text("4 modules")
    await page.get_by_role("link", name="MobileNet V2").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("MobileNet V2")
    await expect(page.get_by_role("heading", name="Accuracy")).to_be_visible()
    signature = page.get_by_role("group", name="Signature serving_default")
    await expect(signature.get_by_role("row", name="Inputs inputs float32 (?, 224, 224, 3)")).to_be_visible()


async def test_results_follow_the_typing_and_so_does_the_address(page: Page, host: str) -> None:
    await page.goto(host)
    await page.get_by_label("Search").press_sequentially("sentences")
    await expect(page.get_by_role("status")).to_have_text("1 module found")
    await expect(page.get_by_role("link", name="Sentence encoder")).to_be_visible()
    await expect(page.get_by_label("Search")).to_be_focused()
    await page.wait_for_url("**/?q=sentences")
    await page.get_by_label("Search").fill("")
    await page.get_by_label("Task").select_option("image-classification")
    await expect(page.get_by_role("link", name="MobileNet V2")).to_be_visible()
    await expect(page.get_by_role("status")).to_have_text("1 module found")
    await page.reload()
    await expect(page.get_by_role("status")).to_have_text("1 module found")


async def test_without_scripts_all_but_the_buttons_is_there(open_tab: OpenTab, host: str) -> None:
    page = await open_tab(java_script_enabled=False)
    await page.goto(host)
    await page.get_by_label("Search").fill("sentences")
    await page.get_by_role("button", name="Search").click()
    await expect(page.get_by_role("status")).to_have_text("1 module found")
    await page.get_by_role("link", name="Sentence encoder").click()
    await page.get_by_role("radio", name="hubctl get").check()
    await expect(page.locator("code", has_text="hubctl get --digest sha256:")).to_be_visible()
    await expect(page.locator("code", has_text="hub.load(")).to_be_hidden()
    await expect(page.locator("button")).to_be_hidden()


async def test_the_copy_button_copies_the_code_that_is_shown(page: Page, host: str) -> None:
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=host)
    await page.goto(host + MODEL)
    await page.get_by_role("radio", name="KerasLayer").check()
    await page.get_by_role("group", name="Use it").get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("button", name="Copied")).to_be_visible()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert copied == f'import hubclient as hub\n\nlayer = hub.KerasLayer("{host}{MODEL}")'
    await page.get_by_role("article").get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("article").get_by_role("button", name="Copied")).to_be_visible()
    assert (await page.evaluate("navigator.clipboard.readText()")).startswith("import tensorflow as tf\n")


async def test_where_nothing_may_be_copied_the_code_is_selected(page: Page, host: str) -> None:
    await page.add_init_script(
        "Object.defineProperty(navigator, 'clipboard', {value: undefined})"
    )  # as over plain HTTP
    await page.goto(host + MODEL)
    await page.get_by_role("group", name="Use it").get_by_role("button", name="Copy").click()
    await expect(page.get_by_role("button", name="Selected")).to_be_visible()
    assert "hub.load(" in await page.evaluate("getSelection().toString()")


@pytest.mark.parametrize("system", ["light", "dark"])
async def test_the_theme_is_the_systems_until_one_chooses(page: Page, host: str, system: str) -> None:
    other = "dark" if system == "light" else "light"
    background = "getComputedStyle(document.body).backgroundColor"
    await page.emulate_media(color_scheme="dark" if system == "dark" else "light")
    await page.goto(host)
    of_the_system = await page.evaluate(background)
    await page.get_by_role("button", name=f"{other} theme").click()
    assert await page.evaluate(background) != of_the_system
    await page.goto(host + MODEL)  # the choice is kept
    assert await page.evaluate(background) != of_the_system
    await page.get_by_role("button", name=f"{system} theme").click()
    assert await page.evaluate(background) == of_the_system


@pytest.mark.parametrize(("width", "theme"), [(390, "light"), (1280, "dark")])
async def test_axe_finds_nothing_and_no_page_is_wider_than_the_screen(
    page: Page, host: str, width: int, theme: str
) -> None:
    await page.set_viewport_size({"width": width, "height": 900})
    await page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
    found = {}
    for path in PAGES:
        await page.goto(host + path)
        found[path] = await violations(page)
        assert await page.evaluate("document.documentElement.scrollWidth") <= width, path
    assert [fault for faults in found.values() for fault in faults] == []


async def test_the_keyboard_reaches_all_in_order(page: Page, host: str) -> None:
    await page.goto(host)
    await page.keyboard.press("Tab")
    await expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await expect(page.get_by_label("Search")).to_be_focused()
    await page.keyboard.type("mobilenet")
    await expect(page.get_by_role("status")).to_have_text("1 module found")
    # What Enter brings takes the place of what typing brought, and the focus with it, if that is there by then.
    await page.evaluate("document.querySelector('#results > *').id = 'typed'")
    await page.keyboard.press("Enter")
    await expect(page.locator("#typed")).to_have_count(0)
    link = page.get_by_role("link", name="MobileNet V2")
    for _ in range(4):
        await page.keyboard.press("Tab")
    await expect(link).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page).to_have_title("MobileNet V2")
    await page.get_by_role("radio", name="load").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("code", has_text="hub.Module(")).to_be_visible()


async def test_what_is_not_there_has_a_page_too(open_tab: OpenTab, host: str) -> None:
    page = await open_tab()  # of which the console says that it was not found
    await page.goto(f"{host}/no/such")
    await expect(page.get_by_role("heading", level=1)).to_have_text("Not Found")
    assert await violations(page) == []
    await page.get_by_role("link", name="All modules").click()
    await expect(page).to_have_title("Modules")


async def test_a_hostile_readme_and_hostile_names_are_words(page: Page, host: str) -> None:
    assert "<script>" in HOSTILE
    await page.goto(host)
    await page.get_by_role("link", name="document.title").click()
    await expect(page.get_by_role("heading", level=1)).to_have_text("<script>document.title='taken'</script>")
    await expect(page).to_have_title("<script>document.title='taken'</script>")
    await expect(page.get_by_role("heading", name="Welcome")).to_be_visible()
    await expect(page.get_by_text("over all")).to_have_css("position", "static")
    await expect(page.locator("h4 code", has_text=HOSTILE_SIGNATURE)).to_have_count(2)
    # What was left open ends with the document: what comes below it stands where it stands elsewhere.
    await expect(page.locator("main > .module > .content > section > h2")).to_have_text(["Signatures", "Files"])
    await expect(page.locator("footer")).to_have_text("Served by hubd")
    for script in await page.locator("script").all():
        assert await script.get_attribute("src") is not None
    assert await page.locator("main img, main form, main iframe, main style, main svg").count() == 0
    assert await page.locator("main a[href^='javascript']").count() == 0


async def test_the_policy_holds_even_where_nothing_was_cleaned(open_tab: OpenTab, host: str) -> None:
    page = await open_tab()
    answered: set[str] = set()
    refused: list[str] = []
    page.on("response", lambda answer: answered.add(urlsplit(answer.url).netloc))
    page.on("console", lambda message: refused.append(message.text))
    sent = await page.goto(host)
    assert sent is not None
    policy = await sent.all_headers()
    await page.route("**/raw", lambda route: route.fulfill(body=RAW, headers=_without_length(policy)))
    await page.goto(f"{host}/raw")
    await expect(page).to_have_title("still here")
    await expect(page.get_by_text("text")).to_have_css("color", "rgb(0, 0, 0)")
    await expect(page.get_by_text("text")).to_have_css("position", "static")
    async with page.expect_console_message(lambda message: "form-action" in message.text):
        await page.get_by_role("button", name="go").click(no_wait_after=True)
    for directive in ("script-src", "img-src", "style-src", "default-src", "base-uri", "form-action"):
        assert any(f"{directive} '" in text for text in refused), directive
    assert answered == {urlsplit(host).netloc}
    assert page.url.startswith(host)


def _without_length(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in ("content-length", "date")}
