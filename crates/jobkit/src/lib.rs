//! A scheduler of jobs onto executors: batches, weighted fair share, executor health.
