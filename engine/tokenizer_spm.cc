#include "engine/tokenizer_spm.h"

#include <sentencepiece_processor.h>

#include <new>
#include <string>
#include <vector>

struct spm {
    sentencepiece::SentencePieceProcessor processor;
};

/* The exception being handled, as an error. */
static int exception_err(struct err *err, const char *what)
{
    try {
        throw;
    } catch (const std::bad_alloc &) {
        return err_set(err, ERR_NO_MEMORY, "tokenizer: %s", what);
    } catch (const std::exception &e) {
        return err_set(err, ERR_FORMAT, "tokenizer: %s: %s", what, e.what());
    } catch (...) {
        return err_set(err, ERR_FORMAT, "tokenizer: %s", what);
    }
}

int spm_open(struct spm **ret, const void *proto, size_t size, struct err *err)
{
    struct spm *spm = nullptr;

    try {
        spm = new struct spm;
        const auto status = spm->processor.LoadFromSerializedProto(
            absl::string_view(static_cast<const char *>(proto), size));
        if (!status.ok()) {
            const int rc = err_set(err, ERR_FORMAT, "SentencePiece refuses the model: %s",
                                   status.ToString().c_str());
            delete spm;
            return rc;
        }
        *ret = spm;
        return ERR_OK;
    } catch (...) {
        delete spm;
        return exception_err(err, "loading the model");
    }
}

void spm_close(struct spm *spm)
{
    delete spm;
}

int spm_encode(const struct spm *spm, const char *text, size_t len,
               bool (*emit)(void *ctx, int32_t id), void *ctx, struct err *err)
{
    try {
        std::vector<int> ids;
        const auto status = spm->processor.Encode(absl::string_view(text, len), &ids);
        if (!status.ok()) {
            return err_set(err, ERR_FORMAT, "SentencePiece cannot encode the text: %s",
                           status.ToString().c_str());
        }
        for (const int id : ids) {
            if (!emit(ctx, static_cast<int32_t>(id))) {
                return err_set(err, ERR_NO_MEMORY, "tokenizer: %zu ids", ids.size());
            }
        }
        return ERR_OK;
    } catch (...) {
        return exception_err(err, "encoding a text");
    }
}
