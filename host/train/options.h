/* options.h - how a step is computed where the result is the same either way. */
#ifndef RPO_HOST_TRAIN_OPTIONS_H
#define RPO_HOST_TRAIN_OPTIONS_H

/* Whether a prompt that several responses of a micro-batch share is computed once (auto) or for each of them. */
typedef enum rpo_prefix_sharing { RPO_PREFIX_SHARING_AUTO, RPO_PREFIX_SHARING_OFF } rpo_prefix_sharing;

#endif
