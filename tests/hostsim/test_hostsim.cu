/*
 * test_hostsim - is the simulator right, and does it see what it must?
 *
 * Every program of planted_*.cu in the three orders, each in a process of its own: the right ones give the
 * right result, the wrong ones are caught in the orders that are said to catch them.
 */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/hostsim/planted.h"

extern "C" {
#include "tests/support/test.h"
}
#pragma GCC diagnostic ignored "-Wmissing-field-initializers" /* TEST is C */

/* ---- what the programs share ---- */

float *planted_upload(const float *values, int n)
{
    float *p;

    if (cudaMalloc(&p, (size_t)n * sizeof(float)) != cudaSuccess ||
        cudaMemcpy(p, values, (size_t)n * sizeof(float), cudaMemcpyHostToDevice) != cudaSuccess ||
        cudaDeviceSynchronize() != cudaSuccess) {
        _exit(2);
    }
    return p;
}

float *planted_zeros(int n)
{
    float *zeros = (float *)calloc((size_t)n, sizeof(float));
    float *p = planted_upload(zeros, n);

    free(zeros);
    return p;
}

int planted_compare(const float *device, const float *want, int n)
{
    float *got = (float *)malloc((size_t)n * sizeof(float) + 1);
    int wrong = 0;

    if (cudaDeviceSynchronize() != cudaSuccess ||
        (n > 0 && cudaMemcpy(got, device, (size_t)n * sizeof(float), cudaMemcpyDeviceToHost) !=
                      cudaSuccess) ||
        cudaGetLastError() != cudaSuccess) {
        free(got);
        return -1;
    }
    for (int i = 0; i < n; i++) {
        wrong += got[i] == want[i] ? 0 : 1;
    }
    free(got);
    return wrong;
}

/* ---- a program in a process of its own ---- */

struct outcome {
    int status; /* of the process; 0: right */
    char said[8192];
};

static struct outcome run(int (*fn)(), int order, const char *name, const char *value)
{
    struct outcome o = {};
    int fds[2];
    size_t n = 0;
    ssize_t got;

    fflush(stdout);
    EXPECT(pipe(fds) == 0);
    const pid_t child = fork();

    EXPECT(child >= 0);
    if (child == 0) {
        const char digit[2] = {(char)('0' + order), '\0'};

        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        setenv("SANAD_HOSTSIM_ORDER", digit, 1);
        if (name != NULL) {
            setenv(name, value, 1);
        }
        const int rc = fn();

        _exit(rc < 0 || rc > 99 ? 99 : rc);
    }
    close(fds[1]);
    while ((got = read(fds[0], o.said + n, sizeof(o.said) - 1 - n)) > 0) {
        n += (size_t)got;
    }
    while (got > 0 && read(fds[0], o.said + sizeof(o.said) - 2, 1) > 0) {
    }
    close(fds[0]);
    EXPECT(waitpid(child, &o.status, 0) == child);
    return o;
}

static void run_right(const struct planted *p, int order)
{
    const struct outcome o = run(p->right, order, NULL, NULL);

    if (o.status != 0) {
        test_fail(__FILE__, __LINE__, "%s, order %d: status %x\n%s", p->name, order,
                  (unsigned)o.status, o.said);
    }
}

static void run_wrong(const struct planted *p, int order)
{
    if (p->wrong == NULL || (p->caught >> order & 1) == 0) {
        return;
    }
    const struct outcome o = run(p->wrong, order, NULL, NULL);

    if (o.status == 0) {
        test_fail(__FILE__, __LINE__, "%s, order %d: not caught", p->name, order);
    }
    if (p->message != NULL) {
        EXPECT_CONTAINS(o.said, p->message);
    } else if (!WIFEXITED(o.status)) {
        test_fail(__FILE__, __LINE__, "%s, order %d: expected a wrong result, not\n%s", p->name,
                  order, o.said);
    }
}

static void run_all(const struct planted *list, int n)
{
    for (int order = 0; order < 3; order++) {
        for (int i = 0; i < n; i++) {
            run_right(&list[i], order);
            run_wrong(&list[i], order);
        }
    }
}

TEST(kernels)
{
    run_all(planted_kernels, n_planted_kernels);
}

TEST(warps)
{
    run_all(planted_warps, n_planted_warps);
}

TEST(streams)
{
    run_all(planted_streams, n_planted_streams);
}

TEST(runtime_api)
{
    run_all(planted_api, n_planted_api);
}

TEST(memory_has_a_limit)
{
    const struct outcome o = run(planted_memory_limits, 0, "SANAD_HOSTSIM_MEMORY", "1048576");

    EXPECT_STR(o.said, "");
    EXPECT_INT(o.status, 0);
}

TEST(a_launch_fails_on_demand)
{
    for (int order = 0; order < 3; order++) {
        const struct outcome o = run(planted_third_launch, order, "SANAD_HOSTSIM_FAIL", "3");

        EXPECT_STR(o.said, "");
        EXPECT_INT(o.status, 0);
    }
    EXPECT_INT(WEXITSTATUS(run(planted_lost_or_not, 0, NULL, NULL).status), 3);
    EXPECT_INT(WEXITSTATUS(run(planted_lost_or_not, 0, "SANAD_HOSTSIM_FAIL", "5").status), 3);
    EXPECT_INT(WEXITSTATUS(run(planted_lost_or_not, 0, "SANAD_HOSTSIM_FAIL", "4").status), 0);
}

TEST(a_launch_fails_once)
{
    char value[400];

    snprintf(value, sizeof(value), "once:%s/failed:2", test_dir());
    EXPECT_INT(WEXITSTATUS(run(planted_lost_or_not, 0, "SANAD_HOSTSIM_FAIL", value).status), 0);
    EXPECT_INT(WEXITSTATUS(run(planted_lost_or_not, 0, "SANAD_HOSTSIM_FAIL", value).status), 3);
}

TEST(a_wrong_environment_is_refused)
{
    EXPECT_CONTAINS(run(planted_lost_or_not, 0, "SANAD_HOSTSIM_FAIL", "soon").said,
                    "SANAD_HOSTSIM_FAIL");
    EXPECT_CONTAINS(run(planted_lost_or_not, 7, NULL, NULL).said, "SANAD_HOSTSIM_ORDER");
}
