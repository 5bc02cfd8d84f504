# shellcheck shell=bash
# Undefined behavior.
require-kernel-config UBSAN
require-kernel-config-soft UBSAN_BOUNDS,UBSAN_SHIFT,UBSAN_BOOL,UBSAN_ENUM,UBSAN_DIV_ZERO
config-timeout-multiplier 2
