# shellcheck shell=bash
# Coverage of the directories in $ktest_gcov_dirs (such as fs/ext4+mm; default: fs), saved in gcov.N.
IFS=+ read -ra _ktest_names <<<"${ktest_gcov_dirs:-fs}"
for _ktest_name in "${_ktest_names[@]}"; do require-gcov "$_ktest_name"; done
config-timeout-multiplier 2
