/*
 * unistr.h, unicase.h, unictype.h - prompts are not prepared on a bare machine: without a tokenizer nothing
 * calls these. u8_check() finds every text wrong.
 */
#ifndef BENCH_GPU_BARE_UNISTR_H
#define BENCH_GPU_BARE_UNISTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint32_t ucs4_t;

const uint8_t *u8_check(const uint8_t *s, size_t n);
const uint8_t *u8_next(ucs4_t *c, const uint8_t *s);
const uint8_t *u8_prev(ucs4_t *c, const uint8_t *s, const uint8_t *start);
size_t u8_mbsnlen(const uint8_t *s, size_t n);
uint8_t *u8_tolower(const uint8_t *s, size_t n, const char *language, void *form, uint8_t *to,
                    size_t *length);
bool uc_is_property_cased(ucs4_t c);
bool uc_is_property_case_ignorable(ucs4_t c);

#endif
