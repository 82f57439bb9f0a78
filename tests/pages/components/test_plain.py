"""Text from outside is shown as text, whatever markdown it holds."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paretoscope.recipe.recipe import DEFAULTS
from streamlit.testing.v1 import AppTest

from pages.components import plain
from pages.components.state import TIMING

ROOT = Path(__file__).parents[3]
PLACES = ("error", "item", "heading", "caption", "button", "metric", "expander", "progress")
LINK, IMAGE = "[sign in](http://evil.example/a)", "![x](http://evil.example/i.png)"
TEXTS = [
    LINK,
    IMAGE,
    "http://evil.example/x?y=1 and www.evil.example and WWW.evil.example",
    "<http://evil.example> http\\://evil.example mail a@evil.example mailto:b@evil.example",
    "<img src=http://evil.example/q.png> <b>bold</b> &amp; &#58; &lt;script&gt;<script>alert(1)</script>",
    "`code` ``two`` $\\alpha$ and $$x^2$$",
    "a:smile: :+1: :smile: :material/icon: :material_home: :streamlit: :-) :D",
    ":red[red] :blue-background[x] :small[y] :color[z]{foreground=red} :help[x] :{foreground=red} :[y]{z}",
    "# head",
    "> quote",
    "- item",
    "+ item",
    "* item",
    "1. one",
    "2) two",
    "---",
    "===",
    "a -> b <- c <-> d -- e >= f <= g ~= h --- ---> :--",
    "*i* **b** __u__ _i_ ~~s~~ ~s~ [^1] and [ref][1] | a | b |",
    "[x]: http://evil.example",
    "\\ \\[ \\* end\\",
    "::: warn",
    "distilled from www.evil.example, __layer__.0",
    "scope must be 'global' or 'layer'; got 'gpt-9'. 5 % of 1,000 in [0, 1); 3-4.",
]


def test_text_without_markdown_stays() -> None:
    for text in ("80 % sparse, 16 clusters, 8 bits", "resnet-20: trained 8 epochs, p = 0.05", "Größe ☃ (1.5)"):
        assert plain.escape(text) == text


def test_a_message_is_one_line_of_bounded_length_with_its_rule_and_remedy() -> None:
    assert plain.cut("  one\n\n- two\r\n\tthree ") == "one - two three"
    assert plain.cut("0.5\u00a0%") == "0.5\u00a0%"
    assert plain.cut("a\x00b\u202ec\u200bd") == "a\\x00b\\u202ec\\u200bd"
    long = f"bits must be a number; got {'9' * 100_000}. Write e.g. bits=8."
    found = plain.cut(long, 120)
    assert len(found) == 120
    assert found.startswith("bits must be a number; got 9") and found.endswith("9. Write e.g. bits=8.")
    assert plain.escape("95.5 % sparse") == "95.5 % sparse"
    assert plain.cut("x" * 600) == "x" * 600 and len(plain.cut("x" * 601)) == 600
    assert len(plain.escape("*" * 10**6)) <= 2 * plain.LONGEST


SPECIAL = set("\\`*_{}[]#+|$<>&~")


def read(markdown: str) -> str:
    """What markdown makes of escapes and of coloured characters; no other sign of it may be there."""
    text = ""
    for coded, escaped, bare in re.findall(r":color\[&#(\d+);\]|\\(.)|(.)", markdown):
        assert bare not in SPECIAL
        text += chr(int(coded)) if coded else escaped or bare
    return text


@settings(derandomize=True, deadline=None, database=None, max_examples=300)
@given(st.text(st.sampled_from("\\`*_{}[]()#+-.!|$<>&~:@=>w3/ aé")))
def test_what_is_escaped_reads_as_the_text(text: str) -> None:
    assert read(plain.escape(text)) == " ".join(text.split())
    # Nothing that Streamlit looks for in the text that parsing leaves.
    assert not re.search(r"://|:\w+:|www\.|\w@\w|->|<-|--", re.sub(r":color\[&#\d+;\]", "", plain.escape(text)))


def test_all_signs_of_markdown_read_as_they_are() -> None:
    for text in TEXTS:
        assert read(plain.escape(text)) == text


def test_what_an_error_of_a_page_holds_is_escaped() -> None:
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60)
    page.query_params.update({"model": "lenet-300-100", "bits": LINK})
    page.run()
    assert not page.exception
    (warning,) = page.warning
    assert plain.escape(LINK) in warning.value and LINK not in warning.value


@pytest.fixture
def page(browser) -> Iterator[object]:
    """A page that notes each request to another host than this one."""
    page = browser.new_page()
    page.set_default_timeout(60_000)
    page.away = []
    local = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")
    page.on("request", lambda request: None if request.url.startswith(local) else page.away.append(request.url))
    yield page
    page.close()


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[str]:
    """The address of a page that shows all texts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    texts = tmp_path / "texts.json"
    texts.write_text(json.dumps(TEXTS))
    command = [sys.executable, "-m", "streamlit", "run", str(Path(__file__).with_name("plain_app.py"))]
    command += ["--server.port", str(port), "--server.fileWatcherType", "none"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PLAIN_TEXTS": str(texts)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.terminate()
        process.wait(20)


@pytest.mark.slow
@pytest.mark.browser
def test_every_text_is_read_as_it_was_written(page, sample: str) -> None:
    page.goto(sample)
    page.locator(".st-key-end [data-testid=stMarkdownContainer]").wait_for()
    for place, text in enumerate(TEXTS):
        for kind in PLACES:
            box = page.locator(f".st-key-{kind}_{place}")
            shown = box.locator("[data-testid=stMarkdownContainer], [data-testid=stCaptionContainer]").first
            assert shown.inner_text().strip() == text, (kind, text)
            assert shown.locator("img, code, strong, em, del, .katex, [role=img]").count() == 0, (kind, text)
    page.locator(".st-key-help button").first.hover()
    tip = page.get_by_test_id("stTooltipContent")
    tip.wait_for()
    assert tip.inner_text().strip() == " ".join(TEXTS)
    assert tip.locator("a, img, code, strong, em, del, .katex, [role=img]").count() == 0
    # Headings have anchors within the page.
    assert page.locator('a:not([href^="#"])').count() == 0
    assert page.away == []


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("text", [LINK, IMAGE])
def test_a_crafted_link_draws_no_link_and_fetches_nothing(page, dashboard: str, text: str) -> None:
    """In every key that a link may have, and as a key and a layer's name of its own; all pages tell of it."""
    hostile = dict.fromkeys(("model", *TIMING, *DEFAULTS, text), text)
    # The first address that a new server is asked for must be its front page.
    page.goto(f"{dashboard}/?{urlencode(hostile)}")
    for name, query in {
        "": hostile,
        "layer-by-layer": {"bits": text, "overrides": json.dumps([{"layers": text, "bits": 4}])},
        "how-fast": {"runtime": text},
        "side-by-side": {"model": text, "pins": urlencode({"of": text, "as": text, "bits": "8"})},
        "other-formats": {"model": text},
    }.items():
        page.goto(f"{dashboard}/{name}?{urlencode(query)}")
        page.get_by_test_id("stAlert").get_by_text(text).first.wait_for()
        page.wait_for_timeout(300)
        assert page.locator('a[href*="//evil"], img[src*="//evil"], [data-testid=stAlert] img').count() == 0
    assert page.away == []
