"""The results table: one declared schema, parquet parts that change whole, one row a run, resume by ``run_id``."""

from dd.results.schema import CURVES_SCHEMA, runs_schema
from dd.results.store import Store

__all__ = ["CURVES_SCHEMA", "Store", "runs_schema"]
