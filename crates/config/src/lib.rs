//! The farm's configuration: read from TOML or JSON5, validated, with errors that name file, line and the nearest valid name.
