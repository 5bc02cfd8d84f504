# shellcheck shell=bash
# A kernel that is preempted wherever it can be.
require-kernel-config PREEMPT
require-kernel-config-soft PREEMPT_RCU,DEBUG_PREEMPT
config-cpus 2
