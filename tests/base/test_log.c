#include "base/log.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/test.h"

/* What fn wrote to stderr. */
static const char *captured(void (*fn)(void))
{
    static char text[8192];
    const int saved = dup(STDERR_FILENO);
    FILE *f = tmpfile();
    size_t n;

    EXPECT(f && saved >= 0);
    EXPECT(dup2(fileno(f), STDERR_FILENO) >= 0);
    fn();
    EXPECT(dup2(saved, STDERR_FILENO) >= 0);
    close(saved);
    rewind(f);
    n = fread(text, 1, sizeof(text) - 1, f);
    text[n] = '\0';
    EXPECT(fclose(f) == 0);
    return text;
}

static void one_of_each(void)
{
    log_err("e=%d", 1);
    log_warn("w=%s", "two");
    log_info("i=3");
    log_debug("d=4");
}

TEST(log_gives_the_journal_its_priorities)
{
    EXPECT(setenv("JOURNAL_STREAM", "8:1", 1) == 0);
    EXPECT_STR(captured(one_of_each), "<3>e=1\n<4>w=two\n<6>i=3\n"); /* no debug by default */
    log_set_level(LOG_LEVEL_DEBUG);
    EXPECT_STR(captured(one_of_each), "<3>e=1\n<4>w=two\n<6>i=3\n<7>d=4\n");
    log_set_level(LOG_LEVEL_ERR);
    EXPECT_STR(captured(one_of_each), "<3>e=1\n");
    log_set_level(LOG_LEVEL_INFO);
    EXPECT(unsetenv("JOURNAL_STREAM") == 0);
}

static void one_warning(void)
{
    log_warn("job=%d odd", 7);
}

TEST(log_gives_people_the_time_in_utc)
{
    /* 2026-08-23T12:34:56.789Z warn job=7 odd */
    static const char form[] = "dddd-dd-ddTdd:dd:dd.dddZ warn job=7 odd\n";
    const char *line;

    EXPECT(unsetenv("JOURNAL_STREAM") == 0);
    line = captured(one_warning);
    EXPECT_INT(strlen(line), strlen(form));
    for (size_t i = 0; i < strlen(" dddd-dd-ddTdd:dd:dd.ddd") - 1; i++) {
        EXPECT(form[i] == 'd' ? line[i] >= '0' && line[i] <= '9' : line[i] == form[i]);
    }
    EXPECT_STR(line + 23, form + 23);
}

static void a_long_line(void)
{
    char text[5000];

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_err("%s", text);
    log_err("next");
}

TEST(log_cuts_a_long_line_and_ends_it)
{
    const char *text;
    const char *end;

    EXPECT(setenv("JOURNAL_STREAM", "8:1", 1) == 0);
    text = captured(a_long_line);
    EXPECT(strncmp(text, "<3>xxxx", 7) == 0);
    end = strchr(text, '\n');
    EXPECT(end && end[-1] == 'x');
    EXPECT_INT(end - text, 1022); /* the line's buffer of 1024 also holds a NUL */
    EXPECT_STR(end, "\n<3>next\n");
    EXPECT(unsetenv("JOURNAL_STREAM") == 0);
}
