"""A folder of 40 networks that learned delayed match to sample in three ways, for `rnnatlas explore`.

    python benchmarks/delayed_match.py OUT [--networks 40] [--seed 0]

Vanilla, GRU and LSTM networks of 24 to 128 units read two stimuli (two channels) and a go cue, with a delay
between the stimuli, and give two numbers, match and no match, during the cue. What differs is the training:
`plain`; `activity` has a cost on squared hidden states; `noise` reads noisy inputs, with weight decay.
Writes `NAME.pt` (state_dicts), labels.csv (file, type, cell, hidden, seed, accuracy) and trials.npz.
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


class Network(nn.Module):
    def __init__(self, cell: str, hidden: int):
        super().__init__()
        self.rnn = CELLS[cell](3, hidden, batch_first=True)
        self.readout = nn.Linear(hidden, 2)

    def forward(self, inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states, _ = self.rnn(inputs)
        return self.readout(states), states


def trials(count: int, stream: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Inputs, whether the stimuli match, and the steps of the response."""
    inputs, respond = np.zeros((count, TIME, 3), np.float32), np.zeros((count, TIME), np.float32)
    first, second = stream.integers(0, 2, (2, count))
    delay = stream.integers(3, 11, count)
    for i in range(count):
        inputs[i, 2:5, first[i]] = 1
        inputs[i, 5 + delay[i] : 8 + delay[i], second[i]] = 1
        inputs[i, 8 + delay[i] :, 2] = respond[i, 8 + delay[i] :] = 1
    return torch.from_numpy(inputs), torch.from_numpy(first == second).long(), torch.from_numpy(respond)


def accuracy(network: Network, stream: np.random.Generator) -> float:
    """Share of response steps with the right answer, on trials without noise."""
    with torch.no_grad():
        inputs, match, respond = trials(500, stream)
        right = (network(inputs)[0].argmax(-1) == match[:, None]).float()
    return float((right * respond).sum() / respond.sum())


def train(network: Network, kind: str, seed: int) -> float:
    """Trains a network; gives its accuracy."""
    activity, noise, decay = TYPES[kind]
    stream, generator = np.random.default_rng([seed, 1]), torch.Generator().manual_seed(seed)
    if isinstance(network.rnn, nn.RNN):
        nn.init.orthogonal_(network.rnn.get_parameter("weight_hh_l0"))
    descent = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=decay / RATE)
    for step in range(1, MOST + 1):
        inputs, match, respond = trials(BATCH, stream)
        outputs, states = network(inputs + noise * torch.randn(inputs.shape, generator=generator))
        wanted = match[:, None].expand(-1, TIME)
        losses = functional.cross_entropy(outputs.transpose(1, 2), wanted, reduction="none")
        loss = (losses * respond).sum() / respond.sum() + activity * states.square().mean()
        descent.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        descent.step()
        if step >= FEWEST and step % 100 == 0 and accuracy(network, stream) > 0.98:
            break
    return accuracy(network, stream)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train networks on delayed match to sample.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--networks", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    stream = np.random.default_rng(asked.seed)
    inputs, match, respond = trials(64, stream)
    targets = match[:, None].expand(-1, TIME)
    np.savez(asked.out / "trials.npz", inputs=inputs, targets=targets, mask=respond)
    with (asked.out / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "type", "cell", "hidden", "seed", "accuracy"])
        for number in range(asked.networks):
            kind = list(TYPES)[number % len(TYPES)]
            cell, hidden = str(stream.choice(list(CELLS))), int(stream.integers(24, 129))
            seed = 1000 * asked.seed + number
            torch.manual_seed(seed)
            network = Network(cell, hidden)
            reached = train(network, kind, seed)
            torch.save(network.state_dict(), asked.out / f"net{number:03}.pt")
            table.writerow(
                [f"net{number:03}.pt", kind, cell, hidden, 1000 * asked.seed + number, f"{reached:.3f}"]
            )
            file.flush()
            print(f"net{number:03}: {kind}, {cell} of {hidden} units, accuracy {reached:.3f}", flush=True)


if __name__ == "__main__":
    main()
