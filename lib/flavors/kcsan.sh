# shellcheck shell=bash
# Data races.
require-kernel-config KCSAN
require-kernel-config-soft KCSAN_REPORT_ONCE_IN_MS=0,KCSAN_STRICT=n
config-cpus 2
config-mem-multiplier 2
config-timeout-multiplier 4
