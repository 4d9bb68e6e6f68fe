"""The Spark applications: panes (`fulltape_spark.panes`); the archive is to come."""
