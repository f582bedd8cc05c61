"""The rows: what each op of rpo-bench means for a peer, and the error against float64 on a small twin of it."""
import formulas
from common import largest_error, measure

TWIN = {"rows": 64, "hidden": 256, "vocab": 1024, "sequences": 4, "valid_percent": 50, "m": 64, "n": 64, "dim": 384}


def labels_of(torch, sizes, device):
    """Random labels; the first part of each sequence, 100 - valid_percent of 100, is ignored."""
    rows, sequences = sizes["rows"], sizes.get("sequences", 8)
    length = rows // sequences
    labels = torch.randint(0, sizes["vocab"], (sequences, length), device=device)
    labels[:, :length * (100 - sizes.get("valid_percent", 100)) // 100] = -100
    return labels.view(-1)


def uniform(torch, *shape, dtype, device, scale=1.0):
    return ((torch.rand(*shape, device=device, dtype=torch.float32) * 2 - 1) * scale).to(dtype)


class Contrast:
    """Loss and the gradients of the policy's log-probs."""

    def __init__(self, torch, function, sizes, dtype, device):
        m, n, dim = sizes["m"], sizes["n"], sizes["dim"]
        make = {"dtype": torch.float32, "device": device}
        self.torch, self.function, self.kept_bytes = torch, function, 0
        self.policy = [uniform(torch, k, scale=30, **make).requires_grad_() for k in (m, n)]
        self.fixed = [uniform(torch, k, scale=30, **make) for k in (m, n)]
        self.fixed += [uniform(torch, k, dim, dtype=dtype, device=device) for k in (m, n)]

    def run(self):
        loss = self.function(*self.policy, *self.fixed)
        return [loss, *self.torch.autograd.grad(loss, self.policy)]

    def expected(self):
        torch = self.torch
        policy = [x.detach().double().requires_grad_() for x in self.policy]
        loss = formulas.contrast_loss(torch, *policy, *[x.double() for x in self.fixed])
        return [loss, *torch.autograd.grad(loss, policy)]


class Gather:
    """Log-probs from logits; or, with their graph kept, the backward alone."""

    def __init__(self, torch, function, sizes, dtype, device, backward=False):
        self.torch, self.function, self.backward = torch, function, backward
        self.logits = uniform(torch, sizes["rows"], sizes["vocab"], dtype=dtype, device=device, scale=8)
        self.labels = labels_of(torch, sizes, device)
        self.scale = uniform(torch, sizes["rows"], dtype=torch.float32, device=device)
        self.kept_bytes = 0
        if backward:
            self.logits.requires_grad_()
            self.logps = function(self.logits, self.labels)

    def run(self):
        if not self.backward:
            with self.torch.no_grad():
                return [self.function(self.logits, self.labels)]
        return list(self.torch.autograd.grad(self.logps, [self.logits], self.scale.to(self.logps.dtype),
                                             retain_graph=True))

    def expected(self):
        logits = self.logits.detach().double().requires_grad_()
        logps = formulas.token_logps(self.torch, logits, self.labels)
        return list(self.torch.autograd.grad(logps, [logits], self.scale.double())) if self.backward else [logps]


class Linear:
    """Log-probs from hidden states and the head: forward alone, or forward and backward."""

    def __init__(self, torch, function, sizes, dtype, device, backward, frozen):
        rows, width, vocab = sizes["rows"], sizes["hidden"], sizes["vocab"]
        self.torch, self.function, self.backward = torch, function, backward
        self.hidden = uniform(torch, rows, width, dtype=dtype, device=device).requires_grad_(backward)
        self.head = uniform(torch, vocab, width, dtype=dtype, device=device,
                            scale=4 * width**-0.5).requires_grad_(backward and not frozen)
        self.labels = labels_of(torch, sizes, device)
        self.sequences = sizes.get("sequences", 8)
        self.scale = uniform(torch, rows, dtype=torch.float32, device=device)
        self.wanted = [x for x in (self.hidden, self.head) if x.requires_grad]
        self.kept_bytes = sum(x.numel() * x.element_size() for x in self.wanted)

    def run(self):
        if isinstance(self.function, tuple):  # a peer that knows one objective only
            loss = self.function[0](self.hidden, self.head, self.labels, self.sequences)
        elif not self.backward:
            with self.torch.no_grad():
                return [self.function(self.hidden, self.head, self.labels)]
        else:
            loss = (self.function(self.hidden, self.head, self.labels) * self.scale).sum()
        return list(self.torch.autograd.grad(loss, self.wanted))

    def expected(self):
        torch = self.torch
        hidden, head = (x.detach().double().requires_grad_(x.requires_grad) for x in (self.hidden, self.head))
        logps = formulas.linear_token_logps(torch, hidden, head, self.labels)
        if not self.backward:
            return [logps]
        if isinstance(self.function, tuple):
            loss = self.function[1](logps, self.labels, self.sequences)
        else:
            loss = (logps * self.scale.double()).sum()
        return list(torch.autograd.grad(loss, [x for x in (hidden, head) if x.requires_grad]))


# op of rpo-bench: what a peer must offer, and how the work is built
OPS = {
    "contrast-loss": ("contrast", Contrast, {}),
    "logprob-gather": ("gather", Gather, {}),
    "logprob-gather-backward": ("gather", Gather, {"backward": True}),
    "linear-logprob": ("linear", Linear, {"backward": False, "frozen": False}),
    "linear-logprob-backward": ("linear", Linear, {"backward": True, "frozen": False}),
    "linear-logprob-backward-frozen": ("linear", Linear, {"backward": True, "frozen": True}),
}


def variants(op, functions):
    """The functions of a peer that do an op: (what to add to the peer's name, function)."""
    kind, _, options = OPS[op]
    for name, function in functions.items():
        offered, _, variant = name.partition(":")
        if offered == kind or (offered == "objective" and kind == "linear" and options["backward"]):
            yield variant, function


def error(torch, op, function, dtype, device):
    """Against float64, on the twin; rows that do not count are compared like all others."""
    _, build, options = OPS[op]
    torch.manual_seed(2)
    work = build(torch, function, TWIN, dtype, device, **options)
    return max((largest_error(torch, found, expected) for found, expected in zip(work.run(), work.expected())),
               key=lambda value: float("inf") if value != value else value)


def time_op(device, op, function, sizes, dtype, repeats):
    _, build, options = OPS[op]
    device.torch.manual_seed(1)
    work = build(device.torch, function, sizes, dtype, device.name, **options)
    return measure(device, work.run, work.kept_bytes, repeats)
