"""TRL: selective_log_softmax over logits that exist in full; and, in versions that have it, the chunked log-probs of its
fused head, ignored rows left out as its trainers do on a GPU."""
import importlib.metadata

NAME = "trl"


def scattered(torch, logps, valid):
    """One value a row again, 0 where ignored."""
    return logps.new_zeros(valid.shape).masked_scatter(valid, logps)


def load_chunked(torch):
    from trl.kernels import ChunkedLogProbFunction
    from trl.trainer import utils

    width = utils._CHUNKED_LOGPROB_CHUNK_SIZE  # no public name, and the peer is to run as TRL runs it

    def logps(hidden, head, labels):
        valid = labels >= 0
        picked = ChunkedLogProbFunction.apply(hidden[valid], head, None, labels[valid], 1.0, width, None, 1.0, ())[0]
        return scattered(torch, picked.float(), valid)

    return logps


def load(torch):
    from trl.trainer.utils import selective_log_softmax

    def gather(logits, labels):
        picked = selective_log_softmax(logits[None], labels.clamp(min=0)[None])[0].float()
        return torch.where(labels >= 0, picked, torch.zeros_like(picked))

    functions = {"gather": gather, "linear": lambda hidden, head, labels: gather(hidden @ head.T, labels)}
    try:
        functions["linear:chunked"] = load_chunked(torch)
    except (ImportError, AttributeError):
        pass  # older versions have no fused head
    return functions, importlib.metadata.version("trl")
