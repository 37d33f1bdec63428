/*
 * worker.h - the main loop of `sanad worker`: one model, one device, one job at a time.
 *
 * The daemon's child. It opens the model, says READY, then does what it is told over the socket
 * (wire.h) and sends what it makes; it writes no file but those FINISH names and that of measured algorithms.
 * Threads: the caller's is the engine thread; a control thread reads the socket, answers PING and PREPARE, and sets the cancel and
 * pause flags; render's encoder thread sends blocks. A device that is lost, or a daemon that is gone,
 * ends the process at once: everything that counts is with the daemon already. What was lost is told as FAIL of
 * job 0, so that the job is not over but goes on in the next worker.
 *
 * JSON of the messages. "job" is what PREPARE and START carry; absent members take the model's default:
 *
 *   job       {"prompt", "negative_prompt", "width", "height", "frames", "seed", "steps",
 *              "guidance_scale", "flow_shift", "motion_score", "fps", "crf", "image": PATH}
 *   START     job + {"resume": {"blocks": N, "latents": PATH, "state": PATH}}   (state: bidirectional)
 *   FINISH    {"fragments": PATH, "video": PATH, "thumbnail_jpeg": PATH, "thumbnail_webp": PATH,
 *              "spritesheet": PATH}    the last three may be absent
 *   READY     model facts: see worker_facts.h, jobs/model_facts.h
 *   PREPARED  {"width", "height", "native_width", "native_height", "frames", "generated_frames",
 *              "blocks", "block_frames": [pictures of each block], "seed", "steps", "guidance_scale",
 *              "flow_shift", "motion_score", "fps", "prompt_truncated", "codec"}
 *   STARTED   {"block": first block that will be made}
 *   STEP      {"phase": "text_encode|image_encode|denoise|cache|vae_decode", "step", "steps", "block",
 *              "blocks", "fraction"}                                     at most 10 a second
 *   BLOCK     {"index", "count", "first_frame", "frames", "gen_s"}
 *   CHECKPOINT {"fraction"}
 *   PAUSED    {}
 *   RENDERED  {"inference_s", "stages": {"text_encode": s, "denoise": s, "vae_decode": s, "encode": s},
 *              "peak_memory_mb"}
 *   FINISHED  {"bytes", "sha256", "frames", "seconds", "sprite": {"cols","rows","w","h","interval"}}
 *   FAIL      {"code": err_code_name, "message"}      of the job; "cancelled" after CANCEL; of job 0: the
 *             worker ends, since it could not start or has lost its device
 *
 * Other members of the objects that come are left alone. In "stages" the reference picture counts as
 * text_encode and the carried state as denoise; "peak_memory_mb" is planned: the weights and what the video
 * reserved. "seed" is exact up to 2^53.
 *
 * Every CANCEL of a job that is not over (FINISHED, PAUSED, FAIL) is followed by FAIL, also between RENDERED and
 * FINISH; if it crosses with PAUSED or FINISHED, by that and FAIL. START of a job that was paused while it
 * waited gives PAUSED at once. What is queued behind a running job is answered in its turn.
 */
#ifndef WORKER_WORKER_H
#define WORKER_WORKER_H

#include <stdint.h>

#include "base/err.h"
#include "worker/device_choice.h"

struct worker_options {
    const char *model; /* directory */
    struct device_choice device;
    int fd;                         /* the socket to the daemon; owned */
    int64_t checkpoint_interval_ms; /* of a bidirectional denoising; 0: never */
};

/* Runs until SHUTDOWN or until the daemon closes the socket (ERR_OK), or an error that ends the
 * process: the model cannot be opened, the device is lost. */
MUST_CHECK int worker_run(const struct worker_options *options, struct err *err);

#endif
