# shellcheck shell=bash
# As users have it: nothing that looks for mistakes.
require-kernel-config-soft DEBUG_KERNEL=n,DEBUG_INFO_NONE,SLUB_DEBUG=n
