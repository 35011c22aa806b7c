"""Pictures that are read ahead come in their order, with the same numbers, and never more of them than a few."""

import threading

import numpy as np
import pytest
import torch
from hotlora.pictures.ahead import read_ahead
from hotlora.pictures.buckets import Fit
from hotlora.pictures.reading import cut_pixels
from PIL import Image


def test_the_next_are_read_before_they_are_asked_for():
    both_read = threading.Barrier(3)  # two readers, and whoever asks

    def read(number):
        if number < 2:
            both_read.wait(30)
        return number * number

    found = read_ahead(read, range(2))
    asking = threading.Thread(target=lambda: both_read.wait(30))
    asking.start()
    assert list(found) == [0, 1]  # one after the other they would never have met
    asking.join()


def test_they_come_in_their_order_a_few_at_a_time():
    begun, lock = [], threading.Lock()

    def read(number):
        with lock:
            begun.append(number)
        return -number

    found = read_ahead(read, range(100))
    assert not begun
    assert [next(found) for _ in range(10)] == [-number for number in range(10)]
    assert len(begun) <= 15
    found.close()
    assert len(begun) <= 15


def test_what_cannot_be_read_is_said_when_its_turn_comes():
    found = read_ahead(lambda number: 1 // (number - 2), range(5))
    assert [next(found), next(found)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_nothing_to_read_is_no_error():
    assert list(read_ahead(lambda number: number, [])) == []


def test_pixels_are_the_same_numbers_as_in_torch():
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    wanted = torch.from_numpy(every).permute(2, 0, 1).float() / 127.5 - 1
    found = cut_pixels(Image.fromarray(every), Fit((16, 16), (16, 16)), (0, 0))
    assert torch.equal(found, wanted) and found.is_contiguous() and found.dtype == torch.float32
