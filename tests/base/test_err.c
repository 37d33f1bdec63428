#include "base/err.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/test.h"

TEST(err_set_returns_the_code_and_keeps_the_sentence)
{
    struct err err;

    EXPECT_INT(err_set(&err, ERR_FORMAT, "%s: field %d", "a.bin", 7), ERR_FORMAT);
    EXPECT_INT(err.code, ERR_FORMAT);
    EXPECT_STR(err.msg, "a.bin: field 7");
}

TEST(err_set_sees_the_errno_of_its_caller)
{
    struct err err;

    errno = ENOENT;
    err_set(&err, ERR_IO, "open 'x': %m");
    EXPECT_STR(err.msg, "open 'x': No such file or directory");
}

TEST(err_set_cuts_a_long_sentence)
{
    char text[2 * sizeof(((struct err *)0)->msg)];
    struct err err;

    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    EXPECT_INT(err_set(&err, ERR_IO, "%s", text), ERR_IO);
    EXPECT_INT(strlen(err.msg), sizeof(err.msg) - 1);
    EXPECT(strspn(err.msg, "x") == sizeof(err.msg) - 1);
}

TEST(err_prefix_puts_context_in_front_and_keeps_the_code)
{
    struct err err;

    err_set(&err, ERR_NO_MEMORY, "queue of 3 items");
    EXPECT_INT(err_prefix(&err, "job %d", 12), ERR_NO_MEMORY);
    EXPECT_STR(err.msg, "job 12: queue of 3 items");
    EXPECT_INT(err_prefix(&err, "server"), ERR_NO_MEMORY);
    EXPECT_STR(err.msg, "server: job 12: queue of 3 items");
}

TEST(err_prefix_keeps_within_the_buffer)
{
    char text[2 * sizeof(((struct err *)0)->msg)];
    struct err err;

    memset(text, 'p', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    for (size_t n = sizeof(err.msg) - 8; n < sizeof(err.msg) + 8; n++) {
        err_set(&err, ERR_IO, "cause");
        EXPECT_INT(err_prefix(&err, "%.*s", (int)n, text), ERR_IO);
        EXPECT(strnlen(err.msg, sizeof(err.msg)) == sizeof(err.msg) - 1 ||
               strlen(err.msg) == n + strlen(": cause"));
        EXPECT(strncmp(err.msg, text, sizeof(err.msg) - 9) == 0);
    }
    memset(text, 'm', sizeof(text) - 1);
    err_set(&err, ERR_IO, "%s", text);
    err_prefix(&err, "file");
    EXPECT(strncmp(err.msg, "file: mmmm", 10) == 0);
    EXPECT_INT(strlen(err.msg), sizeof(err.msg) - 1);
}

TEST(err_code_name_knows_every_code_and_no_other)
{
    for (int code = ERR_FENCED; code <= ERR_OK; code++) {
        EXPECT(strcmp(err_code_name(code), "unknown") != 0);
    }
    EXPECT_STR(err_code_name(ERR_OK), "ok");
    EXPECT_STR(err_code_name(ERR_NO_MEMORY), "out_of_memory");
    EXPECT_STR(err_code_name(ERR_NO_VRAM), "out_of_memory");
    EXPECT_STR(err_code_name(ERR_NO_SPACE), "insufficient_storage");
    EXPECT_STR(err_code_name(1), "unknown");
    EXPECT_STR(err_code_name(ERR_FENCED - 1), "unknown");
}

/* Runs CHECK_BUG(cond) in a child; its wait status and what it wrote to stderr. */
static int bug_status(bool cond, char *text, size_t size)
{
    int status = -1;
    ssize_t n;
    int fd[2];
    pid_t pid;

    EXPECT(pipe(fd) == 0);
    pid = fork();
    EXPECT(pid >= 0);
    if (pid == 0) {
        dup2(fd[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        CHECK_BUG(cond);
        _exit(0);
    }
    close(fd[1]);
    n = read(fd[0], text, size - 1);
    text[n > 0 ? n : 0] = '\0';
    close(fd[0]);
    EXPECT(waitpid(pid, &status, 0) == pid);
    return status;
}

TEST(err_check_bug_says_where_and_aborts)
{
    char text[256];
    int status = bug_status(true, text, sizeof(text));

    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    EXPECT_STR(text, "");
    status = bug_status(false, text, sizeof(text));
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    EXPECT_CONTAINS(text, "bug: ");
    EXPECT_CONTAINS(text, "test_err.c:");
    EXPECT_CONTAINS(text, ": cond");
}
