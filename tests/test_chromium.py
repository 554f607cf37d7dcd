"""tools/chromium.py: the browser is installed where that is allowed; skipped browser tests are counted."""

import chromium
import pytest

SUMMARY = """=========== short test summary info ===========
SKIPPED [2] tests/test_browser.py:50: /usr/bin/chromium is missing: apt-get install chromium (or set CHROMIUM)
SKIPPED [1] tests/test_bad_input.py:350: root may write everywhere
SKIPPED [27] tests/test_play.py:60: /usr/bin/chromium is missing: apt-get install chromium (or set CHROMIUM)
===== 200 passed, 30 skipped in 9.00s =====
"""


def test_skipped_browser_tests_are_counted():
    assert chromium.skipped_browser_tests(SUMMARY) == 29
    assert chromium.last_line(SUMMARY).startswith("29 browser tests were SKIPPED")
    assert chromium.INSTALL in chromium.last_line(SUMMARY)


def test_nothing_is_said_when_none_was_skipped():
    assert chromium.last_line("===== 229 passed, 1 skipped in 9.00s =====\n") == ""


@pytest.mark.parametrize("may", [True, False])
def test_installed_only_where_allowed(monkeypatch, tmp_path, may):
    ran, browser = [], tmp_path / "chromium"

    def pretend(command, **options):
        ran.append(command)
        if command[1] == "install":
            browser.touch()

    monkeypatch.setattr(chromium.subprocess, "run", pretend)
    assert chromium.install_chromium(browser, may) == may
    assert [command[1] for command in ran] == (["update", "install"] if may else [])
    assert chromium.install_chromium(browser, may) == may and len(ran) == 2 * may
