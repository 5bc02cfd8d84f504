# shellcheck shell=bash
# Coverage of the folders in $ktest_gcov_dirs (fs, if nothing is said), left in gcov.N.
for _ktest_name in ${ktest_gcov_dirs:-fs}; do require-gcov "$_ktest_name"; done
config-timeout-multiplier 2
