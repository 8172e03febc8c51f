#!/usr/bin/env bash
# Build the extension with AddressSanitizer and UndefinedBehaviorSanitizer below build/sanitize, and run the tests of the
# parser on it.   usage: tools/sanitize.sh PYTHON [pytest's arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1
shift
cc=${CC:-cc}
build=$PWD/build/sanitize

asan=$($cc -print-file-name=libasan.so)
ubsan=$($cc -print-file-name=libubsan.so)
if [[ $asan != /* || $ubsan != /* ]]; then
    echo "The C compiler ($cc) has no sanitizers: install gcc's libasan and libubsan (Debian, Ubuntu: apt-get install gcc)." >&2
    exit 1
fi

flags="-g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
CFLAGS="$flags" LDFLAGS="$flags" "$python" setup.py --quiet build --build-base "$build" --build-lib "$build/lib"

# Leaks are not looked for: CPython itself keeps memory to its end. Memory is taken from malloc so that each object is
# watched for itself.
export LD_PRELOAD="$asan $ubsan" PYTHONMALLOC=malloc PYTHONPATH=$build/lib
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:abort_on_error=1
"$python" -c "
import httpio._parser as parser, sys
sys.exit(0 if parser.__file__.startswith(sys.argv[1]) else f'not the sanitized extension: {parser.__file__}')" "$build"
# Only what Python writes is captured, so that a sanitizer's report is seen.
exec "$python" -m pytest --capture=sys "$@"
