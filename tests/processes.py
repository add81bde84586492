"""Child processes for tests that kill them: forked from a fresh process that has imported torch once."""

import multiprocessing
import os

import torch

torch.set_num_threads(1)  # the tensors are small: threads would only wait for each other
os.environ.setdefault("OMP_NUM_THREADS", "1")

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["resnet_nb.cli.commands"])


def start(target, *args):
    """A running child that calls `target(*args)`."""
    process = SERVER.Process(target=target, args=args)
    process.start()
    return process


def end(process, seconds=60):
    """Exit code of a child that ends by itself."""
    process.join(seconds)
    assert process.exitcode is not None, "the child hangs"
    return process.exitcode
