"""torch.compile over the same formulas; compilation happens in the warm-up."""
import pytorch_eager

NAME = "pytorch-compile"


def load(torch):
    eager, version = pytorch_eager.load(torch)
    return {kind: torch.compile(function, dynamic=False) for kind, function in eager.items()}, version
