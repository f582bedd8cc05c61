"""What the peers compute, written the way a user of PyTorch writes it. Used by the peers that are PyTorch itself, by
the float64 references of their rows, and by tools/bench-peers-cpu.py."""


def contrast_loss(torch, policy_chosen, policy_rejected, reference_chosen, reference_rejected, chosen, rejected,
                  beta=0.1, tau=0.5):
    """The published loss of all pairs (rpo-unpaired): cosine matrix, row softmax, -log sigmoid, mean."""
    normalize = torch.nn.functional.normalize
    with torch.no_grad():
        cosine = normalize(chosen, dim=-1) @ normalize(rejected, dim=-1).T
        weights = torch.softmax(-(1 - cosine) / tau, dim=-1).to(policy_chosen.dtype)
    scores = (policy_chosen - reference_chosen)[:, None] - (policy_rejected - reference_rejected)[None, :]
    return (-torch.nn.functional.logsigmoid(beta * weights * scores)).mean()


def token_logps(torch, logits, labels):
    """Log-probs of the labels in float32 or wider; 0 where the label is negative."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    valid = labels >= 0
    picked = torch.log_softmax(wide, dim=-1).gather(1, labels.clamp(min=0)[:, None]).squeeze(1)
    return torch.where(valid, picked, torch.zeros_like(picked))


def linear_token_logps(torch, hidden, head, labels):
    return token_logps(torch, hidden @ head.T, labels)


def dpo_loss(torch, logps, sequences, beta=0.1, average=None):
    """DPO with reference log-probs of 0; sequences lie in equal parts, the first half of them chosen."""
    totals = logps.view(sequences, -1).sum(dim=1)
    if average is not None:
        totals = totals / average.view(sequences, -1).sum(dim=1)
    half = sequences // 2
    return -torch.nn.functional.logsigmoid(beta * (totals[:half] - totals[half:])).mean()
