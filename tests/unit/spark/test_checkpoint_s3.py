"""Spark finds S3 where everything else does, and is told no secret."""

from fulltape_spark.checkpoint_s3 import s3_settings


def test_another_server_is_reached_by_paths_as_it_has_no_name_for_each_bucket() -> None:
    found = s3_settings({"AWS_ENDPOINT_URL": "http://minio:9000", "AWS_REGION": "eu-central-1"})
    assert found["spark.hadoop.fs.s3a.endpoint"] == "http://minio:9000"
    assert found["spark.hadoop.fs.s3a.path.style.access"] == "true"
    assert found["spark.hadoop.fs.s3a.endpoint.region"] == "eu-central-1"


def test_without_one_it_is_amazons() -> None:
    assert not [name for name in s3_settings({"AWS_ENDPOINT_URL": ""}) if "endpoint" in name or "path" in name]


def test_no_credential_is_among_the_settings() -> None:
    secrets = {"AWS_ACCESS_KEY_ID": "AKIA0", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_SESSION_TOKEN": "token"}
    assert s3_settings(secrets) == s3_settings({})
