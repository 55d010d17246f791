"""Analysis: reads the parquet tables and draws them. It never imports dd."""
