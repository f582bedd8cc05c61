/* run_config.h - the arguments of `rpo train` and `rpo eval`, and the configuration they name. */
#ifndef RPO_HOST_CLI_RUN_CONFIG_H
#define RPO_HOST_CLI_RUN_CONFIG_H

#include "host/config/config.h"

/*
 * CONFIG.json [--set section.key=VALUE ...], and [--resume] where `resume` is not NULL. Loads the
 * configuration into *config (rpo_config_free).
 */
rpo_status rpo_run_config_load(rpo_config **config, bool *resume, int argc, char **argv, const char *command);

#endif
