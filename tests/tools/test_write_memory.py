"""The arithmetic of docs/memory.md: tensors are counted while they are there, and the page is what its tool writes."""

from pathlib import Path

import pytest
import torch
import write_memory
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "memory.md").read_text(encoding="utf-8")


def rows():
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]


def test_tensors_are_counted_while_they_are_there():
    with FakeTensorMode():
        known = torch.ones(100)
        with write_memory.Live([known]) as live:
            first = known.view(10, 10)  # another look at what is counted elsewhere
            assert live.now == 0
            second = first * 2
            third = second + 1
            assert (live.now, live.peak) == (800, 800)
            del second
            assert (live.now, live.peak) == (400, 800)
            assert third.shape == (10, 10)


@pytest.mark.parametrize("layer", [lambda: nn.Linear(8, 12), lambda: nn.Conv2d(8, 12, 1), lambda: nn.Conv2d(8, 12, 3, padding=1)])
def test_a_layer_with_a_lora_keeps_what_such_a_layer_keeps(layer):
    """Of a frozen layer's input, what the LoRA needs of it, and what it makes itself."""
    with FakeTensorMode():
        base = layer().requires_grad_(False)
        net = write_memory.Adapted(base, 4)
        x = torch.ones(2, 8) if isinstance(base, nn.Linear) else torch.ones(2, 8, 5, 5)
        with write_memory.Live([*net.parameters(), x]) as live:
            answer = net(x)
            assert answer.shape[1] == 12 and live.now >= answer.nbytes + answer.nbytes // 3
            answer.sum().backward()
        assert [name for name, parameter in net.named_parameters() if parameter.grad is not None] == [
            "lora_A.it.weight",
            "lora_B.it.weight",
        ]


def test_the_page_lists_every_case_and_marks_what_fits():
    cases = [row for row in rows() if len(row) == 3 + len(write_memory.SIZES) and row[2] != "peak"]
    assert [row[:2] for row in cases] == [[case.model, case.tell()] for case in write_memory.CASES]
    for row in cases:
        peak = float(row[2].removesuffix(" GB"))
        sure = [
            (mark, size) for mark, size in zip(row[3:], write_memory.SIZES, strict=True) if abs(peak + write_memory.RESERVE - size) > 0.06
        ]
        assert all((mark == "✓") == (peak + write_memory.RESERVE <= size) for mark, size in sure), row


def test_what_was_measured_is_near():
    compared = [row for row in rows() if len(row) == 4 and row[3].endswith(" GB")]
    assert len(compared) == len(write_memory.MEASURED)
    for row, (case, measured) in zip(compared, write_memory.MEASURED, strict=True):
        said, found = (float(cell.removesuffix(" GB")) for cell in row[2:])
        assert found == measured and (0.96 < said / found < 1.04 or case.checkpointing)
