/* messages.c - checks message lists and renders them with the built-in template. */
#include "host/data/messages.h"

#include <string.h>

typedef struct rpo_role {
    const char *name, *turn;
} rpo_role;

static const rpo_role roles[] = {
    {"system", "\n\nSystem:"}, {"user", "\n\nHuman:"}, {"assistant", RPO_ASSISTANT_TURN}};

enum { NUM_ROLES = sizeof roles / sizeof roles[0] };

static const cJSON *member(const cJSON *message, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(message, key);
}

/* The role of a message that rpo_messages_read accepted, or NULL for one that it would not. */
static const rpo_role *find_role(const cJSON *message) {
    const char *name = cJSON_GetStringValue(member(message, "role"));
    for (int i = 0; name != NULL && i < NUM_ROLES; ++i)
        if (strcmp(roles[i].name, name) == 0)
            return &roles[i];
    return NULL;
}

rpo_status rpo_messages_read(rpo_messages *messages, const rpo_json *json, const cJSON *list,
                             const char *key) {
    *messages = (rpo_messages){.first = list->child, .count = 0};
    const cJSON *message = NULL;
    cJSON_ArrayForEach(message, list) {
        if (!cJSON_IsObject(message))
            return rpo_json_fault(json, message, key,
                                  "message %d is no object; must be {\"role\", \"content\"}",
                                  messages->count);
        if (find_role(message) == NULL) {
            const char *name = cJSON_GetStringValue(member(message, "role"));
            return rpo_json_fault(json, message, key,
                                  "message %d has %s%s%s; role must be \"system\", \"user\" or \"assistant\"",
                                  messages->count, name != NULL ? "role \"" : "no role",
                                  name != NULL ? name : "", name != NULL ? "\"" : "");
        }
        if (!cJSON_IsString(member(message, "content")))
            return rpo_json_fault(
                json, message, key,
                "content of message %d is no string; must be one (multi-part content is not read)",
                messages->count);
        ++messages->count;
    }
    if (messages->count == 0)
        return rpo_json_fault(json, list, key, "is an empty list; must hold at least one message");
    return RPO_OK;
}

rpo_messages rpo_messages_opening(const rpo_messages *messages) {
    rpo_messages opening = {.first = messages->first, .count = 0};
    const cJSON *message = messages->first;
    for (; opening.count < messages->count && !rpo_messages_is_role(message, "assistant");
         message = message->next)
        ++opening.count;
    return opening;
}

rpo_messages rpo_messages_skip(const rpo_messages *messages, int count) {
    rpo_messages rest = *messages;
    for (; count > 0 && rest.count > 0; --count) {
        rest.first = rest.first->next;
        --rest.count;
    }
    return rest;
}

bool rpo_messages_is_role(const cJSON *message, const char *role) {
    return strcmp(find_role(message)->name, role) == 0;
}

const char *rpo_messages_content(const cJSON *message) {
    return cJSON_GetStringValue(member(message, "content"));
}

const cJSON *rpo_messages_last(const rpo_messages *messages) {
    const cJSON *message = messages->first;
    for (int i = 1; i < messages->count; ++i)
        message = message->next;
    return message;
}

bool rpo_messages_start_with(const rpo_messages *messages, const rpo_messages *head) {
    if (messages->count < head->count)
        return false;
    const cJSON *left = messages->first, *right = head->first;
    for (int i = 0; i < head->count; ++i, left = left->next, right = right->next)
        if (find_role(left) != find_role(right) ||
            strcmp(rpo_messages_content(left), rpo_messages_content(right)) != 0)
            return false;
    return true;
}

static rpo_status append_content(const cJSON *message, rpo_text *text) {
    const char *content = rpo_messages_content(message);
    RPO_TRY(rpo_text_append(text, " ", 1));
    return rpo_text_append(text, content, strlen(content));
}

rpo_status rpo_messages_append(const rpo_messages *messages, rpo_text *text) {
    const cJSON *message = messages->first;
    for (int i = 0; i < messages->count; ++i, message = message->next) {
        const char *turn = find_role(message)->turn;
        RPO_TRY(rpo_text_append(text, turn, strlen(turn)));
        RPO_TRY(append_content(message, text));
    }
    return RPO_OK;
}

rpo_status rpo_messages_append_response(const rpo_messages *messages, rpo_text *text) {
    RPO_TRY(append_content(messages->first, text));
    const rpo_messages rest = rpo_messages_skip(messages, 1);
    return rpo_messages_append(&rest, text);
}
