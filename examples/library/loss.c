/* loss.c - the contrast loss of two preference pairs. cc loss.c $(pkg-config --cflags --libs rpo) */
#include <rpo/rpo.h>
#include <stdio.h>

int main(void) {
    const float chosen[2] = {0.9f, 0.2f}, rejected[2] = {-0.3f, 0.4f}; /* log-ratios, policy against reference */
    float loss, grad_chosen[2];
    rpo_loss_options options = RPO_LOSS_OPTIONS_INIT;
    options.kind = RPO_LOSS_RPO_UNIFORM; /* every chosen against every rejected */
    const rpo_contrast_inputs inputs = {
        .struct_size = sizeof inputs, .policy_chosen_logps = chosen, .policy_rejected_logps = rejected, .m = 2, .n = 2};
    const rpo_contrast_outputs outputs = {
        .struct_size = sizeof outputs, .loss = &loss, .grad_chosen_logps = grad_chosen};
    rpo_context *context = NULL;
    if (rpo_context_create(&context, NULL) || rpo_contrast_loss(context, &outputs, &inputs, &options, NULL, 0))
        return fprintf(stderr, "%s\n", rpo_last_error()), 1;
    printf("loss %.6f, gradient %.6f %.6f\n", loss, grad_chosen[0], grad_chosen[1]);
    rpo_context_free(context);
    return 0;
}
