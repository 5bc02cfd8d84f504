//! Kernel crashes by name: from console lines to the title, cause and report.
