/* record.c - the three record formats, each with strings or message lists. */
#include "host/data/record.h"

#include <string.h>

#include "host/data/messages.h"

/* A member that may be a string or a message list; exactly one of the two is set. */
typedef struct rpo_content {
    const cJSON *node;
    const char *key, *string;
    rpo_messages messages;
} rpo_content;

static const cJSON *find(const rpo_json *json, const char *key) {
    return cJSON_GetObjectItemCaseSensitive(rpo_json_root(json), key);
}

/* null where a key is not used: what the columns of joined data sets hold. */
static bool has(const rpo_json *json, const char *key) {
    const cJSON *value = find(json, key);
    return value != NULL && !cJSON_IsNull(value);
}

static rpo_status check_object(const rpo_json *json) {
    if (!cJSON_IsObject(rpo_json_root(json)))
        return rpo_json_fault(json, rpo_json_root(json), "record",
                              "is no JSON object; every line must hold one");
    return RPO_OK;
}

rpo_status rpo_record_detect(rpo_data_format *format, const rpo_json *json) {
    RPO_TRY(check_object(json));
    const bool prompt = find(json, "prompt") != NULL; /* null too: its lack is a fault, not another form */
    if (has(json, "chosen") || has(json, "rejected"))
        *format = prompt ? RPO_DATA_PAIRS : RPO_DATA_HH;
    else if (has(json, "completion") || has(json, "label"))
        *format = RPO_DATA_UNPAIRED;
    else
        return rpo_json_fault(json, rpo_json_root(json), "record",
                              "has none of the known forms; must hold prompt, chosen, rejected (pairs), "
                              "chosen, rejected (hh) or prompt, completion, label (unpaired)");
    return RPO_OK;
}

static rpo_status read_content(rpo_content *content, const rpo_json *json, const char *key) {
    *content = (rpo_content){.node = find(json, key), .key = key};
    if (content->node == NULL || cJSON_IsNull(content->node))
        return rpo_json_fault(json, content->node != NULL ? content->node : rpo_json_root(json), key,
                              "is %s; must be a string or a list of messages",
                              content->node != NULL ? "null" : "missing");
    if (cJSON_IsString(content->node)) {
        content->string = cJSON_GetStringValue(content->node);
        return RPO_OK;
    }
    if (cJSON_IsArray(content->node))
        return rpo_messages_read(&content->messages, json, content->node, key);
    return rpo_json_fault(json, content->node, key,
                          "has the wrong type; must be a string or a list of messages");
}

/* The last message before the assistant speaks has to be the user's. */
static rpo_status check_asks(const rpo_json *json, const rpo_content *content, const rpo_messages *messages) {
    if (!rpo_messages_is_role(rpo_messages_last(messages), "user"))
        return rpo_json_fault(
            json, content->node, content->key,
            "the prompt does not end with a user message; the last one before the response must be");
    return RPO_OK;
}

static rpo_status append_prompt(const rpo_messages *messages, rpo_text *text) {
    RPO_TRY(rpo_messages_append(messages, text));
    return rpo_text_append(text, RPO_ASSISTANT_TURN, strlen(RPO_ASSISTANT_TURN));
}

/*
 * Where a string prompt stands beside conversations, the prompt's messages are the conversation's opening
 * ones; `opening` comes back empty when the list holds the response alone.
 */
static rpo_status find_opening(rpo_messages *opening, const rpo_json *json, const rpo_content *prompt,
                               const rpo_content *response) {
    *opening = rpo_messages_opening(&response->messages);
    if (opening->count == 0)
        return RPO_OK;
    RPO_TRY(check_asks(json, response, opening));
    if (strcmp(rpo_messages_content(rpo_messages_last(opening)), prompt->string) != 0)
        return rpo_json_fault(
            json, response->node, response->key,
            "the conversation's question is not the prompt; it must repeat it or be left out");
    return RPO_OK;
}

/* Renders the prompt. `response` is the first response: it may hold the opening messages of a string prompt.
 */
static rpo_status read_prompt(rpo_text *text, rpo_messages *head, const rpo_json *json,
                              const rpo_content *prompt, const rpo_content *response) {
    *head = prompt->messages;
    if (prompt->string == NULL)
        RPO_TRY(check_asks(json, prompt, head));
    else if (response->string == NULL)
        RPO_TRY(find_opening(head, json, prompt, response));
    if (head->count > 0)
        return append_prompt(head, text);
    return rpo_text_append(text, prompt->string, strlen(prompt->string));
}

static rpo_status check_not_empty(const rpo_json *json, const rpo_content *content, bool empty) {
    if (empty)
        return rpo_json_fault(json, content->node, content->key,
                              "the response is empty; must hold at least one character");
    return RPO_OK;
}

static rpo_status read_message_response(rpo_text *text, const rpo_json *json, const rpo_content *response,
                                        const rpo_messages *head) {
    rpo_messages messages = response->messages;
    if (!rpo_messages_is_role(messages.first, "assistant")) {
        if (head->count == 0 || !rpo_messages_start_with(&messages, head))
            return rpo_json_fault(
                json, response->node, response->key,
                "does not start with the prompt's messages; must, or hold the response alone");
        messages = rpo_messages_skip(&messages, head->count);
    }
    if (messages.count == 0 || !rpo_messages_is_role(messages.first, "assistant") ||
        !rpo_messages_is_role(rpo_messages_last(&messages), "assistant"))
        return rpo_json_fault(json, response->node, response->key,
                              "the response must begin and end with an assistant message");
    RPO_TRY(check_not_empty(json, response, rpo_messages_content(rpo_messages_last(&messages))[0] == '\0'));
    return rpo_messages_append_response(&messages, text);
}

static rpo_status read_response(rpo_text *text, const rpo_json *json, const rpo_content *response,
                                const rpo_messages *head) {
    if (response->string == NULL)
        return read_message_response(text, json, response, head);
    RPO_TRY(check_not_empty(json, response, response->string[0] == '\0'));
    if (head->count > 0)
        RPO_TRY(rpo_text_append(text, " ", 1));
    return rpo_text_append(text, response->string, strlen(response->string));
}

/* Either both responses are strings or both are lists: else one prompt could not stand before both. */
static rpo_status check_same_form(const rpo_json *json, const rpo_content *chosen,
                                  const rpo_content *rejected) {
    if ((chosen->string == NULL) != (rejected->string == NULL))
        return rpo_json_fault(
            json, rejected->node, rejected->key, "is a %s and chosen is a %s; both must have one form",
            rejected->string != NULL ? "string" : "list", chosen->string != NULL ? "string" : "list");
    return RPO_OK;
}

static rpo_status read_pair(rpo_record_text *record, const rpo_json *json) {
    rpo_content prompt, chosen, rejected;
    rpo_messages head;
    RPO_TRY(read_content(&prompt, json, "prompt"));
    RPO_TRY(read_content(&chosen, json, "chosen"));
    RPO_TRY(read_content(&rejected, json, "rejected"));
    RPO_TRY(check_same_form(json, &chosen, &rejected));
    RPO_TRY(read_prompt(&record->prompt, &head, json, &prompt, &chosen));
    RPO_TRY(read_response(&record->chosen, json, &chosen, &head));
    RPO_TRY(read_response(&record->rejected, json, &rejected, &head));
    record->has_chosen = record->has_rejected = true;
    return RPO_OK;
}

static rpo_status read_unpaired(rpo_record_text *record, const rpo_json *json) {
    rpo_content prompt, completion;
    rpo_messages head;
    bool label = false;
    RPO_TRY(read_content(&prompt, json, "prompt"));
    RPO_TRY(read_content(&completion, json, "completion"));
    RPO_TRY(rpo_json_get_bool(json, rpo_json_root(json), "label", true, &label));
    RPO_TRY(read_prompt(&record->prompt, &head, json, &prompt, &completion));
    RPO_TRY(read_response(label ? &record->chosen : &record->rejected, json, &completion, &head));
    record->has_chosen = label;
    record->has_rejected = !label;
    return RPO_OK;
}

/* Length of the prompt that two dialogues share: past the last RPO_ASSISTANT_TURN of their common prefix; 0 =
 * none. */
static size_t shared_prompt(const rpo_text *chosen, const rpo_text *rejected) {
    const size_t turn = strlen(RPO_ASSISTANT_TURN);
    size_t common = 0;
    while (common < chosen->length && common < rejected->length &&
           chosen->data[common] == rejected->data[common])
        ++common;
    for (size_t end = common; end >= turn; --end)
        if (memcmp(chosen->data + end - turn, RPO_ASSISTANT_TURN, turn) == 0)
            return end;
    return 0;
}

static void drop_prefix(rpo_text *text, size_t length) {
    memmove(text->data, text->data + length, text->length - length + 1);
    text->length -= length;
}

static rpo_status append_dialogue(rpo_text *text, const rpo_content *content) {
    return content->string != NULL ? rpo_text_append(text, content->string, strlen(content->string))
                                   : rpo_messages_append(&content->messages, text);
}

static rpo_status read_hh(rpo_record_text *record, const rpo_json *json) {
    rpo_content chosen, rejected;
    RPO_TRY(read_content(&chosen, json, "chosen"));
    RPO_TRY(read_content(&rejected, json, "rejected"));
    RPO_TRY(check_same_form(json, &chosen, &rejected));
    RPO_TRY(append_dialogue(&record->chosen, &chosen));
    RPO_TRY(append_dialogue(&record->rejected, &rejected));
    const size_t length = shared_prompt(&record->chosen, &record->rejected);
    if (length == 0)
        return rpo_json_fault(json, rejected.node, "rejected",
                              "shares no prompt with chosen; both must begin with the same dialogue up to "
                              "\"\\n\\nAssistant:\"");
    RPO_TRY(check_not_empty(json, &chosen, record->chosen.length == length));
    RPO_TRY(check_not_empty(json, &rejected, record->rejected.length == length));
    RPO_TRY(rpo_text_append(&record->prompt, record->chosen.data, length));
    drop_prefix(&record->chosen, length);
    drop_prefix(&record->rejected, length);
    record->has_chosen = record->has_rejected = true;
    return RPO_OK;
}

rpo_status rpo_record_read(rpo_record_text *record, const rpo_json *json, rpo_data_format format) {
    record->prompt.length = record->chosen.length = record->rejected.length = 0;
    record->has_chosen = record->has_rejected = false;
    RPO_TRY(check_object(json));
    switch (format) {
    case RPO_DATA_PAIRS:
        return read_pair(record, json);
    case RPO_DATA_HH:
        return read_hh(record, json);
    case RPO_DATA_UNPAIRED:
        return read_unpaired(record, json);
    case RPO_DATA_AUTO:
        break;
    }
    return rpo_error_set(RPO_ERROR_INTERNAL, "record: format %d was not decided before reading", (int)format);
}

void rpo_record_text_free(rpo_record_text *record) {
    rpo_text_free(&record->prompt);
    rpo_text_free(&record->chosen);
    rpo_text_free(&record->rejected);
}
