"""The stand-in's translation: it takes Redshift's own words away and leaves the rest, strings above all, as it is."""

import pytest

from tests.redshift.dialect import Copy, as_copy, statements, to_postgres


@pytest.mark.parametrize(
    ("redshift", "postgres"),
    [
        (
            (
                "CREATE TABLE t (a BIGINT NOT NULL ENCODE AZ64, PRIMARY KEY (a)) DISTSTYLE KEY DISTKEY (a) "
                "COMPOUND SORTKEY (a)"
            ),
            "CREATE TABLE t (a BIGINT NOT NULL )",
        ),
        (
            "CREATE MATERIALIZED VIEW v BACKUP YES AUTO REFRESH YES AS SELECT 1",
            "CREATE MATERIALIZED VIEW v AS SELECT 1",
        ),
        ("SELECT 'ENCODE AZ64 -- ''SUPER'''", "SELECT 'ENCODE AZ64 -- ''SUPER'''"),
        ("DELETE FROM t USING s WHERE t.a = s.a", "DELETE FROM t USING s WHERE t.a = s.a"),
    ],
)
def test_statements_are_translated(redshift: str, postgres: str) -> None:
    assert to_postgres(redshift).split() == postgres.split()


def test_a_copy_is_read_and_a_copy_of_another_form_is_refused() -> None:
    sql = "COPY t FROM 's3://b/x''y' IAM_ROLE 'arn' FORMAT AS PARQUET MANIFEST"
    assert as_copy(sql) == Copy("t", (), "s3://b/x'y", "arn")
    assert isinstance(as_copy(sql + " GZIP"), str)
    assert isinstance(as_copy("COPY t FROM 's3://b/x' FORMAT AS PARQUET MANIFEST"), str)
    assert as_copy("SELECT 1") is None


def test_a_script_is_split_without_its_comments() -> None:
    assert [part.strip() for part in statements("-- a; b\nSELECT 1;\nSELECT 2; -- c\n")] == ["SELECT 1", "SELECT 2"]
