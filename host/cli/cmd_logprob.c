/* cmd_logprob.c - `rpo logprob`: one log-prob case in, its log-probs and gradient out. */
#include <stdio.h>

#include "host/cli/case_command.h"
#include "host/cli/cli.h"
#include "host/cli/device_arrays.h"
#include "host/cli/logprob_case.h"

static const char details[] =
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

static int run(int argc, char **argv);

const rpo_command rpo_command_logprob = {
    .spec = {.program = "rpo",
             .command = "logprob",
             .summary = "one log-prob case in, JSON out",
             .options = rpo_case_options,
             .num_options = RPO_NUM_CASE_OPTIONS,
             .details = details},
    .run = run,
};

typedef struct logprob_answer {
    float *token_logps, *sequence_logps, *grad_logits;
} logprob_answer;

static void answer_free(logprob_answer *answer) {
    rpo_free(answer->grad_logits);
    rpo_free(answer->sequence_logps);
    rpo_free(answer->token_logps);
}

static rpo_status compute_on(rpo_device_arrays *arrays, logprob_answer *answer, const rpo_logprob_case *one) {
    const rpo_logprob_shape shape = {.struct_size = sizeof shape,
                                     .rows = one->rows,
                                     .vocab_size = one->vocab_size,
                                     .num_sequences = one->num_sequences,
                                     .dtype = RPO_FLOAT32,
                                     .reduction = one->average ? RPO_REDUCTION_AVERAGE : RPO_REDUCTION_SUM};
    const size_t rows = (size_t)one->rows, sequences = (size_t)one->num_sequences;
    const size_t elements = rows * (size_t)one->vocab_size;
    void *logits, *labels, *cu_seqlens, *coef;
    RPO_TRY(rpo_device_array_put(arrays, &logits, one->logits, elements, sizeof(float)));
    RPO_TRY(rpo_device_array_put(arrays, &labels, one->labels, rows, sizeof(int32_t)));
    RPO_TRY(rpo_device_array_put(arrays, &cu_seqlens, one->cu_seqlens, sequences + 1, sizeof(int32_t)));
    RPO_TRY(rpo_device_array_put(arrays, &coef, one->coef, sequences, sizeof(float)));

    void *sequence_logps, *token_logps, *logsumexp, *grad_logits, *workspace;
    size_t size = 0;
    RPO_TRY(rpo_logprob_gather_workspace_size(arrays->context, &size, &shape));
    RPO_TRY(rpo_device_array_new(arrays, &sequence_logps, sequences, sizeof(float)));
    RPO_TRY(rpo_device_array_new(arrays, &token_logps, rows, sizeof(float)));
    RPO_TRY(rpo_device_array_new(arrays, &logsumexp, rows, sizeof(float)));
    RPO_TRY(rpo_device_array_new(arrays, &grad_logits, elements, sizeof(float)));
    RPO_TRY(rpo_device_array_new(arrays, &workspace, size, 1));

    const rpo_logprob_inputs inputs = {sizeof inputs, logits, labels, cu_seqlens, logsumexp, coef};
    const rpo_logprob_outputs outputs = {sizeof outputs, sequence_logps, token_logps, logsumexp};
    RPO_TRY(rpo_logprob_gather(arrays->context, &outputs, &inputs, &shape, workspace, size));
    RPO_TRY(rpo_logprob_gather_backward(arrays->context, grad_logits, &inputs, &shape, workspace, size));
    RPO_TRY(rpo_device_array_get(arrays, &answer->token_logps, token_logps, rows));
    RPO_TRY(rpo_device_array_get(arrays, &answer->sequence_logps, sequence_logps, sequences));
    return rpo_device_array_get(arrays, &answer->grad_logits, grad_logits, elements);
}

static rpo_status compute(logprob_answer *answer, rpo_context *context, const rpo_logprob_case *one) {
    rpo_device_arrays arrays = {.context = context};
    const rpo_status status = compute_on(&arrays, answer, one);
    rpo_device_arrays_free(&arrays);
    return status;
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

static int run(int argc, char **argv) {
    rpo_case_command command;
    rpo_logprob_case one = {0};
    logprob_answer answer = {0};
    rpo_text text = {0};

    rpo_status status = rpo_case_command_open(&command, &rpo_command_logprob.spec, argc, argv);
    if (status != RPO_OK)
        return rpo_cli_report(status);
    status = rpo_logprob_case_read(&one, command.json);
    if (status == RPO_OK)
        status = compute(&answer, command.context, &one);
    if (status == RPO_OK)
        status = write_answer(&text, &answer, &one);
    if (status == RPO_OK)
        status = print_answer(&text);
    rpo_text_free(&text);
    answer_free(&answer);
    rpo_logprob_case_free(&one);
    rpo_case_command_close(&command);
    return status == RPO_OK ? RPO_EXIT_OK : rpo_cli_report(status);
}
