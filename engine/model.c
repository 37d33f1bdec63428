#include "engine/model.h"

#include <stdlib.h>

static int open_parts(struct model *m, struct err *err)
{
    const struct model_dir *dir = m->dir;
    int rc = ERR_OK;

    if (dir->tokenizer_path) {
        rc = tokenizer_open(&m->tokenizer, dir->tokenizer_path, err);
    }
    if (rc == ERR_OK && m->tokenizer &&
        tokenizer_vocab_size(m->tokenizer) > dir->text_encoder.vocab_size) {
        rc = err_set(err, ERR_FORMAT,
                     "%s: %lld pieces, but text_encoder/config.json has vocab_size %lld",
                     dir->tokenizer_path, (long long)tokenizer_vocab_size(m->tokenizer),
                     (long long)dir->text_encoder.vocab_size);
    }
    if (rc == ERR_OK) {
        rc = text_encoder_open(&m->text_encoder, &dir->text_encoder, dir->text_encoder_weights,
                               m->dev, err);
    }
    if (rc == ERR_OK) {
        rc = transformer_open(&m->transformer, &dir->transformer, dir->transformer_weights, m->dev,
                              err);
    }
    if (rc == ERR_OK) {
        rc = vae_open(&m->vae, &dir->vae, dir->vae_weights, m->dev, VAE_DECODER | VAE_ENCODER, err);
    }
    return rc;
}

int model_open_dir(struct model **ret, struct model_dir *dir, struct device *dev, struct err *err)
{
    struct model *m = calloc(1, sizeof(*m));
    int rc;

    if (!m) {
        model_dir_close(dir);
        return err_set(err, ERR_NO_MEMORY, "model");
    }
    m->dev = dev;
    m->dir = dir;
    rc = open_parts(m, err);
    if (rc != ERR_OK) {
        model_close(m);
        return rc;
    }
    *ret = m;
    return ERR_OK;
}

int model_open(struct model **ret, const char *path, struct device *dev, struct err *err)
{
    struct model_dir *dir;
    const int rc = model_dir_open(&dir, path, err);

    return rc != ERR_OK ? rc : model_open_dir(ret, dir, dev, err);
}

void model_close(struct model *m)
{
    if (!m) {
        return;
    }
    vae_close(m->vae);
    transformer_close(m->transformer);
    text_encoder_close(m->text_encoder);
    tokenizer_close(m->tokenizer);
    model_dir_close(m->dir);
    free(m);
}
