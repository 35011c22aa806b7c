"""What a step is said to take is its own, not what somebody else took before it."""

import torch
from hotlora.engine import memory, session
from hotlora.engine.run import Run
from hotlora.engine.session import Session
from toy import ToyTrainee, toy_config


def test_a_turn_counts_its_own_peak(monkeypatch, tmp_path):
    """With a stand-in for CUDA's allocator, which counts since the program began."""
    peak = {"bytes": 10_000}
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peak.update(bytes=10))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peak["bytes"])
    cuda = torch.device("cuda")
    assert memory.memory_in_use(cuda) == 10_000
    monkeypatch.setattr(session, "forget_peak", lambda device: memory.forget_peak(cuda))
    config = toy_config(tmp_path)
    trainee = ToyTrainee(config)
    list(trainee.prepare())
    with Session(trainee, config, Run.start(config)).attached():
        assert memory.memory_in_use(cuda) == 10
    peak["bytes"] = 10_000
    memory.forget_peak(torch.device("cpu"))
    assert memory.memory_in_use(cuda) == 10_000
