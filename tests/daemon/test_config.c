#include "daemon/config.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/support/alloc_fail.h"
#include "tests/support/test.h"

static struct config config; /* too large for comfort on a stack */
static struct config other;
static struct err err;

/* ---- the machine of these tests: a folder, an environment ---- */

static char *env[10] = {"HOME=/home/u", NULL};
static char etc_file[256];
static char etc_folder[256];
static struct config_sources sources = {
    .file = etc_file, .folder = etc_folder, .env = env, .root = false};

static void write_bytes(const char *path, const char *text, size_t len)
{
    FILE *f = fopen(path, "wb");

    EXPECT(f && fwrite(text, 1, len, f) == len && fclose(f) == 0);
}

static void write_file(const char *path, const char *text)
{
    write_bytes(path, text, strlen(text));
}

static void write_part(const char *name, const char *text)
{
    char path[512];

    snprintf(path, sizeof(path), "%s/%s", etc_folder, name);
    write_file(path, text);
}

/* Nothing but HOME; names start new files. */
static void new_machine(const char *name)
{
    snprintf(etc_file, sizeof(etc_file), "%s/%s.conf", test_dir(), name);
    snprintf(etc_folder, sizeof(etc_folder), "%s/%s.d", test_dir(), name);
    EXPECT(mkdir(etc_folder, 0700) == 0);
    env[0] = "HOME=/home/u";
    env[1] = NULL;
    sources.root = false;
    memset(&config, 0, sizeof(config));
}

static int load(int argc, char *const *argv)
{
    return config_load(&config, &sources, argc, argv, &err);
}

static int parse(const char *text)
{
    config_init(&config);
    return config_parse(&config, text, strlen(text), "f", &err);
}

static bool same_bytes(const void *a, const void *b, size_t n)
{
    return memcmp(a, b, n) == 0;
}

static void expect_refused(const char *text, const char *sentence)
{
    EXPECT_INT(parse(text), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, sentence);
}

/* What print(config, file) writes; the caller's. */
static char *print_to_text(void (*print)(const struct config *c, FILE *out), const struct config *c)
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);

    EXPECT(out);
    print(c, out);
    EXPECT(fclose(out) == 0);
    return text;
}

static void print_sample(const struct config *c, FILE *out)
{
    (void)c;
    config_sample(out);
}

static void print_help(const struct config *c, FILE *out)
{
    (void)c;
    config_help(out);
}

/* ---- the table ---- */

static void expect_other_names_differ(int row)
{
    const char *a = config_rows[row].key;

    for (int i = 0; i < row; i++) {
        const char *b = config_rows[i].key;
        size_t k = 0;

        /* options and variables do not tell dots from underscores */
        while (a[k] != '\0' &&
               (a[k] == b[k] || (strchr("._", a[k]) && b[k] && strchr("._", b[k])))) {
            k++;
        }
        EXPECT(a[k] != '\0' || b[k] != '\0');
    }
}

TEST(config_rows_have_a_doc_line_a_range_and_a_name_of_their_own)
{
    for (int i = 0; i < CONFIG_N_ROWS; i++) {
        const struct config_row *r = &config_rows[i];
        const size_t doc = strlen(r->doc);

        EXPECT(doc > 10 && doc <= 100);
        EXPECT(r->doc[doc - 1] == '.');
        EXPECT(strlen(r->key) > 0 && strlen(r->key) < 40);
        EXPECT(r->key[strspn(r->key, "abcdefghijklmnopqrstuvwxyz._")] == '\0');
        EXPECT(strcmp(r->key, "config") != 0);
        EXPECT(r->min <= r->max && r->max <= 9007199254740992.0);
        EXPECT((r->type == CONFIG_CHOICE) == (strchr(r->unit, '|') != NULL));
        EXPECT(strpbrk(r->default_text, "#\"") == NULL);
        expect_other_names_differ(i);
    }
}

TEST(config_defaults_are_within_their_ranges)
{
    for (int i = 0; i < CONFIG_N_ROWS; i++) {
        config_init(&config); /* stops at a default that its row refuses */
        EXPECT_STR(config.origin[i], "default");
    }
    EXPECT_INT(config.listen.n, 1);
    EXPECT_STR(config.listen.text[0], "127.0.0.1:7262");
    EXPECT_STR(config.device, "auto");
    EXPECT_INT(config.log_level, LOG_LEVEL_INFO);
    EXPECT_INT(config.drain_timeout_ms, 20000);
    EXPECT(config.storage_fsync);
    EXPECT_INT(config.storage_ttl_ms, 7 * 86400000LL);
    EXPECT_INT(config.storage_min_free_bytes, 64 << 20);
    EXPECT_INT(config.limits_multipart_body_bytes, 64 << 20);
    EXPECT(config.limits_max_seconds == 60);
    EXPECT_INT(config.worker_restart_delay_ms, 100);
    EXPECT_STR(config.data_dir, "");
}

TEST(config_choices_count_as_their_enums)
{
    EXPECT_OK(parse("log.level = err"));
    EXPECT_INT(config.log_level, LOG_LEVEL_ERR);
    EXPECT_OK(parse("log.level = warn"));
    EXPECT_INT(config.log_level, LOG_LEVEL_WARN);
    EXPECT_OK(parse("log.level = debug"));
    EXPECT_INT(config.log_level, LOG_LEVEL_DEBUG);
    EXPECT_OK(parse("precision = f32"));
    EXPECT_INT(config.precision, CONFIG_PRECISION_F32);
    expect_refused("precision = f16", "f:1: precision: 'f16' is not one of bf16|f32");
    expect_refused("precision = bf16|f32", "not one of");
    expect_refused("precision =", "not one of");
    EXPECT_OK(parse("text_encoder = host"));
    EXPECT_INT(config.text_encoder, CONFIG_TEXT_ENCODER_HOST);
    EXPECT_OK(parse("text_encoder = gpu"));
    EXPECT_INT(config.text_encoder, CONFIG_TEXT_ENCODER_GPU);
}

/* ---- values ---- */

TEST(config_times_have_units)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {{"0", 0},        {"5", 5000},        {"250ms", 250},          {"90s", 90000},
                {"2m", 120000},  {"36h", 129600000}, {"3650d", 315360000000}, {"00", 0},
                {"1000ms", 1000}};
    static const char *const bad[] = {"",      "s",   "1 s",
                                      "1.5h",  "-1s", "+1s",
                                      " 1",    "1S",  "1w",
                                      "3651d", "1sx", "9223372036854775807d",
                                      "0x1",   "1e3", "99999999999999999999"};
    char line[128];

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        snprintf(line, sizeof(line), "storage.ttl = %s", good[i].text);
        EXPECT_OK(parse(line));
        EXPECT_INT(config.storage_ttl_ms, good[i].ms);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        snprintf(line, sizeof(line), "storage.ttl = \"%s\"", bad[i]);
        expect_refused(line, "is not a time in 0..3650d (units ms, s, m, h, d; none: seconds)");
    }
    expect_refused("http.idle_timeout = 999ms", "is not a time in 1s..1h");
}

TEST(config_sizes_have_units)
{
    EXPECT_OK(parse("storage.max_bytes = 10GiB"));
    EXPECT_INT(config.storage_max_bytes, 10LL << 30);
    EXPECT_OK(parse("storage.max_bytes = 4096TiB"));
    EXPECT_INT(config.storage_max_bytes, 4096LL << 40);
    EXPECT_OK(parse("storage.max_bytes = 1000"));
    EXPECT_INT(config.storage_max_bytes, 1000);
    EXPECT_OK(parse("storage.max_bytes = 3KiB"));
    EXPECT_INT(config.storage_max_bytes, 3072);
    expect_refused("storage.max_bytes = 10GB", "'10GB' is not a size in 0..4096TiB (units KiB");
    expect_refused("storage.max_bytes = 4097TiB", "is not a size");
    expect_refused("storage.max_bytes = 99999999999TiB", "is not a size");
    expect_refused("storage.max_bytes = -1", "is not a size");
}

TEST(config_numbers_have_ranges)
{
    EXPECT_OK(parse("queue.capacity = 1"));
    EXPECT_OK(parse("queue.capacity = 100000"));
    EXPECT_INT(config.queue_capacity, 100000);
    expect_refused("queue.capacity = 0", "f:1: queue.capacity: '0' is not a whole number in "
                                         "1..100000 jobs");
    expect_refused("queue.capacity = 100001", "is not a whole number");
    expect_refused("queue.capacity = 1.5", "is not a whole number");
    expect_refused("queue.capacity = 1k", "is not a whole number");
    expect_refused("queue.capacity =", "'' is not a whole number");
    EXPECT_OK(parse("limits.max_seconds = 2.5"));
    EXPECT(config.limits_max_seconds == 2.5);
    expect_refused("limits.max_seconds = 900.1", "'900.1' is not a number in 0.1..900 seconds");
    expect_refused("limits.max_seconds = nan", "is not a number");
    expect_refused("limits.max_seconds = inf", "is not a number");
    expect_refused("limits.max_seconds = 0x10", "is not a number");
    expect_refused("limits.max_seconds = 1.2.3", "is not a number");
    expect_refused("limits.max_seconds = -", "is not a number");
    expect_refused("limits.max_seconds =", "is not a number");
    EXPECT_OK(parse("storage.fsync = false"));
    EXPECT(!config.storage_fsync);
    expect_refused("storage.fsync = yes", "'yes' is not true or false");
}

TEST(config_text_has_a_bound)
{
    char line[2048] = "model = ";
    const size_t before = strlen(line);

    memset(line + before, 'm', 1023);
    EXPECT_OK(parse(line));
    EXPECT_INT(strlen(config.model), 1023);
    line[before + 1023] = 'm';
    expect_refused(line, "is not a path of at most 1023 bytes");
}

TEST(config_listens_on_addresses)
{
    static const char *const good[] = {"0.0.0.0:80",        "localhost:0",
                                       "a-b.example:65535", "[::1]:7262",
                                       "[fe80::1%eth0]:1",  "unix:/run/sanad/api sock"};
    static const char *const bad[] = {
        "",          ":80",         "host",     "host:",      "host:65536",  "host:-1",
        "host:8x",   "::1:80",      "[::1]",    "[::1]80",    "[::1:80",     "[]:80",
        "[::1%]:80", "[1.2.3.4]:1", "[::g]:1",  "unix:run/x", "unix:",       "a:1,",
        "a:1,,b:2",  ",a:1",        "ho st:80", "*:80",       "http://a:80", "[::1]:+1"};
    char line[512];

    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        snprintf(line, sizeof(line), "listen = %s", good[i]);
        EXPECT_OK(parse(line));
        EXPECT_INT(config.listen.n, 1);
        EXPECT_STR(config.listen.text[0], good[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        snprintf(line, sizeof(line), "listen = %s", bad[i]);
        expect_refused(line, "is not an address or a list of them");
    }
    snprintf(line, sizeof(line), "listen = unix:/%0107d", 0);
    expect_refused(line, "is not an address");
    snprintf(line, sizeof(line), "listen = unix:/%0106d", 0);
    EXPECT_OK(parse(line));
    snprintf(line, sizeof(line), "listen = %0300d:1", 0);
    expect_refused(line, "is not an address");
}

TEST(config_listens_on_several_addresses_up_to_a_bound)
{
    char text[1024] = "";
    size_t len = 0;

    EXPECT_OK(parse("listen = a:1 ,\tb:2\nlisten = \"unix:/s#1\"\n"));
    EXPECT_INT(config.listen.n, 3);
    EXPECT_STR(config.listen.text[0], "a:1");
    EXPECT_STR(config.listen.text[1], "b:2");
    EXPECT_STR(config.listen.text[2], "unix:/s#1");
    EXPECT_STR(config.origin[CONFIG_ROW_listen], "f:1");
    for (int i = 0; i < CONFIG_MAX_ADDRESSES; i++) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, "listen = h:%d\n", i);
    }
    EXPECT_OK(parse(text));
    EXPECT_INT(config.listen.n, CONFIG_MAX_ADDRESSES);
    snprintf(text + len, sizeof(text) - len, "listen = h:99\n");
    expect_refused(text, "f:17: listen: 'h:99' is not an address or a list of them: HOST:PORT, "
                         "[IPV6]:PORT or unix:/PATH; at most 16 of them");
}

/* ---- the file's form ---- */

TEST(config_files_have_comments_blanks_and_quotes)
{
    EXPECT_OK(parse("# comment\r\n\n  \t\r\n\t# another = one\n"
                    "queue.capacity=7\r\n"
                    "  threads =\t3   # comment\n"
                    "model = /a b#c \\x \"y\"  \t# comment # more\n"
                    "worker.command = \"  \\\"q\\\\ # = \xc3\xbc \"  # comment\n"
                    "device = cpu"));
    EXPECT_INT(config.queue_capacity, 7);
    EXPECT_INT(config.threads, 3);
    EXPECT_STR(config.model, "/a b#c \\x \"y\"");
    EXPECT_STR(config.worker_command, "  \"q\\ # = \xc3\xbc ");
    EXPECT_STR(config.device, "cpu");
    EXPECT_STR(config.origin[CONFIG_ROW_device], "f:9");
    EXPECT_OK(parse("data_dir = /x\nmodel = # nothing\n"));
    EXPECT_STR(config.model, "");
    EXPECT_OK(parse(""));
}

TEST(config_refuses_lines_with_their_place)
{
    expect_refused("\n\nqueue.capacty = 5\n", "f:3: unknown key 'queue.capacty'");
    expect_refused("queue_capacity = 5", "unknown key 'queue_capacity'");
    expect_refused("Threads = 5", "unknown key 'Threads'");
    expect_refused("= 5", "unknown key ''");
    expect_refused("config = /x", "unknown key 'config'");
    expect_refused("[queue]", "f:1: expected 'key = value'");
    expect_refused("threads 5", "expected 'key = value'");
    expect_refused("threads = 5\nmodel = m\nthreads = 5",
                   "f:3: threads: given twice; first in f:1");
    expect_refused("model = \"a", "f:1: model: the closing quote is missing");
    expect_refused("model = \"a\\\"", "the closing quote is missing");
    expect_refused("model = \"", "the closing quote is missing");
    expect_refused("model = \"a\\n\"", "only \\\" and \\\\ are escapes");
    expect_refused("model = \"a\\", "only \\\" and \\\\ are escapes");
    expect_refused("model = \"a\" b", "something behind the closing quote");
}

TEST(config_refuses_what_is_not_text)
{
    static const char *const bad[] = {
        "model = \xff",   "model = \xc3",       "model = \xc0\x80",   "model = \xe0\x80\x80",
        "# \xed\xa0\x80", "# \xf0\x80\x80\x80", "# \xf4\x90\x80\x80", "# \xf5\x80\x80\x80",
        "# \xe2\x82",     "\xef\xbb",           "model = a\rb",       "model = \x01",
        "model = \x7f",   "model = \x1b[2J",    "model = a\r\r\n"};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        expect_refused(bad[i], "f:1: not UTF-8 text, or control characters in it");
    }
    config_init(&config);
    EXPECT_INT(config_parse(&config, "model = a\0b", 11, "f", &err), ERR_INVALID);
    EXPECT_OK(parse("model = \xe0\xa0\x80\xed\x9f\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
}

TEST(config_bounds_lines)
{
    static char line[CONFIG_MAX_LINE_BYTES + 8];

    memset(line, '#', CONFIG_MAX_LINE_BYTES);
    EXPECT_OK(parse(line));
    line[CONFIG_MAX_LINE_BYTES] = '#';
    expect_refused(line, "f:1: the line has more than 4096 bytes");
    memset(line, 'm', CONFIG_MAX_LINE_BYTES);
    memcpy(line, "model = ", 8); /* a value as long as the line can be */
    line[CONFIG_MAX_LINE_BYTES] = '\0';
    expect_refused(line, "is not a path");
    memcpy(line, "model = \"", 9);
    expect_refused(line, "the closing quote is missing");
}

/* ---- sources ---- */

TEST(config_later_sources_win)
{
    char *const argv[] = {"--queue-capacity=5", "--threads", "6", "--http-max-connections=77"};

    new_machine("precedence");
    EXPECT_OK(load(0, NULL));
    EXPECT_INT(config.queue_capacity, 256);
    write_file(etc_file, "queue.capacity = 2\nthreads = 2\nevents.keep = 2\nlimits.max_frames = 2\n"
                         "queue.per_client = 2\n");
    EXPECT_OK(load(0, NULL));
    EXPECT_INT(config.queue_capacity, 2);
    write_part("20-b.conf", "events.keep = 4\nlimits.max_frames = 4\n");
    write_part("10-a.conf",
               "queue.capacity = 3\nthreads = 3\nevents.keep = 3\nlimits.max_frames = 3\n");
    write_part(".hidden.conf", "nonsense");
    write_part("20-b.conf.bak", "nonsense");
    write_part(".conf", "nonsense");
    env[1] = "SANAD_LIMITS_MAX_FRAMES=5";
    env[2] = "SANAD_QUEUE_CAPACITY=4";
    env[3] = NULL;
    EXPECT_OK(load(ARRAY_LEN(argv), argv));
    EXPECT_INT(config.queue_per_client, 2);
    EXPECT_INT(config.events_keep, 4);
    EXPECT_INT(config.limits_max_frames, 5);
    EXPECT_INT(config.queue_capacity, 5);
    EXPECT_INT(config.threads, 6);
    EXPECT_INT(config.http_max_connections, 77);
    EXPECT_INT(config.events_keep_time_ms, 3600000);
    EXPECT_CONTAINS(config.origin[CONFIG_ROW_queue_per_client], "/precedence.conf:5");
    EXPECT_CONTAINS(config.origin[CONFIG_ROW_events_keep], "/precedence.d/20-b.conf:1");
    EXPECT_STR(config.origin[CONFIG_ROW_limits_max_frames], "SANAD_LIMITS_MAX_FRAMES");
    EXPECT_STR(config.origin[CONFIG_ROW_queue_capacity], "--queue-capacity");
    EXPECT_STR(config.origin[CONFIG_ROW_events_keep_time_ms], "default");
}

TEST(config_addresses_of_a_later_source_replace)
{
    char *const argv[] = {"--listen=x:1", "--listen", "y:2,z:3"};

    new_machine("addresses");
    write_file(etc_file, "listen = a:1\nlisten = b:2\n");
    EXPECT_OK(load(0, NULL));
    EXPECT_INT(config.listen.n, 2);
    write_part("a.conf", "listen = c:3\n");
    EXPECT_OK(load(0, NULL));
    EXPECT_INT(config.listen.n, 1);
    EXPECT_STR(config.listen.text[0], "c:3");
    EXPECT_OK(load(ARRAY_LEN(argv), argv));
    EXPECT_INT(config.listen.n, 3);
    EXPECT_STR(config.listen.text[0], "x:1");
    EXPECT_STR(config.listen.text[2], "z:3");
}

TEST(config_option_stands_in_for_etc)
{
    char mine[300];
    char *argv[] = {"--config", mine, "--threads=9"};

    new_machine("config-option");
    snprintf(mine, sizeof(mine), "%s/mine.conf", test_dir());
    write_file(etc_file, "nonsense");
    write_part("a.conf", "nonsense");
    write_file(mine, "queue.capacity = 12\nthreads = 1\n");
    EXPECT_OK(load(3, argv));
    EXPECT_INT(config.queue_capacity, 12);
    EXPECT_INT(config.threads, 9);
    EXPECT(unlink(mine) == 0);
    EXPECT_INT(load(3, argv), ERR_IO);
    EXPECT_CONTAINS(err.msg, "mine.conf': No such file");
    argv[1] = etc_folder;
    EXPECT_INT(load(3, argv), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "is not a regular file");
    argv[1] = "/dev/null";
    EXPECT_OK(load(3, argv));
    EXPECT_INT(load(0, NULL), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "config-option.conf:1: expected 'key = value'");
}

TEST(config_knows_the_names_of_devices)
{
    static char *const good[] = {"--device=auto", "--device=cpu", "--device=cuda",
                                 "--device=cuda:0", "--device=cuda:15"};
    static char *const bad[] = {"--device=cp",      "--device=cuda:",   "--device=cuda:16",
                                "--device=cuda:-1", "--device=cuda:1x", "--device=auto|cpu"};

    new_machine("devices");
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        EXPECT_OK(load(1, (char **)&good[i]));
        EXPECT_STR(config.device, good[i] + strlen("--device="));
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        EXPECT_INT(load(1, (char **)&bad[i]), ERR_INVALID);
        EXPECT_CONTAINS(err.msg, "--device: device: '");
        EXPECT_CONTAINS(err.msg, "is none of auto, cpu, cuda and cuda:N");
    }
    write_file(etc_file, "threads = 2\ndevice = gpu\n");
    EXPECT_INT(load(0, NULL), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "devices.conf:2: device: 'gpu' is none of");
}

TEST(config_refuses_options)
{
    static const struct {
        char *argv[3];
        int argc;
        const char *sentence;
    } bad[] = {
        {{"--thread=1"}, 1, "unknown option '--thread'"},
        {{"--data_dir=/x"}, 1, "unknown option '--data_dir'"},
        {{"--http.max-connections", "20"}, 2, "unknown option '--http.max-connections'"},
        {{"serve"}, 1, "unexpected argument 'serve'"},
        {{"-t", "1"}, 2, "unexpected argument '-t'"},
        {{"--"}, 1, "unexpected argument '--'"},
        {{"--=3"}, 1, "unexpected argument '--=3'"},
        {{""}, 1, "unexpected argument ''"},
        {{"--threads"}, 1, "--threads needs a value"},
        {{"--config"}, 1, "--config needs a value"},
        {{"--config=/dev/null", "--config=/dev/null"}, 2, "--config: given twice"},
        {{"--threads=1", "--threads=2"}, 2, "--threads: given twice"},
        {{"--threads=257"}, 1, "--threads: '257' is not a whole number in 0..256 threads"},
        {{"--threads="}, 1, "--threads: '' is not"},
        {{"--model=\xff"}, 1, "--model: not UTF-8 text"},
    };

    new_machine("options");
    other = config;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        EXPECT_INT(load(bad[i].argc, bad[i].argv), ERR_INVALID);
        EXPECT_CONTAINS(err.msg, bad[i].sentence);
        EXPECT(same_bytes(&config, &other, sizeof(config)));
    }
}

TEST(config_refuses_variables_but_not_those_of_others)
{
    static const struct {
        char *variable;
        const char *sentence;
    } bad[] = {
        {"SANAD_THREAD=1", "unknown setting SANAD_THREAD in the environment"},
        {"SANAD_=1", "unknown setting SANAD_ "},
        {"SANAD_PORTS=1", "unknown setting SANAD_PORTS"},
        {"SANAD_THREADS=x", "SANAD_THREADS: 'x' is not a whole number"},
        {"SANAD_MODEL=a\nb", "SANAD_MODEL: not UTF-8 text"},
    };

    new_machine("variables");
    env[2] = NULL;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        env[1] = bad[i].variable;
        EXPECT_INT(load(0, NULL), ERR_INVALID);
        EXPECT_CONTAINS(err.msg, bad[i].sentence);
    }
    env[1] = "SANAD_PORT_7262_TCP=tcp://10.0.0.1:7262";
    env[2] = "SANAD_SERVICE_HOST=10.0.0.1";
    env[3] = "SANAD_PORT=tcp://10.0.0.1:7262";
    env[4] = "SANAD_SERVICE_PORT_HTTP=7262";
    env[5] = "SANADX=1";
    env[6] = "SANAD_CUDA_PLUGIN=/lib/libsanad_cuda.so";
    env[7] = "SANAD_CUBLASLT=/lib/libcublasLt.so";
    env[8] = NULL;
    EXPECT_OK(load(0, NULL));
}

TEST(config_refuses_files_that_cannot_be_read)
{
    char *big = test_alloc(CONFIG_MAX_FILE_BYTES + 1);
    char link[600];

    new_machine("unreadable");
    memset(big, '\n', CONFIG_MAX_FILE_BYTES + 1);
    write_bytes(etc_file, big, CONFIG_MAX_FILE_BYTES);
    EXPECT_OK(load(0, NULL));
    write_bytes(etc_file, big, CONFIG_MAX_FILE_BYTES + 1);
    free(big);
    EXPECT_INT(load(0, NULL), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "has more than 1048576 bytes");
    EXPECT(unlink(etc_file) == 0 && mkfifo(etc_file, 0600) == 0);
    EXPECT_INT(load(0, NULL), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "is not a regular file");
    EXPECT(unlink(etc_file) == 0);
    snprintf(link, sizeof(link), "%s/a.conf", etc_folder);
    EXPECT(symlink("/nonexistent", link) == 0);
    EXPECT_INT(load(0, NULL), ERR_IO);
    EXPECT(unlink(link) == 0 && rmdir(etc_folder) == 0);
    EXPECT_OK(load(0, NULL)); /* neither file nor folder */
    write_file(etc_folder, "");
    EXPECT_INT(load(0, NULL), ERR_IO);
}

TEST(config_keeps_sentences_readable_behind_long_names)
{
    char name[2048];

    memset(name, 'n', sizeof(name));
    snprintf(name + sizeof(name) - 8, 8, "/e.conf");
    config_init(&config);
    EXPECT_INT(config_parse(&config, "threads = -", 11, name, &err), ERR_INVALID);
    EXPECT(strncmp(err.msg, "...n", 4) == 0);
    EXPECT_CONTAINS(err.msg, "/e.conf:1: threads: '-' is not a whole number in 0..256 threads");
    EXPECT_OK(config_parse(&config, "threads = 1", 11, "a\nb\xff", &err));
    EXPECT_STR(config.origin[CONFIG_ROW_threads], "(a name that is not UTF-8 text):1");
}

TEST(config_chooses_a_data_dir)
{
    static char long_home[1200];
    char *const argv[] = {"--data-dir=rel/x"};

    new_machine("data-dir");
    EXPECT_OK(load(0, NULL));
    EXPECT_STR(config.data_dir, "/home/u/.local/state/sanad");
    EXPECT_STR(config.origin[CONFIG_ROW_data_dir], "default (HOME)");
    sources.root = true;
    EXPECT_OK(load(0, NULL));
    EXPECT_STR(config.data_dir, "/var/lib/sanad");
    env[1] = "XDG_STATE_HOME=relative";
    env[2] = NULL;
    EXPECT_OK(load(0, NULL));
    EXPECT_STR(config.data_dir, "/var/lib/sanad");
    env[1] = "XDG_STATE_HOME=/s";
    EXPECT_OK(load(0, NULL));
    EXPECT_STR(config.data_dir, "/s/sanad");
    EXPECT_OK(load(1, argv));
    EXPECT_STR(config.data_dir, "rel/x");
    sources.root = false;
    env[0] = env[1] = NULL;
    EXPECT_INT(load(0, NULL), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "data_dir: not set");
    EXPECT_OK(load(1, argv));
    snprintf(long_home, sizeof(long_home), "HOME=/%01100d", 0);
    env[0] = long_home;
    EXPECT_INT(load(0, NULL), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "data_dir: HOME is not a path of at most 1023 bytes");
}

TEST(config_checks_settings_against_each_other)
{
    char *const argv[] = {"--worker-restart-delay=11s"};

    new_machine("together");
    EXPECT_INT(load(1, argv), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "worker.restart_delay (11000 ms, --worker-restart-delay) is more than "
                             "worker.restart_delay_max (10000 ms, default)");
}

TEST(config_reads_this_machine_without_sources)
{
    char *const argv[] = {"--config=/dev/null", "--data-dir=/d"};

    EXPECT_OK(config_load(&config, NULL, 2, argv, &err));
    EXPECT_STR(config.data_dir, "/d");
}

/* ---- reload ---- */

struct changes {
    int applied, kept;
    char last_applied[64], last_kept[64];
};

static void note_change(void *ctx, const char *key, bool applied)
{
    struct changes *c = ctx;

    if (applied) {
        c->applied++;
        snprintf(c->last_applied, sizeof(c->last_applied), "%s", key);
    } else {
        c->kept++;
        snprintf(c->last_kept, sizeof(c->last_kept), "%s", key);
    }
}

TEST(config_reload_applies_what_may_change)
{
    struct changes c = {0};

    new_machine("reload");
    write_file(etc_file, "listen = a:1\nqueue.capacity = 10\nmodel = /long/name\n");
    EXPECT_OK(load(0, NULL));
    EXPECT_OK(config_reload(&config, &sources, 0, NULL, note_change, &c, &err));
    EXPECT_INT(c.applied + c.kept, 0);
    write_file(etc_file, "\nqueue.capacity = 11\nlisten = a:1\nmodel = /n\n");
    EXPECT_OK(config_reload(&config, &sources, 0, NULL, note_change, &c, &err));
    EXPECT_INT(c.applied, 1);
    EXPECT_STR(c.last_applied, "queue.capacity");
    EXPECT_INT(c.kept, 1);
    EXPECT_STR(c.last_kept, "model");
    EXPECT_INT(config.queue_capacity, 11);
    EXPECT_CONTAINS(config.origin[CONFIG_ROW_queue_capacity], "reload.conf:2");
    EXPECT_STR(config.model, "/long/name");
    EXPECT_CONTAINS(config.origin[CONFIG_ROW_model], "reload.conf:3");
    EXPECT_CONTAINS(config.origin[CONFIG_ROW_listen], "reload.conf:3");
    write_file(etc_file, "queue.capacity = 10\nmodel = /long/name\n"); /* back, but for listen */
    EXPECT_OK(config_reload(&config, &sources, 0, NULL, note_change, &c, &err));
    EXPECT_INT(c.applied, 2);
    EXPECT_INT(c.kept, 2);
    EXPECT_STR(c.last_kept, "listen");
    EXPECT_STR(config.listen.text[0], "a:1");
}

TEST(config_reload_that_fails_changes_nothing)
{
    struct changes c = {0};

    new_machine("reload-bad");
    EXPECT_OK(load(0, NULL));
    other = config;
    write_file(etc_file, "queue.capacity = 11\nthreads = x\n");
    EXPECT_INT(config_reload(&config, &sources, 0, NULL, note_change, &c, &err), ERR_INVALID);
    EXPECT_CONTAINS(err.msg, "reload-bad.conf:2: threads");
    EXPECT_INT(c.applied + c.kept, 0);
    EXPECT(same_bytes(&config, &other, sizeof(config)));
}

TEST(config_survives_failing_allocations)
{
    struct changes c = {0};

    new_machine("memory");
    write_file(etc_file, "queue.capacity = 10\n");
    write_part("a.conf", "threads = 3\n");
    config_init(&config);
    for (long n = 1;; n++) {
        int rc;

        alloc_fail_at(n);
        rc = config_reload(&config, &sources, 0, NULL, note_change, &c, &err);
        if (!alloc_fail_stop()) {
            EXPECT_OK(rc);
            EXPECT(n > 3);
            break;
        }
        EXPECT_INT(rc, ERR_NO_MEMORY);
        EXPECT_INT(config.queue_capacity, 256);
    }
    EXPECT_INT(config.queue_capacity, 10);
}

/* ---- output ---- */

TEST(config_print_reads_back_as_the_same_values)
{
    char *text;
    char *again;

    EXPECT_OK(parse(
        "listen = a:1, [::1]:2\nlisten = \"unix:/a \\\"#\"\nmodel = \" # \\\\ \\\" \xc3\xa4\"\n"
        "limits.max_seconds = 0.30000000000000004\nstorage.ttl = 90s\n"
        "storage.max_bytes = 1536MiB\nstorage.fsync = false\nlog.level = debug\n"
        "worker.command = a;b\nevents.keep_time = 1001ms\n"));
    text = print_to_text(config_print, &config);
    EXPECT_CONTAINS(text, "listen = a:1  # f:1\nlisten = [::1]:2  # f:1\n");
    EXPECT_CONTAINS(text, "storage.max_bytes = 1536MiB  # f:6\n");
    EXPECT_CONTAINS(text, "storage.ttl = 90s  # f:5\n");
    EXPECT_CONTAINS(text, "log.level = debug  # f:8\n");
    EXPECT_CONTAINS(text, "threads = 0  # default\n");
    EXPECT_CONTAINS(text, "data_dir = \"\"  # default\n");
    config_init(&other);
    EXPECT_OK(config_parse(&other, text, strlen(text), "g", &err));
    for (int i = 0; i < CONFIG_N_ROWS; i++) {
        const size_t offset = config_rows[i].offset;

        EXPECT(same_bytes((char *)&config + offset, (char *)&other + offset, config_rows[i].size));
    }
    memcpy(other.origin, config.origin, sizeof(config.origin));
    again = print_to_text(config_print, &other);
    EXPECT_STR(again, text);
    free(text);
    free(again);
}

TEST(config_sample_is_the_file_in_docs)
{
    char *sample = print_to_text(print_sample, NULL);
    char *docs = test_alloc(1 << 16);
    FILE *f = fopen("docs/sanad.conf", "rb");
    size_t n;

    EXPECT(f);
    n = fread(docs, 1, (1 << 16) - 1, f);
    docs[n] = '\0';
    fclose(f);
    EXPECT_STR(docs, sample);
    free(docs);
    free(sample);
}

/* Its settings, without the "#" in front of them, are the defaults. */
TEST(config_sample_holds_every_default)
{
    char *sample = print_to_text(print_sample, NULL);
    char *to = sample;
    int settings = 0;

    for (const char *p = sample; *p; p++) {
        if (*p == '#' && p[1] >= 'a' && p[1] <= 'z' && (p == sample || p[-1] == '\n')) {
            settings++;
        } else {
            *to++ = *p;
        }
    }
    *to = '\0';
    EXPECT_INT(settings, CONFIG_N_ROWS);
    EXPECT_OK(parse(sample));
    free(sample);
    config_init(&other);
    EXPECT(same_bytes(&config, &other, offsetof(struct config, origin)));
    for (int i = 0; i < CONFIG_N_ROWS; i++) {
        EXPECT(strncmp(config.origin[i], "f:", 2) == 0);
    }
}

TEST(config_help_names_every_option)
{
    char *help = print_to_text(print_help, NULL);
    int options = 0;

    for (const char *p = help; (p = strstr(p, "\n  --")) != NULL; p++) {
        options++;
    }
    EXPECT_INT(options, CONFIG_N_ROWS); /* and --config, at the beginning */
    EXPECT_CONTAINS(help, "  --http-max-connections-per-ip N\n");
    EXPECT_CONTAINS(help, "16..65536 connections; default 4096 (restart)\n");
    for (const char *line = help; *line;) {
        const size_t len = strcspn(line, "\n");

        EXPECT(len <= 110);
        line += len + 1;
    }
    free(help);
}
