/*
 * worker_facts.h - what a worker says of its model in READY, as JSON:
 *
 *   id, aliases           as sanad.json names it, and a list of other names
 *   family                for people: "LongSANA (Wan 2.1 VAE)"
 *   causal                block-causal: a video is denoised block by block
 *   image                 a reference picture can be given
 *   device, weights_bytes what computes, and how much of it the model occupies
 *   native_sizes          ["832x480", ..]: those of the table, or the default size if there is no table
 *   any_size              there is no table: the asked size is generated, up to the next multiple
 *   size_multiple         of a generated width and height, pixels
 *   default_width, default_height, min_side, max_side, max_pixels     of an asked size
 *   fps                   that the model was made for
 *   frame_multiple, frame_offset   it makes multiple * n + offset pictures; the surplus is cut off
 *   default_frames, max_frames
 *   block_frames          pictures of a block behind the first; of the default clip if that is decoded whole
 *   default_steps, min_steps, max_steps
 *   guidance_scale, flow_shift, motion_score, max_prompt_tokens       defaults, and the limit
 *
 * jobs/model_facts.h reads it. Any thread.
 */
#ifndef WORKER_WORKER_FACTS_H
#define WORKER_WORKER_FACTS_H

#include <cjson/cJSON.h>

#include "engine/model.h"

/* One object; end it by cJSON_Delete. NULL when out of memory. */
cJSON *worker_facts(const struct model *model);

#endif
