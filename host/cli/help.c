/* help.c - `rpo help` for what is no command: the keys of a configuration, records and templates. */
#include <stdio.h>
#include <string.h>

#include "host/cli/cli.h"
#include "host/config/keys.h"

/* ---- records ---- */

/* clang-format off */
static const char records_help[] =
    "Data are .jsonl files, plain or gzipped (.jsonl.gz): one JSON object a line, UTF-8; other keys than\n"
    "those below are passed over. data.format says what a record looks like; auto goes by the keys of\n"
    "each file's first record.\n"
    "\n"
    "pairs     a prompt with a chosen and a rejected response\n"
    "  {\"prompt\": \"Name a colour. \", \"chosen\": \"Blue.\", \"rejected\": \"Seven.\"}\n"
    "\n"
    "hh        two dialogues, the same up to their last \"\\n\\nAssistant:\", where the prompt ends\n"
    "  {\"chosen\": \"\\n\\nHuman: Hi!\\n\\nAssistant: Hello.\", \"rejected\": \"\\n\\nHuman: Hi!\\n\\nAssistant: No.\"}\n"
    "\n"
    "unpaired  a prompt with one response, wanted (true) or not (false)\n"
    "  {\"prompt\": \"Name a colour. \", \"completion\": \"Seven.\", \"label\": false}\n"
    "\n"
    "A message list may stand where a string does; roles are system, user and assistant. A response is\n"
    "then its own messages, or the whole conversation, which begins with the prompt's. One line each:\n"
    "  {\"prompt\": [{\"role\": \"user\", \"content\": \"Hi!\"}], \"chosen\": \"Hello.\", \"rejected\": \"No.\"}\n"
    "  {\"prompt\": [{\"role\": \"user\", \"content\": \"Hi!\"}],\n"
    "   \"chosen\": [{\"role\": \"user\", \"content\": \"Hi!\"}, {\"role\": \"assistant\", \"content\": \"Hello.\"}],\n"
    "   \"rejected\": [{\"role\": \"assistant\", \"content\": \"No.\"}]}\n"
    "\n"
    "Template: messages become text in the form of the HH dialogues,\n"
    "  \"\\n\\nSystem: Be brief.\\n\\nHuman: Hi!\\n\\nAssistant: Hello.\"\n"
    "the prompt ending with \"\\n\\nAssistant:\". Strings are taken as they are: nothing is put between a\n"
    "prompt and its response.\n"
    "\n"
    "A sequence is <bos> prompt response <eos>, cut as data.max_length, data.max_prompt_length and\n"
    "data.truncation say; the loss counts the response and its <eos>. rpo preview CONFIG.json shows what\n"
    "came of it.\n";

/* clang-format on */

static int print_records_help(void) {
    fputs(records_help, stdout);
    return RPO_EXIT_OK;
}

/* ---- keys ---- */

static int print_config_help(void) {
    rpo_text text = {0};
    const rpo_status status = rpo_config_append_help(&text);
    if (status == RPO_OK)
        printf("Keys of a configuration, a JSON object of sections: {\"loss\": {\"beta\": 0.1}, ...}\n\n%s",
               text.data);
    rpo_text_free(&text);
    return rpo_cli_report(status);
}

static int print_key_help(const rpo_config_key *key) {
    rpo_text text = {0};
    const rpo_status status = rpo_config_append_key_help(key, &text);
    if (status == RPO_OK)
        fputs(text.data, stdout);
    rpo_text_free(&text);
    return rpo_cli_report(status);
}

static int print_model_help(void) {
    rpo_text text = {0};
    const rpo_status status = rpo_model_config_append_help(&text);
    if (status == RPO_OK)
        printf("Keys of model.init, a fresh model: the names of a Llama model's config.json\n"
               "(--set model.init.hidden_size=256 changes one of them)\n\n%s",
               text.data);
    rpo_text_free(&text);
    return rpo_cli_report(status);
}

/* ---- topics ---- */

const char *const rpo_help_topics[] = {"config", "model.init", "records", NULL};

bool rpo_help_topic(int *exit_code, const char *topic) {
    const rpo_config_key *key = rpo_config_find_key(topic);
    if (strcmp(topic, "config") == 0)
        *exit_code = print_config_help();
    else if (strcmp(topic, "model.init") == 0)
        *exit_code = print_model_help();
    else if (strcmp(topic, "records") == 0)
        *exit_code = print_records_help();
    else if (key != NULL)
        *exit_code = print_key_help(key);
    else
        return false;
    return true;
}
