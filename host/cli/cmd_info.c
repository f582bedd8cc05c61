/* cmd_info.c - rpo info: what this build can do on this machine. */
#include <stdio.h>

#include <omp.h>
#include <sys/sysinfo.h>
#include <xxhash.h>
#include <zlib.h>

#include "core/json.h"
#include "core/machine.h"
#include "host/cli/cli.h"
#include "kernels/op_table.h"

static void print_machine(void) {
    rpo_machine machine;
    struct sysinfo memory;
    rpo_machine_look(&machine);
    printf("machine    %s\n", machine.cpu);
    printf("           %s\n", machine.os);
    printf("           %d processors online, %d threads for the ops", machine.cores, omp_get_max_threads());
    if (sysinfo(&memory) == 0)
        printf(", %.1f GiB memory", (double)memory.totalram * memory.mem_unit / (1024.0 * 1024.0 * 1024.0));
    printf("\n");
}

/* The dtypes of the preference ops, and of training where the backend has the model ops. */
static void print_dtypes(const rpo_backend *backend, const char *what, rpo_op op) {
    static const rpo_dtype dtypes[] = {RPO_FLOAT32, RPO_BFLOAT16, RPO_FLOAT16};
    const char *separator = " ";
    printf("%-10s %-6s %s:", "", "", what);
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; ++i)
        if (backend->supports(op, dtypes[i])) {
            printf("%s%s", separator, rpo_dtype_name(dtypes[i]));
            separator = ", ";
        }
    printf("%s\n", separator[0] == ' ' ? " none yet" : "");
}

static void print_backends(void) {
    size_t count = 0;
    const rpo_backend *const *backends = rpo_backends(&count);
    for (size_t i = 0; i < count; ++i) {
        char description[1024] = "";
        backends[i]->describe(description, sizeof description);
        printf("%-10s %-6s %s\n", i == 0 ? "backends" : "", backends[i]->name, description);
        print_dtypes(backends[i], "losses and log-probs", RPO_OP_CONTRAST_LOSS);
        print_dtypes(backends[i], "training", RPO_OP_MODEL);
    }
    if (rpo_backend_find(RPO_DEVICE_CUDA) == NULL)
        printf("%-10s %-6s not in this build\n", "", "cuda");
}

static void print_libraries(void) {
    const unsigned xxhash = XXH_versionNumber();
    printf("libraries  cJSON %s, zlib %s, xxHash %u.%u.%u, OpenMP %d\n", cJSON_Version(), zlibVersion(),
           xxhash / 10000, xxhash / 100 % 100, xxhash % 100, _OPENMP);
    printf("ranks      one process; MPI is not in this build\n");
}

static int run(int argc, char **argv);

const rpo_command rpo_command_info = {
    .spec = {.program = "rpo", .command = "info", .summary = "version, backends, devices, libraries"},
    .run = run,
};

static int run(int argc, char **argv) {
    const rpo_status status = rpo_options_read(&rpo_command_info.spec, NULL, argc, argv);
    if (status != RPO_OK)
        return rpo_cli_report(status);
    printf("rpo %s, Relative Preference Optimization (arXiv 2402.10958)\n\n", rpo_version());
    printf("commit     %s\n", rpo_build_commit());
    printf("compiler   %s %s\n", __VERSION__[0] >= '0' && __VERSION__[0] <= '9' ? "gcc" : "", __VERSION__);
    print_machine();
    print_backends();
    print_libraries();
    return RPO_EXIT_OK;
}
