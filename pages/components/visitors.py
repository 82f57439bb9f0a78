"""Who uses the dashboard, and whether they may.

A visitor is who has logged in, where a login is configured; otherwise a browser, whose tabs and reloads are one visitor
until it is closed (Streamlit's XSRF cookie tells it); where there is no cookie, a session. A visitor is there while
one of its sessions is connected. Importing this loads nothing that is large: it runs at the door.
"""

import hashlib
import threading
from collections.abc import Callable, Iterator

import streamlit as st
from paretoscope.base.recent import Recent
from paretoscope.service.limits import LimitError, Limits, paths
from streamlit import config, net_util
from streamlit.errors import StreamlitAuthError, StreamlitSecretNotFoundError
from streamlit.runtime import exists, get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from pages.components import plain

COOKIE = "_streamlit_xsrf"
# Two lines of requirements-extras.txt, which an installed dashboard has not beside it.
LOGIN_REQUIREMENT = "pip install Authlib==1.9.10 httpx==0.28.1"
# Visitors that a process remembers, and sessions of each: whether one is connected decides how long a training goes on.
VISITORS, SESSIONS = 10_000, 100


@st.cache_resource(show_spinner=False)
def _sessions() -> tuple[threading.Lock, Recent[str, Recent[str, None]]]:
    """The last sessions of the last visitors of this process, and the lock that they are read and changed under."""
    return threading.Lock(), Recent(VISITORS)


def session() -> str:
    """The id of this session."""
    context = get_script_run_ctx()
    return "" if context is None else context.session_id


def name() -> str:
    """Who this visitor is: a digest, which tells nobody anything."""
    if "visitor" not in st.session_state:
        st.session_state.visitor = hashlib.sha256(_identity().encode()).hexdigest()[:16]
    visitor, (lock, sessions) = st.session_state.visitor, _sessions()
    with lock:
        if visitor not in sessions:
            sessions[visitor] = Recent(SESSIONS)
        sessions[visitor][session()] = None
    return visitor


def _identity() -> str:
    if configured() and _logged_in():
        return f"login {st.user.get('iss')} {st.user.get('sub') or st.user.get('email')}"
    token = _token(st.context.cookies.get(COOKIE, ""))
    return f"browser {token}" if token else f"session {session()}"


def _token(cookie: str) -> str:
    """What stays of the cookie, "version|mask|masked token|time", whose mask is drawn anew with every page."""
    try:
        _, mask, masked, _ = cookie.split("|")
        key, text = bytes.fromhex(mask), bytes.fromhex(masked)
        return bytes(byte ^ key[at % len(key)] for at, byte in enumerate(text)).hex()
    except (ValueError, ZeroDivisionError):
        return ""


def presence() -> Callable[[str], bool]:
    """Whether one of a visitor's sessions is connected, as a function that jobs ask from their threads."""
    lock, sessions = _sessions()

    def present(visitor: str) -> bool:
        if not exists():  # in a test of a page, which has no server
            return True
        with lock:
            known = list(sessions.get(visitor, ()))
        # One that has lost its connection comes back under its own id, so it is kept.
        return any(map(get_instance().is_active_session, known))

    return present


def stay_home() -> None:
    """Keep Streamlit from asking a server of others for this machine's address, as it does for a foreign origin."""
    if net_util._external_ip is None:
        net_util._external_ip = ""


def own_machine() -> bool:
    """Whether this server answers browsers of its own machine alone: it listens there, allows no other host's name and
    no other origin, and asks for no login. Whoever serves others has to change one of these.
    """
    home = ("localhost", "127.0.0.1", "::1")
    return (
        config.get_option("server.address") in home
        and set(config.get_option("server.allowedHosts") or ("*",)) <= set(home)
        and config.get_option("browser.serverAddress") in home
        and bool(config.get_option("server.enableCORS"))
        and not config.get_option("server.corsAllowedOrigins")
        and not configured()
    )


def configured() -> bool:
    """Whether this server asks for a login: where its secrets have [auth]. Raises StreamlitSecretNotFoundError."""
    try:
        return "auth" in st.secrets
    except StreamlitSecretNotFoundError as error:
        # No file is no login; one that cannot be read must not be an open door.
        if error.error_id == "no-secrets-found":
            return False
        raise


def _logged_in() -> bool:
    return bool(getattr(st.user, "is_logged_in", False))


def let_in() -> None:
    """Go on where there is no login, or the visitor has logged in; otherwise show how to, and end the page there.

    Each page asks, not the door alone: the first address that a server is asked for may open a page past the door.
    """
    try:
        if not configured() or _logged_in():
            return
    except StreamlitSecretNotFoundError:
        st.error("The secrets of this server must be a readable TOML file; they are not. Ask whoever runs it.")
        st.stop()
    st.title("Paretoscope")
    st.markdown("This server asks who you are.")
    for provider in _providers():
        label = "Log in" if provider is None else f"Log in with {plain.escape(provider)}"
        st.button(label, key=f"login_{provider}", type="primary", on_click=_login, args=(provider,))
    if problem := st.session_state.pop("login_error", None):
        st.error(plain.escape(problem))
    st.stop()


def _providers() -> Iterator[str | None]:
    auth = st.secrets["auth"]
    named = [key for key, value in auth.items() if hasattr(value, "items")]
    yield from named or [None]


def _login(provider: str | None) -> None:
    try:
        st.login(provider)
    except StreamlitAuthError as error:
        told = "Authlib is not installed" if "Authlib" in str(error) else "[auth] in its secrets is not complete"
        st.session_state.login_error = (
            f"A login needs Authlib and all keys of [auth] on this server; {told}. Whoever runs it: "
            f"{LOGIN_REQUIREMENT}, and see Streamlit's st.login for the keys."
        )


def check_settings() -> None:
    """Show what is wrong with the settings of whoever runs the server, and end the page there."""
    try:
        Limits.from_environment()
        paths(own_machine=False)
    except LimitError as error:
        st.error(f"This server is not set up: {plain.escape(error)}")
        st.stop()


def leave() -> None:
    """Who is logged in, and the button that ends it; nothing without a login."""
    if configured() and _logged_in():
        told = st.user.get("name") or st.user.get("email") or "Logged in"
        st.sidebar.button(
            "Log out", key="logout", icon=":material/logout:", help=plain.escape(told, 80), on_click=st.logout
        )
