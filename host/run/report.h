/* report.h - what a person reads: the lines a run opens with and the table it closes with. */
#ifndef RPO_HOST_RUN_REPORT_H
#define RPO_HOST_RUN_REPORT_H

#include "host/checkpoint/checkpoint.h"
#include "host/metrics/metrics.h"
#include "host/run/inputs.h"
#include "host/train/evaluate.h"
#include "host/train/schedule.h"

/* Model, data with what was cut or skipped, schedule. */
void rpo_report_opening(rpo_metrics *metrics, const rpo_inputs *inputs, const rpo_schedule *schedule);

/* What a held-out evaluation works on. */
void rpo_report_eval_opening(rpo_metrics *metrics, const rpo_inputs *inputs);

/* Before and after, side by side; rate; where the model lies. `model_folder` NULL = there is none. */
void rpo_report_closing(rpo_metrics *metrics, const rpo_inputs *inputs, const rpo_trainer_state *state,
                        const char *model_folder);

/* A line for each held-out file, with the figures of the closing table, and one for all of them together. */
void rpo_report_files(rpo_metrics *metrics, const rpo_string_list *files, const rpo_evaluation_part *parts,
                      const rpo_figures *together);

/* One column of the same figures. */
void rpo_report_figures(rpo_metrics *metrics, const rpo_figures *figures);

#endif
