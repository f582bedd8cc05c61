/* cmd_logprob.c - `rpo logprob`: one log-prob case in, its log-probs and gradient out. */
#include <stdio.h>

#include "host/cli/case_command.h"
#include "host/cli/cli.h"
#include "host/cli/logprob_case.h"

static const char usage[] =
    "usage: rpo logprob CASE.json [--device cpu|cuda]\n"
    "\n"
    "Computes sequence log-probabilities from logits, and the gradient of sum(coef * sequence_logps).\n"
    "\n"
    "CASE.json  kind     \"logps\"\n"
    "           vocab    size of the vocabulary\n"
    "           lens     rows of each sequence, packed one after another\n"
    "           logits   [rows][vocab]\n"
    "           labels   [rows] the token each row predicts; -100 = the row does not count\n"
    "           coef     [sequences] upstream gradient of each sequence's log-prob\n"
    "           average  true: divide by the sequence's counted rows (default false)\n"
    "\n"
    "Prints one JSON object: token_logps [rows], sequence_logps [sequences], grad_logits [rows][vocab].\n";

typedef struct logprob_answer {
    float *token_logps, *sequence_logps, *logsumexp, *grad_logits;
    void *workspace;
} logprob_answer;

static void answer_free(logprob_answer *answer) {
    rpo_free(answer->workspace);
    rpo_free(answer->grad_logits);
    rpo_free(answer->logsumexp);
    rpo_free(answer->sequence_logps);
    rpo_free(answer->token_logps);
}

static rpo_status compute(logprob_answer *answer, rpo_context *context, const rpo_logprob_case *one) {
    const rpo_logprob_shape shape = {.struct_size = sizeof shape,
                                     .rows = one->rows,
                                     .vocab_size = one->vocab_size,
                                     .num_sequences = one->num_sequences,
                                     .dtype = RPO_FLOAT32,
                                     .reduction = one->average ? RPO_REDUCTION_AVERAGE : RPO_REDUCTION_SUM};
    const size_t rows = (size_t)one->rows;
    size_t workspace_size = 0;
    RPO_TRY(rpo_logprob_gather_workspace_size(context, &workspace_size, &shape));
    answer->token_logps = rpo_alloc_array(rows, sizeof(float));
    answer->sequence_logps = rpo_alloc_array((size_t)one->num_sequences, sizeof(float));
    answer->logsumexp = rpo_alloc_array(rows, sizeof(float));
    answer->grad_logits = rpo_alloc_array(rows * (size_t)one->vocab_size, sizeof(float));
    answer->workspace = rpo_alloc_array(workspace_size, 1);
    if (answer->token_logps == NULL || answer->sequence_logps == NULL || answer->logsumexp == NULL ||
        answer->grad_logits == NULL || answer->workspace == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    RPO_TRY(rpo_logprob_gather(context, answer->sequence_logps, answer->token_logps, answer->logsumexp,
                               one->logits, one->labels, one->cu_seqlens, &shape, answer->workspace,
                               workspace_size));
    RPO_TRY(rpo_logprob_gather_backward(context, answer->grad_logits, one->logits, answer->logsumexp,
                                        one->labels, one->cu_seqlens, one->coef, &shape, answer->workspace,
                                        workspace_size));
    return rpo_context_synchronize(context);
}

static rpo_status write_answer(rpo_text *text, const logprob_answer *answer, const rpo_logprob_case *one) {
    RPO_TRY(rpo_text_append(text, "{", 1));
    RPO_TRY(rpo_case_append_floats(text, "token_logps", answer->token_logps, one->rows, 0));
    RPO_TRY(rpo_text_append(text, ", ", 2));
    RPO_TRY(rpo_case_append_floats(text, "sequence_logps", answer->sequence_logps, one->num_sequences, 0));
    RPO_TRY(rpo_text_append(text, ", ", 2));
    RPO_TRY(rpo_case_append_floats(text, "grad_logits", answer->grad_logits, one->rows * one->vocab_size,
                                   one->vocab_size));
    return rpo_text_append(text, "}\n", 2);
}

static rpo_status print_answer(const rpo_text *text) {
    if (fwrite(text->data, 1, text->length, stdout) != text->length || fflush(stdout) != 0)
        return rpo_error_set(RPO_ERROR_IO, "logprob: standard output: cannot be written");
    return RPO_OK;
}

int rpo_cmd_logprob(int argc, char **argv) {
    rpo_case_command command;
    rpo_logprob_case one = {0};
    logprob_answer answer = {0};
    rpo_text text = {0};

    rpo_status status = rpo_case_command_open(&command, "logprob", argc, argv);
    if (status != RPO_OK)
        return rpo_cli_report(status);
    if (command.help) {
        fputs(usage, stdout);
        goto cleanup;
    }
    status = rpo_logprob_case_read(&one, command.json);
    if (status == RPO_OK)
        status = compute(&answer, command.context, &one);
    if (status == RPO_OK)
        status = write_answer(&text, &answer, &one);
    if (status == RPO_OK)
        status = print_answer(&text);

cleanup:
    rpo_text_free(&text);
    answer_free(&answer);
    rpo_logprob_case_free(&one);
    rpo_case_command_close(&command);
    return status == RPO_OK ? RPO_EXIT_OK : rpo_cli_report(status);
}
