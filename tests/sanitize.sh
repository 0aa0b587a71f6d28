#!/bin/sh
# The C hosts in tests/c under AddressSanitizer with its leak check, and the hosts themselves under
# UndefinedBehaviorSanitizer: sanitize.sh PROGRAM[:ARGUMENT,ARGUMENT]...
#
# The library is built as an instrumented static library, on the stable compiler, and linked with the C
# compiler's runtime. Rust's standard library and ONNX Runtime are not instrumented.
set -eu
cd "$(dirname "$0")/.."
host=$(rustc -vV | sed -n 's/^host: //p')
folder=${CARGO_TARGET_DIR:-target}/sanitize/address
RUSTC_BOOTSTRAP=1 RUSTFLAGS="-Zsanitizer=address" ${CARGO:-cargo} rustc -p ddpm --lib \
    --crate-type staticlib --no-default-features --target "$host" --target-dir "$folder"
mkdir -p "$folder/hosts"

for test in "$@"; do
    name=${test%%:*}
    arguments=$(echo "$test" | sed -n 's/^[^:]*://p' | tr , ' ')
    ${CC:-cc} -g -O1 -std=c99 -fsanitize=address,undefined -fno-sanitize-recover=undefined \
        -Iinclude -Itests/c "tests/c/$name.c" -o "$folder/hosts/$name" \
        "$folder/$host/debug/libddpm.a" -lgcc_s -lutil -lrt -lpthread -ldl -lm
    echo "address: $name"
    # shellcheck disable=SC2086 # arguments are a list
    "$folder/hosts/$name" tests/models $arguments
done
echo "address: no errors"
