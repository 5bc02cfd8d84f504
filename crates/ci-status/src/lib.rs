//! The command line over the results.
