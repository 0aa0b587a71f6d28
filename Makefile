# The one task runner; `make help` lists what there is. Linux and macOS (GNU make 3.81 or newer).

CARGO ?= cargo
PYTHON ?= python3
# What `make demo` reveals, where the pictures go, and options of the example (--even --seed 8 ...).
MODEL ?= assets/portraits.onnx
OUT ?= out
DEMO_OPTIONS ?= --even
# Options for `make fetch-cuda`: --wheels DIR, --nvidia-from SITE-PACKAGES.
CUDA_OPTIONS ?=
# Options for `cargo test`, --release for one.
TEST_OPTIONS ?=

TARGET := $(or $(CARGO_TARGET_DIR),target)
RELEASE := $(TARGET)/release
HOSTS := $(TARGET)/hosts

WARNINGS := -pedantic-errors -Wall -Wextra -Wconversion -Wsign-conversion -Wshadow -Wundef -Wcast-qual -Werror
C_WARNINGS := $(WARNINGS) -Wstrict-prototypes -Wmissing-prototypes
CPP_WARNINGS := $(WARNINGS) -Wnon-virtual-dtor -Woverloaded-virtual
INCLUDES := -Iinclude -Ibindings/cpp -Itests/c
LINK := -L$(RELEASE) -lddpm -Wl,-rpath,$(abspath $(RELEASE)) -lpthread -ldl -lm
HELPERS := examples/common/film.c examples/common/frame_clock.c examples/common/png.c

.PHONY: help demo test test-gpu check format lint hosts header doc deny loom bench soak sanitize valgrind fetch fetch-cuda clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

demo: fetch ## build everything and watch a picture appear; names the pictures it wrote
	$(CARGO) build --release -p ddpm
	@mkdir -p $(HOSTS)
	$(CC) -std=c99 -O2 $(C_WARNINGS) $(INCLUDES) examples/reveal.c $(HELPERS) -o $(HOSTS)/reveal $(LINK)
	$(HOSTS)/reveal $(MODEL) --out $(OUT) $(DEMO_OPTIONS)

test: fetch ## all tests: the crates, and C and C++ hosts of the library
	$(CARGO) test --workspace $(TEST_OPTIONS)

test-gpu: fetch ## training on a GPU (Vulkan, Metal or DirectX 12) beside the CPU; a software driver will do
	$(CARGO) test -p ddpm-train --features wgpu --test gpu $(TEST_OPTIONS)

check: lint hosts doc deny test ## what has to pass before a push

fetch: ## put the pinned ONNX Runtime into the user's cache
	@$(PYTHON) .ci/fetch_onnxruntime.py

fetch-cuda: ## put the pinned ONNX Runtime with CUDA, and the NVIDIA libraries it needs (2.3 GB), there
	@$(PYTHON) .ci/fetch_cuda.py $(CUDA_OPTIONS)

format: ## whether every Rust file is as rustfmt leaves it
	$(CARGO) fmt --all -- --check

lint: format ## formatting, and clippy with warnings as errors
	$(CARGO) clippy --workspace --all-targets -- -D warnings

hosts: ## the header, C and C++ sources under every standard they promise, warnings are errors
	@set -e; for source in examples/*.c examples/common/*.c tests/c/*.c tests/cuda/*.c; do \
	    $(CC) -std=c99 $(C_WARNINGS) $(INCLUDES) -fsyntax-only $$source; \
	    $(CC) -std=c11 $(C_WARNINGS) $(INCLUDES) -fsyntax-only $$source; \
	done
	@set -e; for source in examples/*.cpp tests/c/*.cpp; do \
	    $(CXX) -std=c++17 $(CPP_WARNINGS) $(INCLUDES) -fsyntax-only $$source; \
	    $(CXX) -std=c++20 $(CPP_WARNINGS) $(INCLUDES) -fsyntax-only $$source; \
	done
	@$(CXX) -std=c++11 $(CPP_WARNINGS) -Wold-style-cast -fsyntax-only -x c++-header include/ddpm.h
	@if clang --version >/dev/null 2>&1; then \
	    clang -std=c99 $(C_WARNINGS) --target=x86_64-pc-windows-msvc -DDDPM_DLL -fsyntax-only -x c-header include/ddpm.h && \
	    clang -std=c++11 $(CPP_WARNINGS) --target=x86_64-pc-windows-msvc -DDDPM_DLL -fsyntax-only -x c++-header include/ddpm.h; \
	else echo "hosts: not tried as Visual C++ sees it, clang is not installed (Debian: apt install clang)"; fi
	@echo "hosts: no warnings"

doc: ## the crate's documentation, warnings are errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps

deny: ## licences, advisories and sources of the dependencies, where cargo-deny is installed
	@if $(CARGO) deny --version >/dev/null 2>&1; then $(CARGO) deny --workspace check; \
	else echo "deny: skipped, cargo-deny is not installed (cargo install --locked cargo-deny)"; fi

header: ## write include/ddpm.h anew from src/ffi
	DDPM_UPDATE_HEADER=1 $(CARGO) test -p ddpm --test header

loom: ## model-check the hand-off between threads
	RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=$(TARGET)/loom \
	    $(CARGO) test --release -p ddpm --no-default-features --lib loom_

bench: fetch ## the benchmarks
	$(CARGO) bench -p ddpm

soak: fetch ## a million steps of streams that come and go, every frame checked; minutes
	DDPM_SOAK_STEPS=$${DDPM_SOAK_STEPS:-1000000} $(CARGO) test --release -p ddpm --test soak -- --nocapture

# As MEMCHECK_TESTS below, which see; break_off looks at the memory by means that a sanitizer replaces.
SANITIZE_TESTS := arguments frames frame_views playback trajectory samplers model_source:FOLDER log_callback:2 threads lifetimes:3,20

sanitize: fetch ## AddressSanitizer and ThreadSanitizer on the C tests (Linux)
	sh tests/sanitize.sh address $(SANITIZE_TESTS)
	sh tests/sanitize.sh thread $(SANITIZE_TESTS)

# Each is a program and its arguments after the models' folder; FOLDER is one that is not there. What repeats does so seldom: memcheck
# is slow. Left out: frame_path (it replaces malloc, as memcheck does), plugin (memcheck forgets
# the names of what was unloaded), and what measures memory or time.
MEMCHECK_TESTS := arguments frames frame_views playback trajectory samplers model_source:FOLDER log_callback:2 threads lifetimes:2,8 break_off:20
MEMCHECK := valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite \
    --show-leak-kinds=definite --suppressions=tests/c/valgrind.supp

valgrind: fetch ## memcheck of the C examples and C tests: no error, nothing definitely lost
	@valgrind --version || { echo "valgrind is not installed (Debian: apt install valgrind)"; exit 1; }
	$(CARGO) build --release -p ddpm
	@mkdir -p $(HOSTS)/out
	@set -e; for test in $(MEMCHECK_TESTS) load_failures; do \
	    name=$${test%%:*}; arguments=$$(echo "$$test" | sed -n 's/^[^:]*://p' | tr , ' '); \
	    if [ "$$arguments" = FOLDER ]; then arguments=$(HOSTS)/scratch; rm -rf $(HOSTS)/scratch; fi; \
	    if [ $$name = load_failures ]; then \
	        arguments="$$($(PYTHON) .ci/fetch_onnxruntime.py) Makefile $(RELEASE)/libddpm.so"; fi; \
	    $(CC) -g -std=c99 -DUNDER_A_CHECKER $(INCLUDES) tests/c/$$name.c -o $(HOSTS)/$$name $(LINK); \
	    echo "memcheck: $$name"; \
	    $(MEMCHECK) $(HOSTS)/$$name tests/models $$arguments; \
	done
	@set -e; for name in hello reveal; do \
	    $(CC) -g -std=c99 $(INCLUDES) examples/$$name.c $(HELPERS) -o $(HOSTS)/$$name $(LINK); \
	    echo "memcheck: $$name"; \
	    $(MEMCHECK) $(HOSTS)/$$name tests/models/lin.onnx \
	        $$(test $$name = hello || echo --steps 5 --out $(HOSTS)/out) >/dev/null; \
	done
	@echo "memcheck: no errors, nothing definitely lost"

clean: ## remove what was built and the demo's pictures; the cache stays
	$(CARGO) clean
	rm -rf $(OUT)
