"""Where bytes live: artifact keys, atomic publication, Zarr volumes and Parquet tables. Knows no models."""
