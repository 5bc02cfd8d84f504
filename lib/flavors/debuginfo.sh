# shellcheck shell=bash
# The kernel knows its source lines: crash reports show file and line, and functions that were inlined. Its code is the same.
require-kernel-config DEBUG_INFO,DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT
require-kernel-config-soft DEBUG_INFO_NONE=n,DEBUG_INFO_REDUCED=n,DEBUG_INFO_SPLIT=n
