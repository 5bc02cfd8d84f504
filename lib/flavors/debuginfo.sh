# shellcheck shell=bash
# Debug information: crash reports show file and line, and inlined functions. The code is the same.
require-kernel-config DEBUG_INFO,DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT
require-kernel-config-soft DEBUG_INFO_NONE=n,DEBUG_INFO_REDUCED=n,DEBUG_INFO_SPLIT=n
