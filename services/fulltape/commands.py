"""A group of commands whose modules are imported when they are asked for, so that none pays for what others need."""

import importlib
from collections.abc import Mapping
from typing import Any

import click

from fulltape.errors import ConfigurationError


class LazyGroup(click.Group):
    """A group of its own commands and of those in ``elsewhere``: module and attribute by the command's name."""

    def __init__(self, *args: Any, elsewhere: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._elsewhere = elsewhere

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        return sorted({*super().list_commands(ctx), *self._elsewhere})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command by its name."""
        if cmd_name not in self._elsewhere:
            return super().get_command(ctx, cmd_name)
        module, name = self._elsewhere[cmd_name]
        try:
            command = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            package = str(error.name).partition(".")[0]
            if package == module.partition(".")[0]:  # a fault of ours, which nobody can install
                raise
            return _unavailable(cmd_name, package)
        assert isinstance(command, click.Command)
        return command


def _unavailable(name: str, package: str) -> click.Command:
    """Return a command that says what it lacks: images have only the packages that programs in them need."""
    lack = f"needs the Python package {package}, which is not installed here"

    def refuse(**_: Any) -> None:
        raise ConfigurationError(f"`{name}` {lack}")

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, context_settings=anything, callback=refuse, help=f"({lack})")
