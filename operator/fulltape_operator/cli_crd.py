"""The command that prints the CustomResourceDefinition: ``fulltape crd``."""

import click

from fulltape_operator.crd import crd_yaml


@click.command("crd")
def crd_command() -> None:
    """Print the CustomResourceDefinition of CryptoFeeds, as YAML: fulltape crd | kubectl apply --server-side -f -."""
    click.echo(crd_yaml(), nl=False)
