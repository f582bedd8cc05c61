/* paths.c - folders and paths: looking, making, listing, removing. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/descriptors.h"
#include "core/files_internal.h"

rpo_status rpo_path_fault(const char *path, const char *what, int error_number) {
    switch (error_number) {
    case ENOENT:
    case EACCES:
    case EPERM:
    case ENOTDIR:
    case EISDIR:
    case EEXIST:
    case EROFS:
    case ENAMETOOLONG:
    case ELOOP:
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "%s: %s: %s", path, what, strerror(error_number));
    default:
        return rpo_io_fault(path, what, error_number);
    }
}

rpo_status rpo_io_fault(const char *path, const char *what, int error_number) {
    return rpo_error_set(RPO_ERROR_IO, "%s: %s: %s", path, what, strerror(error_number));
}

rpo_status rpo_path_examine(const char *path, rpo_path_kind *kind) {
    struct stat info;
    *kind = RPO_PATH_ABSENT;
    if (stat(path, &info) != 0)
        return errno == ENOENT || errno == ENOTDIR ? RPO_OK
                                                   : rpo_path_fault(path, "cannot be examined", errno);
    *kind = S_ISDIR(info.st_mode)   ? RPO_PATH_FOLDER
            : S_ISREG(info.st_mode) ? RPO_PATH_FILE
                                    : RPO_PATH_SPECIAL;
    return RPO_OK;
}

bool rpo_path_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

bool rpo_path_is_folder(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

char *rpo_path_join(const char *folder, const char *name) {
    const size_t folder_length = strlen(folder), name_length = strlen(name);
    const bool slash = folder_length > 0 && folder[folder_length - 1] != '/';
    char *path = rpo_alloc_array(folder_length + slash + name_length + 1, 1);
    if (path == NULL)
        return NULL;
    memcpy(path, folder, folder_length);
    if (slash)
        path[folder_length] = '/';
    memcpy(path + folder_length + slash, name, name_length + 1);
    return path;
}

char *rpo_path_parent(const char *path) {
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        --length; /* "a/b/" lies in "a" */
    while (length > 0 && path[length - 1] != '/')
        --length;
    while (length > 1 && path[length - 1] == '/')
        --length;
    char *parent = rpo_strdup(length == 0 ? "." : path);
    if (parent != NULL && length > 0)
        parent[length] = '\0';
    return parent;
}

static rpo_status make_folder(const char *path) {
    if (mkdir(path, 0777) == 0)
        return RPO_OK;
    const int fault = errno;
    rpo_path_kind kind;
    RPO_TRY(rpo_path_examine(path, &kind));
    return kind == RPO_PATH_FOLDER ? RPO_OK : rpo_path_fault(path, "cannot be made a folder", fault);
}

rpo_status rpo_make_folders(const char *path) {
    if (path[0] == '\0')
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "folder: has an empty path");
    char *prefix = rpo_strdup(path);
    if (prefix == NULL)
        return RPO_ERROR_OUT_OF_MEMORY;
    rpo_status status = RPO_OK;
    for (char *at = prefix + 1; status == RPO_OK; ++at) {
        const char stop = *at;
        if (stop != '/' && stop != '\0')
            continue;
        *at = '\0';
        status = make_folder(prefix);
        *at = stop;
        if (stop == '\0')
            break;
    }
    rpo_free(prefix);
    return status;
}

static int remove_entry(const char *path, const struct stat *info, int kind, struct FTW *walk) {
    (void)info;
    (void)kind;
    (void)walk;
    if (remove(path) == 0 || errno == ENOENT)
        return 0;
    rpo_io_fault(path, "cannot be removed", errno);
    return 1;
}

rpo_status rpo_remove_tree(const char *path) {
    enum { OPEN_FOLDERS = 16 };
    struct stat info;
    if (lstat(path, &info) != 0)
        return errno == ENOENT ? RPO_OK : rpo_io_fault(path, "cannot be removed", errno);
    const int result = nftw(path, remove_entry, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS);
    if (result < 0)
        return rpo_io_fault(path, "cannot be removed", errno);
    return result == 0 ? RPO_OK : RPO_ERROR_IO;
}

/* The folder that `path` lies in once made: itself or the nearest one above that is there. rpo_free. */
static rpo_status find_existing(const char *path, char **existing) {
    *existing = rpo_strdup(path);
    while (*existing != NULL && strcmp(*existing, "/") != 0 && strcmp(*existing, ".") != 0) {
        rpo_path_kind kind;
        RPO_TRY(rpo_path_examine(*existing, &kind));
        if (kind != RPO_PATH_ABSENT)
            return RPO_OK;
        char *parent = rpo_path_parent(*existing);
        rpo_free(*existing);
        *existing = parent;
    }
    return *existing == NULL ? RPO_ERROR_OUT_OF_MEMORY : RPO_OK;
}

/* Free space of the file system that holds `path`, or would hold it once made. */
static rpo_status check_free_space(const char *path, uint64_t bytes_needed) {
    char *existing = NULL;
    struct statvfs space;
    rpo_status status = find_existing(path, &existing);
    if (status != RPO_OK)
        goto cleanup;
    if (statvfs(existing, &space) != 0) {
        status = rpo_path_fault(existing, "its free space cannot be asked for", errno);
        goto cleanup;
    }
    const uint64_t block = space.f_frsize > 0 ? space.f_frsize : space.f_bsize;
    /* In blocks: the product may not fit on file systems that report no limit. One without blocks holds no files of
     * anybody's (/proc): trying to write there tells more. */
    if (space.f_blocks > 0 && block > 0 && bytes_needed / block >= space.f_bavail && bytes_needed > 0)
        status = rpo_error_set(RPO_ERROR_IO, "%s: has %.1f MB free; %.1f MB are needed there", path,
                               (double)space.f_bavail * (double)block / 1e6, (double)bytes_needed / 1e6);

cleanup:
    rpo_free(existing);
    return status;
}

/* Writes one byte into a new file and leaves no name behind, where the file system has files without names. */
static rpo_status try_file(const char *path) {
    char *named = NULL;
    int file = rpo_open_retried(path, O_TMPFILE | O_WRONLY, 0600);
    if (file < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == EINVAL || errno == ENOENT)) {
        named = rpo_path_join(path, RPO_PROBE_PREFIX "XXXXXX");
        if (named == NULL)
            return RPO_ERROR_OUT_OF_MEMORY;
        file = mkostemp(named, O_CLOEXEC);
    }
    rpo_status status = RPO_OK;
    if (file < 0) {
        status = rpo_path_fault(path, "cannot be written to", errno);
        goto cleanup;
    }
    status = rpo_write_all(file, path, "", 1);
    if (status == RPO_OK)
        status = rpo_sync_file(file, path);
    close(file);
    if (named != NULL)
        unlink(named);

cleanup:
    rpo_free(named);
    return status;
}

rpo_status rpo_folder_writable(const char *path, uint64_t bytes_needed) {
    if (path[0] == '\0')
        return rpo_error_set(RPO_ERROR_INVALID_INPUT, "folder: has an empty path");
    RPO_TRY(check_free_space(path, bytes_needed)); /* first, so that a refusal leaves no folder behind */
    RPO_TRY(rpo_make_folders(path));
    return try_file(path);
}

static int compare_names(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

rpo_status rpo_list_folder(const char *path, char ***names, size_t *count) {
    rpo_status status = RPO_OK;
    void *list = NULL;
    size_t length = 0, capacity = 0;
    *names = NULL;
    *count = 0;

    DIR *folder = opendir(path);
    if (folder == NULL)
        return rpo_path_fault(path, "cannot be listed", errno);
    while (status == RPO_OK) {
        errno = 0;
        const struct dirent *entry = readdir(folder);
        if (entry == NULL) {
            if (errno != 0)
                status = rpo_io_fault(path, "cannot be listed", errno);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        status = rpo_grow_array(&list, &capacity, length + 1, sizeof(char *));
        if (status != RPO_OK)
            break;
        char *name = rpo_strdup(entry->d_name);
        if (name == NULL)
            status = RPO_ERROR_OUT_OF_MEMORY;
        else
            ((char **)list)[length++] = name;
    }
    closedir(folder);
    if (status != RPO_OK) {
        rpo_free_names(list, length);
        return status;
    }
    if (length > 1)
        qsort(list, length, sizeof(char *), compare_names);
    *names = list;
    *count = length;
    return RPO_OK;
}

void rpo_free_names(char **names, size_t count) {
    for (size_t i = 0; i < count; ++i)
        rpo_free(names[i]);
    rpo_free(names);
}
