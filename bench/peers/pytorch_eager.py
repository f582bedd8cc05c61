"""PyTorch as it is: the formulas, run op by op."""
import formulas

NAME = "pytorch-eager"


def load(torch):
    """The implementations by kind; ImportError or RuntimeError where they cannot run."""
    return {
        "contrast": lambda *arguments: formulas.contrast_loss(torch, *arguments),
        "gather": lambda logits, labels: formulas.token_logps(torch, logits, labels),
        "linear": lambda hidden, head, labels: formulas.linear_token_logps(torch, hidden, head, labels),
    }, torch.__version__
