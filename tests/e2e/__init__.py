"""Tests of the whole: Fulltape by Helm on a cluster whose pods run."""
