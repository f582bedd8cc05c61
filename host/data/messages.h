/*
 * messages.h - chat message lists [{"role", "content"}, ...] as text.
 *
 * The byte tokenizer has no chat template of its own, so there is one built in, the form of the HH dialogues:
 *
 *     system     "\n\nSystem: CONTENT"
 *     user       "\n\nHuman: CONTENT"
 *     assistant  "\n\nAssistant: CONTENT"
 *
 * A prompt ends with "\n\nAssistant:"; a response begins behind that with " CONTENT".
 */
#ifndef RPO_HOST_DATA_MESSAGES_H
#define RPO_HOST_DATA_MESSAGES_H

#include "core/json.h"

#define RPO_ASSISTANT_TURN "\n\nAssistant:"

/* A run of messages of one list: `count` of them from `first` on. */
typedef struct rpo_messages {
    const cJSON *first;
    int count;
} rpo_messages;

/* Checks a whole list: not empty, every role known, every content a string. `key` stands in messages. */
rpo_status rpo_messages_read(rpo_messages *messages, const rpo_json *json, const cJSON *list,
                             const char *key);

/* Splits off the messages before the first assistant message. */
rpo_messages rpo_messages_opening(const rpo_messages *messages);
rpo_messages rpo_messages_skip(const rpo_messages *messages, int count);

bool rpo_messages_is_role(const cJSON *message, const char *role);
const char *rpo_messages_content(const cJSON *message);
const cJSON *rpo_messages_last(const rpo_messages *messages);

/* True when `messages` begins with all of `head`, role by role and content by content. */
bool rpo_messages_start_with(const rpo_messages *messages, const rpo_messages *head);

/* Appends the messages as turns; for a prompt follow with RPO_ASSISTANT_TURN. */
rpo_status rpo_messages_append(const rpo_messages *messages, rpo_text *text);

/* Appends the messages as a response: without the first one's RPO_ASSISTANT_TURN. */
rpo_status rpo_messages_append_response(const rpo_messages *messages, rpo_text *text);

#endif
