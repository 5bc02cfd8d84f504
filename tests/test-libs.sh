# shellcheck shell=bash
# What a test file reads first: . "${BASH_SOURCE%/*}/../test-libs.sh", with as many .. as it is folders deep.

_ktest_libs=${BASH_SOURCE[0]%/*}
# shellcheck source=prelude.sh
. "$_ktest_libs/prelude.sh"
# shellcheck source=../lib/common.sh
. "$_ktest_libs/../lib/common.sh"
# shellcheck source=../lib/ktap.sh
. "$_ktest_libs/../lib/ktap.sh"
