//! Kernel crashes by name: from console lines to the crash's title, cause and report.
