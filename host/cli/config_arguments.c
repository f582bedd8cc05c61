/* config_arguments.c - the configuration that a command line names. */
#include "host/cli/config_arguments.h"

rpo_status rpo_config_arguments_load(rpo_config **config, const rpo_config_arguments *arguments) {
    return rpo_config_load(config, arguments->path, arguments->overrides.items, arguments->overrides.count);
}
