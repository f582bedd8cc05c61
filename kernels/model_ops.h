/*
 * model_ops.h - the ops a Llama-architecture decoder needs, called by host/model through the op table.
 *
 * Common to all of them:
 * - T = packed rows of all segments, one after another; segment s owns the rows cu_seqlens[s] .. cu_seqlens[s+1] - 1.
 *   There is no padding.
 * - Activations and weights have the op's dtype (the CPU: float32 only). Gradients of weights are float32; `accumulate`
 *   false overwrites them, whatever they held, true adds. Every other output is overwritten unless the op says otherwise.
 * - Matrices are row-major. A `stride` is the number of elements from one row to the next.
 * - Every array lives on the context's device; structs and numbers are the host's. Outputs must not overlap inputs unless
 *   the op says that they may.
 * - Arguments arrive checked: host/model is the only caller. Ops enqueue on the context's stream and return.
 * - Deterministic: the same input gives the same bits, whatever the number of threads.
 */
#ifndef RPO_KERNELS_MODEL_OPS_H
#define RPO_KERNELS_MODEL_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpo/context.h"

/* ---- embedding ---- */

/*
 * The rows of a batch by the token they hold, made on the host, so that a table's gradient is summed without atomics:
 * distinct token k (rising ids) stands in the rows order[bounds[k]] .. order[bounds[k+1] - 1], which rise.
 */
typedef struct rpo_token_order {
    const int32_t *order;  /* [rows] */
    const int32_t *tokens; /* [distinct] */
    const int32_t *bounds; /* [distinct + 1] */
    int64_t distinct;
} rpo_token_order;

typedef struct rpo_embedding_shape {
    int64_t rows, vocab_size, hidden_size;
    rpo_dtype dtype;
} rpo_embedding_shape;

/* out[t] = table[tokens[t]]. table [vocab][hidden], out [rows][hidden], tokens in range. */
typedef rpo_status rpo_embedding_op(rpo_context *context, void *out, const void *table, const int32_t *tokens,
                                    const rpo_embedding_shape *shape);
/* grad_table[v] (+)= sum of grad_out over the rows that hold v, in rising order; rows of other tokens become 0 where
 * accumulate is false. grad_table float32 [vocab][hidden]. */
typedef rpo_status rpo_embedding_backward_op(rpo_context *context, float *grad_table, const void *grad_out,
                                             const rpo_token_order *order, const rpo_embedding_shape *shape,
                                             bool accumulate);

/* ---- norm ---- */

typedef struct rpo_norm_shape {
    int64_t rows, hidden_size;
    float eps;
    rpo_dtype dtype;
} rpo_norm_shape;

/*
 * RMSNorm (Zhang and Sennrich 2019): out[t] = weight * x[t] * r_t, r_t = 1 / sqrt(mean(x[t]^2) + eps).
 * inverse_rms  out, float32 [rows], what the backward needs; or NULL
 */
typedef rpo_status rpo_rmsnorm_op(rpo_context *context, void *out, float *inverse_rms, const void *x,
                                  const void *weight, const rpo_norm_shape *shape);

typedef struct rpo_rmsnorm_gradients {
    void *grad_x;
    float *grad_weight; /* float32 [hidden]; NULL = the weight is frozen */
    bool
        accumulate_x; /* true: grad_x is added to, which is how the gradient of the residual stream passes by */
    bool accumulate_weight;
} rpo_rmsnorm_gradients;

typedef size_t rpo_rmsnorm_backward_workspace_size_op(rpo_context *context, const rpo_norm_shape *shape);
/*
 * With u = grad_out * weight:  grad_x[t] (+)= r_t u - x[t] r_t^3 mean(u * x[t]),
 *                              grad_weight (+)= sum_t grad_out[t] * x[t] * r_t
 */
typedef rpo_status rpo_rmsnorm_backward_op(rpo_context *context, const rpo_rmsnorm_gradients *gradients,
                                           const void *grad_out, const void *x, const void *weight,
                                           const float *inverse_rms, const rpo_norm_shape *shape,
                                           void *workspace, size_t workspace_size);

/* ---- rotary embeddings (Su et al. 2021) ---- */

/*
 * The angles for positions first .. first + count - 1 of table float32 [positions][head_dim]: head_dim / 2 cosines, then
 * head_dim / 2 sines of position * theta^(-2 i / head_dim), computed in double. head_dim is even.
 */
typedef rpo_status rpo_rope_table_op(rpo_context *context, float *table, int64_t first, int64_t count,
                                     int64_t head_dim, double theta);

typedef struct rpo_rope_shape {
    int64_t rows, num_heads, head_dim;
    int64_t stride; /* of x, >= num_heads head_dim */
    rpo_dtype dtype;
} rpo_rope_shape;

/*
 * Rotates, in place, elements i and i + head_dim / 2 of the first num_heads heads of every row (the halves convention of
 * HF checkpoints) by the angle of the row's position. `inverse` turns back: the backward.
 * positions  in, int32 [rows]
 */
typedef rpo_status rpo_rope_op(rpo_context *context, void *x, const float *table, const int32_t *positions,
                               const rpo_rope_shape *shape, bool inverse);

/* ---- attention ---- */

enum { RPO_ATTENTION_TILE_ROWS = 64 }; /* query rows of a tile of rpo_segments */

/*
 * How the rows of a batch see each other. A segment attends causally to itself and, before that, to every row of its
 * prefix segment, where it has one: responses share the rows of their prompt. A prefix has no prefix of its own and
 * stands before the segments that use it. All arrays are made on the host and live on the device; the numbers are the
 * host's, so that no launch waits for the device to know its size.
 */
typedef struct rpo_segments {
    const int32_t *cu_seqlens;  /* [num_segments + 1] rows */
    const int32_t *prefix;      /* [num_segments] index of the prefix segment, -1 = none */
    const int32_t *user_bounds; /* [num_segments + 1]: segment s is the prefix of users[user_bounds[s]] .. */
    const int32_t *users;       /* [user_bounds[num_segments]] rising within a segment */
    const int32_t *tiles;       /* [num_tiles][2] segment, first row in it: every query tile of the batch */
    int64_t num_segments, num_tiles;
    int64_t max_length;  /* rows of the longest segment */
    int64_t max_context; /* rows that the last row of some segment sees, at most: prefix and itself */
} rpo_segments;

/*
 * Rows of queries, keys and values lie side by side: q heads, then k heads, then v heads, head_dim elements each, so a
 * row of qkv has (num_heads + 2 num_kv_heads) head_dim elements and no gap. Query head h reads key and value head
 * h / (num_heads / num_kv_heads).
 */
typedef struct rpo_attention_shape {
    int64_t rows;
    int64_t num_heads, num_kv_heads; /* num_heads is a multiple of num_kv_heads */
    int64_t head_dim;
    float scale; /* of the scores: 1 / sqrt(head_dim) */
    rpo_dtype dtype;
} rpo_attention_shape;

typedef size_t rpo_attention_workspace_size_op(rpo_context *context, const rpo_segments *segments,
                                               const rpo_attention_shape *shape, bool backward);
/*
 * Attention over segments: out_i = sum_j softmax_j(scale <q_i, k_j>) v_j over the rows j that row i sees, in tiles; no
 * matrix of scores is ever held whole (Dao et al. 2022, FlashAttention).
 * out        [rows][num_heads * head_dim]
 * logsumexp  out, float32 [rows][num_heads], of the scaled scores; or NULL
 */
typedef rpo_status rpo_attention_op(rpo_context *context, void *out, float *logsumexp, const void *qkv,
                                    const rpo_segments *segments, const rpo_attention_shape *shape,
                                    void *workspace, size_t workspace_size);

typedef struct rpo_attention_saved {
    const void *qkv, *out; /* of the forward */
    const float *logsumexp;
} rpo_attention_saved;

/* The scores are computed again. grad_qkv is laid out as qkv; grad_out as out. The gradient of a prefix's keys and
 * values is summed over its own rows first, then over its users in their order. */
typedef rpo_status rpo_attention_backward_op(rpo_context *context, void *grad_qkv, const void *grad_out,
                                             const rpo_attention_saved *saved, const rpo_segments *segments,
                                             const rpo_attention_shape *shape, void *workspace,
                                             size_t workspace_size);

/* ---- SwiGLU (Shazeer 2020) ---- */

/* gate_up [rows][2 * intermediate]: gate, then up; out [rows][intermediate] = gate * sigmoid(gate) * up. */
typedef rpo_status rpo_swiglu_op(rpo_context *context, void *out, const void *gate_up, int64_t rows,
                                 int64_t intermediate, rpo_dtype dtype);
/*
 * out receives the forward's result once more, so that it need not be kept.
 * In place is allowed: grad_gate_up = gate_up, out = grad_out.
 */
typedef rpo_status rpo_swiglu_backward_op(rpo_context *context, void *grad_gate_up, void *out,
                                          const void *grad_out, const void *gate_up, int64_t rows,
                                          int64_t intermediate, rpo_dtype dtype);

/* ---- linear ---- */

/* y = x W^T for a weight [out_features][in_features], the layout of torch.nn.Linear. */
typedef struct rpo_linear_shape {
    int64_t rows, in_features, out_features;
    int64_t in_stride;  /* of x and grad_x, >= in_features */
    int64_t out_stride; /* of y and grad_y, >= out_features */
    rpo_dtype dtype;
} rpo_linear_shape;

/* y = x W^T, plus `residual` (as y, same stride; may be y itself) when not NULL: a residual connection. */
typedef rpo_status rpo_linear_op(rpo_context *context, void *y, const void *x, const void *weight,
                                 const void *residual, const rpo_linear_shape *shape);
/* grad_x (+)= grad_y W */
typedef rpo_status rpo_linear_backward_input_op(rpo_context *context, void *grad_x, const void *grad_y,
                                                const void *weight, const rpo_linear_shape *shape,
                                                bool accumulate);
/* grad_weight (+)= grad_y^T x, float32 */
typedef rpo_status rpo_linear_backward_weight_op(rpo_context *context, float *grad_weight, const void *grad_y,
                                                 const void *x, const rpo_linear_shape *shape,
                                                 bool accumulate);

/* ---- figures of sequences ---- */

/* out[i] = in[index[i]], or 0 where index[i] is -1. float32; carries one figure per sequence from the order of a batch
 * to that of the contrast and back. */
typedef rpo_status rpo_take_op(rpo_context *context, float *out, const float *in, const int32_t *index,
                               int64_t count);

typedef struct rpo_model_ops {
    rpo_embedding_op *embedding;
    rpo_embedding_backward_op *embedding_backward;
    rpo_rmsnorm_op *rmsnorm;
    rpo_rmsnorm_backward_workspace_size_op *rmsnorm_backward_workspace_size;
    rpo_rmsnorm_backward_op *rmsnorm_backward;
    rpo_rope_table_op *rope_table;
    rpo_rope_op *rope;
    rpo_attention_workspace_size_op *attention_workspace_size;
    rpo_attention_op *attention;
    rpo_attention_backward_op *attention_backward;
    rpo_swiglu_op *swiglu;
    rpo_swiglu_backward_op *swiglu_backward;
    rpo_linear_op *linear;
    rpo_linear_backward_input_op *linear_backward_input;
    rpo_linear_backward_weight_op *linear_backward_weight;
    rpo_take_op *take;
} rpo_model_ops;

#endif
