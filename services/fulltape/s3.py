"""Where S3 is, for whoever reads or writes it. Credentials every client finds by itself, as Amazon's own do."""

from collections.abc import Mapping

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL"
"""Environment variable with the address of an S3 server other than Amazon's."""

REGION_VARIABLE = "AWS_REGION"
"""Environment variable with the region; what Amazon's older clients read in its place counts too."""


def s3_endpoint(environment: Mapping[str, str]) -> str | None:
    """Return the address of an S3 server other than Amazon's."""
    return environment.get(ENDPOINT_VARIABLE) or None


def s3_region(environment: Mapping[str, str]) -> str | None:
    """Return the region, where the environment names one."""
    return environment.get(REGION_VARIABLE) or environment.get("AWS_DEFAULT_REGION") or None
