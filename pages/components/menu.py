"""Ways to the pages beside the menu at the top: a row of links on narrow screens, and a page for addresses of none."""

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import unquote

import streamlit as st
from streamlit.navigation.page import Page
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.components import plain

LONGEST = 60


def navigation(pages: Sequence[Page]) -> tuple[Page, Sequence[Page]]:
    """The page that is asked for, to be run, and all that there are."""
    return st.navigation([*pages, *_lost(pages)], position="top"), pages


def go(page: str) -> None:
    """Open a page at the next run, for the callback of a button.

    A run that reads a click itself can be broken off before it comes there, by one that was asked for meanwhile: the
    click is lost then.
    """
    st.session_state.going = page


def going() -> bool:
    """Whether a page is to be opened at the next run."""
    return "going" in st.session_state


def follow() -> None:
    """Open the page that a button has named; before anything of a page runs."""
    if page := st.session_state.pop("going", None):
        st.switch_page(page)


def row(pages: Sequence[Page]) -> None:
    """A link to each page, seen where Streamlit's menu at the top is not (`assets/page.css`)."""
    with st.container(horizontal=True, key="pages_row"):
        for page in pages:
            if page.visibility != "hidden":
                st.page_link(page, icon="")


def _lost(pages: Sequence[Page]) -> list[Page]:
    """The page for an address that is none of these pages', where this session has asked for one."""
    context = get_script_run_ctx()
    name = context.pages_manager.intended_page_name if context else ""
    if name in [page._url_path for page in pages if not page.url_path]:
        # The page that opens first is served at the root alone, and nothing else may have its address.
        context.pages_manager.set_script_intent("", "")
    elif name and name not in [page.url_path for page in pages]:
        st.session_state.lost_page = name
    asked = st.session_state.get("lost_page")
    if not asked:
        return []
    return [st.Page(lambda: _tell(asked, pages), title="No such page", url_path=asked, visibility="hidden")]


def _tell(asked: str, pages: Sequence[Page]) -> None:
    """Go to the page that an address names in another way; tell which one a misspelt address may mean."""
    names = {name: page for page in pages for name in _names(page)}
    word, query = unquote(asked).lower(), st.query_params.to_dict()
    if word in names:
        st.switch_page(names[word], query_params=query)
    st.title("No such page")
    found = get_close_matches(word[:LONGEST], names, 1, 0.5)
    guess = f" Did you mean {names[found[0]].title}?" if found else " These are the pages:"
    st.warning(f"There is no page “{plain.escape(unquote(asked), LONGEST)}” here.{guess}", icon=":material/link_off:")
    for page in [names[found[0]]] if found else pages:
        st.page_link(page, query_params=query)


def _names(page: Page) -> Iterator[str]:
    """What people call a page: its title, its address, its file."""
    yield from {page.title.lower(), page._url_path, Path(str(page._page)).stem}
