# shellcheck shell=bash
# Lock order, sleeping in atomic context, RCU. (DEBUG_PREEMPT needs a preemptible kernel: flavor preempt.)
require-kernel-config PROVE_LOCKING,DEBUG_ATOMIC_SLEEP,DEBUG_LOCK_ALLOC
require-kernel-config-soft PROVE_RCU,DEBUG_LIST
config-timeout-multiplier 2
