"""What all tests and what they start begin with: one thread, and signals that a shell ignores in the background as ever."""

import os
import signal

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    os.environ["OMP_NUM_THREADS"] = "1"  # the tensors are small, threads would only wait for each other
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def signals_as_in_the_foreground():
    for name, handler in {"SIGINT": signal.default_int_handler, "SIGQUIT": signal.SIG_DFL, "SIGHUP": signal.SIG_DFL}.items():
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
