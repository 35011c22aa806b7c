"""One is not called many."""

from hotlora.engine.plurals import by_number, counted


def test_words_go_by_their_number():
    assert [counted(count, "picture") for count in (0, 1, 2, 1024)] == ["0 pictures", "1 picture", "2 pictures", "1,024 pictures"]
    assert [by_number(count, "it", "them") for count in (0, 1, 2)] == ["them", "it", "them"]
