"""One of two gloo processes that average gradients; prints the bytes that its sockets had acknowledged a step.

Linux counts them for every connection (TCP_INFO: tcpi_bytes_acked, at offset 120 of the struct).
"""

import os
import socket
import struct

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from gossamer.models import Architecture, Attention, Embeddings, FeedForward, Layer, Model, Positions
from gossamer.patterns import Full
from gossamer.recipes.receipts.measure import gradient_bytes

_STEPS = 3


def acknowledged() -> int:
    total = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            connection = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with connection:
            try:
                info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
            except OSError:
                continue
            total += struct.unpack_from("Q", info, 120)[0]
    return total


def encoder() -> Model:
    layers = tuple(
        Layer(
            attention=Attention(pattern=Full(), heads=2, head_size=64, weights=i),
            feed_forward=FeedForward(width=512, weights=i),
        )
        for i in range(2)
    )
    embeddings = Embeddings(vocabulary_size=100, size=128, positions=Positions(length=16))
    return Model(Architecture(hidden_size=128, embeddings=embeddings, layers=layers))


def main() -> None:
    distributed.init_process_group("gloo")
    torch.manual_seed(0)
    model = encoder()
    shared = DistributedDataParallel(model)
    ids = torch.arange(1, 9)[None]
    shared(ids).last_hidden_state.square().sum().backward()  # the buckets are laid anew after the first
    distributed.barrier()
    before = acknowledged()
    for _ in range(_STEPS):
        shared(ids).last_hidden_state.square().sum().backward()
    distributed.barrier()
    print((acknowledged() - before) / _STEPS, gradient_bytes(model))
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
