"""What the browser tests of the panels share: small notebooks, single cells, themes, contrast."""

import re
import time

from lab import NOTEBOOK, run_all


def notebook(*cells):
    """A notebook of these code cells."""
    empty = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    return {
        "cells": [empty | {"id": f"cell{i}", "source": source.strip()} for i, source in enumerate(cells)],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "python3", "language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def run_cell(page, index, timeout=120):
    """Run one code cell and wait for its number; fails on an error that it shows. Gives the cell."""
    cell = page.locator(f"{NOTEBOOK} .jp-CodeCell").nth(index)
    prompt = cell.locator(".jp-InputPrompt").first
    before = prompt.inner_text()
    deadline = time.monotonic() + timeout
    while prompt.inner_text() == before:  # a key that comes too early is lost
        assert time.monotonic() < deadline, "the cell does not start"
        cell.locator(".jp-InputArea-editor").click()
        page.keyboard.press("Control+Enter")
        for _ in range(40):
            if prompt.inner_text() == before:
                page.wait_for_timeout(50)
    while not re.search(r"\[\d+\]", prompt.inner_text()):
        assert time.monotonic() < deadline, f"the cell does not end: {prompt.inner_text()}"
        page.wait_for_timeout(50)
    error = cell.locator("[data-mime-type='application/vnd.jupyter.error']")
    assert error.count() == 0, error.first.inner_text()
    return cell


def choose_theme(page, name):
    """Settings → Theme → name."""
    page.click("text=Settings >> visible=true")
    page.hover(".lm-Menu-itemLabel:text-is('Theme')")
    page.click(f".lm-Menu-itemLabel:text-is('{name}')")
    light = "true" if "Dark" not in name else "false"
    page.wait_for_selector(f"body[data-jp-theme-light='{light}']", state="attached")
    page.wait_for_timeout(300)


def contrasts(page, selector):
    """Contrast of each text in the element with what is behind it (WCAG: 4.5 is readable)."""
    return page.locator(selector).first.evaluate(
        """root => {
            const numbers = text => text.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
                .map(c => c <= .03928 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
                .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
            const behind = e => {
                for (; e; e = e.parentElement) {
                    const colour = numbers(getComputedStyle(e).backgroundColor);
                    if (colour.length == 3 || colour[3] > .9) return colour;
                }
                return [255, 255, 255];
            };
            const texts = [...root.querySelectorAll("*")].filter(e => e.getClientRects().length &&
                !e.closest("button, select, option, canvas, svg, .jupyter-scatter") &&
                [...e.childNodes].some(n => n.nodeType == 3 && n.textContent.trim()));
            return texts.map(e => {
                const [a, b] = [light(numbers(getComputedStyle(e).color)), light(behind(e))];
                return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
            });
        }"""
    )


class Panel:
    """What a person sees and does; the panel's state is read from the page."""

    def __init__(self, page, number=0):
        self.page, self.root = page, page.get_by_test_id("play-panel").nth(number)

    def part(self, name):
        return self.root.get_by_test_id(name)

    def state(self, name):
        return self.root.get_attribute(f"data-{name}")

    def wait(self, timeout=60, **state):
        """Until the panel says so, for example step=3."""
        wanted = "".join(f"[data-{name}='{value}']" for name, value in state.items())
        found = self.page.locator(f"[data-testid=play-panel]{wanted}")
        self.root.and_(found).wait_for(timeout=timeout * 1000)

    def picture(self):
        return self.part("play-canvas").evaluate("canvas => canvas.toDataURL()")

    def press(self, key):
        """One key, until its step is drawn: the text comes first, the picture when it is decoded."""
        step, seq = int(self.state("step")), self.part("play-canvas").get_attribute("data-seq")
        self.page.keyboard.press(key)
        self.wait(step=step + 1)
        self.wait_for_picture(seq)

    def wait_for_picture(self, seq):
        """Until another picture than this is drawn."""
        self.root.locator(f"[data-testid=play-canvas]:not([data-seq='{seq}'])").wait_for(timeout=60_000)

    def ways(self):
        """Names of the open ways, as the table shows them."""
        lines = self.part("play-moves").locator("[data-move]")
        return [line.get_attribute("data-move") for line in lines.all() if "open" in line.inner_text()]

    def restart(self):
        """The same maze from the start, with the focus in it."""
        seq = self.part("play-canvas").get_attribute("data-seq")
        self.part("play-again").click()
        self.wait(step=0, live="true")
        self.wait_for_picture(seq)
        self.part("play-stage").click()


def start(page):
    """Run the notebook and wait for the first picture of its first panel."""
    run_all(page)
    page.wait_for_selector("[data-testid=play-canvas][data-seq]")
    return Panel(page)
