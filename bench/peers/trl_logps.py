"""TRL's selective_log_softmax: the log-probs of its trainers, row by row over logits that exist in full."""
import importlib.metadata

NAME = "trl"


def load(torch):
    from trl.trainer.utils import selective_log_softmax

    def gather(logits, labels):
        picked = selective_log_softmax(logits[None], labels.clamp(min=0)[None])[0].float()
        return torch.where(labels >= 0, picked, torch.zeros_like(picked))

    functions = {"gather": gather, "linear": lambda hidden, head, labels: gather(hidden @ head.T, labels)}
    return functions, importlib.metadata.version("trl")
