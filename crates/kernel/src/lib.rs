//! Kernels: configuration from requirements, flavors, incremental sandboxed builds, the kernel store.
