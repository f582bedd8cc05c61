/* folder.c - the run folder's rules. */
#include "host/run/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/files_internal.h"
#include "core/json.h"
#include "host/config/keys.h"

enum { CONFIG_LIMIT = 16 << 20 };

static bool may_change(const char *name) {
    const rpo_config_key *key = rpo_config_find_key(name);
    return key != NULL && key->may_change;
}

rpo_status rpo_run_folder_check(const rpo_config *config, bool resume) {
    static const char *const traces[] = {"metrics.jsonl", "config.json", "checkpoints", "final", "log.txt"};
    for (size_t i = 0; i < sizeof traces / sizeof traces[0] && !resume; ++i) {
        rpo_path_kind kind = RPO_PATH_ABSENT;
        char *path = rpo_path_join(config->run.dir, traces[i]);
        const rpo_status status = path == NULL ? RPO_ERROR_OUT_OF_MEMORY : rpo_path_examine(path, &kind);
        rpo_free(path);
        RPO_TRY(status);
        if (kind != RPO_PATH_ABSENT)
            return rpo_config_fault(
                config, "run.dir",
                "%s already holds a run (%s); continue it with --resume, or choose another folder",
                config->run.dir, traces[i]);
    }
    return RPO_OK;
}

/* ---- the lock ---- */

/* Is the file that is locked still the one of that name? */
static rpo_status check_same_file(int lock, const char *path, bool *same) {
    struct stat held, found;
    *same = false;
    if (fstat(lock, &held) != 0)
        return rpo_io_fault(path, "cannot be examined", errno);
    if (stat(path, &found) != 0)
        return errno == ENOENT || errno == ENOTDIR ? RPO_OK : rpo_io_fault(path, "cannot be examined", errno);
    *same = held.st_dev == found.st_dev && held.st_ino == found.st_ino;
    return RPO_OK;
}

static rpo_status lock_file(const rpo_config *config, int lock, const char *path) {
    int result;
    do {
        result = flock(lock, LOCK_EX | LOCK_NB);
    } while (result != 0 && errno == EINTR);
    if (result == 0)
        return RPO_OK;
    if (errno == EWOULDBLOCK)
        return rpo_config_fault(config, "run.dir",
                                "%s is in use by another process; wait for it, or choose another folder",
                                config->run.dir);
    return rpo_error_set(RPO_ERROR_IO,
                         "%s: cannot be locked: %s; run.dir must lie on a file system that knows locks", path,
                         strerror(errno));
}

/* *lock stays -1 where the file was replaced between its opening and its locking: to be tried again. */
static rpo_status try_lock(const rpo_config *config, int *lock, const char *path) {
    bool same = false;
    const int file = rpo_open_retried(path, O_RDWR | O_CREAT, 0666);
    if (file < 0)
        return rpo_path_fault(path, "cannot be opened", errno);
    rpo_status status = lock_file(config, file, path);
    if (status == RPO_OK)
        status = check_same_file(file, path, &same);
    if (status == RPO_OK && same)
        *lock = file;
    else
        close(file);
    return status;
}

rpo_status rpo_run_folder_lock(const rpo_config *config, int *lock) {
    *lock = -1;
    char *path = rpo_path_join(config->run.dir, ".lock");
    rpo_status status = path == NULL ? RPO_ERROR_OUT_OF_MEMORY : RPO_OK;
    while (status == RPO_OK && *lock < 0)
        status = try_lock(config, lock, path);
    rpo_free(path);
    return status;
}

rpo_status rpo_run_folder_still_held(const rpo_config *config, int lock) {
    bool same = false;
    char *path = rpo_path_join(config->run.dir, ".lock");
    rpo_status status = path == NULL ? RPO_ERROR_OUT_OF_MEMORY : check_same_file(lock, path, &same);
    rpo_free(path);
    if (status == RPO_OK && !same)
        status = rpo_error_set(RPO_ERROR_IO,
                               "run.dir: %s was removed or replaced while this run went on; the run ends and "
                               "writes nothing into it",
                               config->run.dir);
    return status;
}

/* ---- settings ---- */

/* The resolved configuration as a document: sections of keys. */
static rpo_status resolve(const rpo_config *config, rpo_json **json) {
    rpo_text text = {0};
    rpo_status status = rpo_config_to_json(config, NULL, &text);
    if (status == RPO_OK)
        status = rpo_json_parse(json, text.data, text.length, "configuration", 1);
    rpo_text_free(&text);
    return status;
}

/* Called for every setting that must not change; a status other than RPO_OK ends the walk. */
typedef rpo_status setting_visitor(void *user, const char *section, const char *key, const char *full_name,
                                   const cJSON *value);

static rpo_status visit_settings(const rpo_json *json, setting_visitor *visit, void *user) {
    const cJSON *section = NULL, *value = NULL;
    cJSON_ArrayForEach(section, rpo_json_root(json)) {
        cJSON_ArrayForEach(value, section) {
            rpo_text name = {0};
            rpo_status status = rpo_text_printf(&name, "%s.%s", section->string, value->string);
            if (status == RPO_OK && !may_change(name.data))
                status = visit(user, section->string, value->string, name.data, value);
            rpo_text_free(&name);
            RPO_TRY(status);
        }
    }
    return RPO_OK;
}

static rpo_status hash_setting(void *user, const char *section, const char *key, const char *full_name,
                               const cJSON *value) {
    (void)section, (void)key;
    char *text = cJSON_PrintUnformatted(value);
    if (text == NULL)
        return rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "configuration: no memory to print %s", full_name);
    rpo_hash_add_string(user, full_name);
    rpo_hash_add_string(user, text);
    cJSON_free(text);
    return RPO_OK;
}

rpo_status rpo_run_folder_config_hash(const rpo_config *config, char hex[33]) {
    rpo_json *json = NULL;
    RPO_TRY(resolve(config, &json));
    rpo_hash *hash = rpo_hash_new();
    rpo_status status = hash == NULL ? RPO_ERROR_OUT_OF_MEMORY : visit_settings(json, hash_setting, hash);
    if (hash != NULL)
        rpo_hash_finish(hash, hex);
    rpo_json_free(json);
    return status;
}

typedef struct comparison {
    const rpo_config *config;
    const cJSON *before;
} comparison;

static rpo_status compare_setting(void *user, const char *section, const char *key, const char *full_name,
                                  const cJSON *value) {
    const comparison *with = user;
    const cJSON *old =
        cJSON_GetObjectItemCaseSensitive(cJSON_GetObjectItemCaseSensitive(with->before, section), key);
    char *now = cJSON_PrintUnformatted(value), *then = old == NULL ? NULL : cJSON_PrintUnformatted(old);
    rpo_status status = RPO_OK;
    if (now == NULL || (then == NULL && old != NULL))
        status = rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "configuration: no memory to print %s", full_name);
    else if (then == NULL || strcmp(now, then) != 0)
        status =
            rpo_config_fault(with->config, full_name,
                             "is %.200s, but the run in %s began with %.200s; change it back, or train into "
                             "another run.dir",
                             now, with->config->run.dir, then == NULL ? "no such key" : then);
    cJSON_free(then);
    cJSON_free(now);
    return status;
}

/* Names the first setting that differs, where the run's own config.json can still be read. */
static rpo_status name_difference(const rpo_config *config) {
    rpo_json *now = NULL, *before = NULL;
    char *path = rpo_path_join(config->run.dir, "config.json");
    rpo_status status = path == NULL ? RPO_ERROR_OUT_OF_MEMORY : resolve(config, &now);
    if (status == RPO_OK)
        status = rpo_json_read_file(&before, path, CONFIG_LIMIT);
    if (status == RPO_OK) {
        comparison with = {config, rpo_json_root(before)};
        status = visit_settings(now, compare_setting, &with);
    } else if (status == RPO_ERROR_INVALID_INPUT && now != NULL) {
        status = RPO_OK; /* gone or altered: the key stays unnamed */
    }
    rpo_json_free(before);
    rpo_json_free(now);
    rpo_free(path);
    return status;
}

rpo_status rpo_run_folder_check_settings(const rpo_config *config, const char *begun_with) {
    char hex[33];
    RPO_TRY(rpo_run_folder_config_hash(config, hex));
    if (strcmp(hex, begun_with) == 0)
        return RPO_OK;
    RPO_TRY(name_difference(config));
    return rpo_config_fault(
        config, "run.dir",
        "%s holds a run with other settings (its config.json no longer tells which); train into "
        "another run.dir",
        config->run.dir);
}

/* Appends the records that RUN/config.json has already, each with a comma: none where it cannot be read. */
static rpo_status append_earlier_records(rpo_text *text, const char *path) {
    rpo_json *json = NULL;
    if (!rpo_path_exists(path))
        return RPO_OK;
    if (rpo_json_read_file(&json, path, CONFIG_LIMIT) != RPO_OK) {
        rpo_error_clear();
        return RPO_OK;
    }
    rpo_status status = RPO_OK;
    const cJSON *record = NULL;
    cJSON_ArrayForEach(record, cJSON_GetObjectItemCaseSensitive(rpo_json_root(json), RPO_CONFIG_RECORD)) {
        char *line = cJSON_PrintUnformatted(record);
        if (line == NULL)
            status = rpo_error_set(RPO_ERROR_OUT_OF_MEMORY, "%s: no memory for its records", path);
        else
            status = rpo_text_printf(text, "\n    %s,", line);
        cJSON_free(line);
        if (status != RPO_OK)
            break;
    }
    rpo_json_free(json);
    return status;
}

rpo_status rpo_run_folder_write_config(const rpo_config *config, const rpo_run_record *record) {
    rpo_text text = {0}, records = {0};
    char *path = rpo_path_join(config->run.dir, "config.json");
    rpo_status status = path == NULL ? RPO_ERROR_OUT_OF_MEMORY : rpo_text_printf(&records, "[");
    if (status == RPO_OK)
        status = append_earlier_records(&records, path);
    if (status == RPO_OK)
        status = rpo_text_printf(&records, "\n    ");
    if (status == RPO_OK)
        status = rpo_run_record_append_json(record, &records);
    if (status == RPO_OK)
        status = rpo_text_printf(&records, "\n  ]");
    if (status == RPO_OK)
        status = rpo_config_to_json(config, records.data, &text);
    if (status == RPO_OK)
        status = rpo_write_file_atomic(path, text.data, text.length);
    rpo_text_free(&records);
    rpo_text_free(&text);
    rpo_free(path);
    return status;
}

static const char *environment(const char *name) {
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

char *rpo_run_shared_cache(const char *own) {
    rpo_text path = {0};
    rpo_status status = RPO_OK;
    if (environment("RPO_CACHE") != NULL)
        status = rpo_text_printf(&path, "%s", environment("RPO_CACHE"));
    else if (environment("XDG_CACHE_HOME") != NULL)
        status = rpo_text_printf(&path, "%s/rpo", environment("XDG_CACHE_HOME"));
    else if (environment("HOME") != NULL)
        status = rpo_text_printf(&path, "%s/.cache/rpo", environment("HOME"));
    else if (own != NULL)
        status = rpo_text_printf(&path, "%s", own);
    if (status != RPO_OK)
        rpo_text_free(&path);
    return path.data;
}
