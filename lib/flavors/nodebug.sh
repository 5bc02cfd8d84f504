# shellcheck shell=bash
# As users have it: nothing that looks for mistakes. What depends on DEBUG_KERNEL goes with it. SLUB_DEBUG stays, as distributions
# have it: it sleeps until the command line asks for it, and only EXPERT, which selects DEBUG_KERNEL, lets one leave it out.
require-kernel-config DEBUG_KERNEL=n
require-kernel-config-soft DETECT_HUNG_TASK=n,SOFTLOCKUP_DETECTOR=n
