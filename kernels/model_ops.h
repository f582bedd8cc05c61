/*
 * model_ops.h - the ops a Llama-architecture decoder needs, called by host/model through the op table.
 *
 * Common to all of them:
 * - T = packed rows (tokens of all sequences, one after another), sequence s owning the rows cu_seqlens[s] ..
 *   cu_seqlens[s+1] - 1. There is no padding.
 * - Activations and weights have the op's dtype (the CPU: float32 only). Gradients of weights are float32 and
 *   ADDED to; every other output is overwritten unless the op says otherwise.
 * - Matrices are row-major. A `stride` is the number of elements from one row to the next.
 * - Pointers live on the context's device. Outputs must not overlap inputs unless the op says that they may.
 * - Arguments arrive checked: host/model is the only caller. Ops enqueue on the context's stream and return.
 * - Deterministic: the same input gives the same bits, whatever the number of threads.
 */
#ifndef RPO_KERNELS_MODEL_OPS_H
#define RPO_KERNELS_MODEL_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "rpo/context.h"

/* y = x W^T for a weight [out_features][in_features], the layout of torch.nn.Linear. */
typedef struct rpo_linear_shape {
    int64_t rows, in_features, out_features;
    int64_t in_stride;  /* of x and grad_x, >= in_features */
    int64_t out_stride; /* of y and grad_y, >= out_features */
    rpo_dtype dtype;
} rpo_linear_shape;

/*
 * Rows of queries, keys and values lie side by side: q heads, then k heads, then v heads, head_dim elements
 * each, so a row of qkv has (num_heads + 2 num_kv_heads) head_dim elements and no gap. Query head h reads key
 * and value head h / (num_heads / num_kv_heads).
 */
typedef struct rpo_attention_shape {
    int64_t rows, num_sequences;
    int64_t num_heads, num_kv_heads; /* num_heads is a multiple of num_kv_heads */
    int64_t head_dim;
    float scale; /* of the scores: 1 / sqrt(head_dim) */
    rpo_dtype dtype;
} rpo_attention_shape;

typedef struct rpo_model_ops {
    /* out[t] = table[tokens[t]]. table [vocab][hidden], out [rows][hidden], tokens in range. */
    rpo_status (*embedding)(rpo_context *context, void *out, const void *table, const int32_t *tokens,
                            int64_t rows, int64_t hidden, rpo_dtype dtype);
    /* grad_table[tokens[t]] += grad_out[t], rows in rising order. grad_table float32 [vocab][hidden]. */
    rpo_status (*embedding_backward)(rpo_context *context, float *grad_table, const void *grad_out,
                                     const int32_t *tokens, int64_t rows, int64_t hidden, rpo_dtype dtype);

    /*
     * RMSNorm (Zhang and Sennrich 2019): out[t] = weight * x[t] * r_t, r_t = 1 / sqrt(mean(x[t]^2) + eps).
     * inverse_rms  out, float32 [rows], what the backward needs; or NULL
     */
    rpo_status (*rmsnorm)(rpo_context *context, void *out, float *inverse_rms, const void *x,
                          const void *weight, int64_t rows, int64_t hidden, float eps, rpo_dtype dtype);
    size_t (*rmsnorm_backward_workspace_size)(rpo_context *context, int64_t rows, int64_t hidden);
    /*
     * With u = grad_out * weight:  grad_x[t] (+)= r_t u - x[t] r_t^3 mean(u * x[t]),
     *                              grad_weight += sum_t grad_out[t] * x[t] * r_t
     * accumulate  true: grad_x is added to, which is how the gradient of the residual stream passes by
     */
    rpo_status (*rmsnorm_backward)(rpo_context *context, void *grad_x, float *grad_weight,
                                   const void *grad_out, const void *x, const void *weight,
                                   const float *inverse_rms, int64_t rows, int64_t hidden, bool accumulate,
                                   rpo_dtype dtype, void *workspace, size_t workspace_size);

    /*
     * The angles of rotary embeddings (Su et al. 2021), for positions first .. first + count - 1 of
     * table float32 [positions][head_dim]: head_dim / 2 cosines, then head_dim / 2 sines of
     * position * theta^(-2 i / head_dim), computed in double. head_dim is even.
     */
    rpo_status (*rope_table)(rpo_context *context, float *table, int64_t first, int64_t count,
                             int64_t head_dim, double theta);
    /*
     * Rotates, in place, elements i and i + head_dim / 2 of the first num_heads heads of every row (the
     * halves convention of HF checkpoints) by the angle of the row's position. `inverse` turns back: the
     * backward.
     */
    rpo_status (*rope)(rpo_context *context, void *x, int64_t stride, const float *table,
                       const int32_t *positions, int64_t rows, int64_t num_heads, int64_t head_dim,
                       bool inverse, rpo_dtype dtype);

    /*
     * Causal attention inside every sequence: out_i = sum_{j <= i} softmax_j(scale <q_i, k_j>) v_j, in tiles;
     * no matrix of scores is ever held whole (Dao et al. 2022, FlashAttention). out        [rows][num_heads *
     * head_dim] logsumexp  out, float32 [rows][num_heads], of the scaled scores; or NULL
     */
    size_t (*attention_workspace_size)(rpo_context *context, const rpo_attention_shape *shape, bool backward);
    rpo_status (*attention)(rpo_context *context, void *out, float *logsumexp, const void *qkv,
                            const int32_t *cu_seqlens, const rpo_attention_shape *shape, void *workspace,
                            size_t workspace_size);
    /* The scores are computed again from qkv and logsumexp. grad_qkv is laid out as qkv. */
    rpo_status (*attention_backward)(rpo_context *context, void *grad_qkv, const void *grad_out,
                                     const void *out, const float *logsumexp, const void *qkv,
                                     const int32_t *cu_seqlens, const rpo_attention_shape *shape,
                                     void *workspace, size_t workspace_size);

    /* SwiGLU (Shazeer 2020): out = gate * sigmoid(gate) * up, elementwise. out may be gate or up. */
    rpo_status (*swiglu)(rpo_context *context, void *out, const void *gate, const void *up, int64_t count,
                         rpo_dtype dtype);
    /*
     * out receives the forward's result once more, so that it need not be kept.
     * In place is allowed: grad_gate = gate, grad_up = up, out = grad_out.
     */
    rpo_status (*swiglu_backward)(rpo_context *context, void *grad_gate, void *grad_up, void *out,
                                  const void *grad_out, const void *gate, const void *up, int64_t count,
                                  rpo_dtype dtype);

    /* y = x W^T, plus `residual` (as y, same stride; may be y itself) when not NULL: a residual connection.
     */
    rpo_status (*linear)(rpo_context *context, void *y, const void *x, const void *weight,
                         const void *residual, const rpo_linear_shape *shape);
    /* grad_x (+)= grad_y W; accumulate true adds. */
    rpo_status (*linear_backward_input)(rpo_context *context, void *grad_x, const void *grad_y,
                                        const void *weight, const rpo_linear_shape *shape, bool accumulate);
    /* grad_weight += grad_y^T x, float32 */
    rpo_status (*linear_backward_weight)(rpo_context *context, float *grad_weight, const void *grad_y,
                                         const void *x, const rpo_linear_shape *shape);
} rpo_model_ops;

#endif
