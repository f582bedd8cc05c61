/* config_arguments.h - CONFIG.json [--set section.key=VALUE ...]: what every command that works on a configuration takes. */
#ifndef RPO_HOST_CLI_CONFIG_ARGUMENTS_H
#define RPO_HOST_CLI_CONFIG_ARGUMENTS_H

#include "core/options.h"
#include "host/config/config.h"

typedef struct rpo_config_arguments {
    const char *path;
    rpo_option_list overrides;
} rpo_config_arguments;

/* Entries of a command's table of options; its struct has a member `config` of the type above. */
#define RPO_OPTION_CONFIG(struct_type)                                                                       \
    {                                                                                                        \
        .name = "CONFIG.json", .type = RPO_OPTION_TEXT, .offset = offsetof(struct_type, config.path),        \
        .required = true, .meaning = "the run's configuration; rpo help config lists its keys"               \
    }
#define RPO_OPTION_SET(struct_type)                                                                          \
    {                                                                                                        \
        .name = "--set", .value = "section.key=VALUE", .type = RPO_OPTION_LIST,                              \
        .offset = offsetof(struct_type, config.overrides),                                                   \
        .meaning = "overrides a key; VALUE is JSON, or else a plain string; may be repeated"                 \
    }

/* The configuration with the overrides applied (rpo_config_free). */
rpo_status rpo_config_arguments_load(rpo_config **config, const rpo_config_arguments *arguments);

#endif
