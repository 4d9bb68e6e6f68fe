"""The command line: one group of commands, and the one place where an error becomes a line and an exit code."""

import sys
from collections.abc import Mapping

import click
from rich.console import Console
from rich.text import Text

from fulltape import __version__
from fulltape.commands import LazyGroup
from fulltape.errors import FulltapeError

_COMMANDS: Mapping[str, tuple[str, str]] = {
    "audit": ("fulltape.audit.cli", "audit_command"),
    "backfill": ("fulltape.warehouse.cli_backfill", "backfill_command"),
    "bench": ("fulltape.bench.cli", "bench_command"),
    "crd": ("fulltape_operator.cli_crd", "crd_command"),
    "dashboard": ("fulltape.dashboard.cli", "dashboard_command"),
    "diff": ("fulltape_operator.cli_render", "diff_command"),
    "export": ("fulltape.warehouse.cli_export", "export_command"),
    "local": ("fulltape.local.cli", "local"),
    "monitor": ("fulltape.monitor.cli", "monitor_command"),
    "operator": ("fulltape_operator.cli", "operator_command"),
    "producer": ("fulltape.producer.cli", "producer_command"),
    "query": ("fulltape.warehouse.cli_queries", "query_command"),
    "render": ("fulltape_operator.cli_render", "render_command"),
    "run": ("fulltape.local.run", "run_command"),
    "sandbox": ("fulltape.sandbox.cli", "sandbox_command"),
    "schema": ("fulltape.feed.cli", "schema_command"),
    "sql": ("fulltape.warehouse.cli_queries", "sql_command"),
    "status": ("fulltape_operator.cli_status", "status_command"),
    "topics": ("fulltape.cli_topics", "topics_group"),
    "validate": ("fulltape.feed.cli", "validate_command"),
    "warehouse": ("fulltape.warehouse.cli", "warehouse_group"),
}


@click.group(cls=LazyGroup, elsewhere=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
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
