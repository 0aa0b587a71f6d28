#!/bin/sh
# C hosts of tests/c under a sanitizer of LLVM's: sanitize.sh address|thread PROGRAM[:ARGUMENT,ARGUMENT]...
#
# address: AddressSanitizer with its leak check, and the hosts under UndefinedBehaviorSanitizer too.
# thread:  ThreadSanitizer; what it is told to pass over is in tests/c/thread_sanitizer.supp.
#
# The library is built as an instrumented static library, on the stable compiler. Rust's standard library
# and ONNX Runtime are not instrumented.
set -eu
cd "$(dirname "$0")/.."
sanitizer=$1
shift
host=$(rustc -vV | sed -n 's/^host: //p')
folder=${CARGO_TARGET_DIR:-target}/sanitize/$sanitizer
library=$folder/$host/debug/libddpm.a
flags=-Zsanitizer=$sanitizer
runtime=
case $sanitizer in
address)
    compile=-fsanitize=address,undefined
    # The C compiler's runtime does: both know only the one way to see an address.
    link="$compile -fno-sanitize-recover=undefined"
    ;;
thread)
    # The standard library has no part in what is hidden from it here: it is not instrumented at all.
    flags="$flags -Cunsafe-allow-abi-mismatch=sanitizer"
    compile=-fsanitize=thread
    link=
    # The runtime that the Rust compiler's calls are for.
    runtime=$(find "$(rustc --print sysroot)/lib/rustlib/$host/lib" -name '*rt.tsan.a')
    runtime="-Wl,--whole-archive $runtime -Wl,--no-whole-archive"
    export TSAN_OPTIONS="suppressions=$PWD/tests/c/thread_sanitizer.supp ${TSAN_OPTIONS:-}"
    ;;
*)
    echo "sanitize.sh: found $sanitizer, expected address or thread" >&2
    exit 2
    ;;
esac
RUSTC_BOOTSTRAP=1 RUSTFLAGS=$flags ${CARGO:-cargo} rustc -p ddpm --lib --crate-type staticlib \
    --no-default-features --target "$host" --target-dir "$folder"
mkdir -p "$folder/hosts"

# shellcheck disable=SC2086 # flags and arguments are lists
for test in "$@"; do
    name=${test%%:*}
    arguments=$(echo "$test" | sed -n 's/^[^:]*://p' | tr , ' ')
    if [ "$arguments" = FOLDER ]; then
        # One that is not there.
        arguments=$folder/scratch
        rm -rf "$folder/scratch"
    fi
    program=$folder/hosts/$name
    ${CC:-cc} -g -O1 -std=c99 $compile -Iinclude -Itests/c -c "tests/c/$name.c" -o "$program.o"
    ${CC:-cc} $link "$program.o" -o "$program" "$library" $runtime -lgcc_s -lutil -lrt -lpthread -ldl -lm
    echo "$sanitizer: $name"
    "$program" tests/models $arguments
done
echo "$sanitizer: no errors"
