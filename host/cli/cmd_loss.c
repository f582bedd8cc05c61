/* cmd_loss.c - `rpo loss`: one loss case in; loss, weights, gradients and rewards out. */
#include <stdio.h>

#include "host/cli/case_command.h"
#include "host/cli/cli.h"
#include "host/cli/loss_case.h"

static const char usage[] =
    "usage: rpo loss CASE.json [--device cpu|cuda]\n"
    "\n"
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

typedef struct loss_answer {
    float loss;
    float *row_losses;
    int64_t num_row_losses;
    float *weights; /* [m][n]; NULL for kinds that have none */
    float *grad_chosen, *grad_rejected, *chosen_rewards, *rejected_rewards;
    void *workspace, *weights_workspace;
} loss_answer;

static void answer_free(loss_answer *answer) {
    rpo_free(answer->weights_workspace);
    rpo_free(answer->workspace);
    rpo_free(answer->rejected_rewards);
    rpo_free(answer->chosen_rewards);
    rpo_free(answer->grad_rejected);
    rpo_free(answer->grad_chosen);
    rpo_free(answer->weights);
    rpo_free(answer->row_losses);
}

/* The weights as a matrix, which only this command ever forms. */
static rpo_status compute_weights(loss_answer *answer, rpo_context *context, const rpo_loss_case *one) {
    const rpo_loss_kind kind = one->options.kind;
    if (!rpo_loss_kind_needs_embeddings(kind) && kind != RPO_LOSS_RPO_UNIFORM)
        return RPO_OK;
    const size_t count = (size_t)one->m * (size_t)one->n;
    answer->weights = rpo_alloc_array(count, sizeof(float));
    if (answer->weights == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    if (kind == RPO_LOSS_RPO_UNIFORM) {
        for (size_t i = 0; i < count; ++i)
            answer->weights[i] = 1.0f;
        return RPO_OK;
    }
    size_t size = 0;
    RPO_TRY(rpo_prompt_similarity_workspace_size(context, &size, one->m, one->n, one->dim, RPO_FLOAT32));
    answer->weights_workspace = rpo_alloc_array(size, 1);
    if (answer->weights_workspace == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    return rpo_contrast_weights(context, answer->weights, one->chosen_embeddings, one->rejected_embeddings,
                                one->m, one->n, one->dim, RPO_FLOAT32, one->options.tau,
                                one->options.weight_scale, answer->weights_workspace, size);
}

static rpo_status compute(loss_answer *answer, rpo_context *context, const rpo_loss_case *one) {
    const rpo_contrast_inputs inputs = {.struct_size = sizeof inputs,
                                        .policy_chosen_logps = one->policy_chosen_logps,
                                        .policy_rejected_logps = one->policy_rejected_logps,
                                        .reference_chosen_logps = one->reference_chosen_logps,
                                        .reference_rejected_logps = one->reference_rejected_logps,
                                        .chosen_embeddings = one->chosen_embeddings,
                                        .rejected_embeddings = one->rejected_embeddings,
                                        .embedding_dtype = RPO_FLOAT32,
                                        .m = one->m,
                                        .n = one->n,
                                        .dim = one->dim};
    const size_t m = (size_t)one->m, n = (size_t)one->n;
    size_t size = 0;
    RPO_TRY(rpo_contrast_loss_workspace_size(context, &size, &inputs, &one->options));
    answer->num_row_losses = one->options.kind == RPO_LOSS_KTO_SIMPLE ? one->m + one->n : one->m;
    answer->row_losses = rpo_alloc_array((size_t)answer->num_row_losses, sizeof(float));
    answer->grad_chosen = rpo_alloc_array(m, sizeof(float));
    answer->grad_rejected = rpo_alloc_array(n, sizeof(float));
    answer->chosen_rewards = rpo_alloc_array(m, sizeof(float));
    answer->rejected_rewards = rpo_alloc_array(n, sizeof(float));
    answer->workspace = rpo_alloc_array(size, 1);
    if (answer->row_losses == NULL || answer->grad_chosen == NULL || answer->grad_rejected == NULL ||
        answer->chosen_rewards == NULL || answer->rejected_rewards == NULL || answer->workspace == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    const rpo_contrast_outputs outputs = {.struct_size = sizeof outputs,
                                          .loss = &answer->loss,
                                          .row_losses = answer->row_losses,
                                          .grad_chosen_logps = answer->grad_chosen,
                                          .grad_rejected_logps = answer->grad_rejected,
                                          .chosen_rewards = answer->chosen_rewards,
                                          .rejected_rewards = answer->rejected_rewards};
    RPO_TRY(rpo_contrast_loss(context, &outputs, &inputs, &one->options, answer->workspace, size));
    RPO_TRY(compute_weights(answer, context, one));
    return rpo_context_synchronize(context);
}

static rpo_status append_list(rpo_text *text, const char *name, const float *values, int64_t count,
                              int64_t row_length) {
    RPO_TRY(rpo_text_append(text, ", ", 2));
    return rpo_case_append_floats(text, name, values, count, row_length);
}

static rpo_status write_answer(rpo_text *text, const loss_answer *answer, const rpo_loss_case *one) {
    RPO_TRY(rpo_text_printf(text, "{\"loss\": "));
    RPO_TRY(rpo_json_append_number(text, (double)answer->loss));
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

int rpo_cmd_loss(int argc, char **argv) {
    rpo_case_command command;
    rpo_loss_case one = {0};
    loss_answer answer = {0};
    rpo_text text = {0};

    rpo_status status = rpo_case_command_open(&command, "loss", argc, argv);
    if (status != RPO_OK)
        return rpo_cli_report(status);
    if (command.help) {
        fputs(usage, stdout);
        goto cleanup;
    }
    status = rpo_loss_case_read(&one, command.json);
    if (status == RPO_OK)
        status = compute(&answer, command.context, &one);
    if (status == RPO_OK)
        status = write_answer(&text, &answer, &one);
    if (status == RPO_OK)
        status = print_answer(&text);

cleanup:
    rpo_text_free(&text);
    answer_free(&answer);
    rpo_loss_case_free(&one);
    rpo_case_command_close(&command);
    return status == RPO_OK ? RPO_EXIT_OK : rpo_cli_report(status);
}
