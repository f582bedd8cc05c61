/* loss.c - the contrast loss of two preference pairs. Build: cc loss.c $(pkg-config --cflags --libs rpo) */
#include <rpo/rpo.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    const float chosen[2] = {0.9f, 0.2f}, rejected[2] = {-0.3f, 0.4f}; /* log-ratios, policy against reference */
    float loss, grad[2];
    rpo_loss_options options = RPO_LOSS_OPTIONS_INIT;
    options.kind = RPO_LOSS_RPO_UNIFORM; /* every chosen response against every rejected one */
    const rpo_contrast_inputs in = {.struct_size = sizeof in, .policy_chosen_logps = chosen, .m = 2,
                                    .policy_rejected_logps = rejected, .n = 2};
    const rpo_contrast_outputs out = {.struct_size = sizeof out, .loss = &loss, .grad_chosen_logps = grad};
    size_t bytes = 0;
    rpo_context *context = NULL;
    if (rpo_context_create(&context, NULL) || rpo_contrast_loss_workspace_size(context, &bytes, &in, &options) ||
        rpo_contrast_loss(context, &out, &in, &options, bytes ? aligned_alloc(64, (bytes + 63) / 64 * 64) : NULL, bytes))
        return fprintf(stderr, "%s\n", rpo_last_error()), 1;
    printf("loss %.6f, gradient %.6f %.6f\n", loss, grad[0], grad[1]);
    return 0; /* a program that goes on frees the workspace and calls rpo_context_free */
}
