//! The test runner: reads a .ktest file, builds its kernel, boots it, gives each subtest a verdict.
