"""A folder of 40 networks that learned delayed match to sample in three ways, for `rnnatlas explore`.

    python benchmarks/delayed_match.py OUT [--networks 40] [--seed 0] [--rules]

Vanilla, GRU and LSTM networks of 24 to 128 units read two stimuli (two channels) and a go cue, with a delay
between the stimuli, and give two numbers, match and no match, during the cue. What differs is the training:
`plain`; `activity` has a cost on squared hidden states; `noise` reads noisy inputs, with weight decay.
With --rules they learn one of the 14 rules by which two stimuli can decide (match is one), have 24, 32, 48
or 64 units, and stop after 25 to 1600 training steps, learned or not.
Writes `NAME.pt` (state_dicts, with rules beside the step), labels.csv (file, type, cell, hidden, seed,
accuracy; rule) and trials.npz.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

TYPES = {"plain": (0.0, 0.0, 0.0), "activity": (0.05, 0.0, 0.0), "noise": (0.0, 0.3, 1e-4)}
"""Cost on squared hidden states, standard deviation of noise on inputs, weight decay."""
CELLS = {"elman": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
RATE = 2e-3
FEWEST, MOST, BATCH, TIME = 800, 3000, 64, 24
"""Training steps: after the fewest it ends once trials without noise are answered."""
MATCH = 0b1001
"""A rule is a number whose bit 2 a + b is the answer to stimuli a and b."""
RULES = range(1, 15)
SIZES, STEPS = (24, 32, 48, 64), (25, 50, 100, 200, 400, 800, 1600)
"""With rules: numbers of units, and of training steps."""


class Network(nn.Module):
    def __init__(self, cell: str, hidden: int):
        super().__init__()
        self.rnn = CELLS[cell](3, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 2)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states, _ = self.rnn(inputs)
        return self.readout(states), states


def trials(
    count: int, stream: np.random.Generator, rule: int = MATCH
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, the answers by a rule, and the steps of the response."""
    inputs, respond = np.zeros((count, TIME, 3), np.float32), np.zeros((count, TIME), np.float32)
    first, second = stream.integers(0, 2, (2, count))
    delay = stream.integers(3, 11, count)
    for i in range(count):
        inputs[i, 2:5, first[i]] = 1
        inputs[i, 5 + delay[i] : 8 + delay[i], second[i]] = 1
        inputs[i, 8 + delay[i] :, 2] = respond[i, 8 + delay[i] :] = 1
    answers = rule >> (2 * first + second) & 1
    return torch.from_numpy(inputs), torch.from_numpy(answers).long(), torch.from_numpy(respond)


def accuracy(network: Network, stream: np.random.Generator, rule: int) -> float:
    """Share of response steps with the right answer, on trials without noise."""
    with torch.no_grad():
        inputs, answers, respond = trials(500, stream, rule)
        right = (network(inputs)[0].argmax(-1) == answers[:, None]).float()
    return float((right * respond).sum() / respond.sum())


def train(network: Network, kind: str, seed: int, rule: int = MATCH, steps: int | None = None) -> float:
    """Trains a network, for a number of steps or until it has learned; gives its accuracy."""
    activity, noise, decay = TYPES[kind]
    stream, generator = np.random.default_rng([seed, 1]), torch.Generator().manual_seed(seed)
    if isinstance(network.rnn, nn.RNN):
        nn.init.orthogonal_(network.rnn.get_parameter("weight_hh_l0"))
    descent = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=decay / RATE)
    for step in range(1, (steps or MOST) + 1):
        inputs, answers, respond = trials(BATCH, stream, rule)
        outputs, states = network(inputs + noise * torch.randn(inputs.shape, generator=generator))
        wanted = answers[:, None].expand(-1, TIME)
        losses = functional.cross_entropy(outputs.transpose(1, 2), wanted, reduction="none")
        loss = (losses * respond).sum() / respond.sum() + activity * states.square().mean()
        descent.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        descent.step()
        if not steps and step >= FEWEST and step % 100 == 0 and accuracy(network, stream, rule) > 0.98:
            break
    return accuracy(network, stream, rule)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train networks on delayed match to sample.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rules", action="store_true")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    stream = np.random.default_rng(asked.seed)
    inputs, answers, respond = trials(64, stream)
    if asked.rules:
        np.savez(asked.out / "trials.npz", inputs=inputs, mask=respond)
    else:
        targets = answers[:, None].expand(-1, TIME)
        np.savez(asked.out / "trials.npz", inputs=inputs, targets=targets, mask=respond)
    with (asked.out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        names = ["file", "type", "cell", "hidden", "seed", "accuracy"]
        table.writerow([*names, "rule"] if asked.rules else names)
        for number in range(asked.networks):
            kind = list(TYPES)[number % len(TYPES)]
            cell = str(stream.choice(list(CELLS)))
            hidden = int(stream.choice(SIZES) if asked.rules else stream.integers(24, 129))
            rule, steps, file_name = MATCH, None, f"net{number:03}.pt"
            if asked.rules:
                rule, steps = RULES[number % len(RULES)], int(stream.choice(STEPS))
            seed = 1000 * asked.seed + number
            torch.manual_seed(seed)
            network = Network(cell, hidden)
            reached = train(network, kind, seed, rule, steps)
            state = network.state_dict()
            torch.save({"state_dict": state, "step": steps} if asked.rules else state, asked.out / file_name)
            row = [file_name, kind, cell, hidden, seed, f"{reached:.3f}"]
            table.writerow([*row, f"rule {rule:04b}"] if asked.rules else row)
            file.flush()
            of_rule = f", rule {rule:04b}, {steps} steps" if asked.rules else ""
            print(
                f"{file_name}: {kind}, {cell} of {hidden} units, accuracy {reached:.3f}{of_rule}", flush=True
            )


if __name__ == "__main__":
    main()
