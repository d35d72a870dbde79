"""Triton kernels: one layer's recurrence over a whole sequence, with the weights kept on chip.

One program runs `ROWS` sequences of one RNN. It reads what the inputs add to the gates ("projected", a
batched matrix product made beforehand), writes hidden states and keeps what the backward pass needs. The
backward pass gives gradients in `projected` and in the start; those in weights are batched products again.

Arrays are [rnn, batch, time, gate·hidden]. `P` is hidden rounded up to what a block may have; units past
hidden are masked and stay 0. All kernels of a direction have the same arguments, used or not.
"""

# Where triton is not installed, the module of that name beside this one is found.
# pyright: reportAttributeAccessIssue=false
from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _sigmoid(x):
    return 1 / (1 + tl.exp(-x))


@triton.jit
@no_type_check
def _tanh(x):
    """Through exp far from 0 and Taylor's series near it, where 1 - exp would lose digits."""
    square = x * x
    series = -0.33333334 + square * (0.13333334 + square * (-0.05396825 + square * 0.021869488))
    shrunk = tl.exp(-2 * tl.abs(x))
    far = (1 - shrunk) / (1 + shrunk)
    return tl.where(square < 0.0625, x + x * square * series, tl.where(x < 0, -far, far))


@triton.jit
@no_type_check
def _block(batch, H: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr):
    """This program's RNN and rows, hidden units, and which of the block's places exist."""
    rnn = tl.program_id(0).to(tl.int64)
    row = (tl.program_id(1) * ROWS + tl.arange(0, ROWS))[:, None].to(tl.int64)
    unit = tl.arange(0, P)[None, :]
    return rnn, row, unit, (row < batch) & (unit < H)


@triton.jit
@no_type_check
def _weights(weight, gate, H: tl.constexpr, P: tl.constexpr, FORWARD: tl.constexpr):
    """A gate's recurrent weights: [from, to] for the forward pass, [to, from] for the backward pass."""
    first, second = tl.arange(0, P)[:, None], tl.arange(0, P)[None, :]
    places = second * H + first if FORWARD else first * H + second
    return tl.load(weight + gate * H * H + places, (first < H) & (second < H), 0.0)


@triton.jit
@no_type_check
def lstm_forward(
    projected, weight, bias, h_start, c_start, hidden, kept, cells, c_end,
    x_rnn, x_batch, x_time, w_rnn, batch, time,
    H: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, REVERSE: tl.constexpr, RELU: tl.constexpr,
    KEEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Runs an LSTM layer over time."""
    rnn, row, unit, inside = _block(batch, H, P, ROWS)
    w_i = _weights(weight + rnn * w_rnn, 0, H, P, True)
    w_f = _weights(weight + rnn * w_rnn, 1, H, P, True)
    w_g = _weights(weight + rnn * w_rnn, 2, H, P, True)
    w_o = _weights(weight + rnn * w_rnn, 3, H, P, True)
    start = (rnn * batch + row) * H + unit
    h = tl.load(h_start + start, inside, 0.0)
    c = tl.load(c_start + start, inside, 0.0)
    for step in range(time):
        t = time - 1 - step if REVERSE else step
        x = projected + rnn * x_rnn + row * x_batch + t * x_time + unit
        x_i, x_f = tl.load(x, inside, 0.0), tl.load(x + H, inside, 0.0)
        x_g, x_o = tl.load(x + 2 * H, inside, 0.0), tl.load(x + 3 * H, inside, 0.0)
        i = _sigmoid(tl.dot(h, w_i, x_i, input_precision=PRECISION))
        f = _sigmoid(tl.dot(h, w_f, x_f, input_precision=PRECISION))
        g = _tanh(tl.dot(h, w_g, x_g, input_precision=PRECISION))
        o = _sigmoid(tl.dot(h, w_o, x_o, input_precision=PRECISION))
        c = f * c + i * g
        h = o * _tanh(c)
        place = (rnn * batch + row) * time + t
        tl.store(hidden + place * H + unit, h, inside)
        if KEEP:
            gates = kept + place * 4 * H + unit
            tl.store(gates, i, inside)
            tl.store(gates + H, f, inside)
            tl.store(gates + 2 * H, g, inside)
            tl.store(gates + 3 * H, o, inside)
            tl.store(cells + place * H + unit, c, inside)
    tl.store(c_end + start, c, inside)


@triton.jit
@no_type_check
def lstm_backward(
    weight, h_start, c_start, hidden, kept, cells, d_hidden, d_c_end, d_projected, d_recurrent,
    d_h_start, d_c_start, w_rnn, batch, time,
    H: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, REVERSE: tl.constexpr, RELU: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Goes back over an LSTM layer's time steps."""
    rnn, row, unit, inside = _block(batch, H, P, ROWS)
    w_i = _weights(weight + rnn * w_rnn, 0, H, P, False)
    w_f = _weights(weight + rnn * w_rnn, 1, H, P, False)
    w_g = _weights(weight + rnn * w_rnn, 2, H, P, False)
    w_o = _weights(weight + rnn * w_rnn, 3, H, P, False)
    start = (rnn * batch + row) * H + unit
    last = (rnn * batch + row) * time + (0 if REVERSE else time - 1)
    c = tl.load(cells + last * H + unit, inside, 0.0)
    d_c = tl.load(d_c_end + start, inside, 0.0)
    d_h = tl.zeros([ROWS, P], tl.float32)
    for step in range(time):
        t = step if REVERSE else time - 1 - step
        place = (rnn * batch + row) * time + t
        gates = kept + place * 4 * H + unit
        i, f = tl.load(gates, inside, 0.0), tl.load(gates + H, inside, 0.0)
        g, o = tl.load(gates + 2 * H, inside, 0.0), tl.load(gates + 3 * H, inside, 0.0)
        earlier = cells + (place + (1 if REVERSE else -1)) * H + unit
        c_before = tl.load(tl.where(step + 1 < time, earlier, c_start + start), inside, 0.0)
        d_h += tl.load(d_hidden + place * H + unit, inside, 0.0)
        tanh_c = _tanh(c)
        d_c += d_h * o * (1 - tanh_c * tanh_c)
        d_i, d_f = d_c * g * i * (1 - i), d_c * c_before * f * (1 - f)
        d_g, d_o = d_c * i * (1 - g * g), d_h * tanh_c * o * (1 - o)
        d_gates = d_projected + place * 4 * H + unit
        tl.store(d_gates, d_i, inside)
        tl.store(d_gates + H, d_f, inside)
        tl.store(d_gates + 2 * H, d_g, inside)
        tl.store(d_gates + 3 * H, d_o, inside)
        d_h = tl.dot(d_i, w_i, input_precision=PRECISION)
        d_h = tl.dot(d_f, w_f, d_h, input_precision=PRECISION)
        d_h = tl.dot(d_g, w_g, d_h, input_precision=PRECISION)
        d_h = tl.dot(d_o, w_o, d_h, input_precision=PRECISION)
        d_c, c = d_c * f, c_before
    tl.store(d_h_start + start, d_h, inside)
    tl.store(d_c_start + start, d_c, inside)


@triton.jit
@no_type_check
def gru_forward(
    projected, weight, bias, h_start, c_start, hidden, kept, cells, c_end,
    x_rnn, x_batch, x_time, w_rnn, batch, time,
    H: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, REVERSE: tl.constexpr, RELU: tl.constexpr,
    KEEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Runs a GRU layer over time."""
    rnn, row, unit, inside = _block(batch, H, P, ROWS)
    w_r = _weights(weight + rnn * w_rnn, 0, H, P, True)
    w_z = _weights(weight + rnn * w_rnn, 1, H, P, True)
    w_n = _weights(weight + rnn * w_rnn, 2, H, P, True)
    b_n = tl.load(bias + rnn * H + unit, unit < H, 0.0)
    h = tl.load(h_start + (rnn * batch + row) * H + unit, inside, 0.0)
    for step in range(time):
        t = time - 1 - step if REVERSE else step
        x = projected + rnn * x_rnn + row * x_batch + t * x_time + unit
        x_r, x_z = tl.load(x, inside, 0.0), tl.load(x + H, inside, 0.0)
        x_n = tl.load(x + 2 * H, inside, 0.0)
        r = _sigmoid(tl.dot(h, w_r, x_r, input_precision=PRECISION))
        z = _sigmoid(tl.dot(h, w_z, x_z, input_precision=PRECISION))
        n_h = tl.dot(h, w_n, input_precision=PRECISION) + b_n
        n = _tanh(x_n + r * n_h)
        h = n + z * (h - n)
        place = (rnn * batch + row) * time + t
        tl.store(hidden + place * H + unit, h, inside)
        if KEEP:
            gates = kept + place * 4 * H + unit
            tl.store(gates, r, inside)
            tl.store(gates + H, z, inside)
            tl.store(gates + 2 * H, n, inside)
            tl.store(gates + 3 * H, n_h, inside)


@triton.jit
@no_type_check
def gru_backward(
    weight, h_start, c_start, hidden, kept, cells, d_hidden, d_c_end, d_projected, d_recurrent,
    d_h_start, d_c_start, w_rnn, batch, time,
    H: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, REVERSE: tl.constexpr, RELU: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Goes back over a GRU layer's time steps."""
    rnn, row, unit, inside = _block(batch, H, P, ROWS)
    w_r = _weights(weight + rnn * w_rnn, 0, H, P, False)
    w_z = _weights(weight + rnn * w_rnn, 1, H, P, False)
    w_n = _weights(weight + rnn * w_rnn, 2, H, P, False)
    start = (rnn * batch + row) * H + unit
    d_h = tl.zeros([ROWS, P], tl.float32)
    for step in range(time):
        t = step if REVERSE else time - 1 - step
        place = (rnn * batch + row) * time + t
        gates = kept + place * 4 * H + unit
        r, z = tl.load(gates, inside, 0.0), tl.load(gates + H, inside, 0.0)
        n, n_h = tl.load(gates + 2 * H, inside, 0.0), tl.load(gates + 3 * H, inside, 0.0)
        earlier = hidden + (place + (1 if REVERSE else -1)) * H + unit
        h_before = tl.load(tl.where(step + 1 < time, earlier, h_start + start), inside, 0.0)
        d_h += tl.load(d_hidden + place * H + unit, inside, 0.0)
        d_n = d_h * (1 - z) * (1 - n * n)
        d_r, d_z = d_n * n_h * r * (1 - r), d_h * (h_before - n) * z * (1 - z)
        d_n_h = d_n * r
        d_gates = d_projected + place * 3 * H + unit
        tl.store(d_gates, d_r, inside)
        tl.store(d_gates + H, d_z, inside)
        tl.store(d_gates + 2 * H, d_n, inside)
        tl.store(d_recurrent + place * H + unit, d_n_h, inside)
        d_h = tl.dot(d_r, w_r, d_h * z, input_precision=PRECISION)
        d_h = tl.dot(d_z, w_z, d_h, input_precision=PRECISION)
        d_h = tl.dot(d_n_h, w_n, d_h, input_precision=PRECISION)
    tl.store(d_h_start + start, d_h, inside)


@triton.jit
@no_type_check
def elman_forward(
    projected, weight, bias, h_start, c_start, hidden, kept, cells, c_end,
    x_rnn, x_batch, x_time, w_rnn, batch, time,
    H: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, REVERSE: tl.constexpr, RELU: tl.constexpr,
    KEEP: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Runs an Elman layer over time."""
    rnn, row, unit, inside = _block(batch, H, P, ROWS)
    w = _weights(weight + rnn * w_rnn, 0, H, P, True)
    h = tl.load(h_start + (rnn * batch + row) * H + unit, inside, 0.0)
    for step in range(time):
        t = time - 1 - step if REVERSE else step
        x = tl.load(projected + rnn * x_rnn + row * x_batch + t * x_time + unit, inside, 0.0)
        gate = tl.dot(h, w, x, input_precision=PRECISION)
        h = tl.where(gate < 0, 0.0, gate) if RELU else _tanh(gate)
        tl.store(hidden + ((rnn * batch + row) * time + t) * H + unit, h, inside)


@triton.jit
@no_type_check
def elman_backward(
    weight, h_start, c_start, hidden, kept, cells, d_hidden, d_c_end, d_projected, d_recurrent,
    d_h_start, d_c_start, w_rnn, batch, time,
    H: tl.constexpr, P: tl.constexpr, ROWS: tl.constexpr, REVERSE: tl.constexpr, RELU: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Goes back over an Elman layer's time steps."""
    rnn, row, unit, inside = _block(batch, H, P, ROWS)
    w = _weights(weight + rnn * w_rnn, 0, H, P, False)
    d_h = tl.zeros([ROWS, P], tl.float32)
    for step in range(time):
        t = step if REVERSE else time - 1 - step
        place = ((rnn * batch + row) * time + t) * H + unit
        h = tl.load(hidden + place, inside, 0.0)
        d_h += tl.load(d_hidden + place, inside, 0.0)
        d_gate = tl.where(h > 0, d_h, 0.0) if RELU else d_h * (1 - h * h)
        tl.store(d_projected + place, d_gate, inside)
        d_h = tl.dot(d_gate, w, input_precision=PRECISION)
    tl.store(d_h_start + (rnn * batch + row) * H + unit, d_h, inside)
