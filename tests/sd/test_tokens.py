"""Long captions become the rows, and hidden states the sequences, that sd-scripts makes."""

import pytest
import torch
from hotlora.sd import tokens

BOS, EOS = 49406, 49407
END_PADDED = tokens.SpecialIds(BOS, EOS, EOS)  # SD 1.x and SDXL's first encoder
ZERO_PADDED = tokens.SpecialIds(BOS, EOS, 0)  # SD 2.x and SDXL's second


def rows_by_cutting_the_whole(ids, special, length):
    """sd-scripts' way: pad to the whole length, cut, then mend the rows' ends (strategy_base.py)."""
    whole = [special.bos] + list(ids)[:length] + [special.eos]
    whole += [special.pad] * (length + 2 - len(whole))
    if length == 75:
        return [whole]
    rows = []
    for start in range(1, length + 1, 75):
        row = [whole[0]] + whole[start : start + 75] + [whole[-1]]
        if special.pad != special.eos:
            if row[-2] not in (special.eos, special.pad):
                row[-1] = special.eos
            if row[1] == special.pad:
                row[1] = special.eos
        rows.append(row)
    return rows


@pytest.mark.parametrize("special", [END_PADDED, ZERO_PADDED])
@pytest.mark.parametrize("length", [75, 150, 225])
@pytest.mark.parametrize("count", [0, 1, 74, 75, 76, 149, 150, 151, 224, 225, 226, 400])
def test_rows_are_sd_scripts(count, length, special):
    ids = range(1000, 1000 + count)
    rows = tokens.chunk_ids(ids, special, length)
    assert rows == rows_by_cutting_the_whole(ids, special, length)
    assert [len(row) for row in rows] == [77] * (length // 75)


def test_an_exclamation_mark_is_not_taken_for_padding():
    row = tokens.chunk_ids([0] * 80, ZERO_PADDED, 150)[1]
    assert row[:7] == [BOS, 0, 0, 0, 0, 0, EOS] and set(row[7:]) == {0}


def test_rows_of_several_captions_stay_in_order():
    rows = tokens.token_rows(["aaa", "b" * 80], lambda text: [ord(c) for c in text], END_PADDED, 150)
    assert rows.shape == (4, 77) and rows.dtype == torch.int64
    assert rows[0, 1:5].tolist() == [97, 97, 97, EOS]
    assert rows[2, 1:76].tolist() == [98] * 75
    assert rows[3, 1:7].tolist() == [98] * 5 + [EOS]


@pytest.mark.parametrize(("chunks", "length"), [(1, 77), (2, 152), (3, 227)])
def test_joined_states_keep_first_begin_all_windows_and_last_end(chunks, length):
    hidden = torch.arange(2 * chunks * 77).float().reshape(2 * chunks, 77, 1).expand(-1, -1, 3)
    joined = tokens.join_chunks(hidden, 2)
    assert joined.shape == (2, length, 3)
    for caption in range(2):
        start = caption * chunks * 77
        wanted = [start] + [start + 77 * c + i for c in range(chunks) for i in range(1, 76)] + [start + 77 * chunks - 1]
        assert joined[caption, :, 0].tolist() == wanted


def test_pooled_vector_is_the_first_rows():
    pooled = torch.arange(6)[:, None].float()
    assert tokens.first_rows(pooled, 2).flatten().tolist() == [0, 3]
    assert tokens.first_rows(pooled, 6).flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_end_position_is_the_first_end_even_with_larger_ids():
    rows = torch.tensor([tokens.chunk_ids(range(5), END_PADDED, 75)[0], tokens.chunk_ids([49500, 7], ZERO_PADDED, 75)[0]])
    assert tokens.end_positions(rows, EOS).tolist() == [6, 3]
