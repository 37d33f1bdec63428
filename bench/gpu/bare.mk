# The engine, its golden cases and the kernels' tests on a machine with a C compiler and nothing else: what
# gpu_check.sh runs. From the repository's root: make -f bench/gpu/bare.mk B=build/gpu-check programs
#   CJSON=DIR: cJSON's source (cJSON.h, cJSON.c), where the library is not installed; without either, model
#   directories cannot be read and there are no golden cases.

MAKEFLAGS += --no-builtin-rules
.SUFFIXES:
.DELETE_ON_ERROR:

CC  ?= cc
ifeq ($(origin CC),default)
CC  := cc
endif
B   ?= build/gpu-check
OUT := $(B)/bare

INCLUDES := -I. -Ibench/gpu/bare
CJSON_OBJ :=
CJSON_LIB :=
HAS_CJSON :=
ifneq ($(CJSON),)
INCLUDES  += -I$(OUT)/include
CJSON_OBJ := $(OUT)/cJSON.o
HAS_CJSON := yes
else
HAS_CJSON := $(shell echo 'int main(void) { return cJSON_Parse("") != 0; }' | \
               $(CC) -include cjson/cJSON.h -x c - -o /dev/null -lcjson 2>/dev/null && echo yes)
ifneq ($(HAS_CJSON),)
CJSON_LIB := -lcjson
else
INCLUDES  += -Ibench/gpu/bare/no_cjson
endif
endif

CPPFLAGS := $(INCLUDES) -D_GNU_SOURCE -DSANAD_VERSION='"$(shell cat VERSION)"' -DSANAD_DATADIR='"/usr/share/sanad"' \
            -DSANAD_LIBDIR='"/usr/lib/sanad"'
CFLAGS   := -std=c17 -O3 -g -fno-math-errno -fno-trapping-math -pthread -Wall -Wextra

# Text is bare/text.c's.
WITHOUT := engine/tokenizer.c engine/spm_model.c
LIB_SRC := $(filter-out $(WITHOUT),$(wildcard base/*.c kernels/*.c engine/*.c)) $(wildcard bench/gpu/bare/*.c)
LIB_OBJ := $(LIB_SRC:%.c=$(OUT)/%.o) $(CJSON_OBJ)
MAIN    := $(wildcard bench/gpu/*.c)
GOLDEN  := $(if $(HAS_CJSON),$(filter-out %/cases_misc.c,$(wildcard tests/golden_runner/*.c)) $(wildcard bench/gpu/bare/golden/*.c))
# Not those that need a tokenizer, nor the one that breaks a simulated GPU; cuBLASLt's types are the toolkit's.
CUBLASLT := $(firstword $(wildcard $(or $(CUDA_HOME),/usr/local/cuda)/include/cublasLt.h))
TESTS   := $(filter-out tests/cuda/test_device_lost.c $(if $(CUBLASLT),,%/test_blas_recipes.c), \
             $(shell grep -L 'tests/support/originals.h' tests/cuda/test_*.c))
SUPPORT := tests/support/test.c tests/support/cuda_test.c

.PHONY: programs FORCE
programs: $(OUT)/gpu-check $(if $(GOLDEN),$(OUT)/golden) $(TESTS:%.c=$(OUT)/%)

# A change of flags, or of where cJSON is, rebuilds.
FLAGS_NOW := $(CC) $(CPPFLAGS) $(CFLAGS) $(CJSON) $(CJSON_LIB)
$(OUT)/flags: FORCE
	@mkdir -p $(@D)
	@printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' | cmp -s - $@ || printf '%s\n' '$(subst ','\'',$(FLAGS_NOW))' > $@
FORCE:

$(OUT)/include/cjson:
	@mkdir -p $(@D)
	@ln -sfn $(abspath $(CJSON)) $@

$(OUT)/cJSON.o: $(CJSON)/cJSON.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS) -c -o $@ $<

$(OUT)/%.o: %.c $(OUT)/flags | $(if $(CJSON),$(OUT)/include/cjson)
	@mkdir -p $(@D)
	@echo "cc  $<"
	@$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

$(OUT)/libbare.a: $(LIB_OBJ)
	@rm -f $@
	@ar rcs $@ $^

$(OUT)/gpu-check: $(MAIN:%.c=$(OUT)/%.o) $(OUT)/libbare.a
	@$(CC) $(CFLAGS) -o $@ $^ $(CJSON_LIB) -lm -ldl

$(OUT)/golden: $(GOLDEN:%.c=$(OUT)/%.o) $(OUT)/libbare.a
	@$(CC) $(CFLAGS) -o $@ $^ $(CJSON_LIB) -lm -ldl

$(TESTS:%.c=$(OUT)/%): %: %.o $(SUPPORT:%.c=$(OUT)/%.o) $(OUT)/libbare.a
	@$(CC) $(CFLAGS) -o $@ $^ $(CJSON_LIB) -lm -ldl

$(OUT)/tests/cuda/%.o: CPPFLAGS += $(CUBLASLT:%/cublasLt.h=-isystem %)

-include $(LIB_OBJ:.o=.d) $(MAIN:%.c=$(OUT)/%.d) $(GOLDEN:%.c=$(OUT)/%.d) $(TESTS:%.c=$(OUT)/%.d)
