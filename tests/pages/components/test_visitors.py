"""Who a visitor is, who is let in, and that a crafted request costs no more than one of the page's own."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import streamlit as st
from paretoscope.service.jobs import Job
from paretoscope.service.limits import Limits
from paretoscope.service.timing import Timing
from streamlit import config, net_util
from streamlit.testing.v1 import AppTest
from streamlit.web.server.server_util import is_url_from_allowed_origins
from streamlit.web.server.starlette.starlette_app_utils import generate_xsrf_token_string
from streamlit.web.server.starlette.starlette_websocket import is_host_allowed

from pages.components import plain, state, visitors

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
AUTH = """
[auth]
redirect_uri = "http://localhost:8501/oauth2callback"
cookie_secret = "for a test"
"""
ONE = 'client_id = "a"\nclient_secret = "b"\nserver_metadata_url = "https://id.example.org/.well-known"\n'


@pytest.fixture
def with_secrets(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """A function that gives the dashboard this secrets file."""

    path, before = tmp_path / "secrets.toml", config.get_option("secrets.files")

    def give(text: str) -> None:
        path.write_text(text)
        st.secrets._reset()

    config.set_option("secrets.files", [str(path)])
    yield give
    config.set_option("secrets.files", before)
    st.secrets._reset()


def opened(file: str = "app.py") -> AppTest:
    page = AppTest.from_file(str(ROOT / file), default_timeout=60).run()
    assert not page.exception
    return page


@pytest.mark.parametrize("file", ["app.py", *(f"pages/{path.name}" for path in sorted(ROOT.glob("pages/[!_]*.py")))])
def test_where_a_login_is_configured_nothing_else_is_shown_before_it(file: str, with_secrets) -> None:
    with_secrets(AUTH + ONE)
    page = opened(file)
    assert [button.label for button in page.button] == ["Log in"]
    assert [title.value for title in page.title] == ["Paretoscope"]
    assert "view" not in page.session_state and not page.sidebar.children


def test_every_provider_has_its_button_and_what_is_missing_is_told(with_secrets) -> None:
    with_secrets(AUTH + "[auth.okta]\n" + ONE + "[auth.google]\n" + ONE)
    page = opened()
    assert [button.label for button in page.button] == ["Log in with okta", "Log in with google"]
    with_secrets(AUTH)  # without a client
    page = opened()
    page.button(key="login_None").click().run()
    (told,) = [error.value for error in page.error]
    assert (
        told.startswith(plain.escape("A login needs Authlib and all keys of [auth] on this server; "))
        and "Traceback" not in told
    )
    assert plain.escape(visitors.LOGIN_REQUIREMENT) in told
    extras = (ROOT / "requirements-extras.txt").read_text().splitlines()
    assert set(visitors.LOGIN_REQUIREMENT.removeprefix("pip install ").split()) <= set(extras)


def test_secrets_that_cannot_be_read_are_no_open_door(with_secrets) -> None:
    with_secrets("[auth")
    page = opened()
    assert any("must be a readable TOML file" in error.value for error in page.error)
    assert not page.button and "view" not in page.session_state


def test_secrets_without_a_login_change_nothing(with_secrets) -> None:
    with_secrets('other = "value"')
    page = opened()
    assert "view" in page.session_state and not any(button.key == "logout" for button in page.button)


def test_a_reload_is_the_same_visitor_and_another_browser_is_another() -> None:
    first, again = (generate_xsrf_token_string(bytes(range(16)), 5) for _ in range(2))
    assert first != again
    assert visitors._token(first) == visitors._token(again) == bytes(range(16)).hex()
    assert visitors._token(generate_xsrf_token_string(bytes(16), 5)) != visitors._token(first)
    for damaged in ("", "2", "2|zz|00|1", "2||0011|1", "a|b|c|d|e"):
        assert visitors._token(damaged) == ""


def test_settings_that_are_no_limits_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARETOSCOPE_MAX_QUEUE", "many")
    (told,) = [error.value for error in opened().error]
    assert told.startswith(
        plain.escape("This server is not set up: PARETOSCOPE_MAX_QUEUE must be a number of at least 1")
    )


def test_a_job_above_the_limits_is_told_on_the_page_and_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = state.workbench()
    monkeypatch.setattr(bench, "limits", Limits(batch=4))
    refused = state.follow("time", "key", lambda: bench.time("lenet-300-100", state.View().recipe, Timing(batch=8)))
    assert refused.error == "the batch of a timing must be at most 4 on this server; got 8. Choose a smaller one."
    monkeypatch.setattr(bench, "limits", Limits())
    there = Job.refused("there", "")
    there.was_refused = False
    assert state.follow("time", "key", lambda: there) is there
    state.stop("time")


def test_names_of_others_are_refused_and_ours_are_not() -> None:
    config.get_config_options(force_reparse=True)
    for host in ("localhost:8501", "127.0.0.1:8501", "127.0.0.1", "[::1]:8501", "LOCALHOST."):
        assert is_host_allowed(host), host
    for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8501", None, ""):
        assert not is_host_allowed(host), host
    assert config.get_option("client.showErrorDetails") == "none"
    assert config.get_option("server.enableCORS") and config.get_option("server.enableXsrfProtection")
    assert not config.get_option("browser.gatherUsageStats") and not config.get_option("server.enableAgentApi")


def test_a_foreign_origin_is_refused_without_asking_anyone_for_our_address(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(net_util, "_external_ip", None)
    monkeypatch.setattr(net_util, "_make_blocking_http_get", lambda address, **_: asked.append(address))
    assert not is_url_from_allowed_origins("http://evil.example") and asked
    asked.clear()
    visitors.stay_home()
    assert not is_url_from_allowed_origins("http://evil.example") and not asked
