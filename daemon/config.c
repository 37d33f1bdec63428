#include "daemon/config.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/str.h"
#include "worker/device_choice.h"

enum {
    NAME_SIZE = 64,
    RESTART = 0,
    RELOAD = 1,
};

#define SECOND 1000.0
#define MINUTE (60 * SECOND)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)
#define KIB    1024.0
#define MIB    (1024 * KIB)
#define GIB    (1024 * MIB)
#define TIB    (1024 * GIB)

const struct config_row config_rows[CONFIG_N_ROWS] = {
#define ROW(type_, field, key_, default_, min_, max_, unit_, when, doc_)                           \
    {                                                                                              \
        .type = CONFIG_##type_,                                                                    \
        .key = (key_),                                                                             \
        .default_text = (default_),                                                                \
        .min = (min_),                                                                             \
        .max = (max_),                                                                             \
        .unit = (unit_),                                                                           \
        .reload = (when) == RELOAD,                                                                \
        .doc = (doc_),                                                                             \
        .offset = offsetof(struct config, field),                                                  \
        .size = sizeof(((struct config *)0)->field),                                               \
    },
#include "daemon/config.def"
#undef ROW
};

static void *field_of(struct config *c, const struct config_row *r)
{
    return (char *)c + r->offset;
}

static const void *value_of(const struct config *c, const struct config_row *r)
{
    return (const char *)c + r->offset;
}

/* ---- names ---- */

typedef void (*spell_fn)(char to[NAME_SIZE], const char *key);

static void spell_key(char to[NAME_SIZE], const char *key)
{
    snprintf(to, NAME_SIZE, "%s", key);
}

static void spell_option(char to[NAME_SIZE], const char *key)
{
    snprintf(to, NAME_SIZE, "%s", key);
    for (; *to; to++) {
        *to = (char)(*to == '.' || *to == '_' ? '-' : *to);
    }
}

static void spell_variable(char to[NAME_SIZE], const char *key)
{
    snprintf(to, NAME_SIZE, "SANAD_%s", key);
    for (; *to; to++) {
        *to = (char)(*to == '.' || *to == '-' ? '_' : toupper((unsigned char)*to));
    }
}

/* The row's number, or -1. */
static int find_row(const char *name, size_t len, spell_fn spell)
{
    for (int i = 0; i < CONFIG_N_ROWS; i++) {
        char known[NAME_SIZE];

        spell(known, config_rows[i].key);
        if (strlen(known) == len && memcmp(known, name, len) == 0) {
            return i;
        }
    }
    return -1;
}

/* ---- sources ---- */

/* Files, environment and command line are layers: a later one replaces, within one nothing is said twice. */
struct loader {
    struct config *c;
    int layer;
    int seen[CONFIG_N_ROWS]; /* the last layer that had it */
};

void config_init(struct config *ret)
{
    memset(ret, 0, sizeof(*ret));
    for (int i = 0; i < CONFIG_N_ROWS; i++) {
        CHECK_BUG(config_value_set(field_of(ret, &config_rows[i]), &config_rows[i],
                                   config_rows[i].default_text));
        snprintf(ret->origin[i], CONFIG_ORIGIN_SIZE, "default");
    }
}

static int apply(struct loader *l, int row, const char *text, const char *origin, struct err *err)
{
    const struct config_row *r = &config_rows[row];

    if (!config_value_is_text(text, strlen(text))) {
        return err_set(err, ERR_INVALID, "not UTF-8 text, or control characters in it");
    }
    if (l->seen[row] != l->layer) {
        l->seen[row] = l->layer;
        snprintf(l->c->origin[row], CONFIG_ORIGIN_SIZE, "%s", origin);
        if (r->type == CONFIG_ADDRESSES) {
            memset(field_of(l->c, r), 0, r->size);
        }
    } else if (r->type != CONFIG_ADDRESSES) {
        return err_set(err, ERR_INVALID, "given twice; first in %s", l->c->origin[row]);
    }
    return config_value_set(field_of(l->c, r), r, text) ? ERR_OK
                                                        : config_value_refuse(r, text, err);
}

/* In quotes: text points behind the first one. Returns what is wrong, or NULL. */
static const char *read_quoted(char *to, const char *text, const char *end)
{
    for (; text < end && *text != '"'; text++) {
        if (*text == '\\') {
            text++;
            if (text == end || (*text != '"' && *text != '\\')) {
                return "in quotes only \\\" and \\\\ are escapes";
            }
        }
        *to++ = *text;
    }
    *to = '\0';
    if (text == end) {
        return "the closing quote is missing";
    }
    text++;
    while (text < end && config_value_is_blank(*text)) {
        text++;
    }
    return text == end || *text == '#' ? NULL : "there is something behind the closing quote";
}

/* Up to a comment, without the blanks in front of it. */
static void read_plain(char *to, const char *text, const char *end)
{
    const char *p = text;

    while (p < end && !(*p == '#' && (p == text || config_value_is_blank(p[-1])))) {
        p++;
    }
    while (p > text && config_value_is_blank(p[-1])) {
        p--;
    }
    memcpy(to, text, (size_t)(p - text));
    to[p - text] = '\0';
}

static int parse_line(struct loader *l, const char *text, const char *end, const char *origin,
                      struct err *err)
{
    const char *equals;
    const char *key_end;
    const char *wrong = NULL;
    char value[CONFIG_MAX_LINE_BYTES + 1];
    int row;

    while (text < end && config_value_is_blank(*text)) {
        text++;
    }
    if (text == end || *text == '#') {
        return ERR_OK;
    }
    equals = memchr(text, '=', (size_t)(end - text));
    if (!equals) {
        return err_set(err, ERR_INVALID, "expected 'key = value'");
    }
    for (key_end = equals; key_end > text && config_value_is_blank(key_end[-1]);) {
        key_end--;
    }
    row = find_row(text, (size_t)(key_end - text), spell_key);
    if (row < 0) {
        const int shown = key_end - text < NAME_SIZE ? (int)(key_end - text) : NAME_SIZE;

        return err_set(err, ERR_INVALID, "unknown key '%.*s'", shown, text);
    }
    for (text = equals + 1; text < end && config_value_is_blank(*text);) {
        text++;
    }
    if (text < end && *text == '"') {
        wrong = read_quoted(value, text + 1, end);
    } else {
        read_plain(value, text, end);
    }
    if (wrong) {
        err_set(err, ERR_INVALID, "%s", wrong);
    } else if (apply(l, row, value, origin, err) == ERR_OK) {
        return ERR_OK;
    }
    return err_prefix(err, "%s", config_rows[row].key);
}

static int check_line(const char *text, size_t len, struct err *err)
{
    if (len > CONFIG_MAX_LINE_BYTES) {
        return err_set(err, ERR_INVALID, "the line has more than %d bytes", CONFIG_MAX_LINE_BYTES);
    }
    if (!config_value_is_text(text, len)) {
        return err_set(err, ERR_INVALID, "not UTF-8 text, or control characters in it");
    }
    return ERR_OK;
}

/* Origins are shown in comments, and in front of sentences that must still fit: the end of a long name is
 * enough, and a name that is no text is not shown. */
static void name_place(char to[CONFIG_ORIGIN_SIZE], const char *name, int line)
{
    const size_t shown = CONFIG_ORIGIN_SIZE - 40;
    const size_t len = strlen(name);
    const char *tail = len > shown ? name + (len - shown) : name;

    while (len > shown && ((unsigned char)*tail & 0xc0) == 0x80) {
        tail++;
    }
    if (!config_value_is_text(tail, strlen(tail))) {
        tail = "(a name that is not UTF-8 text)";
    }
    snprintf(to, CONFIG_ORIGIN_SIZE, "%s%s:%d", len > shown ? "..." : "", tail, line);
}

static int parse_text(struct loader *l, const char *text, size_t len, const char *name,
                      struct err *err)
{
    const char *end = text + len;

    l->layer++;
    for (int line = 1; text < end; line++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *line_end = newline ? newline : end;
        const char *next = newline ? newline + 1 : end;
        char place[CONFIG_ORIGIN_SIZE];

        if (line_end > text && line_end[-1] == '\r') {
            line_end--;
        }
        name_place(place, name, line);
        if (check_line(text, (size_t)(line_end - text), err) != ERR_OK ||
            parse_line(l, text, line_end, place, err) != ERR_OK) {
            return err_prefix(err, "%s", place);
        }
        text = next;
    }
    return ERR_OK;
}

int config_parse(struct config *config, const char *text, size_t len, const char *name,
                 struct err *err)
{
    struct loader l = {.c = config};

    return parse_text(&l, text, len, name, err);
}

/* Not a pipe or a terminal, which could keep a reload waiting; /dev/null is fine. */
static int read_open_file(int fd, struct str *ret, const char *path, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0) {
        return err_set(err, ERR_IO, "stat '%s': %m", path);
    }
    if (!S_ISREG(st.st_mode) && !S_ISCHR(st.st_mode)) {
        return err_set(err, ERR_INVALID, "'%s' is not a regular file", path);
    }
    for (;;) {
        char chunk[16384];
        const ssize_t n = read(fd, chunk, sizeof(chunk));

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return err_set(err, ERR_IO, "read '%s': %m", path);
        }
        if (n == 0) {
            return ERR_OK;
        }
        if (ret->len + (size_t)n > CONFIG_MAX_FILE_BYTES) {
            return err_set(err, ERR_INVALID, "'%s' has more than %d bytes", path,
                           CONFIG_MAX_FILE_BYTES);
        }
        if (!str_append(ret, chunk, (size_t)n)) {
            return err_set(err, ERR_NO_MEMORY, "reading '%s'", path);
        }
    }
}

static int load_file(struct loader *l, const char *path, bool optional, struct err *err)
{
    struct str text;
    int rc;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

    if (fd < 0) {
        return optional && errno == ENOENT ? ERR_OK : err_set(err, ERR_IO, "open '%s': %m", path);
    }
    str_init(&text, CONFIG_MAX_FILE_BYTES);
    rc = read_open_file(fd, &text, path, err);
    if (rc == ERR_OK) {
        rc = parse_text(l, str_get(&text), text.len, path, err);
    }
    str_done(&text);
    close(fd);
    return rc;
}

static int is_conf_name(const struct dirent *entry)
{
    const size_t len = strlen(entry->d_name);

    return entry->d_name[0] != '.' && len > 5 && strcmp(entry->d_name + len - 5, ".conf") == 0;
}

/* Not alphasort, whose order depends on the locale. */
static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static int load_folder(struct loader *l, const char *folder, struct err *err)
{
    struct dirent **entries = NULL;
    const int n = scandir(folder, &entries, is_conf_name, by_name);
    int rc = ERR_OK;

    if (n < 0) {
        return errno == ENOENT ? ERR_OK
                               : err_set(err, errno == ENOMEM ? ERR_NO_MEMORY : ERR_IO,
                                         "read '%s': %m", folder);
    }
    for (int i = 0; i < n; i++) {
        char path[4096];

        if (rc != ERR_OK) {
            free(entries[i]);
            continue;
        }
        if (snprintf(path, sizeof(path), "%s/%s", folder, entries[i]->d_name) < (int)sizeof(path)) {
            rc = load_file(l, path, false, err);
        } else {
            rc = err_set(err, ERR_INVALID, "'%s': the name is too long", entries[i]->d_name);
        }
        free(entries[i]);
    }
    free(entries);
    return rc;
}

/* Kubernetes gives every container SANAD_PORT... and SANAD_SERVICE_... when a service is named "sanad". The rest
 * is for the CUDA plugin, and for the simulator that stands in for a GPU in tests. */
static bool is_foreign_variable(const char *name, size_t len)
{
    static const char *const prefixes[] = {"SANAD_SERVICE_HOST", "SANAD_SERVICE_PORT",
                                           "SANAD_PORT",         "SANAD_CUDA_PLUGIN",
                                           "SANAD_CUBLASLT",     "SANAD_HOSTSIM"};

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++) {
        const size_t n = strlen(prefixes[i]);

        if (len >= n && memcmp(name, prefixes[i], n) == 0 && (len == n || name[n] == '_')) {
            return true;
        }
    }
    return false;
}

static int load_environment(struct loader *l, char *const *env, struct err *err)
{
    l->layer++;
    for (; *env; env++) {
        const char *equals = strchr(*env, '=');
        const size_t len = equals ? (size_t)(equals - *env) : 0;
        char name[NAME_SIZE];
        int row;

        if (!equals || strncmp(*env, "SANAD_", 6) != 0 || is_foreign_variable(*env, len)) {
            continue;
        }
        row = find_row(*env, len, spell_variable);
        if (row < 0) {
            return err_set(err, ERR_INVALID, "unknown setting %.*s in the environment",
                           len < NAME_SIZE ? (int)len : NAME_SIZE, *env);
        }
        spell_variable(name, config_rows[row].key);
        if (apply(l, row, equals + 1, name, err) != ERR_OK) {
            return err_prefix(err, "%s", name);
        }
    }
    return ERR_OK;
}

struct option {
    const char *name; /* without dashes */
    size_t len;
    const char *value;
};

/* Reads the option at argv[*i] and moves *i behind it. */
static int next_option(struct option *ret, int argc, char *const *argv, int *i, struct err *err)
{
    const char *arg = argv[(*i)++];

    if (strncmp(arg, "--", 2) != 0 || arg[2] == '\0' || arg[2] == '=') {
        return err_set(err, ERR_INVALID, "unexpected argument '%.80s'", arg);
    }
    ret->name = arg + 2;
    ret->len = strcspn(ret->name, "=");
    if (ret->name[ret->len] == '=') {
        ret->value = ret->name + ret->len + 1;
    } else if (*i < argc) {
        ret->value = argv[(*i)++];
    } else {
        ret->value = NULL; /* first of all it must be known */
    }
    return ERR_OK;
}

static bool is_config_option(const struct option *o)
{
    return o->len == strlen("config") && memcmp(o->name, "config", o->len) == 0;
}

/* Every option is known; *ret_file: what --config says, else NULL. */
static int check_options(const char **ret_file, int argc, char *const *argv, struct err *err)
{
    *ret_file = NULL;
    for (int i = 0; i < argc;) {
        struct option o = {.name = ""};
        const int rc = next_option(&o, argc, argv, &i, err);

        if (rc != ERR_OK) {
            return rc;
        }
        if (!is_config_option(&o)) {
            if (find_row(o.name, o.len, spell_option) < 0) {
                return err_set(err, ERR_INVALID, "unknown option '--%.*s'",
                               o.len < NAME_SIZE ? (int)o.len : NAME_SIZE, o.name);
            }
        }
        if (!o.value) {
            return err_set(err, ERR_INVALID, "--%.80s needs a value", o.name);
        }
        if (!is_config_option(&o)) {
            continue;
        }
        if (*ret_file) {
            return err_set(err, ERR_INVALID, "--config: given twice");
        }
        *ret_file = o.value;
    }
    return ERR_OK;
}

static int load_options(struct loader *l, int argc, char *const *argv, struct err *err)
{
    l->layer++;
    for (int i = 0; i < argc;) {
        struct option o = {.name = ""};
        char origin[NAME_SIZE + 2] = "--";
        int row;
        int rc = next_option(&o, argc, argv, &i, err);

        if (rc != ERR_OK) {
            return rc;
        }
        if (is_config_option(&o)) {
            continue;
        }
        row = find_row(o.name, o.len, spell_option);
        CHECK_BUG(row >= 0);
        spell_option(origin + 2, config_rows[row].key);
        rc = apply(l, row, o.value, origin, err);
        if (rc != ERR_OK) {
            return err_prefix(err, "%s", origin);
        }
    }
    return ERR_OK;
}

static const char *find_variable(char *const *env, const char *name)
{
    const size_t len = strlen(name);

    for (; *env; env++) {
        if (strncmp(*env, name, len) == 0 && (*env)[len] == '=') {
            return *env + len + 1;
        }
    }
    return NULL;
}

/* The XDG base directory specification: what is not absolute is ignored. */
static int choose_data_dir(struct config *c, const struct config_sources *s, struct err *err)
{
    const struct config_row *r = &config_rows[CONFIG_ROW_data_dir];
    const char *xdg = find_variable(s->env, "XDG_STATE_HOME");
    const char *home = find_variable(s->env, "HOME");
    const char *from;
    char path[sizeof(c->data_dir) + 32];
    int n;

    if (c->data_dir[0] != '\0') {
        return ERR_OK;
    }
    if (xdg && xdg[0] == '/') {
        from = "XDG_STATE_HOME";
        n = snprintf(path, sizeof(path), "%s/sanad", xdg);
    } else if (s->root) {
        from = "started as root";
        n = snprintf(path, sizeof(path), "/var/lib/sanad");
    } else if (home && home[0] == '/') {
        from = "HOME";
        n = snprintf(path, sizeof(path), "%s/.local/state/sanad", home);
    } else {
        return err_set(err, ERR_INVALID,
                       "data_dir: not set, and neither XDG_STATE_HOME nor HOME is a folder");
    }
    if (n >= (int)sizeof(path) || !config_value_is_text(path, (size_t)n) ||
        !config_value_set(c->data_dir, r, path)) {
        return err_set(err, ERR_INVALID, "data_dir: %s is not a path of at most %.0f bytes of text",
                       from, r->max);
    }
    snprintf(c->origin[CONFIG_ROW_data_dir], CONFIG_ORIGIN_SIZE, "default (%s)", from);
    return ERR_OK;
}

static int check_together(const struct config *c, struct err *err)
{
    const struct device_choice device = {.device = c->device};

    if (device_choice_check(&device, err) != ERR_OK) {
        return err_prefix(err, "%s", c->origin[CONFIG_ROW_device]);
    }
    if (c->worker_restart_delay_ms > c->worker_restart_delay_max_ms) {
        return err_set(err, ERR_INVALID,
                       "worker.restart_delay (%lld ms, %s) is more than worker.restart_delay_max "
                       "(%lld ms, %s)",
                       (long long)c->worker_restart_delay_ms,
                       c->origin[CONFIG_ROW_worker_restart_delay_ms],
                       (long long)c->worker_restart_delay_max_ms,
                       c->origin[CONFIG_ROW_worker_restart_delay_max_ms]);
    }
    return ERR_OK;
}

static int load_layers(struct loader *l, const struct config_sources *s, int argc,
                       char *const *argv, struct err *err)
{
    const char *file;
    int rc = check_options(&file, argc, argv, err);

    if (rc == ERR_OK) {
        rc = load_file(l, file ? file : s->file, !file, err);
    }
    if (rc == ERR_OK && !file) {
        rc = load_folder(l, s->folder, err);
    }
    if (rc == ERR_OK) {
        rc = load_environment(l, s->env, err);
    }
    if (rc == ERR_OK) {
        rc = load_options(l, argc, argv, err);
    }
    if (rc == ERR_OK) {
        rc = choose_data_dir(l->c, s, err);
    }
    return rc == ERR_OK ? check_together(l->c, err) : rc;
}

int config_load(struct config *ret, const struct config_sources *sources, int argc,
                char *const *argv, struct err *err)
{
    const struct config_sources machine = {
        .file = "/etc/sanad/sanad.conf",
        .folder = "/etc/sanad/conf.d",
        .env = environ,
        .root = geteuid() == 0,
    };
    struct loader l = {.c = malloc(sizeof(*l.c))};
    int rc;

    if (!l.c) {
        return err_set(err, ERR_NO_MEMORY, "reading the configuration");
    }
    config_init(l.c);
    rc = load_layers(&l, sources ? sources : &machine, argc, argv, err);
    if (rc == ERR_OK) {
        *ret = *l.c;
    }
    free(l.c);
    return rc;
}

int config_reload(struct config *current, const struct config_sources *sources, int argc,
                  char *const *argv, config_changed_fn changed, void *ctx, struct err *err)
{
    struct config *next = malloc(sizeof(*next));
    int rc;

    if (!next) {
        return err_set(err, ERR_NO_MEMORY, "reading the configuration");
    }
    rc = config_load(next, sources, argc, argv, err);
    for (int i = 0; rc == ERR_OK && i < CONFIG_N_ROWS; i++) {
        const struct config_row *r = &config_rows[i];
        const bool same = memcmp(value_of(current, r), value_of(next, r), r->size) == 0;

        if (same || r->reload) {
            memcpy(field_of(current, r), value_of(next, r), r->size);
            memcpy(current->origin[i], next->origin[i], CONFIG_ORIGIN_SIZE);
        }
        if (!same) {
            changed(ctx, r->key, r->reload);
        }
    }
    free(next);
    return rc;
}

/* ---- output ---- */

void config_print(const struct config *config, FILE *out)
{
    for (int i = 0; i < CONFIG_N_ROWS; i++) {
        const struct config_row *r = &config_rows[i];
        const int n = r->type == CONFIG_ADDRESSES
                          ? ((const struct config_addresses *)value_of(config, r))->n
                          : 1;

        for (int k = 0; k < n; k++) {
            fprintf(out, "%s = ", r->key);
            config_value_print(value_of(config, r), r, k, out);
            fprintf(out, "  # %s\n", config->origin[i]);
        }
    }
}

void config_sample(FILE *out)
{
    fputs("# sanad.conf - every setting of the daemon, with its default behind the \"#\".\n"
          "#\n"
          "# Read from /etc/sanad/sanad.conf, then /etc/sanad/conf.d/*.conf in the order of their "
          "names.\n"
          "# What is read later wins; the environment wins over the files, the command line over "
          "all.\n"
          "# There \"http.max_connections\" is SANAD_HTTP_MAX_CONNECTIONS or "
          "--http-max-connections.\n"
          "#\n"
          "# Values with a \"#\" behind a blank, or blanks at their ends, stand in \"quotes\".\n"
          "# What is marked (restart) is used at the next start, the rest after a reload.\n",
          out);
    for (int i = 0; i < CONFIG_N_ROWS; i++) {
        const struct config_row *r = &config_rows[i];
        char range[CONFIG_RANGE_SIZE];

        config_value_range(range, r);
        fprintf(out, "\n# %s\n# %s%s\n#%s = ", r->doc, range, r->reload ? "" : " (restart)",
                r->key);
        config_value_print_text(r->default_text, out);
        fputc('\n', out);
    }
}

void config_help(FILE *out)
{
    static const char *const words[] = {
        [CONFIG_TEXT] = "TEXT",     [CONFIG_PATH] = "PATH",  [CONFIG_INT] = "N",
        [CONFIG_NUMBER] = "X",      [CONFIG_BOOL] = "BOOL",  [CONFIG_CHOICE] = "WORD",
        [CONFIG_DURATION] = "TIME", [CONFIG_BYTES] = "SIZE", [CONFIG_ADDRESSES] = "ADDRESS",
    };

    fputs(
        "  --config FILE\n        Instead of /etc/sanad/sanad.conf and /etc/sanad/conf.d/*.conf.\n",
        out);
    for (int i = 0; i < CONFIG_N_ROWS; i++) {
        const struct config_row *r = &config_rows[i];
        char name[NAME_SIZE];
        char range[CONFIG_RANGE_SIZE];

        spell_option(name, r->key);
        config_value_range(range, r);
        fprintf(out, "  --%s %s\n        %s\n        ", name, words[r->type], r->doc);
        fprintf(out, "%s%s%s%s\n", range, r->default_text[0] ? "; default " : "", r->default_text,
                r->reload ? "" : " (restart)");
    }
}
