/*
 * multipart.c - multipart/form-data (RFC 7578, 2046) in pieces of any size.
 *
 * One automaton. A delimiter is CR LF "--" boundary, and CR stands in it only once, at its start; so when a
 * possible delimiter turns out to be none, nothing of what was matched can begin another one, and no byte is
 * ever looked at twice. At the very start the CR LF counts as seen.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "api/json.h"
#include "api/multipart_internal.h"
#include "base/log.h"
#include "base/str.h"
#include "media/sha256.h"

enum {
    BOUNDARY_MAX = 70,
    BUFFER_BYTES = 32 << 10,
};

enum state {
    PREAMBLE,  /* before the first delimiter */
    DELIMITED, /* behind one */
    DASHED,    /* behind one and a dash */
    PADDED,    /* behind one and blanks */
    RETURNED,  /* behind one and CR */
    HEAD,      /* in a part's header block */
    CONTENT,   /* in what it contains */
    EPILOGUE,  /* behind the last delimiter */
    FAILED,
};

struct multipart {
    enum state state;
    char delimiter[4 + BOUNDARY_MAX + 1];
    size_t delimiter_len;
    size_t matched; /* bytes of a possible delimiter, which were not handed on yet */
    int n_parts;
    char head[MULTIPART_HEAD_MAX];
    size_t head_len;

    /* The part. A file's is fields.files[n_files], counted when it is complete. */
    struct multipart_part part;
    struct str text;
    int fd; /* -1: none */
    struct sha256 *sha256;
    char buffer[BUFFER_BYTES]; /* for the file: a form may come in very small pieces */
    size_t buffer_len;

    char *spool_dir; /* owned */
    int64_t max_file;
    struct fields fields;
    struct api_error error;
};

static bool bad_part(struct multipart *m, const char *why)
{
    return api_fail(&m->error, API_INVALID_MULTIPART, "", "Part %d of the form %s.", m->n_parts,
                    why);
}

/* ---- parts ---- */

static bool spool_failed(struct multipart *m, const char *what)
{
    const int code = errno;

    log_err("upload to %s: %s: %m", m->spool_dir, what);
    if (code == ENOSPC || code == EDQUOT || code == EFBIG) {
        return api_fail(&m->error, API_INSUFFICIENT_STORAGE, m->part.name,
                        "The server has no space left for this file.");
    }
    return api_fail(&m->error, API_INTERNAL_ERROR, m->part.name,
                    "The server cannot store this file.");
}

static bool open_file(struct multipart *m)
{
    struct fields_file *file = &m->fields.files[m->fields.n_files];

    if (m->fields.n_files == FIELDS_MAX_FILES) {
        return api_fail(&m->error, API_INVALID_MULTIPART, m->part.name,
                        "A form has at most %d files.", FIELDS_MAX_FILES);
    }
    if (strlen(m->part.name) >= sizeof(file->name) ||
        !json_utf8_valid(m->part.name, strlen(m->part.name))) {
        return bad_part(m, "is a file with a name that is too long, or not UTF-8");
    }
    *file = (struct fields_file){0};
    m->buffer_len = 0;
    memcpy(file->name, m->part.name, strlen(m->part.name) + 1);
    m->sha256 = sha256_create();
    if (!m->sha256) {
        return fields_no_memory(&m->error);
    }
    snprintf(file->path, sizeof(file->path), "%s/upload-XXXXXX", m->spool_dir);
    m->fd = mkostemp(file->path, O_CLOEXEC);
    if (m->fd < 0) {
        file->path[0] = '\0';
        return spool_failed(m, "mkostemp");
    }
    return true;
}

static bool flush_file(struct multipart *m)
{
    const char *data = m->buffer;
    size_t len = m->buffer_len;

    sha256_update(m->sha256, data, len);
    m->buffer_len = 0;
    while (len > 0) {
        const ssize_t n = write(m->fd, data, len);

        if (n < 0 && errno != EINTR) {
            return spool_failed(m, "write");
        }
        if (n > 0) {
            data += n;
            len -= (size_t)n;
        }
    }
    return true;
}

static bool write_file(struct multipart *m, const char *data, size_t len)
{
    struct fields_file *file = &m->fields.files[m->fields.n_files];

    if ((int64_t)len > m->max_file - file->bytes) {
        return api_fail(&m->error, API_PAYLOAD_TOO_LARGE, m->part.name,
                        "The file '%s' is longer than %lld bytes.", m->part.name,
                        (long long)m->max_file);
    }
    file->bytes += (int64_t)len;
    while (len > 0) {
        const size_t room = sizeof(m->buffer) - m->buffer_len;
        const size_t n = len < room ? len : room;

        memcpy(m->buffer + m->buffer_len, data, n);
        m->buffer_len += n;
        data += n;
        len -= n;
        if (m->buffer_len == sizeof(m->buffer) && !flush_file(m)) {
            return false;
        }
    }
    return true;
}

static void drop_file(struct multipart *m)
{
    char *path = m->fields.files[m->fields.n_files].path;

    close(m->fd);
    m->fd = -1;
    unlink(path);
    path[0] = '\0';
}

static const struct fields_file *find_file(const struct multipart *m, const char *name)
{
    for (int i = 0; i < m->fields.n_files; i++) {
        if (strcmp(m->fields.files[i].name, name) == 0) {
            return &m->fields.files[i];
        }
    }
    return NULL;
}

static bool given_twice(struct multipart *m)
{
    return api_fail(&m->error, API_INVALID_MULTIPART, m->part.name, "'%s' is given more than once.",
                    m->part.name);
}

static bool end_file(struct multipart *m)
{
    struct fields_file *file = &m->fields.files[m->fields.n_files];
    int rc;

    if (m->part.unnamed_file && file->bytes == 0) {
        drop_file(m);
        sha256_free(m->sha256);
        m->sha256 = NULL;
        return true;
    }
    if (find_file(m, m->part.name) ||
        cJSON_GetObjectItemCaseSensitive(m->fields.root, m->part.name)) {
        return given_twice(m);
    }
    if (!flush_file(m)) {
        return false;
    }
    rc = close(m->fd);
    m->fd = -1;
    m->fields.n_files++; /* from now on fields_done removes it */
    sha256_final(m->sha256, file->sha256);
    sha256_free(m->sha256);
    m->sha256 = NULL;
    return rc == 0 ? true : spool_failed(m, "close");
}

static bool end_text(struct multipart *m)
{
    if (m->text.len > 0 && find_file(m, m->part.name)) {
        return given_twice(m);
    }
    return fields_put(m->fields.root, m->part.name, str_get(&m->text), m->text.len, &m->error);
}

static bool begin_part(struct multipart *m)
{
    const char *why = multipart_parse_head(&m->part, m->head, m->head_len);

    if (why) {
        return bad_part(m, why);
    }
    if (m->part.is_file) {
        return open_file(m);
    }
    str_init(&m->text, fields_text_max(m->part.name));
    return true;
}

static bool end_part(struct multipart *m)
{
    const bool ok = m->part.is_file ? end_file(m) : end_text(m);

    str_done(&m->text);
    return ok;
}

static bool write_part(struct multipart *m, const char *data, size_t len)
{
    if (m->state == PREAMBLE) {
        return true;
    }
    if (m->part.is_file) {
        return write_file(m, data, len);
    }
    if (!str_append(&m->text, data, len)) {
        return m->text.len + len > m->text.max ? fields_text_too_long(m->part.name, &m->error)
                                               : fields_no_memory(&m->error);
    }
    return true;
}

/* ---- the automaton ---- */

static bool feed_content(struct multipart *m, const char **p, const char *end)
{
    const char *stop;
    size_t n = m->matched;

    if (n == 0) {
        stop = memchr(*p, '\r', (size_t)(end - *p));
        n = (size_t)((stop ? stop : end) - *p);
        if (!write_part(m, *p, n)) {
            return false;
        }
        *p += stop ? n + 1 : n;
        m->matched = stop != NULL;
        return true;
    }
    while (*p < end && n < m->delimiter_len && **p == m->delimiter[n]) {
        (*p)++;
        n++;
    }
    m->matched = n;
    if (n == m->delimiter_len) {
        const bool ok = m->state == PREAMBLE || end_part(m);

        m->matched = 0;
        m->state = DELIMITED;
        return ok;
    }
    if (*p < end) { /* it was none */
        m->matched = 0;
        return write_part(m, m->delimiter, n);
    }
    return true;
}

static bool feed_delimited(struct multipart *m, char c)
{
    const enum state state = m->state;

    if (state == DELIMITED && c == '-') {
        m->state = DASHED;
    } else if (state == DASHED && c == '-') {
        m->state = EPILOGUE;
    } else if ((state == DELIMITED || state == PADDED) && (c == ' ' || c == '\t')) {
        m->state = PADDED;
    } else if ((state == DELIMITED || state == PADDED) && c == '\r') {
        m->state = RETURNED;
    } else if (state == RETURNED && c == '\n') {
        m->state = HEAD;
        m->head_len = 0;
        if (++m->n_parts > FIELDS_MAX_PARTS) {
            return api_fail(&m->error, API_INVALID_MULTIPART, "", "A form has at most %d parts.",
                            FIELDS_MAX_PARTS);
        }
    } else {
        return api_fail(&m->error, API_INVALID_MULTIPART, "",
                        "The boundary before part %d does not end with CR LF.", m->n_parts + 1);
    }
    return true;
}

static bool feed_head(struct multipart *m, char c)
{
    const char *end = m->head + m->head_len;

    if (m->head_len == sizeof(m->head)) {
        return bad_part(m, "has a header of more than 8 KiB");
    }
    m->head[m->head_len++] = c;
    if (c == '\n' && ((m->head_len == 2 && m->head[0] == '\r') ||
                      (m->head_len >= 4 && memcmp(end - 3, "\r\n\r", 3) == 0))) {
        m->state = CONTENT;
        return begin_part(m);
    }
    return true;
}

bool multipart_feed(struct multipart *m, const void *data, size_t len)
{
    const char *p = data;
    const char *end = p + len;
    bool ok = m->state != FAILED;

    while (ok && p < end) {
        switch (m->state) {
        case PREAMBLE:
        case CONTENT:
            ok = feed_content(m, &p, end);
            break;
        case HEAD:
            ok = feed_head(m, *p++);
            break;
        case EPILOGUE:
            p = end;
            break;
        default:
            ok = feed_delimited(m, *p++);
        }
    }
    if (!ok) {
        m->state = FAILED;
    }
    return ok;
}

/* ---- open and close ---- */

static bool take_boundary(struct multipart *m, const char *content_type, struct api_error *e)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                  "'()+_,-./:=? ";
    static const char type[] = "multipart/form-data";
    char name[1024];
    char value[sizeof(name)];
    const char *p = content_type + strlen(type);
    size_t n = 0;
    int found = 0;

    if (strncasecmp(content_type, type, strlen(type)) != 0) {
        return api_fail(e, API_UNSUPPORTED_MEDIA_TYPE, "", "The body is not multipart/form-data.");
    }
    while (multipart_next_param(&p, name, value, sizeof(name))) {
        if (strcasecmp(name, "boundary") == 0) {
            found++;
            n = strlen(value);
            if (n <= BOUNDARY_MAX) {
                memcpy(m->delimiter, "\r\n--", 4);
                memcpy(m->delimiter + 4, value, n + 1);
                m->delimiter_len = 4 + n;
            }
        }
    }
    if (*p != '\0' || found != 1 || n < 1 || n > BOUNDARY_MAX ||
        strspn(m->delimiter + 4, allowed) != n || m->delimiter[m->delimiter_len - 1] == ' ') {
        return api_fail(e, API_INVALID_MULTIPART, "",
                        "The Content-Type needs one boundary of 1 to %d of the characters that "
                        "RFC 2046 allows.",
                        BOUNDARY_MAX);
    }
    return true;
}

bool multipart_open(struct multipart **ret, const char *content_type, const char *spool_dir,
                    int64_t max_file, struct api_error *e)
{
    struct multipart *m = calloc(1, sizeof(*m));
    bool ok;

    if (!m) {
        return fields_no_memory(e);
    }
    m->fd = -1;
    m->matched = 2;
    m->max_file = max_file;
    m->spool_dir = strdup(spool_dir);
    m->fields = (struct fields){.root = cJSON_CreateObject(), .form = true};
    ok = m->spool_dir && m->fields.root ? true : fields_no_memory(e);
    if (ok && strlen(spool_dir) + sizeof("/upload-XXXXXX") > FIELDS_PATH) {
        log_err("upload to %s: the path is too long", spool_dir);
        ok = api_fail(e, API_INTERNAL_ERROR, "", "The server cannot store files.");
    }
    ok = ok && take_boundary(m, content_type, e);
    if (ok) {
        *ret = m;
    } else {
        multipart_free(m);
    }
    return ok;
}

bool multipart_finish(struct multipart *m, struct fields *ret, struct api_error *e)
{
    if (m->state == FAILED) {
        *e = m->error;
        return false;
    }
    if (m->state != EPILOGUE) {
        return api_fail(e, API_INVALID_MULTIPART, "",
                        "The form is incomplete: its final boundary is missing.");
    }
    *ret = m->fields;
    m->fields = (struct fields){0};
    return true;
}

void multipart_free(struct multipart *m)
{
    if (!m) {
        return;
    }
    if (m->fd >= 0) {
        drop_file(m);
    }
    sha256_free(m->sha256);
    str_done(&m->text);
    fields_done(&m->fields);
    free(m->spool_dir);
    free(m);
}
