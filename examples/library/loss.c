/* loss.c - the contrast loss of two preference pairs. Build: cc loss.c $(pkg-config --cflags --libs rpo) */
#include <rpo/rpo.h>
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    const float chosen[2] = {0.9f, 0.2f}; /* log-ratios, policy against reference */
    const float rejected[2] = {-0.3f, 0.4f};
    float loss = 0.0f, grad[2];
    rpo_loss_options options = RPO_LOSS_OPTIONS_INIT;
    options.kind = RPO_LOSS_RPO_UNIFORM; /* every chosen response against every rejected one */
    const rpo_contrast_inputs in = {sizeof in, chosen, rejected, .m = 2, .n = 2};
    const rpo_contrast_outputs out = {sizeof out, &loss, .grad_chosen_logps = grad};

    rpo_context *context = NULL;
    size_t bytes = 0;
    rpo_status status = rpo_context_create(&context, NULL);
    if (status == RPO_OK)
        status = rpo_contrast_loss_workspace_size(context, &bytes, &in, &options);
    void *workspace = aligned_alloc(64, (bytes + 63) / 64 * 64 + 64);
    if (status == RPO_OK)
        status = rpo_contrast_loss(context, &out, &in, &options, workspace, bytes);
    if (status == RPO_OK)
        printf("loss %.6f, gradient %.6f %.6f\n", loss, grad[0], grad[1]);
    else
        fprintf(stderr, "%s\n", rpo_last_error());
    free(workspace);
    rpo_context_free(context);
    return status != RPO_OK;
}
