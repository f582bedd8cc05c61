/* machine.c - the facts that Linux keeps in files. */
#include "core/machine.h"

#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#ifndef RPO_COMMIT /* set by the build for this file */
#    define RPO_COMMIT "unknown"
#endif

const char *rpo_build_commit(void) {
    return RPO_COMMIT;
}

/* The value of the first line of `path` that begins with `key`: what follows `separator`, without blanks and quotes around it.
 * `value` stays as it is where there is none. */
static void find_line(char *value, size_t size, const char *path, const char *key, char separator) {
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return;
    char line[512];
    while (fgets(line, sizeof line, file) != NULL) {
        const char *start = strchr(line, separator);
        if (strncmp(line, key, strlen(key)) != 0 || start == NULL)
            continue;
        start += 1 + strspn(start + 1, " \t\"");
        snprintf(value, size, "%.*s", (int)strcspn(start, "\"\n"), start);
        break;
    }
    fclose(file);
}

void rpo_machine_look(rpo_machine *machine) {
    struct utsname names;
    char distribution[128] = "unknown distribution";
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    snprintf(machine->cpu, sizeof machine->cpu, "unknown processor");
    find_line(machine->cpu, sizeof machine->cpu, "/proc/cpuinfo", "model name", ':');
    machine->cores = cores > 0 ? (int)cores : 1;
    find_line(distribution, sizeof distribution, "/etc/os-release", "PRETTY_NAME", '=');
    if (uname(&names) == 0)
        snprintf(machine->os, sizeof machine->os, "%s, %s %s %s", distribution, names.sysname, names.release,
                 names.machine);
    else
        snprintf(machine->os, sizeof machine->os, "%s", distribution);
}
