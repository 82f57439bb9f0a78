import os
import socket
import tempfile
from pathlib import Path

from paretoscope.base import cache
from paretoscope.base import lock as exclusive
from paretoscope.service import store
from serving import reserved_port


def test_a_run_has_a_store_a_lock_and_caches_of_its_own():
    own = Path(os.environ["XDG_CACHE_HOME"])
    assert own.parent == Path(tempfile.gettempdir()) and own.name.startswith("paretoscope-")
    places = [store.default_path(), cache.folder(), exclusive.folder(), Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])]
    assert all(own in (place, *place.parents) for place in places)


def test_a_reserved_port_is_given_to_nobody_else_but_can_be_listened_on():
    with reserved_port() as port:
        others = set()
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(200)]
        for each in sockets:
            others.add(each.getsockname()[1])
            each.close()
        assert port not in others
        with socket.create_server(("127.0.0.1", port)) as server, socket.create_connection(("127.0.0.1", port)) as one:
            assert server.accept()[1] == one.getsockname()
