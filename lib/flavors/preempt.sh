# shellcheck shell=bash
# A kernel that is preempted wherever it can be.
require-kernel-config PREEMPT,DEBUG_PREEMPT
require-kernel-config-soft PREEMPT_RCU
config-cpus 2
