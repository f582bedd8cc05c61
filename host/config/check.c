/* check.c - what holds between keys, and defaults that depend on other keys. */
#include "host/config/keys.h"
#include "kernels/op_table.h"

static rpo_status check_model(const rpo_config *config) {
    if (config->model.path != NULL && config->model.has_init)
        return rpo_config_fault(config, "model.init", "is given beside model.path; give one of the two");
    if (config->model.path == NULL && !config->model.has_init)
        return rpo_config_fault(config, "model.path",
                                "is missing; give model.path (a folder) or model.init (a fresh model)");
    return RPO_OK;
}

static rpo_status check_lengths(rpo_config *config) {
    rpo_data_options *options = &config->data.options;
    if (options->max_prompt_length < options->max_length)
        return RPO_OK;
    if (rpo_config_is_given(config, "data.max_prompt_length"))
        return rpo_config_fault(config, "data.max_prompt_length", "is %d; must be below data.max_length, %d",
                                (int)options->max_prompt_length, (int)options->max_length);
    options->max_prompt_length = options->max_length / 2; /* the default's share of the default length */
    return RPO_OK;
}

static rpo_status check_embedding(const rpo_config *config) {
    if (config->embedding.kind != RPO_EMBEDDING_FILE)
        return RPO_OK;
    if (config->embedding.path == NULL)
        return rpo_config_fault(
            config, "embedding.path",
            "is missing; embedding.kind file needs the .npy or .safetensors file to read");
    if (config->data.eval.count > 0 && config->embedding.eval_path == NULL)
        return rpo_config_fault(
            config, "embedding.eval_path",
            "is missing; embedding.kind file with data.eval needs a file for those records too");
    return RPO_OK;
}

/* "loss.kind: is dpo, which needs pairs; ..." with the kinds that do not. */
static rpo_status refuse_unpaired(const rpo_config *config) {
    rpo_text allowed = {0};
    rpo_status status = RPO_OK;
    for (int kind = 0; status == RPO_OK && kind < RPO_LOSS_KIND_COUNT; ++kind)
        if (!rpo_loss_kind_needs_pairs((rpo_loss_kind)kind))
            status = rpo_text_printf(&allowed, "%s%s", allowed.length > 0 ? ", " : "",
                                     rpo_loss_kind_name((rpo_loss_kind)kind));
    if (status == RPO_OK)
        status = rpo_config_fault(config, "loss.kind",
                                  "is %s, which needs pairs, but data.format is unpaired; must be one of %s",
                                  rpo_loss_kind_name(config->loss.kind), allowed.data);
    rpo_text_free(&allowed);
    return status;
}

static rpo_status check_loss(rpo_config *config) {
    if (config->data.options.format == RPO_DATA_UNPAIRED && rpo_loss_kind_needs_pairs(config->loss.kind))
        return refuse_unpaired(config);
    if (config->loss.contrast_block <= config->train.batch_size)
        return RPO_OK;
    if (rpo_config_is_given(config, "loss.contrast_block"))
        return rpo_config_fault(config, "loss.contrast_block",
                                "is %lld; must be at most train.batch_size, %lld",
                                (long long)config->loss.contrast_block, (long long)config->train.batch_size);
    config->loss.contrast_block = config->train.batch_size;
    return RPO_OK;
}

/* A backend may have the preference ops and no more. */
static bool can_train_on(rpo_device device) {
    const rpo_backend *backend = rpo_backend_find(device);
    return backend != NULL && backend->supports(RPO_OP_MODEL, RPO_FLOAT32);
}

rpo_device rpo_config_device(const rpo_config *config) {
    const rpo_run_device wanted = config->run.device;
    const bool on_cuda =
        wanted == RPO_RUN_DEVICE_CUDA || (wanted == RPO_RUN_DEVICE_AUTO && can_train_on(RPO_DEVICE_CUDA));
    return on_cuda ? RPO_DEVICE_CUDA : RPO_DEVICE_CPU;
}

static rpo_status check_device(const rpo_config *config) {
    const rpo_device device = rpo_config_device(config);
    if (!can_train_on(device)) {
        rpo_config_fault(config, "run.device",
                         "is cuda, but this build cannot train with CUDA; must be auto or cpu");
        return RPO_ERROR_UNSUPPORTED; /* the machine's lack rather than the user's mistake */
    }
    if (device == RPO_DEVICE_CPU && config->run.dtype != RPO_FLOAT32)
        return rpo_config_fault(config, "run.dtype", "is %s; must be float32 on the CPU",
                                rpo_dtype_name(config->run.dtype));
    return RPO_OK;
}

rpo_status rpo_config_check(rpo_config *config) {
    RPO_TRY(check_model(config));
    RPO_TRY(check_lengths(config));
    RPO_TRY(check_embedding(config));
    RPO_TRY(check_loss(config));
    return check_device(config);
}
