"""How tests say that something is refused with a sentence. (Notebooks have fastcore's `test_fail`.)"""

import re

import pytest


def refused(call, errors=ValueError, words=""):
    """The sentence with which a call is refused: one line, not too long, that holds a pattern."""
    with pytest.raises(errors) as found:
        call()
    text = str(found.value)
    assert 15 < len(text) < 400 and "\n" not in text, text
    assert re.search(words, text), f"{text!r} lacks {words!r}"
    return text
