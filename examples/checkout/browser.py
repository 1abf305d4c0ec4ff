"""Plays the stories of the page in Chromium, as a customer would: `browser.py URL CHROMIUM [--picture FILE]`.

One line for each story, as `test NAME ... ok`; the exit code is 0 if the tally was right in all of them.
"""

from __future__ import annotations

import argparse
import sys

from playwright.sync_api import Error, Page, sync_playwright

PATIENCE = 30_000  # milliseconds
# The story's button, and how often each till has charged in the end: (without, with). Killed before COMMIT nothing has happened, for either.
STORIES = {
    "five presses": ("five", 5, 1),
    "a reload": ("reload", 2, 1),
    "a lost answer": ("lost", 2, 1),
    "a server killed after COMMIT": ("killed after commit", 2, 1),
    "a server killed before COMMIT": ("killed before commit", 1, 1),
}


def verdict(times: int) -> str:
    return "charged once" if times == 1 else f"charged {times} times"


def ready(page: Page) -> None:
    page.wait_for_selector("body[data-state=ready]", timeout=PATIENCE)


def play(page: Page, story: str, without: int, with_keys: int) -> str:
    """What is wrong; nothing if all is right."""
    page.click(f"[data-story='{story}']")
    ready(page)
    wanted = {"without": without, "with": with_keys}
    found = {till: (page.inner_text(f"#{till} .verdict"), page.inner_text(f"#{till} .tally")) for till in wanted}
    return "; ".join(
        f"{till}: {found[till]}" for till, times in wanted.items() if found[till] != (verdict(times), f"{25 * times}.00 €")
    )


def press_by_hand(page: Page) -> str:
    """Two presses of each Pay, one after the other: the right one gets the stored answer."""
    page.click("#new")
    for till in ("without", "with"):
        for presses in (1, 2):
            page.click(f"#{till} .pay")
            page.wait_for_selector(f"#{till} li:nth-child({presses})", timeout=PATIENCE)
    first, second = page.locator("#with li").all_inner_texts()
    return "" if second == f"{first}, the stored answer" else f"{first!r}, then {second!r}"


def main() -> int:
    arguments = argparse.ArgumentParser()
    arguments.add_argument("url")
    arguments.add_argument("chromium")
    arguments.add_argument("--picture")
    given = arguments.parse_args()
    failed = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 960, "height": 600})
        page.goto(given.url)
        ready(page)
        if given.picture:
            wrong = play(page, *STORIES["five presses"])
            page.screenshot(path=given.picture)
            failed += wrong != ""
        else:
            stories = {name: lambda told=told: play(page, *told) for name, told in STORIES.items()}
            for name, story in {**stories, "two presses by hand": lambda: press_by_hand(page)}.items():
                try:
                    wrong = story()
                except Error as error:
                    wrong = str(error)
                failed += wrong != ""
                print(f"test {name} ... {'FAILED' if wrong else 'ok'}\n{wrong}", flush=True)
        browser.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
