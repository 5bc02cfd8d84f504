# shellcheck shell=bash
# A kernel without debugging, as in production. Options that depend on DEBUG_KERNEL are off too. SLUB_DEBUG stays, as in
# distributions: it is inactive unless the command line enables it, and disabling it takes EXPERT, which selects
# DEBUG_KERNEL.
require-kernel-config DEBUG_KERNEL=n
require-kernel-config-soft DETECT_HUNG_TASK=n,SOFTLOCKUP_DETECTOR=n
