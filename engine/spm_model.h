/*
 * spm_model.h - a SentencePiece model file, read with suspicion and written anew.
 *
 * libsentencepiece trusts its model: a compiled character map with wild offsets, or 65 user-defined
 * pieces that are prefixes of one another, make it read memory that is not its own. So the file (a
 * protobuf, sentencepiece_model.proto) is walked here; what must hold for a Gemma tokenizer is
 * checked, and the library gets a model made of the checked parts alone: the pieces, the model
 * type, the normaliser's switches. Everything else in the file is left behind.
 *
 * Accepted: model type BPE with byte fallback (all 256 byte pieces); no normalisation (empty
 * character map, no dummy prefix, spaces kept and escaped); pieces of type normal, unknown (one),
 * control, user-defined and byte, of 1..512 bytes of UTF-8 without NUL, with finite scores, up to
 * 2^20 of them (user-defined: 1 MiB of text); <pad>, <eos>, <bos> and <unk> among them. Gemma 1 and
 * 2 have such files.
 *
 * Any thread.
 */
#ifndef ENGINE_SPM_MODEL_H
#define ENGINE_SPM_MODEL_H

#include <stdint.h>

#include "base/err.h"
#include "base/str.h"

enum spm_special {
    SPM_PAD,
    SPM_EOS,
    SPM_BOS,
    SPM_UNK,
    SPM_SPECIALS
};

struct spm_model {
    struct str proto; /* owned; the model for the library */
    int64_t n_pieces;
    int32_t special[SPM_SPECIALS]; /* ids */
};

/* "<pad>", "<eos>", "<bos>", "<unk>" */
const char *spm_special_text(enum spm_special special);

/* data is borrowed for the call; name is for messages. On an error ret needs no spm_model_done.
 * Errors: ERR_FORMAT (damaged, or a piece or field out of bounds: named), ERR_UNSUPPORTED (another
 * kind of model), ERR_NO_MEMORY. */
MUST_CHECK int spm_model_read(struct spm_model *ret, const void *data, size_t size,
                              const char *name, struct err *err);

void spm_model_done(struct spm_model *model);

#endif
