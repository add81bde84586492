"""The checks of input: what passes, and the one line that names what is allowed and what was given."""

import math

import pytest

from resnet_nb.errors import InputError, is_shape, require_choice, require_depth, require_int, require_number


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan, 10**400, -(10**400), True, None, "1", [1]])
def test_a_number_is_finite(value):
    with pytest.raises(InputError) as caught:
        require_number("rate", value, -1e300)
    assert "rate must be a finite number" in str(caught.value) and len(str(caught.value)) < 120


def test_the_ends_of_a_range():
    for value in (0, 0.0, 1, 0.5):
        require_number("share", value, 0, 1)
    for value, settings in ((0, {"open_end": True}), (-0.1, {}), (1.1, {})):
        with pytest.raises(InputError, match="share must be a finite number .* at most 1, got"):
            require_number("share", value, 0, 1, **settings)
    require_int("count", 3, 3, 4)
    for value in (2, 5, 3.0, True):
        with pytest.raises(InputError, match="count must be an integer of at least 3 up to 4, got"):
            require_int("count", value, 3, 4)


def test_a_choice_is_one_of_the_allowed_in_value_and_type():
    for value in (None, "a", 1):
        require_choice("option", value, (None, "a", 1))
    for value in (True, 1.0, "b", ["a"], {"a": 1}, b"a"):
        with pytest.raises(InputError, match="option must be one of None, a, 1, got"):
            require_choice("option", value, (None, "a", 1))


def test_a_depth_gives_its_n():
    assert [require_depth(depth, 6) for depth in (8, 20, 110)] == [1, 3, 18] and require_depth(164, 9) == 18
    for depth in (2, -4, 9, 20.0, "20", True, None):
        with pytest.raises(InputError, match=r"6n\+2 with n >= 1 \(8, 14, 20, ...\), or else, got"):
            require_depth(depth, 6, ", or else")


def test_shapes_are_tuples_or_lists_of_positive_integers():
    assert is_shape((1, 2)) and is_shape([3])
    assert not any(map(is_shape, [(1, 0), (1, 2.0), (True,), {1, 2}, "12", None, 3]))
