# sanad: out-of-tree build. Objects live in build/$(MODE), so modes coexist.
#   make [MODE=release|debug|asan|tsan] [CUDA=auto|no] [CUDA_ARCHS=native|all|"80 90a"] [CUDA_HOME=DIR]
# The GPU backend is a plugin of its own, built where there is nvcc; nothing else needs a CUDA toolkit.
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

CPPFLAGS := -I. -D_GNU_SOURCE -DSANAD_VERSION='"$(VERSION)"' -DSANAD_DATADIR='"$(PREFIX)/share/sanad"' \
            -DSANAD_LIBDIR='"$(PREFIX)/lib/sanad"'
CFLAGS   := -std=c17 $(OPT) -pthread
CXXFLAGS := -std=c++17 $(OPT) -pthread
LDFLAGS  := $(filter -fsanitize%,$(OPT)) -pthread
LIBS     := $(PKG_LIBS) -lstdc++ -lm -ldl

LIB      := $(B)/libsanad.a
LIB_OBJ  := $(C_SRC:%.c=$(B)/%.o) $(CC_SRC:%.cc=$(B)/%.o)
MAIN_OBJ := $(MAIN:%.c=$(B)/%.o)
SUP_OBJ  := $(SUPPORT:%.c=$(B)/%.o)
TEST_EXE := $(TESTS:%.c=$(B)/%)
# Test programs count allocations down (tests/support/alloc_fail.h); the product does not.
WRAP     := -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=aligned_alloc,--wrap=strdup

.PHONY: all build-tests demo test test-threads golden bench lint format fuzz install clean FORCE \
        cuda cuda-test hostsim-test demo-test readme-picture train-demo train-demo-test
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

# What a clip of the bundled model's domain shows; nothing of the product is in it.
DEMO_SRC := $(filter-out %/test_check.c %/main.c,$(wildcard tests/demo/*.c)) base/err.c
$(B)/demo-check: $(DEMO_SRC:%.c=$(B)/%.o) $(B)/tests/demo/main.o
	@echo "ld  $@"
	@$(CC) $(LDFLAGS) -o $@ $^ -lm

$(B)/tests/demo/test_check: $(DEMO_SRC:%.c=$(B)/%.o) $(B)/tests/demo/test_check.o $(B)/tests/support/test.o
	@echo "ld  $@"
	@$(CC) $(LDFLAGS) -o $@ $^ -lm

-include $(patsubst %.c,$(B)/%.d,$(wildcard tests/demo/*.c))
-include $(LIB_OBJ:.o=.d) $(MAIN_OBJ:.o=.d) $(SUP_OBJ:.o=.d) $(TEST_EXE:=.d) \
         $(GOLD:%.c=$(B)/%.d) $(BENCH:%.c=$(B)/%.d)

# ---- the CUDA plugin: every kernels/*.cu, by nvcc, and by g++ against a simulator of the GPU ----

CU_SRC     := $(wildcard kernels/*.cu)
PLUGIN_C   := base/err.c kernels/convert.c kernels/tensor.c
PLUGIN_OBJ := $(PLUGIN_C:%.c=$(B)/pic/%.o)
comma      := ,

$(B)/pic/%.o: %.c $(B)/flags
	@mkdir -p $(@D)
	@echo "cc  $< (plugin)"
	@$(CC) $(CPPFLAGS) $(CFLAGS) $(WARN_C) -fPIC -fvisibility=hidden -MMD -MP -c -o $@ $<

# One symbol is for others to see.
define check_exports
@nm -D --defined-only $(1) | awk '$$3 != "sanad_cuda_get" { print "$(1) exports " $$3; bad = 1 } END { exit bad }' || { rm -f $(1); exit 1; }
endef

NVCC := $(firstword $(and $(CUDA_HOME),$(wildcard $(CUDA_HOME)/bin/nvcc)) $(shell command -v nvcc) \
          $(wildcard /usr/local/cuda/bin/nvcc))
ifneq ($(NVCC),)
CUDA_ROOT   := $(patsubst %/bin/,%,$(dir $(realpath $(NVCC))))
CUDART      := $(firstword $(wildcard $(foreach d,lib64 lib targets/x86_64-linux/lib targets/sbsa-linux/lib, \
                 $(CUDA_ROOT)/$(d)/libcudart_static.a)) -lcudart_static)
NVCC_NAME   := $(shell $(NVCC) --version | sed -n 's/.*release \([0-9.]*\).*/CUDA \1/p')
CUDA_ARCHS  ?= native
# What the GPUs of this machine are, else Hopper; and PTX for everything newer.
ARCHS_native = $(or $(shell nvidia-smi --query-gpu=compute_cap --format=csv$(comma)noheader 2>/dev/null | \
                 sed -n 's/^\([0-9]*\)\.\([0-9]\)$$/\1\2/p' | sed 's/^90$$/90a/' | sort -u),90a)
ARCHS_all    = 80 86 89 90a 100 120
ARCHS       := $(or $(ARCHS_$(CUDA_ARCHS)),$(CUDA_ARCHS))
NVCC_SIZE   := $(if $(shell $(NVCC) --help | grep -e --compress-mode),--compress-mode=size)
NVCC_FLAGS  := -std=c++17 -O3 -lineinfo -I. -D_GNU_SOURCE \
               -DSANAD_CUDA_BUILD='"$(NVCC_NAME), $(ARCHS:%=sm_%$(comma)) ptx_80"' \
               $(foreach a,$(ARCHS),-gencode arch=compute_$(a)$(comma)code=sm_$(a)) \
               -gencode arch=compute_80$(comma)code=compute_80 $(NVCC_SIZE) \
               -Xptxas -v,-warn-spills,-warn-lmem-usage \
               -Xcompiler -fPIC,-fvisibility=hidden,-fno-exceptions,-fno-rtti,-fno-threadsafe-statics,-Wall,-Wextra
CU_OBJ      := $(CU_SRC:%.cu=$(B)/cuda/%.o)

$(B)/cuda/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(NVCC) $(NVCC_FLAGS))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(NVCC) $(NVCC_FLAGS))' > $@

# A kernel that spills registers or has a stack frame fails the build.
$(B)/cuda/%.o: %.cu $(B)/cuda/flags tools/ptxas_gate.awk
	@mkdir -p $(@D)
	@echo "nvcc $<"
	@$(NVCC) $(NVCC_FLAGS) -MMD -MP -MF $(@:.o=.d) -c -o $@ $< >$(@:.o=.log) 2>&1 || { cat $(@:.o=.log); exit 1; }
	@awk -f tools/ptxas_gate.awk $(@:.o=.log) || { rm -f $@; exit 1; }

$(B)/libsanad_cuda.so: $(CU_OBJ) $(PLUGIN_OBJ)
	@echo "ld  $@"
	@$(CC) -shared -Wl,-z,defs -o $@ $^ $(CUDART) -lpthread -ldl -lrt -lm
	$(call check_exports,$@)

-include $(CU_OBJ:.o=.d)
ifneq ($(filter release debug,$(MODE)),)
ifneq ($(CUDA),no)
all: $(B)/libsanad_cuda.so
endif
endif
endif

cuda: $(if $(NVCC),$(B)/libsanad_cuda.so)
	@$(if $(NVCC),:,echo "make cuda: no nvcc in PATH or /usr/local/cuda/bin; set CUDA_HOME" >&2; exit 1)

# The simulator: not under ThreadSanitizer, which does not know its fibers. It is for tests on the machine that
# builds it, so it may use what that has; the kernels' short vectors are four floats.
SIM_SRC   := $(wildcard tests/hostsim/*.cc)
SIM_OPT   := $(OPT) $(if $(filter x86_64,$(shell uname -m)),-march=native -mprefer-vector-width=128) \
             -ffp-contract=off
SIM_OBJ   := $(CU_SRC:%.cu=$(B)/hostsim/%.o) $(SIM_SRC:%.cc=$(B)/hostsim/%.o)
SIM_FLAGS := -std=c++17 $(SIM_OPT) -pthread -fPIC -fvisibility=hidden -DSANAD_HOSTSIM \
             -DSANAD_CUDA_BUILD='"host simulator"' $(filter-out -Wshadow,$(WARN)) -Wno-unknown-pragmas

$(B)/hostsim/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(CXX) $(CPPFLAGS) $(SIM_FLAGS))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(CXX) $(CPPFLAGS) $(SIM_FLAGS))' > $@

$(B)/hostsim/%.o: %.cu $(B)/hostsim/flags
	@mkdir -p $(@D)
	@echo "sim $<"
	@$(CXX) -x c++ $(CPPFLAGS) $(SIM_FLAGS) -MMD -MP -c -o $@ $<

$(B)/hostsim/%.o: %.cc $(B)/hostsim/flags
	@mkdir -p $(@D)
	@echo "sim $<"
	@$(CXX) $(CPPFLAGS) $(SIM_FLAGS) -MMD -MP -c -o $@ $<

$(B)/libsanad_hostsim.so: $(SIM_OBJ) $(PLUGIN_OBJ)
	@echo "ld  $@"
	@$(CXX) -shared $(LDFLAGS) -Wl,-z,nodelete $(if $(filter -fsanitize%,$(OPT)),,-Wl$(comma)-z$(comma)defs) -o $@ $^ -ldl
	$(call check_exports,$@)

# What the simulator itself is made to find.
SIM_TESTS := $(patsubst %.cu,$(B)/hostsim/%.o,$(wildcard tests/hostsim/*.cu))
$(B)/hostsim/test_hostsim: $(SIM_TESTS) $(SIM_SRC:%.cc=$(B)/hostsim/%.o) $(B)/tests/support/test.o
	@echo "ld  $@"
	@$(CXX) $(LDFLAGS) -o $@ $^ -ldl -lm

CUDA_TESTS := $(patsubst %.c,$(B)/%,$(sort $(wildcard tests/cuda/test_*.c)))
$(CUDA_TESTS): $(B)/%: $(B)/%.o $(SUP_OBJ) $(LIB)
	@echo "ld  $@"
	@$(CC) $(LDFLAGS) $(WRAP) -o $@ $^ $(LIBS)

-include $(SIM_OBJ:.o=.d) $(SIM_TESTS:.o=.d) $(PLUGIN_OBJ:.o=.d) $(CUDA_TESTS:=.d)

# cuBLASLt's own types, where there is a toolkit; a program that needs nothing else is run once.
$(CUDA_TESTS:=.o): PKG_CFLAGS += $(if $(CUDA_ROOT),-isystem $(CUDA_ROOT)/include)
CUDA_PLAIN := $(filter %/test_blas_recipes,$(CUDA_TESTS))

# Programs of kernels run three times: the simulated threads go forward, backward and in a mixed order. Whole
# videos and the golden cases run once, in one order each: they are the long ones and come first.
# Under AddressSanitizer, which is slow here, the kernels' run once and the long ones not at all.
hostsim    = "tests/hostsim/run.sh $(1) $(B)/libsanad_hostsim.so $(2)"
SIM_LONG   := $(B)/tests/cuda/test_session
SIM_SHORT  := $(filter-out $(CUDA_PLAIN) $(SIM_LONG),$(CUDA_TESTS))
SIM_ORDERS := $(if $(filter asan,$(MODE)),2,0 1 2)
HOSTSIM_BUILD := $(CUDA_TESTS) $(B)/golden $(B)/libsanad_hostsim.so $(B)/hostsim/test_hostsim
HOSTSIM_LONG  := $(call hostsim,1,$(B)/golden $(GOLDEN) --device cuda --precision f32) \
    $(call hostsim,2,$(B)/golden $(GOLDEN) --device cuda) $(call hostsim,0,$(SIM_LONG))
HOSTSIM := $(if $(filter tsan,$(MODE)),,$(if $(filter asan,$(MODE)),,$(HOSTSIM_LONG)) $(B)/hostsim/test_hostsim \
    $(CUDA_PLAIN) $(foreach order,$(SIM_ORDERS),$(foreach t,$(SIM_SHORT),$(call hostsim,$(order),$(t)))))
hostsim-test:
	@$(MAKE) --no-print-directory -j$(JOBS) $(HOSTSIM_BUILD)
	@tests/run.sh -j$(JOBS) $(HOSTSIM)

# The same programs on a GPU.
cuda-test: cuda $(CUDA_TESTS)
	@SANAD_CUDA_PLUGIN=$(abspath $(B))/libsanad_cuda.so TEST_NO_SKIP=1 \
	    tests/run.sh $(filter-out %/test_device_lost,$(CUDA_TESTS)) # that one needs the simulator's faults

# ---- what users and CI call ----

# One command on a fresh machine: packages, build, a video.
demo:
	@tools/setup.sh build
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tools/demo.sh $(B)/sanad

# Likewise: packages, build, all tests. Kills, races and load depend on speed: not under sanitizers.
CRASH_TESTS := $(if $(filter release debug,$(MODE)),"tests/crash/run.sh $(B)/sanad")
BENCH_TEST  := $(if $(filter release debug,$(MODE)),"tests/cli/test_bench.sh $(B)/sanad $(B)/libsanad_hostsim.so")
DEMO_TEST   := $(B)/tests/demo/test_check \
    $(if $(filter release debug,$(MODE)),"tests/demo/run.sh $(B)/sanad $(B)/demo-check $(MODEL)")
test:
	@tools/setup.sh test
	@$(MAKE) --no-print-directory -j$(JOBS) all build-tests
	@tests/run.sh "$(B)/golden $(GOLDEN)" "tests/cli/test_cli.sh $(B)/sanad" "tests/api/run.sh $(B)/sanad" \
	    $(DEMO_TEST) $(CRASH_TESTS) $(BENCH_TEST) $(if $(filter asan,$(MODE)),$(TEST_EXE)) \
	    -j$(JOBS) $(if $(filter asan,$(MODE)),,$(TEST_EXE)) $(HOSTSIM)

build-tests: $(TEST_EXE) $(B)/golden $(B)/demo-check $(B)/tests/demo/test_check $(if $(HOSTSIM),$(HOSTSIM_BUILD))

# The bundled model, or MODEL=DIR, judged: held-out captions, long clips, a contact sheet in build/demo-test.
demo-test:
	@tools/setup.sh test
	@$(MAKE) --no-print-directory -j$(JOBS) all $(B)/demo-check
	@tests/demo/run.sh $(B)/sanad $(B)/demo-check $(MODEL)

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

# The README's first picture.
readme-picture:
	@tools/setup.sh test
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tools/readme_picture.sh $(B)/sanad docs/demo.png

# The bundled model from nothing, in build/train-demo: two hours on two CPU cores (tools/train_demo/README.md).
# TRAIN_OPTIONS: train.py's. Python is only needed here.
TRAIN_PYTHON  ?= /usr/bin/python3
TRAIN_OPTIONS ?=
train-demo:
	@tools/setup.sh train
	@$(MAKE) --no-print-directory -j$(JOBS) all $(B)/demo-check
	$(TRAIN_PYTHON) tools/train_demo/train.py all --work build/train-demo --out build/train-demo/model \
	    --checker $(B)/demo-check $(TRAIN_OPTIONS)
	@echo "The model is in build/train-demo/model; make demo-test MODEL=build/train-demo/model judges it."

# The recipe's models against the golden cases, and all its stages for a few seconds.
train-demo-test:
	@tools/setup.sh train
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@tools/train_demo/test.sh $(TRAIN_PYTHON) $(B)/sanad

lint:
	@tools/setup.sh lint
	@tools/lint.sh

format:
	clang-format -i $$(git ls-files '*.c' '*.h' '*.cc' '*.cu' '*.cuh')

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
	find models -type f -exec install -D -m 644 {} $(DESTDIR)$(PREFIX)/share/sanad/{} \;
	install -D -m 755 $(B)/sanad $(DESTDIR)$(PREFIX)/bin/sanad
	install -D -m 644 docs/sanad.1 $(DESTDIR)$(PREFIX)/share/man/man1/sanad.1
	$(if $(filter no,$(CUDA)),,@if [ -e $(B)/libsanad_cuda.so ]; then set -x; \
	    install -D -m 755 $(B)/libsanad_cuda.so $(DESTDIR)$(PREFIX)/lib/sanad/libsanad_cuda.so; fi)

clean:
	rm -rf build demo.mp4

# Everything that only a machine with a GPU can tell: needs the CUDA toolkit, a C and C++ compiler and make.
#   GPU_CHECK=quick  OUT=DIR  CJSON=DIR  DIFFUSERS_SRC=DIR  (bench/gpu/gpu_check.sh)
.PHONY: gpu-check
gpu-check:
	@bench/gpu/gpu_check.sh
