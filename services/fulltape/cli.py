"""The command line: one group of commands, and the one place where an error becomes a line and an exit code."""

import importlib
import sys
from collections.abc import Mapping

import click
from rich.console import Console
from rich.text import Text

from fulltape import __version__
from fulltape.errors import FulltapeError

_COMMANDS: Mapping[str, tuple[str, str]] = {
    "audit": ("fulltape.audit.cli", "audit_command"),
    "backfill": ("fulltape.warehouse.cli_backfill", "backfill_command"),
    "bench": ("fulltape.bench.cli", "bench_command"),
    "dashboard": ("fulltape.dashboard.cli", "dashboard_command"),
    "export": ("fulltape.warehouse.cli_export", "export_command"),
    "local": ("fulltape.local.cli", "local"),
    "monitor": ("fulltape.monitor.cli", "monitor_command"),
    "operator": ("fulltape_operator.cli", "operator_command"),
    "producer": ("fulltape.producer.cli", "producer_command"),
    "query": ("fulltape.warehouse.cli_queries", "query_command"),
    "run": ("fulltape.local.run", "run_command"),
    "sandbox": ("fulltape.sandbox.cli", "sandbox_command"),
    "schema": ("fulltape.feed.cli", "schema_command"),
    "sql": ("fulltape.warehouse.cli_queries", "sql_command"),
    "validate": ("fulltape.feed.cli", "validate_command"),
    "warehouse": ("fulltape.warehouse.cli", "warehouse_group"),
}


class _LazyGroup(click.Group):
    """Imports a command when it is asked for, so that no command pays for what the others need."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="fulltape")
def fulltape() -> None:
    """Every trade, exactly once, in tens of milliseconds."""


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed or a broken promise, 2 bad input, 75 fenced by a successor."""
    try:
        fulltape(prog_name="fulltape")
    except FulltapeError as problem:
        Console(stderr=True).print(Text.assemble(("error: ", "red"), str(problem)), soft_wrap=True)
        sys.exit(problem.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
