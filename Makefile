# sanad: out-of-tree build. Objects live in build/$(MODE), so modes coexist.
#   make [MODE=release|debug|asan|tsan] [CUDA=auto|no]   (CUDA: the GPU backend is not there yet)
# Adding a source file edits nothing here: folders are searched by wildcard.

MODE    ?= release
CUDA    ?= auto
PREFIX  ?= /usr/local
DESTDIR ?=
GOLDEN  ?= tests/golden
JSON    ?=
JOBS    ?= $(shell nproc)

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

CC      ?= cc
CXX     ?= c++
ifeq ($(origin CC),default)
CC      := cc
endif
ifeq ($(origin CXX),default)
CXX     := c++
endif

B       := build/$(MODE)
VERSION := $(shell cat VERSION)

ROOMS   := base kernels engine media worker storage jobs api daemon
MAIN    := daemon/main.c
C_SRC   := $(filter-out $(MAIN),$(foreach r,$(ROOMS),$(wildcard $(r)/*.c)))
CC_SRC  := $(foreach r,$(ROOMS),$(wildcard $(r)/*.cc))
SUPPORT := $(wildcard tests/support/*.c)
TESTS   := $(sort $(foreach r,$(ROOMS),$(wildcard tests/$(r)/test_*.c)))
GOLD    := $(wildcard tests/golden_runner/*.c)
BENCH   := $(wildcard bench/*.c)
FUZZ    := $(wildcard tests/fuzz/fuzz_*.c)

PACKAGES := openblas sentencepiece libcjson libavformat libavcodec libswscale libavutil \
            libmicrohttpd libuv sqlite3
# Empty where the packages are missing; `make demo` and `make test` install them first.
PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -lunistring

WARN    := -Wall -Wextra -Wshadow -Wformat=2 -Wvla -Wundef
ifdef CI
WARN    += -Werror
endif
WARN_C  := $(WARN) -Wstrict-prototypes -Wmissing-prototypes

OPT_release := -O3 -g -fno-math-errno -fno-trapping-math
OPT_debug   := -O1 -g -DSANAD_POISON
OPT_asan    := -O1 -g -DSANAD_POISON -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
OPT_tsan    := -O1 -g -fsanitize=thread
OPT         := $(OPT_$(MODE))
$(if $(OPT),,$(error MODE must be release, debug, asan or tsan, not '$(MODE)'))

CPPFLAGS := -I. -D_GNU_SOURCE -DSANAD_VERSION='"$(VERSION)"' -DSANAD_DATADIR='"$(PREFIX)/share/sanad"'
CFLAGS   := -std=c17 $(OPT) -pthread
CXXFLAGS := -std=c++17 $(OPT) -pthread
LDFLAGS  := $(filter -fsanitize%,$(OPT)) -pthread
LIBS     := $(PKG_LIBS) -lstdc++ -lm

LIB      := $(B)/libsanad.a
LIB_OBJ  := $(C_SRC:%.c=$(B)/%.o) $(CC_SRC:%.cc=$(B)/%.o)
MAIN_OBJ := $(MAIN:%.c=$(B)/%.o)
SUP_OBJ  := $(SUPPORT:%.c=$(B)/%.o)
TEST_EXE := $(TESTS:%.c=$(B)/%)
# Test programs count allocations down (tests/support/alloc_fail.h); the product does not.
WRAP     := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=strdup

.PHONY: all build-tests demo test test-threads golden bench lint format fuzz install clean FORCE
all: $(B)/sanad

# A change of flags rebuilds; an unchanged stamp does not.
FLAGS_NOW := $(CC) $(CXX) $(CPPFLAGS) $(CFLAGS) $(CXXFLAGS) $(WARN_C) $(PKG_CFLAGS)
$(B)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' > $@
FORCE:

$(B)/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "cc  $<"
	@$(CC) $(CPPFLAGS) $(PKG_CFLAGS) $(CFLAGS) $(WARN_C) -MMD -MP -c -o $@ $<

$(B)/%.o: %.cc $(B)/flags
	@mkdir -p $(@D)
	@echo "c++ $<"
	@$(CXX) $(CPPFLAGS) $(PKG_CFLAGS) $(CXXFLAGS) $(WARN) -MMD -MP -c -o $@ $<

$(LIB): $(LIB_OBJ)
	@rm -f $@
	@ar rcs $@ $^

$(B)/sanad: $(MAIN_OBJ) $(LIB)
	@echo "ld  $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(TEST_EXE): $(B)/%: $(B)/%.o $(SUP_OBJ) $(LIB)
	@echo "ld  $@"
	@$(CC) $(LDFLAGS) $(WRAP) -o $@ $^ $(LIBS)

$(B)/golden: $(GOLD:%.c=$(B)/%.o) $(LIB)
	@echo "ld  $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

$(B)/bench-engine: $(BENCH:%.c=$(B)/%.o) $(LIB)
	@echo "ld  $@"
	@$(CC) $(LDFLAGS) -o $@ $^ $(LIBS)

-include $(LIB_OBJ:.o=.d) $(MAIN_OBJ:.o=.d) $(SUP_OBJ:.o=.d) $(TEST_EXE:=.d) \
         $(GOLD:%.c=$(B)/%.d) $(BENCH:%.c=$(B)/%.d)

# ---- what users and CI call ----

# One command on a fresh machine: packages, build, a video.
demo:
	@tools/setup.sh build
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tools/demo.sh $(B)/sanad

# Likewise: packages, build, all tests. Kills, races and load depend on speed: not under sanitizers.
CRASH_TESTS := $(if $(filter release debug,$(MODE)),"tests/crash/run.sh $(B)/sanad")
test:
	@tools/setup.sh test
	@$(MAKE) --no-print-directory -j$(JOBS) all build-tests
	@tests/run.sh $(TEST_EXE) "$(B)/golden $(GOLDEN)" "tests/cli/test_cli.sh $(B)/sanad" \
	    "tests/api/run.sh $(B)/sanad" $(CRASH_TESTS)

build-tests: $(TEST_EXE) $(B)/golden

# The tests in which threads meet, for MODE=tsan.
THREAD_TESTS := $(filter $(B)/tests/base/% %/test_matmul %/test_conv3d %/test_attention %/test_session %/test_render \
    %/test_render_resume %/test_wire %/test_worker %/test_store_thread %/test_jobs,$(TEST_EXE))
test-threads:
	@tools/setup.sh test
	@$(MAKE) --no-print-directory -j$(JOBS) $(THREAD_TESTS)
	@tests/run.sh $(THREAD_TESTS)

golden: $(B)/golden
	$(B)/golden $(GOLDEN)

# Figures as a table, and as JSON in $(B)/bench.json (or JSON=FILE).
bench:
	@tools/setup.sh bench
	@$(MAKE) --no-print-directory -j$(JOBS) all $(B)/bench-engine
	@$(B)/bench-engine --sanad $(B)/sanad --model tests/golden/tiny-long --json $(or $(JSON),$(B)/bench.json)

lint:
	@tools/setup.sh lint
	@tools/lint.sh

format:
	clang-format -i $$(git ls-files '*.c' '*.h' '*.cc' '*.cu')

# libFuzzer, FUZZ_SECONDS for each target; what it finds and says is in build/fuzz/.
FUZZ_SECONDS ?= 60
FUZZ_FLAGS := -g -O1 -fno-omit-frame-pointer -fno-sanitize-recover=undefined
FUZZ_LIB   := -fsanitize=fuzzer-no-link,address,undefined
FUZZ_MAIN  := -fsanitize=fuzzer,address,undefined
FUZZ_EXE   := $(FUZZ:tests/fuzz/%.c=build/fuzz/%)
FUZZ_OBJ   := $(C_SRC:%.c=build/fuzz/%.o) $(CC_SRC:%.cc=build/fuzz/%.o)

build/fuzz/%.o: %.c
	@mkdir -p $(@D)
	@echo "fuzz cc  $<"
	@clang $(CPPFLAGS) $(PKG_CFLAGS) -std=c17 $(FUZZ_FLAGS) $(FUZZ_LIB) -MMD -MP -c -o $@ $<

build/fuzz/%.o: %.cc
	@mkdir -p $(@D)
	@echo "fuzz c++ $<"
	@clang++ $(CPPFLAGS) $(PKG_CFLAGS) -std=c++17 $(FUZZ_FLAGS) $(FUZZ_LIB) -MMD -MP -c -o $@ $<

$(FUZZ_EXE): build/fuzz/%: build/fuzz/tests/fuzz/%.o $(FUZZ_OBJ)
	@echo "fuzz ld  $@"
	@clang++ $(FUZZ_FLAGS) $(FUZZ_MAIN) -pthread -o $@ $^ $(LIBS)

-include $(FUZZ_OBJ:.o=.d)

fuzz:
	@tools/setup.sh lint
	@$(MAKE) --no-print-directory -j$(JOBS) $(FUZZ_EXE)
	@tools/fuzz.sh $(FUZZ_SECONDS) $(FUZZ_EXE)

install: all
	install -D -m 755 $(B)/sanad $(DESTDIR)$(PREFIX)/bin/sanad
	install -D -m 644 docs/sanad.1 $(DESTDIR)$(PREFIX)/share/man/man1/sanad.1

clean:
	rm -rf build demo.mp4
