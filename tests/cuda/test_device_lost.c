/*
 * A GPU that is lost in the middle: the simulator makes the n-th kernel fail, as often as there is one. Each device
 * lives in a process of its own, since what is lost stays lost.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernels/cuda_api.h"
#include "kernels/elementwise.h"
#include "tests/support/test.h"

enum {
    COUNT = 500,
    HEALTHY = 0,
    LOST = 1,
    WRONG = 2, /* an error that is not what it should be */
    NO_SIMULATOR = 3
};

/* Everything a device does with kernels in between. */
static int use(struct device *dev, const struct tensor *t, void *host, struct err *err)
{
    bool replayed = false;
    int rc = ERR_OK;

    for (int i = 0; i < 3 && rc == ERR_OK; i++) {
        rc = op_fill(dev, t, 1, err);
        if (rc == ERR_OK) {
            rc = device_graph_begin(dev, 3, &replayed, err);
        }
        if (rc == ERR_OK && !replayed) {
            rc = op_silu(dev, t, t, err);
            if (rc == ERR_OK) {
                rc = device_graph_end(dev, err);
            } else {
                device_graph_abort(dev);
            }
        }
        if (rc == ERR_OK) {
            rc = op_check_finite(dev, t, "it", err);
        }
        if (rc == ERR_OK) {
            rc = device_download_start(dev, host, t, err);
        }
        if (rc == ERR_OK) {
            rc = device_mark(dev, DEVICE_MARK_STEP_A, err);
        }
        if (rc == ERR_OK) {
            rc = device_wait(dev, DEVICE_MARK_STEP_A, err);
        }
    }
    return rc == ERR_OK ? device_download(dev, host, t, err) : rc;
}

/* Once lost, nothing works, and nothing crashes. */
static bool all_is_lost(struct device *dev, const struct tensor *t, void *host)
{
    struct device_memory m;
    struct err err = {.msg = ""};
    void *p = NULL;

    device_memory(dev, &m);
    return device_download(dev, host, t, &err) == ERR_DEVICE && strstr(err.msg, "cuda: ") &&
           device_upload(dev, t, host, &err) == ERR_DEVICE &&
           device_alloc(dev, 1 << 20, &p, &err) == ERR_DEVICE && !p;
}

static int child(int n)
{
    struct device_cuda_options options = {.f32 = true, .deterministic = true};
    struct tensor t = TENSOR_F32(NULL, COUNT);
    struct err err = {.msg = ""};
    struct device dev;
    char number[16];
    void *host = NULL;
    int ret = HEALTHY;

    snprintf(number, sizeof(number), "%d", n);
    setenv("SANAD_HOSTSIM_FAIL", number, 1);
    if (device_open_cuda(&dev, &options, &err) != ERR_OK) {
        return WRONG;
    }
    if (strcmp(dev.cuda->build, "host simulator") != 0) {
        ret = NO_SIMULATOR;
    } else if (device_alloc(&dev, tensor_bytes(&t), &t.data, &err) != ERR_OK ||
               device_host_alloc(&dev, tensor_bytes(&t), &host, &err) != ERR_OK) {
        ret = WRONG;
    } else if (use(&dev, &t, host, &err) != ERR_OK) {
        ret = err.code == ERR_DEVICE && strncmp(err.msg, "cuda: ", 6) == 0 &&
                      all_is_lost(&dev, &t, host)
                  ? LOST
                  : WRONG;
    }
    if (ret == WRONG) {
        fprintf(stderr, "    kernel %d: %d, %s\n", n, err.code, err.msg);
    }
    device_host_free(&dev, host);
    device_free(&dev, t.data);
    device_close(&dev);
    return ret;
}

static int status_of(int n)
{
    int status = 0;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        _exit(child(n));
    }
    EXPECT(pid > 0 && waitpid(pid, &status, 0) == pid);
    EXPECT(WIFEXITED(status));
    return WEXITSTATUS(status);
}

TEST(a_lost_device_is_an_error_in_a_call_that_is_named)
{
    int n = 1;

    if (status_of(n) == NO_SIMULATOR) {
        test_skip("a real GPU is not lost on demand");
    }
    while (status_of(n) == LOST) {
        n++;
    }
    EXPECT_INT(status_of(n), HEALTHY);
    EXPECT(n > 9); /* fill, silu and check_finite, three times each */
}
