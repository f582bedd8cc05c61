/*
 * config.h - a run's configuration: every key of the JSON file with its default, checked once, here.
 */
#ifndef RPO_HOST_CONFIG_CONFIG_H
#define RPO_HOST_CONFIG_CONFIG_H

#include "core/core.h"
#include "host/data/dataset.h"
#include "host/data/tokenizer.h"
#include "host/embed/embed.h"
#include "host/model/model.h"
#include "host/train/optimizer.h"
#include "host/train/options.h"

typedef enum rpo_run_device { RPO_RUN_DEVICE_AUTO, RPO_RUN_DEVICE_CPU, RPO_RUN_DEVICE_CUDA } rpo_run_device;

typedef struct rpo_string_list {
    char **items;
    size_t count;
} rpo_string_list;

typedef struct rpo_config {
    struct {
        char *path; /* NULL when model.init is given; exactly one of the two */
        bool has_init;
        rpo_model_config init;
        rpo_tokenizer_choice tokenizer;
    } model;
    struct {
        rpo_string_list train, eval; /* train is required by rpo train; eval may be empty */
        rpo_data_options options;
    } data;
    struct {
        rpo_embedding_kind kind;
        char *path;      /* embedding.path: rows for the training records */
        char *eval_path; /* embedding.eval_path: rows for the held-out records */
    } embedding;
    struct {
        rpo_loss_kind kind;
        double beta, distance_temperature, diagonal_weight, epsilon;
        int64_t contrast_block; /* pairs; 0 = the whole global batch */
        rpo_weight_scale weight_scale;
    } loss;
    struct {
        int64_t batch_size;         /* pairs (unpaired: half as many as records), global */
        int64_t micro_batch_tokens; /* most tokens of one forward; 0 = chosen by the trainer */
        rpo_prefix_sharing prefix_sharing;
        double epochs;
        int64_t max_steps; /* 0 = as many as epochs gives */
        double learning_rate;
        rpo_optimizer_kind optimizer;
        int64_t warmup_steps;
        double max_grad_norm; /* 0 = no clipping */
        double weight_decay;
        int64_t eval_every, save_every; /* steps; 0 = only at the end */
        int64_t keep_checkpoints;
    } train;
    struct {
        char *path; /* NULL = the policy's start */
    } reference;
    struct {
        char *dir; /* required */
        uint64_t seed;
        rpo_run_device device;
        rpo_dtype dtype;
        int64_t threads; /* run.threads: 0 = all */
    } run;
    char *source;                     /* path of the config file, for messages */
    struct rpo_config_places *places; /* where each given key stands, for rpo_config_fault */
} rpo_config;

/*
 * Reads `path`, applies `overrides` ("key.sub=value", the value JSON or else a plain string; for a list a
 * string is a list of one), checks everything. Faults: INVALID_INPUT, "FILE:LINE: key: what is wrong; what is allowed" (an override: "--set
 * key=value: ..."). Paths inside a config are relative to the working directory.
 */
rpo_status rpo_config_load(rpo_config **config, const char *path, const char *const *overrides,
                           size_t num_overrides);
void rpo_config_free(rpo_config *config);

/* A top-level member that a configuration may have and that says nothing: RUN/config.json keeps the records of the run there. */
#define RPO_CONFIG_RECORD "run_record"

/* The resolved configuration as JSON, every key present: what goes to RUN/config.json. A config read back
 * from it is the same configuration. `record`: JSON for the member above, or NULL. */
rpo_status rpo_config_to_json(const rpo_config *config, const char *record, rpo_text *text);

/* The device of a run: what run.device names, or the best one that this build can train on for auto. */
rpo_device rpo_config_device(const rpo_config *config);

/* Every key with its default, what is allowed and what it means: `rpo help config`. */
rpo_status rpo_config_append_help(rpo_text *text);

/* Sets "FILE:LINE: key: ..." for a fault found after loading (the vocabulary does not fit, say). */
rpo_status rpo_config_fault(const rpo_config *config, const char *key, const char *format, ...)
    RPO_PRINTF(3, 4);

#endif
