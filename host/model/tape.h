/*
 * tape.h - what a recorded forward keeps for its backward, as an object with memory of its own, so that several batches
 * can wait for their backward at once.
 */
#ifndef RPO_HOST_MODEL_TAPE_H
#define RPO_HOST_MODEL_TAPE_H

#include "core/bump.h"
#include "host/model/batch.h"

struct rpo_model;

/* One layer's. [T] rows of the batch; all float32 for now. */
typedef struct rpo_layer_tape {
    float *residual_in;     /* [T][hidden] */
    float *residual_middle; /* [T][hidden] */
    float *qkv;             /* [T][qkv_size], after the rotation */
    float *attention;       /* [T][query_size] */
    float *gate_up;         /* [T][2 intermediate]; the backward leaves their gradients here */
    float *attention_rms;   /* [T]; this and below NULL in a forward that keeps nothing */
    float *mlp_rms;         /* [T] */
    float *logsumexp;       /* [T][heads] */
} rpo_layer_tape;

typedef struct rpo_tape {
    rpo_device_batch batch; /* that was recorded; num_segments 0: none, and no backward may follow */
    rpo_layer_tape first;   /* layer 0; the others follow at equal distances */
    size_t layer_bytes;     /* that distance; 0 where all layers use the same memory */
    float *residual_out;    /* [T][hidden], the last layer's */
    float *final_rms;       /* [T] */
    float *final_hidden;    /* [T][hidden], after the final norm */
    float *head_logsumexp;  /* [T] of the logits; valid with has_logps */
    void *head_cache;       /* rpo_linear_logprob_saved.cache; NULL = none */
    size_t head_cache_bytes;
    bool has_logps; /* the head ran: its log-sum-exp and cache are filled */
} rpo_tape;

/* Cuts a tape for `rows` rows from `from`; from a bump without a base only the size is found. */
void rpo_tape_lay_out(rpo_tape *tape, const struct rpo_model *model, rpo_bump *from, int64_t rows);

/* The memory of a forward that keeps nothing: one layer's worth, in place where it can. */
void rpo_tape_lay_out_flat(rpo_tape *tape, const struct rpo_model *model, rpo_bump *from, int64_t rows);

/* Bytes of a tape for `rows` rows. */
size_t rpo_tape_bytes(const struct rpo_model *model, int64_t rows);

rpo_layer_tape rpo_tape_layer(const rpo_tape *tape, int64_t layer);

/* Scratch of one forward or backward. */
typedef struct rpo_scratch {
    float *norm;           /* [T][hidden] a norm's output */
    float *product;        /* [T][intermediate] the SwiGLU product, and its gradient */
    float *grad_residual;  /* [T][hidden] */
    float *grad_norm;      /* [T][hidden] */
    float *grad_qkv;       /* [T][qkv_size] */
    float *grad_attention; /* [T][query_size] */
    rpo_tape flat;         /* in the place of the gradients: a forward that keeps nothing has none */
} rpo_scratch;

/* Cuts scratch for `rows` rows; returns its bytes (base NULL: only those). */
size_t rpo_scratch_lay_out(rpo_scratch *scratch, const struct rpo_model *model, void *base, int64_t rows);

#endif
