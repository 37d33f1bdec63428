/*
 * commands.h - the subcommands of the binary. Each takes argv[0] = its name and returns the exit
 * status: 0; 1 the work failed; 2 the command line is wrong; 130 interrupted.
 */
#ifndef DAEMON_COMMANDS_H
#define DAEMON_COMMANDS_H

int cmd_bench(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_worker(int argc, char **argv);

#endif
