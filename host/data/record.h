/*
 * record.h - one line of a data file taken apart into prompt and responses, as text.
 *
 *     pairs     {"prompt", "chosen", "rejected"}
 *     hh        {"chosen", "rejected"}: two dialogues; the prompt is their common prefix up to and including
 * its last "\n\nAssistant:" unpaired  {"prompt", "completion", "label"}: label true or false (no numbers),
 * wanted or not
 *
 * Other keys are passed over. A key that is null counts as missing; but a record whose prompt is null is no HH
 * record. Where a string stands, a message list may stand too (messages.h):
 * - prompt: its last message is the user's;
 * - chosen, rejected, completion: the response's messages, or the whole conversation, beginning with the
 * prompt's messages. After a message-list prompt a plain string is the assistant's content. After a string
 * prompt, a conversation may begin with messages whose last one repeats that prompt as the user's.
 * - hh: both dialogues as lists; they are rendered, then split like strings.
 *
 * A response of no characters is a fault; one of white space alone is not.
 */
#ifndef RPO_HOST_DATA_RECORD_H
#define RPO_HOST_DATA_RECORD_H

#include "core/json.h"
#include "host/data/dataset.h"

/* Values of a record, those of keys that are passed over included: its tree takes no more than some 84 MB. */
#define RPO_RECORD_MAX_VALUES ((size_t)1 << 20)

typedef struct rpo_record_text {
    rpo_text prompt, chosen, rejected; /* responses without the prompt; kept and reused between records */
    bool has_chosen, has_rejected;
} rpo_record_text;

/* The format that a record's keys speak for. */
rpo_status rpo_record_detect(rpo_data_format *format, const rpo_json *json);

/* `format` is one of pairs, hh, unpaired. Faults: INVALID_INPUT, "FILE:LINE: key: ...". */
rpo_status rpo_record_read(rpo_record_text *record, const rpo_json *json, rpo_data_format format);
void rpo_record_text_free(rpo_record_text *record);

#endif
