"""What a run needs of the machine is checked, and what is missing is said with the mend."""

import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from fulltape.local.kafka import free_port
from fulltape.local.surroundings import (
    available_memory_mib,
    check_memory,
    check_packages,
    check_page_port,
    check_room,
    exchange_answers,
    has_desktop,
)


def test_a_package_that_is_missing_is_named_with_what_needs_it() -> None:
    check_packages({"json": "nothing"})
    with pytest.raises(ConfigurationError, match=r"analytics needs the Python package no_such_package.*make setup"):
        check_packages({"no_such_package": "analytics"})


def test_a_full_disk_is_said_also_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there" / "yet"
    check_room(folder, 1, "the tape")
    with pytest.raises(ConfigurationError, match=rf"disk that holds {folder} has [\d,]+ MiB left, and the tape needs"):
        check_room(folder, 2**40, "the tape")


def test_too_little_memory_is_said_and_an_unknown_amount_is_enough() -> None:
    check_memory(2000, 2000)
    check_memory(2000, None)
    with pytest.raises(ConfigurationError, match=r"1,999 MiB of memory are available .* needs about 2,000"):
        check_memory(2000, 1999)


def test_this_machine_says_how_much_memory_it_has() -> None:
    available = available_memory_mib()
    assert available is not None
    assert 64 < available < 2**30


def test_a_page_port_in_use_is_said_with_the_option_that_mends_it() -> None:
    port = free_port()
    check_page_port(port)
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ConfigurationError, match=rf"port {port} .* is in use .* --port"),
    ):
        check_page_port(port)


@contextmanager
def server(status: int) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/api/time" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, args=(0.01,)).start()
        yield f"http://127.0.0.1:{serving.server_port}/api"
        serving.shutdown()


@pytest.mark.parametrize(("status", "answers"), [(200, True), (403, False), (451, False), (500, False)])
def test_an_exchange_that_turns_this_machine_away_is_as_good_as_none(status: int, *, answers: bool) -> None:
    with server(status) as url:
        assert exchange_answers(url) is answers


def test_an_exchange_that_nobody_serves_does_not_answer() -> None:
    assert not exchange_answers(f"http://127.0.0.1:{free_port()}")
    assert not exchange_answers("https://exchange.invalid")


@pytest.mark.parametrize(
    ("environment", "platform", "desktop"),
    [
        ({}, "linux", False),
        ({"DISPLAY": ":0"}, "linux", True),
        ({"WAYLAND_DISPLAY": "wayland-0"}, "linux", True),
        ({}, "darwin", True),
        ({"DISPLAY": ":0", "SSH_CONNECTION": "1 2 3 4"}, "linux", False),
        ({"SSH_CONNECTION": "1 2 3 4"}, "darwin", False),
    ],
)
def test_a_browser_opens_only_where_somebody_sees_it(
    environment: dict[str, str], platform: str, *, desktop: bool
) -> None:
    assert has_desktop(environment, platform) is desktop
