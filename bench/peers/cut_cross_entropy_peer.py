"""cut-cross-entropy: logits never in memory, ignored rows left out. Its default skips gradients too small for
bfloat16; `exact` does not."""
import importlib.metadata
import inspect

NAME = "cut-cross-entropy"


def load(torch):
    from cut_cross_entropy import linear_cross_entropy

    if not torch.cuda.is_available():
        raise RuntimeError("its kernels are Triton's and need a GPU")
    presets = "filter_e_grad" in inspect.signature(linear_cross_entropy).parameters  # newer versions name them
    exact = {"impl": "cce_exact"} if presets else {"impl": "cce", "filter_eps": None}

    def logps(**options):
        return lambda hidden, head, labels: -linear_cross_entropy(
            hidden, head, labels, ignore_index=-100, reduction="none", **options).float()

    version = importlib.metadata.version("cut-cross-entropy")
    return {"linear": logps(impl="cce"), "linear:exact": logps(**exact)}, version
