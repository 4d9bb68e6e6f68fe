"""The command line: every command loads, and an error is one line and its exit code, never a traceback."""

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from fulltape import cli
from fulltape.commands import LazyGroup
from fulltape.errors import ConfigurationError, FencedError, FulltapeError


@pytest.mark.parametrize("name", cli.fulltape.list_commands(click.Context(cli.fulltape)))
def test_every_command_loads_and_explains_itself(name: str) -> None:
    result = CliRunner().invoke(cli.fulltape, [name, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output
    assert "not installed" not in result.output


def test_where_tools_of_development_are_absent_a_running_feed_can_be_measured_and_the_rest_says_what_it_needs() -> None:
    absent = "import sys; sys.modules['playwright'] = None; from fulltape.cli import main; main()"

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", absent, "bench", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("feed", "--help").returncode == 0
    assert "needs the Python package playwright" in run("--help").stdout
    refused = run("live", "--quick")
    assert refused.returncode == 2
    assert refused.stderr == "error: `live` needs the Python package playwright, which is not installed here\n"


def test_a_module_of_our_own_that_is_absent_is_no_lack_of_the_users() -> None:
    group = LazyGroup("group", elsewhere={"command": ("fulltape.absent", "command")})
    with pytest.raises(ModuleNotFoundError):
        group.get_command(click.Context(group), "command")


@pytest.mark.parametrize(
    ("error", "code"), [(FulltapeError("x"), 1), (ConfigurationError("x"), 2), (FencedError("x"), 75)]
)
def test_an_errors_exit_code_is_its_kinds(
    error: FulltapeError, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "fulltape", fail)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == code
    assert capsys.readouterr().err == "error: x\n"


def test_what_an_error_quotes_is_not_taken_for_markup(tmp_path: Path) -> None:
    feed = tmp_path / "feed[b].yaml"
    feed.write_text("kind: [matches]\n")
    ended = subprocess.run(
        [sys.executable, "-m", "fulltape.cli", "validate", str(feed)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "feed[b].yaml:1" in ended.stderr + ended.stdout
    assert "Traceback" not in ended.stderr
