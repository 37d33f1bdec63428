/*
 * sanad: the subcommands.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/macros.h"
#include "daemon/commands.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"serve", cmd_serve,
     "the daemon: sanad serve --listen 127.0.0.1:7262 --data-dir DIR --model DIR"},
    {"generate", cmd_generate, "make one video: sanad generate \"PROMPT\" -o out.mp4 --model DIR"},
    {"inspect", cmd_inspect, "say what a model directory holds: sanad inspect DIR"},
    {"bench", cmd_bench, "measure a GPU with models of the published shapes; no files needed"},
    {"worker", cmd_worker, "the daemon's child; not for use by hand"},
};

static void print_help(FILE *out)
{
    fprintf(out, "sanad " SANAD_VERSION " - video from text with SANA-Video models\n\n"
                 "usage: sanad COMMAND [ARGUMENTS]\n\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].help);
    }
    fprintf(out, "\n'sanad COMMAND --help' lists a command's options; the manual is sanad(1).\n");
}

/* A standard stream that the caller closed gets a descriptor that refuses writing; else the next
 * file that is opened, such as the video, would take its number and receive what we print. */
static void open_standard_streams(void)
{
    int fd;

    do {
        fd = open("/dev/null", O_RDONLY);
    } while (fd >= 0 && fd < STDERR_FILENO);
    if (fd > STDERR_FILENO) {
        close(fd);
    }
}

/* What was printed must have arrived. */
static int finish_stdout(int status)
{
    if (fflush(stdout) == 0 && !ferror(stdout)) {
        return status;
    }
    fprintf(stderr, "sanad: standard output could not be written\n");
    return status != 0 ? status : 1;
}

int main(int argc, char **argv)
{
    open_standard_streams();
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ||
        strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return finish_stdout(0);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("sanad " SANAD_VERSION "\n");
        return finish_stdout(0);
    }
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return finish_stdout(commands[i].run(argc - 1, argv + 1));
        }
    }
    fprintf(stderr, "sanad: unknown command '%s'; see 'sanad --help'\n", argv[1]);
    return 2;
}
