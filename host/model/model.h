/*
 * model.h - a Llama-architecture decoder in HF layout: packed rows to sequence log-probs, and back from one gradient
 * scalar per sequence.
 *
 *     rpo_model_new(&model, context, &config);          the tensor table: nothing of the parameters' size
 *     rpo_memory_create(&memory, model, &request);      one arena for everything the model works with (memory.h)
 *     rpo_model_read(model, folder);                    or rpo_model_initialise
 *     rpo_model_score / record / backward               enqueue, and return
 */
#ifndef RPO_HOST_MODEL_MODEL_H
#define RPO_HOST_MODEL_MODEL_H

#include "host/model/batch.h"
#include "host/model/config.h"
#include "host/model/memory.h"
#include "host/model/tape.h"
#include "host/model/tensor_table.h"

typedef struct rpo_model rpo_model;

rpo_status rpo_model_new(rpo_model **model, rpo_context *context, const rpo_model_config *config);
void rpo_model_free(rpo_model *model); /* its memory is another object, freed after it */

rpo_context *rpo_model_context(const rpo_model *model);
const rpo_model_config *rpo_model_get_config(const rpo_model *model);
/* The special tokens that config.json will name; nothing is computed from them. -1 = none. */
void rpo_model_set_token_ids(rpo_model *model, int64_t bos, int64_t eos, int64_t pad);
const rpo_tensor_table *rpo_model_tensors(const rpo_model *model);
rpo_memory *rpo_model_memory(const rpo_model *model); /* NULL before rpo_memory_create */

/* ---- weights ---- */

/* Matrices normal(0, initializer_range), norms 1, as transformers does; element i of tensor p is a pure function of
 * (seed, p, i). */
rpo_status rpo_model_initialise(rpo_model *model, uint64_t seed);
/* Does an HF folder hold every tensor, in its shape, and no other? Before memory is asked for. */
rpo_status rpo_model_check_folder(const rpo_model *model, const char *folder);
/* An HF folder's weights. Every tensor is checked before the first is read. */
rpo_status rpo_model_read(rpo_model *model, const char *folder);
/* Writes config.json and model.safetensors into an existing folder, each synced to disk. */
rpo_status rpo_model_save(const rpo_model *model, const char *folder);
/* Hash of the config and of every weight: key of reference caches. */
rpo_status rpo_model_hash(const rpo_model *model, char hex[33]);

/* ---- forward and backward. Pointers are the device's; nothing waits. ---- */

/* INVALID_INPUT for a token id outside the vocabulary or a sequence longer than max_position_embeddings. */
rpo_status rpo_model_check_batch(const rpo_model *model, const rpo_batch *batch);

/*
 * Log-probs of every segment's labels and nothing else: no activation outlives its layer.
 * sequence_logps  out, float32 [num_segments], 0 for a segment without labels
 * token_logps     out, float32 [num_rows]; or NULL
 */
rpo_status rpo_model_score(rpo_model *model, const rpo_device_batch *batch, float *sequence_logps,
                           float *token_logps);

/*
 * The same, and `tape` keeps what the backward reads. `tape` was laid out for the batch (tape.h).
 * sequence_logps  NULL leaves the head out: the backward then computes log-probs on its way
 */
rpo_status rpo_model_record(rpo_model *model, rpo_tape *tape, const rpo_device_batch *batch,
                            float *sequence_logps);

/*
 * Gradients of sum_s sequence_gradients[s] * logp_s, and the tape is used up.
 * sequence_gradients  in, float32 [num_segments]
 * accumulate          false: every gradient is overwritten, whatever it was; true: added to
 * sequence_logps      out, float32 [num_segments]; or NULL
 * Errors: INVALID_ARGUMENT for a tape that holds no recorded batch.
 */
rpo_status rpo_model_backward(rpo_model *model, rpo_tape *tape, const float *sequence_gradients,
                              bool accumulate, float *sequence_logps);

/* Logits of every row into logits, float32 [num_rows][vocab_size] on the device: tests and debugging only. */
rpo_status rpo_model_logits(rpo_model *model, const rpo_device_batch *batch, float *logits);

#endif
