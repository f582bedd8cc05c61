"""Liger-Kernel: its fused linear cross entropy (gradient 1 for every token) and its chunked DPO loss (whose pairs are
sequences of equal length). Both compute their gradients in the forward, the head's always."""
import importlib.metadata
import inspect

import formulas

NAME = "liger"


def load(torch):
    from liger_kernel.chunked_loss import LigerFusedLinearDPOLoss
    from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

    if not torch.cuda.is_available():
        raise RuntimeError("its kernels are Triton's and need a GPU")
    options = {"ignore_index": -100, "beta": 0.1, "compute_nll_loss": False, "use_ref_model": False}
    sums = "average_log_prob" in inspect.signature(LigerFusedLinearDPOLoss.__init__).parameters
    if sums:
        options["average_log_prob"] = False
    dpo = LigerFusedLinearDPOLoss(**options)
    cross_entropy = LigerFusedLinearCrossEntropyLoss(ignore_index=-100, reduction="sum")

    def dpo_objective(hidden, head, labels, sequences):
        result = dpo(head, hidden.view(sequences, -1, hidden.shape[-1]), labels.view(sequences, -1))
        return result[0] if isinstance(result, tuple) else result

    def dpo_reference(logps, labels, sequences):
        return formulas.dpo_loss(torch, logps, sequences, average=None if sums else (labels >= 0).double())

    functions = {
        "objective:cross-entropy": (lambda hidden, head, labels, sequences: cross_entropy(head, hidden, labels),
                                    lambda logps, labels, sequences: -logps.sum()),
        "objective:dpo": (dpo_objective, dpo_reference),
    }
    return functions, importlib.metadata.version("liger-kernel")
