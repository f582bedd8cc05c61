/* cmd_loss.c - `rpo loss`: one loss case in; loss, weights, gradients and rewards out. */
#include <stdio.h>

#include "host/cli/case_command.h"
#include "host/cli/cli.h"
#include "host/cli/device_arrays.h"
#include "host/cli/loss_case.h"

static const char details[] =
    "Computes one contrast loss (Relative Preference Optimization and its baselines) and its gradient.\n"
    "\n"
    "CASE.json  kind                       rpo-paired, rpo-unpaired, rpo-uniform, rpo-diagonal,\n"
    "                                      dpo, cdpo, ipo, kto-simple or sft\n"
    "           m, n                       chosen and rejected responses\n"
    "           beta                       > 0\n"
    "           policy_chosen_logps        [m]    reference_chosen_logps    [m]\n"
    "           policy_rejected_logps      [n]    reference_rejected_logps  [n]\n"
    "           tau, dim, emb_chosen [m][dim], emb_rejected [n][dim]   rpo-paired, rpo-unpaired\n"
    "           diagonal_weight, 0 to 1    rpo-diagonal\n"
    "           epsilon, 0 to 0.5          cdpo\n"
    "\n"
    "Prints one JSON object: loss, row_losses, weights ([m][n] or null), grad_policy_chosen_logps,\n"
    "grad_policy_rejected_logps, chosen_rewards, rejected_rewards.\n";

static int run(int argc, char **argv);

const rpo_command rpo_command_loss = {
    .spec = {.program = "rpo",
             .command = "loss",
             .summary = "one loss case in, JSON out",
             .options = rpo_case_options,
             .num_options = RPO_NUM_CASE_OPTIONS,
             .details = details},
    .run = run,
};

typedef struct loss_answer {
    float *loss; /* [1] */
    float *row_losses;
    int64_t num_row_losses;
    float *weights; /* [m][n]; NULL for kinds that have none */
    float *grad_chosen, *grad_rejected, *chosen_rewards, *rejected_rewards;
} loss_answer;

static void answer_free(loss_answer *answer) {
    rpo_free(answer->rejected_rewards);
    rpo_free(answer->chosen_rewards);
    rpo_free(answer->grad_rejected);
    rpo_free(answer->grad_chosen);
    rpo_free(answer->weights);
    rpo_free(answer->row_losses);
    rpo_free(answer->loss);
}

/* The case's inputs on the device. */
static rpo_status put_inputs(rpo_contrast_inputs *inputs, rpo_device_arrays *arrays,
                             const rpo_loss_case *one) {
    const size_t m = (size_t)one->m, n = (size_t)one->n, dim = (size_t)one->dim;
    void *policy_chosen, *policy_rejected, *reference_chosen, *reference_rejected, *chosen, *rejected;
    RPO_TRY(rpo_device_array_put(arrays, &policy_chosen, one->policy_chosen_logps, m, sizeof(float)));
    RPO_TRY(rpo_device_array_put(arrays, &policy_rejected, one->policy_rejected_logps, n, sizeof(float)));
    RPO_TRY(rpo_device_array_put(arrays, &reference_chosen, one->reference_chosen_logps, m, sizeof(float)));
    RPO_TRY(
        rpo_device_array_put(arrays, &reference_rejected, one->reference_rejected_logps, n, sizeof(float)));
    RPO_TRY(rpo_device_array_put(arrays, &chosen, one->chosen_embeddings, m * dim, sizeof(float)));
    RPO_TRY(rpo_device_array_put(arrays, &rejected, one->rejected_embeddings, n * dim, sizeof(float)));
    *inputs = (rpo_contrast_inputs){.struct_size = sizeof *inputs,
                                    .policy_chosen_logps = policy_chosen,
                                    .policy_rejected_logps = policy_rejected,
                                    .reference_chosen_logps = reference_chosen,
                                    .reference_rejected_logps = reference_rejected,
                                    .chosen_embeddings = chosen,
                                    .rejected_embeddings = rejected,
                                    .embedding_dtype = RPO_FLOAT32,
                                    .m = one->m,
                                    .n = one->n,
                                    .dim = one->dim};
    return RPO_OK;
}

/* The weights as a matrix, which only this command ever forms. */
static rpo_status compute_weights(loss_answer *answer, rpo_device_arrays *arrays,
                                  const rpo_contrast_inputs *inputs, const rpo_loss_options *options) {
    if (!rpo_loss_kind_needs_embeddings(options->kind) && options->kind != RPO_LOSS_RPO_UNIFORM)
        return RPO_OK;
    const size_t count = (size_t)inputs->m * (size_t)inputs->n;
    if (options->kind == RPO_LOSS_RPO_UNIFORM) {
        answer->weights = rpo_alloc_array(count, sizeof(float));
        if (answer->weights == NULL)
            return RPO_ERROR_OUT_OF_MEMORY;
        for (size_t i = 0; i < count; ++i)
            answer->weights[i] = 1.0f;
        return RPO_OK;
    }
    size_t size = 0;
    void *weights, *workspace;
    const rpo_similarity_inputs prompts = {.struct_size = sizeof prompts,
                                           .chosen_embeddings = inputs->chosen_embeddings,
                                           .rejected_embeddings = inputs->rejected_embeddings,
                                           .m = inputs->m,
                                           .n = inputs->n,
                                           .dim = inputs->dim,
                                           .dtype = inputs->embedding_dtype};
    RPO_TRY(rpo_prompt_similarity_workspace_size(arrays->context, &size, &prompts));
    RPO_TRY(rpo_device_array_new(arrays, &weights, count, sizeof(float)));
    RPO_TRY(rpo_device_array_new(arrays, &workspace, size, 1));
    RPO_TRY(rpo_contrast_weights(arrays->context, weights, &prompts, options->tau, options->weight_scale,
                                 workspace, size));
    return rpo_device_array_get(arrays, &answer->weights, weights, count);
}

static rpo_status compute_loss(loss_answer *answer, rpo_device_arrays *arrays,
                               const rpo_contrast_inputs *inputs, const rpo_loss_options *options) {
    const size_t m = (size_t)inputs->m, n = (size_t)inputs->n;
    const size_t rows = options->kind == RPO_LOSS_KTO_SIMPLE ? m + n : m;
    void *loss, *row_losses, *grad_chosen, *grad_rejected, *chosen_rewards, *rejected_rewards, *workspace;
    size_t size = 0;
    RPO_TRY(rpo_contrast_loss_workspace_size(arrays->context, &size, inputs, options));
    RPO_TRY(rpo_device_array_new(arrays, &loss, 1, sizeof(float)));
    RPO_TRY(rpo_device_array_new(arrays, &row_losses, rows, sizeof(float)));
    RPO_TRY(rpo_device_array_new(arrays, &grad_chosen, m, sizeof(float)));
    RPO_TRY(rpo_device_array_new(arrays, &grad_rejected, n, sizeof(float)));
    RPO_TRY(rpo_device_array_new(arrays, &chosen_rewards, m, sizeof(float)));
    RPO_TRY(rpo_device_array_new(arrays, &rejected_rewards, n, sizeof(float)));
    RPO_TRY(rpo_device_array_new(arrays, &workspace, size, 1));
    const rpo_contrast_outputs outputs = {.struct_size = sizeof outputs,
                                          .loss = loss,
                                          .row_losses = row_losses,
                                          .grad_chosen_logps = grad_chosen,
                                          .grad_rejected_logps = grad_rejected,
                                          .chosen_rewards = chosen_rewards,
                                          .rejected_rewards = rejected_rewards};
    RPO_TRY(rpo_contrast_loss(arrays->context, &outputs, inputs, options, workspace, size));
    RPO_TRY(rpo_device_array_get(arrays, &answer->loss, loss, 1));
    RPO_TRY(rpo_device_array_get(arrays, &answer->row_losses, row_losses, rows));
    RPO_TRY(rpo_device_array_get(arrays, &answer->grad_chosen, grad_chosen, m));
    RPO_TRY(rpo_device_array_get(arrays, &answer->grad_rejected, grad_rejected, n));
    RPO_TRY(rpo_device_array_get(arrays, &answer->chosen_rewards, chosen_rewards, m));
    RPO_TRY(rpo_device_array_get(arrays, &answer->rejected_rewards, rejected_rewards, n));
    answer->num_row_losses = (int64_t)rows;
    return RPO_OK;
}

static rpo_status compute(loss_answer *answer, rpo_context *context, const rpo_loss_case *one) {
    rpo_device_arrays arrays = {.context = context};
    rpo_contrast_inputs inputs;
    rpo_status status = put_inputs(&inputs, &arrays, one);
    if (status == RPO_OK)
        status = compute_loss(answer, &arrays, &inputs, &one->options);
    if (status == RPO_OK)
        status = compute_weights(answer, &arrays, &inputs, &one->options);
    rpo_device_arrays_free(&arrays);
    return status;
}

static rpo_status append_list(rpo_text *text, const char *name, const float *values, int64_t count,
                              int64_t row_length) {
    RPO_TRY(rpo_text_append(text, ", ", 2));
    return rpo_case_append_floats(text, name, values, count, row_length);
}

static rpo_status write_answer(rpo_text *text, const loss_answer *answer, const rpo_loss_case *one) {
    RPO_TRY(rpo_text_printf(text, "{\"loss\": "));
    RPO_TRY(rpo_json_append_number(text, (double)answer->loss[0]));
    RPO_TRY(append_list(text, "row_losses", answer->row_losses, answer->num_row_losses, 0));
    if (answer->weights != NULL)
        RPO_TRY(append_list(text, "weights", answer->weights, one->m * one->n, one->n));
    else
        RPO_TRY(rpo_text_printf(text, ", \"weights\": null"));
    RPO_TRY(append_list(text, "grad_policy_chosen_logps", answer->grad_chosen, one->m, 0));
    RPO_TRY(append_list(text, "grad_policy_rejected_logps", answer->grad_rejected, one->n, 0));
    RPO_TRY(append_list(text, "chosen_rewards", answer->chosen_rewards, one->m, 0));
    RPO_TRY(append_list(text, "rejected_rewards", answer->rejected_rewards, one->n, 0));
    return rpo_text_append(text, "}\n", 2);
}

static rpo_status print_answer(const rpo_text *text) {
    if (fwrite(text->data, 1, text->length, stdout) != text->length || fflush(stdout) != 0)
        return rpo_error_set(RPO_ERROR_IO, "loss: standard output: cannot be written");
    return RPO_OK;
}

static int run(int argc, char **argv) {
    rpo_case_command command;
    rpo_loss_case one = {0};
    loss_answer answer = {0};
    rpo_text text = {0};

    rpo_status status = rpo_case_command_open(&command, &rpo_command_loss.spec, argc, argv);
    if (status != RPO_OK)
        return rpo_cli_report(status);
    status = rpo_loss_case_read(&one, command.json);
    if (status == RPO_OK)
        status = compute(&answer, command.context, &one);
    if (status == RPO_OK)
        status = write_answer(&text, &answer, &one);
    if (status == RPO_OK)
        status = print_answer(&text);
    rpo_text_free(&text);
    answer_free(&answer);
    rpo_loss_case_free(&one);
    rpo_case_command_close(&command);
    return status == RPO_OK ? RPO_EXIT_OK : rpo_cli_report(status);
}
