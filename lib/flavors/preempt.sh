# shellcheck shell=bash
# Full preemption.
require-kernel-config PREEMPT,DEBUG_PREEMPT
require-kernel-config-soft PREEMPT_RCU
config-cpus 2
