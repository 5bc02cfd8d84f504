# shellcheck shell=bash
# The shell library of test files. A file sources it first: . "${BASH_SOURCE%/*}/../test-libs.sh", with one .. for each
# directory between it and tests/.

_ktest_libs=${BASH_SOURCE[0]%/*}
# shellcheck source=prelude.sh
. "$_ktest_libs/prelude.sh"
# shellcheck source=../lib/common.sh
. "$_ktest_libs/../lib/common.sh"
# shellcheck source=../lib/ktap.sh
. "$_ktest_libs/../lib/ktap.sh"
