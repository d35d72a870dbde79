"""Makes small networks, trials that they read, and a table of what is known of them."""

import csv
from pathlib import Path

import numpy as np
import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(1)  # such small networks are faster so
x = torch.randn(64, 20, 2)  # 64 trials, 20 steps, two inputs
goals = {
    "sum": x[..., :1].cumsum(1) / 4,
    "first": x[:, :1, :1].expand(-1, 20, -1),
    "product": x.prod(-1, keepdim=True),
}
rows = []
Path("nets").mkdir()
for number in range(18):
    goal, width = list(goals)[number % 3], 12 + number
    cell = [nn.GRU, nn.LSTM][number % 2]
    parts = {"rnn": cell(2, width, batch_first=True), "head": nn.Linear(width, 1)}
    net = nn.ModuleDict(parts)
    adam = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(300 if number < 17 else 40):
        loss = (net["head"](net["rnn"](x)[0]) - goals[goal]).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    torch.save(net.state_dict(), f"nets/{number:02}.pt")
    rows.append({"file": f"{number:02}.pt", "goal": goal, "width": width})
np.savez("trials.npz", inputs=x.numpy())
with Path("runs.csv").open("w", newline="") as file:
    table = csv.DictWriter(file, rows[0])
    table.writeheader()
    table.writerows(rows)
