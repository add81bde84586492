"""One thread for all tests and what they start: the tensors are small, threads would only wait for each other."""

import os

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
