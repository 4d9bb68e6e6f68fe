"""Who may ask, and what is given out."""

import pytest

from fulltape.dashboard.hub import spacing_seconds
from fulltape.dashboard.page import allows_host, page_files, same_origin

NAMES = ("127.0.0.1", "localhost", "::1", "tape.example.org")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080", "tape.example.org:443"])
def test_the_servers_own_names_are_allowed(host: str) -> None:
    assert allows_host(host, NAMES)


@pytest.mark.parametrize(
    "host", ["", "evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "[", "tape.example.org.evil"]
)
def test_other_names_are_not(host: str) -> None:
    assert not allows_host(host, NAMES)


@pytest.mark.parametrize("origin", ["http://localhost:8080", "https://localhost:8080"])
def test_the_page_itself_may_connect(origin: str) -> None:
    assert same_origin(origin, "localhost:8080")


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "http://localhost",
        "http://localhost:8081",
        "http://evil.example",
        "file://localhost:8080",
        "http://[",
    ],
)
def test_other_pages_may_not(origin: str) -> None:
    assert not same_origin(origin, "localhost:8080")


def test_every_file_that_the_page_refers_to_is_given_out() -> None:
    files = page_files()
    assert files["/"] == files["/index.html"]
    page = files["/"].body.decode()
    for path in ("/app.css", "/app.js", "/icon.svg", "/vendor/LICENSE.txt", "/vendor/NOTICE.txt"):
        assert f'"{path}"' in page
        assert files[path].body
    assert files["/app.js"].kind == "text/javascript"
    assert files["/vendor/lightweight-charts.mjs"].kind == "text/javascript"


def test_the_page_holds_no_inline_script_or_style() -> None:
    page = page_files()["/"].body.decode()
    assert "<style" not in page
    assert "style=" not in page
    assert " on" + "click=" not in page
    assert page.count("<script") == page.count('<script type="module" src=')


def test_the_attribution_that_the_charts_licence_asks_for_is_on_the_page() -> None:
    page = page_files()["/"].body.decode()
    assert 'href="https://www.tradingview.com/"' in page
    assert "TradingView Lightweight Charts" in page


def test_frames_come_faster_than_a_screen_for_few_and_leave_room_for_many() -> None:
    assert spacing_seconds(1) < 1 / 60
    assert 0.03 < spacing_seconds(500) < 0.1
